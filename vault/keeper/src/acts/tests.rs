//! Acts that wait for their turn while the vault is sealed and opened again.

use std::path::PathBuf;

use strongroom_policy::name::Label;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::backup::{BackupAnswer, BackupRequest, TransferId};
use strongroom_protocol::operator::witness::KeyText;
use strongroom_protocol::operator::{Answer, Request, SealWish, UnsealWith};
use strongroom_store::Choice;
use strongroom_tlog::cosignature::Witness;
use strongroom_tlog::key::Name;
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::closing::shut;
use super::{Act, Duration, Keeper, Rc, State, perform};
use crate::backup::transfer::{BACKUP_FILE, TRANSFER_DIRECTORY};
use crate::journal::Manner;
use crate::keeper::Settings;
use crate::slots::scratch::Scratch;
use crate::tpm::Demand;

fn passphrase() -> SecretBytes {
    SecretBytes::copy_from(b"correct horse battery staple")
}

fn user(name: &str) -> Request {
    Request::UserCreate(Label::parse(name).unwrap())
}

/// A keeper over a new vault that is open.
async fn keeper(scratch: &Scratch) -> Rc<Keeper> {
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
        guarded: std::sync::Arc::default(),
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
            keeper.close("a test seals it", shut).await;
            let act = Act { keeper: &keeper, operator: 0 };
            let unseal = Request::Unseal(UnsealWith::Passphrase(passphrase()));
            assert!(matches!(act.answer(unseal).await, Ok(Answer::Unsealed)));
            drop(turn);
            let Answer::Failed(refused) = waiting.await.unwrap() else { panic!("it was done") };
            assert_eq!(refused.code, "SR-WITNESS-009");
            keeper.close("the test ends", shut).await;
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
            let closing = spawn_local(async move { closing.close("a test seals it", shut).await });
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
