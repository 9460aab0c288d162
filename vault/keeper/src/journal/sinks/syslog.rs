//! An entry as a syslog message (RFC 5424): facility `log audit`, the entry itself as the text.

use serde::Deserialize;

/// Facility 13 (log audit), severities 4 (warning) and 6 (informational).
const WARNING: u8 = 13 * 8 + 4;
const INFORMATIONAL: u8 = 13 * 8 + 6;

#[derive(Deserialize)]
struct Known<'a> {
    t: &'a str,
    what: &'a str,
}

/// The datagram of an entry.
pub(super) fn message(entry: &[u8]) -> Vec<u8> {
    let entry = entry.trim_ascii_end();
    let known: Option<Known<'_>> = serde_json::from_slice(entry).ok();
    let (time, what) = known.map_or(("-", "-"), |known| (known.t, known.what));
    let priority = match what {
        "refuse" | "strangers" | "gap" | "stopped" | "sink" => WARNING,
        _ => INFORMATIONAL,
    };
    let head = format!("<{priority}>1 {time} - strongroom - {what} - ");
    [head.as_bytes(), entry].concat()
}

#[cfg(test)]
mod tests {
    use super::message;

    #[test]
    fn a_message_has_priority_time_and_the_entry() {
        let entry = b"{\"n\":1,\"t\":\"2026-01-02T03:04:05.678Z\",\"what\":\"refuse\",\"x\":1}\n";
        let text = String::from_utf8(message(entry)).unwrap();
        assert_eq!(
            text,
            "<108>1 2026-01-02T03:04:05.678Z - strongroom - refuse - \
             {\"n\":1,\"t\":\"2026-01-02T03:04:05.678Z\",\"what\":\"refuse\",\"x\":1}"
        );
        assert!(message(b"rubbish").starts_with(b"<110>1 - - strongroom - - - rubbish"));
    }
}
