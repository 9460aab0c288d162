//! Acts that wait for their turn while the vault is sealed and opened again.

use strongroom_policy::name::Label;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::witness::KeyText;
use strongroom_protocol::operator::{Answer, Request, SealWish, UnsealWith};
use strongroom_store::Choice;
use strongroom_tlog::cosignature::Witness;
use strongroom_tlog::key::Name;
use tokio::task::{LocalSet, spawn_local, yield_now};

use super::closing::shut;
use super::{Act, Keeper, Rc, State, perform};
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
