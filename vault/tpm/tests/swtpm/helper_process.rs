//! The helper's program as a child process, asked as the keeper asks it.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use strongroom_protocol::SecretBytes;
use strongroom_protocol::frame::{decode, encode, split_first};
use strongroom_protocol::tpm::{
    Answer, Ask, Blob, Counter, FromTpm, Health, MAX_TPM_BYTES, Name, Policy, Refusal, ToTpm,
};
use strongroom_sys::spawn::{self, Network};

use crate::emulator::Emulator;

const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) struct Helper {
    child: Child,
    socket: UnixDatagram,
    theirs: OwnedFd,
    tcti: String,
    number: u64,
}

/// A counter's facts; the secret does not leave the test.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    pub(crate) index: u32,
    pub(crate) name: Name,
    pub(crate) value: u64,
}

pub(crate) const SECRET: [u8; 32] = [0x5E; 32];

impl Helper {
    pub(crate) fn start(emulator: &Emulator) -> Self {
        Self::at(emulator.tcti())
    }

    pub(crate) fn at(tcti: String) -> Self {
        let (socket, theirs) = UnixDatagram::pair().unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let theirs = OwnedFd::from(theirs);
        let child = spawn(&tcti, &theirs);
        Self { child, socket, theirs, tcti, number: 0 }
    }

    /// As the supervisor does it: on the same socket.
    pub(crate) fn start_again(&mut self) {
        drop(self.child.kill());
        self.child.wait().unwrap();
        self.child = spawn(&self.tcti, &self.theirs);
    }

    pub(crate) fn wait(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "the helper goes on");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// How often a secret stands in its memory.
    pub(crate) fn finds(&self, secret: &[u8; 32]) -> usize {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let memory = File::open(process.join("mem")).unwrap();
        let maps = std::fs::read_to_string(process.join("maps")).unwrap();
        let writable = maps.lines().filter(|line| line.contains(" rw"));
        writable
            .map(|line| {
                let (range, _) = line.split_once(' ').unwrap();
                let (first, end) = range.split_once('-').unwrap();
                let first = u64::from_str_radix(first, 16).unwrap();
                let length = u64::from_str_radix(end, 16).unwrap() - first;
                let mut bytes = vec![0; usize::try_from(length).unwrap()];
                // Not the kernel's own pages.
                let read = memory.read_exact_at(&mut bytes, first);
                // Not the first bytes: `free` puts its own there.
                let part = &secret[16..];
                read.map_or(0, |()| count(&bytes, part))
            })
            .sum()
    }

    pub(crate) fn raw(&self, datagram: &[u8]) {
        self.socket.send(datagram).unwrap();
    }

    pub(crate) fn ask(&mut self, ask: Ask) -> Answer {
        self.number += 1;
        let number = self.number;
        self.socket.send(&encode(&ToTpm { number, ask }, MAX_TPM_BYTES).unwrap()).unwrap();
        let mut datagram = vec![0; MAX_TPM_BYTES + 64];
        let length = self.socket.recv(&mut datagram).unwrap();
        let (body, used) = split_first(&datagram[..length], MAX_TPM_BYTES).unwrap().unwrap();
        assert_eq!(used, length);
        let answer: FromTpm = decode(body).unwrap();
        assert_eq!(answer.number, number);
        answer.answer
    }

    pub(crate) fn health(&mut self) -> Health {
        match self.ask(Ask::Health) {
            Answer::Health(health) => health,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn define(&mut self, storage: Name) -> Counted {
        match self.ask(Ask::CounterDefine { storage, secret: SecretBytes::copy_from(&SECRET) }) {
            Answer::Defined { index, name, value } => Counted { index, name, value },
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn read(&mut self, storage: Name, counter: Counted) -> Result<u64, Refusal> {
        value(self.ask(Ask::CounterRead { storage, counter: counter.named() }))
    }

    pub(crate) fn increment(
        &mut self,
        storage: Name,
        (counter, from): (Counted, u64),
    ) -> Result<u64, Refusal> {
        value(self.ask(Ask::CounterIncrement { storage, counter: counter.named(), from }))
    }

    pub(crate) fn seal(&mut self, storage: Name, (key, policy): (&[u8], Policy)) -> Blob {
        match self.ask(Ask::Seal { storage, key: SecretBytes::copy_from(key), policy }) {
            Answer::Sealed(blob) => blob,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn unseal(
        &mut self,
        storage: Name,
        (blob, policy): (&Blob, Policy),
    ) -> Result<Vec<u8>, Refusal> {
        match self.ask(Ask::Unseal { storage, blob: blob.clone(), policy }) {
            Answer::Unsealed(key) => Ok(key.expose(<[u8]>::to_vec)),
            Answer::Refused(refusal) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }
}

impl Counted {
    pub(crate) fn named(self) -> Counter {
        let secret = SecretBytes::copy_from(&SECRET);
        Counter { index: self.index, name: self.name, secret }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// How often `part` stands in `bytes`, each time from a place of its own.
fn count(bytes: &[u8], part: &[u8]) -> usize {
    let (mut found, mut at) = (0, 0);
    while let Some(window) = bytes.get(at..at + part.len()) {
        let here = window == part;
        found += usize::from(here);
        at += if here { part.len() } else { 1 };
    }
    found
}

fn value(answer: Answer) -> Result<u64, Refusal> {
    match answer {
        Answer::Value(value) => Ok(value),
        Answer::Refused(refusal) => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn spawn(tcti: &str, keeper: &OwnedFd) -> Child {
    let (child, ready) = begin(tcti, keeper);
    std::io::Read::read_exact(&mut &ready, &mut [0]).unwrap();
    child
}

/// How a helper ends that is never ready.
pub(crate) fn outcome(tcti: &str) -> ExitStatus {
    let (_socket, theirs) = UnixDatagram::pair().unwrap();
    let (mut child, ready) = begin(tcti, &OwnedFd::from(theirs));
    let said = std::io::Read::read(&mut &ready, &mut [0]);
    if said.is_err() {
        child.kill().unwrap();
    }
    assert_eq!(said.unwrap(), 0, "it is not ready");
    child.wait().unwrap()
}

fn begin(tcti: &str, keeper: &OwnedFd) -> (Child, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let child = spawn::Child {
        program: Path::new(env!("CARGO_BIN_EXE_strongroom-tpm")),
        arguments: &["--tcti", tcti, "--keeper-fd", "3", "--ready-fd", "4"],
        user: None,
        network: Network::Host,
        inherited: &[keeper.as_fd(), theirs.as_fd()],
        keep_environment: &[],
        wipes_freed: true,
    };
    (child.start().unwrap(), ours)
}
