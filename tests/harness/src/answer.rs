//! An answer as a client has it, and what tests ask of it.
//!
//! Invariant: an assertion that fails tells the whole story.

use serde_json::Value;

use crate::client::Ending;

/// An answer, as far as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status; 0 when not even a head came.
    pub status: u16,
    /// Names in lower case, in their order.
    pub headers: Vec<(String, String)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// The sizes of its chunks, when it came in chunks.
    pub chunks: Vec<usize>,
    /// How it ended.
    pub ending: Ending,
}

impl Answer {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The stable code of a refusal of ours.
    pub fn refusal(&self) -> Option<&str> {
        self.header("x-strongroom-refusal")
    }

    /// The call's id.
    pub fn call_id(&self) -> Option<&str> {
        self.header("x-strongroom-call")
    }

    /// All bytes that the client saw, headers included.
    pub fn visible(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for (name, value) in &self.headers {
            all.extend_from_slice(format!("{name}: {value}\n").as_bytes());
        }
        all.extend_from_slice(&self.body);
        all
    }

    /// The answer, which must have this status and be whole.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn is(self, status: u16) -> Self {
        assert_eq!((self.status, self.ending), (status, Ending::Complete), "{}", self.story());
        self
    }

    /// The answer, which must be this refusal of ours.
    ///
    /// # Panics
    /// When it is another one.
    #[track_caller]
    pub fn refused(self, status: u16, code: &str) -> Self {
        assert_eq!((self.status, self.refusal()), (status, Some(code)), "{}", self.story());
        self
    }

    /// What happened, for failures.
    pub fn story(&self) -> String {
        let text = self.text();
        let short: String = text.chars().take(600).collect();
        format!("{} {:?} {:?}\n{short}", self.status, self.ending, self.headers)
    }
}
