//! A request's head, as HTTP/1.1 and HTTP/2 both bring it.
//!
//! Invariant: names are in lower case, values and target as they came; nothing is decoded.
//! Invariant: nothing that holds a token's text can be printed: no `Debug`.
//! Distrusts: all of it.

use http::Version;

/// A head that was read.
pub struct RequestHead<'r> {
    /// As in the request line.
    pub method: &'r str,
    /// Path and query, raw.
    pub target: &'r str,
    /// Of an absolute target, or HTTP/2's `:authority`.
    pub authority: Option<&'r str>,
    /// 1.0, 1.1 or 2.
    pub version: Version,
    /// The header lines.
    pub lines: Lines<'r>,
}

/// Header lines in their order.
#[derive(Default)]
pub struct Lines<'r>(Vec<(&'r str, &'r [u8])>);

impl<'r> Lines<'r> {
    /// Every line.
    pub fn iter(&self) -> impl Iterator<Item = (&'r str, &'r [u8])> {
        self.0.iter().copied()
    }

    /// How many lines there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl<'r> FromIterator<(&'r str, &'r [u8])> for Lines<'r> {
    fn from_iter<T: IntoIterator<Item = (&'r str, &'r [u8])>>(lines: T) -> Self {
        Self(lines.into_iter().collect())
    }
}
