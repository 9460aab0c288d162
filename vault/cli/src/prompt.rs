//! Passphrases, shares and keys on their way in: hidden prompt, standard input or a descriptor.
//!
//! Invariant: no secret comes from the command line or the environment.
//! Invariant: the buffer never grows, so no copy is left behind; it is wiped on drop.

mod keys;

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt as _;

use secrecy::{ExposeSecret, SecretBox};
use strongroom_protocol::SecretBytes;
use strongroom_sys::inherited::duplicate;
use zeroize::Zeroizing;

use crate::failure::{Code, Failure, Outcome};
use crate::out;

/// A secret as it was typed or piped, without its line end.
pub(crate) struct Typed(SecretBox<Vec<u8>>);

/// Longest secret that is read: service-account files are below 8 KiB.
const MAX_TYPED_BYTES: usize = 8 * 1024;

impl Typed {
    fn take(mut bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(SecretBox::new(Box::new(std::mem::take(&mut *bytes))))
    }

    /// A secret that was not typed: the demonstration's.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::take(Zeroizing::new(bytes.to_vec()))
    }

    /// Lends the bytes for one call.
    pub(crate) fn lend<T>(&self, see: impl FnOnce(&[u8]) -> T) -> T {
        see(self.0.expose_secret())
    }

    /// The bytes as part of a message.
    pub(crate) fn message(&self) -> SecretBytes {
        self.lend(SecretBytes::copy_from)
    }
}

/// Reads one secret: hidden at a terminal, else one line of standard input.
pub(crate) fn secret(prompt: &str) -> Outcome<Typed> {
    match secret_while(prompt, || Ok(true))? {
        Some(typed) => Ok(typed),
        None => Err(cancelled()),
    }
}

/// The same, and looks about once a second whether it is still wanted while somebody types; nothing if it is not.
pub(crate) fn secret_while(
    prompt: &str,
    is_wanted: impl FnMut() -> Outcome<bool>,
) -> Outcome<Option<Typed>> {
    if is_attended() { keys::ask(prompt, is_wanted) } else { standard_input().map(Some) }
}

/// Somebody wants the end instead of answering.
pub(crate) fn cancelled() -> Failure {
    Failure::new(Code::Cancelled, "cancelled").next("run the command again when you want to go on")
}

/// Reads one line of standard input, terminal or not.
pub(crate) fn standard_input() -> Outcome<Typed> {
    line(&mut unbuffered()?)
}

/// Reads the next line of an inherited descriptor: several secrets may come from one.
pub(crate) fn descriptor(number: u32) -> Outcome<Typed> {
    let refused = |error: String| {
        Failure::new(Code::NoSecret, format!("descriptor {number} cannot be read: {error}"))
            .next(format!("open it in the shell: {number}< FILE"))
    };
    let raw = i32::try_from(number).map_err(|error| refused(error.to_string()))?;
    let duplicate = duplicate(raw).map_err(|error| refused(error.to_string()))?;
    line(&mut File::from(duplicate))
}

/// Whether somebody types behind an inherited descriptor.
pub(crate) fn is_typed(number: u32) -> bool {
    let path = format!("/proc/self/fd/{number}");
    // Opening a named pipe would wait.
    let is_device = fs::metadata(&path).is_ok_and(|found| found.file_type().is_char_device());
    is_device && File::open(&path).is_ok_and(|file| file.is_terminal())
}

/// Reads one line that is no secret and is shown as it is typed.
pub(crate) fn line_in_clear(question: &str) -> Outcome<String> {
    out::ask(question);
    let typed = standard_input()?;
    Ok(typed.lend(|typed| String::from_utf8_lossy(typed).into_owned()))
}

/// Whether somebody can be asked.
pub(crate) fn is_attended() -> bool {
    io::stdin().is_terminal()
}

/// Standard input without the library's buffer, which nobody would wipe.
fn unbuffered() -> Outcome<File> {
    let duplicate = io::stdin().as_fd().try_clone_to_owned();
    duplicate.map(File::from).map_err(|error| Failure::new(Code::NoSecret, error.to_string()))
}

fn line(input: &mut impl Read) -> Outcome<Typed> {
    let mut bytes = until_line_end(input)?;
    if bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    given(bytes)
}

/// Nothing is no secret.
fn given(bytes: Zeroizing<Vec<u8>>) -> Outcome<Typed> {
    if bytes.is_empty() {
        return Err(Failure::new(Code::NoSecret, "nothing was given")
            .next("type it at the prompt, or pipe it in"));
    }
    Ok(Typed::take(bytes))
}

fn too_long() -> Failure {
    Failure::new(
        Code::NoSecret,
        format!("the secret is too long: more than {MAX_TYPED_BYTES} bytes"),
    )
    .next("check that it is the passphrase, share or key that was asked for")
}

/// Byte by byte, so that what follows the line stays unread, for the next question or process. Only a line feed ends
/// what is piped: any other byte may be part of it.
fn until_line_end(input: &mut impl Read) -> Outcome<Zeroizing<Vec<u8>>> {
    let failed = |error: io::Error| {
        Failure::new(Code::NoSecret, format!("the secret cannot be read: {error}"))
    };
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_TYPED_BYTES));
    let mut byte = Zeroizing::new([0_u8; 1]);
    while input.read(&mut *byte).map_err(failed)? == 1 {
        match byte[0] {
            b'\n' => break,
            _ if bytes.len() == MAX_TYPED_BYTES => return Err(too_long()),
            other => bytes.push(other),
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::{MAX_TYPED_BYTES, line};

    fn read(mut input: &[u8]) -> Result<Vec<u8>, crate::failure::Failure> {
        line(&mut input).map(|typed| typed.lend(<[u8]>::to_vec))
    }

    #[test]
    fn one_line_is_read_without_its_end() {
        for input in ["a b", "a b\n", "a b\r\n", "a b\nnext"] {
            assert_eq!(read(input.as_bytes()).unwrap(), b"a b");
        }
    }

    #[test]
    fn nothing_and_too_much_are_refused() {
        let long = vec![b'a'; MAX_TYPED_BYTES + 1];
        for input in [&b""[..], b"\n", b"\r\n", &long] {
            assert!(read(input).is_err());
        }
    }

    #[test]
    fn no_key_of_a_terminal_means_anything_in_what_is_piped() {
        let input = b"a\x03b\x04c\x15d\x7fe\rf";
        assert_eq!(read(input).unwrap(), input);
    }

    #[test]
    fn what_follows_the_line_stays_unread() {
        let mut input = &b"one\ntwo\n"[..];
        line(&mut input).unwrap();
        assert_eq!(input, b"two\n");
    }
}
