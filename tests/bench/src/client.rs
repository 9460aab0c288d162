//! A client that costs little: one TLS 1.3 connection, requests as ready bytes, replies compared with what is due.
//!
//! Invariant: a reply counts only if its status is 200 and its body is, byte for byte, the expected one.

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::reply::{Progress, Reply};
use crate::target::Target;

/// One TLS record: what one read of the session yields at most.
const READ_BYTES: usize = 16 * 1024;
const HANDSHAKE: Duration = Duration::from_secs(20);
/// Enough of a refusal to say what it was.
const SHOWN_BYTES: usize = 300;

/// How to reach a target.
#[derive(Clone)]
pub(crate) struct Dial {
    target: Target,
    connector: TlsConnector,
}

/// One connection.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Box<[u8]>,
    reply: Reply,
}

/// How one exchange went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// From the request's first byte to the first byte of the reply's body.
    pub(crate) first: Duration,
    /// To the last byte.
    pub(crate) whole: Duration,
    /// Reads that it took.
    pub(crate) reads: u32,
}

impl Dial {
    pub(crate) fn new(target: &Target) -> Result<Self> {
        let pem = fs::read(&target.ca).with_context(|| target.ca.display().to_string())?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            roots.add(certificate?)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { target: target.clone(), connector: TlsConnector::from(Arc::new(tls)) })
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Connects and shakes hands.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let name = self.target.name.name();
        let dial = async {
            let socket = TcpStream::connect(self.target.address).await?;
            socket.set_nodelay(true)?;
            let server = ServerName::try_from("localhost")?;
            anyhow::Ok(self.connector.connect(server, socket).await?)
        };
        let stream = tokio::time::timeout(HANDSHAKE, dial)
            .await
            .with_context(|| format!("{name}: no handshake in {HANDSHAKE:?}"))?
            .with_context(|| format!("{name}: handshake"))?;
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        Ok(Connection { stream, buffer, reply: Reply::default() })
    }
}

impl Connection {
    /// Sends a request and reads its reply; `seen` is told how many bytes of the body came.
    pub(crate) async fn exchange(
        &mut self,
        request: &[u8],
        mut seen: impl FnMut(usize),
    ) -> Result<Timing> {
        self.reply.clear();
        let started = Instant::now();
        self.stream.write_all(request).await?;
        self.stream.flush().await?;
        let (mut first, mut reads) = (None, 0);
        loop {
            let read = self.stream.read(&mut self.buffer).await?;
            ensure!(read > 0, "closed in the middle of a reply");
            reads += 1;
            let before = self.reply.body().len();
            let progress = self.reply.feed(&self.buffer[..read])?;
            let came = self.reply.body().len() - before;
            if came > 0 {
                first.get_or_insert_with(|| started.elapsed());
                seen(came);
            }
            if progress == Progress::Whole {
                let whole = started.elapsed();
                return Ok(Timing { first: first.unwrap_or(whole), whole, reads });
            }
        }
    }

    /// Whether the last reply was the expected one.
    pub(crate) fn check(&self, expected: &[u8]) -> Result<()> {
        if self.reply.status() == 200 && self.reply.body() == expected {
            return Ok(());
        }
        let shown = self.shown();
        bail!(
            "status {}, {} bytes instead of {}: {shown}",
            self.reply.status(),
            self.reply.body().len(),
            expected.len()
        )
    }

    /// The last reply's body, if it was a good one.
    pub(crate) fn good_body(&self) -> Result<&[u8]> {
        ensure!(self.reply.status() == 200, "status {}: {}", self.reply.status(), self.shown());
        Ok(self.reply.body())
    }

    fn shown(&self) -> String {
        let body = self.reply.body();
        String::from_utf8_lossy(&body[..body.len().min(SHOWN_BYTES)]).into_owned()
    }
}
