//! Ways to the decoders of this crate that are private, for `fuzz/`; nothing in the product calls them.
//!
//! Invariant: each takes a text and answers with words: no file, no socket.

use crate::settings::Settings;

/// What `strongroom.toml` sets: how users reach the gateway, and the layers that may be missing.
///
/// # Errors
/// What is wrong with the file.
pub fn settings(text: &str) -> Result<(String, Vec<String>), String> {
    let settings = Settings::parse(text)?;
    let missing = settings.missing_layers().into_iter().map(str::to_owned).collect();
    Ok((settings.public_url(), missing))
}
