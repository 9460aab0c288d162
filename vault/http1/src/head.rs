//! Finds the end of a head, and holds its lines to CRLF.
//!
//! Distrusts: every byte, and the pace at which it comes.

/// Why bytes are no head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// It does not end within the limit.
    #[error("the head is too large")]
    TooLarge,
    /// A bare CR or LF, or NUL: parsers disagree on where such a line ends.
    #[error("the head is malformed")]
    Malformed,
}

/// Looks for a head's end in bytes that come little by little.
#[derive(Debug, Default)]
pub struct HeadSearch {
    /// Bytes known to hold no end, so that slow delivery costs linear time.
    searched: usize,
}

impl HeadSearch {
    /// The length of the head that begins `buffer`, its empty line included; `None` asks for more bytes.
    ///
    /// # Errors
    /// When the head cannot be used, as soon as that is clear: one with bare line feeds would never end.
    pub fn find(&mut self, buffer: &[u8], limit_bytes: usize) -> Result<Option<usize>, BadHead> {
        let from = self.searched.saturating_sub(HEAD_END.len() - 1).min(buffer.len());
        let end = memchr::memmem::find(&buffer[from..], HEAD_END);
        let end = end.map(|at| from + at + HEAD_END.len());
        check_lines(&buffer[..end.unwrap_or(buffer.len())], from)?;
        match end {
            Some(end) if end <= limit_bytes => {
                self.searched = 0;
                Ok(Some(end))
            }
            None if buffer.len() < limit_bytes => {
                self.searched = buffer.len();
                Ok(None)
            }
            Some(_) | None => Err(BadHead::TooLarge),
        }
    }
}

/// A CR at the very end may still get its LF.
fn check_lines(head: &[u8], from: usize) -> Result<(), BadHead> {
    for at in memchr::memchr3_iter(b'\r', b'\n', 0, &head[from..]).map(|at| from + at) {
        let paired = match head[at] {
            b'\r' => head.get(at + 1).is_none_or(|next| *next == b'\n'),
            b'\n' => at > 0 && head[at - 1] == b'\r',
            _ => false,
        };
        if !paired {
            return Err(BadHead::Malformed);
        }
    }
    Ok(())
}

/// A `content-length`: digits only, at most 19 of them. `str::parse` would take a plus sign.
pub fn decimal(value: &[u8]) -> Option<u64> {
    let digits = (1..=19).contains(&value.len()) && value.iter().all(u8::is_ascii_digit);
    digits.then(|| std::str::from_utf8(value).ok()?.parse().ok()).flatten()
}

const HEAD_END: &[u8] = b"\r\n\r\n";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    #[test]
    fn the_end_is_found_however_the_bytes_come() {
        let text = [HEAD, b"body"].concat();
        for cut in 0..text.len() {
            let mut search = HeadSearch::default();
            let early = search.find(&text[..cut], 1000).unwrap();
            assert_eq!(early, (cut >= HEAD.len()).then_some(HEAD.len()), "{cut}");
            if early.is_none() {
                assert_eq!(search.find(&text, 1000).unwrap(), Some(HEAD.len()), "{cut}");
            }
        }
        let mut search = HeadSearch::default();
        for end in 0..HEAD.len() {
            assert_eq!(search.find(&HEAD[..end], 1000), Ok(None));
        }
        assert_eq!(search.find(HEAD, 1000), Ok(Some(HEAD.len())));
    }

    #[test]
    fn lines_that_end_in_anything_else_are_refused_at_once() {
        for text in [
            &b"GET / HTTP/1.1\nhost: a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\nhost: a\n",
            b"GET / HTTP/1.1\r\nhost: a\rb\r\n\r\n",
            b"GET / HTTP/1.1\r\nhost: a\0b\r\n\r\n",
            b"\n",
        ] {
            assert_eq!(HeadSearch::default().find(text, 1000), Err(BadHead::Malformed));
        }
        // A CR at the end of what came is settled by the next byte.
        let mut search = HeadSearch::default();
        assert_eq!(search.find(b"GET / HTTP/1.1\r", 1000), Ok(None));
        assert_eq!(search.find(b"GET / HTTP/1.1\rx", 1000), Err(BadHead::Malformed));
    }

    #[test]
    fn a_head_over_the_limit_is_refused_whether_it_ends_or_not() {
        assert_eq!(HeadSearch::default().find(HEAD, HEAD.len()), Ok(Some(HEAD.len())));
        assert_eq!(HeadSearch::default().find(HEAD, HEAD.len() - 1), Err(BadHead::TooLarge));
        assert_eq!(HeadSearch::default().find(&[b'a'; 100], 100), Err(BadHead::TooLarge));
        assert_eq!(HeadSearch::default().find(&[b'a'; 99], 100), Ok(None));
    }

    #[test]
    fn a_length_is_digits_and_nothing_else() {
        for bad in ["", "+5", "-5", "5,5", "5 ", "0x5", "99999999999999999999", "١"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"0042"), Some(42));
        assert_eq!(decimal(b"9999999999999999999"), Some(9_999_999_999_999_999_999));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(text in prop::collection::vec(
            prop::sample::select(&b"\r\n\0a:"[..]), 0..40), cut in 0..40_usize) {
            let whole = HeadSearch::default().find(&text, 30);
            let mut search = HeadSearch::default();
            let cut = cut.min(text.len());
            let parts = match search.find(&text[..cut], 30) {
                Ok(None) => search.find(&text, 30),
                early => early,
            };
            // A limit or a bad line may be noticed earlier in pieces, never later.
            if whole.is_ok() || parts.is_ok() {
                prop_assert_eq!(whole, parts);
            }
        }
    }
}
