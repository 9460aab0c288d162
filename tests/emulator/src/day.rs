//! The days: which good or bad behaviour a model name asks for.
//!
//! | model | what happens |
//! |---|---|
//! | `emu-echo-key-<encoding>[-at-<place>][-split-<n>]` | the key comes back, see [`crate::echo`]; `split`: in chunks of n bytes |
//! | `emu-reflect[-<text>]` | the text, or the prompt, verbatim as the answer's text in one piece |
//! | `emu-raw[-split-<n>]` | the prompt is the whole body, as text/plain |
//! | `emu-redirect-cross[-<status>]`, `emu-redirect-same[-<status>]` | 307 or the status, to `localhost` or to the same route |
//! | `emu-status-<code>` | an error of that status in the API's own shape |
//! | `emu-slow-first-<ms>` | nothing for so long, then the usual |
//! | `emu-paced-<ms>-<chunks>`, `emu-burst-<chunks>` | that many pieces of text, so far apart or in one write |
//! | `emu-cut-<n>`, `emu-fin-<n>` | connection reset, or closed without an end, after n chunks |
//! | `emu-silent` | no answer ever |
//! | `emu-truncated` | the content-length promises more than is sent |
//! | `emu-badchunk[-size\|-huge\|-nocrlf\|-negative\|-clte\|-lengths]` | invalid framing |
//! | `emu-badhead[-fold\|-nul\|-space\|-lf\|-status]` | an invalid head |
//! | `emu-gzip` | content-encoding gzip, asked for or not |
//! | `emu-huge-header[-<bytes>]`, `emu-many-headers[-<n>]` | oversized heads |
//! | `emu-trailers`, `emu-1xx`, `emu-two-responses` | trailers, 100 and 103 first, a second answer behind the first |
//! | `emu-early-413` | refused before the body is read |
//! | `emu-usage-missing`, `emu-usage-lying[-huge\|-negative\|-text]` | no usage, or a false one |
//! | `emu-midstream-error` | an error event after a 200 and some text |
//! | `emu-key-url` | absolute upload URLs carry `?key=` |
//! | `bench-plain`, `bench-burst`, `bench-paced` | precomputed answers for measurements |
//!
//! Invariant: a name that is not in the table is an ordinary model.

use std::time::Duration;

use crate::echo::{Encoding, Place};

/// What a request asked the emulator to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Day {
    /// Behave.
    Good,
    /// Write the key back.
    EchoKey {
        /// How it is written.
        encoding: Encoding,
        /// Where it stands.
        place: Place,
        /// The size of the chunks, if it is sent in chunks.
        split_bytes: Option<usize>,
    },
    /// Say this text, or the prompt, in one piece.
    Reflect(Option<String>),
    /// Make the prompt the body, in chunks of this size if any.
    Raw(Option<usize>),
    /// Redirect to another origin with this status.
    RedirectCross(u16),
    /// Redirect within the origin with this status.
    RedirectSame(u16),
    /// Fail with this status.
    Status(u16),
    /// Wait before the first byte.
    SlowFirst(Duration),
    /// So many pieces, so far apart.
    Paced(Duration, usize),
    /// So many pieces in one write.
    Burst(usize),
    /// Reset the connection after so many chunks.
    Cut(usize),
    /// Close the connection in good manners after so many chunks.
    Fin(usize),
    /// Never answer.
    Silent,
    /// Promise more than is sent.
    Truncated,
    /// Break the body's framing.
    BadFraming(BadFraming),
    /// Break the head.
    BadHead(BadHead),
    /// Compress.
    Gzip,
    /// Send a header of so many bytes.
    HugeHeader(usize),
    /// Send so many headers.
    ManyHeaders(usize),
    /// Send trailers.
    Trailers,
    /// Send informational answers first.
    Interim,
    /// Send a second answer unasked.
    TwoResponses,
    /// Refuse before reading the body.
    Early413,
    /// Report no usage.
    UsageMissing,
    /// Report a false usage.
    UsageLying(Lie),
    /// Fail after a good beginning.
    MidstreamError,
    /// Put the key into upload URLs.
    KeyUrl,
    /// One of the precomputed answers.
    Bench(Bench),
}

/// The ways to break a body's framing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadFraming {
    /// A chunk size that is no number.
    Size,
    /// A chunk size beyond 64 bits.
    Huge,
    /// No line end after a chunk.
    NoCrlf,
    /// A negative chunk size.
    Negative,
    /// Both a length and chunks.
    LengthAndChunks,
    /// Two lengths that differ.
    TwoLengths,
}

/// The ways to break a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadHead {
    /// A folded header line.
    Fold,
    /// A NUL in a value.
    Nul,
    /// A space before the colon.
    Space,
    /// Lines that end in LF alone.
    LineFeed,
    /// A status that is no number.
    Status,
}

/// The ways to lie about usage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lie {
    /// One token each, whatever was said.
    Tiny,
    /// As many as 64 bits hold.
    Huge,
    /// Fewer than none.
    Negative,
    /// A text instead of a number.
    Text,
}

/// The precomputed answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bench {
    /// About 1 KiB of JSON.
    Plain,
    /// 64 events in one write.
    Burst,
    /// 64 events, 5 ms apart.
    Paced,
}

impl Day {
    /// The day that a name asks for; `None` for an ordinary model name.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(which) = name.strip_prefix("bench-") {
            return match which {
                "plain" => Some(Self::Bench(Bench::Plain)),
                "burst" => Some(Self::Bench(Bench::Burst)),
                "paced" => Some(Self::Bench(Bench::Paced)),
                _ => None,
            };
        }
        let name = name.strip_prefix("emu-")?;
        Self::parse_exact(name).or_else(|| Self::parse_counted(name))
    }

    fn parse_exact(name: &str) -> Option<Self> {
        Some(match name {
            "reflect" => Self::Reflect(None),
            "raw" => Self::Raw(None),
            "redirect-cross" => Self::RedirectCross(307),
            "redirect-same" => Self::RedirectSame(307),
            "silent" => Self::Silent,
            "truncated" => Self::Truncated,
            "badchunk" | "badchunk-size" => Self::BadFraming(BadFraming::Size),
            "badchunk-huge" => Self::BadFraming(BadFraming::Huge),
            "badchunk-nocrlf" => Self::BadFraming(BadFraming::NoCrlf),
            "badchunk-negative" => Self::BadFraming(BadFraming::Negative),
            "badchunk-clte" => Self::BadFraming(BadFraming::LengthAndChunks),
            "badchunk-lengths" => Self::BadFraming(BadFraming::TwoLengths),
            "badhead" | "badhead-fold" => Self::BadHead(BadHead::Fold),
            "badhead-nul" => Self::BadHead(BadHead::Nul),
            "badhead-space" => Self::BadHead(BadHead::Space),
            "badhead-lf" => Self::BadHead(BadHead::LineFeed),
            "badhead-status" => Self::BadHead(BadHead::Status),
            "gzip" => Self::Gzip,
            "huge-header" => Self::HugeHeader(256 * 1024),
            "many-headers" => Self::ManyHeaders(1000),
            "trailers" => Self::Trailers,
            "1xx" => Self::Interim,
            "two-responses" => Self::TwoResponses,
            "early-413" => Self::Early413,
            "usage-missing" => Self::UsageMissing,
            "usage-lying" => Self::UsageLying(Lie::Tiny),
            "usage-lying-huge" => Self::UsageLying(Lie::Huge),
            "usage-lying-negative" => Self::UsageLying(Lie::Negative),
            "usage-lying-text" => Self::UsageLying(Lie::Text),
            "midstream-error" => Self::MidstreamError,
            "key-url" => Self::KeyUrl,
            _ => return None,
        })
    }

    fn parse_counted(name: &str) -> Option<Self> {
        if let Some(rest) = name.strip_prefix("echo-key-") {
            return Self::parse_echo(rest);
        }
        if let Some(rest) = name.strip_prefix("reflect-") {
            return Some(Self::Reflect(Some(rest.to_owned())));
        }
        if let Some(rest) = name.strip_prefix("paced-") {
            let (ms, chunks) = rest.split_once('-')?;
            return Some(Self::Paced(millis(ms)?, count(chunks)?));
        }
        let (name, number) = name.rsplit_once('-')?;
        Some(match name {
            "raw-split" => Self::Raw(Some(count(number)?.max(1))),
            "redirect-cross" => Self::RedirectCross(status(number)?),
            "redirect-same" => Self::RedirectSame(status(number)?),
            "status" => Self::Status(status(number)?),
            "slow-first" => Self::SlowFirst(millis(number)?),
            "burst" => Self::Burst(count(number)?),
            "cut" => Self::Cut(count(number)?),
            "fin" => Self::Fin(count(number)?),
            "huge-header" => Self::HugeHeader(count(number)?),
            "many-headers" => Self::ManyHeaders(count(number)?),
            _ => return None,
        })
    }

    fn parse_echo(rest: &str) -> Option<Self> {
        let (rest, split_bytes) = match rest.split_once("-split-") {
            Some((rest, bytes)) => (rest, Some(count(bytes)?.max(1))),
            None => (rest, None),
        };
        let (encoding, place) = match rest.split_once("-at-") {
            Some((encoding, place)) => (encoding, Place::from_name(place)?),
            None => (rest, Place::Error),
        };
        Some(Self::EchoKey { encoding: Encoding::from_name(encoding)?, place, split_bytes })
    }
}

/// Large enough for every test, small enough that a name cannot exhaust memory.
const MAX_COUNT: usize = 4 * 1024 * 1024;
const MAX_WAIT: Duration = Duration::from_mins(30);

fn count(text: &str) -> Option<usize> {
    text.parse().ok().filter(|count| *count <= MAX_COUNT)
}

fn millis(text: &str) -> Option<Duration> {
    text.parse().ok().map(Duration::from_millis).filter(|wait| *wait <= MAX_WAIT)
}

fn status(text: &str) -> Option<u16> {
    text.parse().ok().filter(|status| (200..1000).contains(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_ask_for_days_and_other_names_do_not() {
        assert_eq!(Day::parse("gpt-5"), None);
        assert_eq!(Day::parse("emu-nonsense"), None);
        assert_eq!(Day::parse("emu-paced-5-64"), Some(Day::Paced(Duration::from_millis(5), 64)));
        assert_eq!(Day::parse("emu-status-529"), Some(Day::Status(529)));
        assert_eq!(Day::parse("emu-redirect-same-302"), Some(Day::RedirectSame(302)));
        assert_eq!(Day::parse("emu-reflect-a-b"), Some(Day::Reflect(Some("a-b".to_owned()))));
        let (encoding, place) = (Encoding::Base64Url(2), Place::Trailer);
        assert_eq!(
            Day::parse("emu-echo-key-base64url-2-at-trailer-split-7"),
            Some(Day::EchoKey { encoding, place, split_bytes: Some(7) })
        );
    }
}
