//! The way to a TPM: the kernel's device, or the socket of a software TPM.
//!
//! Invariant: an answer is read whole, within its time and its size, or the device is given up.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use zeroize::Zeroizing;

use crate::wire::{HEADER_BYTES, MAX_MESSAGE_BYTES};

/// How long one command may take; making a key in a slow chip takes a second or two.
const COMMAND_SECONDS: u8 = 15;

/// Where a TPM is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A character device, such as `/dev/tpmrm0`.
    Device(PathBuf),
    /// The Unix socket of a software TPM: `swtpm:PATH`.
    Socket(PathBuf),
    /// Its TCP socket: `swtpm:ADDRESS:PORT`.
    Tcp(SocketAddr),
}

/// Not a place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither device:PATH nor swtpm:PATH nor swtpm:ADDRESS:PORT")]
pub struct BadPlace(String);

/// An open way to a TPM.
#[derive(Debug)]
pub struct Device(Way);

#[derive(Debug)]
enum Way {
    File(File),
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl FromStr for Place {
    type Err = BadPlace;

    fn from_str(text: &str) -> Result<Self, BadPlace> {
        match text.split_once(':') {
            Some(("device", path)) if path.starts_with('/') => Ok(Self::Device(path.into())),
            Some(("swtpm", path)) if path.starts_with('/') => Ok(Self::Socket(path.into())),
            Some(("swtpm", address)) => {
                address.parse().map(Self::Tcp).map_err(|_| BadPlace(text.to_owned()))
            }
            Some(_) | None => Err(BadPlace(text.to_owned())),
        }
    }
}

impl Device {
    /// Opens the way.
    ///
    /// # Errors
    /// The system's.
    pub fn open(place: &Place) -> io::Result<Self> {
        let patience = Some(Duration::from_secs(COMMAND_SECONDS.into()));
        Ok(Self(match place {
            Place::Device(path) => Way::File(OpenOptions::new().read(true).write(true).open(path)?),
            Place::Socket(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                Way::Unix(stream)
            }
            Place::Tcp(address) => {
                let stream = TcpStream::connect_timeout(address, Duration::from_secs(5))?;
                stream.set_read_timeout(patience)?;
                stream.set_write_timeout(patience)?;
                Way::Tcp(stream)
            }
        }))
    }

    /// Sends a command and reads its answer, header and all.
    ///
    /// # Errors
    /// The system's, or when the answer is longer than a TPM's; the device is of no more use then.
    pub fn transact(&mut self, command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
        match &mut self.0 {
            Way::File(file) => from_file(file, command),
            Way::Unix(stream) => from_stream(stream, command),
            Way::Tcp(stream) => from_stream(stream, command),
        }
    }
}

/// The driver takes a command in one write and gives its answer in one read.
fn from_file(file: &mut File, command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    file.write_all(command)?;
    let mut ready = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    let patience = u16::from(COMMAND_SECONDS).saturating_mul(1000);
    if poll(&mut ready, PollTimeout::from(patience))? == 0 {
        return Err(ErrorKind::TimedOut.into());
    }
    let mut answer = Zeroizing::new(vec![0; MAX_MESSAGE_BYTES]);
    let length = file.read(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn from_stream(stream: &mut (impl Read + Write), command: &[u8]) -> io::Result<Zeroizing<Vec<u8>>> {
    stream.write_all(command)?;
    let mut answer = Zeroizing::new(vec![0; HEADER_BYTES]);
    stream.read_exact(&mut answer)?;
    let length = answer.get(2..6).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    let length = length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    if !(HEADER_BYTES..=MAX_MESSAGE_BYTES).contains(&length) {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "an answer of a length that no TPM gives",
        ));
    }
    let mut whole = Zeroizing::new(vec![0; length]);
    let (head, rest) = whole.split_at_mut(HEADER_BYTES);
    head.copy_from_slice(&answer);
    stream.read_exact(rest)?;
    Ok(whole)
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn a_place_is_a_device_or_a_software_tpm() {
        let tcp = "swtpm:127.0.0.1:2321".parse();
        assert_eq!(tcp, Ok(Place::Tcp("127.0.0.1:2321".parse().unwrap())));
        assert_eq!("swtpm:/run/s".parse(), Ok(Place::Socket("/run/s".into())));
        assert_eq!("device:/dev/tpmrm0".parse(), Ok(Place::Device("/dev/tpmrm0".into())));
        for bad in
            ["", "/dev/tpmrm0", "device:tpm0", "swtpm:host=127.0.0.1,port=1", "cmd:sh", "swtpm:"]
        {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
