//! The few binary things an API hands out: a picture, a sound, a vector.
//!
//! Invariant: the same every time, so that a test can compare bytes.

use sha2::{Digest as _, Sha256};

/// A PNG of one transparent pixel.
pub(crate) const PIXEL_PNG: &[u8] = &[
    0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 0x0d, b'I', b'H', b'D', b'R', 0, 0, 0,
    1, 0, 0, 0, 1, 8, 6, 0, 0, 0, 0x1f, 0x15, 0xc4, 0x89, 0, 0, 0, 0x0d, b'I', b'D', b'A', b'T',
    0x78, 0xda, 0x63, 0x64, 0xf8, 0xff, 0xbf, 0x1e, 0, 5, 0x84, 2, 0x7f, 0xbb, 0xb2, 0x55, 0x3b, 0,
    0, 0, 0, b'I', b'E', b'N', b'D', 0xae, 0x42, 0x60, 0x82,
];

/// 16 KiB that begin like an MP3 frame and hold every byte value.
pub(crate) fn silence() -> Vec<u8> {
    let mut sound = vec![0xff, 0xfb, 0x90, 0x64];
    sound.extend((0..=255_u8).cycle().take(16 * 1024 - 4));
    sound
}

/// Numbers between 0 and 1 that depend on the text alone.
pub(crate) fn vector(text: &str, size: u64) -> Vec<f32> {
    let digest = Sha256::digest(text);
    let bytes = digest.iter().copied().cycle();
    (0..size).zip(bytes).map(|(_, byte)| f32::from(byte) / 256.0).collect()
}
