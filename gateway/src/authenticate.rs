//! Finds the caller's token in a request, without judging it.
//!
//! Invariant: one distinct value in any of the accepted places, however often repeated; two values are refused,
//! so that a provider's real key never rides along unnoticed.
//! Invariant: what is not of our form is neither kept nor logged.
//! Distrusts: every header and the query.

use strongroom_policy::refusal::Refusal;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::token::check_token;

use crate::request::Lines;

/// The headers in which the providers' SDKs send a key, besides `authorization`.
pub const KEY_HEADERS: [&str; 3] = ["x-api-key", "x-goog-api-key", "api-key"];

/// The token of a request.
///
/// # Errors
/// [`Refusal::TokenMissing`] without any; [`Refusal::TokenForeign`] for two values, or one that is not of our form.
pub fn token(lines: &Lines<'_>, query_key: Option<&str>) -> Result<SecretBytes, Refusal> {
    let mut found: Option<&[u8]> = None;
    let bearers = lines.all("authorization").map(bearer);
    let keys = lines.iter().filter(|(name, _)| KEY_HEADERS.contains(name)).map(|(_, value)| value);
    for value in bearers.chain(keys).chain(query_key.map(str::as_bytes)) {
        match found {
            _ if value.is_empty() => {}
            None => found = Some(value),
            Some(first) if first == value => {}
            Some(_) => return Err(Refusal::TokenForeign),
        }
    }
    let token = found.ok_or(Refusal::TokenMissing)?;
    check_token(token).map_err(|_| Refusal::TokenForeign)?;
    Ok(SecretBytes::copy_from(token))
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

    use super::token;
    use crate::request::Lines;

    fn ours(seed: u8) -> String {
        write_token(&[seed; 32]).expose(|text| String::from_utf8(text.to_vec()).unwrap())
    }

    fn headers<'r>(list: &[(&'r str, &'r str)]) -> Lines<'r> {
        list.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
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
            let found = token(&headers(&list), None).unwrap();
            assert!(found.expose(|bytes| bytes == ours.as_bytes()), "{:?}", list[0].0);
        }
        assert!(token(&Lines::default(), Some(&ours)).is_ok());
    }

    #[test]
    fn one_value_may_be_repeated_and_two_may_not() {
        let (ours, other) = (ours(1), ours(2));
        let bearer = format!("Bearer {ours}");
        let same = headers(&[("authorization", &bearer), ("x-api-key", &ours), ("api-key", &ours)]);
        assert!(token(&same, Some(&ours)).is_ok());
        let two = headers(&[("authorization", &bearer), ("x-api-key", &other)]);
        assert_eq!(token(&two, None).unwrap_err(), Refusal::TokenForeign);
        let twice = headers(&[("x-api-key", &ours), ("x-api-key", "sk-ant-real")]);
        assert_eq!(token(&twice, None).unwrap_err(), Refusal::TokenForeign);
        assert_eq!(token(&same, Some(&other)).unwrap_err(), Refusal::TokenForeign);
    }

    #[test]
    fn a_foreign_key_is_named_as_such_and_an_absent_one_as_missing() {
        assert_eq!(token(&Lines::default(), None).unwrap_err(), Refusal::TokenMissing);
        assert_eq!(token(&headers(&[("x-api-key", "")]), None).unwrap_err(), Refusal::TokenMissing);
        assert_eq!(
            token(&headers(&[("authorization", "Bearer")]), None).unwrap_err(),
            Refusal::TokenMissing
        );
        for foreign in ["Bearer sk-proj-1", "Basic dXNlcjpwYXNz", "sr_short"] {
            let list = headers(&[("authorization", foreign)]);
            assert_eq!(token(&list, None).unwrap_err(), Refusal::TokenForeign, "{foreign}");
        }
        let bare = ours(1);
        assert!(token(&headers(&[("authorization", &bare)]), None).is_ok());
    }
}
