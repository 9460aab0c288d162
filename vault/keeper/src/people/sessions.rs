//! When a session counts, when it is renewed and when it is over. Pure: time is a parameter.
//!
//! Invariant: nothing makes a session longer than [`LIFE`] from its sign-in, and a renewal keeps that moment.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use strongroom_policy::id::SessionId;
use strongroom_policy::moment::Moment;
use strongroom_protocol::person::{SessionRow, Told};

/// How long a session lives, whatever is done with it.
pub(super) const LIFE: Duration = Duration::from_hours(14 * 24);
/// How long it may rest.
pub(super) const IDLE: Duration = Duration::from_hours(24);
/// How old its text grows while it is used.
pub(super) const RENEWAL: Duration = Duration::from_mins(15);
/// How long a text counts beside its successor: for requests that were under way.
pub(super) const GRACE: Duration = Duration::from_secs(30);

/// A session, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Keyed hash of its whole text: no byte of what is presented can differ.
    pub hash: [u8; 32],
    /// The text before, and until when it counts.
    pub former: Option<([u8; 32], Moment)>,
    /// When its person signed in.
    pub began: Moment,
    /// When its text was made.
    pub issued: Moment,
    /// When it was last used, as far as that is stored: with each new text.
    pub seen: Moment,
    /// From where, at its sign-in.
    pub told: Told,
    /// By what its person proved who they are.
    pub factor: Factor,
}

/// By what somebody proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Factor {
    /// A password alone.
    Password,
}

impl SessionRecord {
    /// One that begins.
    pub const fn begin(hash: [u8; 32], told: Told, now: Moment) -> Self {
        let factor = Factor::Password;
        Self { hash, former: None, began: now, issued: now, seen: now, told, factor }
    }

    /// When it is over at the latest.
    pub(super) fn ends(&self) -> Moment {
        self.began.after(LIFE)
    }

    /// Whether it is over.
    pub fn is_over(&self, now: Moment) -> bool {
        now >= self.ends() || now >= self.seen.after(IDLE)
    }

    /// Whether this text counts.
    pub(super) fn is_text(&self, hash: &[u8; 32], now: Moment) -> bool {
        let former = self.former.is_some_and(|(former, until)| former == *hash && now < until);
        self.hash == *hash || former
    }

    /// Whether its text is old enough for another one.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        now.since(self.issued) >= RENEWAL
    }

    /// The same session under another text.
    pub(super) fn renewed(&self, hash: [u8; 32], now: Moment) -> Self {
        let former = Some((self.hash, now.after(GRACE)));
        Self { hash, former, issued: now, seen: now, ..self.clone() }
    }

    /// As its person sees it.
    pub fn row(&self, id: SessionId, this: bool) -> SessionRow {
        let Self { began, seen, told, .. } = *self;
        SessionRow { id, this, began, seen, ends: self.ends(), told }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use strongroom_protocol::person::Agent;

    use super::*;

    fn session() -> SessionRecord {
        let told = Told { address: IpAddr::V4(Ipv4Addr::LOCALHOST), agent: Agent::Firefox };
        SessionRecord::begin([1; 32], told, Moment::from_unix_millis(1_000_000))
    }

    // Red when a renewal moves the beginning.
    #[test]
    fn no_renewal_makes_a_session_longer_than_fourteen_days() {
        let mut session = session();
        let end = session.ends();
        let mut now = session.began;
        while now < end {
            assert!(!session.is_over(now));
            now = now.after(RENEWAL);
            session = session.renewed([2; 32], now);
        }
        assert!(session.is_over(now));
        assert_eq!(session.ends(), end);
    }

    #[test]
    fn a_session_that_rests_for_a_day_is_over() {
        let session = session();
        let almost = session.seen.after(IDLE.saturating_sub(Duration::from_millis(1)));
        assert!(!session.is_over(almost));
        assert!(session.is_over(session.seen.after(IDLE)));
    }

    // Red when the former text counts for ever.
    #[test]
    fn a_text_counts_for_thirty_seconds_beside_its_successor() {
        let now = session().began.after(RENEWAL);
        let renewed = session().renewed([2; 32], now);
        assert!(session().is_due(now));
        assert!(!renewed.is_due(now));
        assert!(renewed.is_text(&[2; 32], now));
        assert!(renewed.is_text(&[1; 32], now.after(Duration::from_secs(29))));
        assert!(!renewed.is_text(&[1; 32], now.after(GRACE)));
        assert!(!renewed.is_text(&[3; 32], now));
    }
}
