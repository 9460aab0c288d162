//! `ask.sock`: the gateway's door.
//!
//! Trusts: that the peer runs under the gateway's uid.
//! Distrusts: everything it says; a captured gateway can only ask.

use std::rc::Rc;

use strongroom_protocol::ask::{Ask, FromGateway, ToGateway};
use strongroom_protocol::frame::MAX_ASK_BYTES;
use strongroom_socket::{Reader, split_again};
use tokio::net::UnixStream;
use tokio::task::spawn_local;

use super::inbox::{Inbox, InboxError};
use super::outbox::Outbox;
use crate::keeper::{Asker, GatewayId, Keeper};
use crate::{people, pipeline};

/// Serves one gateway until it goes.
pub async fn serve(keeper: Rc<Keeper>, stream: UnixStream) {
    let (reader, writer) = match split_again(stream) {
        Ok(halves) => halves,
        Err(error) => return tracing::error!(%error, "a gateway was not taken in"),
    };
    let outbox = Outbox::new(MAX_ASK_BYTES);
    let draining = Rc::clone(&outbox);
    spawn_local(async move { draining.drain(writer).await });
    if let Ok(gateway) = keeper.add_gateway(&outbox)
        && outbox.push(&ToGateway::Snapshot(keeper.snapshot())).is_ok()
    {
        let ended = tokio::select! {
            biased;
            () = outbox.closed() => InboxError::Stalled,
            ended = listen(&keeper, gateway, Inbox::new(reader, MAX_ASK_BYTES)) => ended,
        };
        tracing::info!(reason = %ended, "a gateway has left");
    }
    outbox.close();
}

/// No question waits here: each is answered at once, or when its entry or record is written; the journal bounds how many of the
/// first there are, and `people` of the second.
async fn listen(keeper: &Rc<Keeper>, gateway: GatewayId, mut inbox: Inbox<Reader>) -> InboxError {
    loop {
        let FromGateway { number, ask } = match inbox.next().await {
            Ok(message) => message,
            Err(error) => return error,
        };
        let asker = Asker { gateway, number };
        match ask {
            Ask::Identify { proof, provider } => {
                keeper.answer(asker, pipeline::identify(keeper, &proof, &provider));
            }
            Ask::Call(call) => pipeline::call(keeper, *call, asker),
            Ask::Person(person) => people::ask(keeper, *person, asker),
        }
    }
}
