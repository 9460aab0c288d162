//! `operator.sock`: the operators' door, one request and one answer at a time.
//!
//! Trusts: that the socket's directory lets through operators only.
//! Distrusts: the form of what they send.

use std::rc::Rc;

use nix::unistd::Uid;
use strongroom_protocol::frame::{MAX_OPERATOR_BYTES, encode};
use strongroom_protocol::operator::{Answer, Request};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::inbox::{Inbox, InboxError};
use crate::acts;
use crate::keeper::Keeper;

/// Serves one operator until they go.
pub async fn serve(keeper: Rc<Keeper>, stream: UnixStream, uid: Uid) {
    let (reader, mut writer) = stream.into_split();
    let mut inbox = Inbox::new(reader, MAX_OPERATOR_BYTES);
    loop {
        let request = match inbox.next::<Request>().await {
            Ok(request) => request,
            Err(InboxError::Ended) => return,
            Err(error) => {
                tracing::warn!(%error, %uid, "an operator's connection ended");
                return;
            }
        };
        let answer = acts::perform(&keeper, uid.as_raw(), request).await;
        let frame = encode(&answer, MAX_OPERATOR_BYTES).or_else(|error| {
            let fault = acts::fault("SR-INTERNAL-003", error.to_string(), "ask for less at once");
            encode(&Answer::Failed(fault), MAX_OPERATOR_BYTES)
        });
        let Ok(frame) = frame else { return };
        if writer.write_all(&frame).await.is_err() {
            return;
        }
    }
}
