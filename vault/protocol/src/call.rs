//! `call.sock`: the bytes of calls, one exchange at a time on each lane (connection).
//!
//! A frame is `kind (1) ‖ length (3, little endian) ‖ payload`. One exchange is, from the gateway,
//! `Head Body* (BodyEnd Cancel? | Cancel)` and, from the courier, `(Answer Chunk* End) | (Answer? Chunk* Abort)`.
//! `Cancel` after `BodyEnd` says that nobody waits for the answer any more. After its own last frame the courier
//! reads on until the gateway's; a `Cancel` that crossed the courier's last frame means nothing. The gateway begins
//! the next exchange when both last frames have passed. A closed lane cancels what runs on it.
//!
//! Invariant: no HTTP between our processes, so there is nothing to smuggle, and a broken answer cannot look finished.

use serde::{Deserialize, Serialize};
use strongroom_policy::claims::Length;
use strongroom_policy::refusal::Refusal;

use crate::ask::Ticket;
use crate::frame::FrameError;

/// Bytes before a payload.
pub const HEADER_BYTES: usize = 4;
/// Largest payload: one read of a TLS record and its neighbours.
pub const MAX_PAYLOAD_BYTES: usize = 64 * 1024;
/// What most messages fit in.
const USUAL_BYTES: usize = 1024;
/// Most headers in one head, either way.
pub const MAX_HEADERS: usize = 100;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// Gateway: a [`CallHead`].
    Head,
    /// Gateway: bytes of the request body.
    Body,
    /// Gateway: the request body is complete. Terminal.
    BodyEnd,
    /// Gateway: nobody waits for the answer any more. Terminal.
    Cancel,
    /// Courier: an [`AnswerHead`].
    Answer,
    /// Courier: bytes of the answer.
    Chunk,
    /// Courier: the answer is complete. Terminal.
    End,
    /// Courier: there is no answer, or no more of it; an [`Abort`]. Terminal.
    Abort,
}

impl FrameKind {
    /// The byte on the wire.
    pub const fn byte(self) -> u8 {
        match self {
            Self::Head => 1,
            Self::Body => 2,
            Self::BodyEnd => 3,
            Self::Cancel => 4,
            Self::Answer => 17,
            Self::Chunk => 18,
            Self::End => 19,
            Self::Abort => 20,
        }
    }

    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Head,
            2 => Self::Body,
            3 => Self::BodyEnd,
            4 => Self::Cancel,
            17 => Self::Answer,
            18 => Self::Chunk,
            19 => Self::End,
            20 => Self::Abort,
            _ => return None,
        })
    }
}

/// A frame's header, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// What follows.
    pub kind: FrameKind,
    /// How many bytes of it.
    pub length: usize,
}

impl FrameHeader {
    /// Reads a header.
    ///
    /// # Errors
    /// An unknown kind, a length over the limit, or a payload where none belongs.
    pub fn parse(bytes: [u8; HEADER_BYTES]) -> Result<Self, FrameError> {
        let [kind, low, middle, high] = bytes;
        let kind = FrameKind::of(kind).ok_or(FrameError::Malformed)?;
        let length =
            usize::try_from(u32::from_le_bytes([low, middle, high, 0])).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD_BYTES {
            return Err(FrameError::TooLong { length, limit: MAX_PAYLOAD_BYTES });
        }
        match kind {
            FrameKind::BodyEnd | FrameKind::Cancel | FrameKind::End if length != 0 => {
                Err(FrameError::Malformed)
            }
            FrameKind::Head
            | FrameKind::Body
            | FrameKind::BodyEnd
            | FrameKind::Cancel
            | FrameKind::Answer
            | FrameKind::Chunk
            | FrameKind::End
            | FrameKind::Abort => Ok(Self { kind, length }),
        }
    }

    /// The header of a payload.
    ///
    /// # Errors
    /// A length over the limit.
    pub fn bytes(kind: FrameKind, length: usize) -> Result<[u8; HEADER_BYTES], FrameError> {
        let too_long = FrameError::TooLong { length, limit: MAX_PAYLOAD_BYTES };
        if length > MAX_PAYLOAD_BYTES {
            return Err(too_long);
        }
        let [low, middle, high, _] = u32::try_from(length).map_err(|_| too_long)?.to_le_bytes();
        Ok([kind.byte(), low, middle, high])
    }
}

/// The gateway's opening of an exchange. Method, target and destination are not here: the courier has them from the keeper.
#[derive(Debug, Serialize, Deserialize)]
pub struct CallHead {
    /// The keeper's leave.
    pub ticket: Ticket,
    /// Request headers that may travel, names in lower case.
    pub headers: Vec<(String, String)>,
    /// How long the body is.
    pub length: Length,
}

/// The head of the provider's answer, filtered and scrubbed.
#[derive(Debug, Serialize, Deserialize)]
pub struct AnswerHead {
    /// The status.
    pub status: u16,
    /// Headers that may travel, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body's length, when the provider said it.
    pub length: Option<u64>,
}

/// Why there is no answer, or no more of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abort {
    /// Which refusal.
    pub refusal: Refusal,
}

/// Encodes a frame whose payload is a message.
///
/// # Errors
/// When the message is longer than a frame.
pub fn encode<M: Serialize>(kind: FrameKind, message: &M) -> Result<Vec<u8>, FrameError> {
    // Room for a usual head: growing step by step costs more than encoding.
    let mut frame = Vec::with_capacity(USUAL_BYTES);
    frame.extend_from_slice(&[0; HEADER_BYTES]);
    frame = postcard::to_extend(message, frame).map_err(|_| FrameError::Malformed)?;
    let length = frame.len().saturating_sub(HEADER_BYTES);
    let header = FrameHeader::bytes(kind, length)?;
    if let Some(slot) = frame.first_chunk_mut::<HEADER_BYTES>() {
        *slot = header;
    }
    Ok(frame)
}

/// Decodes a payload that is a message; it may borrow from the payload.
///
/// # Errors
/// When it is none, or does not end with it.
pub fn decode<'p, M: Deserialize<'p>>(payload: &'p [u8]) -> Result<M, FrameError> {
    match postcard::take_from_bytes::<M>(payload) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(FrameError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::{FrameHeader, FrameKind, MAX_PAYLOAD_BYTES};

    #[test]
    fn headers_read_back_and_odd_ones_are_refused() {
        let kinds = [
            FrameKind::Head,
            FrameKind::Body,
            FrameKind::Answer,
            FrameKind::Chunk,
            FrameKind::Abort,
        ];
        for kind in kinds {
            let bytes = FrameHeader::bytes(kind, MAX_PAYLOAD_BYTES).unwrap();
            assert_eq!(
                FrameHeader::parse(bytes).unwrap(),
                FrameHeader { kind, length: MAX_PAYLOAD_BYTES }
            );
        }
        assert!(FrameHeader::bytes(FrameKind::Body, MAX_PAYLOAD_BYTES + 1).is_err());
        assert!(FrameHeader::parse([2, 1, 0, 1]).is_err());
        assert!(FrameHeader::parse([3, 1, 0, 0]).is_err());
        assert!(FrameHeader::parse([0, 0, 0, 0]).is_err());
        assert!(FrameHeader::parse([99, 0, 0, 0]).is_err());
    }
}
