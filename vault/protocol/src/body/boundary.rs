//! Reads the `content-type` of a request: strict JSON, or a form with its boundary.
//!
//! Invariant: a content type that two parsers may read differently is refused.
//! Distrusts: every byte of the header's value.

use super::BodyError;

/// The boundary of a form: 1 to 70 of letters, digits and `'()+_,-./:=?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boundary(String);

impl Boundary {
    /// The boundary without the dashes in front.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks that a content type is `application/json`, at most with `charset=utf-8`.
///
/// # Errors
/// When it is anything else: other charsets have other bytes for the same text.
pub fn check_json_type(content_type: &str) -> Result<(), BodyError> {
    const RULE: BodyError =
        BodyError::MediaType("application/json, with no parameter but charset=utf-8");
    let (essence, parameter) = split(content_type);
    let charset = parameter.is_none_or(|(name, value)| {
        name.eq_ignore_ascii_case("charset")
            && (value.eq_ignore_ascii_case("utf-8") || value.eq_ignore_ascii_case("\"utf-8\""))
    });
    if essence.eq_ignore_ascii_case("application/json") && charset { Ok(()) } else { Err(RULE) }
}

/// The boundary of a `multipart/form-data` content type.
///
/// # Errors
/// When it is another type, or has anything but one plain boundary.
pub fn boundary_of(content_type: &str) -> Result<Boundary, BodyError> {
    const RULE: BodyError = BodyError::MediaType("multipart/form-data with one plain boundary");
    let (essence, parameter) = split(content_type);
    let (name, value) = parameter.ok_or(RULE)?;
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let boundary = quoted.unwrap_or(value);
    // RFC 2046, 5.1.1, without the space; unquoted only what needs no quotes (RFC 9110, 5.6.2).
    let special = if quoted.is_some() { "'()+_,-./:=?" } else { "'+_-." };
    let good = essence.eq_ignore_ascii_case("multipart/form-data")
        && name.eq_ignore_ascii_case("boundary")
        && (1..=70).contains(&boundary.len())
        && boundary.chars().all(|c| c.is_ascii_alphanumeric() || special.contains(c));
    good.then(|| Boundary(boundary.to_owned())).ok_or(RULE)
}

/// The type and its parameter; a second parameter stays within the first's value, where no rule accepts its `;`.
fn split(content_type: &str) -> (&str, Option<(&str, &str)>) {
    let (essence, parameter) = match content_type.split_once(';') {
        Some((essence, parameter)) => (essence, Some(parameter)),
        None => (content_type, None),
    };
    let trim = |text| str::trim_matches(text, [' ', '\t']);
    let pair = |text| trim(text).split_once('=').unwrap_or((trim(text), ""));
    (trim(essence), parameter.map(pair))
}

#[cfg(test)]
mod tests {
    use super::{boundary_of, check_json_type};

    #[test]
    fn json_is_utf_8_and_nothing_else() {
        for good in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json;charset=\"utf-8\"",
        ] {
            assert!(check_json_type(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "text/plain",
            "application/json; charset=utf-16",
            "application/json; charset=utf-8; x=y",
            "application/json;",
            "application/json, text/plain",
            "application/json+x",
            "text/json",
            "application/json; boundary=x",
            "application/json; charset=utf-8; charset=utf-16",
        ] {
            assert!(check_json_type(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_boundary_has_one_reading() {
        let boundary = |text| boundary_of(text).map(|found| found.as_str().to_owned()).ok();
        let plain = Some("----WebKitFormBoundaryX1".to_owned());
        assert_eq!(boundary("multipart/form-data; boundary=----WebKitFormBoundaryX1"), plain);
        assert_eq!(boundary("Multipart/Form-Data;BOUNDARY=\"----WebKitFormBoundaryX1\""), plain);
        let long = format!("multipart/form-data; boundary={}", "x".repeat(71));
        for bad in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=\"\"",
            "multipart/form-data; boundary=a; boundary=b",
            "multipart/mixed; boundary=a",
            &long,
            "multipart/form-data; boundary=\"a",
            "multipart/form-data; boundary=a b",
            "multipart/form-data; boundary=\"a\\b\"",
            "multipart/form-data; boundary=a:b",
            "multipart/form-data; charset=utf-8; boundary=a",
            "multipart/form-data; boundary=a,b",
            "multipart/form-data; boundary=\"a \"",
            "multipart/form-data; boundary*=utf-8''a",
        ] {
            assert_eq!(boundary(bad), None, "{bad}");
        }
    }
}
