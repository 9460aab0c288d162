//! `errand.sock` and `errand-defined.sock`: a door for each courier.
//!
//! Trusts: that the peer runs under its courier's uid.
//! Distrusts: everything it says; without a ticket for its own providers it gets no key.

use std::rc::Rc;

use strongroom_policy::provider::Origin;
use strongroom_protocol::errand::{FromCourier, MAX_PROBED_BYTES, Outcome, Probed};
use strongroom_protocol::frame::{FrameError, MAX_ERRAND_BYTES};
use strongroom_socket::{Reader, split_again};
use tokio::net::UnixStream;
use tokio::task::spawn_local;

use super::inbox::{Inbox, InboxError};
use super::outbox::Outbox;
use crate::keeper::{Keeper, Probing};
use crate::pipeline;

/// Serves a courier until it goes; what it was doing then is lost.
pub async fn serve(keeper: Rc<Keeper>, stream: UnixStream, origin: Origin) {
    let (reader, writer) = match split_again(stream) {
        Ok(halves) => halves,
        Err(error) => return tracing::error!(%error, "the courier was not taken in"),
    };
    let outbox = Outbox::new(MAX_ERRAND_BYTES);
    if keeper.add_courier(origin, &outbox).is_err() {
        tracing::warn!("a second courier was turned away");
        return;
    }
    let draining = Rc::clone(&outbox);
    spawn_local(async move { draining.drain(writer).await });
    let ended = tokio::select! {
        biased;
        () = outbox.closed() => InboxError::Stalled,
        ended = listen((&keeper, origin), &outbox, Inbox::new(reader, MAX_ERRAND_BYTES)) => ended,
    };
    tracing::info!(reason = %ended, of = origin.name(), "a courier has left");
    outbox.close();
    keeper.lose_courier(origin);
}

async fn listen(
    (keeper, origin): (&Keeper, Origin),
    outbox: &Outbox,
    mut inbox: Inbox<Reader>,
) -> InboxError {
    loop {
        let message = match inbox.next::<FromCourier>().await {
            Ok(message) => message,
            Err(error) => return error,
        };
        match message {
            FromCourier::Redeem(ticket) => {
                if pipeline::redeem(keeper, (ticket, origin), outbox).is_err() {
                    return InboxError::Ended;
                }
            }
            FromCourier::Outcome(outcome) => end((keeper, origin), *outcome),
            FromCourier::Probed(probed) if probed.text.len() > MAX_PROBED_BYTES => {
                return FrameError::Malformed.into();
            }
            FromCourier::Probed(probed) => told((keeper, origin), *probed),
        }
    }
}

/// The outcome of a call; of a probe it is kept until its text has come, or goes to the waiter when it came before.
fn end((keeper, origin): (&Keeper, Origin), outcome: Outcome) {
    pipeline::close(keeper, origin, &outcome);
    let mut probes = keeper.probes.borrow_mut();
    if let Some(probing) = probes.get_mut(&outcome.call).filter(|one| one.origin == origin) {
        probing.outcome = Some(outcome);
    }
}

fn told((keeper, origin): (&Keeper, Origin), probed: Probed) {
    let mut probes = keeper.probes.borrow_mut();
    if probes.get(&probed.call).is_none_or(|one| one.origin != origin) {
        return;
    }
    if let Some(Probing { waiter, outcome: Some(outcome), .. }) = probes.remove(&probed.call) {
        // Whoever stopped waiting has told the operator so.
        drop(waiter.send((outcome, probed.text)));
    }
}
