//! The plain-HTTP side on which a test asks what was seen.
//!
//! Invariant: it changes nothing but the log, and it is not reachable through the TLS side.

use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpStream;

use crate::{
    reply::Reply,
    wire::{Head, Wire},
    world::World,
};

/// Answers until the client leaves.
pub(crate) async fn serve(stream: TcpStream, ca_pem: Arc<str>, world: Arc<World>) {
    let mut wire = Wire::new(stream);
    while let Ok(head) = wire.head().await {
        let (mut body, mut oddities) = (Vec::new(), Vec::new());
        if wire.body(head.body, &mut body, &mut oddities).await.is_err() {
            return;
        }
        let acts = crate::script::script(
            answer(&head, &ca_pem, &world),
            &crate::day::Day::Good,
            &head.method,
            "",
        );
        for act in acts {
            let crate::script::Act::Write(bytes) = act else { continue };
            if wire.write(&bytes).await.is_err() {
                return;
            }
        }
        if !head.keep_alive {
            return wire.close().await;
        }
    }
}

fn answer(head: &Head, ca_pem: &str, world: &World) -> Reply {
    let path = head.target.split('?').next().unwrap_or_default();
    match (head.method.as_str(), path) {
        ("GET", "/__emulator/log") => {
            Reply::json(200, &json!({"counts": world.log.counts(), "requests": world.log.all()}))
        }
        ("DELETE", "/__emulator/log") => {
            world.log.clear();
            Reply::json(200, &json!({"cleared": true}))
        }
        ("GET", "/__emulator/counts") => Reply::json(200, &json!(world.log.counts())),
        ("GET", "/__emulator/ca.pem") => {
            Reply::new(200, "application/x-pem-file", ca_pem.to_owned())
        }
        _ => Reply::json(
            404,
            &json!({"error": "GET or DELETE /__emulator/log, \
            GET /__emulator/counts, GET /__emulator/ca.pem"}),
        ),
    }
}
