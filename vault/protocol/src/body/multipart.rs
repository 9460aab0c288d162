//! Reads the claims of a multipart form as it passes.
//!
//! Canonical form only (RFC 7578): CRLF everywhere, nothing before the first boundary or after the last but one CRLF,
//! and the boundary's text nowhere but on its own line, so that a parser that also takes a bare LF sees the same parts.
//!
//! Invariant: parts that decide (`model`, `stream`, `n`) come once each, as plain text. The SDKs put them before a file or
//! after it: the claims are whole at the form's end, and whoever goes on before must compare again there.
//! Invariant: after an error every later call gives the same error.
//! Distrusts: every byte of the body.

use strongroom_policy::claims::{Claims, Extent, Feature, Stream};
use strongroom_policy::name::ModelName;

use super::boundary::Boundary;
use super::delimiter::{Content, Delimiter};
use super::part::{Carries, Head, Role};
use super::{BodyError, FormFlaw, Shown};

/// A form being read.
#[derive(Debug)]
pub struct Scanner {
    state: State,
    delimiter: Delimiter,
    head: Vec<u8>,
    role: Role,
    content: Content,
    claims: Claims,
    /// Bits of the parts that decide and came.
    seen: u8,
    files: Files,
    failed: Option<BodyError>,
}

/// Bytes of a part's headers: real ones have below 300.
const MAX_HEAD_BYTES: usize = 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first boundary, with its bytes that came.
    Start(usize),
    /// Behind a boundary.
    Boundary,
    /// Behind a boundary and CR.
    Line,
    /// Behind a boundary and a dash.
    Dash,
    Head,
    Content,
    /// Behind the last boundary.
    Last,
    /// Behind that and CR.
    LastLine,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Files {
    NoneYet,
    Begun,
}

impl Scanner {
    /// Begins a form.
    pub fn new(boundary: &Boundary) -> Self {
        Self {
            state: State::Start(0),
            delimiter: Delimiter::new(boundary),
            head: Vec::new(),
            role: Role::Free,
            content: Content::default(),
            // A form is sent for the files in it.
            claims: Claims { extent: Extent::Media, ..Claims::of_no_body(None) },
            seen: 0,
            files: Files::NoneYet,
            failed: None,
        }
    }

    /// Reads the next bytes, cut anywhere.
    ///
    /// # Errors
    /// See [`BodyError`]; the call must then not be completed.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<(), BodyError> {
        let mut input = chunk;
        while self.failed.is_none() && !input.is_empty() {
            self.failed = self.step(&mut input).err();
        }
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// The claims of the parts that have ended.
    pub fn so_far(&self) -> &Claims {
        &self.claims
    }

    /// The claims so far, from the first file on: for readers who cannot hold the file. A part behind it may still change them.
    pub fn at_file(&self) -> Option<&Claims> {
        let ended = matches!(self.state, State::Last | State::LastLine | State::End);
        let settled = ended || self.files == Files::Begun;
        (settled && self.failed.is_none()).then_some(&self.claims)
    }

    /// Ends the form.
    ///
    /// # Errors
    /// When the form is not complete, or an earlier call failed.
    pub fn finish(self) -> Result<Claims, BodyError> {
        match (self.failed, self.state) {
            (Some(error), _) => Err(error),
            (None, State::Last | State::End) => Ok(self.claims),
            (None, _) => Err(BodyError::Form(FormFlaw::Truncated)),
        }
    }

    fn step(&mut self, input: &mut &[u8]) -> Result<(), BodyError> {
        if self.state == State::Content {
            return self.read_content(input);
        }
        let Some((&byte, rest)) = input.split_first() else { return Ok(()) };
        *input = rest;
        self.state = match (self.state, byte) {
            (State::Start(at), _) => self.start(at, byte)?,
            (State::Boundary, b'\r') => State::Line,
            (State::Boundary, b'-') => State::Dash,
            (State::Line, b'\n') => State::Head,
            (State::Dash, b'-') => State::Last,
            (State::Head, _) => self.read_head(byte)?,
            (State::Content, _) => State::Content,
            (State::Last, b'\r') => State::LastLine,
            (State::LastLine, b'\n') => State::End,
            (State::Boundary | State::Line | State::Dash, _) => {
                return Err(BodyError::Form(FormFlaw::BoundaryLine));
            }
            (State::Last | State::LastLine | State::End, _) => {
                return Err(BodyError::Form(FormFlaw::Epilogue));
            }
        };
        Ok(())
    }

    fn start(&self, at: usize, byte: u8) -> Result<State, BodyError> {
        if self.delimiter.line().get(at) != Some(&byte) {
            return Err(BodyError::Form(FormFlaw::Preamble));
        }
        let at = at.saturating_add(1);
        Ok(if at == self.delimiter.line().len() { State::Boundary } else { State::Start(at) })
    }

    fn read_head(&mut self, byte: u8) -> Result<State, BodyError> {
        if self.head.len() >= MAX_HEAD_BYTES {
            return Err(BodyError::Form(FormFlaw::LongHeaders));
        }
        self.head.push(byte);
        let Some(lines) = self.head.strip_suffix(b"\r\n") else { return Ok(State::Head) };
        if !lines.is_empty() && !lines.ends_with(b"\r\n") {
            return Ok(State::Head);
        }
        let head = Head::parse(lines).map_err(BodyError::Form)?;
        self.head.clear();
        self.begin_part(&head)?;
        Ok(State::Content)
    }

    fn begin_part(&mut self, head: &Head) -> Result<(), BodyError> {
        let (role, bit) = Role::of(&head.name)?;
        if head.carries == Carries::File {
            self.files = Files::Begun;
        }
        if self.seen & bit != 0 {
            return Err(BodyError::Twice(Shown::of(&head.name)));
        }
        if role != Role::Free && head.carries != Carries::Text {
            return Err(BodyError::Form(FormFlaw::NotPlain(role.name())));
        }
        self.seen |= bit;
        self.role = role;
        self.content = Content::default();
        Ok(())
    }

    fn read_content(&mut self, input: &mut &[u8]) -> Result<(), BodyError> {
        if !self.delimiter.search(input, &mut self.content) {
            return Ok(());
        }
        if !self.content.ends_a_line() {
            return Err(BodyError::Form(FormFlaw::BoundaryLine));
        }
        self.state = State::Boundary;
        self.end_part()
    }

    fn end_part(&mut self) -> Result<(), BodyError> {
        let role = self.role;
        if role == Role::Free {
            return Ok(());
        }
        let wrong = BodyError::Form(FormFlaw::PartValue(role.name()));
        let value = self.content.value().ok_or_else(|| wrong.clone());
        match role {
            Role::Free => {}
            Role::Model => {
                self.claims.model = Some(ModelName::parse(value?).map_err(|_| wrong)?);
            }
            Role::Stream => match value? {
                "true" => self.claims.stream = Stream::Streamed,
                "false" => {}
                _ => return Err(wrong),
            },
            Role::Answers => {
                let digits = value?;
                let count: u32 = digits.parse().map_err(|_| wrong.clone())?;
                if digits.starts_with('+') {
                    return Err(wrong);
                }
                self.claims.answers = count.max(1);
                if count > 1 {
                    self.give(Feature::ManyAnswers);
                }
            }
            Role::Address if self.content.begins_as_data() => {}
            Role::Address => self.give(Feature::RemoteUrls),
            Role::Reference => self.give(Feature::ObjectReferences),
        }
        Ok(())
    }

    fn give(&mut self, feature: Feature) {
        self.claims.features = self.claims.features.with(feature);
    }
}
