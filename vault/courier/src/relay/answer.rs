//! Passes an answer on: filtered and scrubbed head, then the body as it comes, decoded, scrubbed and counted.
//!
//! Invariant: everything that is ready goes out in one write, and nothing more is read before that write is done.
//! Invariant: an answer that did not reach its end by its own framing ends with a refusal, never as if whole.
//!
//! Distrusts: the provider.

use std::borrow::Cow;

use bytes::Bytes;
use strongroom_http1::{Body, Framing, Progress};
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::call::MAX_HEADERS;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Reuse;
use super::order::Order;
use super::rewrite::Rewriter;
use super::source::{Ended, Source};
use crate::answer::{Broken, Head, KeepAlive, Media};
use crate::errands::Report;
use crate::lanes::{FrameWriter, Lane, Reply, Stop};
use crate::meter::Layout;
use crate::scrub::Scrubber;
use crate::timer::Timer;

/// One answer, from its head on.
pub(super) struct Answer<'h> {
    head: Reply<'h>,
    body: Body,
    media: Media,
    keep_alive: KeepAlive,
    rewriter: Option<Rewriter>,
}

impl<'h> Answer<'h> {
    /// Cleans the head.
    pub(super) fn new(order: &Order<'_>, head: &'h Head, scrubber: &mut Scrubber) -> Self {
        let rewriter = (head.media == Media::Json && hands_out_urls(order))
            .then(|| Rewriter::new(&order.origin()));
        let length = match head.framing {
            // These have none, and no length either.
            Framing::Empty if matches!(head.status, 204 | 304) => None,
            Framing::Empty => Some(0),
            Framing::Length(length) if rewriter.is_none() => Some(length),
            Framing::Length(_) | Framing::Chunked | Framing::UntilClose => None,
        };
        let headers = clean_headers(head, order, scrubber);
        Self {
            head: Reply { status: head.status, headers, length },
            body: Body::new(head.framing),
            media: head.media,
            keep_alive: head.keep_alive,
            rewriter,
        }
    }

    /// Passes it on; tells whether the connection may serve another call.
    pub(super) async fn relay<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        mut self,
        order: &Order<'_>,
        source: &mut Source,
        lane: &mut Lane<R, W>,
        report: &mut Report,
        scrubber: &mut Scrubber,
    ) -> Result<Reuse, Stop> {
        let layout = match self.media {
            Media::Events => Layout::Events,
            Media::Json => Layout::Json,
            Media::Other => Layout::Opaque,
        };
        report.answered(self.head.status, layout);
        report.scrubbed = scrubber.hits();
        let Lane { reader, writer, timer, .. } = lane;
        writer.answer(&self.head).map_err(|_| Refusal::ProviderBroken)?;
        let mut passing =
            Passing { rewriter: self.rewriter.take(), scrubber, report, writer, timer };
        tokio::select! {
            biased;
            passed = passing.pass_all(order, &mut self.body, source) => passed?,
            stop = reader.discard() => return Err(stop),
        }
        Ok(match self.keep_alive {
            // The TLS library opens records in a buffer of the connection, and what it read last stays there.
            KeepAlive::Reusable if report.scrubbed > 0 => Reuse::Never,
            KeepAlive::Reusable => Reuse::Possible,
            KeepAlive::Closing => Reuse::Never,
        })
    }
}

/// What a body goes through.
struct Passing<'a, W> {
    scrubber: &'a mut Scrubber,
    rewriter: Option<Rewriter>,
    report: &'a mut Report,
    writer: &'a mut FrameWriter<W>,
    timer: &'a mut Timer,
}

impl<W: AsyncWrite + Unpin> Passing<'_, W> {
    async fn pass_all(
        &mut self,
        order: &Order<'_>,
        body: &mut Body,
        source: &mut Source,
    ) -> Result<(), Stop> {
        let idle = order.deadlines().idle;
        loop {
            let decoded = match body.decode(&mut source.buffer.bytes) {
                Ok(decoded) => decoded,
                Err(error) => return Err(self.break_off(order, error.into())),
            };
            self.report.received_bytes += u64::try_from(decoded.data.len()).unwrap_or(u64::MAX);
            self.pass(decoded.data);
            if decoded.progress == Progress::Over {
                self.release();
                self.writer.end();
                return Ok(self.writer.flush(self.timer, idle).await?);
            }
            self.writer.flush(self.timer, idle).await?;
            match self.timer.limit(idle, source.fill()).await {
                Ok(Ok(())) => {}
                Ok(Err(Ended::Cleanly)) => {
                    // Ends a body that lasts as long as the connection, and cuts any other.
                    if let Err(error) = body.closed() {
                        return Err(self.break_off(order, error.into()));
                    }
                }
                Ok(Err(Ended::Broken)) => return Err(self.break_off(order, Broken::Cut)),
                Err(_) => {
                    self.release();
                    return Err(Refusal::ProviderTimeout.into());
                }
            }
        }
    }

    fn pass(&mut self, data: Bytes) {
        let clean = self.scrubber.feed(data);
        self.report.scrubbed = self.scrubber.hits();
        let clean = match &mut self.rewriter {
            Some(rewriter) => rewriter.feed(clean),
            None => clean,
        };
        self.report.see(&clean);
        self.writer.chunk(clean);
    }

    /// What was held back goes out before the end, also before a bad one.
    fn release(&mut self) {
        let mut rest = vec![self.scrubber.finish()];
        self.report.scrubbed = self.scrubber.hits();
        if let Some(rewriter) = &mut self.rewriter {
            rest = rest.into_iter().map(|rest| rewriter.feed(rest)).collect();
            rest.push(rewriter.finish());
        }
        for rest in rest {
            self.report.see(&rest);
            self.writer.chunk(rest);
        }
    }

    fn break_off(&mut self, order: &Order<'_>, error: Broken) -> Stop {
        tracing::info!(call = %order.errand().call, %error, "an answer broke off");
        self.release();
        Refusal::ProviderBroken.into()
    }
}

/// Objects whose JSON holds URLs that SDKs follow.
fn hands_out_urls(order: &Order<'_>) -> bool {
    order.errand().target.segments().any(|segment| matches!(segment, "batches" | "files"))
}

fn clean_headers<'h>(
    head: &'h Head,
    order: &Order<'_>,
    scrubber: &mut Scrubber,
) -> Vec<(Cow<'h, str>, Cow<'h, str>)> {
    let mut clean = Vec::with_capacity(head.headers.len().min(MAX_HEADERS));
    for (name, value) in &head.headers {
        clean.push((text(scrubber, name.as_bytes()), text(scrubber, value)));
    }
    // Absolute URLs of the destination go out as ours, others not at all.
    let urls = [("location", &head.location), ("x-goog-upload-url", &head.upload_url)];
    for (name, url) in urls {
        if let Some(url) = url.as_ref().and_then(|url| order.origin().public_url(url)) {
            clean.push((name.into(), text(scrubber, url.as_bytes()).into_owned().into()));
        }
    }
    clean.truncate(MAX_HEADERS);
    clean
}

/// A name or value without echoes.
fn text<'v>(scrubber: &mut Scrubber, value: &'v [u8]) -> Cow<'v, str> {
    match scrubber.scrub_header_value(value) {
        Some(masked) => String::from_utf8_lossy(&masked).into_owned().into(),
        None => String::from_utf8_lossy(value),
    }
}
