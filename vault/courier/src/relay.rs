//! One call, from its ticket to its last byte: redeem, connect, send while reading, clean, count, report.
//!
//! Invariant: destination, method, target, betas and key come from the errand alone; the gateway gives headers and body.
//! Invariant: whatever ends a call early drops the provider's connection at once, while waiting for the answer too.
//! Invariant: a connection goes back to the pool only after a whole request and a whole answer with nothing behind it.
//! One over which the key came back does not.
//!
//! A request is sent twice in one case only: on a connection that was idle in the pool, when not a single byte of an answer
//! came and the whole body is still at hand. The provider then closed the connection before it read the request, or so every
//! HTTP client assumes (RFC 9110, 9.2.2; RFC 9112, 9.3.1); `POST` is no exception, since without this a call would fail
//! whenever it meets the provider's own idle time-out. A fresh connection is never tried again.
//!
//! The key is lent to the buffer of a request's head, which is wiped once it is written. It is kept until the answer's head,
//! from which on the scrubber needs its forms; these are wiped when the call ends.

mod answer;
mod connect;
mod order;
pub(crate) mod origin;
mod probe;
pub(crate) mod rewrite;
mod scratch;
mod source;
mod upload;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::Method;
use strongroom_socket::{Reader, Writer};
use tokio::io::{AsyncRead, AsyncWrite, WriteHalf};

use self::answer::Answer;
use self::connect::{Age, Connected};
use self::order::Order;
use self::scratch::Blanks;
use self::source::{NoHead, Source};
use self::upload::{Unsent, Upload};
use crate::answer::Head;
use crate::errands::{Assignment, Link, LinkLost, Report};
use crate::lanes::{Lane, LaneFault, Opening, Stop};
use crate::pool::{Connection, MadeFor, Pool};
use crate::resolve::Resolver;
use crate::scrub::{self, Blank, Scrubber};
use crate::tls::{Tls, TlsStream};
use crate::wiped::WipedVec;

/// What all calls share.
pub struct Courier {
    link: Arc<Link>,
    pool: Pool,
    blanks: Blanks,
    tls: Tls,
    resolver: Resolver,
}

/// Most redirects that are followed within an origin.
pub const MAX_REDIRECTS: u32 = 3;

impl Courier {
    /// Brings the parts together.
    pub fn new(link: Arc<Link>, tls: Tls, resolver: Resolver) -> Arc<Self> {
        Arc::new(Self { link, pool: Pool::default(), blanks: Blanks::default(), tls, resolver })
    }

    /// Hears the keeper until the link is lost.
    pub async fn attend(self: Arc<Self>, stream: (Reader, Writer)) -> LinkLost {
        let room = Arc::new(tokio::sync::Semaphore::new(probe::MAX_PROBES));
        let run_probe = |assignment: Assignment| {
            let (courier, place) = (Arc::clone(&self), Arc::clone(&room).try_acquire_owned());
            tokio::spawn(async move {
                probe::run(&courier, assignment, place.is_ok()).await;
                drop(place);
            });
        };
        self.link.serve(stream, run_probe).await
    }

    /// Drops connections that were idle for too long, for as long as the process lives.
    pub async fn sweep(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(SWEEP_EVERY);
        loop {
            ticks.tick().await;
            self.pool.sweep(Instant::now());
        }
    }
}

/// Runs one exchange of a lane to both terminal frames.
///
/// # Errors
/// When the lane cannot be used again.
pub(crate) async fn exchange<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    courier: &Courier,
    lane: &mut Lane<R, W>,
    opening: Bytes,
) -> Result<(), LaneFault> {
    let opening = Opening::parse(&opening)?;
    let redeemed = tokio::select! {
        biased;
        redeemed = courier.link.redeem(&mut lane.timer, opening.ticket) => redeemed.map_err(Stop::Refused),
        stop = lane.reader.watch() => Err(stop),
    };
    let ended = match redeemed {
        Ok(assignment) => perform(courier, lane, assignment, opening).await,
        Err(stop) => Err(stop),
    };
    match ended {
        Ok(()) => {}
        Err(Stop::Lane(fault)) => return Err(fault),
        Err(Stop::Cancelled) => lane.writer.abort(Refusal::Cancelled),
        Err(Stop::Refused(refusal)) => lane.writer.abort(refusal),
    }
    lane.writer.flush(&mut lane.timer, FAREWELL).await?;
    lane.reader.settle(&mut lane.timer, SETTLE).await
}

/// Runs an errand and reports it.
async fn perform<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    courier: &Courier,
    lane: &mut Lane<R, W>,
    assignment: Assignment,
    opening: Opening<'_>,
) -> Result<(), Stop> {
    let Assignment { errand, recall, mut report } = assignment;
    let ended = tokio::select! {
        biased;
        Ok(reason) = recall => Err(Stop::Refused(reason)),
        ended = run(courier, Order::new(errand, opening), lane, &mut report) => ended,
    };
    match &ended {
        Ok(()) => report.complete(),
        Err(Stop::Refused(refusal)) => {
            tracing::info!(call = %report.call(), code = refusal.code(), "a call was aborted");
            report.abort(*refusal);
        }
        Err(Stop::Cancelled | Stop::Lane(_)) => report.abort(Refusal::Cancelled),
    }
    ended
}

async fn run<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    courier: &Courier,
    order: Result<Order<'_>, Refusal>,
    lane: &mut Lane<R, W>,
    report: &mut Report,
) -> Result<(), Stop> {
    let mut order = order?;
    let mut upload = Upload::new(&order)?;
    order.check_key()?;
    let Met { mut source, writing, made_for, head, reuse } =
        ask(courier, &mut order, &mut upload, lane, report).await?;
    let mut scrubber = order.scrubber(courier.blanks.take())?;
    // From here on nothing can need the key again.
    order.forget_key();
    let answer = Answer::new(&order, &head, &mut scrubber);
    let passed = answer.relay(&order, &mut source, lane, report, &mut scrubber).await?;
    courier.blanks.put(scrubber.forget());
    // Its values lie in the buffer that is wiped next.
    drop(head);
    let (reading, mut buffer) = source.into_parts();
    buffer.wipe();
    lane.answer = buffer;
    if let (Reuse::Possible, Reuse::Possible, Some(reading)) = (passed, reuse, reading) {
        courier.pool.put(Connection { reading, writing, made_for }, Instant::now());
    }
    Ok(())
}

/// Whether a connection may be used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reuse {
    Possible,
    Never,
}

/// A connection on which an answer began.
struct Met {
    source: Source,
    writing: WriteHalf<TlsStream>,
    made_for: Box<MadeFor>,
    head: Head,
    reuse: Reuse,
}

/// Sends the request until an answer that the caller may see begins.
async fn ask<R: AsyncRead + Unpin, W>(
    courier: &Courier,
    order: &mut Order<'_>,
    upload: &mut Upload,
    lane: &mut Lane<R, W>,
    report: &mut Report,
) -> Result<Met, Stop> {
    let (mut age, mut redirects) = (Age::Any, 0);
    loop {
        let connected = tokio::select! {
            biased;
            connected = connect::connect(courier, order, age) => connected?,
            stop = lane.reader.watch() => return Err(stop),
        };
        let Connected { connection, reused } = connected;
        let Connection { reading, mut writing, made_for } = connection;
        let mut request = order.write_head()?;
        let mut source = Source::new(reading, std::mem::take(&mut lane.answer));
        let both = (&mut source, &mut writing);
        let met = meet(order, &mut request, upload, lane, both, report).await;
        // Whether or not it went out.
        drop(request);
        let (head, reuse) = match met {
            Ok(met) => met,
            Err(Unmet::Silent) if reused && upload.can_be_sent_again() => {
                age = Age::Fresh;
                continue;
            }
            Err(Unmet::Silent) => return Err(Refusal::ProviderBroken.into()),
            Err(Unmet::Stop(stop)) => return Err(stop),
        };
        if !matches!(head.status, 301 | 302 | 303 | 307 | 308) {
            return Ok(Met { source, writing, made_for, head, reuse });
        }
        let next = head.location.as_ref().and_then(|location| order.origin().target_of(location));
        match next {
            Some(next) if order.method() == Method::Get && redirects < MAX_REDIRECTS => {
                redirects += 1;
                order.go_to(next);
            }
            Some(_) | None => return Err(Refusal::ProviderRedirect.into()),
        }
    }
}

/// Why no answer began on a connection.
enum Unmet {
    /// It ended before the first byte of an answer.
    Silent,
    Stop(Stop),
}

impl<S: Into<Stop>> From<S> for Unmet {
    fn from(stop: S) -> Self {
        Self::Stop(stop.into())
    }
}

/// Sends the request on one connection and reads the answer's head, both at once.
async fn meet<R: AsyncRead + Unpin, W>(
    order: &Order<'_>,
    request: &mut WipedVec,
    upload: &mut Upload,
    lane: &mut Lane<R, W>,
    (source, sink): (&mut Source, &mut WriteHalf<TlsStream>),
    report: &mut Report,
) -> Result<(Head, Reuse), Unmet> {
    let deadlines = order.deadlines();
    let Lane { reader, timer, .. } = lane;
    let send = upload.send((&mut *reader, &mut *timer), sink, request, &mut report.sent_bytes);
    let sent = tokio::select! {
        biased;
        sent = send => sent,
        head = source.head() => {
            // Answered before the body ended: the rest of it is of no use to anyone.
            return head.map(|head| (head, Reuse::Never)).map_err(unmet);
        }
    };
    let (patience, reuse) = match sent {
        Ok(()) => (deadlines.first_byte, Reuse::Possible),
        // A provider that refuses a body may answer, then close: the answer lies in the socket.
        Err(Unsent::Provider) => (LAST_WORDS, Reuse::Never),
        Err(Unsent::Stop(stop)) => return Err(Unmet::Stop(stop)),
    };
    tokio::select! {
        biased;
        head = timer.limit(patience, source.head()) => match head {
            Ok(head) => head.map(|head| (head, reuse)).map_err(unmet),
            Err(_) if reuse == Reuse::Never => Err(Unmet::Silent),
            Err(_) => Err(Refusal::ProviderTimeout.into()),
        },
        stop = reader.discard() => Err(stop.into()),
    }
}

fn unmet(no_head: NoHead) -> Unmet {
    match no_head {
        NoHead::Silent => Unmet::Silent,
        NoHead::Broken => Refusal::ProviderBroken.into(),
    }
}

impl Order<'_> {
    /// A key whose echoes could not be masked is not sent.
    fn check_key(&self) -> Result<(), Refusal> {
        self.with_key(scrub::check)?.map_err(|_| Refusal::Internal)
    }

    /// What masks echoes of this order's key.
    fn scrubber(&self, blank: Blank) -> Result<Scrubber, Refusal> {
        self.with_key(|key| blank.learn(key))?.map_err(|_| Refusal::Internal)
    }
}

/// How often idle connections are looked through.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How long the gateway may take to accept our terminal frame.
const FAREWELL: Duration = Duration::from_secs(10);
/// How long it may take to send its own.
const SETTLE: Duration = Duration::from_secs(30);
/// How long a provider that stopped reading is listened to.
const LAST_WORDS: Duration = Duration::from_secs(2);
