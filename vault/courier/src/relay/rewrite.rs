//! Turns the destination's URLs into ours in listed fields of a JSON answer: the one exception to passing bodies on as they are.
//!
//! Anthropic's SDK follows `results_url` with its authentication header, which for our callers is our token.
//!
//! Invariant: only the origin at the start of a listed field's value changes; every other byte passes.
//! Invariant: what is held back between two pieces is bounded by the longest match.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use super::origin::Origin;

/// Rewrites one body.
pub(crate) struct Rewriter {
    fields: [Finder<'static>; FIELDS.len()],
    origin: Vec<u8>,
    ours: Vec<u8>,
    held: BytesMut,
}

/// Members whose values are URLs that SDKs follow, with the quotes of their names.
const FIELDS: [&str; 2] = ["\"results_url\"", "\"downloadUri\""];
/// White space that is skipped around the colon.
const MAX_BLANKS: usize = 16;

/// How a text continues.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// The origin stands at this place and ends at the other.
    At(usize, usize),
    Not,
    /// The text ends before it can be told.
    Unclear,
}

impl Rewriter {
    pub(crate) fn new(origin: &Origin) -> Self {
        Self {
            fields: FIELDS.map(|field| Finder::new(field.as_bytes())),
            origin: origin.start().into_bytes(),
            ours: origin.public_prefix().as_bytes().to_vec(),
            held: BytesMut::new(),
        }
    }

    /// Takes the next bytes and answers those that are settled.
    pub(crate) fn feed(&mut self, piece: Bytes) -> Bytes {
        if self.held.is_empty() && self.next_field(&piece, 0).is_none() && tail(&piece) == 0 {
            return piece;
        }
        self.held.extend_from_slice(&piece);
        let text = std::mem::take(&mut self.held);
        let (out, kept) = self.rewrite(&text);
        self.held.extend_from_slice(&text[kept..]);
        out
    }

    /// The body has ended.
    pub(crate) fn finish(&mut self) -> Bytes {
        std::mem::take(&mut self.held).freeze()
    }

    /// The settled part of `text` rewritten, and where the unsettled part begins.
    fn rewrite(&self, text: &[u8]) -> (Bytes, usize) {
        let mut out = BytesMut::with_capacity(text.len());
        let mut from = 0;
        while let Some((start, end)) = self.next_field(text, from) {
            match self.origin_after(text, end) {
                Found::At(value, after) => {
                    out.extend_from_slice(&text[from..value]);
                    out.extend_from_slice(&self.ours);
                    from = after;
                }
                Found::Not => {
                    out.extend_from_slice(&text[from..end]);
                    from = end;
                }
                Found::Unclear => {
                    out.extend_from_slice(&text[from..start]);
                    return (out.freeze(), start);
                }
            }
        }
        let kept = text.len() - tail(&text[from..]);
        out.extend_from_slice(&text[from..kept]);
        (out.freeze(), kept)
    }

    /// Where the next listed name begins and ends.
    fn next_field(&self, text: &[u8], from: usize) -> Option<(usize, usize)> {
        let found = self.fields.iter().filter_map(|field| {
            let start = from + field.find(&text[from..])?;
            Some((start, start + field.needle().len()))
        });
        found.min()
    }

    /// Whether a colon and a text that begins with the origin follow.
    fn origin_after(&self, text: &[u8], from: usize) -> Found {
        let mut at = from;
        for mark in [b':', b'"'] {
            let blanks = text[at..].iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
            at += blanks;
            match text.get(at) {
                Some(byte) if *byte == mark && blanks <= MAX_BLANKS => at += 1,
                None if blanks <= MAX_BLANKS => return Found::Unclear,
                Some(_) | None => return Found::Not,
            }
        }
        let value = at;
        for wanted in &self.origin {
            // JSON allows `\/` for `/`.
            if *wanted == b'/' && text.get(at) == Some(&b'\\') {
                at += 1;
            }
            match text.get(at) {
                Some(byte) if byte.eq_ignore_ascii_case(wanted) => at += 1,
                Some(_) => return Found::Not,
                None => return Found::Unclear,
            }
        }
        match text.get(at) {
            Some(b'/' | b'\\') => Found::At(value, at),
            Some(_) => Found::Not,
            None => Found::Unclear,
        }
    }
}

/// How many bytes at the end may be the beginning of a listed name.
fn tail(text: &[u8]) -> usize {
    let begins = |length: &usize| {
        FIELDS.iter().any(|field| field.as_bytes().starts_with(&text[text.len() - length..]))
    };
    let longest = FIELDS.iter().map(|field| field.len()).max().unwrap_or_default();
    (1..longest.min(text.len() + 1)).rev().find(begins).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::super::origin::tests::origin;
    use super::*;

    fn rewritten(text: &str, size: usize) -> String {
        let mut rewriter = Rewriter::new(&origin("", 443));
        let mut out = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            out.extend_from_slice(&rewriter.feed(Bytes::copy_from_slice(piece)));
        }
        out.extend_from_slice(&rewriter.finish());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn listed_fields_change_and_nothing_else_in_every_split() {
        let theirs = r#"{"a":"https://api.example.com/x","results_url" : "https://api.example.com/v1/r",
            "t":"\"results_url\":\"https://api.example.com/","downloadUri":"https:\/\/api.example.com\/f",
            "results_url":"https://api.example.com.evil/","results_url":null,"u":"\"results_ur"}"#;
        let ours = r#"{"a":"https://api.example.com/x","results_url" : "https://our.example/p/one/v1/r",
            "t":"\"results_url\":\"https://api.example.com/","downloadUri":"https://our.example/p/one\/f",
            "results_url":"https://api.example.com.evil/","results_url":null,"u":"\"results_ur"}"#;
        for size in 1..theirs.len() {
            assert_eq!(rewritten(theirs, size), ours, "{size}");
        }
    }

    #[test]
    fn what_is_held_back_is_bounded() {
        let mut rewriter = Rewriter::new(&origin("", 443));
        rewriter.feed(Bytes::from_static(b"\"results_url\":"));
        for _ in 0..100 {
            rewriter.feed(Bytes::from_static(b"                "));
            assert!(rewriter.held.len() < 256);
        }
    }
}
