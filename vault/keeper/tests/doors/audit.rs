//! The journal's doors: searched while calls go on, archived, opened again; and sinks that fail at random.

use std::collections::BTreeSet;
use std::os::unix::net::UnixDatagram;
use strongroom_soak::tell;

use strongroom_protocol::operator::audit::{AuditAnswer, AuditFilter, AuditPart, AuditRequest};

use super::*;

fn audit(door: &mut Door, request: AuditRequest) -> AuditAnswer {
    match door.request(&Request::Audit(request)) {
        Told::Audit(answer) => answer,
        other => panic!("{other:?}"),
    }
}

/// All that fits, page by page.
fn search(door: &mut Door, filter: &AuditFilter, limit: u32) -> Vec<String> {
    let (mut after, mut lines) = (0, Vec::new());
    loop {
        let filter = Box::new(filter.clone());
        match audit(door, AuditRequest::Search { filter, after, limit }) {
            AuditAnswer::Found { rows, looked, end } => {
                lines.extend(rows.into_iter().map(|row| row.line));
                if end {
                    return lines;
                }
                assert!(looked > after, "no progress");
                after = looked;
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Calls that are redeemed and ended, and one after the other.
fn calls(keeper: &Keeper, proof: &SecretBytes, count: usize) {
    let (mut gateway, mut courier) = peers(keeper);
    for _ in 0..count {
        let errand = redeem(&mut courier, admitted(ask(&mut gateway, chat(proof)))).unwrap();
        courier.send(&outcome(&errand));
    }
    keeper::until(|| {
        let ended = AuditFilter { act: Some(label("close")), ..AuditFilter::default() };
        search(&mut keeper.operator(), &ended, 500).len() >= count
    });
}

#[test]
fn entries_are_found_by_whose_call_it_was_and_old_ones_are_archived_without_a_gap() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let mut operator = keeper.operator();
    let other = token(&mut operator, "other");
    calls(&keeper, &proof, 300);
    let (mut gateway, mut courier) = peers(&keeper);
    let errand = redeem(&mut courier, admitted(ask(&mut gateway, chat(&other)))).unwrap();
    courier.send(&outcome(&errand));
    let by = |name: &str| AuditFilter { token: Some(Pick(label(name))), ..AuditFilter::default() };
    keeper::until(|| search(&mut operator, &by("other"), 500).len() == 2);
    assert_eq!(search(&mut operator, &by("laptop"), 7).len(), 600, "each admit and its end");
    let ended = AuditFilter { outcome: Some(label("complete")), ..by("other") };
    let found = search(&mut operator, &ended, 500);
    assert!(found.len() == 1 && found[0].contains(&errand.call.to_string()), "{found:?}");
    let made = AuditFilter { act: Some(label("token.create")), ..AuditFilter::default() };
    assert_eq!(search(&mut operator, &made, 500).len(), 2);

    // Two bundles go; the one that the checkpoint ends in must not.
    let AuditAnswer::Span { first_bundle: 0, checkpoint, .. } =
        audit(&mut operator, AuditRequest::Span)
    else {
        panic!("the journal begins at its first bundle")
    };
    assert!(checkpoint.starts_with("strongroom/"), "{checkpoint}");
    let most = Request::Audit(AuditRequest::Archive { bundle: 1000 });
    assert!(
        matches!(operator.request(&most), Told::Failed(fault) if fault.code == "SR-JOURNAL-011")
    );
    let first = audit(&mut operator, AuditRequest::Read { part: AuditPart::Entries(0), offset: 0 });
    assert!(matches!(first, AuditAnswer::Part(bytes) if bytes.len() > 256 * 100));
    let gone = audit(&mut operator, AuditRequest::Archive { bundle: 2 });
    assert_eq!(gone, AuditAnswer::Archived(512));
    let bundles = keeper.data().join("journal/tile/entries");
    assert!(!bundles.join("000").exists() && !bundles.join("001").exists());
    assert_eq!(search(&mut operator, &by("other"), 500).len(), 2);

    // What was archived is known to be; what is missing otherwise is refused.
    keeper.kill_and_start();
    let right = || Request::Unseal(UnsealWith::Passphrase(passphrase()));
    assert!(matches!(keeper.operator().request(&right()), Told::Unsealed));
    assert!(matches!(
        audit(&mut keeper.operator(), AuditRequest::Span),
        AuditAnswer::Span { first_bundle: 2, .. }
    ));
    calls(&keeper, &proof, 140);
    assert!(matches!(keeper.operator().request(&Request::Seal), Told::Done));
    keeper.kill();
    std::fs::remove_file(bundles.join("002")).unwrap();
    keeper.start_again();
    assert_eq!(unseal_fails(&keeper), ("SR-JOURNAL-002".to_owned(), 5));
}

/// A file sink that fails at random, by its name that is taken away and put back: whatever the courier got a key for is in the
/// journal, and calls go on whenever the sink is back.
#[test]
fn no_key_is_released_without_an_entry_while_a_required_sink_fails_at_random() {
    let wanted = strongroom_soak::size(2_000, 100_000);
    let place = tempfile::tempdir().unwrap();
    let (sink, away) = (place.path().join("audit.json"), place.path().join("away"));
    let wish = format!("ocsf,required,{}", sink.display());
    let keeper = Keeper::start_over(&["--sink", &wish]);
    furnish(&keeper);
    let proofs = tokens_without_a_rate(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let (mut released, mut refusals, mut turn) = (BTreeSet::new(), 0_u32, 0_u64);
    while released.len() < wanted {
        turn += 1;
        // A fixed sequence without a pattern: taken away about every 300 calls, back a while later.
        let drawn = turn.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54;
        if drawn < 3 && sink.exists() {
            std::fs::rename(&sink, &away).unwrap();
        } else if drawn > 900 && away.exists() && refusals % 50 > 5 {
            std::fs::rename(&away, &sink).unwrap();
        }
        match ask(&mut gateway, chat(&proofs)) {
            Answer::Admitted { ticket, .. } => {
                let errand = redeem(&mut courier, ticket).unwrap();
                courier.send(&outcome(&errand));
                released.insert(errand.call.to_string());
            }
            Answer::Refused(Refused { refusal, .. }) => {
                assert_eq!(refusal, Refusal::JournalUnavailable);
                refusals += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            other @ (Answer::Identified | Answer::Person(_)) => panic!("{other:?}"),
        }
    }
    if away.exists() {
        std::fs::rename(&away, &sink).unwrap();
    }
    assert!(refusals > 0, "the sink never failed in time");
    let admits = AuditFilter { act: Some(label("admit")), ..AuditFilter::default() };
    let lines = search(&mut keeper.operator(), &admits, 500);
    let recorded: BTreeSet<&str> = lines.iter().filter_map(|line| call_in(line)).collect();
    let without = released.iter().filter(|call| !recorded.contains(call.as_str())).count();
    tell("journal", "released without a record", without);
    tell("journal", "calls with a sink that fails", released.len());
    assert_eq!(without, 0);
    // What the sink is for: it has them too, at last.
    keeper::until(|| {
        let told = std::fs::read_to_string(&sink).unwrap();
        let told: BTreeSet<&str> = told.lines().filter_map(call_in).collect();
        released.iter().all(|call| told.contains(call.as_str()))
    });
}

fn call_in(line: &str) -> Option<&str> {
    line.split_once("\"call\":\"")?.1.split('"').next()
}

fn tokens_without_a_rate(keeper: &Keeper) -> SecretBytes {
    let scope = TokenScope { calls_per_minute: 1_000_000, ..scope() };
    let wish = TokenWish { user: None, label: label("fast"), scope, credential: None };
    match keeper.operator().request(&Request::TokenCreate(Box::new(wish))) {
        Told::Token { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

// Red when a required sink's failure does not refuse calls.
#[test]
fn a_log_that_goes_away_stops_service_within_a_second_and_doctor_says_so() {
    keeper::one_of_three_within(keeper::A_SECOND, || {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let log = UnixDatagram::bind(&path).unwrap();
        let wish = format!("syslog,required,{}", path.display());
        let keeper = Keeper::start_over(&["--sink", &wish]);
        let proof = furnish(&keeper);
        let (mut gateway, _courier) = peers(&keeper);
        admitted(ask(&mut gateway, chat(&proof)));
        drop(log);
        let gone = Instant::now();
        keeper::until(|| matches!(ask(&mut gateway, chat(&proof)), Answer::Refused(_)));
        let took = gone.elapsed();
        assert_eq!(refused(ask(&mut gateway, chat(&proof))), Refusal::JournalUnavailable);
        let Told::Doctor(checks) = keeper.operator().request(&Request::Doctor) else { panic!() };
        assert!(checks.iter().any(|check| check.name.contains("sink syslog")
            && check.detail.contains("no call is admitted")));
        // Sealing goes on, and the journal says what happened.
        keeper::until(|| keeper.entries("sink") == 1);
        assert!(matches!(keeper.operator().request(&Request::Seal), Told::Done));
        took
    });
}

// Red when a stop is not said in the reserve, or its words are not told at the next unseal.
#[test]
fn why_the_journal_stopped_is_told_when_it_is_opened_again() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, _courier) = peers(&keeper);
    admitted(ask(&mut gateway, chat(&proof)));
    let (tail, kept) = (keeper.journal(), keeper.data().join("kept"));
    std::fs::rename(&tail, &kept).unwrap();
    let reserve = keeper.data().join("journal/reserve");
    keeper::until(|| {
        std::fs::read(&reserve).unwrap().windows(10).any(|some| some == b"taken away")
    });
    keeper.kill();
    std::fs::rename(&kept, &tail).unwrap();
    keeper.start_again();
    let right = Request::Unseal(UnsealWith::Passphrase(passphrase()));
    assert!(matches!(keeper.operator().request(&right), Told::Unsealed));
    let told = keeper.told();
    assert!(told.contains("\"what\":\"stopped\"") && told.contains("taken away"), "{told}");
    assert!(std::fs::read(&reserve).unwrap().iter().all(|byte| *byte == 0));
}

/// Red when `in_turn` does not wait for it, or nothing hastens the checkpoint.
#[test]
fn what_took_something_away_is_under_a_checkpoint_when_it_is_answered() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let mut door = keeper.operator();
    for round in 0..5 {
        let name = label(&format!("user {round}"));
        assert!(matches!(door.request(&Request::UserCreate(name.clone())), Told::User(_)));
        let told = door.request(&Request::UserDisable(Pick(name)));
        assert!(!matches!(told, Told::Failed(_)), "{told:?}");
        let signed = std::fs::read_to_string(keeper.data().join("journal/checkpoint")).unwrap();
        let signed: u64 = signed.lines().nth(1).unwrap().parse().unwrap();
        let journal = keeper.told();
        let entry = journal.lines().rfind(|line| line.contains("user.disable")).unwrap();
        let (_, number) = entry.split_once("\"n\":").unwrap();
        let number: u64 = number.split(',').next().unwrap().parse().unwrap();
        assert!(signed >= number, "{signed} of {number}");
    }
}
