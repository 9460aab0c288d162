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
pub fn needles_of(name: &str, key: &str) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<(String, Vec<u8>)> = Vec::new();
    for encoding in Encoding::ALL {
        let mut text = encoding.encode(key);
        if encoding.name().starts_with("base64") {
            // What stands before and after the key in its group differs from place to place.
            let inner = text.trim_end_matches('=').len() - 3;
            text = text.chars().take(inner).skip(4).collect();
        }
        all.push((format!("{name} {}", encoding.name()), text.into_bytes()));
    }
    let wide: Vec<u8> = key.bytes().flat_map(|byte| [byte, 0]).collect();
    all.push((format!("{name} utf-16"), wide));
    let backwards: Vec<u8> = key.bytes().rev().collect();
    all.push((format!("{name} reversed"), backwards));
    // A part that is long enough to be no accident.
    let middle = key.len() / 2;
    let part: Vec<u8> = key.bytes().skip(middle - 10).take(20).collect();
    all.push((format!("{name} middle"), part));
    all
}

/// The needles of all four canaries.
pub fn needles() -> Vec<(String, Vec<u8>)> {
    Api::ALL.into_iter().flat_map(|api| needles_of(api.name(), key(api))).collect()
}

/// The names of the needles that stand in some bytes.
pub fn found(bytes: &[u8], needles: &[(String, Vec<u8>)]) -> Vec<String> {
    let hit = |(_, needle): &&(String, Vec<u8>)| memchr::memmem::find(bytes, needle).is_some();
    needles.iter().filter(hit).map(|(name, _)| name.clone()).collect()
}
