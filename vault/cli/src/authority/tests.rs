use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use rcgen::{GeneralSubtree, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use strongroom_policy::name::HostName;
use time::{Duration, OffsetDateTime};

use super::{Issued, authority_params, leaf_params, make, permitted, provide};
use crate::places::{Install, Places};
use crate::settings::Settings;

fn names(names: &[&str]) -> Vec<HostName> {
    names.iter().map(|name| HostName::parse(name).unwrap()).collect()
}

fn settings(of: &[&str]) -> Settings {
    let quoted: Vec<_> = of.iter().map(|name| format!("{name:?}")).collect();
    toml::from_str(&format!("names = [{}]", quoted.join(","))).unwrap()
}

fn places(dir: &Path) -> Places {
    Places { install: Install::Personal, data: dir.into(), run: dir.join("run") }
}

/// Whether a TLS client that trusts `authority` takes `leaf` for `name`.
fn is_accepted(authority: &str, leaf: &str, name: &str) -> bool {
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(der(authority)).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier =
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let name = ServerName::try_from(name).unwrap();
    verifier.verify_server_cert(&der(leaf), &[], &name, &[], UnixTime::now()).is_ok()
}

#[test]
fn the_leaf_is_good_for_its_names_and_no_other() {
    let ours = ["localhost", "127.0.0.1", "::1", "box.example.com"];
    let made = make(&names(&ours), OffsetDateTime::now_utc()).unwrap();
    for name in ours {
        assert!(is_accepted(&made.authority, &made.cert, name), "{name}");
    }
    assert!(!is_accepted(&made.authority, &made.cert, "api.openai.com"));
}

#[test]
fn no_address_is_constrained_because_boringssl_refuses_that() {
    for ours in [&["localhost", "127.0.0.1", "::1"][..], &["127.0.0.1"], &["localhost"]] {
        let subtrees = permitted(&names(ours));
        assert!(!subtrees.is_empty());
        assert!(subtrees.iter().all(|each| matches!(each, GeneralSubtree::DnsName(_))), "{ours:?}");
    }
}

#[test]
fn certificates_of_an_earlier_form_are_issued_again() {
    let scratch = tempfile::tempdir().unwrap();
    let (places, now) = (places(scratch.path()), OffsetDateTime::now_utc());
    let issued = || provide(&places, &settings(&["localhost", "127.0.0.1"]), None, now).unwrap().1;
    assert_eq!(issued(), Issued::First);
    // As it was written beside authorities that constrain addresses.
    fs::write(scratch.path().join("tls").join("names"), "localhost\n127.0.0.1").unwrap();
    assert_eq!(issued(), Issued::Again);
    assert_eq!(issued(), Issued::Kept);
}

#[test]
fn the_authority_cannot_vouch_for_another_name() {
    let now = OffsetDateTime::now_utc();
    let dates = (now - Duration::hours(1), now + Duration::days(1));
    for (ours, foreign) in [
        (&["localhost", "127.0.0.1"][..], "api.openai.com"),
        (&["localhost"], "api.openai.com"),
        (&["127.0.0.1"], "api.openai.com"),
    ] {
        let authority = authority_params(&names(ours), dates);
        let authority_key = KeyPair::generate().unwrap();
        let authority_pem = authority.self_signed(&authority_key).unwrap().pem();
        let issuer = Issuer::new(authority, authority_key);
        let sign = |name: &str| {
            let leaf = leaf_params(&names(&[name]), dates).unwrap();
            leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().pem()
        };
        assert!(is_accepted(&authority_pem, &sign(ours[0]), ours[0]));
        assert!(!is_accepted(&authority_pem, &sign(foreign), foreign), "{foreign}");
    }
}

#[test]
fn the_authoritys_key_is_in_no_file() {
    let scratch = tempfile::tempdir().unwrap();
    let now = OffsetDateTime::now_utc();
    let (found, issued) =
        provide(&places(scratch.path()), &settings(&["localhost"]), None, now).unwrap();
    assert_eq!(issued, Issued::First);
    let mut keys = Vec::new();
    for entry in fs::read_dir(scratch.path().join("tls")).unwrap() {
        let path = entry.unwrap().path();
        if fs::read_to_string(&path).unwrap().contains("PRIVATE KEY") {
            keys.push(path);
        }
    }
    assert_eq!(keys, std::slice::from_ref(&found.key));
    assert_eq!(fs::metadata(&found.key).unwrap().permissions().mode() & 0o777, 0o600);
    let key = KeyPair::from_pem(&fs::read_to_string(&found.key).unwrap()).unwrap();
    let authority =
        CertificateDer::from_pem_file(found.authority.unwrap()).unwrap().as_ref().to_vec();
    let public = rcgen::PublicKeyData::der_bytes(&key).to_vec();
    assert!(!authority.windows(public.len()).any(|window| window == public));
}

#[test]
fn a_second_start_keeps_them_until_the_end_is_near_or_the_names_change() {
    let scratch = tempfile::tempdir().unwrap();
    let (places, now) = (places(scratch.path()), OffsetDateTime::now_utc());
    let issued = |names: &[&str], now| provide(&places, &settings(names), None, now).unwrap().1;
    assert_eq!(issued(&["localhost"], now), Issued::First);
    assert_eq!(issued(&["localhost"], now), Issued::Kept);
    assert_eq!(issued(&["localhost"], now + Duration::days(366)), Issued::Kept);
    assert_eq!(issued(&["localhost"], now + Duration::days(368)), Issued::Again);
    assert_eq!(issued(&["localhost", "::1"], now + Duration::days(368)), Issued::Again);
}

#[test]
fn a_certificate_of_ones_own_is_left_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let own: Settings = toml::from_str("[tls]\ncert = \"/c\"\nkey = \"/k\"").unwrap();
    let now = OffsetDateTime::now_utc();
    let (found, issued) = provide(&places(scratch.path()), &own, None, now).unwrap();
    assert_eq!((issued, found.authority), (Issued::Own, None));
    assert!(!scratch.path().join("tls").exists());
}
