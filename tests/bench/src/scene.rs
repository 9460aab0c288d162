//! What is asked for: a kind of reply, over so many connections.
//!
//! Invariant: the body of a request is the same for every target, byte for byte.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::target::Target;

/// A kind of reply that the emulator gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// One JSON body with its length.
    Plain,
    /// 64 chunks in one write.
    Burst,
    /// 64 chunks, 5 ms apart.
    Paced,
}

/// One measurement's load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Scene {
    /// What is answered.
    pub(crate) kind: Kind,
    /// How many connections ask, each its next request as soon as the reply is whole.
    pub(crate) connections: u16,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::Burst, Self::Paced];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Burst => "burst",
            Self::Paced => "paced",
        }
    }

    /// The request's bytes, as an SDK would send them.
    pub(crate) fn request(self, target: &Target) -> Vec<u8> {
        let stream = match self {
            Self::Plain => "",
            Self::Burst | Self::Paced => ",\"stream\":true",
        };
        let body = format!(
            "{{\"model\":\"bench-{}\",\"messages\":[{{\"role\":\"system\",\"content\":\"{}\"}},\
             {{\"role\":\"user\",\"content\":\"How fast is it?\"}}],\"max_tokens\":64{stream}}}",
            self.name(),
            "You answer in measured words. ".repeat(16)
        );
        let Target { host, path, token, .. } = target;
        format!(
            "POST {path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {token}\r\n\
             accept: application/json\r\ncontent-type: application/json\r\n\
             user-agent: OpenAI/Python 2.8.0\r\nx-stainless-lang: python\r\n\
             x-stainless-retry-count: 0\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} × {}", self.kind.name(), self.connections)
    }
}
