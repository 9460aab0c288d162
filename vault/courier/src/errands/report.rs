//! What is told about a call, gathered while it runs and sent when this value is dropped.
//!
//! Invariant: one report for each errand that came in, on every way out, a panic and a dropped task included.

use std::sync::Arc;
use std::time::{Duration, Instant};

use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::CallId;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::errand::{Ending, FromCourier, Outcome};
use strongroom_protocol::usage::{Told, Usage};

use super::{Errand, Link, Room, lock};
use crate::meter::{self, Completeness, Layout, Meter};

/// What becomes of one call.
pub(crate) struct Report {
    link: Arc<Link>,
    call: CallId,
    dialect: Dialect,
    begun: Instant,
    status: Option<u16>,
    first_byte: Option<Duration>,
    ending: Ending,
    meter: Option<Meter>,
    /// Bytes of the request body that were sent.
    pub(crate) sent_bytes: u64,
    /// Bytes of the answer's body that came.
    pub(crate) received_bytes: u64,
    /// Echoes of the key that were masked.
    pub(crate) scrubbed: u64,
}

impl Report {
    pub(super) fn new(link: Arc<Link>, errand: &Errand) -> Self {
        Self {
            link,
            call: errand.call,
            dialect: errand.dialect,
            begun: Instant::now(),
            status: None,
            first_byte: None,
            // What a dropped task leaves behind.
            ending: Ending::Aborted(Refusal::Cancelled),
            meter: None,
            sent_bytes: 0,
            received_bytes: 0,
            scrubbed: 0,
        }
    }

    /// The provider's head is here.
    pub(crate) fn answered(&mut self, status: u16, layout: Layout) {
        self.status = Some(status);
        self.first_byte = Some(self.begun.elapsed());
        self.meter = Some(Meter::new(self.dialect, layout));
    }

    /// Counts what passes on to the caller.
    pub(crate) fn see(&mut self, bytes: &[u8]) {
        if let Some(meter) = &mut self.meter {
            meter.see(bytes);
        }
    }

    /// The answer passed whole.
    pub(crate) fn complete(&mut self) {
        self.ending = Ending::Complete;
    }

    /// It did not.
    pub(crate) fn abort(&mut self, refusal: Refusal) {
        self.ending = Ending::Aborted(refusal);
    }

    /// Which call.
    pub(crate) fn call(&self) -> CallId {
        self.call
    }

    fn outcome(&mut self) -> Outcome {
        let ending = match self.ending {
            Ending::Complete => meter::Ending::Whole,
            Ending::Aborted(_) => meter::Ending::Cut,
        };
        Outcome {
            call: self.call,
            status: self.status,
            ending: self.ending,
            usage: self.meter.take().map(|meter| usage(&meter.finish(ending))).unwrap_or_default(),
            sent_bytes: self.sent_bytes,
            received_bytes: self.received_bytes,
            scrubbed: u32::try_from(self.scrubbed).unwrap_or(u32::MAX),
            first_byte: self.first_byte,
            total: self.begun.elapsed(),
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        let outcome = FromCourier::Outcome(Box::new(self.outcome()));
        if self.link.push(&outcome, Room::Any).is_err() {
            tracing::error!(call = %self.call, "an outcome fits no frame");
        }
        let mut running = lock(&self.link.running);
        let stop = running.remove(&self.call);
        let last = running.is_empty();
        drop(running);
        drop(stop);
        if last {
            self.link.ended.notify_waiters();
        }
    }
}

/// The meter's counts and the protocol's mean the same: cached and written parts lie within `input`, reasoning in `output`.
/// The provider's own total repeats them and does not travel.
fn usage(counted: &meter::Usage) -> Usage {
    let meter::Usage {
        input,
        cached_input,
        cache_write,
        output,
        reasoning,
        total: _,
        cost_ticks,
        completeness,
    } = *counted;
    let told = match completeness {
        Completeness::Exact => Told::Exact,
        Completeness::Partial => Told::Partial,
        Completeness::Missing => Told::Missing,
    };
    Usage { input, output, cached_input, cache_write, reasoning, cost_ticks, told }
}
