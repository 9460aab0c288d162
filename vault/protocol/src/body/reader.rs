//! Walks a dialect's tables along the events of one body.
//!
//! Invariant: below a free-form value it only counts depth, whatever names stand there.
//! Invariant: it holds one frame per open container that a table reaches, at most the lexer's `MAX_DEPTH`.

use strongroom_policy::claims::Claims;
use strongroom_policy::dialect::Dialect;

use super::claim::{Standing, Sum, Value};
use super::lexer::Event;
use super::name::Spelling;
use super::tree::{FREE, Member, Shape, within};
use super::{BodyError, Shown, anthropic, gemini, openai};

/// The state between two events.
#[derive(Debug)]
pub(super) struct Reader {
    sum: Sum,
    spelling: Spelling,
    root: Member,
    frames: Vec<Frame>,
    /// Open containers of the free-form value within which it stands.
    free_depth: u32,
}

#[derive(Debug)]
enum Frame {
    Object(Object),
    Array(Member),
}

/// An open object that a table reaches.
#[derive(Debug)]
struct Object {
    shape: &'static Shape,
    /// Names that came.
    seen: u64,
    /// Names whose value was not null.
    given: u64,
    /// The value of `type`, when it is one of the harmless ones.
    of_type: Option<&'static str>,
    /// The name that came last.
    next: Member,
    next_bit: u64,
}

impl Reader {
    pub(super) fn new(dialect: Dialect, sum: Sum) -> Self {
        let (spelling, shape) = match dialect {
            Dialect::OpenAi | Dialect::Xai => (Spelling::AsListed, &openai::BODY),
            Dialect::Anthropic => (Spelling::AsListed, &anthropic::BODY),
            Dialect::Gemini => (Spelling::CamelOrSnake, &gemini::BODY),
        };
        // As deep as most bodies are; sixteen would be beyond what malloc gives quickly.
        let frames = Vec::with_capacity(8);
        Self { sum, spelling, root: within("body", shape), frames, free_depth: 0 }
    }

    pub(super) fn finish(self) -> Claims {
        self.sum.finish()
    }

    pub(super) fn take(&mut self, event: &Event<'_>) -> Result<(), BodyError> {
        if self.free_depth > 0 {
            self.pass(event);
            return Ok(());
        }
        match event {
            Event::Name(name) => self.name(name.whole()),
            Event::Close => {
                self.close();
                Ok(())
            }
            Event::Object => self.object(),
            Event::Array => self.array(),
            Event::Text(text) => self.value(Value::Text(text)).map(drop),
            Event::Number(number) => self.value(Value::Number(number)).map(drop),
            Event::Bool(truth) => self.value(Value::Bool(*truth)).map(drop),
            Event::Null => self.value(Value::Null).map(drop),
        }
    }

    fn pass(&mut self, event: &Event<'_>) {
        match event {
            Event::Object | Event::Array => self.free_depth = self.free_depth.saturating_add(1),
            Event::Close => self.free_depth = self.free_depth.saturating_sub(1),
            Event::Name(_) | Event::Text(_) | Event::Number(_) | Event::Bool(_) | Event::Null => {}
        }
    }

    fn name(&mut self, name: Option<&str>) -> Result<(), BodyError> {
        if let Some(Frame::Object(object)) = self.frames.last_mut() {
            let place = object.shape.find(name, self.spelling)?;
            if object.seen & place.bit != 0 {
                return Err(BodyError::Twice(Shown::of(name.unwrap_or_default())));
            }
            object.seen |= place.bit;
            object.next = place.member;
            object.next_bit = place.bit;
        }
        Ok(())
    }

    /// Applies a value to the claims; yields what its name, or its array's name, means.
    fn value(&mut self, value: Value<'_>) -> Result<Member, BodyError> {
        let (member, standing) = match self.frames.last() {
            None => (self.root, Standing::Alone),
            Some(Frame::Object(object)) => (object.next, Standing::Alone),
            Some(Frame::Array(of)) => (*of, Standing::Listed),
        };
        let word = self.sum.apply(&member, value, standing)?;
        if let Some(Frame::Object(object)) = self.frames.last_mut() {
            if !matches!(value, Value::Null) {
                object.given |= object.next_bit;
            }
            if member.name == "type" {
                object.of_type = word;
            }
        }
        Ok(member)
    }

    fn object(&mut self) -> Result<(), BodyError> {
        match self.value(Value::Object)?.inside {
            None => self.free_depth = 1,
            Some(shape) => self.frames.push(Frame::Object(Object {
                shape,
                seen: 0,
                given: 0,
                of_type: None,
                next: FREE,
                next_bit: 0,
            })),
        }
        Ok(())
    }

    fn array(&mut self) -> Result<(), BodyError> {
        let member = self.value(Value::Array)?;
        self.frames.push(Frame::Array(member));
        Ok(())
    }

    fn close(&mut self) {
        let Some(Frame::Object(object)) = self.frames.pop() else { return };
        for lacking in object.shape.lacking {
            let of_type = lacking.of_type.is_none() || lacking.of_type == object.of_type;
            let here = |name: &&str| object.given & object.shape.bit(name) != 0;
            if of_type && !lacking.without.iter().any(here) {
                self.sum.give(lacking.gives);
            }
        }
    }
}
