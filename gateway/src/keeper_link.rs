//! The one connection to the keeper: many questions under way, matched by number, gathered into few writes.
//!
//! Invariant: the questions under way and the bytes that wait are bounded; every wait has an end.
//! Invariant: when the connection breaks, the process ends; it cannot dial again.
//! Trusts: the keeper.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use strongroom_policy::budget::Warning;
use strongroom_policy::id::CallId;
use strongroom_policy::name::ProviderName;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{
    Answer, Ask, CallAsk, FromGateway, Refused, Snapshot, Ticket, ToGateway, VaultState,
};
use strongroom_protocol::frame::{MAX_ASK_BYTES, decode, encode_into, split_first};
use strongroom_protocol::person::{NotSignedIn, PersonAnswer, PersonAsk};
use strongroom_socket::{Reader, Writer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{Instant, sleep};
use zeroize::{Zeroize, Zeroizing};

use crate::gateway::Broken;

/// Most questions under way: far beyond what the lanes can carry.
pub const MAX_UNDER_WAY: usize = 8192;
/// How long the keeper may take: it answers in microseconds, or not at all.
const ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How exactly that is measured.
const CLOCK_TICK: Duration = Duration::from_millis(500);
/// Most bytes that wait to be written.
const MAX_WAITING_BYTES: usize = 4 * 1024 * 1024;
/// How much is read at once.
const READ_BYTES: usize = 64 * 1024;

/// The way to the keeper.
#[derive(Clone)]
pub struct KeeperLink {
    shared: Arc<Shared>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
}

struct Shared {
    desk: Mutex<Desk>,
    written: Notify,
    /// Told when a question is the only one: the clock stands while there is none.
    asked: Arc<Notify>,
}

#[derive(Default)]
struct Desk {
    last_number: u64,
    under_way: HashMap<u64, Question>,
    outbox: Zeroizing<Vec<u8>>,
}

struct Question {
    asker: oneshot::Sender<Answer>,
    asked: Instant,
}

impl KeeperLink {
    /// Starts the tasks that serve the connection; they tell `broken` when it ends.
    pub fn start((reader, writer): (Reader, Writer), broken: mpsc::Sender<Broken>) -> Self {
        let shared = Arc::new(Shared {
            desk: Mutex::default(),
            written: Notify::new(),
            asked: Arc::default(),
        });
        let (publish, snapshot) = watch::channel(Arc::new(nothing_known()));
        let (here, other) = (Arc::clone(&shared), broken.clone());
        tokio::spawn(async move {
            let end = write_questions(&here, writer).await;
            tracing::error!(reason = %end, "the keeper's connection broke while writing");
            let _ = other.send(Broken::Keeper).await;
        });
        let here = Arc::clone(&shared);
        tokio::spawn(async move {
            let end = read_answers(&here, reader, &publish).await;
            tracing::error!(reason = %end, "the keeper's connection broke while reading");
            let _ = broken.send(Broken::Keeper).await;
        });
        tokio::spawn(give_up_old(Arc::downgrade(&shared), Arc::clone(&shared.asked)));
        Self { shared, snapshot }
    }

    /// What the keeper said last about the vault and its providers.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.borrow())
    }

    /// Waits for the next snapshot.
    pub async fn changed(&mut self) {
        let _ = self.snapshot.changed().await;
    }

    /// How many questions are under way.
    pub fn under_way(&self) -> usize {
        self.shared.desk().under_way.len()
    }

    /// May whoever presents this proof call this provider at all?
    ///
    /// # Errors
    /// The keeper's refusal, or ours when it does not answer.
    pub async fn identify(
        &self,
        proof: SecretBytes,
        provider: ProviderName,
    ) -> Result<(), Refused> {
        match self.ask(Ask::Identify { proof, provider }).await? {
            Answer::Identified => Ok(()),
            Answer::Refused(refused) => Err(refused),
            Answer::Admitted { .. } | Answer::Person(_) => Err(Refused::plain(Refusal::Internal)),
        }
    }

    /// May this call be made?
    ///
    /// # Errors
    /// The keeper's refusal, or ours when it does not answer.
    pub async fn call(&self, call: CallAsk) -> Result<(Ticket, CallId, Option<Warning>), Refused> {
        match self.ask(Ask::Call(Box::new(call))).await? {
            Answer::Admitted { ticket, call, budget } => Ok((ticket, call, budget)),
            Answer::Refused(refused) => Err(refused),
            Answer::Identified | Answer::Person(_) => Err(Refused::plain(Refusal::Internal)),
        }
    }

    /// What somebody who signs in, or is signed in, asks for.
    ///
    /// # Errors
    /// Why not, and when trying again can help.
    pub async fn person(&self, ask: PersonAsk) -> Result<PersonAnswer, (NotSignedIn, Option<u32>)> {
        match self.ask(Ask::Person(Box::new(ask))).await {
            Ok(Answer::Person(answer)) => match *answer {
                PersonAnswer::Refused { why, retry_after_secs } => Err((why, retry_after_secs)),
                other => Ok(other),
            },
            Ok(Answer::Identified | Answer::Admitted { .. } | Answer::Refused(_)) => {
                Err((NotSignedIn::Internal, None))
            }
            Err(_) => Err((NotSignedIn::Busy, Some(1))),
        }
    }

    async fn ask(&self, ask: Ask) -> Result<Answer, Refused> {
        let (number, answer) = self.shared.post(ask).map_err(Refused::plain)?;
        let _forget = Forget { shared: &self.shared, number };
        // Given up after `ANSWER_WAIT`, see below.
        answer.await.map_err(|_| Refused::plain(Refusal::Busy))
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn post(&self, ask: Ask) -> Result<(u64, oneshot::Receiver<Answer>), Refusal> {
        let mut desk = self.desk();
        if desk.under_way.len() >= MAX_UNDER_WAY || desk.outbox.len() >= MAX_WAITING_BYTES {
            return Err(Refusal::Busy);
        }
        let number = desk.last_number.wrapping_add(1);
        desk.last_number = number;
        encode_into(&mut desk.outbox, &FromGateway { number, ask }, MAX_ASK_BYTES)
            .map_err(|_| Refusal::HeadInvalid)?;
        let (asker, receiver) = oneshot::channel();
        let is_only = desk.under_way.is_empty();
        desk.under_way.insert(number, Question { asker, asked: Instant::now() });
        drop(desk);
        if is_only {
            self.asked.notify_one();
        }
        self.written.notify_one();
        Ok((number, receiver))
    }
}

/// Forgets a question whose asker is gone, so that the table holds only what somebody waits for.
struct Forget<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        self.shared.desk().under_way.remove(&self.number);
    }
}

/// One clock for all questions: a timer for each would cost two system calls a call. It runs while there are questions.
async fn give_up_old(shared: Weak<Shared>, asked: Arc<Notify>) {
    loop {
        asked.notified().await;
        let mut waiting = true;
        while waiting {
            sleep(CLOCK_TICK).await;
            let Some(shared) = shared.upgrade() else { return };
            let mut desk = shared.desk();
            desk.under_way.retain(|_, question| question.asked.elapsed() < ANSWER_WAIT);
            waiting = !desk.under_way.is_empty();
        }
    }
}

/// Everything that gathered while the last write ran goes out in one.
async fn write_questions(shared: &Shared, mut writer: Writer) -> io::Error {
    let mut batch = Zeroizing::new(Vec::new());
    loop {
        shared.written.notified().await;
        // Whoever else is ready now asks in the same write.
        tokio::task::yield_now().await;
        loop {
            std::mem::swap(&mut batch, &mut shared.desk().outbox);
            if batch.is_empty() {
                break;
            }
            if let Err(error) = writer.write_all(&batch).await {
                return error;
            }
            // Tokens; `zeroize` leaves the capacity, which serves the next batch.
            batch.zeroize();
        }
    }
}

async fn read_answers(
    shared: &Shared,
    mut reader: Reader,
    publish: &watch::Sender<Arc<Snapshot>>,
) -> io::Error {
    let mut buffer = BytesMut::new();
    loop {
        loop {
            let (message, used) = match split_first(&buffer, MAX_ASK_BYTES) {
                Ok(None) => break,
                Ok(Some((body, used))) => (decode::<ToGateway>(body), used),
                Err(error) => return malformed(error),
            };
            match message {
                Ok(ToGateway::Answer { number, answer }) => deliver(shared, number, answer),
                Ok(ToGateway::Snapshot(snapshot)) => {
                    tracing::info!(version = snapshot.version, state = ?snapshot.state, "snapshot");
                    drop(publish.send_replace(Arc::new(snapshot)));
                }
                Err(error) => return malformed(error),
            }
            buffer.advance(used);
        }
        buffer.reserve(READ_BYTES);
        match reader.read_buf(&mut buffer).await {
            Ok(0) => return io::ErrorKind::UnexpectedEof.into(),
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

fn deliver(shared: &Shared, number: u64, answer: Answer) {
    let question = shared.desk().under_way.remove(&number);
    if let Some(Question { asker, .. }) = question {
        // Whoever asked may just have gone away; an unredeemed ticket dies by itself.
        drop(asker.send(answer));
    }
}

fn malformed(error: strongroom_protocol::frame::FrameError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn nothing_known() -> Snapshot {
    Snapshot { version: 0, state: VaultState::Sealed, providers: Vec::new(), session_key: None }
}

#[cfg(test)]
mod tests {
    use strongroom_policy::name::ProviderName;
    use strongroom_policy::refusal::Refusal;
    use strongroom_protocol::SecretBytes;
    use strongroom_protocol::ask::{Answer, Ask, FromGateway, Refused, ToGateway};
    use strongroom_protocol::frame::{MAX_ASK_BYTES, decode, encode};
    use strongroom_socket::split_again;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;
    use tokio::time::{Duration, Instant, sleep};

    use super::{ANSWER_WAIT, Broken, CLOCK_TICK, KeeperLink};

    async fn question(keeper: &mut UnixStream) -> FromGateway {
        let length = usize::try_from(keeper.read_u32_le().await.unwrap()).unwrap();
        let mut body = vec![0; length];
        keeper.read_exact(&mut body).await.unwrap();
        decode(&body).unwrap()
    }

    fn provider() -> ProviderName {
        ProviderName::parse("openai").unwrap()
    }

    #[tokio::test]
    async fn answers_find_their_askers_in_any_order() {
        let (here, mut keeper) = UnixStream::pair().unwrap();
        let (broken, _broken) = mpsc::channel(4);
        let link = KeeperLink::start(split_again(here).unwrap(), broken);
        let ask = |text: &'static [u8]| {
            let link = link.clone();
            tokio::spawn(
                async move { link.identify(SecretBytes::copy_from(text), provider()).await },
            )
        };
        let (good, bad) = (ask(b"good"), ask(b"bad"));
        let mut questions = [question(&mut keeper).await, question(&mut keeper).await];
        questions.reverse();
        for FromGateway { number, ask } in questions {
            let Ask::Identify { proof, .. } = ask else { panic!("not an identify") };
            let answer = if proof.expose(|text| text == b"good") {
                Answer::Identified
            } else {
                Answer::Refused(Refused::plain(Refusal::TokenInvalid))
            };
            let frame = encode(&ToGateway::Answer { number, answer }, MAX_ASK_BYTES).unwrap();
            keeper.write_all(&frame).await.unwrap();
        }
        assert!(good.await.unwrap().is_ok());
        assert_eq!(bad.await.unwrap().unwrap_err().refusal, Refusal::TokenInvalid);
        assert_eq!(link.under_way(), 0);
    }

    #[tokio::test]
    async fn a_question_that_nobody_waits_for_is_forgotten() {
        let (here, mut keeper) = UnixStream::pair().unwrap();
        let (broken, _broken) = mpsc::channel(4);
        let link = KeeperLink::start(split_again(here).unwrap(), broken);
        let other = link.clone();
        let asker =
            tokio::spawn(
                async move { other.identify(SecretBytes::copy_from(b"x"), provider()).await },
            );
        let _question = question(&mut keeper).await;
        assert_eq!(link.under_way(), 1);
        asker.abort();
        drop(asker.await);
        assert_eq!(link.under_way(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_keeper_that_does_not_answer_is_not_waited_for() {
        let (here, _keeper) = UnixStream::pair().unwrap();
        let (broken, _broken) = mpsc::channel(4);
        let link = KeeperLink::start(split_again(here).unwrap(), broken);
        // The clock stands in between, and goes again.
        for _ in 0..3 {
            let begun = Instant::now();
            let refused =
                link.identify(SecretBytes::copy_from(b"x"), provider()).await.unwrap_err();
            assert_eq!(refused.refusal, Refusal::Busy);
            assert!(begun.elapsed() >= ANSWER_WAIT);
            assert!(begun.elapsed() <= ANSWER_WAIT + 2 * CLOCK_TICK);
            assert_eq!(link.under_way(), 0);
            sleep(Duration::from_mins(10)).await;
        }
    }

    #[tokio::test]
    async fn a_broken_connection_is_told() {
        let (here, keeper) = UnixStream::pair().unwrap();
        let (broken, mut told) = mpsc::channel(4);
        let _link = KeeperLink::start(split_again(here).unwrap(), broken);
        drop(keeper);
        assert_eq!(told.recv().await, Some(Broken::Keeper));
    }

    #[tokio::test]
    async fn bytes_that_are_no_message_break_the_connection() {
        let (here, mut keeper) = UnixStream::pair().unwrap();
        let (broken, mut told) = mpsc::channel(4);
        let _link = KeeperLink::start(split_again(here).unwrap(), broken);
        keeper.write_all(&[2, 0, 0, 0, 0xff, 0xff]).await.unwrap();
        assert_eq!(told.recv().await, Some(Broken::Keeper));
    }
}
