//! Which bytes can stand inside an encoded key, and how long the run of them at the end of a text is.
//!
//! Invariant: there are two alphabets only, so that the choice tells one bit about a key.

/// A set of bytes.
pub(super) struct Alphabet([bool; 256]);

impl Alphabet {
    /// The smallest of the two alphabets that holds every encoding of `secret`.
    pub(super) fn covering(secret: &[u8]) -> &'static Self {
        if secret.iter().all(|&byte| TOKEN.0[usize::from(byte)]) { &TOKEN } else { &LINE }
    }

    /// Length of the run of this alphabet's bytes at the end of `text`, at most `cap`.
    pub(super) fn trailing_run(&self, text: &[u8], cap: usize) -> usize {
        text.iter().rev().take(cap).take_while(|&&byte| self.0[usize::from(byte)]).count()
    }
}

/// Letters, digits, and the marks of base64, percent, JSON and form encodings.
static TOKEN: Alphabet = Alphabet(token());
/// Every byte but line ends and NUL: for keys with other characters. Text then waits for its line's end.
static LINE: Alphabet = Alphabet(line());

const fn token() -> [bool; 256] {
    let mut set = [false; 256];
    let mut byte = 0;
    while byte < 128_u8 {
        set[byte as usize] = byte.is_ascii_alphanumeric()
            || matches!(byte, b'+' | b'/' | b'=' | b'_' | b'-' | b'.' | b'~' | b'%' | b'\\');
        byte += 1;
    }
    set
}

const fn line() -> [bool; 256] {
    let mut set = [true; 256];
    set[b'\r' as usize] = false;
    set[b'\n' as usize] = false;
    set[0] = false;
    set
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newline_a_quote_and_a_brace_end_a_token_run() {
        for end in ["\n", "\"", "}", "]", " ", ",", ":"] {
            let text = format!("token{end}");
            assert_eq!(TOKEN.trailing_run(text.as_bytes(), 100), 0, "{end:?}");
        }
    }

    #[test]
    fn a_run_is_counted_up_to_the_cap() {
        assert_eq!(TOKEN.trailing_run(b"\"abc", 100), 3);
        assert_eq!(TOKEN.trailing_run(b"abcdef", 4), 4);
        assert_eq!(TOKEN.trailing_run(b"", 4), 0);
    }

    #[test]
    fn a_key_with_a_blank_needs_the_wide_alphabet() {
        assert!(std::ptr::eq(Alphabet::covering(b"sk-proj_A.b~c"), &raw const TOKEN));
        assert!(std::ptr::eq(Alphabet::covering(b"pass phrase"), &raw const LINE));
    }
}
