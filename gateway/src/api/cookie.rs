//! The one cookie: the text of a session.
//!
//! Invariant: the browser sends it to this host alone, over TLS alone, and shows it to no script; another site's page makes it come
//! along with a plain navigation at most.

use std::time::SystemTime;

use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use strongroom_policy::moment::Moment;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::person::{Issued, MAX_SESSION_BYTES};
use zeroize::Zeroizing;

/// Its name: with this prefix a browser takes it only as it is set here (RFC 6265bis, 4.1.3.2).
const NAME: &str = "__Host-sid";
/// Everything behind its value.
const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";

/// The session that a request presents; of two different ones none.
pub(super) fn session(headers: &HeaderMap) -> Option<SecretBytes> {
    let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).map(str::trim);
    let mut values = pairs.filter_map(|pair| pair.strip_prefix(NAME)?.strip_prefix('='));
    let first = values.next()?;
    let good = !first.is_empty() && first.len() <= MAX_SESSION_BYTES;
    (good && values.all(|other| other == first)).then(|| SecretBytes::copy_from(first.as_bytes()))
}

/// Whether a request brings any cookie.
pub(super) fn any(headers: &HeaderMap) -> bool {
    headers.contains_key(COOKIE)
}

/// The header that sets it.
pub(super) fn set(issued: &Issued, now: SystemTime) -> Option<HeaderValue> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    let now = Moment::from_unix_millis(u64::try_from(now.as_millis()).ok()?);
    let seconds = issued.ends.since(now).as_secs();
    let line = issued.text.expose(|text| {
        let text = std::str::from_utf8(text).ok()?;
        Some(Zeroizing::new(format!("{NAME}={text}; Max-Age={seconds}; {ATTRIBUTES}")))
    })?;
    let mut value = HeaderValue::from_str(&line).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The header that removes it.
pub(super) fn removal() -> HeaderValue {
    HeaderValue::from_static("__Host-sid=; Max-Age=0; Path=/; Secure; HttpOnly; SameSite=Lax")
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use http::{HeaderMap, HeaderValue, header::COOKIE};
    use strongroom_policy::moment::Moment;
    use strongroom_protocol::SecretBytes;
    use strongroom_protocol::person::Issued;

    use super::{session, set};

    fn of(lines: &[&'static str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(COOKIE, HeaderValue::from_static(line));
        }
        session(&headers).map(|one| one.expose(|text| String::from_utf8(text.to_vec()).unwrap()))
    }

    // Red when the first of two different ones counts, or a name that only ends so.
    #[test]
    fn one_session_is_read_and_of_two_different_ones_none() {
        assert_eq!(of(&["a=b; __Host-sid=x.y.z; c=d"]).as_deref(), Some("x.y.z"));
        assert_eq!(of(&["__Host-sid=x", "__Host-sid=x"]).as_deref(), Some("x"));
        for none in [
            &["__Host-sid=x; __Host-sid=y"][..],
            &["__Host-sid=x", "__Host-sid=y"],
            &["sid=x; X__Host-sid=y; __Host-sidx=z"],
            &["__Host-sid="],
            &[],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[test]
    fn the_cookie_lives_as_long_as_its_session_and_no_script_sees_it() {
        let text = SecretBytes::copy_from(b"x.y.z");
        let issued = Issued { text, ends: Moment::from_unix_millis(1_209_600_000) };
        let line = set(&issued, SystemTime::UNIX_EPOCH + Duration::from_mins(10)).unwrap();
        assert_eq!(
            line.to_str().unwrap(),
            "__Host-sid=x.y.z; Max-Age=1209000; Path=/; Secure; HttpOnly; SameSite=Lax"
        );
    }
}
