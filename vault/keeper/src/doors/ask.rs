//! `ask.sock`: the gateway's door.
//!
//! Trusts: that the peer runs under the gateway's uid.
//! Distrusts: everything it says; a captured gateway can only ask.

use std::rc::Rc;
use std::sync::Arc;

use strongroom_protocol::ask::{Answer, Ask, FromGateway, Refused, ToGateway};
use strongroom_protocol::frame::MAX_ASK_BYTES;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;

use super::inbox::Inbox;
use super::outbox::Outbox;
use crate::keeper::Keeper;
use crate::pipeline;
use strongroom_policy::refusal::Refusal;

/// Most questions under way on one connection.
const MAX_QUESTIONS: usize = 8192;

/// Serves one gateway until it goes.
pub async fn serve(keeper: Rc<Keeper>, stream: UnixStream) {
    let (reader, writer) = stream.into_split();
    let outbox = Outbox::new(MAX_ASK_BYTES);
    let draining = Rc::clone(&outbox);
    spawn_local(async move { draining.drain(writer).await });
    if keeper.add_gateway(&outbox).is_ok()
        && outbox.push(&ToGateway::Snapshot(keeper.snapshot())).is_ok()
    {
        let ended = listen(&keeper, &outbox, Inbox::new(reader, MAX_ASK_BYTES)).await;
        tracing::info!(reason = %ended, "a gateway has left");
    }
    outbox.close();
}

async fn listen(
    keeper: &Rc<Keeper>,
    outbox: &Rc<Outbox>,
    mut inbox: Inbox<tokio::net::unix::OwnedReadHalf>,
) -> super::inbox::InboxError {
    let room = Arc::new(Semaphore::new(MAX_QUESTIONS));
    loop {
        let FromGateway { number, ask } = match inbox.next().await {
            Ok(message) => message,
            Err(error) => return error,
        };
        match ask {
            Ask::Identify { proof, provider } => {
                answer(outbox, number, pipeline::identify(keeper, &proof, &provider));
            }
            Ask::Call(call) => {
                let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                    answer(outbox, number, Answer::Refused(Refused::plain(Refusal::Busy)));
                    continue;
                };
                let (keeper, outbox) = (Rc::clone(keeper), Rc::clone(outbox));
                spawn_local(async move {
                    answer(&outbox, number, pipeline::call(&keeper, &call).await);
                    drop(place);
                });
            }
        }
    }
}

fn answer(outbox: &Outbox, number: u64, answer: Answer) {
    // A gateway that is gone asks again when it is back.
    drop(outbox.push(&ToGateway::Answer { number, answer }));
}
