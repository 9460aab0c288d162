//! `errand.sock`: the courier's door.
//!
//! Trusts: that the peer runs under the courier's uid.
//! Distrusts: everything it says; without a ticket it gets no key.

use std::rc::Rc;

use strongroom_protocol::errand::{FromCourier, MAX_PROBED_BYTES, Outcome, Probed};
use strongroom_protocol::frame::{FrameError, MAX_ERRAND_BYTES};
use strongroom_socket::{Reader, split_again};
use tokio::net::UnixStream;
use tokio::task::spawn_local;

use super::inbox::{Inbox, InboxError};
use super::outbox::Outbox;
use crate::keeper::Keeper;
use crate::pipeline;

/// Serves the courier until it goes; what it was doing then is lost.
pub async fn serve(keeper: Rc<Keeper>, stream: UnixStream) {
    let (reader, writer) = match split_again(stream) {
        Ok(halves) => halves,
        Err(error) => return tracing::error!(%error, "the courier was not taken in"),
    };
    let outbox = Outbox::new(MAX_ERRAND_BYTES);
    if keeper.add_courier(&outbox).is_err() {
        tracing::warn!("a second courier was turned away");
        return;
    }
    let draining = Rc::clone(&outbox);
    spawn_local(async move { draining.drain(writer).await });
    let ended = tokio::select! {
        biased;
        () = outbox.closed() => InboxError::Stalled,
        ended = listen(&keeper, &outbox, Inbox::new(reader, MAX_ERRAND_BYTES)) => ended,
    };
    tracing::info!(reason = %ended, "the courier has left");
    outbox.close();
    keeper.lose_courier();
}

async fn listen(keeper: &Rc<Keeper>, outbox: &Outbox, mut inbox: Inbox<Reader>) -> InboxError {
    loop {
        let message = match inbox.next::<FromCourier>().await {
            Ok(message) => message,
            Err(error) => return error,
        };
        match message {
            FromCourier::Redeem(ticket) => {
                if pipeline::redeem(keeper, ticket, outbox).is_err() {
                    return InboxError::Ended;
                }
            }
            FromCourier::Outcome(outcome) => end(keeper, *outcome),
            FromCourier::Probed(probed) if probed.text.len() > MAX_PROBED_BYTES => {
                return FrameError::Malformed.into();
            }
            FromCourier::Probed(probed) => told(keeper, *probed),
        }
    }
}

/// The outcome of a call; of a probe it is kept until its text has come, or goes to the waiter when it came before.
fn end(keeper: &Keeper, outcome: Outcome) {
    pipeline::close(keeper, &outcome);
    if let Some((_, kept)) = keeper.probes.borrow_mut().get_mut(&outcome.call) {
        *kept = Some(outcome);
    }
}

fn told(keeper: &Keeper, probed: Probed) {
    if let Some((waiter, Some(outcome))) = keeper.probes.borrow_mut().remove(&probed.call) {
        // Whoever stopped waiting has told the operator so.
        drop(waiter.send((outcome, probed.text)));
    }
}
