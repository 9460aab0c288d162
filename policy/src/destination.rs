//! Where a credential may be sent, and how it is put into the request.
//!
//! Invariant: a destination belongs to a credential; no field of a call, header, redirect or DNS answer changes it.
//! Invariant: HTTPS only.

use serde::{Deserialize, Serialize, Serializer};

use crate::name::HostName;

/// Where a credential may be sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Destination {
    /// The host that is resolved and dialled.
    pub host: HostName,
    /// The TCP port.
    pub port: u16,
    /// The name that the certificate must carry.
    pub tls_name: HostName,
    /// Certificate authorities trusted beside the public ones, DER. Empty for the built-in providers.
    #[serde(serialize_with = "in_one_piece")]
    pub extra_authorities: Vec<Vec<u8>>,
    /// Whether private, loopback and link-local addresses may be dialled.
    pub reach: Reach,
    /// Put before the path: empty, or a canonical path without a final slash.
    pub base_path: String,
    /// How the credential is put into the request.
    pub injection: Injection,
    /// Headers that always go with the credential (organisation, project).
    pub fixed_headers: Vec<(String, String)>,
}

/// Which addresses may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reach {
    /// Public unicast addresses only.
    Public,
    /// Also private and loopback addresses: an operator bound this host to a machine of their own.
    Private,
}

/// How a credential is put into a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Injection {
    /// `authorization: Bearer KEY`.
    Bearer,
    /// `NAME: KEY`, the name in lower case.
    Header(String),
}

/// Most certificate authorities one destination carries.
pub const MAX_EXTRA_AUTHORITIES: usize = 4;
/// Largest certificate, bytes DER.
pub const MAX_AUTHORITY_BYTES: usize = 8 * 1024;
/// Most fixed headers.
pub const MAX_FIXED_HEADERS: usize = 8;

/// What is wrong with a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDestination {
    /// Port 0 cannot be dialled.
    #[error("the port must be 1 to 65535")]
    Port,
    /// More or larger certificates than a record holds.
    #[error("at most {MAX_EXTRA_AUTHORITIES} extra authorities of {MAX_AUTHORITY_BYTES} bytes")]
    Authorities,
    /// The base path is not canonical.
    #[error("the base path must be empty or a plain path without a final slash")]
    BasePath,
    /// A header name or value that is not one line of visible ASCII.
    #[error("header names are lower-case tokens, values one line of visible ASCII")]
    Header,
}

/// The same bytes as an element at a time, which is how serde takes a `Vec<u8>`: an errand holds a kilobyte of them.
fn in_one_piece<S: Serializer>(authorities: &[Vec<u8>], out: S) -> Result<S::Ok, S::Error> {
    out.collect_seq(authorities.iter().map(|der| Der(der)))
}

struct Der<'a>(&'a [u8]);

impl Serialize for Der<'_> {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(self.0)
    }
}

impl Destination {
    /// Checks what the field types do not say.
    ///
    /// # Errors
    /// The first field that is not fit to be bound to a credential.
    pub fn check(&self) -> Result<(), BadDestination> {
        if self.port == 0 {
            return Err(BadDestination::Port);
        }
        let authorities_fit = self.extra_authorities.len() <= MAX_EXTRA_AUTHORITIES
            && self.extra_authorities.iter().all(|der| der.len() <= MAX_AUTHORITY_BYTES);
        if !authorities_fit {
            return Err(BadDestination::Authorities);
        }
        let base_is_plain = self.base_path.is_empty()
            || (!self.base_path.ends_with('/')
                && crate::target::Target::parse(&self.base_path)
                    .is_ok_and(|target| target.path() == self.base_path));
        if !base_is_plain {
            return Err(BadDestination::BasePath);
        }
        let injected = match &self.injection {
            Injection::Bearer => true,
            Injection::Header(name) => is_header_name(name),
        };
        let fixed = self.fixed_headers.len() <= MAX_FIXED_HEADERS
            && self
                .fixed_headers
                .iter()
                .all(|(name, value)| is_fixed_name(name) && is_header_value(value));
        if injected && fixed { Ok(()) } else { Err(BadDestination::Header) }
    }
}

fn is_header_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !FRAMING_HEADERS.contains(&name)
}

fn is_fixed_name(name: &str) -> bool {
    is_header_name(name) && name != "authorization"
}

fn is_header_value(value: &str) -> bool {
    (1..=256).contains(&value.len()) && value.bytes().all(|b| (0x20..=0x7e).contains(&b))
}

/// Headers that decide how a message is framed or routed: never set by a definition.
const FRAMING_HEADERS: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "trailer",
    "upgrade",
    "keep-alive",
    "expect",
    "accept-encoding",
];

#[cfg(test)]
mod tests {
    use super::{BadDestination, Destination, Injection, MAX_AUTHORITY_BYTES, Reach};
    use crate::name::HostName;

    fn plain() -> Destination {
        let host = HostName::parse("api.example.com").unwrap();
        Destination {
            tls_name: host.clone(),
            host,
            port: 443,
            extra_authorities: Vec::new(),
            reach: Reach::Public,
            base_path: String::new(),
            injection: Injection::Bearer,
            fixed_headers: Vec::new(),
        }
    }

    fn with_headers(headers: &[(&str, &str)]) -> Destination {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        Destination { fixed_headers: headers.collect(), ..plain() }
    }

    fn injected(name: &str) -> Destination {
        Destination { injection: Injection::Header(name.to_owned()), ..plain() }
    }

    #[test]
    fn a_port_of_zero_is_none() {
        assert_eq!(plain().check(), Ok(()));
        assert_eq!(Destination { port: 0, ..plain() }.check(), Err(BadDestination::Port));
    }

    #[test]
    fn extra_authorities_are_few_and_small() {
        let with = |authorities| Destination { extra_authorities: authorities, ..plain() }.check();
        assert_eq!(with(vec![vec![0; MAX_AUTHORITY_BYTES]; 4]), Ok(()));
        assert_eq!(with(vec![vec![0]; 5]), Err(BadDestination::Authorities));
        let long = vec![vec![0], vec![0; MAX_AUTHORITY_BYTES + 1]];
        assert_eq!(with(long), Err(BadDestination::Authorities));
    }

    /// What is put before every path must not change what was judged.
    #[test]
    fn a_base_path_is_canonical_and_goes_before_a_path() {
        let with = |base: &str| Destination { base_path: base.to_owned(), ..plain() }.check();
        for good in ["", "/proxy", "/a/b-c"] {
            assert_eq!(with(good), Ok(()), "{good}");
        }
        for bad in [
            "/",
            "/a/",
            "a",
            "/a/../b",
            "/a//b",
            "/a%2Db",
            "/a?",
            "/a?b",
            "/?b=/",
            "//evil.example",
        ] {
            assert_eq!(with(bad), Err(BadDestination::BasePath), "{bad}");
        }
    }

    /// A header that frames the request, or ends its line, would let a definition speak a second one.
    #[test]
    fn a_key_goes_into_a_plain_header_and_into_none_that_frames() {
        for good in ["x-api-key", "authorization", "x2", &"h".repeat(64)] {
            assert_eq!(injected(good).check(), Ok(()), "{good}");
        }
        let long = "h".repeat(65);
        for bad in ["", "X-Api-Key", "x_key", "x key", "x:", "x\r\n", "host", "te", &long] {
            assert_eq!(injected(bad).check(), Err(BadDestination::Header), "{bad:?}");
        }
    }

    #[test]
    fn fixed_headers_are_few_lines_of_visible_text_and_none_of_them_carries_a_key() {
        let most = [("x-version", "1"); 8];
        let (longest, space) = ("v".repeat(256), with_headers(&[("x-version", "a b~")]));
        assert_eq!(with_headers(&most).check(), Ok(()));
        assert_eq!(with_headers(&[("x-version", &longest)]).check(), Ok(()));
        assert_eq!(space.check(), Ok(()));
        let (many, long) = ([("x-version", "1"); 9], "v".repeat(257));
        assert_eq!(with_headers(&many).check(), Err(BadDestination::Header));
        for (name, value) in [
            ("authorization", "Bearer x"),
            ("content-length", "1"),
            ("X-Version", "1"),
            ("x-version", ""),
            ("x-version", long.as_str()),
            ("x-version", "a\r\nhost: evil.example"),
            ("x-version", "a\u{7f}"),
            ("x-version", "ä"),
        ] {
            let headers = with_headers(&[("x-version", "1"), (name, value)]);
            assert_eq!(headers.check(), Err(BadDestination::Header), "{name}: {value:?}");
        }
    }
}
