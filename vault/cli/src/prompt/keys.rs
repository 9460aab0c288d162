//! A hidden line, key by key: while it is asked for, the terminal shows nothing, edits nothing and raises no signal.
//!
//! Invariant: however the line ends, the terminal is as it was found.
//! Invariant: the buffer never grows; what was erased is wiped with the rest.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::termios::{
    LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

use super::{MAX_TYPED_BYTES, Typed, cancelled, given, too_long};
use crate::failure::{Code, Failure, Outcome};
use crate::out;

/// How often it is looked whether the secret is still wanted.
const LOOK_EVERY: Duration = Duration::from_secs(1);

const CONTROL_C: u8 = 0x03;
const CONTROL_D: u8 = 0x04;
const CONTROL_U: u8 = 0x15;
const BACKSPACE: u8 = 0x08;
const DELETE: u8 = 0x7f;

/// Asks at the terminal; nothing once `is_wanted` says no.
pub(super) fn ask(
    prompt: &str,
    mut is_wanted: impl FnMut() -> Outcome<bool>,
) -> Outcome<Option<Typed>> {
    let mut input = super::unbuffered()?;
    let ends = Ends::hold().map_err(|error| no_terminal(&error))?;
    let terminal = Quiet::new(io::stdin()).map_err(|error| no_terminal(&error))?;
    out::ask(prompt);
    let read = read(&mut input, &ends, &mut is_wanted);
    drop(terminal);
    out::say("");
    // What waited ends this process here.
    drop(ends);
    read
}

/// What would end this process, held back until the terminal is as it was found.
struct Ends {
    before: SigSet,
    waiting: SignalFd,
}

impl Ends {
    /// Without those that somebody holds back already, and asks for.
    fn hold() -> nix::Result<Self> {
        let before = SigSet::thread_get_mask()?;
        let all = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT];
        let ends: SigSet = all.into_iter().filter(|end| !before.contains(*end)).collect();
        let waiting = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC)?;
        ends.thread_block()?;
        Ok(Self { before, waiting })
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        // It was the mask a moment ago.
        let _same = self.before.thread_set_mask();
    }
}

fn read(
    input: &mut File,
    ends: &Ends,
    is_wanted: &mut impl FnMut() -> Outcome<bool>,
) -> Outcome<Option<Typed>> {
    let mut line = Line::new();
    let mut byte = Zeroizing::new([0_u8; 1]);
    loop {
        match wait(input, ends)? {
            Woken::Key => {}
            Woken::End => return Err(cancelled()),
            Woken::Look if is_wanted()? => continue,
            Woken::Look => return Ok(None),
        }
        // A terminal that went away ends the line.
        let pressed = match input.read(&mut *byte).map_err(|error| no_terminal(&error))? {
            0 => Pressed::End,
            _ => line.press(byte[0]),
        };
        match pressed {
            Pressed::More => {}
            Pressed::End => return given(line.bytes).map(Some),
            Pressed::Cancel => return Err(cancelled()),
            Pressed::TooLong => return Err(too_long()),
        }
    }
}

/// Why the wait for a key is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Key,
    /// A signal waits.
    End,
    /// It is time to look whether the secret is still wanted.
    Look,
}

fn wait(input: &File, ends: &Ends) -> Outcome<Woken> {
    let milliseconds = u16::try_from(LOOK_EVERY.as_millis()).unwrap_or(u16::MAX);
    let [key, end] = [input.as_fd(), ends.waiting.as_fd()];
    let mut ready = [key, end].map(|one| PollFd::new(one, PollFlags::POLLIN));
    match poll(&mut ready, PollTimeout::from(milliseconds)) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(error) => return Err(no_terminal(&error)),
    }
    let [key, end] = ready.map(|one| one.any().unwrap_or(false));
    Ok(match (end, key) {
        (true, _) => Woken::End,
        (false, true) => Woken::Key,
        (false, false) => Woken::Look,
    })
}

fn no_terminal(error: &dyn std::fmt::Display) -> Failure {
    Failure::new(Code::NoSecret, format!("the terminal: {error}")).next("pipe the secret in")
}

/// What is typed so far.
struct Line {
    bytes: Zeroizing<Vec<u8>>,
}

/// What a key did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pressed {
    More,
    End,
    Cancel,
    TooLong,
}

impl Line {
    fn new() -> Self {
        Self { bytes: Zeroizing::new(Vec::with_capacity(MAX_TYPED_BYTES)) }
    }

    /// The keys of a line as terminals have them by default.
    fn press(&mut self, key: u8) -> Pressed {
        match key {
            b'\n' | b'\r' | CONTROL_D => return Pressed::End,
            CONTROL_C => return Pressed::Cancel,
            CONTROL_U => self.bytes.clear(),
            BACKSPACE | DELETE => self.erase(),
            _ if self.bytes.len() == MAX_TYPED_BYTES => return Pressed::TooLong,
            other => self.bytes.push(other),
        }
        Pressed::More
    }

    /// Takes one character back, with all its bytes (UTF-8, RFC 3629).
    fn erase(&mut self) {
        while self.bytes.pop().is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000) {}
    }
}

/// A terminal that shows nothing, hands over each key as it is pressed and raises no signal, until dropped.
struct Quiet<T: AsFd> {
    terminal: T,
    before: Termios,
}

impl<T: AsFd> Quiet<T> {
    fn new(terminal: T) -> nix::Result<Self> {
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG | LocalFlags::ICANON);
        for (index, value) in
            [(SpecialCharacterIndices::VMIN, 1), (SpecialCharacterIndices::VTIME, 0)]
        {
            if let Some(place) = quiet.control_chars.get_mut(index as usize) {
                *place = value;
            }
        }
        tcsetattr(&terminal, SetArg::TCSAFLUSH, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl<T: AsFd> Drop for Quiet<T> {
    fn drop(&mut self) {
        // What was pasted beyond the line is thrown away: it may be the rest of a secret, and a shell would take it.
        // A terminal that went away needs no repair.
        let _gone = tcsetattr(&self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, MAX_TYPED_BYTES, Pressed};

    fn typed(keys: &[u8]) -> (Vec<u8>, Pressed) {
        let mut line = Line::new();
        let pressed = keys.iter().map(|key| line.press(*key)).find(|key| *key != Pressed::More);
        (line.bytes.to_vec(), pressed.unwrap_or(Pressed::More))
    }

    #[test]
    fn a_line_ends_by_either_line_end_and_by_control_d() {
        for end in *b"\r\n\x04" {
            assert_eq!(typed(&[b'a', b' ', end, b'b']), (b"a ".to_vec(), Pressed::End));
        }
    }

    #[test]
    fn one_character_or_all_are_taken_back() {
        for (keys, left) in [
            ("ab\u{7f}c", "ac"),
            ("ab\u{8}\u{8}\u{8}c", "c"),
            ("aä\u{7f}", "a"),
            ("a\u{1f511}\u{7f}b", "ab"),
            ("wrong\u{15}right", "right"),
        ] {
            assert_eq!(typed(keys.as_bytes()), (left.as_bytes().to_vec(), Pressed::More));
        }
    }

    #[test]
    fn control_c_and_too_much_end_it() {
        assert_eq!(typed(b"abc\x03").1, Pressed::Cancel);
        assert_eq!(typed(&vec![b'a'; MAX_TYPED_BYTES]).1, Pressed::More);
        assert_eq!(typed(&vec![b'a'; MAX_TYPED_BYTES + 1]).1, Pressed::TooLong);
    }
}
