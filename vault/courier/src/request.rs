//! Writes the head of the request that a provider gets: the one place where a key meets a request.
//!
//! Invariant: the head lies in one wiped buffer that never grows, so no copy of the key stays behind in a freed one.
//! Invariant: exactly one credential goes out; a caller's header passes only when it is listed, and never beside a fixed one.
//! Invariant: no value carries CR, LF or another control byte, so nothing can add a header or a request.
//!
//! Trusts: the errand (destination, method, target, secret).
//! Distrusts: the caller's headers, which come through the gateway.

mod listed;

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use strongroom_policy::destination::Injection;

use crate::wiped::WipedVec;

/// Largest head that is written, bytes.
pub const MAX_HEAD_BYTES: usize = 64 * 1024;

/// What is to be sent; everything but `headers` comes from the keeper.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// An upper-case token such as `POST`.
    pub method: &'a str,
    /// Path and query in origin form, base path included.
    pub target: &'a str,
    /// The destination's host name, an IPv6 literal without brackets.
    pub host: &'a str,
    /// The destination's port; written unless it is 443.
    pub port: u16,
    /// How the secret is put in.
    pub injection: &'a Injection,
    /// The secret.
    pub secret: &'a [u8],
    /// Headers that go with the credential.
    pub fixed: &'a [(String, String)],
    /// The caller's headers, in their order; those that are not listed are dropped.
    pub headers: &'a [(&'a str, Cow<'a, [u8]>)],
    /// Keys the replacement of the caller's idempotency key, so that one subject cannot hit another's answer.
    pub subject: &'a [u8],
    /// How long the body is.
    pub body: BodyLength,
}

/// How long a request's body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// No body and no length, as `GET` and `HEAD` go.
    None,
    /// This many bytes.
    Known(u64),
    /// Told by chunks.
    Chunked,
}

/// Why a head is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// Not an upper-case token.
    #[error("the method is not a token")]
    Method,
    /// Not a path of visible ASCII.
    #[error("the target is not a plain path and query")]
    Target,
    /// Not a host name or address literal.
    #[error("the host is not a plain name")]
    Host,
    /// The secret has control bytes or ends in blanks.
    #[error("the credential cannot stand in a header")]
    Secret,
    /// A name that is no token, or a value with control bytes.
    #[error("a header is malformed")]
    Header,
    /// A header that must be single came twice.
    #[error("a header came twice")]
    Repeated,
    /// Over `MAX_HEAD_BYTES`.
    #[error("the head is too large")]
    TooLarge,
}

/// Writes the head, empty line included, in a buffer that is wiped.
///
/// # Errors
/// When a part could be read as more than it is; nothing is then to be sent.
pub(crate) fn write_head(request: &Request<'_>) -> Result<WipedVec, Unwritable> {
    check(request)?;
    let mut out = Head { bytes: WipedVec::default() };
    out.bytes.begin(longest(request)?);
    out.push(&[
        request.method.as_bytes(),
        b" ",
        request.target.as_bytes(),
        b" HTTP/1.1\r\nhost: ",
    ])?;
    if request.host.contains(':') {
        // An IPv6 literal (RFC 3986, 3.2.2).
        out.push(&[b"[", request.host.as_bytes(), b"]"])?;
    } else {
        out.push(&[request.host.as_bytes()])?;
    }
    if request.port != HTTPS {
        out.push(&[b":", request.port.to_string().as_bytes()])?;
    }
    // An encoded answer could hide an echo of the key.
    out.push(&[b"\r\naccept-encoding: identity\r\n"])?;
    match request.injection {
        Injection::Bearer => out.push(&[b"authorization: Bearer ", request.secret, b"\r\n"])?,
        Injection::Header(name) => out.line(name, request.secret)?,
    }
    for (name, value) in request.fixed {
        out.line(name, value.as_bytes())?;
    }
    write_callers(request, &mut out)?;
    match request.body {
        BodyLength::None => {}
        BodyLength::Known(bytes) => out.line("content-length", bytes.to_string().as_bytes())?,
        BodyLength::Chunked => out.line("transfer-encoding", b"chunked")?,
    }
    out.push(&[b"\r\n"])?;
    Ok(out.bytes)
}

fn write_callers(request: &Request<'_>, out: &mut Head) -> Result<(), Unwritable> {
    let mut singles = [false; listed::SINGLE.len()];
    for (name, value) in request.headers {
        let Some(name) = listed::passing_name(name) else { continue };
        if is_ours(request, &name) {
            continue;
        }
        if !is_value(value) {
            return Err(Unwritable::Header);
        }
        if let Some(single) = listed::SINGLE.iter().position(|single| *single == name)
            && std::mem::replace(&mut singles[single], true)
        {
            return Err(Unwritable::Repeated);
        }
        if name == IDEMPOTENCY_KEY {
            let replaced = derive_idempotency_key(request.subject, value);
            out.line(IDEMPOTENCY_KEY, replaced.as_bytes())?;
        } else {
            out.line(&name, value)?;
        }
    }
    Ok(())
}

/// The idempotency key that a provider sees: the same for the same subject and value, unlike any other subject's.
fn derive_idempotency_key(subject: &[u8], value: &[u8]) -> String {
    // HMAC takes keys of every length (RFC 2104), so this is never reached; the fixed text would lead to no subject's answer.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(subject) else {
        return String::from("sr-none");
    };
    mac.update(b"strongroom idempotency-key\0");
    mac.update(value);
    format!("sr-{}", hex::encode(mac.finalize().into_bytes()))
}

fn check(request: &Request<'_>) -> Result<(), Unwritable> {
    let method = request.method.as_bytes();
    if method.is_empty() || method.len() > 16 || !method.iter().all(u8::is_ascii_uppercase) {
        return Err(Unwritable::Method);
    }
    let target = request.target.as_bytes();
    let plain =
        |&byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'\\' | b'"' | b'<' | b'>');
    if target.first() != Some(&b'/') || !target.iter().all(plain) {
        return Err(Unwritable::Target);
    }
    let host = request.host.as_bytes();
    let in_name =
        |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':');
    if host.is_empty() || !host.iter().all(in_name) {
        return Err(Unwritable::Host);
    }
    let secret = request.secret;
    let padded = |byte: Option<&u8>| matches!(byte, None | Some(b' ' | b'\t'));
    if !is_value(secret) || padded(secret.first()) || padded(secret.last()) {
        return Err(Unwritable::Secret);
    }
    let injected = match request.injection {
        Injection::Bearer => true,
        Injection::Header(name) => listed::is_token(name),
    };
    let fixed = request.fixed.iter().all(|(name, value)| {
        listed::is_token(name)
            && is_value(value.as_bytes())
            && !listed::FRAMING.contains(&name.as_str())
    });
    if injected && fixed { Ok(()) } else { Err(Unwritable::Header) }
}

/// Whether the definition or this file already writes `name`.
fn is_ours(request: &Request<'_>, name: &str) -> bool {
    let injected = match request.injection {
        Injection::Bearer => name.eq_ignore_ascii_case("authorization"),
        Injection::Header(injected) => name.eq_ignore_ascii_case(injected),
    };
    injected || request.fixed.iter().any(|(fixed, _)| name.eq_ignore_ascii_case(fixed))
}

/// RFC 9110, 5.5, without control bytes; tab is allowed inside.
fn is_value(value: &[u8]) -> bool {
    value.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control())
}

/// An upper bound of the head's length, so that the buffer is allocated once.
fn longest(request: &Request<'_>) -> Result<usize, Unwritable> {
    let fixed: usize = request.fixed.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
    let callers: usize = request
        .headers
        .iter()
        .map(|(name, value)| name.len() + value.len().max(IDEMPOTENCY_BYTES) + 4)
        .sum();
    let injected = match request.injection {
        Injection::Bearer => "authorization".len(),
        Injection::Header(name) => name.len(),
    };
    let own =
        request.method.len() + request.target.len() + request.host.len() + request.secret.len();
    let total = OWN_BYTES + own + injected + fixed + callers;
    if total > MAX_HEAD_BYTES { Err(Unwritable::TooLarge) } else { Ok(total) }
}

struct Head {
    bytes: WipedVec,
}

impl Head {
    fn line(&mut self, name: &str, value: &[u8]) -> Result<(), Unwritable> {
        self.push(&[name.as_bytes(), b": ", value, b"\r\n"])
    }

    /// Appends only what fits: growing would leave a copy of the key in the old allocation.
    fn push(&mut self, parts: &[&[u8]]) -> Result<(), Unwritable> {
        for part in parts {
            if part.len() > self.bytes.capacity() - self.bytes.len() {
                return Err(Unwritable::TooLarge);
            }
            self.bytes.extend_from_slice(part);
        }
        Ok(())
    }
}

const HTTPS: u16 = 443;
const IDEMPOTENCY_KEY: &str = "idempotency-key";
/// `sr-` and 64 hex digits.
const IDEMPOTENCY_BYTES: usize = 67;
/// The fixed words, the port and the length line, generously.
const OWN_BYTES: usize = 256;

#[cfg(test)]
mod tests;
