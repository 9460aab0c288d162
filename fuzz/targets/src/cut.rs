//! Text that comes in pieces: the input says where it is cut.
//!
//! ```text
//! input  count 1 ‖ sizes (count mod 8 bytes) ‖ text
//! ```
//! The sizes take turns until the text is used up, so that a few of them cut any length, and the text stays where it is when
//! a size changes.

/// A text and how it is cut.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cut<'a> {
    sizes: &'a [u8],
    pub(crate) text: &'a [u8],
}

impl<'a> Cut<'a> {
    /// Reads the input; one that is too short is a text without cuts.
    pub(crate) fn of(input: &'a [u8]) -> Self {
        let Some((count, rest)) = input.split_first() else {
            return Self { sizes: &[], text: input };
        };
        let (sizes, text) = rest.split_at_checked(usize::from(count % 8)).unwrap_or((&[], rest));
        Self { sizes, text }
    }

    /// Another text, cut in the same way.
    pub(crate) fn over<'b>(self, text: &'b [u8]) -> Cut<'b>
    where
        'a: 'b,
    {
        Cut { sizes: self.sizes, text }
    }

    /// The pieces; an empty one now and then, as sockets give none and decoders must bear.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.text;
        let mut sizes = self.sizes.iter().cycle();
        let all_empty = self.sizes.iter().all(|size| *size == 0);
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let size =
                sizes.next().filter(|_| !all_empty).map_or(rest.len(), |size| usize::from(*size));
            let (piece, later) = rest.split_at(size.min(rest.len()));
            rest = later;
            Some(piece)
        })
    }
}
