//! A TLS client that sends exactly the bytes it is given, and reads answers without leniency.
//!
//! Invariant: an answer that did not come to its own end is never taken for a whole one.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::answer::Answer;
use crate::patience::PATIENCE;
use crate::speak::Request;

/// Where to call, and whom to trust there.
#[derive(Clone)]
pub struct Gate {
    address: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

/// One TLS connection.
pub struct Connection {
    stream: StreamOwned<ClientConnection, TcpStream>,
    host: String,
    buffer: Vec<u8>,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// By its own framing.
    Complete,
    /// The connection broke or closed before that.
    Cut,
    /// Nothing more came in time.
    Silent,
}

/// The next thing of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes.
    Data(Vec<u8>),
    /// The end.
    Ended(Ending),
}

/// How a body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// After so many bytes.
    Length(usize),
    /// With the last chunk.
    Chunked,
}

impl Gate {
    /// Trusts the authorities in `pem`; speaks the protocols in `alpn`.
    ///
    /// # Panics
    /// When the PEM is none.
    pub fn new(address: SocketAddr, pem: &str, alpn: &[&str]) -> Self {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.add(certificate.expect("a certificate")).expect("an authority");
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").expect("a name");
        Self { address, name, config: Arc::new(config) }
    }

    /// Where it leads.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The TLS side, for clients of another kind.
    pub fn tls(&self) -> (Arc<ClientConfig>, ServerName<'static>) {
        (Arc::clone(&self.config), self.name.clone())
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When nobody listens, or the handshake fails.
    pub fn connect(&self) -> io::Result<Connection> {
        let tcp = TcpStream::connect_timeout(&self.address, PATIENCE)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        tcp.set_nodelay(true)?;
        let tls = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(io::Error::other)?;
        let mut stream = StreamOwned::new(tls, tcp);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock)?;
        }
        let host = format!("localhost:{}", self.address.port());
        Ok(Connection { stream, host, buffer: Vec::new() })
    }

    /// Makes a call on a connection of its own.
    ///
    /// # Panics
    /// When no connection can be had.
    #[track_caller]
    pub fn call(&self, request: &Request) -> Answer {
        let mut connection = self.connect().expect("the gateway listens");
        connection.call(request)
    }

    /// Sends bytes as they are on a connection of its own, and reads one answer.
    ///
    /// # Panics
    /// When no connection can be had.
    #[track_caller]
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut connection = self.connect().expect("the gateway listens");
        // A server that has refused already may have closed; its answer can still be read.
        let _refused = connection.send(bytes);
        connection.answer()
    }
}

impl Connection {
    /// What goes into `host`.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The version of TLS that was agreed.
    pub fn is_tls13(&self) -> bool {
        self.stream.conn.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3)
    }

    /// The protocol that was agreed.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.stream.conn.alpn_protocol()
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the other side has closed.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)?;
        self.stream.flush()
    }

    /// Makes a call and reads its answer.
    pub fn call(&mut self, request: &Request) -> Answer {
        let bytes = request.bytes(&self.host);
        let _refused = self.send(&bytes);
        self.answer()
    }

    /// Gives up: the TCP connection is closed without a word of TLS.
    pub fn drop_now(self) {
        let _closed = self.stream.sock.shutdown(std::net::Shutdown::Both);
    }

    /// How long to wait for the next byte.
    pub fn patience(&self, patience: Duration) {
        let _kept = self.stream.sock.set_read_timeout(Some(patience));
    }

    /// Reads one answer to its end.
    pub fn answer(&mut self) -> Answer {
        let mut answer = Answer {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
            chunks: Vec::new(),
            ending: Ending::Cut,
        };
        let framing = match self.head() {
            Ok((status, headers, framing)) => {
                (answer.status, answer.headers) = (status, headers);
                framing
            }
            Err(ending) => return Answer { ending, ..answer },
        };
        let mut body = Body::new(framing);
        loop {
            match self.piece(&mut body) {
                Piece::Data(data) => answer.body.extend_from_slice(&data),
                Piece::Ended(ending) => {
                    return Answer { ending, chunks: body.chunks, ..answer };
                }
            }
        }
    }

    /// Reads a head; interim answers are passed over.
    ///
    /// # Errors
    /// How it ended without one.
    #[expect(clippy::type_complexity, reason = "read in one place, destructured at once")]
    pub fn head(&mut self) -> Result<(u16, Vec<(String, String)>, Framing), Ending> {
        loop {
            let head = loop {
                if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n\r\n") {
                    break self.take(at + 4);
                }
                self.fill()?;
            };
            let text = String::from_utf8_lossy(&head).into_owned();
            let mut lines = text.split("\r\n");
            let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
            let status = status.and_then(|rest| rest.get(..3)).and_then(|code| code.parse().ok());
            let status = status.unwrap_or_else(|| panic!("not a status line: {text}"));
            if (100..200).contains(&status) {
                continue;
            }
            let headers: Vec<(String, String)> = lines
                .filter_map(|line| line.split_once(':'))
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect();
            let framing = framing(status, &headers);
            return Ok((status, headers, framing));
        }
    }

    /// Reads the next bytes of a body as they come.
    pub fn piece(&mut self, body: &mut Body) -> Piece {
        match body.framing {
            Framing::Length(0) => Piece::Ended(Ending::Complete),
            Framing::Length(left) => {
                if self.buffer.is_empty()
                    && let Err(ending) = self.fill()
                {
                    return Piece::Ended(ending);
                }
                let here = left.min(self.buffer.len());
                body.framing = Framing::Length(left - here);
                Piece::Data(self.take(here))
            }
            Framing::Chunked => match self.chunk() {
                Ok(data) if data.is_empty() => {
                    body.framing = Framing::Length(0);
                    Piece::Ended(Ending::Complete)
                }
                Ok(data) => {
                    body.chunks.push(data.len());
                    Piece::Data(data)
                }
                Err(ending) => Piece::Ended(ending),
            },
        }
    }

    /// Reads until `text` has come; false when the body ended before.
    pub fn await_text(&mut self, body: &mut Body, seen: &mut Vec<u8>, text: &str) -> bool {
        while memchr::memmem::find(seen, text.as_bytes()).is_none() {
            match self.piece(body) {
                Piece::Data(data) => seen.extend_from_slice(&data),
                Piece::Ended(_) => return false,
            }
        }
        true
    }

    /// Reads to the end of a body.
    pub fn rest(&mut self, body: &mut Body, seen: &mut Vec<u8>) -> Ending {
        loop {
            match self.piece(body) {
                Piece::Data(data) => seen.extend_from_slice(&data),
                Piece::Ended(ending) => return ending,
            }
        }
    }

    /// One chunk with its line; empty for the last.
    fn chunk(&mut self) -> Result<Vec<u8>, Ending> {
        let line = loop {
            if let Some(at) = memchr::memmem::find(&self.buffer, b"\r\n") {
                break self.take(at + 2);
            }
            self.fill()?;
        };
        let digits = String::from_utf8_lossy(&line).trim().to_owned();
        let size = usize::from_str_radix(&digits, 16)
            .unwrap_or_else(|_| panic!("not a chunk size: {digits:?}"));
        while self.buffer.len() < size + 2 {
            self.fill()?;
        }
        let mut data = self.take(size + 2);
        assert!(data.ends_with(b"\r\n"), "a chunk without its line end");
        data.truncate(size);
        Ok(data)
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    fn fill(&mut self) -> Result<(), Ending> {
        let mut space = vec![0_u8; 64 * 1024];
        loop {
            match self.stream.read(&mut space) {
                Ok(0) => return Err(Ending::Cut),
                Ok(read) => {
                    self.buffer.extend(space.iter().take(read));
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return Err(Ending::Silent);
                }
                Err(_) => return Err(Ending::Cut),
            }
        }
    }
}

/// A body that is being read.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    /// The sizes of the chunks so far.
    pub chunks: Vec<usize>,
}

impl Body {
    /// A body that has just begun.
    pub const fn new(framing: Framing) -> Self {
        Self { framing, chunks: Vec::new() }
    }
}

fn framing(status: u16, headers: &[(String, String)]) -> Framing {
    let value = |name: &str| {
        let mut found = headers.iter().filter(|(known, _)| known == name);
        let first = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} comes twice: {headers:?}");
        first
    };
    match (value("transfer-encoding"), value("content-length")) {
        (Some("chunked"), None) => Framing::Chunked,
        (None, Some(length)) => Framing::Length(length.parse().expect("a length")),
        (None, None) if status == 204 || status == 304 => Framing::Length(0),
        _ => panic!("an answer framed in no way or two ways: {status} {headers:?}"),
    }
}
