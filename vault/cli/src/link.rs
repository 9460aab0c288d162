//! The conversation with the keeper: one request, one answer, over `operator.sock`.
//!
//! Invariant: every wait ends; a frame over the limit is not read; frames are wiped.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::Pid;
use strongroom_protocol::frame::{MAX_OPERATOR_BYTES, PREFIX_BYTES, announced, decode, encode};
use strongroom_protocol::operator::about::About;
use strongroom_protocol::operator::{Answer, Pick, Request};
use strongroom_sys::peer::peer;
use zeroize::Zeroizing;

use crate::failure::{Code, Failure, Outcome};

/// Longer than a key derivation on a slow machine and than a probe of a provider.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A connection to the keeper.
#[derive(Debug)]
pub(crate) struct Link {
    stream: UnixStream,
    path: PathBuf,
    /// The tenant that requests are about, where they are about one.
    tenant: Option<Pick>,
}

impl Link {
    /// Connects.
    pub(crate) fn open(path: &Path) -> Outcome<Self> {
        let stream = UnixStream::connect(path).map_err(|error| unreachable_keeper(path, &error))?;
        Ok(Self { stream, path: path.to_owned(), tenant: None })
    }

    /// Takes a connection that is there already, as to another machine's relay.
    pub(crate) fn over(stream: UnixStream, name: &Path) -> Self {
        Self { stream, path: name.to_owned(), tenant: None }
    }

    /// The same, for a tenant: every request that is about one is about this one from now on.
    pub(crate) fn within(self, tenant: Option<Pick>) -> Self {
        Self { tenant, ..self }
    }

    /// The process at the other end.
    pub(crate) fn peer(&self) -> Option<Pid> {
        peer(&self.stream).ok().map(|peer| peer.pid)
    }

    /// Asks, and yields whatever is answered.
    pub(crate) fn pass(&mut self, request: &Request) -> Outcome<Answer> {
        self.exchange(request, PATIENCE).map_err(|error| self.broken(&error))
    }

    /// Asks, and yields any answer but a failure.
    pub(crate) fn ask(&mut self, request: &Request) -> Outcome<Answer> {
        self.ask_within(request, PATIENCE)
    }

    /// Asks with a wait of its own.
    pub(crate) fn ask_within(&mut self, request: &Request, wait: Duration) -> Outcome<Answer> {
        match self.exchange(request, wait) {
            Ok(Answer::Failed(fault)) => Err(fault.into()),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.broken(&error)),
        }
    }

    /// Asks for something that is answered with a bare "done".
    pub(crate) fn tell(&mut self, request: &Request) -> Outcome {
        match self.ask(request)? {
            Answer::Done => Ok(()),
            _ => Err(Failure::unexpected()),
        }
    }

    /// Asks for the end of the other side, which answers by going away.
    pub(crate) fn end(&mut self, request: &Request) -> Outcome {
        match self.exchange(request, PATIENCE) {
            Ok(Answer::Failed(fault)) => Err(fault.into()),
            Ok(_) => Err(Failure::unexpected()),
            Err(error) => match error.kind() {
                ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
                    Ok(())
                }
                _ => Err(self.broken(&error)),
            },
        }
    }

    fn exchange(&mut self, request: &Request, wait: Duration) -> io::Result<Answer> {
        let frame = match (&self.tenant, request.about()) {
            (Some(tenant), About::Tenant | About::Either) => {
                let request = request.within(tenant.clone()).map_err(invalid)?;
                encode(&request, MAX_OPERATOR_BYTES)
            }
            (Some(_), About::Vault) | (None, _) => encode(request, MAX_OPERATOR_BYTES),
        };
        let frame = frame.map_err(invalid)?;
        self.stream.set_write_timeout(Some(wait))?;
        self.stream.set_read_timeout(Some(wait))?;
        self.stream.write_all(&frame)?;
        let mut prefix = [0_u8; PREFIX_BYTES];
        self.stream.read_exact(&mut prefix)?;
        let length = announced(prefix, MAX_OPERATOR_BYTES).map_err(invalid)?;
        let mut body = Zeroizing::new(vec![0_u8; length]);
        self.stream.read_exact(&mut body)?;
        decode(&body).map_err(invalid)
    }

    fn broken(&self, error: &io::Error) -> Failure {
        let what = match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => "the keeper did not answer in time",
            ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                "the keeper ended the conversation"
            }
            _ => "the conversation with the keeper failed",
        };
        Failure::new(Code::Link, format!("{what} ({}: {error})", self.path.display()))
            .next("strongroom doctor")
    }
}

fn invalid(error: strongroom_protocol::frame::FrameError) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, error)
}

fn unreachable_keeper(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    match error.kind() {
        ErrorKind::PermissionDenied => {
            Failure::new(Code::NotRunning, format!("{path} is not open to this user"))
                .next("run it with sudo, or as a member of the group `strongroom`")
        }
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            Failure::new(Code::NotRunning, format!("Strongroom is not running here ({path})"))
                .next("strongroom up (or name the place: --dir DIR, --demo)")
        }
        _ => Failure::new(Code::NotRunning, format!("{path}: {error}")).next("strongroom doctor"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;
    use std::thread;
    use std::time::Duration;

    use strongroom_protocol::frame::{MAX_OPERATOR_BYTES, encode};
    use strongroom_protocol::operator::{Answer, Exit, Fault, Request};

    use super::{Link, PATIENCE};

    fn against(reply: Vec<u8>, wait: Duration) -> Result<Answer, crate::failure::Failure> {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("operator.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let keeper = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0_u8; 5];
            stream.read_exact(&mut request).unwrap();
            stream.write_all(&reply).unwrap();
            stream
        });
        let answer = Link::open(&path).unwrap().ask_within(&Request::Status, wait);
        drop(keeper.join().unwrap());
        answer
    }

    #[test]
    fn an_answer_comes_back_and_a_fault_becomes_a_failure() {
        let done = encode(&Answer::Done, MAX_OPERATOR_BYTES).unwrap();
        assert!(matches!(against(done.to_vec(), PATIENCE), Ok(Answer::Done)));
        let fault = Fault {
            code: "SR-SEALED-002".into(),
            message: "sealed".into(),
            next: None,
            exit: Exit::Sealed,
        };
        let failed = encode(&Answer::Failed(fault), MAX_OPERATOR_BYTES).unwrap();
        assert_eq!(against(failed.to_vec(), PATIENCE).unwrap_err().exit, 2);
    }

    #[test]
    fn silence_and_nonsense_end() {
        for reply in [vec![], vec![0xff; 4], vec![2, 0, 0, 0, 0xee, 0xee]] {
            assert_eq!(against(reply, Duration::from_millis(300)).unwrap_err().code, "SR-CLI-002");
        }
    }

    #[test]
    fn a_missing_socket_names_the_next_step() {
        let failure = Link::open(std::path::Path::new("/nonexistent/operator.sock")).unwrap_err();
        assert!(failure.next.unwrap().contains("strongroom up"));
    }
}
