//! Which request headers travel, and which refuse the request.
//!
//! Invariant: an allow-list; no header that authenticates, frames or routes is on it.
//! Invariant: a header that matters comes once; what travels is visible ASCII.
//! Distrusts: every header.

use http::Version;
use strongroom_http1::decimal;
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::{BetaName, Label};
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::ask::MAX_BETAS;
use strongroom_protocol::call::MAX_HEADERS;

use crate::authenticate::Offers;
use crate::request::Lines;

/// The lines of a head that mean something here, gathered in one pass and not judged yet.
#[derive(Default)]
pub(crate) struct Gathered<'r> {
    /// What is offered as a token.
    pub(crate) offers: Offers<'r>,
    /// `host`.
    pub(crate) host: Option<&'r [u8]>,
    /// `content-type`.
    pub(crate) content_type: Option<&'r str>,
    upgrade: bool,
    /// `content-length`, `transfer-encoding`, `content-encoding`, `x-strongroom-credential`.
    length: Option<&'r [u8]>,
    coding: Option<&'r [u8]>,
    encoding: Option<&'r [u8]>,
    choice: Option<&'r [u8]>,
    betas: Vec<&'r [u8]>,
    travelling: Vec<(&'r str, &'r str)>,
    travelling_bytes: usize,
    /// A second line where only one may stand, a value that is not plain, or too much of it.
    malformed: bool,
}

/// What of a request's head is said to the keeper.
#[derive(Debug)]
pub(crate) struct Head {
    /// `x-strongroom-credential`.
    pub(crate) choice: Option<Label>,
    /// The values of `anthropic-beta`, in order.
    pub(crate) betas: Vec<BetaName>,
    /// `content-length`.
    pub(crate) length: Option<u64>,
}

/// Headers that travel by name. The courier writes `host`, `accept-encoding`, framing, betas and the key itself.
const TRAVEL: [&str; 15] = [
    "accept",
    "accept-language",
    "anthropic-dangerous-direct-browser-access",
    "anthropic-version",
    "content-type",
    "idempotency-key",
    "openai-beta",
    "user-agent",
    "x-app",
    "x-claude-code-session-id",
    "x-client-request-id",
    "x-goog-api-client",
    "x-goog-request-params",
    "x-grok-conv-id",
    "x-request-id",
];

/// Headers that travel by the beginning of their name.
const TRAVEL_PREFIXES: [&str; 2] = ["x-stainless-", "x-goog-upload-"];

/// Longest value that travels, bytes.
const MAX_VALUE_BYTES: usize = 4096;
/// All that travels must fit one frame with room for the ticket.
const MAX_TRAVELLING_BYTES: usize = 32 * 1024;

impl<'r> Gathered<'r> {
    /// Gathers the lines of a head.
    pub(crate) fn of(lines: &Lines<'r>) -> Self {
        let mut gathered =
            Self { travelling: Vec::with_capacity(lines.count()), ..Self::default() };
        for (name, value) in lines.iter() {
            gathered.take(name, value);
        }
        gathered
    }

    fn take(&mut self, name: &'r str, value: &'r [u8]) {
        if self.offers.take(name, value) {
            return;
        }
        let slot = match name {
            "upgrade" | "sec-websocket-key" => {
                self.upgrade = true;
                return;
            }
            "anthropic-beta" => {
                self.betas.push(value);
                return;
            }
            "host" => &mut self.host,
            "content-length" => &mut self.length,
            "transfer-encoding" => &mut self.coding,
            "content-encoding" => &mut self.encoding,
            "x-strongroom-credential" => &mut self.choice,
            _ => return self.take_travelling(name, value),
        };
        // A second one could be read in place of the first.
        self.malformed |= slot.replace(value).is_some();
    }

    /// Those that travel, in their order: no duplicate, nothing that is not visible ASCII, not too much.
    fn take_travelling(&mut self, name: &'r str, value: &'r [u8]) {
        if !travels(name) {
            return;
        }
        let twice = self.travelling.iter().any(|(before, _)| *before == name);
        let full = self.travelling.len() == MAX_HEADERS;
        self.travelling_bytes += name.len() + value.len();
        match plain(value) {
            Some(text) if !twice && !full && self.travelling_bytes <= MAX_TRAVELLING_BYTES => {
                self.travelling.push((name, text));
                if name == "content-type" {
                    self.content_type = Some(text);
                }
            }
            Some(_) | None => self.malformed = true,
        }
    }

    /// Refuses protocol upgrades: clients fall back to plain HTTP only on 426, so this comes before all else.
    ///
    /// # Errors
    /// [`Refusal::UpgradeUnsupported`].
    pub(crate) fn refuse_upgrade(&self) -> Result<(), Refusal> {
        if self.upgrade { Err(Refusal::UpgradeUnsupported) } else { Ok(()) }
    }

    /// Reads what is said to the keeper.
    ///
    /// # Errors
    /// [`Refusal::HeadInvalid`] for duplicates and malformed values, [`Refusal::BodyUnsupported`] for an encoding.
    pub(crate) fn read(&self, dialect: Dialect, version: Version) -> Result<Head, Refusal> {
        if self.malformed {
            return Err(Refusal::HeadInvalid);
        }
        self.check_framing(version)?;
        if self.encoding.is_some_and(|value| value != b"identity") {
            return Err(Refusal::BodyUnsupported);
        }
        let length = self.length.map(|value| decimal(value).ok_or(Refusal::HeadInvalid));
        let choice = self.choice.map(|value| {
            let text = plain(value).ok_or(Refusal::HeadInvalid)?;
            Label::parse(text).map_err(|_| Refusal::HeadInvalid)
        });
        let betas = match dialect {
            Dialect::Anthropic => self.read_betas()?,
            Dialect::OpenAi | Dialect::Gemini | Dialect::Xai => Vec::new(),
        };
        Ok(Head { choice: choice.transpose()?, betas, length: length.transpose()? })
    }

    /// The headers that travel, in their order.
    pub(crate) fn into_travelling(self) -> Vec<(&'r str, &'r str)> {
        self.travelling
    }

    /// Both framings at once are how requests are smuggled (RFC 9112, 6.1); only `chunked` is read.
    fn check_framing(&self, version: Version) -> Result<(), Refusal> {
        let Some(coding) = self.coding else { return Ok(()) };
        let good = version == Version::HTTP_11
            && self.length.is_none()
            && coding.eq_ignore_ascii_case(b"chunked");
        if good { Ok(()) } else { Err(Refusal::HeadInvalid) }
    }

    /// A list header: several lines are one list (RFC 9110, 5.3), and the order is kept.
    fn read_betas(&self) -> Result<Vec<BetaName>, Refusal> {
        let mut list = Vec::new();
        for line in &self.betas {
            let line = plain(line).ok_or(Refusal::HeadInvalid)?;
            for text in line.split(',').map(str::trim).filter(|text| !text.is_empty()) {
                let beta = BetaName::parse(text).map_err(|_| Refusal::HeadInvalid)?;
                if list.len() == MAX_BETAS {
                    return Err(Refusal::HeadInvalid);
                }
                list.push(beta);
            }
        }
        Ok(list)
    }
}

fn travels(name: &str) -> bool {
    TRAVEL.binary_search(&name).is_ok()
        || TRAVEL_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// RFC 9110, 5.5, without obs-text and without tabs.
fn plain(value: &[u8]) -> Option<&str> {
    let good = value.len() <= MAX_VALUE_BYTES && value.iter().all(|b| (0x20..0x7f).contains(b));
    if good { std::str::from_utf8(value).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use http::Version;
    use strongroom_policy::dialect::Dialect;
    use strongroom_policy::refusal::Refusal;

    use super::{Gathered, Head, TRAVEL};
    use crate::request::Lines;

    fn headers<'r>(list: &[(&'r str, &'r str)]) -> Lines<'r> {
        list.iter().map(|(name, value)| (*name, value.as_bytes())).collect()
    }

    fn read(list: &[(&str, &str)]) -> Result<Head, Refusal> {
        Gathered::of(&headers(list)).read(Dialect::Anthropic, Version::HTTP_11)
    }

    #[test]
    fn the_list_is_sorted_for_its_search() {
        assert!(TRAVEL.is_sorted());
    }

    #[test]
    fn nothing_that_authenticates_frames_or_routes_travels() {
        let sent = headers(&[
            ("authorization", "Bearer x"),
            ("x-api-key", "x"),
            ("x-goog-api-key", "x"),
            ("api-key", "x"),
            ("xi-api-key", "x"),
            ("cookie", "a=b"),
            ("host", "gate"),
            ("connection", "x-secret"),
            ("transfer-encoding", "chunked"),
            ("content-length", "1"),
            ("accept-encoding", "gzip"),
            ("openai-organization", "org"),
            ("openai-project", "proj"),
            ("x-http-method-override", "DELETE"),
            ("x-forwarded-for", "::1"),
            ("forwarded", "for=::1"),
            ("sec-websocket-protocol", "openai-insecure-api-key.sk-1"),
            ("proxy-authorization", "Basic x"),
            ("anthropic-beta", "a"),
            ("x-strongroom-credential", "team"),
            ("range", "bytes=0-1"),
            ("if-range", "x"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("expect", "100-continue"),
        ]);
        assert_eq!(Gathered::of(&sent).into_travelling(), []);
    }

    #[test]
    fn what_the_sdks_need_travels_in_order() {
        let list = [
            ("content-type", "application/json"),
            ("x-stainless-lang", "python"),
            ("anthropic-version", "2023-06-01"),
            ("x-goog-upload-command", "start"),
        ];
        assert_eq!(Gathered::of(&headers(&list)).into_travelling(), list);
    }

    #[test]
    fn duplicates_and_odd_values_are_refused() {
        for list in [
            [("user-agent", "a"), ("user-agent", "b")],
            [("content-type", "application/json"), ("content-type", "text/plain")],
            [("accept", "a\u{ff}"), ("x-app", "cli")],
            [("accept", "a\tb"), ("x-app", "cli")],
        ] {
            assert_eq!(read(&list).unwrap_err(), Refusal::HeadInvalid, "{list:?}");
        }
    }

    #[test]
    fn two_framings_are_refused() {
        let both = [("transfer-encoding", "chunked"), ("content-length", "5")];
        assert_eq!(read(&both).unwrap_err(), Refusal::HeadInvalid);
        assert_eq!(
            read(&[("transfer-encoding", "gzip, chunked")]).unwrap_err(),
            Refusal::HeadInvalid
        );
        for bad in ["+5", "5,5", "", "0x5", "99999999999999999999"] {
            assert_eq!(
                read(&[("content-length", bad)]).unwrap_err(),
                Refusal::HeadInvalid,
                "{bad}"
            );
        }
        assert_eq!(read(&[("content-length", "5")]).unwrap().length, Some(5));
        assert_eq!(read(&[("content-encoding", "gzip")]).unwrap_err(), Refusal::BodyUnsupported);
    }

    #[test]
    fn betas_keep_their_order_over_lines_and_commas() {
        let head = read(&[("anthropic-beta", "b-1, a-2"), ("anthropic-beta", "c-3")]).unwrap();
        let names: Vec<_> = head.betas.iter().map(AsRef::<str>::as_ref).collect();
        assert_eq!(names, ["b-1", "a-2", "c-3"]);
        assert!(read(&[("anthropic-beta", "a b")]).is_err());
        assert!(read(&[("anthropic-beta", &["x"; 33].join(","))]).is_err());
    }

    #[test]
    fn an_upgrade_is_refused() {
        let upgrade = headers(&[("connection", "upgrade"), ("upgrade", "websocket")]);
        let refused = Gathered::of(&upgrade).refuse_upgrade();
        assert_eq!(refused, Err(Refusal::UpgradeUnsupported));
        let plain = headers(&[("connection", "keep-alive")]);
        assert!(Gathered::of(&plain).refuse_upgrade().is_ok());
    }
}
