//! Reads the claims of a JSON body as it passes.
//!
//! Invariant: [`Scanner::finish`] yields claims only for one strict RFC 8259 object in which no name that matters is
//! given twice, oddly spelled, or with a value of a wrong kind.
//! Invariant: after an error every later call gives the same error.
//! Distrusts: every byte of the body.
//!
//! What is unknown: a new name at the top of a body counts as [`Feature::HostedTools`] unless its value is null,
//! false or a number; a new kind of tool likewise; inside messages an unknown part is searched for addresses and file
//! ids. Arguments of functions, schemas, metadata and texts are the user's and are not looked into.
//!
//! [`Feature::HostedTools`]: strongroom_policy::claims::Feature::HostedTools

use strongroom_policy::claims::{Claims, Stream};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::ModelName;
use strongroom_policy::target::Target;

use super::BodyError;
use super::claim::{Keeping, Sum};
use super::lexer::Lexer;
use super::reader::Reader;

/// A JSON body being read.
#[derive(Debug)]
pub struct Scanner {
    lexer: Lexer,
    reader: Reader,
    read_bytes: u64,
    failed: Option<BodyError>,
}

impl Scanner {
    /// Begins a body.
    ///
    /// The target says what the body does not: `…:streamGenerateContent` streams, `…/responses` keeps its answer
    /// unless told otherwise. `path_model` is what the path rule found; a model in the body must be the same.
    pub fn new(dialect: Dialect, target: &Target, path_model: Option<ModelName>) -> Self {
        let last = target.segments().last().unwrap_or_default();
        let stream = match dialect {
            Dialect::Gemini if last.ends_with(":streamGenerateContent") => Stream::Streamed,
            Dialect::Gemini | Dialect::OpenAi | Dialect::Anthropic | Dialect::Xai => Stream::Whole,
        };
        let keeping = if last == "responses" { Keeping::ByDefault } else { Keeping::OnRequest };
        let sum = Sum::new(dialect, path_model, stream, keeping);
        let reader = Reader::new(dialect, sum);
        Self { lexer: Lexer::new(), reader, read_bytes: 0, failed: None }
    }

    /// Reads the next bytes, cut anywhere.
    ///
    /// # Errors
    /// See [`BodyError`]; the call must then not be completed.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let read = self.read(chunk);
        if let Err(error) = &read {
            self.failed = Some(error.clone());
        }
        read
    }

    /// Ends the body.
    ///
    /// # Errors
    /// When the object is not complete, or an earlier call failed.
    pub fn finish(self) -> Result<Claims, BodyError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let at = self.read_bytes;
        self.lexer.finish().map_err(|flaw| BodyError::Json { flaw, at })?;
        Ok(self.reader.finish())
    }

    fn read(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        let before = self.read_bytes;
        let mut input = chunk;
        loop {
            match self.lexer.next(&mut input) {
                Ok(Some(event)) => self.reader.take(&event)?,
                Ok(None) => break,
                Err(flaw) => return Err(BodyError::Json { flaw, at: place(before, chunk, input) }),
            }
        }
        self.read_bytes = place(before, chunk, input);
        Ok(())
    }
}

/// How many bytes were read up to `rest`.
fn place(before: u64, chunk: &[u8], rest: &[u8]) -> u64 {
    let read = chunk.len().saturating_sub(rest.len());
    u64::try_from(read).map_or(u64::MAX, |read| before.saturating_add(read))
}
