//! A gateway's end of a lane.

use std::path::Path;

use strongroom_policy::claims::Length;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::call::{
    Abort, AnswerHead, CallHead, FrameHeader, FrameKind, HEADER_BYTES, decode, encode,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::scene::PATIENCE;

pub(crate) struct TestLane {
    stream: UnixStream,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) head: Option<AnswerHead>,
    pub(crate) body: Vec<u8>,
    pub(crate) chunks: Vec<usize>,
    pub(crate) ending: Result<(), Refusal>,
}

impl Got {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn status(&self) -> Option<u16> {
        self.head.as_ref().map(|head| head.status)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let headers = &self.head.as_ref()?.headers;
        headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Everything a caller could see.
    pub(crate) fn all(&self) -> String {
        format!("{:?} {}", self.head, self.text())
    }
}

pub(crate) fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let mut frame = FrameHeader::bytes(kind, payload.len()).unwrap().to_vec();
    frame.extend_from_slice(payload);
    frame
}

pub(crate) fn head(ticket: Ticket, headers: &[(&str, &str)], length: Length) -> Vec<u8> {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    encode(FrameKind::Head, &CallHead { ticket, headers: headers.collect(), length }).unwrap()
}

pub(crate) const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

impl TestLane {
    pub(crate) async fn open(path: &Path) -> Self {
        Self { stream: UnixStream::connect(path).await.unwrap() }
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Head, body and end in one write, as small calls go.
    pub(crate) async fn send(&mut self, ticket: Ticket, body: &str) {
        self.send_with(ticket, JSON, body).await;
    }

    pub(crate) async fn send_with(&mut self, ticket: Ticket, headers: &[(&str, &str)], body: &str) {
        let length = Length::Known(body.len() as u64);
        let mut all = head(ticket, headers, length);
        if !body.is_empty() {
            all.extend(frame(FrameKind::Body, body.as_bytes()));
        }
        all.extend(frame(FrameKind::BodyEnd, b""));
        self.write(&all).await;
    }

    pub(crate) async fn cancel(&mut self) {
        self.write(&frame(FrameKind::Cancel, b"")).await;
    }

    /// One frame; `None` when the lane was closed.
    pub(crate) async fn frame(&mut self) -> Option<(FrameKind, Vec<u8>)> {
        let read = async {
            let mut header = [0; HEADER_BYTES];
            self.stream.read_exact(&mut header).await.ok()?;
            let header = FrameHeader::parse(header).unwrap();
            let mut payload = vec![0; header.length];
            self.stream.read_exact(&mut payload).await.unwrap();
            Some((header.kind, payload))
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap()
    }

    /// Reads to the courier's terminal frame.
    pub(crate) async fn answer(&mut self) -> Got {
        let mut got = Got { head: None, body: Vec::new(), chunks: Vec::new(), ending: Ok(()) };
        loop {
            let (kind, payload) = self.frame().await.unwrap();
            match kind {
                FrameKind::Answer => got.head = Some(decode(&payload).unwrap()),
                FrameKind::Chunk => {
                    got.chunks.push(payload.len());
                    got.body.extend(payload);
                }
                FrameKind::End => return got,
                FrameKind::Abort => {
                    got.ending = Err(decode::<Abort>(&payload).unwrap().refusal);
                    return got;
                }
                _ => panic!("{kind:?} is no frame of the courier's"),
            }
        }
    }
}
