//! One HTTP/1.1 connection, in our own loop: read a head, make the call, write its answer, and again.
//!
//! Why not hyper, which serves HTTP/2 here: with it a call cost this process a third more of its own time, and a burst of small
//! frames as many writes. The parser is the same one (`httparse`).
//!
//! Invariant: requests are answered one by one, in their order; nothing of the next one is looked at before.
//! Invariant: after a request whose body was not read to its end, or whose framing is ambiguous, the connection ends.
//! Invariant: a stranger's connection ends with the first answer after [`FIRST_HEAD_WAIT`], however fast it asks and however
//! slowly it reads.
//! Distrusts: the peer, in every byte and in its pace.

mod lent;
pub(crate) mod parse;
mod patience;
mod reader;
mod writer;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{Request, StatusCode};
use strongroom_http1::{BadHead, Framing};
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::Refused;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

pub(crate) use self::lent::Lent;
use self::lent::ReadingSide;
use self::parse::{Announced, parse};
use self::patience::Patience;
use self::reader::{NoHead, Reader};
use self::writer::{Delimited, Writer, Written};
use crate::answer::{HeadSink, ReplyBody};
use crate::api::{BODY_WAIT, Client, MAX_BODY_BYTES, takes_body};
use crate::call::{call, give_up, refuse};
use crate::connection::{ANSWER_WAIT, FIRST_HEAD_WAIT, IDLE_WAIT, Stream, Visitor};
use crate::gateway::Gateway;
use crate::incoming::{BodyFault, Incoming};
use crate::place::Prefix;
use crate::request::RequestHead;
use crate::routes::prefix_of;

/// Largest page.
const MAX_PAGE_BYTES: usize = 1024 * 1024;
/// How long a peer may take to receive an answer of ours: these fit the socket's buffer.
const OUR_ANSWER_WAIT: Duration = Duration::from_secs(5);
/// How long a peer is listened to after its last answer: a reset would overtake the answer.
const LINGER_WAIT: Duration = Duration::from_secs(5);
/// How much of what it sends is thrown away.
const LINGER_BYTES: usize = 8 * 1024 * 1024;

/// Serves a connection to its end.
pub(crate) async fn serve(
    stream: Stream,
    (gateway, pages): (Arc<Gateway>, Router),
    visitor: &Visitor,
    stop: watch::Receiver<bool>,
) {
    let mut until = stop.clone();
    let (reader, writer) = tokio::io::split(stream);
    let mut connection = Connection {
        gateway: &gateway,
        pages,
        visitor,
        side: ReadingSide::Here(Reader::new(reader)),
        writer: Writer::new(writer),
        patience: Patience::new(FIRST_HEAD_WAIT),
        begun: Instant::now(),
        stop,
        // A gateway that is dropped stops too.
        stopped: Box::pin(async move { drop(until.wait_for(|stop| *stop).await) }),
    };
    match connection.run().await {
        After::Close => connection.close().await,
        After::Leave => drop(timeout(OUR_ANSWER_WAIT, connection.writer.end()).await),
        After::Next | After::Cut => {}
    }
}

/// One connection.
struct Connection<'c> {
    gateway: &'c Gateway,
    pages: Router,
    visitor: &'c Visitor,
    side: ReadingSide,
    writer: Writer,
    patience: Patience,
    begun: Instant,
    stop: watch::Receiver<bool>,
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// What becomes of a connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The next request may come.
    Next,
    /// It ends, cleanly, when the peer has had its answer.
    Close,
    /// It ends at rest.
    Leave,
    /// It is cut: what was written must not look whole.
    Cut,
}

/// The request that is being answered.
struct Exchanged<'r> {
    head: &'r RequestHead<'r>,
    /// Whether the caller wants the connection closed.
    close: bool,
}

impl Connection<'_> {
    async fn run(&mut self) -> After {
        loop {
            let head = match self.next_head().await {
                Ok(head) => head,
                Err(Some(NoHead::Bad(bad))) => return self.turn_down(status_of(bad)).await,
                Err(Some(NoHead::Gone)) => return After::Cut,
                // The time is over, or the process stops.
                Err(None) => return After::Leave,
            };
            let after = match parse(&head) {
                Ok(announced) => self.answer(&announced).await,
                Err(status) => self.turn_down(status).await,
            };
            if after != After::Next {
                return after;
            }
            drop(head);
            self.writer.rest();
            if let Some(reader) = self.side.reader() {
                reader.rest();
            }
            let rest = if self.visitor.is_stranger() {
                FIRST_HEAD_WAIT.saturating_sub(self.begun.elapsed())
            } else {
                IDLE_WAIT
            };
            self.patience.set(rest);
        }
    }

    /// The next head, unless its time is over or the process stops.
    async fn next_head(&mut self) -> Result<Bytes, Option<NoHead>> {
        let Some(reader) = self.side.reader() else { return Err(Some(NoHead::Gone)) };
        std::future::poll_fn(|cx| {
            if let Poll::Ready(head) = reader.poll_head(cx) {
                return Poll::Ready(head.map_err(Some));
            }
            // Neither is asked again once it is over: the connection ends.
            if self.stopped.as_mut().poll(cx).is_ready() || self.patience.poll(cx).is_ready() {
                return Poll::Ready(Err(None));
            }
            Poll::Pending
        })
        .await
    }

    /// Answers what is no request.
    async fn turn_down(&mut self, status: StatusCode) -> After {
        self.writer.head.begin(status);
        match self.send_ours(b"", Delimited::ByLength, true).await {
            Ok(_) => After::Close,
            Err(_) => After::Cut,
        }
    }

    async fn send_ours(
        &mut self,
        body: &[u8],
        delimited: Delimited,
        close: bool,
    ) -> io::Result<Written> {
        let sent = timeout(OUR_ANSWER_WAIT, self.writer.whole(body, delimited, close)).await;
        sent.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(|()| Written::Whole)
    }

    /// Whether this is a stranger whose time is over.
    fn has_overstayed(&self) -> bool {
        self.visitor.is_stranger() && self.begun.elapsed() >= FIRST_HEAD_WAIT
    }

    async fn answer(&mut self, announced: &Announced<'_>) -> After {
        let Announced { head, framing, close, expects } = announced;
        let request = Exchanged { head, close: *close };
        match (prefix_of(head.target), framing) {
            (Some(prefix), Some(framing)) => self.call(prefix, &request, *framing, *expects).await,
            (Some(prefix), None) => {
                let refused = Refused::plain(Refusal::HeadInvalid);
                let sink = &mut self.writer.head;
                let reply = refuse(self.gateway, prefix.dialect(), &refused, sink);
                self.reply(reply, &Exchanged { close: true, ..request }).await
            }
            (None, Some(framing)) => self.page(&request, *framing, *expects).await,
            (None, None) => self.turn_down(StatusCode::BAD_REQUEST).await,
        }
    }

    async fn call(
        &mut self,
        prefix: Prefix,
        request: &Exchanged<'_>,
        framing: Framing,
        expects: bool,
    ) -> After {
        let Ok((body, mut invited)) = self.lend(framing, expects) else {
            return self.turn_down(StatusCode::BAD_REQUEST).await;
        };
        self.patience.set(ANSWER_WAIT);
        let (sink, half) = self.writer.halves();
        let inside = (self.gateway, self.visitor);
        let made = {
            let mut making = std::pin::pin!(call(inside, prefix, request.head, body, sink));
            loop {
                tokio::select! {
                    biased;
                    reply = &mut making => break Some(reply),
                    // Dropping the call cancels it.
                    () = self.side.peer_leaves() => return After::Cut,
                    () = heard(&mut invited) => {
                        if writer::invite(half).await.is_err() {
                            return After::Cut;
                        }
                    }
                    () = self.patience.over() => break None,
                }
            }
        };
        let reply = made.unwrap_or_else(|| give_up(self.gateway, prefix, &mut self.writer.head));
        self.reply(reply, request).await
    }

    /// Lends the reading side for a body that has not come whole with its head.
    fn lend(
        &mut self,
        framing: Framing,
        expects: bool,
    ) -> Result<(Incoming, Option<oneshot::Receiver<()>>), BodyFault> {
        let Some(mut reader) = self.side.take() else { return Err(BodyFault::Gone) };
        match reader.begin_body(framing) {
            Ok(first) if !reader.body_is_over() => {
                let (lent, home, invited) = Lent::new(reader, first, expects);
                self.side = ReadingSide::Away(home);
                Ok((Incoming::Http1(Box::new(lent)), invited))
            }
            begun => {
                self.side = ReadingSide::Here(reader);
                begun.map(|all| (Incoming::Here(all), None))
            }
        }
    }

    /// Writes an answer whose head is in the writer.
    async fn reply(&mut self, reply: ReplyBody, request: &Exchanged<'_>) -> After {
        let read = self.side.reader().is_some_and(|reader| reader.body_is_over());
        let close = request.close || !read || *self.stop.borrow() || self.has_overstayed();
        let RequestHead { method, version, .. } = *request.head;
        let written = match reply {
            ReplyBody::Ours(body) => {
                let delimited = self.writer.head.delimit(method, version, Some(0));
                self.send_ours(&body, delimited, close).await
            }
            ReplyBody::Provider(mut body) => {
                let writer = &mut self.writer;
                let delimited = writer.head.delimit(method, version, body.length());
                tokio::select! {
                    biased;
                    written = writer.relay(&mut body, delimited, close) => written,
                    () = self.side.peer_leaves() => return After::Cut,
                }
            }
        };
        match written {
            Ok(Written::Whole) if close => After::Close,
            Ok(Written::Whole) => After::Next,
            Ok(Written::Broken) | Err(_) => After::Cut,
        }
    }

    /// Serves a page. Of most of them a body that comes is not read.
    async fn page(&mut self, request: &Exchanged<'_>, framing: Framing, expects: bool) -> After {
        let body = if takes_body(request.head.target) {
            self.page_body(framing, expects).await
        } else {
            let begun = self.side.reader().map(|reader| reader.begin_body(framing));
            let begun = begun.and_then(Result::ok);
            begun.map(|_| Bytes::new()).ok_or(StatusCode::BAD_REQUEST)
        };
        let body = match body {
            Ok(body) => body,
            Err(status) => return self.turn_down(status).await,
        };
        let Some(mut asked) = page_request(request.head, body) else {
            return self.turn_down(StatusCode::BAD_REQUEST).await;
        };
        asked.extensions_mut().insert(Client(self.visitor.address));
        let Ok(page) = tower::Service::call(&mut self.pages, asked).await;
        let (parts, body) = page.into_parts();
        let Ok(body) = axum::body::to_bytes(body, MAX_PAGE_BYTES).await else {
            return self.turn_down(StatusCode::INTERNAL_SERVER_ERROR).await;
        };
        let sink = &mut self.writer.head;
        sink.begin(parts.status);
        for (name, value) in parts.headers.iter().filter(|(name, _)| *name != CONTENT_LENGTH) {
            sink.line(name.as_str(), value.as_bytes());
        }
        self.reply(ReplyBody::Ours(body), request).await
    }

    /// The whole of a small body.
    async fn page_body(&mut self, framing: Framing, expects: bool) -> Result<Bytes, StatusCode> {
        let lent = self.lend(framing, expects).map_err(|_| StatusCode::BAD_REQUEST);
        let (mut body, mut invited) = lent?;
        self.patience.set(BODY_WAIT);
        let (_, half) = self.writer.halves();
        let reading = async {
            let mut all = BytesMut::new();
            while let Some(piece) = body.piece().await.map_err(|_| StatusCode::BAD_REQUEST)? {
                if all.len().saturating_add(piece.len()) > MAX_BODY_BYTES {
                    return Err(StatusCode::PAYLOAD_TOO_LARGE);
                }
                all.extend_from_slice(&piece);
            }
            Ok(all.freeze())
        };
        let mut reading = std::pin::pin!(reading);
        loop {
            tokio::select! {
                biased;
                read = &mut reading => return read,
                () = heard(&mut invited) => {
                    writer::invite(half).await.map_err(|_| StatusCode::BAD_REQUEST)?;
                }
                () = self.patience.over() => return Err(StatusCode::REQUEST_TIMEOUT),
            }
        }
    }

    /// Ends the connection and listens until the peer has ended it too: a reset would overtake the answer.
    async fn close(&mut self) {
        let linger = async {
            self.writer.end().await;
            let mut left = LINGER_BYTES;
            let Some(reader) = self.side.come_home().await else { return };
            while left > 0 {
                match reader.discard().await {
                    0 => return,
                    more => left = left.saturating_sub(more),
                }
            }
        };
        drop(timeout(LINGER_WAIT, linger).await);
    }
}

/// Waits for an invitation that is due.
async fn heard(invited: &mut Option<oneshot::Receiver<()>>) {
    let told = match invited {
        Some(told) => told.await.is_ok(),
        None => false,
    };
    *invited = None;
    if !told {
        std::future::pending::<()>().await;
    }
}

/// The request as axum has it.
fn page_request(head: &RequestHead<'_>, body: Bytes) -> Option<Request<Body>> {
    let mut request = Request::builder().method(head.method).uri(head.target);
    for (name, value) in head.lines.iter() {
        request = request.header(name, value);
    }
    request.body(Body::from(body)).ok()
}

fn status_of(bad: BadHead) -> StatusCode {
    match bad {
        BadHead::TooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        BadHead::Malformed => StatusCode::BAD_REQUEST,
    }
}
