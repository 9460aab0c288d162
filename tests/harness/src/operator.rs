//! `operator.sock` spoken by hand: what the operator's own tool would never send.
//!
//! Invariant: frames are the protocol's own, so that what is refused is the content and not the form.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use strongroom_protocol::frame::{MAX_OPERATOR_BYTES, PREFIX_BYTES, announced, decode, encode};
use strongroom_protocol::operator::{Answer, Request};

use crate::patience::PATIENCE;

/// A conversation with the keeper.
pub struct Operator(UnixStream);

impl Operator {
    /// Connects to the appliance whose sockets are below `run`.
    pub fn connect(run: &Path) -> Self {
        let stream = UnixStream::connect(run.join("operator").join("operator.sock"));
        let stream = stream.expect("the keeper listens to operators");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        Self(stream)
    }

    /// Asks.
    pub fn ask(&mut self, request: &Request) -> Answer {
        let frame = encode(request, MAX_OPERATOR_BYTES).expect("a frame");
        self.raw(&frame).expect("an answer")
    }

    /// Sends bytes as they are and reads one answer.
    ///
    /// # Errors
    /// When the keeper ends the conversation.
    pub fn raw(&mut self, bytes: &[u8]) -> io::Result<Answer> {
        decode(&self.answer_to(bytes)?).map_err(io::Error::other)
    }

    /// Sends bytes as they are and reads one answer's.
    ///
    /// # Errors
    /// When the keeper ends the conversation.
    pub fn answer_to(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        self.0.write_all(bytes)?;
        let mut prefix = [0_u8; PREFIX_BYTES];
        self.0.read_exact(&mut prefix)?;
        let length = announced(prefix, MAX_OPERATOR_BYTES).map_err(io::Error::other)?;
        let mut body = vec![0_u8; length];
        self.0.read_exact(&mut body)?;
        Ok(body)
    }
}
