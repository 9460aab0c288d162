//! `strongroom.toml`, which an operator writes and an intruder may edit.

use strongroom_cli::fuzzing::settings as parse;

use crate::Verdict;

/// The settings. What is accepted names an HTTPS origin and known layers only.
pub fn settings(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Verdict::Refused };
    let read = parse(text);
    if let Ok((url, missing)) = &read {
        let host = url.strip_prefix("https://").expect("users come over TLS");
        assert!(!host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']));
        let known = |layer: &String| {
            layer.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-' || byte == b'_')
        };
        assert!(missing.iter().all(known));
    }
    Verdict::of(&read)
}
