//! Where a request points: the provider of its route, and the raw target below the route.
//!
//! Invariant: the target is taken from the request line as it was received; no router's decoding lies between.
//! Distrusts: the request target and the authority.

use std::borrow::Cow;

use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::ProviderName;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::target::Target;
use zeroize::Zeroizing;

/// A request's place.
pub struct Place<'r> {
    /// The provider's name as the route says it, unchecked.
    pub provider: &'r str,
    /// What refusals speak until the provider's own dialect is known.
    pub dialect: Dialect,
    /// The path below the route, raw.
    path: &'r str,
    query: Option<Cow<'r, str>>,
    /// The caller's token, when it came as `?key=`.
    pub key: Option<Zeroizing<String>>,
}

/// How a route begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// `/openai`, `/anthropic`, `/google`, `/xai`.
    BuiltIn(Dialect),
    /// `/p/{provider}`.
    Named,
}

impl Prefix {
    /// What refusals speak until the provider is known.
    pub fn dialect(self) -> Dialect {
        match self {
            Self::BuiltIn(dialect) => dialect,
            Self::Named => Dialect::OpenAi,
        }
    }
}

impl<'r> Place<'r> {
    /// Strips the route's prefix, and the token from the query.
    ///
    /// # Errors
    /// [`Refusal::TargetInvalid`] when `key` stands in the query with two values.
    pub fn read(prefix: Prefix, target: &'r str) -> Result<Self, Refusal> {
        let (full, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let full = full.strip_prefix('/').unwrap_or_default();
        let (provider, dialect, path) = match prefix {
            Prefix::BuiltIn(dialect) => {
                let (_, path) = split(full);
                (dialect.name(), dialect, path)
            }
            Prefix::Named => {
                let (_, rest) = split(full);
                let (provider, path) = split(rest.strip_prefix('/').unwrap_or_default());
                (provider, by_name(provider), path)
            }
        };
        let (query, key) = match query {
            None => (None, None),
            Some(query) => take_key(query)?,
        };
        Ok(Self { provider, dialect, path, query, key })
    }

    /// The provider's name.
    ///
    /// # Errors
    /// [`Refusal::ProviderUnknown`] when it is none.
    pub fn provider_name(&self) -> Result<ProviderName, Refusal> {
        ProviderName::parse(self.provider).map_err(|_| Refusal::ProviderUnknown)
    }

    /// The canonical target.
    ///
    /// # Errors
    /// [`Refusal::TargetInvalid`].
    pub fn target(&self) -> Result<Target, Refusal> {
        let target = match &self.query {
            None => Target::parse(self.path),
            Some(query) => Target::parse(&format!("{}?{query}", self.path)),
        };
        target.map_err(|_| Refusal::TargetInvalid)
    }
}

/// Whether the request names one authority, in whatever form it came: of its target, in `host`, or both alike.
///
/// # Errors
/// [`Refusal::HeadInvalid`] for none, or an absolute target that contradicts `host`.
pub fn check_authority(target: Option<&str>, host: Option<&[u8]>) -> Result<(), Refusal> {
    let agree = match (target, host) {
        (Some(authority), _) if authority.contains('@') => false,
        // HTTP/2 has `:authority` alone, or both.
        (Some(authority), Some(host)) => authority.as_bytes() == host,
        (Some(_), None) => true,
        (None, Some(host)) => !host.is_empty(),
        (None, None) => false,
    };
    if agree { Ok(()) } else { Err(Refusal::HeadInvalid) }
}

/// The first segment, and the rest with its slash.
fn split(path: &str) -> (&str, &str) {
    path.split_at(path.find('/').unwrap_or(path.len()))
}

/// A guess for words before the snapshot is asked.
fn by_name(provider: &str) -> Dialect {
    Dialect::by_name(provider).unwrap_or(Dialect::OpenAi)
}

type Query<'r> = Option<Cow<'r, str>>;

/// Google's old clients send the key as `?key=`; it must not travel, whatever the route.
fn take_key(query: &str) -> Result<(Query<'_>, Option<Zeroizing<String>>), Refusal> {
    let named = |pair: &&str| pair.split('=').next() == Some("key");
    if !query.split('&').any(|pair| named(&pair)) {
        return Ok((Some(Cow::Borrowed(query)), None));
    }
    let mut key: Option<&str> = None;
    for pair in query.split('&').filter(named) {
        let value = pair.split_once('=').map_or("", |(_, value)| value);
        if key.is_some_and(|first| first != value) {
            return Err(Refusal::TokenForeign);
        }
        key = Some(value);
    }
    let rest: Vec<&str> = query.split('&').filter(|pair| !named(pair)).collect();
    let rest = (!rest.is_empty()).then(|| Cow::Owned(rest.join("&")));
    Ok((rest, key.map(|key| Zeroizing::new(key.to_owned()))))
}

#[cfg(test)]
mod tests {
    use strongroom_policy::dialect::Dialect;
    use strongroom_policy::refusal::Refusal;

    use super::{Place, Prefix, check_authority};

    fn target(prefix: Prefix, target: &str) -> Result<String, Refusal> {
        Place::read(prefix, target)?.target().map(|target| target.as_str().to_owned())
    }

    #[test]
    fn the_target_is_the_raw_text_below_the_route() {
        let openai = Prefix::BuiltIn(Dialect::OpenAi);
        assert_eq!(target(openai, "/openai/v1/models?limit=2").unwrap(), "/v1/models?limit=2");
        assert_eq!(target(Prefix::Named, "/p/demo-openai/v1/models").unwrap(), "/v1/models");
        let google = Prefix::BuiltIn(Dialect::Gemini);
        assert_eq!(
            target(google, "/google/v1beta/models/gemini-2:generateContent?alt=sse").unwrap(),
            "/v1beta/models/gemini-2:generateContent?alt=sse"
        );
        for bad in [
            "/openai",
            "/openai/",
            "/openai//v1",
            "/openai/v1/%2e%2e/x",
            "/openai/v1/a%2fb",
            "/openai/v1/../x",
            "/openai/v1/x#y",
        ] {
            let read = target(openai, bad);
            assert!(read.is_err() || read == Ok("/".to_owned()), "{bad} gave {read:?}");
        }
        assert!(target(Prefix::Named, "/p/%6fpenai/v1/models").is_ok());
    }

    #[test]
    fn a_provider_is_not_decoded() {
        let place = Place::read(Prefix::Named, "/p/%6fpenai/v1/models").unwrap();
        assert_eq!(place.provider_name(), Err(Refusal::ProviderUnknown));
    }

    #[test]
    fn a_key_in_the_query_is_taken_out() {
        let google = Prefix::BuiltIn(Dialect::Gemini);
        for (uri, rest) in [
            ("/google/v1beta/models?key=sr_1", "/v1beta/models"),
            (
                "/google/v1beta/models?pageSize=1&key=sr_1&alt=sse",
                "/v1beta/models?pageSize=1&alt=sse",
            ),
            ("/google/v1beta/models?key=sr_1&key=sr_1", "/v1beta/models"),
        ] {
            let place = Place::read(google, uri).unwrap();
            assert_eq!(place.key.as_ref().map(|key| key.as_str()), Some("sr_1"));
            assert_eq!(target(google, uri).unwrap(), rest);
        }
        let two = "/google/v1beta/models?key=a&key=b";
        assert_eq!(Place::read(google, two).map(|_| ()), Err(Refusal::TokenForeign));
    }

    #[test]
    fn an_absolute_target_must_agree_with_the_host() {
        let check = |authority, host: Option<&str>| {
            check_authority(authority, host.map(str::as_bytes)).is_ok()
        };
        assert!(check(None, Some("gate:8443")));
        assert!(check(Some("gate:8443"), Some("gate:8443")));
        assert!(check(Some("gate:8443"), None));
        assert!(!check(Some("evil"), Some("gate:8443")));
        assert!(!check(Some("u@gate"), Some("u@gate")));
        assert!(!check(None, None));
        assert!(!check(None, Some("")));
    }
}
