//! Reading spans of time, each in its one spelling.
//!
//! Invariant: nanoseconds are fewer than a second. serde's own reader carries what is more, so that a span has many spellings.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error};

const NANOSECONDS: u32 = 1_000_000_000;

/// A span as it is on the wire.
struct Exact(Duration);

impl<'de> Deserialize<'de> for Exact {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let (seconds, nanoseconds) = <(u64, u32)>::deserialize(from)?;
        if nanoseconds < NANOSECONDS {
            Ok(Self(Duration::new(seconds, nanoseconds)))
        } else {
            Err(D::Error::custom("a span with a second of nanoseconds"))
        }
    }
}

/// For `#[serde(deserialize_with)]`.
pub(crate) fn exact<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    Exact::deserialize(from).map(|exact| exact.0)
}

/// The same for a span that may be missing.
pub(crate) fn exact_option<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<Duration>, D::Error> {
    Ok(Option::<Exact>::deserialize(from)?.map(|exact| exact.0))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::errand::Deadlines;
    use crate::frame::{MAX_ERRAND_BYTES, PREFIX_BYTES, decode, encode};

    // Red with serde's own reader.
    #[test]
    fn a_span_has_one_spelling() {
        let last = Duration::new(1, 999_999_999);
        let of = |body_idle| Deadlines { body_idle, ..Deadlines::PROBE };
        let frame = encode(&of(last), MAX_ERRAND_BYTES).unwrap();
        let body = &frame[PREFIX_BYTES..];
        assert_eq!(decode::<Deadlines>(body).unwrap(), of(last));
        // The same end with one nanosecond more: 1,000,000,000 in seven bits each.
        let cut = body.len() - 5;
        assert_eq!(body[cut..], [0xff, 0x93, 0xeb, 0xdc, 0x03]);
        let more = [&body[..cut], &[0x80, 0x94, 0xeb, 0xdc, 0x03]].concat();
        assert!(decode::<Deadlines>(&more).is_err());
    }
}
