//! A software TPM, and a bus between it and its clients that listens, speaks up and can be cut.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::openpty;
use nix::sys::termios::{FlushArg, SetArg, cfmakeraw, tcflush, tcgetattr, tcsetattr};
use nix::unistd::ttyname;

const PATIENCE: Duration = Duration::from_mins(1);

/// A software TPM with its state.
pub(crate) struct Emulator {
    place: tempfile::TempDir,
    child: Option<Child>,
    /// What stands for the TPM's device: the near end of a terminal without any of a terminal's ways. Held, since the end of
    /// one is a signal to whoever opened it.
    device: Option<OwnedFd>,
    line: Arc<Mutex<Line>>,
}

/// The one connection to the emulator, and all that went over it.
struct Line {
    stream: Option<UnixStream>,
    seen: Vec<u8>,
    /// Changes an answer before it is passed on.
    meddle: Option<fn(&mut Vec<u8>)>,
}

impl Emulator {
    pub(crate) fn start() -> Self {
        Self::of_state(&[])
    }

    /// One that was before: with this state, or a new one without.
    pub(crate) fn of_state(permanent: &[u8]) -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("state")).unwrap();
        if !permanent.is_empty() {
            std::fs::write(place.path().join("state/tpm2-00.permall"), permanent).unwrap();
        }
        let line = Arc::new(Mutex::new(Line { stream: None, seen: Vec::new(), meddle: None }));
        let mut emulator = Self { place, child: None, device: None, line };
        emulator.plug_in();
        emulator
    }

    /// For `--tcti`.
    pub(crate) fn tcti(&self) -> String {
        self.forget_what_is_under_way();
        format!("device:{}", self.node().display())
    }

    /// What a helper that was killed did not read, as a driver forgets it.
    pub(crate) fn forget_what_is_under_way(&self) {
        if let Some(device) = &self.device {
            tcflush(device, FlushArg::TCIOFLUSH).unwrap();
        }
    }

    /// Where its device is, whichever it is at present.
    fn node(&self) -> PathBuf {
        self.place.path().join("tpmrm0")
    }

    /// Makes the device, and a thread that carries its commands.
    fn lay_bus(&mut self) {
        let ends = openpty(None, None).unwrap();
        let mut ways = tcgetattr(&ends.slave).unwrap();
        cfmakeraw(&mut ways);
        tcsetattr(&ends.slave, SetArg::TCSANOW, &ways).unwrap();
        drop(std::fs::remove_file(self.node()));
        std::os::unix::fs::symlink(ttyname(&ends.slave).unwrap(), self.node()).unwrap();
        self.device = Some(ends.slave);
        let line = Arc::clone(&self.line);
        thread::spawn(move || attend(File::from(ends.master), &line));
    }

    /// As after a power cycle: registers are as at the start, counters are as they were.
    pub(crate) fn plug_in(&mut self) {
        let data = self.place.path().join("data.sock");
        drop(std::fs::remove_file(&data));
        let child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"])
            .arg(format!("dir={}", self.state().display()))
            .arg("--server")
            .arg(format!("type=unixio,path={}", data.display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("swtpm is installed: apt-get install swtpm");
        self.child = Some(child);
        let end = Instant::now() + PATIENCE;
        let stream = loop {
            match UnixStream::connect(&data) {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < end, "swtpm: {error}"),
            }
            thread::sleep(Duration::from_millis(5));
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        self.line.lock().unwrap().stream = Some(stream);
        self.lay_bus();
    }

    /// Takes the TPM away: its bus answers nothing more.
    pub(crate) fn unplug(&mut self) {
        self.line.lock().unwrap().stream = None;
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    fn state(&self) -> PathBuf {
        self.place.path().join("state")
    }

    /// Copies what survives.
    pub(crate) fn copy_of_state(&self) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        copy_files(&self.state(), copy.path());
        copy
    }

    /// Puts such a copy in its place, while it is unplugged.
    pub(crate) fn put_state_back(&self, copy: &tempfile::TempDir) {
        copy_files(copy.path(), &self.state());
    }

    /// Sends a command of the test's own.
    pub(crate) fn send(&self, command: &[u8]) -> Vec<u8> {
        let mut line = self.line.lock().unwrap();
        pass(line.stream.as_mut().unwrap(), command).unwrap()
    }

    /// All that clients sent and were answered so far.
    pub(crate) fn seen(&self) -> Vec<u8> {
        self.line.lock().unwrap().seen.clone()
    }

    pub(crate) fn meddle(&self, how: Option<fn(&mut Vec<u8>)>) {
        self.line.lock().unwrap().meddle = how;
    }

    /// `TPM2_PCR_Extend` of the SHA-256 bank with 32 ones.
    pub(crate) fn extend(&self, register: u8) {
        let mut command = header(0x8002, 0x182, 10 + 4 + 4 + 9 + 4 + 2 + 32);
        command.extend([0, 0, 0, register]);
        command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        command.extend([0, 0, 0, 1, 0, 0x0B]);
        command.extend([1; 32]);
        assert_eq!(code(&self.send(&command)), 0);
    }

    /// How many sessions and transient objects it holds: `TPM_CAP_HANDLES`.
    pub(crate) fn held(&self) -> usize {
        [0x0200_0000_u32, 0x0300_0000, 0x8000_0000]
            .iter()
            .map(|first| {
                let mut command = header(0x8001, 0x17A, 22);
                command.extend(1_u32.to_be_bytes());
                command.extend(first.to_be_bytes());
                command.extend(64_u32.to_be_bytes());
                let answer = self.send(&command);
                assert_eq!(code(&answer), 0);
                usize::try_from(u32::from_be_bytes(answer[15..19].try_into().unwrap())).unwrap()
            })
            .sum()
    }

    /// Opens sessions until there is no room, as careless programs do; answers their handles.
    pub(crate) fn fill_with_sessions(&self) -> Vec<[u8; 4]> {
        let mut handles = Vec::new();
        loop {
            let mut command = header(0x8001, 0x176, 10 + 8 + 18 + 2 + 1 + 2 + 2);
            command.extend([0x40, 0, 0, 7, 0x40, 0, 0, 7, 0, 16]);
            command.extend([5; 16]);
            command.extend([0, 0, 0, 0, 0x10, 0, 0x0B]);
            let answer = self.send(&command);
            if code(&answer) != 0 {
                assert!(!handles.is_empty(), "{answer:?}");
                return handles;
            }
            handles.push(answer[10..14].try_into().unwrap());
        }
    }

    pub(crate) fn flush(&self, handle: [u8; 4]) {
        let mut command = header(0x8001, 0x165, 14);
        command.extend(handle);
        assert_eq!(code(&self.send(&command)), 0);
    }

    /// `TPM2_Clear`, as a firmware's menu does it.
    pub(crate) fn clear(&self) {
        let mut command = header(0x8002, 0x126, 27);
        command.extend([0x40, 0, 0, 0x0A, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        assert_eq!(code(&self.send(&command)), 0);
    }

    /// `TPM2_NV_UndefineSpace` as the owner.
    pub(crate) fn undefine(&self, index: u32) {
        let mut command = header(0x8002, 0x122, 31);
        command.extend([0x40, 0, 0, 1]);
        command.extend(index.to_be_bytes());
        command.extend([0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        assert_eq!(code(&self.send(&command)), 0);
    }

    /// `TPM2_NV_ReadPublic`: what is defined there, without its size.
    pub(crate) fn public_of(&self, index: u32) -> Vec<u8> {
        let mut command = header(0x8001, 0x169, 14);
        command.extend(index.to_be_bytes());
        let answer = self.send(&command);
        assert_eq!(code(&answer), 0);
        let length = usize::from(u16::from_be_bytes(answer[10..12].try_into().unwrap()));
        answer[12..12 + length].to_vec()
    }

    /// `TPM2_NV_DefineSpace` and `TPM2_NV_Increment` as the owner, with this public area and secret.
    pub(crate) fn define_and_increment(&self, public: &[u8], secret: &[u8]) {
        let size = 10 + 4 + 13 + 2 + secret.len() + 2 + public.len();
        let mut command = header(0x8002, 0x12A, size);
        command.extend([0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
        command.extend(u16::try_from(secret.len()).unwrap().to_be_bytes());
        command.extend(secret);
        command.extend(u16::try_from(public.len()).unwrap().to_be_bytes());
        command.extend(public);
        assert_eq!(code(&self.send(&command)), 0);
        let mut command = header(0x8002, 0x134, 10 + 8 + 13 + secret.len());
        command.extend([&public[..4], &public[..4]].concat());
        command.extend(u32::try_from(9 + secret.len()).unwrap().to_be_bytes());
        command.extend([0x40, 0, 0, 9, 0, 0, 0]);
        command.extend(u16::try_from(secret.len()).unwrap().to_be_bytes());
        command.extend(secret);
        assert_eq!(code(&self.send(&command)), 0);
    }
}

/// A software TPM that listens by TCP itself.
pub(crate) struct Direct {
    child: Child,
    _state: tempfile::TempDir,
}

impl Direct {
    /// And its place. It binds its ports itself: when somebody else has taken one meanwhile, it is started at others.
    pub(crate) fn start() -> (Self, String) {
        (0..10).find_map(|_| Self::start_once()).expect("swtpm by TCP")
    }

    fn start_once() -> Option<(Self, String)> {
        let state = tempfile::tempdir().unwrap();
        let (port, hold) = two_ports();
        drop(hold);
        let mut child = Command::new("swtpm")
            .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear", "--tpmstate"])
            .arg(format!("dir={}", state.path().display()))
            .arg("--server")
            .arg(format!("type=tcp,port={port}"))
            .arg("--ctrl")
            .arg(format!("type=tcp,port={}", port + 1))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("swtpm is installed: apt-get install swtpm");
        // It takes one connection, so it is not asked whether it listens.
        let ports = [port, port + 1].map(|port| format!(":{port:04X} "));
        let end = Instant::now() + PATIENCE;
        let listens = || {
            let sockets = std::fs::read_to_string("/proc/net/tcp").unwrap();
            ports.iter().all(|port| {
                sockets.lines().any(|line| line.contains(port) && line.contains(" 0A "))
            })
        };
        while !listens() {
            if child.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(Instant::now() < end, "swtpm by TCP");
            thread::sleep(Duration::from_millis(5));
        }
        Some((Self { child, _state: state }, format!("swtpm:127.0.0.1:{port}")))
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Two ports beside one another, by the first of them; nobody else's while they are held.
pub(crate) fn two_ports() -> (u16, [TcpListener; 2]) {
    for _ in 0..100 {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let second = port.checked_add(1).map(|second| TcpListener::bind(("127.0.0.1", second)));
        if let Some(Ok(second)) = second {
            return (port, [first, second]);
        }
    }
    panic!("no two ports beside one another are free");
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.unplug();
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // Its lock belongs to who runs.
        if entry.file_name() != ".lock" {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

pub(crate) fn header(tag: u16, command: u32, size: usize) -> Vec<u8> {
    let mut bytes = tag.to_be_bytes().to_vec();
    bytes.extend(u32::try_from(size).unwrap().to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes
}

pub(crate) fn code(answer: &[u8]) -> u32 {
    u32::from_be_bytes(answer[6..10].try_into().unwrap())
}

/// One client: command by command, so that the test's own come between.
fn attend(mut client: File, line: &Mutex<Line>) {
    while let Ok(command) = message(&mut client) {
        let mut line = line.lock().unwrap();
        let Some(stream) = line.stream.as_mut() else {
            // No TPM answers one byte, so this is an error of the way.
            drop(client.write_all(&[0]));
            continue;
        };
        let Ok(mut answer) = pass(stream, &command) else { return };
        line.seen.extend([command, answer.clone()].concat());
        if let Some(meddle) = line.meddle {
            meddle(&mut answer);
        }
        if client.write_all(&answer).is_err() {
            return;
        }
    }
}

fn pass(stream: &mut UnixStream, command: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(command)?;
    message(stream)
}

fn message(stream: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; 10];
    stream.read_exact(&mut bytes)?;
    let size = u32::from_be_bytes(bytes[2..6].try_into().unwrap());
    bytes.resize(usize::try_from(size).unwrap().max(10), 0);
    stream.read_exact(&mut bytes[10..])?;
    Ok(bytes)
}
