//! The journal before a disk that the test plays.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::TryLockError;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use strongroom_policy::claims::{Claims, Length};
use strongroom_policy::decide::{Access, Wish, decide};
use strongroom_policy::id::{CredentialId, TenantId, TokenId, UserId};
use strongroom_policy::provider::builtin::definitions;
use strongroom_policy::provider::{Origin, ProviderDefinition};
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::Method;
use strongroom_policy::rules::{
    Choice, CredentialFacts, CredentialRules, Home, Standing, Subject, TokenScope,
};
use strongroom_policy::target::Target;
use strongroom_policy::tenant_rules::RuleSet;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

use super::*;
use crate::keeper::GatewayId;

const NOW: Moment = Moment::from_unix_millis(1_000_000);
const SLOW: Refusal = Refusal::JournalUnavailable;
const USER: UserId = UserId::from_random([1; 16]);

/// What was told: the question's number, and the outcome without its proof.
type Told = Rc<RefCell<Vec<(u64, Result<(), JournalError>)>>>;

pub(crate) fn permit() -> Permit {
    permit_for(Origin::BuiltIn)
}

/// A permit for a provider that comes with the program, or for the same one as if an operator had defined it.
pub(crate) fn permit_for(origin: Origin) -> Permit {
    let openai = definitions().unwrap().into_iter().find(|one| one.name.as_ref() == "openai");
    let provider = ProviderDefinition { origin, ..openai.unwrap() };
    let tenant = TenantId::from_random([2; 16]);
    let scope = TokenScope {
        providers: Choice::Any,
        models: Choice::Any,
        credential: None,
        expires: None,
        calls_per_minute: 1,
    };
    let subject = Subject {
        tenant,
        user: USER,
        token: TokenId::from_random([3; 16]),
        scope,
        workspaces: Vec::new(),
        standing: Standing::Active,
    };
    let credential = CredentialFacts {
        id: CredentialId::from_random([4; 16]),
        tenant,
        home: Home::Personal(USER),
        provider: provider.name.clone(),
        destination: Arc::new(provider.destination.clone()),
        rules: CredentialRules::default(),
    };
    let rules = RuleSet::default();
    let owner = Standing::Active;
    let wish = Wish {
        access: Access { subject: &subject, credential: &credential, owner, rules: &rules },
        provider: &provider,
        method: Method::Get,
        target: Target::parse("/v1/models").unwrap(),
        betas: Vec::new(),
        claims: Claims::of_no_body(None),
        length: Length::Known(0),
    };
    decide(wish, NOW).unwrap()
}

/// A journal whose disk is the receiver.
fn before_a_disk() -> (Arc<Journal>, Receiver<writer::Group>) {
    let (queue, disk) = sync_channel(2);
    let writer = Writer::before(queue);
    let (waiting, news, first_kept) = (Mutex::default(), Notify::new(), AtomicU64::new(1));
    (Arc::new(Journal { writer, waiting, news, cut_bytes: 0, made_tiles: 0, first_kept }), disk)
}

/// The same, and what its pump tells.
fn played() -> (Arc<Journal>, Receiver<writer::Group>, Told) {
    let (journal, disk) = before_a_disk();
    let told = Told::default();
    let telling = Rc::clone(&told);
    spawn_local(Arc::clone(&journal).pump(move |answered| {
        let outcome = answered.outcome.map(|admitted| {
            assert_eq!(admitted.call(), answered.call);
        });
        telling.borrow_mut().push((answered.asker.number, outcome));
    }));
    (journal, disk, told)
}

fn admit(journal: &Journal, number: u64) -> Result<(), JournalError> {
    let call = CallId::from_random([u8::try_from(number).unwrap(); 16]);
    journal.admit((permit(), call), Asker { gateway: GatewayId(0), number }, NOW)
}

/// The group that the pump handed to the disk.
async fn group(disk: &Receiver<writer::Group>) -> writer::Group {
    loop {
        if let Ok(group) = disk.try_recv() {
            return group;
        }
        sleep(Duration::from_millis(1)).await;
    }
}

fn answer(group: writer::Group, outcome: Result<(), JournalError>) {
    group.written.send((group.lines, outcome)).unwrap();
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "it did not happen: {what}");
        sleep(Duration::from_millis(1)).await;
    }
}

async fn until_told(told: &Told, count: usize) {
    until("all are told", || told.borrow().len() >= count).await;
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn full() -> JournalError {
    JournalError::Write("no space".to_owned())
}

// Red when `pump` waits for the disk alone, or for the first call of a group only, or refuses all when one is late. How much later
// than its second a call is refused is the machine's affair: only "never earlier" and "while the disk stands still" are claimed.
#[test]
fn a_stalled_disk_refuses_each_call_when_its_own_second_is_over_and_admits_none_of_them_later() {
    run(async {
        let (journal, disk, told) = played();
        let asked_first = Instant::now();
        admit(&journal, 1).unwrap();
        let first = group(&disk).await;
        sleep(ENTRY_PATIENCE / 2).await;
        let asked_second = Instant::now();
        admit(&journal, 2).unwrap();
        until_told(&told, 1).await;
        assert!(asked_first.elapsed() >= ENTRY_PATIENCE, "the first is refused early");
        until_told(&told, 2).await;
        assert!(asked_second.elapsed() >= ENTRY_PATIENCE, "the second is refused early");
        assert_eq!(*told.borrow(), [1, 2].map(|number| (number, Err(JournalError::Slow))));
        answer(first, Ok(()));
        answer(group(&disk).await, Ok(()));
        admit(&journal, 3).unwrap();
        let last = group(&disk).await;
        assert_eq!(last.lines.len(), 1);
        answer(last, Ok(()));
        until_told(&told, 3).await;
        assert_eq!(told.borrow()[2..], [(3, Ok(()))]);
    });
}

// Red when a group's outcome is told to the calls of the next one, or to the first call only.
#[test]
fn a_group_that_fails_refuses_all_of_its_calls_and_none_of_the_next() {
    run(async {
        let (journal, disk, told) = played();
        admit(&journal, 1).unwrap();
        admit(&journal, 2).unwrap();
        let failing = group(&disk).await;
        assert_eq!(failing.lines.len(), 2);
        admit(&journal, 3).unwrap();
        answer(failing, Err(full()));
        let next = group(&disk).await;
        assert_eq!(*told.borrow(), [(1, Err(full())), (2, Err(full()))]);
        answer(next, Ok(()));
        until_told(&told, 3).await;
        assert_eq!(told.borrow()[2..], [(3, Ok(()))]);
    });
}

// Red when a full disk looks well to the operator between two calls that it refuses.
#[test]
fn what_was_refused_is_known_until_the_gap_is_told() {
    run(async {
        let (journal, disk, _told) = played();
        assert_eq!(journal.refused(), None);
        admit(&journal, 1).unwrap();
        let failing = group(&disk).await;
        let no_room = JournalError::Write("No space left on device".to_owned());
        let shared = journal.writer.shared();
        shared.refused(&no_room, &failing.lines);
        shared.refused(&no_room, &failing.lines);
        assert_eq!(journal.refused(), Some((2, "the disk is full")));
        shared.gap_is_told();
        assert_eq!(journal.refused(), None);
        answer(failing, Err(no_room));
    });
}

#[test]
fn the_loss_of_an_entry_that_nobody_waits_for_ends_admitting() {
    run(async {
        let (journal, disk, told) = played();
        journal.note(&Entry::Strangers { refused: 1 }, NOW);
        answer(group(&disk).await, Err(full()));
        until("the loss is seen", || journal.health().is_err()).await;
        assert!(matches!(admit(&journal, 1), Err(JournalError::Broken(_))));
        assert!(told.borrow().is_empty(), "who is refused at once is not told again");
    });
}

// Red when calls are admitted for as long as there is room: the end of one then finds none, and the journal is out of order.
#[test]
fn a_disk_that_stalls_for_long_ends_admitting_while_there_is_room_for_the_end_of_each_call() {
    run(async {
        let (journal, disk, told) = played();
        admit(&journal, 1).unwrap();
        let stalled = group(&disk).await;
        let end = || journal.note(&Entry::unmade(CallId::from_random([9; 16]), SLOW, None), NOW);
        (1..PRESSED).for_each(|_| end());
        assert!(!journal.is_pressed());
        admit(&journal, 2).unwrap();
        assert!(journal.is_pressed());
        assert_eq!(admit(&journal, 3), Err(JournalError::Full));
        (0..MAX_CALLS).for_each(|_| end());
        journal.health().unwrap();
        answer(stalled, Ok(()));
        let waited = group(&disk).await;
        assert_eq!(waited.lines.len(), PRESSED + MAX_CALLS);
        answer(waited, Ok(()));
        admit(&journal, 4).unwrap();
        answer(group(&disk).await, Ok(()));
        until("the last is told", || told.borrow().last() == Some(&(4, Ok(())))).await;
    });
}

#[test]
fn a_call_that_was_forgotten_is_told_nothing_when_its_entry_is_written() {
    run(async {
        let (journal, disk, told) = played();
        admit(&journal, 1).unwrap();
        let written = group(&disk).await;
        admit(&journal, 2).unwrap();
        let numbers: Vec<u64> = journal.forget_calls().iter().map(|asker| asker.number).collect();
        assert_eq!(numbers, [1, 2]);
        answer(written, Ok(()));
        answer(group(&disk).await, Ok(()));
        // One that comes after them is told: the pump has been at them by then.
        admit(&journal, 3).unwrap();
        answer(group(&disk).await, Ok(()));
        until("the last is told", || !told.borrow().is_empty()).await;
        assert_eq!(*told.borrow(), [(3, Ok(()))]);
    });
}

// Red when a group is taken under one lock and handed on under the next: whoever finishes comes between, and it is lost.
#[test]
fn nothing_is_lost_when_the_journal_is_finished_while_a_group_is_handed_on() {
    let (journal, disk) = before_a_disk();
    journal.note(&Entry::Seal { reason: "test" }, NOW);
    let held_up = journal.writer.hold_up();
    let pumping = Arc::clone(&journal);
    let pump = thread::spawn(move || run(pumping.pump(|_| {})));
    let begun = Instant::now();
    let mut seen_locked = 0;
    while seen_locked < 50 {
        assert!(begun.elapsed() < Duration::from_secs(30), "nobody takes the group");
        match journal.waiting.try_lock() {
            Ok(waiting) => {
                assert!(!waiting.lines.is_empty(), "what is taken is neither here nor handed on");
                seen_locked = 0;
            }
            Err(TryLockError::WouldBlock) => seen_locked += 1,
            Err(TryLockError::Poisoned(_)) => panic!("a thread ended badly"),
        }
        thread::sleep(Duration::from_millis(1));
    }
    let finishing = Arc::clone(&journal);
    let finish = thread::spawn(move || finishing.finish());
    drop(held_up);
    let last = disk.recv_timeout(Duration::from_secs(30)).unwrap();
    assert_eq!(last.lines.len(), 1);
    answer(last, Ok(()));
    finish.join().unwrap();
    pump.join().unwrap();
    journal.health().unwrap();
}

#[test]
fn an_act_is_recorded_when_its_entry_is_on_the_disk_and_refused_when_it_is_not_in_time() {
    run(async {
        let (journal, disk, told) = played();
        for said in [Ok(()), Err(full())] {
            let recording = Arc::clone(&journal);
            let act =
                spawn_local(
                    async move { recording.record(&Entry::Seal { reason: "test" }, NOW).await },
                );
            let written = group(&disk).await;
            assert!(written.lines.must_last());
            answer(written, said.clone());
            assert_eq!(act.await.unwrap(), said);
        }
        journal.health().unwrap();
        let begun = Instant::now();
        let slow = journal.record(&Entry::Seal { reason: "test" }, NOW).await;
        assert_eq!(slow, Err(JournalError::Slow));
        assert!(begun.elapsed() >= ENTRY_PATIENCE);
        assert!(told.borrow().is_empty(), "no call was asked for");
    });
}

#[test]
fn what_is_out_of_order_full_or_finished_takes_nothing() {
    let lines = || {
        let mut lines = Lines::default();
        lines.push(&Entry::Seal { reason: "test" }, NOW).unwrap();
        lines
    };
    let refusal = |journal: &Journal| journal.writer.submit(lines()).err();
    let (journal, disk) = before_a_disk();
    let waits = [journal.writer.submit(lines()).unwrap(), journal.writer.submit(lines()).unwrap()];
    assert_eq!(refusal(&journal), Some(JournalError::Full));
    drop((disk, waits));
    assert_eq!(refusal(&journal), Some(JournalError::Stopped));
    let (journal, _disk) = before_a_disk();
    journal.finish();
    assert_eq!(refusal(&journal), Some(JournalError::Stopped));
    assert_eq!(admit(&journal, 1), Err(JournalError::Stopped));
    let (journal, disk) = before_a_disk();
    journal.writer.stop_admitting();
    assert!(matches!(refusal(&journal), Some(JournalError::Broken(_))));
    journal.note(&Entry::Seal { reason: "test" }, NOW);
    assert!(journal.waiting().lines.is_empty() && disk.try_recv().is_err());
    assert_eq!((journal.entries(), journal.checkpoint()), (0, None));
}

/// Of the reasons that may stand in the reserve.
#[test]
fn why_nothing_is_written_is_said_in_known_words() {
    let write = |why: &str| JournalError::Write(why.to_owned()).in_short();
    assert_eq!(write("No space left on device (os error 28)"), "the disk is full");
    assert_eq!(write("Disk quota exceeded (os error 122)"), "the disk is full");
    assert_eq!(write("Read-only file system (os error 30)"), "the disk is read-only");
    assert_eq!(write("Input/output error (os error 5)"), "the disk failed");
    assert_eq!(
        JournalError::Broken("a checkpoint could not be kept").in_short(),
        "a checkpoint could not be kept"
    );
    assert_eq!(JournalError::Sink.in_short(), "a required sink takes no entries");
    assert_eq!(JournalError::Stalled.in_short(), "the disk did not answer in time");
    assert_eq!(JournalError::TooLong.in_short(), "the disk failed");
}

// Red when who comes second waits longer because somebody came first, or the other way round.
#[test]
fn the_next_deadline_is_that_of_the_first_call_that_waits() {
    let (journal, _disk) = before_a_disk();
    assert!(journal.next_deadline() > Instant::now(), "nobody waits yet");
    admit(&journal, 1).unwrap();
    let asked = Instant::now();
    thread::sleep(Duration::from_millis(20));
    admit(&journal, 2).unwrap();
    assert!(journal.next_deadline() <= asked + ENTRY_PATIENCE);
    assert!(journal.take_late().is_none() || asked.elapsed() >= ENTRY_PATIENCE);
}

#[test]
fn whoever_waits_for_a_checkpoint_has_it_made_due_at_once() {
    let (journal, _disk) = before_a_disk();
    let wished =
        || journal.writer.shared().take(std::path::Path::new("tail"), Duration::ZERO).wished;
    assert!(!wished());
    journal.hasten();
    assert!(wished() && !wished());
}
