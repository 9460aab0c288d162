//! TLS to providers: who is trusted, and the handshake.
//!
//! Invariant: TLS 1.2 or 1.3, `http/1.1` only, no early data, no key log.
//! Invariant: the certificate must carry the destination's TLS name, whatever address was dialled.
//! Invariant: no file is read: the public roots are compiled in, other authorities come with the destination.
//!
//! Trusts: the compiled-in roots and the destination's authorities.
//! Distrusts: the peer.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{RootCertStore, SupportedProtocolVersion};
use sha2::{Digest, Sha256};
use strongroom_socket::OneSlice;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// A connection to a provider.
pub type TlsStream = tokio_rustls::client::TlsStream<OneSlice<TcpStream>>;

/// How long a handshake may take.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes TLS connections, one configuration for each set of authorities.
pub struct Tls {
    provider: Arc<CryptoProvider>,
    roots: RootCertStore,
    public: Arc<ClientConfig>,
    /// By digest of the extra authorities.
    extended: Mutex<HashMap<[u8; 32], Arc<ClientConfig>>>,
}

/// Why there is no TLS connection.
#[derive(Debug, thiserror::Error)]
pub enum Untrusted {
    /// One of the destination's authorities is no certificate.
    #[error("an authority of the destination is not a certificate")]
    Authority(#[source] rustls::Error),
    /// The cryptography lacks a protocol version; a defect of the build.
    #[error("TLS cannot be set up")]
    Setup(#[source] rustls::Error),
    /// The TLS name is neither a DNS name nor an address.
    #[error("the TLS name is not a name")]
    Name,
    /// The handshake failed: wrong name, unknown authority, or no common version.
    #[error("the TLS handshake failed: {0}")]
    Handshake(#[source] io::Error),
    /// The peer chose another protocol than HTTP/1.1.
    #[error("the peer chose another protocol than HTTP/1.1")]
    Protocol,
}

impl Tls {
    /// Trusts the public roots.
    ///
    /// # Errors
    /// When the cryptography cannot be set up.
    pub fn new() -> Result<Self, Untrusted> {
        Self::trusting(&[])
    }

    /// Trusts the public roots and the operator's own, for every destination.
    ///
    /// # Errors
    /// When one is no certificate, or the cryptography cannot be set up.
    pub fn trusting(operators: &[CertificateDer<'_>]) -> Result<Self, Untrusted> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        for root in operators {
            roots.add(root.clone().into_owned()).map_err(Untrusted::Authority)?;
        }
        let public = configure(&provider, roots.clone())?;
        Ok(Self { provider, roots, public, extended: Mutex::new(HashMap::new()) })
    }

    /// Shakes hands over `stream` with a peer that proves to be `tls_name`, by the public roots or an authority of `extra`
    /// (DER).
    ///
    /// # Errors
    /// When the peer is not proved within the time-out.
    pub async fn connect(
        &self,
        stream: TcpStream,
        tls_name: &str,
        extra: &[Vec<u8>],
    ) -> Result<TlsStream, Untrusted> {
        let name = ServerName::try_from(tls_name.to_owned()).map_err(|_| Untrusted::Name)?;
        let connector = TlsConnector::from(self.config(extra)?);
        let stream = timeout(HANDSHAKE_TIMEOUT, connector.connect(name, OneSlice(stream)))
            .await
            .map_err(|_| Untrusted::Handshake(io::ErrorKind::TimedOut.into()))?
            .map_err(Untrusted::Handshake)?;
        // No answer to ALPN means HTTP/1.1 too (RFC 7301, 3.2, and custom servers).
        match stream.get_ref().1.alpn_protocol() {
            None | Some(b"http/1.1") => Ok(stream),
            Some(_) => Err(Untrusted::Protocol),
        }
    }

    fn config(&self, extra: &[Vec<u8>]) -> Result<Arc<ClientConfig>, Untrusted> {
        if extra.is_empty() {
            return Ok(Arc::clone(&self.public));
        }
        let digest = digest_authorities(extra);
        if let Some(known) = self.lock().get(&digest) {
            return Ok(Arc::clone(known));
        }
        let mut roots = self.roots.clone();
        for authority in extra {
            roots.add(CertificateDer::from(authority.as_slice())).map_err(Untrusted::Authority)?;
        }
        let made = configure(&self.provider, roots)?;
        let mut known = self.lock();
        if known.len() >= MAX_CONFIGURATIONS {
            known.clear();
        }
        known.insert(digest, Arc::clone(&made));
        Ok(made)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; 32], Arc<ClientConfig>>> {
        self.extended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells sets of authorities apart.
fn digest_authorities(authorities: &[Vec<u8>]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for authority in authorities {
        digest.update((authority.len() as u64).to_be_bytes());
        digest.update(authority);
    }
    digest.finalize().into()
}

fn configure(
    provider: &Arc<CryptoProvider>,
    roots: RootCertStore,
) -> Result<Arc<ClientConfig>, Untrusted> {
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(VERSIONS)
        .map_err(Untrusted::Setup)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::in_memory_sessions(RESUMED_NAMES);
    Ok(Arc::new(config))
}

const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];
/// Names whose tickets are kept, per configuration.
const RESUMED_NAMES: usize = 64;
/// Operator-defined providers with authorities of their own are few; past this the cache starts anew.
const MAX_CONFIGURATIONS: usize = 64;

#[cfg(test)]
pub(crate) mod tests {
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;

    pub(crate) type ServerStream = tokio_rustls::server::TlsStream<TcpStream>;

    /// A provider for tests, with a certificate of its own.
    pub(crate) struct Server {
        listener: TcpListener,
        acceptor: TlsAcceptor,
        pub(crate) authority: Vec<Vec<u8>>,
    }

    impl Server {
        pub(crate) async fn start(
            alpn: &[&[u8]],
            versions: &[&'static SupportedProtocolVersion],
        ) -> Self {
            let made = rcgen::generate_simple_self_signed(["provider.example".to_owned()]).unwrap();
            let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
            let mut config =
                ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                    .with_protocol_versions(versions)
                    .unwrap()
                    .with_no_client_auth()
                    .with_single_cert(vec![made.cert.der().clone()], key)
                    .unwrap();
            config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
            Self {
                listener: TcpListener::bind("127.0.0.1:0").await.unwrap(),
                acceptor: TlsAcceptor::from(Arc::new(config)),
                authority: vec![made.cert.der().to_vec()],
            }
        }

        pub(crate) async fn meet(
            &self,
            tls: &Tls,
            name: &str,
            extra: &[Vec<u8>],
        ) -> (Result<TlsStream, Untrusted>, io::Result<ServerStream>) {
            let dialled = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
            let (accepted, _) = self.listener.accept().await.unwrap();
            tokio::join!(tls.connect(dialled, name, extra), self.acceptor.accept(accepted))
        }
    }

    #[tokio::test]
    async fn both_versions_work_and_http_1_is_chosen() {
        for version in [&TLS12, &TLS13] {
            for alpn in [&[b"h2".as_slice(), b"http/1.1"][..], &[]] {
                let server = Server::start(alpn, &[version]).await;
                let tls = Tls::new().unwrap();
                let (ours, _theirs) =
                    server.meet(&tls, "provider.example", &server.authority).await;
                let ours = ours.unwrap();
                let chosen = ours.get_ref().1.alpn_protocol();
                assert_eq!(chosen, (!alpn.is_empty()).then_some(&b"http/1.1"[..]));
            }
        }
    }

    #[tokio::test]
    async fn a_wrong_name_an_unknown_authority_and_http_2_alone_are_refused() {
        let server = Server::start(&[], &[&TLS13]).await;
        let tls = Tls::new().unwrap();
        for (name, extra) in [
            ("other.example", &server.authority[..]),
            ("127.0.0.1", &server.authority),
            ("provider.example", &[]),
        ] {
            let (ours, _) = server.meet(&tls, name, extra).await;
            assert!(matches!(ours, Err(Untrusted::Handshake(_))), "{name}");
        }
        let only_h2 = Server::start(&[b"h2"], &[&TLS13]).await;
        let (ours, _) = only_h2.meet(&tls, "provider.example", &only_h2.authority).await;
        assert!(ours.is_err());
    }

    #[tokio::test]
    async fn trust_in_one_destinations_authority_does_not_spread() {
        let (one, other) =
            (Server::start(&[], &[&TLS13]).await, Server::start(&[], &[&TLS13]).await);
        let tls = Tls::new().unwrap();
        assert!(one.meet(&tls, "provider.example", &one.authority).await.0.is_ok());
        assert!(other.meet(&tls, "provider.example", &one.authority).await.0.is_err());
        assert!(other.meet(&tls, "provider.example", &other.authority).await.0.is_ok());
        assert!(one.meet(&tls, "provider.example", &other.authority).await.0.is_err());
        assert!(one.meet(&tls, "provider.example", &[]).await.0.is_err());
    }

    #[test]
    fn nonsense_is_no_authority_and_the_cache_is_bounded() {
        let tls = Tls::new().unwrap();
        assert!(matches!(tls.config(&[b"nonsense".to_vec()]), Err(Untrusted::Authority(_))));
        for _ in 0..MAX_CONFIGURATIONS + 3 {
            let made = rcgen::generate_simple_self_signed(["a.example".to_owned()]).unwrap();
            tls.config(&[made.cert.der().to_vec()]).unwrap();
            assert!(tls.lock().len() <= MAX_CONFIGURATIONS);
        }
    }
}
