//! What a request body asks for, read from its bytes as they pass, in bounded memory.
//!
//! The gateway reads its buffered copy and the courier the bytes that travel with this same code, so the two cannot
//! disagree. Towards the provider's parser it is strict: what it accepts has one meaning for every parser.
//!
//! Invariant: the same bytes give the same claims, however they are cut into chunks.
//! Invariant: memory is bounded by constants, not by the body.
//! Trusts: nothing.
//! Distrusts: every byte of a body and of its `content-type`.

use std::fmt;

mod anthropic;
pub mod boundary;
mod claim;
mod delimiter;
mod gemini;
pub mod json;
mod lexer;
pub mod multipart;
mod name;
mod openai;
mod openai_item;
mod openai_tool;
mod part;
mod reader;
mod text;
mod tree;

#[cfg(test)]
mod agreement;
#[cfg(test)]
mod extent;
#[cfg(test)]
mod features;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod nested;

pub use boundary::{Boundary, boundary_of, check_json_type};

/// Why a body is refused. The text is for the caller and is stable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The media type or its parameters are not the ones that are read.
    #[error("the content-type must be {0}")]
    MediaType(&'static str),
    /// Not JSON as RFC 8259 writes it.
    #[error("the body is not strict JSON at byte {at}: {flaw}")]
    Json {
        /// What is wrong.
        flaw: Flaw,
        /// How many bytes were read before it was seen.
        at: u64,
    },
    /// A name that matters stands twice in one object, or a part twice in one form.
    #[error("'{0}' is given twice")]
    Twice(Shown),
    /// A name that matters in a spelling that another parser may read and this API does not use.
    #[error("'{found}' must be spelled '{expected}'")]
    Spelling {
        /// As it was sent.
        found: Shown,
        /// As the API spells it.
        expected: &'static str,
    },
    /// A name longer than any that the API has.
    #[error("a name in the body is too long")]
    LongName,
    /// A value of another kind than the API defines, which a lenient parser might convert.
    #[error("'{name}' must be {rule}")]
    Value {
        /// The name in the API.
        name: &'static str,
        /// What its value must be.
        rule: &'static str,
    },
    /// Two models in one body, or another one than the path names.
    #[error("the body names another model than the path or the body before it")]
    OtherModel,
    /// A list of models to choose from, which no rule could judge.
    #[error("'{0}' is refused: one call names one model")]
    ModelList(&'static str),
    /// Not multipart as RFC 7578 writes it.
    #[error("the body is not canonical multipart: {0}")]
    Form(FormFlaw),
}

/// What is not JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Bytes EF BB BF in front.
    #[error("a byte order mark")]
    ByteOrderMark,
    /// The value is not an object.
    #[error("the body must be one object")]
    NotAnObject,
    /// A byte that cannot stand here.
    #[error("an unexpected byte")]
    Byte,
    /// Text after the value.
    #[error("text after the object")]
    Trailing,
    /// The end came too early.
    #[error("the body ends too early")]
    Truncated,
    /// Not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// A raw control character in a string.
    #[error("a control character in a string")]
    Control,
    /// An unknown escape.
    #[error("an escape that JSON does not have")]
    Escape,
    /// Half of a surrogate pair.
    #[error("an unpaired surrogate escape")]
    Surrogate,
    /// A number that JSON does not have, or that no double holds.
    #[error("a number that JSON does not have or that is out of range")]
    Number,
    /// A number of too many bytes.
    #[error("a number of too many digits")]
    LongNumber,
    /// Deeper than `MAX_DEPTH` in the lexer.
    #[error("nesting deeper than 64")]
    Depth,
    /// U+0000 in a name, where parsers in C end it.
    #[error("a name that contains U+0000")]
    NulName,
}

/// What is not canonical multipart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormFlaw {
    /// Text before the first boundary.
    #[error("it must begin with the boundary")]
    Preamble,
    /// The boundary without CRLF around it.
    #[error("a boundary must stand on a line of its own between CRLF")]
    BoundaryLine,
    /// Text after the last boundary.
    #[error("text after the last boundary")]
    Epilogue,
    /// The end came too early.
    #[error("the body ends before the last boundary")]
    Truncated,
    /// Headers of a part too long.
    #[error("the headers of a part are too long")]
    LongHeaders,
    /// A header other than the two, one twice, or one oddly written.
    #[error(
        "a part has exactly one 'Content-Disposition: form-data; name=\"…\"' with at most a filename, and at most \
         one 'Content-Type'"
    )]
    Header,
    /// A part that decides what is allowed, sent as a file or with a type.
    #[error("'{0}' must be a plain part")]
    NotPlain(&'static str),
    /// A part that decides what is allowed, too long or not text.
    #[error("the value of '{0}' is not valid")]
    PartValue(&'static str),
}

/// A name from a body, cut to 64 bytes, what is not visible ASCII replaced: safe in logs and answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Shown(String);

/// Bytes of a body's name that an error repeats.
const SHOWN_BYTES: usize = 64;

impl Shown {
    fn of(name: &str) -> Self {
        let visible = |c: char| if c.is_ascii_graphic() && c != '\'' { c } else { '?' };
        Self(name.chars().take(SHOWN_BYTES).map(visible).collect())
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
