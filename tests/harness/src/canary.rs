//! Keys that open nothing and are easy to find: every form in which one could leak.
//!
//! Invariant: a canary is shaped like its provider's keys, so that nothing handles it differently.

use strongroom_emulator::Api;
use strongroom_emulator::echo::Encoding;

/// The key of an API in these tests.
pub const fn key(api: Api) -> &'static str {
    match api {
        Api::OpenAi => "sk-proj-CANARY_openai-7hQ2vXw9LmZ4tRb8Kc1NfYs6Jd3Pg5Ua0Ie-xT_oWkBqVz",
        Api::Anthropic => "sk-ant-api03-CANARY-anthropic_5rTz8WqL2nXv7KbM4cHs9PdF1gJy6Ua3Eo-AA",
        Api::Gemini => "AIzaSyCANARYg3m1n1_8vKq2Zt7-WxL5rNbP4cH",
        Api::Xai => "xai-CANARYxai9Lw2Qv7Zt4Xr8Kb5Nm1Hc6Ps3Dg0Fj",
    }
}

/// A key and every form of it that is searched for.
pub fn needles_of(name: &str, key: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for encoding in Encoding::ALL {
        let mut text = encoding.encode_bytes(key);
        if encoding.name().starts_with("base64") {
            // What stands before and after the key in its group differs from place to place.
            while text.last() == Some(&b'=') {
                text.pop();
            }
            text.truncate(text.len() - 3);
            text.drain(..4);
        }
        all.push((format!("{name} {}", encoding.name()), text));
    }
    let wide: Vec<u8> = key.iter().flat_map(|byte| [*byte, 0]).collect();
    all.push((format!("{name} utf-16"), wide));
    let backwards: Vec<u8> = key.iter().rev().copied().collect();
    all.push((format!("{name} reversed"), backwards));
    // A part that is long enough to be no accident.
    let middle = key.len() / 2;
    let part: Vec<u8> = key.iter().skip(middle - 10).take(20).copied().collect();
    all.push((format!("{name} middle"), part));
    all
}

/// A binary key as ciphers and hashes take it apart, besides the forms of [`needles_of`]: its halves, its words in the
/// other order of bytes, and its pads in an HMAC.
pub fn traces_of(name: &str, key: &[u8; 32]) -> Vec<(String, Vec<u8>)> {
    let mut all = needles_of(name, key);
    for (half, bytes) in ["first half", "second half"].iter().zip(key.chunks(16)) {
        all.push((format!("{name} {half}"), bytes.to_vec()));
    }
    let words: Vec<u8> = key.chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
    for (half, bytes) in ["first", "second"].iter().zip(words.chunks(16)) {
        all.push((format!("{name} {half} half in words"), bytes.to_vec()));
    }
    for (pad, byte) in [("inner", 0x36), ("outer", 0x5C)] {
        let padded: Vec<u8> = key.iter().take(16).map(|one| one ^ byte).collect();
        all.push((format!("{name} {pad} pad"), padded));
    }
    all
}

/// The needles of all four canaries.
pub fn needles() -> Vec<(String, Vec<u8>)> {
    Api::ALL.into_iter().flat_map(|api| needles_of(api.name(), key(api).as_bytes())).collect()
}

/// The names of the needles that stand in some bytes.
pub fn found(bytes: &[u8], needles: &[(String, Vec<u8>)]) -> Vec<String> {
    let hit = |(_, needle): &&(String, Vec<u8>)| memchr::memmem::find(bytes, needle).is_some();
    needles.iter().filter(hit).map(|(name, _)| name.clone()).collect()
}
