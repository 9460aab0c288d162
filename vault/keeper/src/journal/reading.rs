//! Tests: what is shown of a journal, which entries a search finds, and the sums of usage.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use serde_json::{Value, json};
use strongroom_policy::id::{CallId, CredentialId, TenantId, TokenId, UserId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{Label, ProviderName};
use strongroom_protocol::operator::UsageBy;
use strongroom_tlog::bundle::{MAX_ENTRY_BYTES, push_entry};
use tempfile::TempDir;

use super::place::{BUNDLE_ENTRIES, Place};
use super::read::{MAX_ROW_BYTES, MAX_ROWS, Sums, Whose, bundle, tail, usage};
use super::search::{Filter, search};

/// A journal's files with these entries, full bundles at their place, the rest in the tail.
fn written(entries: &[String]) -> (TempDir, Place) {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::new(directory.path());
    let size = usize::try_from(BUNDLE_ENTRIES).unwrap();
    for (index, chunk) in (0..).zip(entries.chunks(size)) {
        let mut bytes = Vec::new();
        for entry in chunk {
            push_entry(&mut bytes, entry.as_bytes()).unwrap();
        }
        let path = if chunk.len() == size { place.bundle(index) } else { place.tail() };
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    (directory, place)
}

fn plain(count: u64) -> Vec<String> {
    let entry = |n| json!({"n": n, "t": "1970-01-01T00:00:00Z", "what": "seal"}).to_string();
    (1..=count).map(entry).collect()
}

fn call(name: u8) -> CallId {
    CallId::from_random([name; 16])
}

fn user(name: u8) -> UserId {
    UserId::from_random([name; 16])
}

fn sums(since: Moment, by: UsageBy) -> Sums {
    Sums { since, by, whose: Whose::default() }
}

fn seconds(seconds: u64) -> Moment {
    Moment::from_unix_millis(seconds * 1000)
}

/// Two people's calls, with what an operator did between: who is `1` or `2`, by a token, a key, a provider and a model of theirs.
fn story() -> Vec<String> {
    let at = |seconds: u64| format!("1970-01-01T00:00:{seconds:02}Z");
    let asks = |what: &str, name: u8, who: u8, second: u64| {
        let provider = ["openai", "xai"][usize::from(who) - 1];
        json!({
            "t": at(second), "what": what, "call": call(name).to_string(),
            "user": user(who).to_string(), "token": TokenId::from_random([who; 16]).to_string(),
            "credential": CredentialId::from_random([who; 16]).to_string(),
            "provider": provider, "model": format!("m{who}"),
        })
    };
    let mut refused = asks("refuse", 3, 2, 20);
    refused["code"] = "SR-POLICY-002".into();
    let entries = [
        asks("admit", 1, 1, 10),
        asks("admit", 2, 2, 20),
        refused,
        json!({"t": at(21), "what": "act", "act": "token.create", "operator": 1000}),
        json!({
            "t": at(22), "what": "close", "call": call(1).to_string(), "end": "complete",
            "input": 10, "output": 20, "cost_ticks": 30, "told": "exact",
        }),
        json!({"t": at(23), "what": "lost", "call": call(2).to_string()}),
        json!({"t": at(24), "what": "close", "call": call(9).to_string(), "input": 1000}),
    ];
    let numbered = |(n, mut entry): (u64, Value)| {
        entry["n"] = n.into();
        entry.to_string()
    };
    (1..).zip(entries).map(numbered).collect()
}

fn found(filter: &Filter) -> Vec<u64> {
    let (_directory, place) = written(&story());
    let found = search(&place, (7, 1), filter, (0, MAX_ROWS)).unwrap();
    assert_eq!((found.looked, found.end), (7, true));
    found.rows.iter().map(|row| row.number).collect()
}

#[test]
fn each_condition_of_a_search_leaves_out_the_others_entries() {
    let all = Filter::default;
    assert_eq!(found(&all()), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(found(&Filter { since: Some(seconds(20)), ..all() }), [2, 3, 4, 5, 6, 7]);
    assert_eq!(found(&Filter { until: Some(seconds(20)), ..all() }), [1]);
    assert_eq!(found(&Filter { call: Some(call(2)), ..all() }), [2, 6]);
    let act = |act: &str| Filter { act: Some(Label::parse(act).unwrap()), ..all() };
    assert_eq!(found(&act("admit")), [1, 2]);
    assert_eq!(found(&act("token.create")), [4]);
    let outcome = |outcome: &str| Filter { outcome: Some(Label::parse(outcome).unwrap()), ..all() };
    assert_eq!(found(&outcome("complete")), [5]);
    assert_eq!(found(&outcome("SR-POLICY-002")), [3]);
    assert_eq!(found(&Filter { operator: Some(1000), ..all() }), [4]);
    assert!(found(&Filter { operator: Some(0), ..all() }).is_empty());
    // All of them must hold.
    assert_eq!(found(&Filter { user: Some(user(2)), ..act("admit") }), [2]);
    assert!(found(&Filter { operator: Some(1000), ..act("admit") }).is_empty());
}

/// The end of a call does not say whose it was.
#[test]
fn a_call_is_found_with_its_end_by_whatever_it_was_made_with() {
    let mine = |filter: Filter| assert_eq!(found(&filter), [1, 5], "{filter:?}");
    mine(Filter { user: Some(user(1)), ..Filter::default() });
    mine(Filter { token: Some(TokenId::from_random([1; 16])), ..Filter::default() });
    mine(Filter { credential: Some(CredentialId::from_random([1; 16])), ..Filter::default() });
    mine(Filter { provider: Some(ProviderName::parse("openai").unwrap()), ..Filter::default() });
}

#[test]
fn a_search_goes_on_where_the_answer_before_ended() {
    let (_directory, place) = written(&story());
    let of_one = Filter { user: Some(user(1)), ..Filter::default() };
    let first = search(&place, (7, 1), &of_one, (0, 1)).unwrap();
    assert_eq!((first.rows.len(), first.looked, first.end), (1, 1, false));
    // Whose call it is that ends now was read before the first entry that counts.
    let second = search(&place, (7, 1), &of_one, (first.looked, 1)).unwrap();
    assert_eq!((second.rows[0].number, second.looked, second.end), (5, 5, false));
    let last = search(&place, (7, 1), &of_one, (second.looked, 1)).unwrap();
    assert_eq!((last.rows.len(), last.looked, last.end), (0, 7, true));
}

#[test]
fn a_search_reads_on_over_bundles_and_says_that_it_is_not_at_the_end() {
    let (_directory, place) = written(&plain(600));
    let all = Filter::default();
    let first = search(&place, (600, 1), &all, (0, 10_000)).unwrap();
    assert_eq!((first.rows.len(), first.looked, first.end), (MAX_ROWS, 500, false));
    let rest = search(&place, (600, 1), &all, (500, 10_000)).unwrap();
    assert_eq!((rest.rows.len(), rest.looked, rest.end), (100, 600, true));
    // A journal that has grown past what one answer looks at.
    let far = search(&place, (600 + 2000 * BUNDLE_ENTRIES, 1), &all, (600, 1)).unwrap();
    assert!(!far.end);
}

#[test]
fn what_was_archived_is_passed_over() {
    let (_directory, place) = written(&plain(300));
    fs::remove_file(place.bundle(0)).unwrap();
    assert_eq!(bundle(&place, 0).unwrap(), None);
    assert_eq!(bundle(&place, 2).unwrap(), Some(Vec::new()));
    let rows = tail(&place, (300, 257), Some(0), MAX_ROWS).unwrap();
    assert_eq!((rows.len(), rows[0].number), (44, 257));
    let found = search(&place, (300, 257), &Filter::default(), (0, MAX_ROWS)).unwrap();
    assert_eq!((found.rows.len(), found.rows[0].number), (44, 257));
}

#[test]
fn the_newest_entries_are_shown_or_those_after_a_number() {
    let (_directory, place) = written(&plain(530));
    let numbers = |after, limit| {
        let rows = tail(&place, (530, 1), after, limit).unwrap();
        (rows.len(), rows.first().map(|row| row.number), rows.last().map(|row| row.number))
    };
    assert_eq!(numbers(None, 5), (5, Some(526), Some(530)));
    assert_eq!(numbers(Some(250), 3), (3, Some(251), Some(253)));
    assert_eq!(numbers(Some(256), 10_000), (274, Some(257), Some(530)));
    assert_eq!(numbers(Some(0), 10_000), (MAX_ROWS, Some(1), Some(500)));
    assert_eq!(numbers(Some(530), 5), (0, None, None));
    let row = tail(&place, (530, 1), None, 1).unwrap().remove(0);
    assert_eq!(row.line, plain(530)[529]);
}

/// Entries as long as they may be, and one that just fits into an answer.
#[test]
fn an_answer_is_bounded_in_bytes() {
    let long = |n: u64, length: usize| {
        let entry = |pad| json!({"n": n, "t": "1970-01-01T00:00:00Z", "what": "seal", "pad": pad});
        let empty = entry(String::new()).to_string().len();
        entry("x".repeat(length - empty)).to_string()
    };
    let whole = MAX_ROW_BYTES / MAX_ENTRY_BYTES;
    let rest = MAX_ROW_BYTES % MAX_ENTRY_BYTES;
    let mut entries: Vec<_> = (1..).take(whole).map(|n| long(n, MAX_ENTRY_BYTES - 100)).collect();
    let fits = u64::try_from(whole).unwrap() + 1;
    entries.push(long(fits, rest + 100 * whole));
    entries.push(long(fits + 1, 100));
    let (_directory, place) = written(&entries);
    let rows = tail(&place, (fits + 1, 1), Some(0), MAX_ROWS).unwrap();
    assert_eq!(rows.last().unwrap().number, fits);
    let found = search(&place, (fits + 1, 1), &Filter::default(), (0, MAX_ROWS)).unwrap();
    assert_eq!((found.rows.last().unwrap().number, found.end), (fits, false));
}

#[test]
fn usage_is_summed_over_the_calls_that_began_since() {
    let (_directory, place) = written(&story());
    let sums = |since, by| {
        let rows = usage(&place, (7, 1), &sums(seconds(since), by)).unwrap();
        let sum = |row: &strongroom_protocol::operator::listing::UsageRow| {
            let counts = [row.calls, row.refused, row.untold];
            (row.key.clone(), counts, [row.input, row.output, row.cost_ticks])
        };
        rows.iter().map(sum).collect::<Vec<_>>()
    };
    let keys = |one: String, two: String| {
        vec![(one, [1, 0, 0], [10, 20, 30]), (two, [1, 1, 1], [0, 0, 0])]
    };
    assert_eq!(sums(0, UsageBy::User), keys(user(1).to_string(), user(2).to_string()));
    let tokens = [1, 2].map(|who| TokenId::from_random([who; 16]).to_string());
    assert_eq!(sums(0, UsageBy::Token), keys(tokens[0].clone(), tokens[1].clone()));
    let credentials = [1, 2].map(|who| CredentialId::from_random([who; 16]).to_string());
    assert_eq!(sums(0, UsageBy::Credential), keys(credentials[0].clone(), credentials[1].clone()));
    assert_eq!(sums(0, UsageBy::Model), keys("m1".to_owned(), "m2".to_owned()));
    assert_eq!(sums(0, UsageBy::Provider), keys("openai".to_owned(), "xai".to_owned()));
    // The first call began before, and so its end counts for nothing.
    assert_eq!(sums(20, UsageBy::Model), keys("m1".to_owned(), "m2".to_owned())[1..]);
    assert_eq!(sums(21, UsageBy::Model), []);
}

/// A journal of very many models takes no more memory than one of ten thousand.
#[test]
fn usage_is_summed_by_a_bounded_number_of_keys() {
    let refused = |n: u64, model: u64| {
        json!({
            "n": n, "t": "1970-01-01T00:00:00Z", "what": "refuse", "call": call(1).to_string(),
            "model": format!("m{model}"),
        })
        .to_string()
    };
    let mut entries: Vec<_> = (1..=10_002).map(|n| refused(n, n)).collect();
    entries.push(refused(10_003, 1));
    let (_directory, place) = written(&entries);
    let rows = usage(&place, (10_003, 1), &sums(seconds(0), UsageBy::Model)).unwrap();
    assert_eq!(rows.len(), 10_001);
    let refused = |key: &str| rows.iter().find(|row| row.key == key).map(|row| row.refused);
    assert_eq!((refused("other"), refused("m1"), refused("m10001")), (Some(2), Some(2), None));
}

// Red when whoever searches does not rest as long as it works. It is never red for a busy machine: that only makes it longer.
#[test]
fn a_search_takes_half_of_a_processor_at_most() {
    // Long entries: looking through one bundle takes more than the while that is worked without a rest.
    let pad = "x".repeat(8_000);
    let long = |n: u64| {
        json!({"n": n, "t": "1970-01-01T00:00:00Z", "what": "seal", "pad": pad}).to_string()
    };
    let (_directory, place) = written(&(1..=2_560).map(long).collect::<Vec<_>>());
    let cpu = || {
        let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
        let micros = (usage.user_time() + usage.system_time()).num_microseconds();
        Duration::from_micros(u64::try_from(micros).unwrap())
    };
    let (begun, before) = (Instant::now(), cpu());
    let nobody = Filter { user: Some(user(9)), ..Filter::default() };
    let found = search(&place, (2_560, 1), &nobody, (0, MAX_ROWS)).unwrap();
    assert_eq!((found.rows.len(), found.looked, found.end), (0, 2_560, true));
    let (worked, took) = (cpu().checked_sub(before).unwrap(), begun.elapsed());
    assert!(took >= worked * 3 / 2, "{worked:?} of {took:?}");
}

/// A journal of very many calls that never ended takes no more memory than one of so many: the ends of further ones are nobody's.
#[test]
fn so_many_calls_are_waited_for_and_no_more() {
    let most = 64 * 1024;
    let entry = |n: u64, what: &str, call: u64| {
        let id = CallId::from_random(u128::from(call).to_be_bytes());
        let (who, input) = if n < most { (user(1), 1) } else { (user(2), 10) };
        let mut entry =
            json!({"n": n, "t": "1970-01-01T00:00:00Z", "what": what, "call": id.to_string()});
        match what {
            "admit" => entry["user"] = who.to_string().into(),
            _ => entry["input"] = input.into(),
        }
        entry.to_string()
    };
    let mut entries: Vec<_> = (1..=most + 1).map(|n| entry(n, "admit", n)).collect();
    entries.extend([entry(most + 2, "close", most), entry(most + 3, "close", most + 1)]);
    let (_directory, place) = written(&entries);
    let of_two = Filter { user: Some(user(2)), ..Filter::default() };
    let found = search(&place, (most + 3, 1), &of_two, (0, MAX_ROWS)).unwrap();
    let numbers: Vec<_> = found.rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, [most, most + 1, most + 2]);
    let rows = usage(&place, (most + 3, 1), &sums(seconds(0), UsageBy::User)).unwrap();
    let sums: Vec<_> = rows.iter().map(|row| (row.calls, row.input)).collect();
    assert_eq!(sums, [(most - 1, 0), (2, 10)]);
}

/// Calls and acts of two tenants, some of them from the time when there was one and entries did not name it.
// Red when a call's end, or what names no tenant, is counted to all.
#[test]
fn what_is_summed_and_found_for_one_tenant_is_that_tenants_alone() {
    let (first, other) = (TenantId::from_random([1; 16]), TenantId::from_random([2; 16]));
    let t = "1970-01-01T00:00:10Z";
    let asks = |what: &str, name: u8, tenant: TenantId| {
        let (call, tenant) = (call(name).to_string(), tenant.to_string());
        json!({"t": t, "what": what, "call": call, "tenant": tenant, "model": "m"})
    };
    let closes = |name: u8, input: u64| json!({"t": t, "what": "close", "call": call(name).to_string(), "input": input});
    let act = |tenant: Option<TenantId>| {
        let mut entry = json!({"t": t, "what": "act", "act": "user.create", "operator": 0});
        if let Some(tenant) = tenant {
            entry["tenant"] = tenant.to_string().into();
        }
        entry
    };
    let entries = [
        json!({"t": t, "what": "refuse", "call": call(9).to_string(), "model": "m"}),
        asks("admit", 1, first),
        asks("admit", 2, other),
        closes(2, 20),
        closes(1, 10),
        asks("refuse", 3, other),
        act(Some(other)),
        act(None),
        json!({"t": t, "what": "seal"}),
        // Whose it is stands too far back: it is shown to nobody in particular.
        closes(8, 40),
    ];
    let numbered = (1..).zip(entries).map(|(n, mut entry)| {
        entry["n"] = Value::from(n);
        entry.to_string()
    });
    let (_directory, place) = written(&numbered.collect::<Vec<_>>());
    let of = |only| Whose::of(first, only);
    let summed = |by, only| {
        let sums = Sums { since: seconds(0), by, whose: of(only) };
        let rows = usage(&place, (10, 1), &sums).unwrap();
        rows.into_iter().map(|row| (row.key, row.calls, row.refused, row.input)).collect::<Vec<_>>()
    };
    let m = "m".to_owned();
    assert_eq!(summed(UsageBy::Model, Some(first)), [(m.clone(), 1, 1, 10)]);
    assert_eq!(summed(UsageBy::Model, Some(other)), [(m.clone(), 1, 1, 20)]);
    assert_eq!(summed(UsageBy::Model, None), [(m, 2, 2, 30)]);
    let mut by_tenant = [(first.to_string(), 1, 1, 10), (other.to_string(), 1, 1, 20)];
    by_tenant.sort();
    assert_eq!(summed(UsageBy::Tenant, None), by_tenant);
    let found = |only| {
        let filter = Filter { whose: of(only), ..Filter::default() };
        let found = search(&place, (10, 1), &filter, (0, MAX_ROWS)).unwrap();
        found.rows.iter().map(|row| row.number).collect::<Vec<_>>()
    };
    assert_eq!(found(Some(first)), [1, 2, 5]);
    assert_eq!(found(Some(other)), [3, 4, 6, 7]);
    assert_eq!(found(None).len(), 10);
}
