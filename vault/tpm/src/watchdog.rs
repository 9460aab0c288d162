//! Ends the process when a TPM does not answer: libtss2 would wait for ever.
//!
//! Invariant: a question is answered, or refused and this process ended, within [`PATIENCE`] and a little.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use strongroom_protocol::frame::encode;
use strongroom_protocol::tpm::{Answer, FromTpm, MAX_TPM_BYTES, Refusal};

/// How long one question may take: a slow chip needs a second or two for each of a handful of commands. A little less than the
/// keeper waits.
pub const PATIENCE: Duration = Duration::from_secs(18);

/// Watches one question after the other.
#[derive(Debug)]
pub struct Watchdog(SyncSender<Option<u64>>);

impl Watchdog {
    /// Starts watching; `socket` is where the keeper is told.
    ///
    /// # Errors
    /// When there is no further descriptor or thread.
    pub fn start(socket: &UnixDatagram, patience: Duration) -> io::Result<Self> {
        let socket = socket.try_clone()?;
        let (tell, told) = sync_channel(1);
        let watch = move || watch(&socket, &told, patience);
        std::thread::Builder::new().name("watchdog".to_owned()).spawn(watch)?;
        Ok(Self(tell))
    }

    /// A question is put to the TPM.
    pub fn begin(&self, number: u64) {
        self.tell(Some(number));
    }

    /// It is answered.
    pub fn end(&self) {
        self.tell(None);
    }

    fn tell(&self, question: Option<u64>) {
        if self.0.send(question).is_err() {
            // The thread has no other end than that of the process.
            tracing::error!("nobody watches the TPM any more");
        }
    }
}

fn watch(socket: &UnixDatagram, told: &Receiver<Option<u64>>, patience: Duration) {
    while let Ok(question) = told.recv() {
        let Some(number) = question else { continue };
        match told.recv_timeout(patience) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                tracing::error!("the TPM did not answer in time");
                let answer = FromTpm { number, answer: Answer::Refused(Refusal::NoTpm) };
                if let Ok(frame) = encode(&answer, MAX_TPM_BYTES) {
                    drop(socket.send(&frame));
                }
                // Not `exit`: that would wait for libtss2.
                std::process::abort();
            }
        }
    }
}
