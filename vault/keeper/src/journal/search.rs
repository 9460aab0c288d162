//! Searching the journal: one bundle after the other, on a thread of its own that lets others go first.
//!
//! Invariant: an answer has a bound in entries, bytes and bundles looked at; the next one goes on where it ended.
//! Distrusts: the files; what is shown is what lies there, not what was verified.

use std::collections::BTreeMap;
use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use strongroom_policy::id::{CallId, CredentialId, TokenId, UserId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, ProviderName};
use strongroom_protocol::operator::listing::JournalRow;
use strongroom_tlog::Entries;

use super::line::{Known, millis};
use super::place::{BUNDLE_ENTRIES, Place};
use super::read::{MAX_ROW_BYTES, MAX_ROWS, Whose, bundle, bundle_of, row};

/// Most bundles that one answer looks at.
const MAX_BUNDLES: u64 = 1024;
/// So many bundles before the first that counts are read for the calls that end in it.
const LOOK_BACK: u64 = 16;
/// Most calls whose end is waited for at once.
const MAX_OPEN_CALLS: usize = 64 * 1024;
/// Whoever works this long then rests as long: never more than half of one processor.
const WORK: Duration = Duration::from_millis(2);

/// Which entries fit.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Not before.
    pub since: Option<Moment>,
    /// Before.
    pub until: Option<Moment>,
    /// Of these tenants.
    pub whose: Whose,
    /// Whose call.
    pub user: Option<UserId>,
    /// By which token.
    pub token: Option<TokenId>,
    /// With which credential.
    pub credential: Option<CredentialId>,
    /// To which provider.
    pub provider: Option<ProviderName>,
    /// About this call.
    pub call: Option<CallId>,
    /// `complete`, or a refusal's code.
    pub outcome: Option<Label>,
    /// The kind of entry, or an operator's act.
    pub act: Option<Label>,
    /// By this Unix user.
    pub operator: Option<u32>,
}

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    /// The entries, oldest first.
    pub rows: Vec<JournalRow>,
    /// The newest entry that was looked at.
    pub looked: u64,
    /// Whether nothing lies after it.
    pub end: bool,
}

/// Whose call it is: what its end does not say itself.
struct Party {
    tenant: Option<String>,
    user: Option<String>,
    token: Option<String>,
    credential: Option<String>,
    provider: Option<String>,
}

struct Search<'f> {
    filter: Texts<'f>,
    open: BTreeMap<String, Party>,
    rows: Vec<JournalRow>,
    bytes: usize,
    limit: usize,
}

/// The filter's ids as entries have them.
struct Texts<'f> {
    filter: &'f Filter,
    user: Option<String>,
    token: Option<String>,
    credential: Option<String>,
    call: Option<String>,
}

/// Finds entries with a number above `after`, oldest first.
///
/// # Errors
/// When a file cannot be read.
pub fn search(
    place: &Place,
    (entries, first_kept): (u64, u64),
    filter: &Filter,
    (after, limit): (u64, usize),
) -> io::Result<Found> {
    let after = after.max(first_kept.saturating_sub(1)).min(entries);
    let first = bundle_of(after.saturating_add(1));
    let last = bundle_of(entries).min(first.saturating_add(MAX_BUNDLES));
    let mut search = Search {
        filter: Texts::of(filter),
        open: BTreeMap::new(),
        rows: Vec::new(),
        bytes: 0,
        limit: limit.clamp(1, MAX_ROWS),
    };
    let mut looked = after;
    let mut begun = Instant::now();
    for index in first.saturating_sub(LOOK_BACK).max(bundle_of(first_kept))..=last {
        let Some(found) = bundle(place, index)? else { continue };
        let number = index.saturating_mul(BUNDLE_ENTRIES).saturating_add(1);
        for (number, entry) in (number..).zip(Entries::of(&found).map_while(Result::ok)) {
            if search.is_full() {
                return Ok(Found { rows: search.rows, looked, end: false });
            }
            search.look(number, entry, number > after);
            looked = looked.max(number);
        }
        if begun.elapsed() >= WORK {
            sleep(begun.elapsed());
            begun = Instant::now();
        }
    }
    Ok(Found { rows: search.rows, looked, end: last == bundle_of(entries) })
}

impl Search<'_> {
    fn is_full(&self) -> bool {
        self.rows.len() >= self.limit || self.bytes >= MAX_ROW_BYTES
    }

    fn look(&mut self, number: u64, entry: &[u8], counts: bool) {
        let Some(known) = Known::read(entry) else { return };
        let ended = match (known.what, known.call) {
            ("close" | "lost", Some(call)) => self.open.remove(call),
            _ => None,
        };
        if counts && self.filter.fits(&known, ended.as_ref()) {
            self.bytes = self.bytes.saturating_add(entry.len());
            self.rows.extend(row(number, entry));
        }
        if let ("admit", Some(call)) = (known.what, known.call)
            && self.open.len() < MAX_OPEN_CALLS
        {
            self.open.insert(call.to_owned(), Party::of(&known));
        }
    }
}

impl Party {
    fn of(known: &Known<'_>) -> Self {
        let own = |text: Option<&str>| text.map(ToOwned::to_owned);
        Self {
            tenant: own(known.tenant),
            user: own(known.user),
            token: own(known.token),
            credential: own(known.credential),
            provider: own(known.provider),
        }
    }
}

impl<'f> Texts<'f> {
    fn of(filter: &'f Filter) -> Self {
        Self {
            filter,
            user: filter.user.map(|id| id.to_string()),
            token: filter.token.map(|id| id.to_string()),
            credential: filter.credential.map(|id| id.to_string()),
            call: filter.call.map(|id| id.to_string()),
        }
    }

    /// Whether an entry, or the end of a call of that party, fits everything that is asked.
    fn fits(&self, known: &Known<'_>, ended: Option<&Party>) -> bool {
        let Filter { since, until, provider, outcome, act, operator, whose, .. } = self.filter;
        let party = |own: Option<&str>, of: fn(&Party) -> &Option<String>| {
            own.map(ToOwned::to_owned).or_else(|| ended.and_then(|party| of(party).clone()))
        };
        let is =
            |wanted: Option<&str>, found: Option<&str>| wanted.is_none_or(|one| found == Some(one));
        let tenant = party(known.tenant, |party| &party.tenant);
        let user = party(known.user, |party| &party.user);
        let token = party(known.token, |party| &party.token);
        let credential = party(known.credential, |party| &party.credential);
        let of_provider = party(known.provider, |party| &party.provider);
        // What names neither a tenant nor a call is about the whole vault, and of an end whose beginning lies too far back nobody
        // can say whose it is. The beginnings of earlier versions name no tenant and are the first one's.
        let is_end = matches!(known.what, "close" | "lost");
        let of_a_call = known.call.is_some() && known.act.is_none() && (!is_end || ended.is_some());
        let at = || millis(known.t);
        since.is_none_or(|since| at().is_some_and(|at| at >= since))
            && until.is_none_or(|until| at().is_some_and(|at| at < until))
            // What is said of no call and no tenant is said of the whole vault.
            && (whose.are_all() || (tenant.is_some() || of_a_call) && whose.count(tenant.as_deref()))
            && is(self.user.as_deref(), user.as_deref())
            && is(self.token.as_deref(), token.as_deref())
            && is(self.credential.as_deref(), credential.as_deref())
            && is(provider.as_ref().map(AsRef::as_ref), of_provider.as_deref())
            && is(self.call.as_deref(), known.call)
            && is(outcome.as_ref().map(AsRef::as_ref), known.end.or(known.code))
            && act
                .as_ref()
                .is_none_or(|act| act.as_ref() == known.what || Some(act.as_ref()) == known.act)
            && operator.is_none_or(|operator| known.operator == Some(operator))
    }
}
