//! A connection for one order: an idle one of the same credential, else a new one.
//!
//! Invariant: what is dialled is an address that was checked; who answers proves the destination's TLS name.

use std::io::ErrorKind;
use std::time::Instant;

use strongroom_policy::refusal::Refusal;
use tokio::time::timeout;

use super::Courier;
use super::order::Order;
use crate::pool::Connection;
use crate::resolve::{CONNECT_TIMEOUT, Unreachable, dial};
use crate::tls::{TlsStream, Untrusted};

/// Which connections will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// An idle one is preferred.
    Any,
    /// New ones only: an idle one was found dead.
    Fresh,
}

pub(super) struct Connected {
    pub(super) connection: Connection,
    /// Whether it was idle in the pool.
    pub(super) reused: bool,
}

pub(super) async fn connect(
    courier: &Courier,
    order: &Order<'_>,
    age: Age,
) -> Result<Connected, Refusal> {
    if age == Age::Any
        && let Some(connection) = courier.pool.take(&order.purpose(), Instant::now())
    {
        return Ok(Connected { connection, reused: true });
    }
    let dialled = timeout(order.deadlines().connect, dial_and_prove(courier, order)).await;
    let stream = dialled.unwrap_or(Err(Refusal::ProviderUnreachable))?;
    Ok(Connected { connection: Connection::new(stream, &order.purpose()), reused: false })
}

async fn dial_and_prove(courier: &Courier, order: &Order<'_>) -> Result<TlsStream, Refusal> {
    let to = order.destination();
    let host: &str = to.host.as_ref();
    let addresses = courier.resolver.addresses(host, to.port, to.reach).await.map_err(|error| {
        tracing::warn!(host, %error, "no address");
        refusal_of(&error)
    })?;
    let tcp = dial(&addresses, CONNECT_TIMEOUT).await.map_err(|error| {
        tracing::warn!(host, %error, "no connection");
        refusal_of(&error)
    })?;
    let proved = courier.tls.connect(tcp, to.tls_name.as_ref(), &to.extra_authorities).await;
    proved.map_err(|error| {
        tracing::warn!(host, %error, "no TLS");
        match error {
            // What rustls finds wrong comes as invalid data; the rest is the network's.
            Untrusted::Handshake(error) if error.kind() != ErrorKind::InvalidData => {
                Refusal::ProviderUnreachable
            }
            Untrusted::Handshake(_)
            | Untrusted::Authority(_)
            | Untrusted::Name
            | Untrusted::Protocol => Refusal::ProviderTls,
            Untrusted::Setup(_) => Refusal::Internal,
        }
    })
}

fn refusal_of(error: &Unreachable) -> Refusal {
    match error {
        Unreachable::Unresolved | Unreachable::Refused(_) => Refusal::ProviderUnreachable,
        Unreachable::Forbidden(_) => Refusal::ProviderAddress,
    }
}
