//! The real keeper and the real TPM helper over a software TPM: what a thief's, an old and a broken disk are told.
#![forbid(unsafe_code)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![expect(clippy::expect_used, reason = "a test stops at the first surprise, with a sentence")]
#![expect(clippy::panic, reason = "a test stops at the first surprise, with a sentence")]
#![expect(dead_code, reason = "the emulator serves the helper's own tests as well")]

#[path = "../../../../vault/tpm/tests/swtpm/emulator.rs"]
mod emulator;
mod rollback;
mod scene;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use strongroom_policy::name::Label;
use strongroom_policy::rules::{Choice, TokenScope};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::keys::Deletion;
use strongroom_protocol::operator::{Answer, Exit, Pick, Request, SealWish, TokenWish, UnsealWith};
use strongroom_tests::appliance::PASSPHRASE;
use strongroom_tests::appliance::Vault;
use strongroom_tests::operator::Operator;
use strongroom_tests::{Appliance, Options, Part, processes, scratch, until};

use scene::{Cut, PIN, Scene, checkpoint, failure};

fn label(text: &str) -> Label {
    Label::parse(text).unwrap()
}

fn make_user(scene: &Scene, name: &str) {
    let made = scene.ask(&Request::UserCreate(label(name)));
    assert!(matches!(made, Answer::User(_)), "{made:?}");
}

fn make_token(scene: &Scene, name: &str) {
    let scope = TokenScope {
        providers: Choice::Any,
        models: Choice::Any,
        credential: None,
        expires: None,
        calls_per_minute: 60,
    };
    let wish = TokenWish { user: None, label: label(name), scope, credential: None };
    let made = scene.ask(&Request::TokenCreate(Box::new(wish)));
    assert!(matches!(made, Answer::Token { .. }), "{made:?}");
}

fn tokens(scene: &Scene) -> usize {
    match scene.ask(&Request::TokenList) {
        Answer::Tokens(tokens) => tokens.len(),
        other => panic!("{other:?}"),
    }
}

fn revoke(name: &str) -> Request {
    Request::TokenRevoke(Pick(label(name)))
}

fn assert_open(answer: &Answer) {
    assert!(matches!(answer, Answer::Unsealed), "{answer:?}");
}

#[test]
fn a_vault_opens_by_its_tpm_alone_or_with_a_pin_and_always_by_shares() {
    for pin in [None, Some(PIN)] {
        let mut scene = Scene::sealed_to_the_tpm(pin);
        let status = scene.tpm_status();
        let seal = status.seal.unwrap();
        assert_eq!((seal.pin, seal.fits, status.trouble), (pin.is_some(), true, None));
        scene.restart_keeper();
        assert_open(&scene.unseal_by_tpm(pin));
        let moved = scene.tpm_status().counter.unwrap();
        assert!(moved > status.counter.unwrap(), "an unsealing moves the counter");
        assert!(matches!(scene.ask(&Request::Seal), Answer::Done));
        assert_open(&scene.unseal_by_shares([None; 2]));
        assert_eq!(scene.tpm_status().counter, Some(moved + 2), "the sealing moved it as well");
        // By the same keeper that sealed it: what it had read of the seal file is older than the counter.
        assert!(matches!(scene.ask(&Request::Seal), Answer::Done));
        assert_open(&scene.unseal_by_tpm(pin));
        scene.power_cycle();
        assert_open(&scene.unseal_by_tpm(pin));
        assert_eq!(scene.emulator.held(), 0);
    }
}

#[test]
fn a_wrong_pin_is_said_with_the_tries_that_are_left_and_shares_open_a_locked_tpms_vault() {
    let mut scene = Scene::sealed_to_the_tpm(Some(PIN));
    scene.restart_keeper();
    assert_eq!(failure(scene.unseal_by_tpm(None)).code, "SR-TPM-009");
    let most = scene.tpm_status().health.unwrap().most_wrong_pins;
    for wrong in 1..=most {
        let fault = failure(scene.unseal_by_tpm(Some(b"000000")));
        assert_eq!(fault.code, "SR-TPM-002");
        let left = match most - wrong {
            0 => "no try is left".to_owned(),
            1 => "1 try is left".to_owned(),
            left => format!("{left} tries are left"),
        };
        assert!(fault.message.contains(&left), "{}", fault.message);
    }
    assert_eq!(failure(scene.unseal_by_tpm(Some(PIN))).code, "SR-TPM-003");
    assert_open(&scene.unseal_by_shares([None; 2]));
}

// Red when a PIN is shown to the TPM before the keeper asks who brings it, or when nobody counts its refusal.
#[test]
fn who_guesses_pins_waits_and_the_journal_says_how_often_and_what_opened_the_vault() {
    let mut scene = Scene::sealed_to_the_tpm(Some(PIN));
    scene.restart_keeper();
    let mut guesses = 0;
    let refused = loop {
        let fault = failure(scene.unseal_by_tpm(Some(b"000000")));
        if !fault.code.starts_with("SR-TPM") {
            break fault;
        }
        guesses += 1;
        assert!(guesses < 100, "nobody counts");
    };
    assert_eq!(refused.code, "SR-SEALED-010");
    until("the wait is over", || match scene.unseal_by_shares([None; 2]) {
        Answer::Unsealed => Some(()),
        // It ended between the first share and the second.
        Answer::Unsealing(_) => {
            assert_open(&scene.bring_first_share());
            Some(())
        }
        other => {
            assert_eq!(failure(other).code, "SR-SEALED-010");
            None
        }
    });
    assert_eq!(scene.unsealings().pop(), Some(("shares".to_owned(), guesses)));
    assert!(matches!(scene.seal_to_tpm(None), Answer::Done));
    scene.restart_keeper();
    assert_open(&scene.unseal_by_tpm(None));
    assert_eq!(scene.unsealings().pop(), Some(("tpm".to_owned(), 0)));
}

#[test]
fn a_machine_that_started_otherwise_is_refused_until_the_vault_is_sealed_to_it_anew() {
    let mut scene = Scene::sealed_to_the_tpm(None);
    scene.restart_keeper();
    scene.emulator.extend(16);
    assert_eq!(failure(scene.unseal_by_tpm(None)).code, "SR-TPM-004");
    assert_open(&scene.unseal_by_shares([None; 2]));
    assert!(matches!(scene.seal_to_tpm(None), Answer::Done));
    scene.restart_keeper();
    assert_open(&scene.unseal_by_tpm(None));
    scene.power_cycle();
    assert_eq!(failure(scene.unseal_by_tpm(None)).code, "SR-TPM-004");
}

// Red when `judge_counter` is not asked, or when a restricting act does not move the counter.
#[test]
fn a_disk_that_was_put_back_is_refused_by_the_tpm_and_opens_only_on_all_holders_word() {
    let mut scene = Scene::sealed_to_the_tpm(None);
    make_user(&scene, "alice");
    make_token(&scene, "stolen");
    // A copy of the running disk, and one of each part later.
    let old = scene.copy_data("old");
    let before = scene.increments();
    assert!(matches!(scene.ask(&revoke("stolen")), Answer::Done));
    assert_eq!(scene.increments(), before + 1, "the answer came after the counter moved");
    scene.kill_keeper();
    let newest = scene.copy_data("newest");
    scene.put_back(&old, "");
    scene.start_keeper();
    let fault = failure(scene.unseal_by_tpm(None));
    assert_eq!((fault.code.as_str(), fault.exit), ("SR-TPM-005", Exit::RolledBack));
    let fault = failure(scene.unseal_by_shares([None; 2]));
    assert_eq!((fault.code.as_str(), fault.exit), ("SR-TPM-011", Exit::RolledBack));
    let shown = checkpoint(&fault);
    for words in [[Some("1-00000000"); 2], [Some(shown.as_str()), None], [None, Some(&shown)]] {
        assert_eq!(failure(scene.unseal_by_shares(words)).code, "SR-TPM-011", "{words:?}");
    }
    // The old store, manifest, keyring and journal under the newest seal file.
    scene.kill_keeper();
    scene.put_back(&newest, "vault/seal");
    scene.start_keeper();
    let fault = failure(scene.unseal_by_tpm(None));
    assert_eq!((fault.code.as_str(), fault.exit), ("SR-TPM-011", Exit::RolledBack));
    // What the holders confirm is what they get; it is said as long as it lasts.
    assert_open(&scene.unseal_by_shares([Some(&shown); 2]));
    assert_eq!(tokens(&scene), 1);
    assert!(scene.tpm_status().trouble.is_some());
    // The newest disk is still the newest.
    scene.kill_keeper();
    scene.put_back(&newest, "");
    scene.start_keeper();
    assert_open(&scene.unseal_by_tpm(None));
    assert_eq!(tokens(&scene), 0);
}

/// The stated limit: who restores a virtual machine restores its TPM too. A witness finds that.
#[test]
fn a_disk_that_was_put_back_together_with_its_virtual_tpm_is_accepted() {
    let mut scene = Scene::sealed_to_the_tpm(None);
    make_user(&scene, "alice");
    make_token(&scene, "stolen");
    scene.kill_keeper();
    let old = scene.copy_data("old");
    let state = scene.emulator.copy_of_state();
    scene.power_cycle();
    assert_open(&scene.unseal_by_tpm(None));
    assert!(matches!(scene.ask(&revoke("stolen")), Answer::Done));
    scene.kill_keeper();
    scene.put_back(&old, "");
    scene.emulator.unplug();
    scene.emulator.put_state_back(&state);
    scene.power_cycle();
    assert_open(&scene.unseal_by_tpm(None));
    assert_eq!(tokens(&scene), 1);
}

// Red when the manifest is noted after the increment, or the seal file before it holds the old blob alone.
#[test]
fn a_crash_at_each_of_the_three_cuts_leaves_a_vault_that_opens() {
    for cut in [Cut::BeforeIncrement, Cut::AfterIncrement] {
        for by_shares in [false, true] {
            let mut scene = Scene::sealed_to_the_tpm(None);
            make_user(&scene, "alice");
            make_token(&scene, "doomed");
            scene.cut(cut);
            scene.send_into_the_void(revoke("doomed"));
            scene.wait_for_the_cut();
            scene.power_cycle();
            let opened = if by_shares {
                scene.unseal_by_shares([None; 2])
            } else {
                scene.unseal_by_tpm(None)
            };
            assert_open(&opened);
            assert_eq!(tokens(&scene), 0, "{cut:?}: the revocation was durable before the counter");
            make_token(&scene, "next");
            assert!(matches!(scene.ask(&revoke("next")), Answer::Done));
            scene.restart_keeper();
            assert_open(&scene.unseal_by_tpm(None));
        }
    }
}

#[test]
fn a_crash_between_the_manifest_and_the_dropping_of_the_old_blob_leaves_a_vault_that_opens() {
    let mut scene = Scene::sealed_to_the_tpm(None);
    make_user(&scene, "alice");
    make_token(&scene, "doomed");
    let with_both = scene.keep_seal("seal-with-both");
    assert!(matches!(scene.ask(&revoke("doomed")), Answer::Done));
    scene.kill_keeper();
    let settled = fs::read(scene.data().join("vault/seal")).unwrap();
    assert_ne!(fs::read(&with_both).unwrap(), settled);
    fs::copy(&with_both, scene.data().join("vault/seal")).unwrap();
    scene.start_keeper();
    assert_open(&scene.unseal_by_tpm(None));
    assert_eq!(tokens(&scene), 0);
}

// Red when a rotation leaves the way over the TPM out.
#[test]
fn a_rotation_takes_the_tpm_along_and_old_shares_and_old_disks_open_nothing() {
    for pin in [None, Some(PIN)] {
        let mut scene = Scene::sealed_to_the_tpm(pin);
        if pin.is_some() {
            assert_eq!(failure(scene.rotate(None)).code, "SR-TPM-009");
            let wrong = failure(scene.rotate(Some(b"000000")));
            assert_eq!(wrong.code, "SR-TPM-002");
            assert!(wrong.next.is_some_and(|next| next.contains("tpm remove")));
        }
        make_user(&scene, "alice");
        let before = scene.copy_data("before");
        let Answer::Shares(new) = scene.rotate(pin) else { panic!("no shares") };
        let new: Vec<Vec<u8>> = new.iter().map(|share| share.expose(<[u8]>::to_vec)).collect();
        // Until the new shares are shown the vault opens as before, by the TPM too, whose counter moves on.
        scene.restart_keeper();
        assert_open(&scene.unseal_by_tpm(pin));
        scene.restart_keeper();
        assert_open(&scene.unseal_by_shares([None; 2]));
        let waiting = scene.copy_data("waiting");
        let old = std::mem::replace(&mut scene.shares, new);
        scene.show_custody();
        scene.restart_keeper();
        assert_open(&scene.unseal_by_tpm(pin));
        assert!(scene.tpm_status().trouble.is_none());
        scene.power_cycle();
        assert_open(&scene.unseal_by_shares([None; 2]));
        assert!(matches!(scene.ask(&Request::Seal), Answer::Done));
        let new = std::mem::replace(&mut scene.shares, old);
        assert_eq!(failure(scene.unseal_by_shares([None; 2])).code, "SR-SHARE-001");
        for copy in [before, waiting] {
            scene.kill_keeper();
            scene.put_back(&copy, "");
            scene.start_keeper();
            assert_eq!(failure(scene.unseal_by_tpm(pin)).code, "SR-TPM-005");
            let fault = failure(scene.unseal_by_shares([None; 2]));
            assert_eq!((fault.code.as_str(), fault.exit), ("SR-TPM-011", Exit::RolledBack));
        }
        drop(new);
    }
}

#[test]
fn the_loss_of_the_tpm_is_not_the_loss_of_data() {
    let mut scene = Scene::sealed_to_the_tpm(Some(PIN));
    make_user(&scene, "alice");
    // While it is open: what restricts is done, and its answer says what is missing.
    make_token(&scene, "one");
    scene.emulator.unplug();
    let fault = failure(scene.ask(&revoke("one")));
    assert_eq!(fault.code, "SR-TPM-010");
    assert_eq!(tokens(&scene), 0);
    scene.kill_keeper();
    scene.replace_tpm();
    scene.start_keeper();
    assert_eq!(failure(scene.unseal_by_tpm(Some(PIN))).code, "SR-TPM-006");
    let fault = failure(scene.unseal_by_shares([None; 2]));
    assert_eq!(fault.code, "SR-TPM-011");
    let shown = checkpoint(&fault);
    assert_open(&scene.unseal_by_shares([Some(&shown); 2]));
    let status = scene.tpm_status();
    assert!(!status.seal.unwrap().fits && status.counter.is_none() && status.trouble.is_some());
    // Sealed to the new one, or to none.
    assert!(matches!(scene.seal_to_tpm(Some(PIN)), Answer::Done));
    scene.restart_keeper();
    assert_open(&scene.unseal_by_tpm(Some(PIN)));
    assert!(matches!(scene.ask(&Request::TpmRemove), Answer::Done));
    scene.restart_keeper();
    assert_eq!(failure(scene.unseal_by_tpm(Some(PIN))).code, "SR-TPM-012");
    assert_open(&scene.unseal_by_shares([None; 2]));
}

// Red when the TPM opens the vault although its way has another lock, or when shares count before they were entered back.
#[test]
fn the_tpm_and_a_passphrase_or_shares_open_the_vault_together_and_neither_alone() {
    let words = b"five more words of mine";
    let passphrase = || SecretBytes::copy_from(words);
    let mut scene = Scene::found();
    let with = Some(SealWish::Passphrase(passphrase()));
    assert!(matches!(scene.seal_to_tpm_with(None, with), Answer::Done));
    for first_the_tpm in [true, false] {
        scene.restart_keeper();
        let say = || scene.ask(&Request::Unseal(UnsealWith::Passphrase(passphrase())));
        let (first, last) = if first_the_tpm {
            (scene.unseal_by_tpm(None), say())
        } else {
            (say(), scene.unseal_by_tpm(None))
        };
        assert!(matches!(first, Answer::Unsealing(_)), "{first:?}");
        assert_open(&last);
        assert_eq!(scene.unsealings().pop().unwrap().0, "passphrase+tpm");
    }
    // Shares of their own, which count once they were entered back; the other ways stay.
    let shares = || Some(SealWish::Shares { threshold: 2, count: 2, holders: Vec::new() });
    assert_eq!(failure(scene.seal_to_tpm_with(Some(PIN), shares())).code, "SR-TPM-018");
    let Answer::Shares(given) = scene.seal_to_tpm_with(None, shares()) else { panic!("no shares") };
    let drop_them = scene.ask(&Request::DropWays);
    assert!(matches!(drop_them, Answer::Done), "{drop_them:?}");
    assert!(scene.tpm_status().seal.is_none());
    scene.restart_keeper();
    assert_open(&scene.unseal_by_shares([None; 2]));
    drop(given);
    let Answer::Shares(given) = scene.seal_to_tpm_with(None, shares()) else { panic!("no shares") };
    let given: Vec<Vec<u8>> = given.iter().map(|share| share.expose(<[u8]>::to_vec)).collect();
    let old = std::mem::replace(&mut scene.shares, given);
    let shown = scene.show_custody();
    assert!(matches!(shown, Answer::Done), "{shown:?}");
    scene.power_cycle();
    let partly = scene.unseal_by_shares([None; 2]);
    assert!(matches!(partly, Answer::Unsealing(_)), "{partly:?}");
    assert_open(&scene.unseal_by_tpm(None));
    assert_eq!(scene.unsealings().pop().unwrap().0, "shares+tpm");
    scene.shares = old;
    assert!(matches!(scene.ask(&Request::TpmRemove), Answer::Done));
    scene.restart_keeper();
    assert_open(&scene.unseal_by_shares([None; 2]));
}

// Red when the note is written, or the counter made, before it is known that there is room; also when a failed seal takes neither back.
#[test]
fn a_refused_seal_to_the_tpm_leaves_the_vault_and_the_tpm_as_they_were() {
    for sealed in [false, true] {
        let mut scene = Scene::found();
        let shares = || SealWish::Shares { threshold: 2, count: 2, holders: Vec::new() };
        if sealed {
            assert!(matches!(scene.seal_to_tpm(None), Answer::Done));
        }
        let before = scene.nv_indices();
        assert!(matches!(scene.add_way(shares()), Answer::Shares(_)));
        for with in [None, Some(shares())] {
            assert_eq!(failure(scene.seal_to_tpm_with(None, with)).code, "SR-WAYS-004");
            assert_eq!(scene.nv_indices(), before);
        }
        scene.restart_keeper();
        assert_open(&scene.unseal_by_shares([None; 2]));
        assert!(matches!(scene.ask(&Request::DropWays), Answer::Done));
        // Eight ways, and no room for one over the TPM.
        for number in 1.. {
            let words = format!("many words of number {number}");
            let added =
                scene.add_way(SealWish::Passphrase(SecretBytes::copy_from(words.as_bytes())));
            if let Answer::Failed(fault) = added {
                assert_eq!(
                    (fault.code.as_str(), number),
                    ("SR-WAYS-011", if sealed { 7 } else { 8 })
                );
                break;
            }
        }
        if !sealed {
            for with in [None, Some(shares())] {
                assert_eq!(failure(scene.seal_to_tpm_with(None, with)).code, "SR-WAYS-011");
                assert_eq!(scene.nv_indices(), before);
            }
        }
        scene.restart_keeper();
        assert_open(&scene.unseal_by_shares([None; 2]));
        if sealed {
            assert!(
                matches!(scene.seal_to_tpm(None), Answer::Done),
                "in the place of the earlier one"
            );
            assert_eq!(scene.nv_indices(), before);
        }
    }
}

#[test]
fn a_way_over_the_tpm_that_is_given_up_leaves_no_counter_behind() {
    let mut scene = Scene::found();
    let before = scene.nv_indices();
    let shares = SealWish::Shares { threshold: 2, count: 2, holders: Vec::new() };
    assert!(matches!(scene.seal_to_tpm_with(None, Some(shares)), Answer::Shares(_)));
    assert_eq!(scene.nv_indices(), before + 1);
    assert!(matches!(scene.ask(&Request::DropWays), Answer::Done));
    assert_eq!(scene.nv_indices(), before);
    assert!(matches!(scene.seal_to_tpm(None), Answer::Done));
    assert!(matches!(scene.ask(&Request::TpmRemove), Answer::Done));
    assert_eq!(scene.nv_indices(), before);
    scene.restart_keeper();
    assert_open(&scene.unseal_by_shares([None; 2]));
}

// Red when a revocation that no checkpoint covers, or one that failed half way, is answered before the counter has moved.
#[test]
fn what_a_revocation_did_is_behind_the_counter_also_when_its_answer_is_a_failure() {
    for halfway in [false, true] {
        let mut scene = Scene::sealed_to_the_tpm(None);
        make_user(&scene, "alice");
        make_token(&scene, "first");
        make_token(&scene, "stolen");
        for number in 0..if halfway { 150 } else { 0 } {
            make_token(&scene, &format!("t{number}"));
        }
        assert!(matches!(scene.ask(&revoke("first")), Answer::Done));
        let request = if halfway { delete_user(&scene, "alice") } else { revoke("stolen") };
        let old = scene.copy_data("old");
        let before = scene.increments();
        scene.jam_checkpoints();
        let fault = failure(scene.ask(&request));
        assert_eq!(fault.code, if halfway { "SR-JOURNAL-001" } else { "SR-JOURNAL-012" });
        assert_eq!(scene.increments(), before + 1, "{fault:?}");
        scene.kill_keeper();
        scene.put_back(&old, "");
        scene.start_keeper();
        assert_eq!(failure(scene.unseal_by_tpm(None)).code, "SR-TPM-005");
    }
}

fn delete_user(scene: &Scene, name: &str) -> Request {
    let deletion = |deletion| Request::UserDelete(Pick(label(name)), deletion);
    let Answer::Counted(counted) = scene.ask(&deletion(Deletion::Count)) else {
        panic!("no count")
    };
    deletion(Deletion::Perform(counted.dependents))
}

// Red when the start that nobody watches spends an operator's word.
#[test]
fn an_operators_word_for_other_settings_does_not_serve_a_start_that_nobody_watches() {
    let mut scene = Scene::sealed_to_the_tpm(None);
    scene.settings = vec!["accept_missing=seccomp"];
    scene.restart_keeper();
    let unattended = || failure(scene.ask(&Request::UnsealUnattended));
    let told = unattended();
    assert_eq!(told.code, "SR-SETTINGS-001");
    let (_, command) = told.next.as_deref().unwrap().split_once("--accept-settings ").unwrap();
    let difference = command.split('\'').next().unwrap().to_owned();
    assert!(matches!(scene.ask(&Request::AcceptSettings { difference }), Answer::Done));
    assert_eq!(unattended().code, "SR-SETTINGS-001");
    assert_open(&scene.unseal_by_tpm(None));
}

#[test]
fn what_does_not_open_the_vault_does_not_seal_it_to_a_tpm() {
    let mut scene = Scene::found();
    scene.shares.swap(0, 2);
    let good = scene.shares.clone();
    scene.shares = vec![good[0].clone(), good[1].clone(), good[1].clone()];
    assert_eq!(failure(scene.seal_to_tpm(None)).code, "SR-SHARE-001", "one share twice");
    scene.shares.truncate(2);
    assert_eq!(failure(scene.seal_to_tpm(None)).code, "SR-TPM-015", "too few");
    scene.shares = good;
    assert_eq!(failure(scene.seal_to_tpm(Some(b"123"))).code, "SR-TPM-014");
    assert!(matches!(scene.seal_to_tpm(None), Answer::Done));
    // A helper that ends is started again on the same socket.
    scene.restart_helper();
    assert!(scene.tpm_status().health.is_some());
}

/// The whole appliance, as `strongroom up` starts it: helper and keeper may die, and nobody is needed.
#[test]
fn an_unattended_appliance_opens_by_its_tpm_whenever_its_keeper_starts() {
    let emulator = emulator::Emulator::start();
    let settings = format!("tpm = {{ tcti = \"{}\", unattended = true }}\n", emulator.tcti());
    let appliance = Appliance::start(&Options { settings, ..Options::default() });
    appliance.json(&["tpm", "seal", "--pcrs", "7,16"], PASSPHRASE.as_bytes());
    let status = appliance.json(&["tpm", "status"], b"");
    assert_eq!(status["seal"]["pin"], false, "{status}");
    assert!(status["trouble"].is_null(), "{status}");
    appliance.kill(Part::Keeper);
    appliance.wait_ready();
    // Another passphrase under another root key: the TPM goes along, and still nobody is needed.
    let typed = format!("{PASSPHRASE}\nanother five words of mine\n");
    appliance.json(&["share", "rotate", "--seal", "passphrase"], typed.as_bytes());
    assert!(appliance.json(&["tpm", "status"], b"")["trouble"].is_null());
    appliance.kill(Part::Keeper);
    appliance.wait_ready();
    let doctor = appliance.cli(&["doctor"], b"");
    assert!(doctor.stdout.contains("there is no PIN"), "{}", doctor.stdout);
    appliance.json(&["seal"], b"");
    appliance.cli(&["unseal", "--tpm"], b"").ok();
    appliance.wait_ready();
    assert!(!mark(&appliance).exists(), "somebody opened it");
    // Together with words of somebody's: the TPM alone does not open it any more.
    let typed = "another five words of mine\nwords that are said every morning\n";
    appliance.json(&["tpm", "seal", "--pcrs", "7,16", "--with", "passphrase"], typed.as_bytes());
    appliance.json(&["seal"], b"");
    let first = appliance.cli(&["unseal", "--tpm"], b"");
    assert_eq!((first.code, first.stderr.contains("passphrase")), (3, true), "{}", first.stderr);
    appliance.cli(&["unseal", "-"], b"words that are said every morning").ok();
    appliance.wait_ready();
}

fn mark(appliance: &Appliance) -> std::path::PathBuf {
    appliance.data().join("vault/sealed-by-operator")
}

/// Waits for a new keeper, and looks whether it stays sealed although it was asked to open.
fn assert_stays_sealed(appliance: &Appliance, said: usize) {
    appliance.wait_state("sealed");
    until("the supervisor has looked at the new keeper", || {
        (appliance.log().matches("the vault is SEALED").count() > said).then_some(())
    });
    assert_eq!(appliance.status()["state"], "sealed", "{}", appliance.log());
    assert!(mark(appliance).exists());
}

// Red when `unseal` asks a vault that a fault closed for its ways, which it does not tell.
#[test]
fn the_loss_of_the_tpm_is_confirmed_by_the_command_that_its_refusal_shows() {
    let (_emulator, mut appliance) = stopped_without_its_tpm();
    appliance.up();
    appliance.wait_state("sealed");
    let refused = appliance.cli(&["unseal", "-"], PASSPHRASE.as_bytes());
    assert_eq!((refused.code, refused.stderr.contains("SR-TPM-011")), (6, true), "{refused:?}");
    let (_, shown) = refused.stderr.split_once("--confirm-checkpoint ").expect("what to do next");
    let shown: String = shown.chars().take_while(|c| *c == '-' || c.is_alphanumeric()).collect();
    assert_eq!(appliance.status()["state"], "faulty");
    // An operator may keep it closed meanwhile.
    appliance.json(&["seal"], b"");
    let confirm = ["unseal", "-", "--confirm-checkpoint"];
    let wrong = appliance.cli(&[&confirm[..], &["1-00000000"]].concat(), PASSPHRASE.as_bytes());
    assert_eq!((wrong.code, wrong.stderr.contains("SR-TPM-011")), (6, true), "{wrong:?}");
    appliance.cli(&[&confirm[..], &[&shown]].concat(), PASSPHRASE.as_bytes()).ok();
    appliance.wait_ready();
}

/// An appliance that is stopped, and another TPM in the place of the one that it was sealed to.
fn stopped_without_its_tpm() -> (emulator::Emulator, Appliance) {
    let mut emulator = emulator::Emulator::start();
    let another = another_tpm(&emulator);
    let settings = format!("tpm = {{ tcti = \"{}\" }}\n", emulator.tcti());
    let mut appliance = Appliance::start(&Options { settings, ..Options::default() });
    appliance.json(&["tpm", "seal", "--pcrs", "7,16"], PASSPHRASE.as_bytes());
    appliance.start_as(Vault::None);
    appliance.stop();
    emulator.unplug();
    emulator.put_state_back(&another);
    emulator.plug_in();
    (emulator, appliance)
}

/// The state of a TPM that no vault was sealed to.
fn another_tpm(emulator: &emulator::Emulator) -> tempfile::TempDir {
    // Its first answer, GetRandom, says that it has a state.
    let mut first = emulator::header(0x8001, 0x17B, 12);
    first.extend([0, 8]);
    assert_eq!(emulator::code(&emulator.send(&first)), 0);
    let another = emulator.copy_of_state();
    assert!(fs::read_dir(another.path()).unwrap().next().is_some());
    another
}

/// The words of the `unseal` that a refusal prints.
fn printed(stderr: &str) -> Vec<String> {
    let (_, command) = stderr.split_once(" unseal ").expect("what to do next");
    let (command, _) = command.split_once('\'').expect("it is quoted");
    ["unseal"].into_iter().chain(command.split_whitespace()).map(str::to_owned).collect()
}

// Red when each refusal's command has its own word only: the one then asks for the other's, and the other for its.
#[test]
fn a_lost_tpm_and_changed_settings_are_confirmed_by_the_commands_that_are_printed() {
    let (_emulator, mut appliance) = stopped_without_its_tpm();
    let file = appliance.data().join("strongroom.toml");
    let text = fs::read_to_string(&file).unwrap();
    let other = "[dns.hosts]\n\"new.example\" = \"10.0.0.1\"";
    fs::write(&file, text.replace("[dns.hosts]", other)).unwrap();
    appliance.up();
    appliance.wait_state("sealed");
    let run = |words: &[String]| {
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        appliance.cli(&words, PASSPHRASE.as_bytes())
    };
    let refused = run(&["unseal".to_owned(), "-".to_owned()]);
    assert!(refused.stderr.contains("SR-TPM-011"), "{}", refused.stderr);
    let refused = run(&printed(&refused.stderr));
    assert!(refused.stderr.contains("SR-SETTINGS-001"), "{}", refused.stderr);
    run(&printed(&refused.stderr)).ok();
    appliance.wait_ready();
}

// Red when the mark is written after the keys are dropped, or when supervisor and keeper do not ask for it.
#[test]
fn what_an_operator_sealed_stays_sealed_however_the_keeper_ends_until_somebody_opens_it() {
    let emulator = emulator::Emulator::start();
    let settings = format!("tpm = {{ tcti = \"{}\", unattended = true }}\n", emulator.tcti());
    let mut appliance = Appliance::start(&Options { settings, ..Options::default() });
    appliance.json(&["tpm", "seal", "--pcrs", "7,16"], PASSPHRASE.as_bytes());
    let said = |appliance: &Appliance| appliance.log().matches("the vault is SEALED").count();

    // Sealed, and its keeper killed.
    let before = said(&appliance);
    appliance.json(&["seal"], b"");
    appliance.kill(Part::Keeper);
    assert_stays_sealed(&appliance, before);
    let asked = Operator::connect(&appliance.data().join("run")).ask(&Request::UnsealUnattended);
    assert_eq!(failure(asked).code, "SR-SEALED-017", "whoever asks");

    // Killed again, and the whole of it.
    let before = said(&appliance);
    appliance.kill(Part::Keeper);
    assert_stays_sealed(&appliance, before);
    appliance.start_as(Vault::None);
    for round in 1..=2 {
        let before = said(&appliance);
        appliance.stop();
        appliance.up();
        assert_stays_sealed(&appliance, before);
        assert!(round == 2 || appliance.log().contains("SR-SEALED-017"), "{}", appliance.log());
    }
    appliance.cli(&["unseal", "--tpm"], b"").ok();
    appliance.wait_ready();
    appliance.kill(Part::Keeper);
    appliance.wait_ready();

    // The panic seal has no time for a disk.
    let before = said(&appliance);
    appliance.cli(&["seal", "--panic"], b"").ok();
    assert_stays_sealed(&appliance, before);
    appliance.unseal();
    appliance.wait_ready();
    let before = said(&appliance);
    processes::signal(appliance.pid(Part::Keeper).unwrap(), Signal::SIGUSR1);
    assert_stays_sealed(&appliance, before);
    // The mark is the supervisor's now, and the keeper's act all the same.
    appliance.json(&["seal"], b"");
    let before = said(&appliance);
    appliance.stop();
    appliance.up();
    assert_stays_sealed(&appliance, before);
    appliance.unseal();
    appliance.wait_ready();
    assert!(!mark(&appliance).exists(), "somebody opened it");
}

/// An appliance that opens by its TPM with nobody there.
fn unattended(emulator: &emulator::Emulator) -> Appliance {
    let settings = format!("tpm = {{ tcti = \"{}\", unattended = true }}\n", emulator.tcti());
    let mut appliance = Appliance::start(&Options { settings, ..Options::default() });
    appliance.json(&["tpm", "seal", "--pcrs", "7,16"], PASSPHRASE.as_bytes());
    appliance.start_as(Vault::None);
    appliance
}

/// The keeper's own panic seal, until it is gone.
fn panic_seal(appliance: &Appliance) {
    let keeper = appliance.pid(Part::Keeper).unwrap();
    processes::signal(keeper, Signal::SIGUSR1);
    until("the keeper is gone", || (!processes::runs(keeper)).then_some(()));
}

fn restart_stays_sealed(appliance: &mut Appliance) {
    assert!(mark(appliance).exists(), "{}", appliance.log());
    let before = appliance.log().matches("the vault is SEALED").count();
    appliance.up();
    assert_stays_sealed(appliance, before);
}

// Red when `stop` does not judge how the keeper ended.
#[test]
fn a_panic_seal_is_remembered_when_the_appliance_is_stopped_at_the_same_moment() {
    let emulator = emulator::Emulator::start();
    let mut appliance = unattended(&emulator);
    // Both signals wait for the supervisor.
    appliance.signal_supervisor(Signal::SIGSTOP);
    panic_seal(&appliance);
    appliance.signal_supervisor(Signal::SIGTERM);
    appliance.signal_supervisor(Signal::SIGCONT);
    until("it stops", || appliance.ended());
    restart_stays_sealed(&mut appliance);
}

// The same.
#[test]
fn a_panic_seal_is_remembered_when_the_start_of_another_process_fails_over_it() {
    let emulator = emulator::Emulator::start();
    let mut appliance = unattended(&emulator);
    appliance.stop();
    // A courier that is never ready.
    let (good, programs) = (scratch::programs(), appliance.scratch().join("programs"));
    fs::create_dir(&programs).unwrap();
    for name in ["strongroom", "strongroom-keeper", "strongroom-gateway", "strongroom-tpm"] {
        let (from, to) = (good.join(name), programs.join(name));
        if fs::hard_link(&from, &to).is_err() {
            fs::copy(&from, &to).unwrap();
        }
    }
    let courier = programs.join("strongroom-courier");
    fs::write(&courier, "#!/bin/sh\nwhile :; do sleep 1; done\n").unwrap();
    fs::set_permissions(&courier, fs::Permissions::from_mode(0o755)).unwrap();
    appliance.start_from(programs);
    appliance.up();
    until("the courier is waited for", || appliance.pid(Part::Courier));
    assert_eq!(appliance.status()["state"], "ready", "{}", appliance.log());
    panic_seal(&appliance);
    appliance.kill(Part::Courier);
    assert_eq!(until("it fails", || appliance.ended()), 1);
    appliance.start_from(good);
    restart_stays_sealed(&mut appliance);
}

// Red when somebody waits for the helper, at the start or when it is started again.
#[test]
fn a_tpm_that_never_answers_holds_up_neither_the_start_nor_the_watch() {
    let (port, hung) = emulator::two_ports();
    let settings = format!("tpm = {{ tcti = \"swtpm:127.0.0.1:{port}\", unattended = true }}\n");
    let appliance = Appliance::start(&Options { settings, ..Options::default() });
    until("the helper has ended once, and nobody waited for it", || {
        let log = appliance.log();
        (log.contains("the TPM helper ended") && log.contains("the TPM says nothing")).then_some(())
    });
    for _ in 0..2 {
        let begun = Instant::now();
        panic_seal(&appliance);
        until("the mark stands", || mark(&appliance).exists().then_some(()));
        appliance.wait_state("sealed");
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", appliance.log());
        appliance.unseal();
        appliance.wait_ready();
    }
    drop(hung);
}

// Red when the descriptor's passphrase is used whatever stands beside the vault.
#[test]
fn what_an_operator_sealed_is_not_opened_by_a_passphrase_that_nobody_types() {
    let mut appliance = Appliance::start(&Options::default());
    assert_eq!(appliance.status()["sealed_by_operator"], false);
    appliance.json(&["seal"], b"");
    for _ in 0..2 {
        appliance.stop();
        let before = appliance.log().matches("the vault is SEALED").count();
        appliance.up();
        assert_stays_sealed(&appliance, before);
        assert_eq!(appliance.status()["sealed_by_operator"], true);
        assert!(appliance.log().contains("SR-SEALED-017"), "{}", appliance.log());
    }
    appliance.unseal();
    appliance.wait_ready();
    assert_eq!(appliance.status()["sealed_by_operator"], false);
    appliance.stop();
    appliance.up();
    appliance.wait_ready();
}
