//! Decodes a body in place, by whatever framing its head gave.
//!
//! Invariant: what is decoded is one slice of the bytes that were read; only the data of second and later chunks moves, and
//! only over the framing before it.
//! Invariant: chunk sizes, extensions and trailers are bounded; trailers are thrown away.
//! Invariant: a body that did not reach its end by its own framing is cut, never finished.

use bytes::{Buf, Bytes, BytesMut};

/// How a body ends (RFC 9112, 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// After this many bytes.
    Length(u64),
    /// With a chunk of size zero.
    Chunked,
    /// With the TLS connection, which must say so (`close_notify`) or the body is cut. Answers only.
    UntilClose,
}

/// Why a body cannot be read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFraming {
    /// A bad chunk size, missing line end, or oversized trailer.
    #[error("the chunks are malformed")]
    Chunks,
    /// The connection ended before the body did.
    #[error("the body was cut off")]
    Cut,
}

/// Where a body stands.
#[derive(Debug)]
pub struct Body {
    state: State,
}

/// What one reading gave.
#[derive(Debug)]
pub struct Decoded {
    /// The body's bytes so far; may be empty.
    pub data: Bytes,
    /// Whether the body is over. Bytes still in the buffer then belong to nothing: the connection must not be used again.
    pub progress: Progress,
}

/// Whether more of a body is to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More is to be read.
    More,
    /// That was all.
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Left of a body of known length.
    Length(u64),
    /// Everything until the end of the connection.
    UntilClose,
    /// At the start of a chunk's size line.
    Size,
    /// Left of a chunk's data.
    Data(u64),
    /// At the line end after a chunk's data.
    DataEnd,
    /// At the start of a trailer line, with the bytes of earlier ones.
    Trailer(usize),
    Over,
}

impl Body {
    /// Starts after the head.
    pub fn new(framing: Framing) -> Self {
        Self {
            state: match framing {
                Framing::Empty | Framing::Length(0) => State::Over,
                Framing::Length(left) => State::Length(left),
                Framing::Chunked => State::Size,
                Framing::UntilClose => State::UntilClose,
            },
        }
    }

    /// Takes all that can be decoded off `buffer`, as one slice, so that many small chunks cost one write.
    ///
    /// # Errors
    /// When the chunks are malformed; the connection is then to be dropped.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, BadFraming> {
        let data = match self.state {
            State::Over => Bytes::new(),
            State::UntilClose => buffer.split().freeze(),
            State::Length(left) => {
                let here = at_most(buffer.len(), left);
                self.state = match left - widen(here) {
                    0 => State::Over,
                    left => State::Length(left),
                };
                buffer.split_to(here).freeze()
            }
            State::Size | State::Data(_) | State::DataEnd | State::Trailer(_) => {
                self.decode_chunks(buffer)?
            }
        };
        Ok(Decoded { data, progress: self.progress() })
    }

    /// The connection has ended, with `close_notify`.
    ///
    /// # Errors
    /// When the body had not.
    pub fn closed(&mut self) -> Result<(), BadFraming> {
        match self.state {
            State::Over | State::UntilClose => {
                self.state = State::Over;
                Ok(())
            }
            State::Length(_)
            | State::Size
            | State::Data(_)
            | State::DataEnd
            | State::Trailer(_) => Err(BadFraming::Cut),
        }
    }

    /// Whether the body is over.
    pub fn progress(&self) -> Progress {
        if self.state == State::Over { Progress::Over } else { Progress::More }
    }

    /// Closes the gaps that framing leaves: data is gathered at the front of `buffer`, then split off.
    fn decode_chunks(&mut self, buffer: &mut BytesMut) -> Result<Bytes, BadFraming> {
        let mut gathered = 0;
        let mut read = 0;
        loop {
            if gathered == 0 {
                // The first chunk's data stays where it is.
                buffer.advance(read);
                read = 0;
            }
            match self.state {
                State::Data(left) => {
                    let here = at_most(buffer.len() - read, left);
                    if read != gathered {
                        buffer.copy_within(read..read + here, gathered);
                    }
                    gathered += here;
                    read += here;
                    self.state = match left - widen(here) {
                        0 => State::DataEnd,
                        left => State::Data(left),
                    };
                    if self.state != State::DataEnd {
                        break;
                    }
                }
                State::Size | State::DataEnd | State::Trailer(_) => {
                    match self.step(&buffer[read..])? {
                        Some(used) => read += used,
                        None => break,
                    }
                }
                State::Over | State::Length(_) | State::UntilClose => break,
            }
        }
        let data = buffer.split_to(gathered).freeze();
        buffer.advance(read - gathered);
        Ok(data)
    }

    /// One line of framing; `None` when it is not complete.
    fn step(&mut self, rest: &[u8]) -> Result<Option<usize>, BadFraming> {
        if self.state == State::DataEnd {
            return match rest {
                [b'\r', b'\n', ..] => {
                    self.state = State::Size;
                    Ok(Some(2))
                }
                [] | [b'\r'] => Ok(None),
                [..] => Err(BadFraming::Chunks),
            };
        }
        let trailers = match self.state {
            State::Trailer(bytes) => Some(bytes),
            _ => None,
        };
        let limit = trailers.map_or(MAX_SIZE_LINE_BYTES, |bytes| MAX_TRAILER_BYTES - bytes);
        let Some(line) = take_line(rest, limit)? else { return Ok(None) };
        let used = line.len() + 2;
        self.state = match trailers {
            Some(_) if line.is_empty() => State::Over,
            Some(bytes) => State::Trailer((bytes + used).min(MAX_TRAILER_BYTES)),
            None => match parse_size(line)? {
                0 => State::Trailer(0),
                size => State::Data(size),
            },
        };
        Ok(Some(used))
    }
}

/// A line without its CRLF; bare CR or LF and NUL are refused, since readers disagree on them.
fn take_line(rest: &[u8], limit: usize) -> Result<Option<&[u8]>, BadFraming> {
    let window = &rest[..rest.len().min(limit + 2)];
    match memchr::memchr3(b'\r', b'\n', 0, window) {
        Some(at) if window[at..].starts_with(b"\r\n") => Ok(Some(&window[..at])),
        // A CR at the very end may still get its LF.
        Some(at) if window[at] != b'\r' || at + 1 < window.len() => Err(BadFraming::Chunks),
        Some(_) | None if window.len() < limit + 2 => Ok(None),
        Some(_) | None => Err(BadFraming::Chunks),
    }
}

/// Hex digits, then nothing or an extension after `;`. At most 16 digits fit; more would overflow in some readers.
fn parse_size(line: &[u8]) -> Result<u64, BadFraming> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let extension = line[digits..].trim_ascii_start();
    if digits == 0 || digits > 15 || !(extension.is_empty() || extension[0] == b';') {
        return Err(BadFraming::Chunks);
    }
    // RFC 9112 allows blanks before the semicolon only for compatibility; blanks alone are refused.
    if extension.is_empty() && line.len() > digits {
        return Err(BadFraming::Chunks);
    }
    std::str::from_utf8(&line[..digits])
        .ok()
        .and_then(|digits| u64::from_str_radix(digits, 16).ok())
        .ok_or(BadFraming::Chunks)
}

fn at_most(here: usize, left: u64) -> usize {
    usize::try_from(left).map_or(here, |left| here.min(left))
}

fn widen(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Sixteen hex digits and a modest extension.
const MAX_SIZE_LINE_BYTES: usize = 256;
/// All trailer lines together; none is passed on.
const MAX_TRAILER_BYTES: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(
        framing: Framing,
        pieces: &[&[u8]],
    ) -> Result<(Vec<u8>, Progress, Vec<u8>), BadFraming> {
        let mut body = Body::new(framing);
        let mut buffer = BytesMut::new();
        let mut out = Vec::new();
        for piece in pieces {
            buffer.extend_from_slice(piece);
            out.extend_from_slice(&body.decode(&mut buffer)?.data);
        }
        Ok((out, body.progress(), buffer.to_vec()))
    }

    #[test]
    fn chunks_that_arrive_together_come_out_as_one_slice() {
        let text = b"5;name=value\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\ntrailer: gone\r\n\r\n";
        let (out, progress, rest) = decode(Framing::Chunked, &[text]).unwrap();
        assert_eq!(
            (out.as_slice(), progress, rest.as_slice()),
            (&b"hello world"[..], Progress::Over, &b""[..])
        );
    }

    #[test]
    fn the_first_chunk_is_not_copied() {
        let mut buffer = BytesMut::from(&b"5\r\nhello\r\n5\r\nworld\r\n"[..]);
        let place = buffer[3..].as_ptr();
        let decoded = Body::new(Framing::Chunked).decode(&mut buffer).unwrap();
        assert_eq!(&decoded.data[..], b"helloworld");
        assert_eq!(decoded.data.as_ptr(), place);
    }

    #[test]
    fn bytes_after_the_end_stay_visible() {
        let (_, progress, rest) = decode(Framing::Chunked, &[b"0\r\n\r\nHTTP/1.1 200"]).unwrap();
        assert_eq!((progress, rest.as_slice()), (Progress::Over, &b"HTTP/1.1 200"[..]));
        let (out, progress, rest) = decode(Framing::Length(3), &[b"abcd"]).unwrap();
        assert_eq!(
            (out.as_slice(), progress, rest.as_slice()),
            (&b"abc"[..], Progress::Over, &b"d"[..])
        );
        let (_, _, rest) = decode(Framing::Empty, &[b"x"]).unwrap();
        assert_eq!(rest, b"x");
    }

    #[test]
    fn bad_framing_is_refused() {
        let long = format!("5;{}\r\nhello\r\n", "x".repeat(300));
        for text in [
            "\r\n",
            "g\r\n",
            "-5\r\nhello\r\n",
            "+5\r\nhello\r\n",
            "0x5\r\nhello\r\n",
            " 5\r\nhello\r\n",
            "5 \r\nhello\r\n",
            "5\nhello\r\n",
            "5\r\nhello\n",
            "5\r\nhelloX",
            "5\r\nhello\rX",
            "5;a\rb\r\nhello",
            "5;a\0b\r\nhello",
            "1000000000000000\r\n",
            "fffffffffffffffff\r\n",
            "0\r\na\nb\r\n\r\n",
            long.as_str(),
        ] {
            assert_eq!(
                decode(Framing::Chunked, &[text.as_bytes()]).err(),
                Some(BadFraming::Chunks),
                "{text:?}"
            );
        }
        let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(2000));
        assert_eq!(
            decode(Framing::Chunked, &[trailers.as_bytes()]).err(),
            Some(BadFraming::Chunks)
        );
    }

    #[test]
    fn an_early_close_is_a_cut() {
        for (framing, text) in [
            (Framing::Length(5), &b"abc"[..]),
            (Framing::Chunked, b"5\r\nhel"),
            (Framing::Chunked, b"5\r\nhello\r\n"),
            (Framing::Chunked, b"0\r\n"),
        ] {
            let mut body = Body::new(framing);
            body.decode(&mut BytesMut::from(text)).unwrap();
            assert_eq!(body.closed(), Err(BadFraming::Cut));
        }
        let mut body = Body::new(Framing::UntilClose);
        body.decode(&mut BytesMut::from(&b"abc"[..])).unwrap();
        assert_eq!(body.closed(), Ok(()));
        assert_eq!(body.progress(), Progress::Over);
    }

    proptest! {
        #[test]
        fn any_split_decodes_alike(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8),
            cuts in prop::collection::vec(0..600_usize, 0..20),
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                text.extend_from_slice(format!("{:X};x\r\n", chunk.len()).as_bytes());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            text.extend_from_slice(b"0\r\nt: u\r\n\r\nrest");
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.push(0);
            cuts.push(text.len());
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &text[pair[0]..pair[1]]).collect();
            let (out, progress, rest) = decode(Framing::Chunked, &pieces).unwrap();
            prop_assert_eq!(out, chunks.concat());
            prop_assert_eq!(progress, Progress::Over);
            prop_assert_eq!(rest, b"rest");
        }

        #[test]
        fn no_text_panics(text in prop::collection::vec(any::<u8>(), 0..200), cut in 0..200_usize) {
            let cut = cut.min(text.len());
            drop(decode(Framing::Chunked, &[&text[..cut], &text[cut..]]));
        }
    }
}
