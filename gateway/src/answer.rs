//! The provider's answer on its way to the caller.
//!
//! Invariant: an answer that broke off never ends cleanly: the caller's connection or stream is reset.
//! Invariant: what is ready goes out as one piece; nothing waits for more.
//! Invariant: never more bytes than the head announced.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body::{Frame, SizeHint};
use serde::Deserialize;
use strongroom_policy::budget::Warning;
use strongroom_policy::dialect::Dialect;
use strongroom_policy::id::CallId;
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::call::decode;
use tokio::time::{Sleep, sleep};

use crate::exchange::{Ending, Exchange};
use crate::wording::{Stream, event};

/// Where an answer's head is written: HTTP/1.1's text, or HTTP/2's map.
pub(crate) trait HeadSink {
    /// Comes first, and once.
    fn begin(&mut self, status: StatusCode);
    /// A line; its name is in lower case, and both can stand in a head.
    fn line(&mut self, name: &str, value: &[u8]);
}

/// An answer's body.
pub(crate) enum ReplyBody {
    /// Of a refusal or a page.
    Ours(Bytes),
    /// Comes from the provider.
    Provider(Box<AnswerBody>),
}

/// [`strongroom_protocol::call::AnswerHead`] with borrowed headers: the same encoding, without copies.
#[derive(Deserialize)]
struct BorrowedAnswer<'a> {
    status: u16,
    #[serde(borrow)]
    headers: Vec<(&'a str, &'a str)>,
    length: Option<u64>,
}

/// Headers that belong to one connection (RFC 9110, 7.6.1), or are written here.
const NOT_CARRIED: [&str; 10] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authenticate",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-content-type-options",
];

/// Headers that only we say.
const OURS: &str = "x-strongroom-";

/// Writes the head of an answer that came as `payload`, and yields the body that `exchange` brings; with it, the status.
///
/// # Errors
/// [`Refusal::Internal`] for what is no head, [`Refusal::ProviderBroken`] for a status that no final answer has; nothing
/// is written then.
pub(crate) fn respond(
    payload: &[u8],
    exchange: Exchange,
    call: CallId,
    told: Told,
    sink: &mut impl HeadSink,
) -> Result<(StatusCode, AnswerBody), Refusal> {
    let head: BorrowedAnswer<'_> = decode(payload).map_err(|_| Refusal::Internal)?;
    let status = StatusCode::from_u16(head.status).map_err(|_| Refusal::ProviderBroken)?;
    if status.is_informational() {
        return Err(Refusal::ProviderBroken);
    }
    sink.begin(status);
    let mut events = false;
    for (name, value) in head.headers {
        if is_carried(name) && is_value(value.as_bytes()) {
            events |= name == "content-type" && value.starts_with("text/event-stream");
            sink.line(name, value.as_bytes());
        }
    }
    sink.line("x-content-type-options", b"nosniff");
    sink.line("x-strongroom-call", call.to_string().as_bytes());
    if let Some(warning) = &told.budget {
        sink.line("x-strongroom-budget", budget_line(warning).as_bytes());
    }
    if events {
        // Proxies in front of us must not gather a stream.
        sink.line("x-accel-buffering", b"no");
    }
    let body = AnswerBody {
        exchange,
        left: head.length,
        events: events.then_some(Events { dialect: told.dialect, stream: told.stream }),
        tail: *b"\n\n",
        passed: told.passed,
        told: None,
        pause: None,
    };
    Ok((status, body))
}

/// What the end of a stream needs to be told.
pub(crate) struct Told {
    pub(crate) dialect: Dialect,
    pub(crate) stream: Stream,
    /// That a budget's warning share is passed.
    pub(crate) budget: Option<Warning>,
    /// Counts the bytes that passed.
    pub(crate) passed: Arc<AtomicU64>,
}

/// Whose budget, of what, within which time, how much of it is spent or reserved (per cent), and when it begins anew (seconds since
/// 1970): `user;unit=money;per=day;used=83;turns=1795910400`.
fn budget_line(warning: &Warning) -> String {
    let Warning { payer, unit, period, percent, turns } = warning;
    let (payer, unit, period) = (payer.name(), unit.name(), period.name());
    let turns = turns.unix_millis() / 1000;
    format!("{payer};unit={unit};per={period};used={percent};turns={turns}")
}

/// A lower-case token (RFC 9110, 5.6.2) that is not ours to say.
fn is_carried(name: &str) -> bool {
    let token = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~');
    !name.is_empty()
        && name.bytes().all(token)
        && NOT_CARRIED.binary_search(&name).is_err()
        && !name.starts_with(OURS)
}

/// RFC 9110, 5.5: nothing that could end a line.
fn is_value(value: &[u8]) -> bool {
    value.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control())
}

/// The body of a provider's answer.
pub(crate) struct AnswerBody {
    exchange: Exchange,
    /// What is still to come, when the length was said.
    left: Option<u64>,
    /// Of a stream of events, until its last words.
    events: Option<Events>,
    /// The last two bytes: an event of ours may only stand between two of the provider's.
    tail: [u8; 2],
    passed: Arc<AtomicU64>,
    /// HTTP/2 asks once more after the last piece.
    told: Option<Ending>,
    /// Before the body fails.
    pause: Option<Pin<Box<Sleep>>>,
}

/// What a stream's last words need.
struct Events {
    dialect: Dialect,
    stream: Stream,
}

/// A failing body makes HTTP/2 throw away what it has not written yet: the head, the last event.
const BREAK_PAUSE: Duration = Duration::from_millis(50);

/// The answer ended before its end. The reason was told, or cannot be.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off: {0:?}")]
pub(crate) struct BrokeOff(Refusal);

impl AnswerBody {
    /// The length that was announced, as long as nothing was read.
    pub(crate) fn length(&self) -> Option<u64> {
        self.left
    }

    /// Appends what is readable, and tells the end when it has come. Not to be asked again after the end.
    pub(crate) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut BytesMut,
    ) -> Poll<Option<Ending>> {
        let before = into.len();
        let polled = self.exchange.poll_body(cx, into);
        let fits = self.count(into.get(before..).unwrap_or_default());
        if !fits {
            into.truncate(before);
            return Poll::Ready(Some(Ending::Broken(Refusal::ProviderBroken)));
        }
        let Poll::Ready(ended) = polled else {
            // All announced bytes have passed; dropping this value lets the exchange end by itself.
            let all = self.left == Some(0);
            return if all { Poll::Ready(Some(Ending::Complete)) } else { Poll::Pending };
        };
        Poll::Ready(match ended {
            None => (self.left == Some(0)).then_some(Ending::Complete),
            Some(Ending::Complete) if self.left.unwrap_or(0) > 0 => {
                Some(Ending::Broken(Refusal::ProviderBroken))
            }
            Some(Ending::Complete) => Some(Ending::Complete),
            Some(Ending::Broken(refusal)) => {
                into.extend_from_slice(&self.last_words(refusal));
                Some(Ending::Broken(refusal))
            }
        })
    }

    /// False for more than was announced.
    fn count(&mut self, data: &[u8]) -> bool {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        if let Some(left) = &mut self.left {
            let Some(still) = left.checked_sub(length) else { return false };
            *left = still;
        }
        self.passed.fetch_add(length, Ordering::Relaxed);
        match data {
            [.., first, second] => self.tail = [*first, *second],
            [one] => self.tail = [self.tail[1], *one],
            [] => {}
        }
        true
    }

    /// Once, and only between two events: half an event and ours would make a third that nobody sent.
    fn last_words(&mut self, refusal: Refusal) -> Bytes {
        let between = matches!(&self.tail, b"\n\n" | b"\r\r") && self.left.is_none();
        match self.events.take() {
            Some(Events { dialect, stream }) if between => event(dialect, stream, refusal),
            Some(_) | None => Bytes::new(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        // Nobody asks any more once all announced bytes are there.
        if self.left == Some(0) {
            self.exchange.let_end();
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokeOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokeOff>>> {
        if self.told.is_none() {
            let mut data = BytesMut::new();
            self.told = std::task::ready!(self.poll_piece(cx, &mut data));
            if !data.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(data.freeze()))));
            }
        }
        let refusal = match self.told {
            Some(Ending::Broken(refusal)) => refusal,
            Some(Ending::Complete) => return Poll::Ready(None),
            None => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
        };
        let pause = self.pause.get_or_insert_with(|| Box::pin(sleep(BREAK_PAUSE)));
        std::task::ready!(pause.as_mut().poll(cx));
        Poll::Ready(Some(Err(BrokeOff(refusal))))
    }

    fn is_end_stream(&self) -> bool {
        self.told == Some(Ending::Complete)
    }

    fn size_hint(&self) -> SizeHint {
        match self.left {
            Some(left) => SizeHint::with_exact(left),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use strongroom_policy::budget::{PayerKind, Period, Unit, Warning};
    use strongroom_policy::moment::Moment;

    use super::{NOT_CARRIED, budget_line, is_carried, is_value};

    #[test]
    fn a_warning_says_whose_budget_of_what_how_much_and_until_when() {
        let warning = Warning {
            payer: PayerKind::User,
            unit: Unit::Money,
            period: Period::Day,
            percent: 83,
            turns: Moment::from_unix_millis(1_795_910_400_999),
        };
        assert_eq!(budget_line(&warning), "user;unit=money;per=day;used=83;turns=1795910400");
    }

    #[test]
    fn the_list_is_sorted_for_its_search() {
        assert!(NOT_CARRIED.is_sorted());
    }

    #[test]
    fn nothing_can_add_a_line_to_a_head() {
        for name in ["", "a b", "a:", "a\r", "A", "x-strongroom-call", "content-length", "\u{e9}"] {
            assert!(!is_carried(name), "{name:?}");
        }
        assert!(is_carried("x-ratelimit-limit-requests"));
        for value in ["a\r\nb", "a\nb", "a\0b", "\u{7f}"] {
            assert!(!is_value(value.as_bytes()), "{value:?}");
        }
        assert!(is_value("a\tb \u{e9}".as_bytes()));
    }
}
