//! The two heads of an exchange as they are read and written in place: the bytes of `CallHead` and `AnswerHead`, without a
//! copy of each name and value.
//!
//! Invariant: the encodings are those of the messages in `strongroom_protocol::call`, field by field; tests compare them.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use strongroom_policy::claims::Length;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::frame::FrameError;

/// A `CallHead`.
#[derive(Debug, Deserialize)]
pub(crate) struct Opening<'a> {
    pub(crate) ticket: Ticket,
    #[serde(borrow)]
    pub(crate) headers: Vec<(&'a str, &'a str)>,
    pub(crate) length: Length,
}

/// An `AnswerHead`.
#[derive(Debug, Serialize)]
pub(crate) struct Reply<'a> {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(crate) length: Option<u64>,
}

impl<'a> Opening<'a> {
    /// Reads a payload.
    ///
    /// # Errors
    /// When it is no `CallHead`, or does not end with it.
    pub(crate) fn parse(payload: &'a [u8]) -> Result<Self, FrameError> {
        match postcard::take_from_bytes(payload) {
            Ok((opening, [])) => Ok(opening),
            Ok(_) | Err(_) => Err(FrameError::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::call::{AnswerHead, CallHead, FrameKind, HEADER_BYTES, encode};
    use strongroom_protocol::frame::{PREFIX_BYTES, encode as encode_frame};

    use super::*;

    fn headers() -> Vec<(String, String)> {
        vec![("accept".to_owned(), "ü".to_owned()), (String::new(), "x".repeat(300))]
    }

    #[test]
    fn an_opening_is_what_a_call_head_says() {
        for length in [Length::Known(1 << 40), Length::Chunked] {
            let head = CallHead { ticket: Ticket([7; 16]), headers: headers(), length };
            let mut payload = encode(FrameKind::Head, &head).unwrap().split_off(HEADER_BYTES);
            let opening = Opening::parse(&payload).unwrap();
            assert_eq!((opening.ticket, opening.length), (head.ticket, head.length));
            let read = opening.headers.iter().map(|&(n, v)| (n.to_owned(), v.to_owned()));
            assert_eq!(read.collect::<Vec<_>>(), head.headers);
            for cut in 0..payload.len() {
                assert!(Opening::parse(&payload[..cut]).is_err(), "{cut}");
            }
            payload.push(0);
            assert!(Opening::parse(&payload).is_err());
        }
    }

    #[test]
    fn an_opening_that_is_not_text_is_refused() {
        let head = CallHead {
            ticket: Ticket([7; 16]),
            headers: vec![("accept".to_owned(), "Z".to_owned())],
            length: Length::Chunked,
        };
        let mut payload = encode(FrameKind::Head, &head).unwrap().split_off(HEADER_BYTES);
        let at = payload.iter().position(|&byte| byte == b'Z').unwrap();
        payload[at] = 0xff;
        assert!(Opening::parse(&payload).is_err());
    }

    #[test]
    fn a_reply_has_the_bytes_of_an_answer_head() {
        for length in [None, Some(0), Some(u64::MAX)] {
            let head = AnswerHead { status: 599, headers: headers(), length };
            let borrowed = head.headers.iter().map(|(n, v)| (n.as_str().into(), v.as_str().into()));
            let reply = Reply { status: head.status, headers: borrowed.collect(), length };
            let ours = encode_frame(&reply, 1000).unwrap();
            let theirs = encode(FrameKind::Answer, &head).unwrap();
            assert_eq!(ours[PREFIX_BYTES..], theirs[HEADER_BYTES..]);
        }
    }
}
