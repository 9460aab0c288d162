//! Acts that wait for their turn while the vault is sealed and opened again, and a disk that stalls meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use strongroom_policy::name::Label;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::backup::{
    BackupAnswer, BackupRequest, DoneAgain, Restored, TransferId,
};
use strongroom_protocol::operator::witness::KeyText;
use strongroom_protocol::operator::{Answer, Request, SealWish, UnsealWith};
use strongroom_store::Choice;
use strongroom_tlog::cosignature::Witness;
use strongroom_tlog::key::Name;
use tokio::task::{LocalSet, spawn_local, yield_now};
use tokio::time::timeout;

use super::{Act, Keeper, Rc, State, perform};
use crate::backup::transfer::{BACKUP_FILE, TRANSFER_DIRECTORY};
use crate::clock;
use crate::journal::Manner;
use crate::keeper::{After, Settings};
use crate::seal_mark;
use crate::slots::scratch::Scratch;
use crate::tpm::Demand;

fn passphrase() -> SecretBytes {
    SecretBytes::copy_from(b"correct horse battery staple")
}

fn user(name: &str) -> Request {
    Request::UserCreate(Label::parse(name).unwrap())
}

/// A keeper over a new vault that is open.
pub(super) async fn keeper(scratch: &Scratch) -> Rc<Keeper> {
    let data = scratch.path("data");
    std::fs::create_dir_all(data.join("journal")).unwrap();
    let settings = Settings {
        data,
        store: Choice::Sled,
        public_url: "https://localhost".to_owned(),
        standing: Vec::new(),
        journal: Manner::default(),
        tpm: None,
        tpm_demand: Demand::None,
        guarded: Arc::default(),
    };
    let keeper = Rc::new(Keeper::new(settings, State::Uninitialised(None)));
    let made = perform(&keeper, 0, Request::Init(SealWish::Passphrase(passphrase()))).await;
    assert!(matches!(made, Answer::Initialised(_)), "{made:?}");
    keeper
}

// Red when the gate is asked before the turn only.
#[tokio::test]
async fn an_act_that_waits_while_the_vault_is_opened_again_is_asked_for_the_witness_then() {
    let scratch = Scratch::make();
    let within = LocalSet::new();
    within
        .run_until(async {
            let keeper = keeper(&scratch).await;
            let witness = Witness::from_seed(Name::parse("usb").unwrap(), &[9; 32]).unwrap();
            let key = KeyText::new(witness.key().vkey()).unwrap();
            let add = Request::WitnessAdd { key, required: true };
            assert!(matches!(perform(&keeper, 0, add).await, Answer::Done));
            assert!(matches!(perform(&keeper, 0, user("ann")).await, Answer::User(_)));
            let turn = keeper.acts.lock().await;
            let waiting = Rc::clone(&keeper);
            let waiting = spawn_local(async move { perform(&waiting, 0, user("mallory")).await });
            yield_now().await;
            keeper.close("a test seals it", After::Sealed).await;
            let act = Act::of(&keeper, 0);
            let unseal = Request::Unseal(UnsealWith::Passphrase(passphrase()));
            assert!(matches!(act.answer(unseal).await, Ok(Answer::Unsealed)));
            drop(turn);
            let Answer::Failed(refused) = waiting.await.unwrap() else { panic!("it was done") };
            assert_eq!(refused.code, "SR-WITNESS-009");
            keeper.close("the test ends", After::Sealed).await;
        })
        .await;
}

// Red when the gate is asked before the turn only.
#[tokio::test]
async fn an_act_that_waits_while_the_vault_is_restored_is_asked_for_the_confirmation_then() {
    let scratch = Scratch::make();
    let within = LocalSet::new();
    within
        .run_until(async {
            let keeper = keeper(&scratch).await;
            let turn = keeper.acts.lock().await;
            let waiting = Rc::clone(&keeper);
            let waiting = spawn_local(async move { perform(&waiting, 0, user("mallory")).await });
            yield_now().await;
            keeper.with_vault(|vault| vault.tables.restored = Some(restored())).unwrap();
            drop(turn);
            let Answer::Failed(refused) = waiting.await.unwrap() else { panic!("it was done") };
            assert_eq!(refused.code, "SR-BACKUP-011");
            keeper.close("the test ends", After::Sealed).await;
        })
        .await;
}

fn restored() -> Restored {
    Restored {
        commit: 1,
        backup: clock::now(),
        restored: clock::now(),
        journal: None,
        sleeping_tokens: 0,
        done_again: DoneAgain::default(),
        left_open: Vec::new(),
        left_open_count: 0,
    }
}

fn mark(keeper: &Keeper) -> bool {
    seal_mark::stands(&keeper.settings.data)
}

// Red when only an open or a sealed vault is marked.
#[tokio::test]
async fn a_vault_that_a_fault_closed_is_marked_when_an_operator_seals_it() {
    let scratch = Scratch::make();
    let within = LocalSet::new();
    within
        .run_until(async {
            let keeper = keeper(&scratch).await;
            let why = super::fault("SR-STORE-001", "it broke", "mend it");
            keeper.close("a test breaks it", After::Faulty(why)).await;
            assert!(!mark(&keeper));
            let sealed = perform(&keeper, 0, Request::Seal).await;
            assert!(matches!(sealed, Answer::Done), "{sealed:?}");
            assert!(mark(&keeper) && matches!(&*keeper.state.borrow(), State::Faulty(_)));
            let asked = perform(&keeper, 0, Request::UnsealUnattended).await;
            assert!(matches!(&asked, Answer::Failed(fault) if fault.code == "SR-SEALED-017"));
            let unseal = Request::Unseal(UnsealWith::Passphrase(passphrase()));
            assert!(matches!(perform(&keeper, 0, unseal).await, Answer::Unsealed));
            assert!(!mark(&keeper));
            keeper.close("the test ends", After::Sealed).await;
        })
        .await;
}

// Red when the mark is waited for without a limit, at the seal or at the opening.
#[tokio::test]
async fn a_disk_that_stalls_holds_up_no_seal_and_no_opening() {
    let scratch = Scratch::make();
    let within = LocalSet::new();
    within
        .run_until(async {
            let keeper = keeper(&scratch).await;
            let disk = Arc::clone(&keeper.sealed_by_operator);
            let (release, released) = std::sync::mpsc::channel::<()>();
            let (stalls, stalled) = std::sync::mpsc::channel();
            let stall = std::thread::spawn(move || {
                let _turn = disk.stall();
                stalls.send(()).unwrap();
                // At the longest as long as somebody waits for a test.
                let held = released.recv_timeout(Duration::from_mins(1));
                assert!(held.is_ok(), "the test forgot it");
            });
            stalled.recv().unwrap();
            let told = perform(&keeper, 0, Request::Seal).await;
            assert!(matches!(&told, Answer::Failed(fault) if fault.code == "SR-SEALED-016"));
            assert!(matches!(&*keeper.state.borrow(), State::Sealed(_)));
            let unseal = Request::Unseal(UnsealWith::Passphrase(passphrase()));
            assert!(matches!(perform(&keeper, 0, unseal).await, Answer::Unsealed));
            // Sealed once more while all of that still hangs: the last word counts.
            perform(&keeper, 0, Request::Seal).await;
            assert!(release.send(()).is_ok(), "the disk answered before it was asked to");
            stall.join().unwrap();
            keeper.sealed_by_operator.write(&keeper.settings.data).unwrap();
            assert!(mark(&keeper));
        })
        .await;
}

// Red when the seal's file is read on the deciding thread, or before the keys are dropped.
#[tokio::test]
async fn a_seal_file_that_cannot_be_read_holds_up_nobody_and_no_key() {
    let scratch = Scratch::make();
    let within = LocalSet::new();
    within
        .run_until(async {
            let keeper = keeper(&scratch).await;
            let keys = keeper.with_vault(|vault| Arc::clone(&vault.unsealed)).unwrap();
            // A pipe: whoever reads it waits for bytes.
            let seal = scratch.path("data").join("vault/seal");
            std::fs::remove_file(&seal).unwrap();
            nix::unistd::mkfifo(&seal, nix::sys::stat::Mode::S_IRWXU).unwrap();
            let (seen, see) = std::sync::mpsc::channel();
            let disk = std::thread::spawn(move || {
                let seen = see.recv_timeout(Duration::from_secs(20)).is_ok();
                std::fs::write(&seal, vec![0; 64 * 1024]).unwrap();
                seen
            });
            let closing = Rc::clone(&keeper);
            let closing =
                spawn_local(async move { closing.close("a test seals it", After::Sealed).await });
            let wiped = async {
                while Arc::strong_count(&keys) > 1 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            timeout(Duration::from_secs(15), wiped).await.expect("the keys are dropped");
            assert!(matches!(&*keeper.state.borrow(), State::Opening));
            seen.send(()).unwrap();
            closing.await.unwrap();
            assert!(disk.join().unwrap(), "the thread that decides waited for the disk");
            assert!(matches!(&*keeper.state.borrow(), State::Faulty(_)));
        })
        .await;
}

/// Begins to bring a backup whose file is a pipe: who reads it waits until somebody writes.
async fn bring_a_pipe(keeper: &Rc<Keeper>) -> (TransferId, PathBuf) {
    let begun = perform(keeper, 0, Request::Backup(BackupRequest::Bring)).await;
    let Answer::Backup(BackupAnswer::Bring(id)) = begun else { panic!("{begun:?}") };
    let pipe = keeper.settings.data.join(TRANSFER_DIRECTORY).join(BACKUP_FILE);
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    (id, pipe)
}

// Red when `close` does not wait for `copies`, or `prove` does not count itself.
#[tokio::test]
async fn a_seal_answers_only_when_a_proof_has_dropped_its_copy_of_the_keys() {
    let scratch = Scratch::make();
    let within = LocalSet::new();
    within
        .run_until(async {
            let keeper = keeper(&scratch).await;
            let (id, pipe) = bring_a_pipe(&keeper).await;
            let (proving, closing) = (Rc::clone(&keeper), Rc::clone(&keeper));
            let verify = Request::Backup(BackupRequest::Verify(id));
            let proving = spawn_local(async move { perform(&proving, 0, verify).await });
            yield_now().await;
            let closing =
                spawn_local(async move { closing.close("a test seals it", After::Sealed).await });
            // Whatever the seal waits for besides has ended long before.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let early = closing.is_finished();
            // Its reader finds no backup in it, and ends.
            tokio::task::spawn_blocking(move || std::fs::write(pipe, b"none"))
                .await
                .unwrap()
                .unwrap();
            closing.await.unwrap();
            assert!(matches!(*keeper.state.borrow(), State::Sealed(_)));
            assert!(matches!(proving.await.unwrap(), Answer::Failed(_)));
            assert!(!early, "a thread held the keyring's key");
        })
        .await;
}
