//! The emulator's own certificate authority and the one leaf it signs.
//!
//! Invariant: the authority's key is dropped once the leaf is signed, so `ca.pem` vouches for
//! this leaf and nothing else; a directory that already holds a leaf keeps it, so that a client
//! which trusts `ca.pem` still does after a restart.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

use crate::Api;

/// The authority to trust, and the TLS side that presents the leaf.
pub(crate) struct Certificates {
    pub(crate) ca_pem: String,
    pub(crate) ca_path: PathBuf,
    pub(crate) tls: Arc<ServerConfig>,
}

impl Certificates {
    pub(crate) fn open_or_make(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        // Absolute, since it is told to clients that run elsewhere.
        let dir = &fs::canonicalize(dir)?;
        let ca_path = dir.join("ca.pem");
        let (leaf_path, key_path) = (dir.join("leaf.pem"), dir.join("leaf-key.pem"));
        if !(ca_path.exists() && leaf_path.exists() && key_path.exists()) {
            let made = make()?;
            write(&ca_path, &made.ca, 0o644)?;
            write(&leaf_path, &made.leaf, 0o644)?;
            write(&key_path, &made.key, 0o600)?;
        }
        let leaf = CertificateDer::from_pem_file(&leaf_path).context("leaf.pem")?;
        let key = PrivateKeyDer::from_pem_file(&key_path).context("leaf-key.pem")?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![leaf], key)?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let ca_pem = fs::read_to_string(&ca_path).context("ca.pem")?;
        Ok(Self { ca_pem, ca_path, tls: Arc::new(tls) })
    }
}

struct Made {
    ca: String,
    leaf: String,
    key: String,
}

fn make() -> Result<Made> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    ca.distinguished_name = named("Strongroom emulator, worthless outside tests");
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (ca.not_before, ca.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2044, 1, 1));
    let ca_pem = ca.self_signed(&ca_key)?.pem();

    let leaf_key = KeyPair::generate()?;
    let mut names: Vec<String> = Api::ALL.iter().map(|api| api.host().to_owned()).collect();
    names.push("localhost".to_owned());
    let mut leaf = CertificateParams::new(names)?;
    leaf.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    leaf.distinguished_name = named("Strongroom emulator");
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    (leaf.not_before, leaf.not_after) = (date_time_ymd(2024, 1, 1), date_time_ymd(2044, 1, 1));
    let signed = leaf.signed_by(&leaf_key, &Issuer::from_params(&ca, &ca_key))?;
    Ok(Made { ca: ca_pem, leaf: signed.pem(), key: leaf_key.serialize_pem() })
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())?;
    Ok(())
}
