//! Lanes: connections of the gateway on `call.sock`, each running one exchange after the other.
//!
//! Invariant: only the gateway's user gets a lane, and only so many at once.
//! Invariant: an exchange ends with one terminal frame of ours; then the lane is read to the gateway's. A frame out of turn
//! closes the lane, and with it drops the provider's connection.
//!
//! Trusts: the kernel's word on who connected.
//! Distrusts: every byte of the gateway, which talks to the network.

pub(crate) mod heads;
mod phase;
mod reader;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use strongroom_policy::refusal::Refusal;
use strongroom_protocol::call::FrameKind;
use strongroom_protocol::frame::FrameError;
use strongroom_socket::split_again;
use strongroom_sys::peer::peer;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;

pub(crate) use self::heads::{Opening, Reply};
pub(crate) use self::phase::Phase;
pub(crate) use self::reader::{FrameReader, Incoming};
pub(crate) use self::writer::FrameWriter;
use crate::relay::{self, Courier};
use crate::timer::Timer;
use crate::wiped::ReadBuffer;

/// Most lanes: the gateway opens a fixed number at its start, far below.
pub const MAX_LANES: usize = 4096;

/// One connection of the gateway, its two directions, and what its calls use one after the other.
pub(crate) struct Lane<R, W> {
    pub(crate) reader: FrameReader<R>,
    pub(crate) writer: FrameWriter<W>,
    pub(crate) timer: Timer,
    /// For what the provider sends; empty.
    pub(crate) answer: ReadBuffer,
}

/// Why a lane is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaneFault {
    /// The gateway closed it.
    #[error("the gateway closed the lane")]
    Closed,
    /// The socket failed.
    #[error("the lane broke: {0}")]
    Io(#[from] std::io::Error),
    /// A malformed frame or message.
    #[error("the gateway sent {0}")]
    Frame(#[from] FrameError),
    /// A frame that does not belong here.
    #[error("a {kind:?} frame while {phase:?}")]
    OutOfTurn {
        /// Where the exchange stood.
        phase: Phase,
        /// What came.
        kind: FrameKind,
    },
    /// The gateway neither read nor ended in time.
    #[error("the gateway did not read or end the exchange in time")]
    Stalled,
}

/// Why a call stops before its answer's end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// For a reason that the caller is told.
    Refused(Refusal),
    /// The gateway sent `Cancel`, its terminal frame.
    Cancelled,
    /// The lane is of no more use.
    Lane(LaneFault),
}

impl From<LaneFault> for Stop {
    fn from(fault: LaneFault) -> Self {
        Self::Lane(fault)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Accepts the gateway's lanes for as long as the process lives.
pub async fn serve(courier: Arc<Courier>, listener: UnixListener, gateway_uid: u32) {
    let room = Arc::new(Semaphore::new(MAX_LANES));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors: some will come free.
                tracing::error!(%error, "no lane was accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match peer(&stream) {
            Ok(peer) if peer.uid.as_raw() == gateway_uid => {}
            Ok(peer) => {
                tracing::warn!(uid = peer.uid.as_raw(), "a stranger knocked at call.sock");
                continue;
            }
            Err(error) => {
                tracing::warn!(%error, "a lane without a known peer");
                continue;
            }
        }
        let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
            tracing::warn!(MAX_LANES, "too many lanes");
            continue;
        };
        let courier = Arc::clone(&courier);
        tokio::spawn(async move {
            run(&courier, stream).await;
            drop(place);
        });
    }
}

/// Runs exchanges until the lane closes.
async fn run(courier: &Courier, stream: UnixStream) {
    let (reading, writing) = match split_again(stream) {
        Ok(halves) => halves,
        Err(error) => return tracing::error!(%error, "a lane was not taken over"),
    };
    let mut lane = Lane {
        reader: FrameReader::new(reading),
        writer: FrameWriter::new(writing),
        timer: Timer::new(),
        answer: ReadBuffer::default(),
    };
    loop {
        let fault = match lane.reader.next().await {
            Ok(Incoming::Head(payload)) => match relay::exchange(courier, &mut lane, payload).await
            {
                Ok(()) => {
                    lane.reader.rest();
                    lane.writer.rest();
                    continue;
                }
                Err(fault) => fault,
            },
            // A cancel that crossed with the end of the exchange before.
            Ok(Incoming::Cancel) => continue,
            Ok(Incoming::Body(_)) => out_of_turn(FrameKind::Body),
            Ok(Incoming::BodyEnd) => out_of_turn(FrameKind::BodyEnd),
            Err(fault) => fault,
        };
        match fault {
            LaneFault::Closed => tracing::debug!("a lane was closed"),
            LaneFault::Io(_)
            | LaneFault::Frame(_)
            | LaneFault::OutOfTurn { .. }
            | LaneFault::Stalled => tracing::warn!(%fault, "a lane is closed"),
        }
        return;
    }
}

fn out_of_turn(kind: FrameKind) -> LaneFault {
    LaneFault::OutOfTurn { phase: Phase::Idle, kind }
}

/// How long to wait for free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
