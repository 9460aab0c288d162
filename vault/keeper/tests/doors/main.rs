//! The real keeper behind its real doors: an operator, a gateway and a courier of the test's own.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking, and shows what its keeper said"
)]

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::time::{Duration, Instant};

use strongroom_policy::claims::{Claims, Features, Length, Stream};
use strongroom_policy::name::{Label, ModelName, ProviderName};
use strongroom_policy::refusal::Refusal;
use strongroom_policy::route::Method;
use strongroom_policy::rules::{Choice, CredentialRules, TokenScope};
use strongroom_policy::target::Target;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::{Answer, Ask, CallAsk, FromGateway, Refused, Ticket, ToGateway};
use strongroom_protocol::errand::{Ending, Errand, FromCourier, Outcome, Recall, ToCourier};
use strongroom_protocol::operator::{
    Answer as Told, CredentialWish, HomePick, Pick, Request, SealWish, TokenWish, UnsealWith,
};
use strongroom_protocol::upload::{digest_destination, seal_upload};
use strongroom_protocol::usage::Usage;

mod audit;
mod backup;
mod choice;
mod couriers;
mod disk;
mod keeper;
mod keys;
mod people;
mod postgres;
mod seals;
mod settings;
mod stores;
mod tenants;
mod timing;
mod witnesses;
mod writes;
use keeper::{Door, Keeper, PASSPHRASE};

const KEY: &[u8] = b"sk-canary-0123456789abcdefghijklmnopqrstuvwxyz";

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn scope() -> TokenScope {
    TokenScope {
        providers: Choice::Any,
        models: Choice::Any,
        credential: None,
        expires: None,
        calls_per_minute: 1000,
    }
}

/// Makes a vault with one person, one OpenAI key and one token.
fn furnish(keeper: &Keeper) -> SecretBytes {
    let mut door = keeper.operator();
    let made = door.request(&Request::Init(SealWish::Passphrase(passphrase())));
    let Told::Initialised(vault) = made else { panic!("{made:?}") };
    assert!(matches!(door.request(&Request::UserCreate(label("ann"))), Told::User(_)));
    let offered = door.request(&Request::CredentialAdd(Box::new(CredentialWish {
        provider: ProviderName::parse("openai").unwrap(),
        home: HomePick::Personal(None),
        label: label("main"),
        fixed_headers: Vec::new(),
        rules: CredentialRules::default(),
    })));
    let Told::Upload { binding, destination } = offered else { panic!("{offered:?}") };
    assert_eq!(binding.destination_digest, digest_destination(&destination));
    let blob = seal_upload(&vault, &binding, KEY).unwrap();
    let upload = Request::CredentialUpload { upload: binding.upload, blob };
    assert!(matches!(door.request(&upload), Told::Credential(_)));
    assert!(matches!(door.request(&upload), Told::Failed(_)), "an upload is used once");
    token(&mut door, "laptop")
}

fn token_wish(name: &str) -> Request {
    let wish = TokenWish { user: None, label: label(name), scope: scope(), credential: None };
    Request::TokenCreate(Box::new(wish))
}

fn token(door: &mut Door, name: &str) -> SecretBytes {
    match door.request(&token_wish(name)) {
        Told::Token { text, .. } => text,
        other => panic!("{other:?}"),
    }
}

fn passphrase() -> SecretBytes {
    SecretBytes::copy_from(PASSPHRASE)
}

fn chat(proof: &SecretBytes) -> CallAsk {
    CallAsk {
        proof: proof.expose(SecretBytes::copy_from),
        provider: ProviderName::parse("openai").unwrap(),
        choice: None,
        method: Method::Post,
        target: Target::parse("/v1/chat/completions").unwrap(),
        betas: Vec::new(),
        claims: Claims {
            model: Some(ModelName::parse("gpt-4o").unwrap()),
            max_output: Some(10),
            answers: 1,
            stream: Stream::Whole,
            features: Features::NONE,
            extent: strongroom_policy::claims::Extent::Text,
        },
        length: Length::Known(100),
    }
}

/// Asks for a call; waits until the keeper knows its courier.
fn ask(gateway: &mut Door, call: CallAsk) -> Answer {
    gateway.send(&FromGateway { number: 7, ask: Ask::Call(Box::new(call)) });
    loop {
        if let ToGateway::Answer { number: 7, answer } = gateway.receive() {
            return answer;
        }
    }
}

fn admitted(answer: Answer) -> Ticket {
    match answer {
        Answer::Admitted { ticket, .. } => ticket,
        other => panic!("{other:?}"),
    }
}

fn refused(answer: Answer) -> Refusal {
    match answer {
        Answer::Refused(Refused { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

fn redeem(courier: &mut Door, ticket: Ticket) -> Result<Errand, Refusal> {
    courier.send(&FromCourier::Redeem(ticket));
    match courier.receive() {
        ToCourier::Errand { errand, .. } => Ok(*errand),
        ToCourier::Refused { refusal, .. } => Err(refusal),
        other => panic!("{other:?}"),
    }
}

fn outcome(errand: &Errand) -> FromCourier {
    FromCourier::Outcome(Box::new(Outcome {
        call: errand.call,
        status: Some(200),
        ending: Ending::Complete,
        usage: Usage::default(),
        sent_bytes: 100,
        received_bytes: 1000,
        scrubbed: 0,
        first_byte: Some(Duration::from_millis(1)),
        total: Duration::from_millis(2),
    }))
}

/// A gateway, and a courier that the keeper knows of.
fn peers(keeper: &Keeper) -> (Door, Door) {
    let courier = keeper.errand();
    let until = Instant::now() + keeper::PATIENCE;
    let mut operator = keeper.operator();
    loop {
        match operator.request(&Request::Status) {
            Told::Status(status) if status.courier => break,
            Told::Status(_) if Instant::now() < until => std::thread::yield_now(),
            other => panic!("{other:?}"),
        }
    }
    (keeper.ask(), courier)
}

#[test]
fn a_call_gets_its_key_by_ticket_once_and_only_after_its_journal_entry() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let ticket = admitted(ask(&mut gateway, chat(&proof)));
    assert_eq!(keeper.entries("admit"), 1, "the entry is there before any key is");
    let errand = redeem(&mut courier, ticket).unwrap();
    assert!(errand.secret.expose(|key| key == KEY));
    assert_eq!(errand.destination.host.as_ref(), "api.openai.com");
    assert_eq!(redeem(&mut courier, ticket).unwrap_err(), Refusal::TicketUnknown);
    courier.send(&outcome(&errand));
    keeper::until(|| keeper.entries("close") == 1);
}

#[test]
fn a_call_during_a_stall_of_the_disk_is_refused_in_time_and_its_entry_closed_when_it_is_written() {
    let Some(keeper) = Keeper::start_on_a_disk() else {
        strongroom_soak::skipped("only root mounts a file system and freezes it");
        return;
    };
    let proof = furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let before = admitted(ask(&mut gateway, chat(&proof)));
    keeper.disk().freeze();
    let begun = Instant::now();
    let answer = ask(&mut gateway, chat(&proof));
    let waited = begun.elapsed();
    // What needs no entry goes on beside the stall.
    let errand = redeem(&mut courier, before);
    keeper.disk().thaw();
    assert!(matches!(answer, Answer::Refused(Refused { retry_after_secs: Some(1), .. })));
    assert_eq!(refused(answer), Refusal::JournalUnavailable);
    assert!(waited >= Duration::from_secs(1) && waited < keeper::PROMPT, "{waited:?}");
    assert!(errand.is_ok());
    keeper::until(|| keeper.entries("admit") == 2 && keeper.entries("close") == 1);
    keeper::until(|| matches!(ask(&mut gateway, chat(&proof)), Answer::Admitted { .. }));
}

// Its courier goes while the entry is written: what was recalled is no call, and who reads the journal can tell why it has an entry.
#[test]
fn the_refusal_of_a_call_that_was_recalled_before_its_answer_names_its_entry() {
    let Some(keeper) = Keeper::start_on_a_disk() else {
        strongroom_soak::skipped("only root mounts a file system and freezes it");
        return;
    };
    let proof = furnish(&keeper);
    let mut operator = keeper.operator();
    // On a machine that is held up for a second the journal's time is over first: then at another try.
    for _ in 0..5 {
        let (mut gateway, courier) = peers(&keeper);
        keeper.disk().freeze();
        gateway.send(&FromGateway { number: 7, ask: Ask::Call(Box::new(chat(&proof))) });
        // Questions are taken in their order: when this one is answered, the call waits for its entry.
        let provider = ProviderName::parse("openai").unwrap();
        let ask = Ask::Identify { proof: proof.expose(SecretBytes::copy_from), provider };
        gateway.send(&FromGateway { number: 8, ask });
        let mut answers = Vec::new();
        while !answers.iter().any(|(number, _)| *number == 8) {
            answers.extend(answered(gateway.receive()));
        }
        drop(courier);
        keeper::until(|| match operator.request(&Request::Status) {
            Told::Status(status) => !status.courier,
            other => panic!("{other:?}"),
        });
        keeper.disk().thaw();
        while answers.len() < 2 {
            answers.extend(answered(gateway.receive()));
        }
        match answers.into_iter().find(|(number, _)| *number == 7).unwrap().1 {
            Answer::Refused(Refused { refusal: Refusal::Recalled, call, .. }) => {
                assert!(keeper.told().contains(&call.unwrap().to_string()));
                return;
            }
            late => assert_eq!(refused(late), Refusal::JournalUnavailable),
        }
        keeper::until(|| keeper.entries("admit") == keeper.entries("close"));
    }
    panic!("the entry was never written in time");
}

fn answered(message: ToGateway) -> Option<(u64, Answer)> {
    match message {
        ToGateway::Answer { number, answer } => Some((number, answer)),
        ToGateway::Snapshot(_) => None,
    }
}

#[test]
fn who_presents_nothing_we_made_gets_nothing() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let stranger = strongroom_protocol::token::write_token(&[5; 32]);
    for bad in [&b""[..], b"sr_x", KEY] {
        let call = chat(&SecretBytes::copy_from(bad));
        assert_eq!(refused(ask(&mut gateway, call)), Refusal::TokenInvalid);
    }
    assert_eq!(refused(ask(&mut gateway, chat(&stranger))), Refusal::TokenInvalid);
    assert_eq!(redeem(&mut courier, Ticket([9; 16])).unwrap_err(), Refusal::TicketUnknown);
    let mut operator = keeper.operator();
    let revoke = Request::TokenRevoke(Pick(label("laptop")));
    assert!(matches!(operator.request(&revoke), Told::Done));
    assert_eq!(refused(ask(&mut gateway, chat(&proof))), Refusal::TokenInvalid);
    assert_eq!(keeper.entries("admit"), 0);
}

#[test]
fn revoking_stops_what_waits_and_recalls_what_runs() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let running = redeem(&mut courier, admitted(ask(&mut gateway, chat(&proof)))).unwrap();
    let waiting = admitted(ask(&mut gateway, chat(&proof)));
    let mut operator = keeper.operator();
    let revoke = Request::TokenRevoke(Pick(label("laptop")));
    assert!(matches!(operator.request(&revoke), Told::Done));
    match courier.receive() {
        ToCourier::Recall(Recall::Calls(calls)) => assert!(calls.contains(&running.call)),
        other => panic!("{other:?}"),
    }
    assert_eq!(redeem(&mut courier, waiting).unwrap_err(), Refusal::TicketUnknown);
    // The one that waited is closed.
    keeper::until(|| keeper.entries("close") == 1);
}

// Red when it is looked seldom, under calls or without any.
#[test]
fn a_journal_that_was_taken_away_stops_service_within_a_second() {
    keeper::one_of_three_within(keeper::A_SECOND, || {
        let (keeper, mut gateway, _courier, proof) = called();
        std::fs::remove_file(keeper.journal()).unwrap();
        let gone = Instant::now();
        keeper::until(|| matches!(ask(&mut gateway, chat(&proof)), Answer::Refused(_)));
        let took = gone.elapsed();
        assert_eq!(refused(ask(&mut gateway, chat(&proof))), Refusal::JournalUnavailable);
        took
    });
    keeper::one_of_three_within(keeper::A_SECOND, || {
        let (keeper, mut gateway, _courier, proof) = called();
        let mut operator = keeper.operator();
        // Everything is under a checkpoint: nothing is left to be done.
        keeper::until(|| is_at_rest(&mut operator));
        std::fs::remove_file(keeper.journal()).unwrap();
        let gone = Instant::now();
        keeper::until(|| match operator.request(&Request::Status) {
            Told::Status(status) => status.fault.is_some(),
            other => panic!("{other:?}"),
        });
        let took = gone.elapsed();
        assert_eq!(refused(ask(&mut gateway, chat(&proof))), Refusal::JournalUnavailable);
        took
    });
}

fn is_at_rest(operator: &mut Door) -> bool {
    let Told::Doctor(checks) = operator.request(&Request::Doctor) else { panic!() };
    let journal = checks.iter().find(|check| check.name == "journal").unwrap();
    let entries = journal.detail.split(' ').next().unwrap();
    journal.detail == format!("{entries} entries, written; {entries} of them under a checkpoint")
}

/// A keeper of which a call was asked, its gateway and courier, and who asked.
fn called() -> (Keeper, Door, Door, SecretBytes) {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, courier) = peers(&keeper);
    admitted(ask(&mut gateway, chat(&proof)));
    (keeper, gateway, courier, proof)
}

#[test]
fn a_killed_keeper_comes_back_sealed_with_everything_that_it_acknowledged() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    redeem(&mut courier, admitted(ask(&mut gateway, chat(&proof)))).unwrap();
    let late = token(&mut keeper.operator(), "late");
    keeper.kill_and_start();
    let mut operator = keeper.operator();
    assert!(matches!(operator.request(&Request::TokenList), Told::Failed(_)));
    let (mut gateway, _courier) = peers(&keeper);
    assert_eq!(refused(ask(&mut gateway, chat(&late))), Refusal::Sealed);
    let wrong = UnsealWith::Passphrase(SecretBytes::copy_from(b"not the passphrase"));
    assert!(matches!(operator.request(&Request::Unseal(wrong)), Told::Failed(_)));
    let right = UnsealWith::Passphrase(passphrase());
    assert!(matches!(operator.request(&Request::Unseal(right)), Told::Unsealed));
    assert_eq!(keeper.entries("lost"), 1, "the call that was running is closed as lost");
    admitted(ask(&mut gateway, chat(&late)));
    admitted(ask(&mut gateway, chat(&proof)));
}

#[test]
fn a_journal_that_was_edited_keeps_the_vault_shut() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, _courier) = peers(&keeper);
    admitted(ask(&mut gateway, chat(&proof)));
    keeper.kill();
    let mut file = OpenOptions::new().write(true).open(keeper.journal()).unwrap();
    let bytes = std::fs::read(keeper.journal()).unwrap();
    let at = bytes.windows(6).position(|some| some == b"gpt-4o").unwrap();
    file.seek(SeekFrom::Start(u64::try_from(at).unwrap())).unwrap();
    file.write_all(b"gpt-4x").unwrap();
    keeper.start_again();
    let mut operator = keeper.operator();
    let right = UnsealWith::Passphrase(passphrase());
    match operator.request(&Request::Unseal(right)) {
        Told::Failed(fault) => assert_eq!(fault.code, "SR-JOURNAL-002"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_line_that_was_never_acknowledged_is_cut_off_and_said() {
    let mut keeper = Keeper::start();
    furnish(&keeper);
    keeper.kill();
    let mut file = OpenOptions::new().append(true).open(keeper.journal()).unwrap();
    file.write_all(b"\x01\x00{\"n\":99,\"t\":\"202").unwrap();
    keeper.start_again();
    let right = UnsealWith::Passphrase(passphrase());
    assert!(matches!(keeper.operator().request(&Request::Unseal(right)), Told::Unsealed));
    let journal = keeper.told();
    assert!(journal.contains("\"cut_bytes\":18"), "{journal}");
}

#[test]
fn an_older_copy_of_the_store_or_a_changed_one_keeps_the_vault_shut() {
    let mut keeper = Keeper::start();
    furnish(&keeper);
    keeper.kill();
    let store = keeper.data().join("vault/store");
    let old = keeper.data().join("old");
    keeper::copy(&store, &old);
    keeper.start_again();
    let right = || Request::Unseal(UnsealWith::Passphrase(passphrase()));
    assert!(matches!(keeper.operator().request(&right()), Told::Unsealed));
    token(&mut keeper.operator(), "newer");
    keeper.kill();
    std::fs::remove_dir_all(&store).unwrap();
    keeper::copy(&old, &store);
    keeper.start_again();
    match keeper.operator().request(&right()) {
        Told::Failed(fault) => {
            assert_eq!((fault.code.as_str(), fault.exit.code()), ("SR-STORE-005", 6));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_vault_of_shares_opens_with_enough_of_them_and_names_the_bad_one() {
    let mut keeper = Keeper::start();
    let mut door = keeper.operator();
    let wish = SealWish::Shares { threshold: 2, count: 3, holders: Vec::new() };
    let Told::Shares(shares) = door.request(&Request::Init(wish)) else { panic!("no shares") };
    let show = |index: usize| {
        Request::ShowCustody(UnsealWith::Share(shares[index].expose(SecretBytes::copy_from)))
    };
    assert!(matches!(door.request(&show(0)), Told::Unsealing(_)));
    assert!(matches!(door.request(&show(2)), Told::Initialised(_)));
    keeper.kill_and_start();
    let mut door = keeper.operator();
    let offer = |index: usize| {
        Request::Unseal(UnsealWith::Share(shares[index].expose(SecretBytes::copy_from)))
    };
    assert!(matches!(door.request(&offer(1)), Told::Unsealing(progress) if progress.needed == 2));
    match door.request(&offer(1)) {
        Told::Failed(fault) => assert!(fault.message.contains("already"), "{}", fault.message),
        other => panic!("{other:?}"),
    }
    assert!(matches!(door.request(&offer(2)), Told::Unsealed));
}

#[test]
fn a_second_keeper_on_the_same_directory_says_so_and_ends() {
    let keeper = Keeper::start();
    let second = keeper.second();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("SR-STORE-002"), "{said}");
}

#[test]
fn the_key_is_nowhere_on_the_disk() {
    let keeper = Keeper::start();
    furnish(&keeper);
    let mut seen = 0;
    keeper::each_file(&keeper.data(), &mut |path, bytes| {
        seen += 1;
        let found = bytes.windows(KEY.len()).any(|window| window == KEY);
        assert!(!found, "the key lies in {}", path.display());
    });
    assert!(seen > 4);
}

#[test]
fn a_vault_that_is_sealed_and_opened_under_load_keeps_its_journal_whole() {
    let mut keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, _courier) = peers(&keeper);
    let mut operator = keeper.operator();
    for _ in 0..5 {
        for number in 0..50 {
            let ask = Ask::Call(Box::new(chat(&proof)));
            gateway.send(&FromGateway { number: 100 + number, ask });
        }
        assert!(matches!(operator.request(&Request::Seal), Told::Done));
        let right = Request::Unseal(UnsealWith::Passphrase(passphrase()));
        let told = operator.request(&right);
        assert!(matches!(told, Told::Unsealed), "{told:?}");
    }
    keeper.kill_and_start();
    let right = Request::Unseal(UnsealWith::Passphrase(passphrase()));
    let told = keeper.operator().request(&right);
    assert!(matches!(told, Told::Unsealed), "{told:?}");
}

#[test]
fn store_and_manifest_of_before_the_last_unsealing_keep_the_vault_shut() {
    let mut keeper = Keeper::start();
    furnish(&keeper);
    keeper.kill();
    let vault = keeper.data().join("vault");
    let old = keeper.data().join("old");
    keeper::copy(&vault, &old);
    keeper.start_again();
    let right = || Request::Unseal(UnsealWith::Passphrase(passphrase()));
    assert!(matches!(keeper.operator().request(&right()), Told::Unsealed));
    token(&mut keeper.operator(), "newer");
    assert!(matches!(keeper.operator().request(&Request::Seal), Told::Done));
    assert!(matches!(keeper.operator().request(&right()), Told::Unsealed));
    keeper.kill();
    std::fs::remove_dir_all(vault.join("store")).unwrap();
    keeper::copy(&old.join("store"), &vault.join("store"));
    std::fs::copy(old.join("manifest"), vault.join("manifest")).unwrap();
    keeper.start_again();
    match keeper.operator().request(&right()) {
        Told::Failed(fault) => {
            assert_eq!((fault.code.as_str(), fault.exit.code()), ("SR-STORE-005", 6));
        }
        other => panic!("{other:?}"),
    }
}

/// What an unseal says that fails.
fn unseal_fails(keeper: &Keeper) -> (String, u8) {
    match keeper.operator().request(&Request::Unseal(UnsealWith::Passphrase(passphrase()))) {
        Told::Failed(fault) => (fault.code, fault.exit.code()),
        other => panic!("{other:?}"),
    }
}

// Red when the journal's newest state is not compared with the manifest's.
#[test]
fn store_and_manifest_of_an_hour_ago_are_refused_for_what_the_journal_names() {
    let mut keeper = Keeper::start();
    furnish(&keeper);
    keeper.kill();
    let (vault, old) = (keeper.data().join("vault"), keeper.data().join("old"));
    keeper.start_again();
    let right = || Request::Unseal(UnsealWith::Passphrase(passphrase()));
    assert!(matches!(keeper.operator().request(&right()), Told::Unsealed));
    keeper.kill();
    keeper::copy(&vault, &old);
    keeper.start_again();
    assert!(matches!(keeper.operator().request(&right()), Told::Unsealed));
    token(&mut keeper.operator(), "newer");
    assert!(matches!(keeper.operator().request(&Request::Seal), Told::Done));
    keeper.kill();
    std::fs::remove_dir_all(&vault).unwrap();
    keeper::copy(&old, &vault);
    keeper.start_again();
    assert_eq!(unseal_fails(&keeper), ("SR-STORE-005".to_owned(), 6));
}

// Red when the manifest's note of the journal is not compared, or not kept at sealing.
#[test]
fn a_journal_of_an_hour_ago_or_none_is_refused_for_what_the_manifest_notes() {
    let mut keeper = Keeper::start();
    furnish(&keeper);
    assert!(matches!(keeper.operator().request(&Request::Seal), Told::Done));
    keeper.kill();
    let (journal, old) = (keeper.data().join("journal"), keeper.data().join("old"));
    keeper::copy(&journal, &old);
    keeper.start_again();
    let right = || Request::Unseal(UnsealWith::Passphrase(passphrase()));
    assert!(matches!(keeper.operator().request(&right()), Told::Unsealed));
    // Not one commit: sealing alone notes the end.
    assert!(matches!(keeper.operator().request(&Request::Seal), Told::Done));
    keeper.kill();
    let newest = keeper.data().join("newest");
    std::fs::rename(&journal, &newest).unwrap();
    keeper::copy(&old, &journal);
    keeper.start_again();
    assert_eq!(unseal_fails(&keeper), ("SR-JOURNAL-007".to_owned(), 6));
    keeper.kill();
    std::fs::remove_dir_all(&journal).unwrap();
    keeper.start_again();
    assert_eq!(unseal_fails(&keeper), ("SR-JOURNAL-007".to_owned(), 6));
    keeper.kill();
    std::fs::remove_dir_all(&journal).unwrap();
    std::fs::rename(&newest, &journal).unwrap();
    keeper.start_again();
    assert!(matches!(keeper.operator().request(&right()), Told::Unsealed));
}

#[test]
fn a_call_whose_entry_is_being_written_does_not_outlive_its_token() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let mut operator = keeper.operator();
    for round in 0..20 {
        let name = format!("short {round}");
        let short = token(&mut operator, &name);
        for number in 0..20 {
            let ask = Ask::Call(Box::new(chat(&short)));
            gateway.send(&FromGateway { number, ask });
        }
        let revoke = Request::TokenRevoke(Pick(label(&name)));
        assert!(matches!(operator.request(&revoke), Told::Done));
        let mut tickets = Vec::new();
        let mut answers = 0;
        while answers < 20 {
            match gateway.receive() {
                ToGateway::Answer { answer: Answer::Admitted { ticket, .. }, .. } => {
                    tickets.push(ticket);
                    answers += 1;
                }
                ToGateway::Answer { .. } => answers += 1,
                ToGateway::Snapshot(_) => {}
            }
        }
        for ticket in tickets {
            assert_eq!(redeem(&mut courier, ticket).unwrap_err(), Refusal::TicketUnknown);
        }
    }
    admitted(ask(&mut gateway, chat(&proof)));
}

#[test]
fn a_ticket_does_not_carry_a_rotated_key_to_the_old_destination() {
    let keeper = Keeper::start();
    let proof = furnish(&keeper);
    let (mut gateway, mut courier) = peers(&keeper);
    let mut operator = keeper.operator();
    let ticket = admitted(ask(&mut gateway, chat(&proof)));
    let rules = CredentialRules {
        models: Choice::Only(vec![ModelName::parse("gpt-4o").unwrap()]),
        ..CredentialRules::default()
    };
    let pick = || Pick(label("main"));
    let offered = operator.request(&Request::CredentialRotate(pick()));
    let Told::Upload { binding, .. } = offered else { panic!("{offered:?}") };
    let narrow = Request::CredentialRules(pick(), Box::new(rules.clone()));
    assert!(matches!(operator.request(&narrow), Told::Done));
    let Told::Status(status) = operator.request(&Request::Status) else { panic!() };
    let blob = seal_upload(&status.vault_key.unwrap(), &binding, KEY).unwrap();
    let upload = Request::CredentialUpload { upload: binding.upload, blob };
    assert!(matches!(operator.request(&upload), Told::Credential(_)));
    assert_eq!(redeem(&mut courier, ticket).unwrap_err(), Refusal::TicketUnknown);
    let Told::Credentials(rows) = operator.request(&Request::CredentialList) else { panic!() };
    assert_eq!((rows[0].version, &rows[0].rules), (2, &rules), "the new rules stay");
}

// Red when nobody is looked for by a name that nobody typed.
#[test]
fn a_vault_without_a_person_says_how_to_make_one() {
    let keeper = Keeper::start();
    let mut door = keeper.operator();
    let made = door.request(&Request::Init(SealWish::Passphrase(passphrase())));
    assert!(matches!(made, Told::Initialised(_)), "{made:?}");
    let Told::Failed(told) = door.request(&token_wish("first")) else { panic!("it is nobody's") };
    assert_eq!(told.code, "SR-PICK-001");
    assert!(told.message.contains("no user yet"), "{}", told.message);
    assert_eq!(told.next.as_deref(), Some("strongroom user create NAME"));
}
