//! Entries on their way to the file: one text after another in a buffer that lives on from group to group.
//!
//! Invariant: an entry is in it whole or not at all.

use strongroom_policy::moment::Moment;
use time::format_description::well_known::Rfc3339;

use super::JournalError;
use super::entry::Entry;

/// Entries without what the writing thread adds: the number before each, the chain value after it.
#[derive(Debug, Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    stamp: Stamp,
    must_last: bool,
}

/// The last moment and its text: most entries share their millisecond with the one before.
#[derive(Debug, Default)]
struct Stamp {
    moment: Option<Moment>,
    text: String,
}

/// Longest line; the longest path and a list of labels fit.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// What is kept of a buffer that a stalled disk or a burst let grow.
const KEPT_BYTES: usize = 256 * 1024;

impl Lines {
    /// Adds an entry.
    ///
    /// # Errors
    /// When it is too long; it is then not there.
    pub(super) fn push(&mut self, entry: &Entry<'_>, now: Moment) -> Result<(), JournalError> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(b",\"t\":\"");
        self.bytes.extend_from_slice(self.stamp.text(now).as_bytes());
        self.bytes.push(b'"');
        let brace = self.bytes.len();
        let formed = serde_json::to_writer(&mut self.bytes, entry);
        // `{"what":…}` goes on from `{"n":…,"t":…`: its first brace is a comma there, its last one stands after the chain.
        if let Some(brace) = self.bytes.get_mut(brace) {
            *brace = b',';
        }
        self.bytes.pop();
        let refusal = match formed {
            Err(_) => "an entry does not fit its form",
            Ok(()) if self.bytes.len().saturating_sub(start) > MAX_LINE_BYTES => {
                "an entry is too long"
            }
            Ok(()) => {
                self.ends.push(self.bytes.len());
                return Ok(());
            }
        };
        self.bytes.truncate(start);
        Err(JournalError::Write(refusal.to_owned()))
    }

    /// Has the entries on the disk before anyone hears that they are written.
    pub(super) fn make_last(&mut self) {
        self.must_last = true;
    }

    /// Whether they must be on the disk before anyone hears of them.
    pub(super) fn must_last(&self) -> bool {
        self.must_last
    }

    /// When the last entry was formed.
    pub(super) fn moment(&self) -> Option<Moment> {
        self.stamp.moment
    }

    /// The entries in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(*start..*end).unwrap_or_default())
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Takes all of them out.
    pub(super) fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
        self.must_last = false;
        if self.bytes.capacity() > KEPT_BYTES {
            *self = Self::default();
        }
    }
}

impl Stamp {
    fn text(&mut self, now: Moment) -> &str {
        if self.moment != Some(now) {
            self.text = rfc3339(now);
            self.moment = Some(now);
        }
        &self.text
    }
}

/// A moment as entries have it: RFC 3339, UTC, milliseconds.
pub fn rfc3339(now: Moment) -> String {
    let nanos = i128::from(now.unix_millis()).saturating_mul(1_000_000);
    time::OffsetDateTime::from_unix_timestamp_nanos(nanos)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| now.unix_millis().to_string())
}

#[cfg(test)]
mod tests {
    use strongroom_policy::moment::Moment;

    use super::{KEPT_BYTES, Lines, MAX_LINE_BYTES};
    use crate::journal::entry::{ActResult, Entry};

    fn act(target: String) -> Entry<'static> {
        Entry::Act {
            act: "token.create",
            operator: 1,
            tenant: None,
            target,
            result: ActResult::Begun,
        }
    }

    #[test]
    fn an_entry_that_is_too_long_leaves_the_others_as_they_are() {
        let mut lines = Lines::default();
        lines.push(&act("a".to_owned()), Moment::from_unix_millis(0)).unwrap();
        let long = act("x".repeat(MAX_LINE_BYTES));
        assert!(lines.push(&long, Moment::from_unix_millis(1)).is_err());
        lines.push(&Entry::Strangers { refused: 2 }, Moment::from_unix_millis(1500)).unwrap();
        let texts: Vec<&[u8]> = lines.iter().collect();
        let first = b",\"t\":\"1970-01-01T00:00:00Z\",\"what\":\"act\",\"act\":\"token.create\",\
            \"operator\":1,\"target\":\"a\",\"result\":\"begun\"";
        let second = b",\"t\":\"1970-01-01T00:00:01.5Z\",\"what\":\"strangers\",\"refused\":2";
        assert_eq!(texts, [&first[..], &second[..]]);
    }
    #[test]
    fn a_line_may_be_as_long_as_its_bound_and_no_longer() {
        let length = |target: usize| {
            let mut lines = Lines::default();
            let pushed = lines.push(&act("x".repeat(target)), Moment::from_unix_millis(0));
            pushed.ok().map(|()| lines.bytes.len())
        };
        let rest = length(1).unwrap() - 1;
        assert_eq!(length(MAX_LINE_BYTES - rest), Some(MAX_LINE_BYTES));
        assert_eq!(length(MAX_LINE_BYTES - rest + 1), None);
    }

    // Red when each group makes a buffer of its own, or one burst keeps its memory for good.
    #[test]
    fn the_buffer_lives_on_unless_a_burst_let_it_grow() {
        let mut lines = Lines::default();
        let mut fill = |count: usize| {
            for _ in 0..count {
                lines.push(&act("x".repeat(1000)), Moment::from_unix_millis(0)).unwrap();
            }
            let room = lines.bytes.capacity();
            lines.make_last();
            lines.clear();
            assert!(lines.is_empty() && lines.bytes.is_empty() && !lines.must_last());
            (room, lines.bytes.capacity())
        };
        let (grown, kept) = fill(10);
        assert_eq!(grown, kept);
        let (grown, kept) = fill(KEPT_BYTES / 500);
        assert!(grown > KEPT_BYTES);
        assert_eq!(kept, 0);
    }
}
