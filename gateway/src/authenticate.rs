//! Finds the caller's token in a request, without judging it.
//!
//! Invariant: one distinct value in any of the accepted places, however often repeated; two values are refused,
//! so that a provider's real key never rides along unnoticed.
//! Invariant: what is not of our form is neither kept nor logged.
//! Distrusts: every header and the query.

use std::fmt;

use strongroom_policy::refusal::Refusal;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::token::check_token;

/// The values that a request offers as its token, in the places where the providers' SDKs put a key.
#[derive(Default)]
pub struct Offers<'r> {
    first: Option<&'r [u8]>,
    /// Whether there were two different ones.
    two: bool,
}

impl fmt::Debug for Offers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<offers>")
    }
}

impl<'r> Offers<'r> {
    /// Takes a header line, if it is one of those places.
    pub fn take(&mut self, name: &str, value: &'r [u8]) -> bool {
        match name {
            "authorization" => self.offer(bearer(value)),
            "x-api-key" | "x-goog-api-key" | "api-key" => self.offer(value),
            _ => return false,
        }
        true
    }

    fn offer(&mut self, value: &'r [u8]) {
        match self.first {
            _ if value.is_empty() => {}
            None => self.first = Some(value),
            Some(first) => self.two |= first != value,
        }
    }

    /// The token of the request; `query_key` is what came as `?key=`.
    ///
    /// # Errors
    /// [`Refusal::TokenMissing`] without any; [`Refusal::TokenForeign`] for two values, or one that is no token of ours;
    /// [`Refusal::TokenInvalid`] for one that is mistyped.
    pub fn token(&self, query_key: Option<&str>) -> Result<SecretBytes, Refusal> {
        let mut all = Offers { first: self.first, two: self.two };
        all.offer(query_key.unwrap_or_default().as_bytes());
        if all.two {
            return Err(Refusal::TokenForeign);
        }
        let token = all.first.ok_or(Refusal::TokenMissing)?;
        match check_token(token) {
            Ok(()) => Ok(SecretBytes::copy_from(token)),
            // Ours, but cut short or mistyped: the way out is another one.
            Err(_) if token.starts_with(b"sr_") => Err(Refusal::TokenInvalid),
            Err(_) => Err(Refusal::TokenForeign),
        }
    }
}

/// What follows `Bearer ` (RFC 6750; the scheme's case does not matter). Another scheme is a foreign value whole.
fn bearer(value: &[u8]) -> &[u8] {
    match value.split_at_checked(BEARER.len()) {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case(BEARER) => rest.trim_ascii(),
        Some(_) | None if value.eq_ignore_ascii_case(BEARER.trim_ascii()) => &[],
        Some(_) | None => value,
    }
}

const BEARER: &[u8] = b"Bearer ";

#[cfg(test)]
mod tests {
    use strongroom_policy::refusal::Refusal;
    use strongroom_protocol::token::write_token;

    use super::Offers;

    fn ours(seed: u8) -> String {
        write_token(&[seed; 32]).expose(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    fn headers<'r>(list: &[(&'r str, &'r str)]) -> Offers<'r> {
        let mut offers = Offers::default();
        for (name, value) in list {
            assert!(offers.take(name, value.as_bytes()));
        }
        offers
    }

    #[test]
    fn every_place_of_the_sdks_is_read() {
        let ours = ours(1);
        let bearer = format!("bearer {ours}");
        for list in [
            [("authorization", bearer.as_str())],
            [("x-api-key", ours.as_str())],
            [("x-goog-api-key", ours.as_str())],
            [("api-key", ours.as_str())],
        ] {
            let found = headers(&list).token(None).unwrap();
            assert!(found.expose(|bytes| bytes == ours.as_bytes()), "{:?}", list[0].0);
        }
        assert!(Offers::default().token(Some(&ours)).is_ok());
    }

    #[test]
    fn one_value_may_be_repeated_and_two_may_not() {
        let (ours, other) = (ours(1), ours(2));
        let bearer = format!("Bearer {ours}");
        let same = headers(&[("authorization", &bearer), ("x-api-key", &ours), ("api-key", &ours)]);
        assert!(same.token(Some(&ours)).is_ok());
        let two = headers(&[("authorization", &bearer), ("x-api-key", &other)]);
        assert_eq!(two.token(None).unwrap_err(), Refusal::TokenForeign);
        let twice = headers(&[("x-api-key", &ours), ("x-api-key", "sk-ant-real")]);
        assert_eq!(twice.token(None).unwrap_err(), Refusal::TokenForeign);
        assert_eq!(same.token(Some(&other)).unwrap_err(), Refusal::TokenForeign);
    }

    #[test]
    fn a_foreign_key_is_named_as_such_and_an_absent_one_as_missing() {
        assert_eq!(Offers::default().token(None).unwrap_err(), Refusal::TokenMissing);
        assert_eq!(headers(&[("x-api-key", "")]).token(None).unwrap_err(), Refusal::TokenMissing);
        assert_eq!(
            headers(&[("authorization", "Bearer")]).token(None).unwrap_err(),
            Refusal::TokenMissing
        );
        let mistyped = headers(&[("x-api-key", "sr_short")]).token(None);
        assert_eq!(mistyped.unwrap_err(), Refusal::TokenInvalid);
        for foreign in ["Bearer sk-proj-1", "Basic dXNlcjpwYXNz"] {
            let list = headers(&[("authorization", foreign)]);
            assert_eq!(list.token(None).unwrap_err(), Refusal::TokenForeign, "{foreign}");
        }
        let bare = ours(1);
        assert!(headers(&[("authorization", &bare)]).token(None).is_ok());
    }
}
