//! A keeper that hands out what the test puts in.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use strongroom_policy::id::CallId;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::Ticket;
use strongroom_protocol::errand::{Errand, FromCourier, Outcome, Probed, ToCourier};
use strongroom_protocol::frame::{MAX_ERRAND_BYTES, PREFIX_BYTES, announced, decode, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::scene::PATIENCE;

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    says: mpsc::UnboundedSender<ToCourier>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    errands: Mutex<HashMap<Ticket, Box<Errand>>>,
    heard: Mutex<Vec<Heard>>,
    told: Notify,
}

/// What the courier reported, in order.
#[derive(Debug, Clone)]
pub(crate) enum Heard {
    Redeemed,
    Outcome(Box<Outcome>),
    Probed(Box<Probed>),
}

impl Keeper {
    pub(crate) fn listen(path: &Path) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let (says, mut hears) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared::default());
        let (for_task, answers) = (Arc::clone(&shared), says.clone());
        let task = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (reading, mut writing) = stream.into_split();
            let listening = hear(reading, for_task, answers);
            let speaking = async {
                while let Some(message) = hears.recv().await {
                    let frame = encode(&message, MAX_ERRAND_BYTES).unwrap();
                    writing.write_all(&frame).await.unwrap();
                }
            };
            tokio::join!(listening, speaking);
        });
        Self { shared, says, task }
    }

    pub(crate) fn admit(&self, ticket: Ticket, errand: Errand) {
        self.shared.errands.lock().unwrap().insert(ticket, Box::new(errand));
    }

    pub(crate) fn say(&self, message: ToCourier) {
        self.says.send(message).unwrap();
    }

    /// Closes the connection.
    pub(crate) fn leave(&self) {
        self.task.abort();
    }

    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().unwrap().clone()
    }

    pub(crate) async fn until<T>(&self, find: impl Fn(&[Heard]) -> Option<T>) -> T {
        let waited = tokio::time::timeout(PATIENCE, async {
            loop {
                let told = self.shared.told.notified();
                if let Some(found) = find(&self.shared.heard.lock().unwrap()) {
                    return found;
                }
                told.await;
            }
        });
        waited.await.unwrap_or_else(|_| panic!("the courier did not report: {:?}", self.heard()))
    }

    pub(crate) async fn outcome(&self, call: CallId) -> Outcome {
        self.until(|heard| outcomes(heard, call).first().cloned()).await
    }

    pub(crate) fn reports_of(&self, call: CallId) -> usize {
        outcomes(&self.heard(), call).len()
    }
}

fn outcomes(heard: &[Heard], call: CallId) -> Vec<Outcome> {
    let of_call = |one: &Heard| match one {
        Heard::Outcome(outcome) if outcome.call == call => Some((**outcome).clone()),
        _ => None,
    };
    heard.iter().filter_map(of_call).collect()
}

async fn hear(
    mut reading: OwnedReadHalf,
    shared: Arc<Shared>,
    answers: mpsc::UnboundedSender<ToCourier>,
) {
    let mut prefix = [0; PREFIX_BYTES];
    while reading.read_exact(&mut prefix).await.is_ok() {
        let mut body = vec![0; announced(prefix, MAX_ERRAND_BYTES).unwrap()];
        reading.read_exact(&mut body).await.unwrap();
        let heard = match decode::<FromCourier>(&body).unwrap() {
            FromCourier::Redeem(ticket) => {
                let found = shared.errands.lock().unwrap().remove(&ticket);
                let answer = match found {
                    Some(errand) => ToCourier::Errand { ticket, errand },
                    None => ToCourier::Refused { ticket, refusal: Refusal::TicketUnknown },
                };
                answers.send(answer).unwrap();
                Heard::Redeemed
            }
            FromCourier::Outcome(outcome) => Heard::Outcome(outcome),
            FromCourier::Probed(probed) => Heard::Probed(probed),
        };
        shared.heard.lock().unwrap().push(heard);
        shared.told.notify_waiters();
    }
}
