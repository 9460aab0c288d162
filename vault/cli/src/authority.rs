//! The local certificate authority: made, used once, and forgotten.
//!
//! Invariant: the authority vouches for no host name but those in the settings (RFC 5280, 4.2.1.10), and its
//! key is never written: whoever takes this machine cannot sign another certificate with it.

use std::net::IpAddr;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, SanType,
};
use strongroom_policy::name::HostName;
use time::{Duration, OffsetDateTime};

use crate::certificate;
use crate::failure::{Code, Failure, Outcome};
use crate::files::{self, Owner};
use crate::places::Places;
use crate::settings::Settings;

/// The files that the gateway and its users need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Certificates {
    /// The gateway's chain.
    pub(crate) cert: PathBuf,
    /// The gateway's key.
    pub(crate) key: PathBuf,
    /// What users trust beside their own roots; `None` with a certificate of one's own.
    pub(crate) authority: Option<PathBuf>,
    /// The same with the system's roots, for programs that replace theirs by it.
    pub(crate) bundle: Option<PathBuf>,
}

/// What happened to the certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Issued {
    /// They are the settings' own.
    Own,
    /// Those of an earlier start are good.
    Kept,
    /// There were none.
    First,
    /// Users must trust a new authority: the old one ended, or the names or the form changed.
    Again,
}

/// Apple's and the browsers' limit for a leaf is 398 days.
const LIFE: Duration = Duration::days(397);
/// A restart within this time before the end issues a new one.
pub(crate) const RENEW_BEFORE: Duration = Duration::days(30);
/// Clocks of clients may be late.
const BACKDATED: Duration = Duration::hours(1);
/// What the certificates look like; the first line of the file with their names. Another form is issued anew.
const FORM: &str = "form 2: host names are constrained, addresses are not";
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Where certificates are, or would be.
pub(crate) fn locate(places: &Places, settings: &Settings) -> Certificates {
    if let (Some(cert), Some(key)) = (&settings.tls.cert, &settings.tls.key) {
        return Certificates {
            cert: cert.clone(),
            key: key.clone(),
            authority: None,
            bundle: None,
        };
    }
    let tls = places.tls();
    Certificates {
        cert: tls.join("cert.pem"),
        key: tls.join("key.pem"),
        authority: Some(tls.join("ca.pem")),
        bundle: Some(tls.join("ca-bundle.pem")),
    }
}

/// Makes certificates if there are none that are good for the settings' names for another 30 days.
pub(crate) fn provide(
    places: &Places,
    settings: &Settings,
    gateway: Option<Owner>,
    now: OffsetDateTime,
) -> Outcome<(Certificates, Issued)> {
    let certificates = locate(places, settings);
    let (Some(authority), Some(bundle)) = (&certificates.authority, &certificates.bundle) else {
        return Ok((certificates, Issued::Own));
    };
    let tls = places.tls();
    files::directory(&tls, 0o755)?;
    let names_file = tls.join("names");
    let names: Vec<_> = settings.names.iter().map(ToString::to_string).collect();
    let names = format!("{FORM}\n{}", names.join("\n"));
    let named = files::read(&names_file)?;
    let end = files::read(&certificates.cert)?.and_then(|pem| certificate::end_of(pem.as_bytes()));
    let good = end.is_some_and(|end| end > (now + RENEW_BEFORE).unix_timestamp())
        && named.as_ref() == Some(&names)
        && certificates.key.exists();
    if good {
        return Ok((certificates, Issued::Kept));
    }
    let made =
        make(&settings.names, now).map_err(|error| Failure::new(Code::Tls, error.to_string()))?;
    let roots = files::read(SYSTEM_ROOTS.as_ref())?.unwrap_or_default();
    files::replace(&certificates.key, made.key.as_bytes(), 0o600, gateway)?;
    files::replace(&certificates.cert, made.cert.as_bytes(), 0o644, None)?;
    files::replace(authority, made.authority.as_bytes(), 0o644, None)?;
    files::replace(bundle, format!("{roots}\n{}", made.authority).as_bytes(), 0o644, None)?;
    // Last, so that a start that was cut short issues again.
    files::replace(&names_file, names.as_bytes(), 0o644, None)?;
    let issued = if named.is_some() || end.is_some() { Issued::Again } else { Issued::First };
    Ok((certificates, issued))
}

/// PEM texts of one issue.
struct Made {
    authority: String,
    cert: String,
    key: zeroize::Zeroizing<String>,
}

fn make(names: &[HostName], now: OffsetDateTime) -> Result<Made, rcgen::Error> {
    let dates = (now - BACKDATED, now + LIFE);
    let authority_key = KeyPair::generate()?;
    let authority = authority_params(names, dates);
    let authority_pem = authority.self_signed(&authority_key)?.pem();

    let key = KeyPair::generate()?;
    let issuer = Issuer::new(authority, authority_key);
    let leaf = leaf_params(names, dates)?.signed_by(&key, &issuer)?;
    Ok(Made {
        authority: authority_pem,
        cert: leaf.pem(),
        key: zeroize::Zeroizing::new(key.serialize_pem()),
    })
}

type Dates = (OffsetDateTime, OffsetDateTime);

fn authority_params(names: &[HostName], dates: Dates) -> CertificateParams {
    let mut params = CertificateParams::default();
    // A name per issue: clients that still hold an older authority find theirs by name.
    let title = format!("Strongroom local authority {}", dates.1.date());
    params.distinguished_name = common_name(&title);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.name_constraints =
        Some(NameConstraints { permitted_subtrees: permitted(names), excluded_subtrees: vec![] });
    (params.not_before, params.not_after) = dates;
    params
}

/// Host names alone. `BoringSSL` (Claude Code's Bun, Chrome's network code, curl-impersonate) compares no addresses: it
/// refuses a leaf with one below an authority that constrains any. The key that could sign for a foreign address is
/// dropped with the issue, so the constraint is a second wall, and not worth a client.
fn permitted(names: &[HostName]) -> Vec<GeneralSubtree> {
    let hosts = names.iter().filter(|name| name.as_ref().parse::<IpAddr>().is_err());
    let mut subtrees: Vec<_> =
        hosts.map(|name| GeneralSubtree::DnsName(name.to_string())).collect();
    if subtrees.is_empty() {
        // Without a subtree all names were permitted. RFC 6761, 6.4: nobody has this one.
        subtrees.push(GeneralSubtree::DnsName("invalid".to_owned()));
    }
    subtrees
}

fn leaf_params(names: &[HostName], dates: Dates) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name("Strongroom gateway");
    params.subject_alt_names = names
        .iter()
        .map(|name| match name.as_ref().parse::<IpAddr>() {
            Ok(ip) => Ok(SanType::IpAddress(ip)),
            Err(_) => name.to_string().try_into().map(SanType::DnsName),
        })
        .collect::<Result<_, rcgen::Error>>()?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = dates;
    Ok(params)
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[cfg(test)]
mod tests;
