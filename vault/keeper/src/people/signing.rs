//! What signs sessions: one RSA key, and the text that it signs.
//!
//! RS256 because that is what other programs verify everywhere; 3,072 bits because that is 128 bits of strength, and a signature
//! costs the same milliseconds that a person does not notice. The keeper itself never verifies one: it knows each text by its hash.
//!
//! Invariant: the private key lies sealed on the disk and in memory; it is opened for one signature, on a thread that is not the
//! one that decides, and the library wipes what it made of it.

use std::rc::Rc;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest, Sha256};
use strongroom_policy::moment::Moment;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::person::SessionKey;
use strongroom_sys::Secret;
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::asks::closed;
use super::writing::{Said, commit};
use crate::keeper::Keeper;
use crate::keys::DeriveError;
use crate::memory_seal::{MemorySeal, SealedKey};
use crate::records::RecordName;
use crate::tables::Malformed;

/// Where the key lies in memory, for its seal.
const PLACE: &[u8] = b"strongroom/v1/place/session-key";

/// The key, as it lies in memory.
pub struct SigningKey {
    sealed: SealedKey,
    /// Its public half.
    pub public: Arc<SessionKey>,
}

/// Why nothing is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key that signs sessions does not work")]
pub(super) struct Unsigned;

/// What a session's text says, and all that it says.
#[derive(Serialize)]
pub(super) struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sid: &'a str,
    iat: u64,
    exp: u64,
}

impl SigningKey {
    /// Takes in a key out of its record.
    ///
    /// # Errors
    /// When it is none.
    pub fn hold(seal: &MemorySeal, record: &Secret) -> Result<Self, Malformed> {
        let public = record.expose(public_of).map_err(|_| Malformed)?;
        let sealed = seal.seal_at(PLACE, record).map_err(|_| Malformed)?;
        Ok(Self { sealed, public: Arc::new(public) })
    }

    fn open(&self, seal: &MemorySeal) -> Result<Secret, DeriveError> {
        seal.open_at(PLACE, &self.sealed)
    }
}

/// Makes the key when there is none, and tells the gateways. For whoever has the turn.
///
/// # Errors
/// When it cannot be made or written.
pub async fn ensure_key(keeper: &Rc<Keeper>) -> Result<(), Said> {
    let there = keeper.with_vault(|vault| vault.tables.sign_ins.signing.is_some());
    if there.map_err(closed)? {
        return Ok(());
    }
    let made = spawn_blocking(make).await.map_err(|_| Said::Internal)?;
    let record = made.map_err(|_| Said::Internal)?;
    let held = keeper.with_vault(|vault| SigningKey::hold(&vault.memory_seal, &record));
    let held = held.map_err(closed)?.map_err(|_| Said::Internal)?;
    commit(
        keeper,
        None,
        |vault, changes| vault.books.put(changes, &vault.place(RecordName::SessionKey), &record),
        |vault| vault.tables.sign_ins.signing = Some(held),
    )
    .await?;
    keeper.announce();
    Ok(())
}

/// Makes and signs the text of a session. For whoever has the turn.
pub(super) async fn issue(
    keeper: &Rc<Keeper>,
    (issued, ends): (Moment, Moment),
) -> Result<SecretBytes, Said> {
    ensure_key(keeper).await?;
    let opened = keeper.with_vault(|vault| {
        let key = vault.tables.sign_ins.signing.as_ref()?;
        Some((key.open(&vault.memory_seal).ok()?, Arc::clone(&key.public)))
    });
    let (key, public) = opened.map_err(closed)?.ok_or(Said::Internal)?;
    let mut random = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *random).map_err(|_| Said::Internal)?;
    let sid = Zeroizing::new(URL_SAFE_NO_PAD.encode(*random));
    let url = keeper.settings.public_url.clone();
    let signing = spawn_blocking(move || {
        let seconds = |at: Moment| at.unix_millis().div_euclid(1000);
        let claims =
            Claims { iss: &url, aud: &url, sid: &sid, iat: seconds(issued), exp: seconds(ends) };
        write((&key, &public.kid), &claims)
    });
    signing.await.map_err(|_| Said::Internal)?.map_err(|_| Said::Internal)
}

/// A key, as its record has it: PKCS #8.
pub(super) fn make() -> Result<Secret, Unsigned> {
    let pair = RsaKeyPair::generate(KeySize::Rsa3072).map_err(|_| Unsigned)?;
    let der = AsDer::<aws_lc_rs::encoding::Pkcs8V1Der<'_>>::as_der(&pair).map_err(|_| Unsigned)?;
    Ok(Secret::copy_from(der.as_ref()))
}

/// The compact form of RFC 7515, always with the same head.
pub(super) fn write(
    (key, kid): (&Secret, &str),
    claims: &Claims<'_>,
) -> Result<SecretBytes, Unsigned> {
    let head = format!(r#"{{"alg":"RS256","kid":"{kid}","typ":"session+jwt"}}"#);
    let claims = Zeroizing::new(serde_json::to_vec(claims).map_err(|_| Unsigned)?);
    let claims = Zeroizing::new(URL_SAFE_NO_PAD.encode(&*claims));
    let mut text = Zeroizing::new(String::with_capacity(1024));
    text.push_str(&URL_SAFE_NO_PAD.encode(head));
    text.push('.');
    text.push_str(&claims);
    let pair = key.expose(RsaKeyPair::from_pkcs8).map_err(|_| Unsigned)?;
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature)
        .map_err(|_| Unsigned)?;
    text.push('.');
    text.push_str(&URL_SAFE_NO_PAD.encode(signature));
    Ok(SecretBytes::copy_from(text.as_bytes()))
}

/// The public half, with the name of RFC 7638.
pub(super) fn public_of(pkcs8: &[u8]) -> Result<SessionKey, Unsigned> {
    let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| Unsigned)?;
    let der = pair.public_key().as_ref();
    let (modulus, exponent) = numbers_of(der).ok_or(Unsigned)?;
    let (n, e) = (URL_SAFE_NO_PAD.encode(modulus), URL_SAFE_NO_PAD.encode(exponent));
    let print = Sha256::digest(format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#));
    let kid = URL_SAFE_NO_PAD.encode(print);
    Ok(SessionKey { kid, modulus: modulus.to_vec(), exponent: exponent.to_vec() })
}

/// Modulus and exponent of an `RSAPublicKey` (RFC 8017, A.1.1), without their leading zeros.
fn numbers_of(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (sequence, rest) = element(der, 0x30)?;
    let (modulus, sequence) = element(sequence, 0x02)?;
    let (exponent, end) = element(sequence, 0x02)?;
    if !rest.is_empty() || !end.is_empty() {
        return None;
    }
    let plain = |number: &[u8]| number.iter().position(|byte| *byte != 0);
    Some((modulus.get(plain(modulus)?..)?, exponent.get(plain(exponent)?..)?))
}

/// One element of DER with a length of at most two bytes, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 => rest.split_first().map(|(low, rest)| (usize::from(*low), rest))?,
        0x82 => {
            let (length, rest) = rest.split_first_chunk()?;
            (usize::from(u16::from_be_bytes(*length)), rest)
        }
        _ => return None,
    };
    (*found == tag).then(|| rest.split_at_checked(length)).flatten()
}

/// Has the library draw once what it wants of the kernel, before the process is confined.
///
/// # Errors
/// When there is no randomness.
pub fn warm_up() -> Result<(), getrandom::Error> {
    let mut drawn = [0; 1];
    aws_lc_rs::rand::fill(&mut drawn).map_err(|_| getrandom::Error::UNEXPECTED)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn a_text_is_verified_by_what_is_published_and_says_no_more_than_it_may() {
        let key = make().unwrap();
        let public = key.expose(public_of).unwrap();
        assert_eq!((public.modulus.len(), public.exponent.as_slice()), (384, &[1, 0, 1][..]));
        let claims = Claims { iss: "https://a", aud: "https://a", sid: "x", iat: 1, exp: 2 };
        let text = write((&key, &public.kid), &claims).unwrap();
        text.expose(|text| {
            let text = std::str::from_utf8(text).unwrap();
            assert!(text.len() < 1024, "{}", text.len());
            let parts: Vec<&str> = text.split('.').collect();
            let read = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
            let head: Value = serde_json::from_slice(&read(parts[0])).unwrap();
            let wanted = json!({"alg": "RS256", "kid": public.kid, "typ": "session+jwt"});
            assert_eq!(head, wanted);
            let told: Value = serde_json::from_slice(&read(parts[1])).unwrap();
            let wanted =
                json!({"iss": "https://a", "aud": "https://a", "sid": "x", "iat": 1, "exp": 2});
            assert_eq!(told, wanted);
            let signed = format!("{}.{}", parts[0], parts[1]);
            let verifier = RsaPublicKeyComponents { n: &public.modulus, e: &public.exponent };
            let check = |text: &str| {
                let signature = read(parts[2]);
                verifier.verify(&RSA_PKCS1_2048_8192_SHA256, text.as_bytes(), &signature)
            };
            assert!(check(&signed).is_ok());
            assert!(check(&signed.replace('.', "..")).is_err());
        });
    }

    #[test]
    fn what_is_no_public_key_is_not_read() {
        for bad in [&b""[..], &[0x30], &[0x30, 0x82, 1], &[0x30, 0], &[0x30, 3, 2, 1, 5]] {
            assert_eq!(numbers_of(bad), None);
        }
        assert_eq!(numbers_of(&[0x30, 7, 2, 2, 0, 9, 2, 1, 3]), Some((&[9][..], &[3][..])));
    }
}
