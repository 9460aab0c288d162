//! The whole directory put back as it was at many earlier moments, under a TPM that knows better.
//!
//! Invariant: a copy from before the counter last moved opens by nothing but all holders' word.

use std::path::PathBuf;

use strongroom_protocol::operator::{Answer, Exit, Request};
use strongroom_soak::{size, tell};

use crate::scene::{Scene, checkpoint, failure};
use crate::{assert_open, make_token, make_user, revoke, tokens};

/// Which moment a copy is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// While the vault was open, before a token was revoked.
    Open,
    /// After its keeper was killed.
    Killed,
    /// After an operator sealed it.
    Sealed,
}

// Red when `judge_counter` accepts a higher value, and when a revocation, an unsealing or a sealing does not move the counter.
#[test]
fn the_whole_directory_of_any_earlier_moment_is_refused_by_the_tpm() {
    let mut scene = Scene::sealed_to_the_tpm(None);
    make_user(&scene, "alice");
    let moments = size(21, 300);
    let copies: Vec<_> = (0..moments).map(|at| (at, take(&mut scene, at))).collect();
    scene.kill_keeper();
    let newest = scene.copy_data("newest");
    let (mut by_tpm, mut by_shares) = (0, 0);
    for (at, (when, copy)) in &copies {
        put_back(&mut scene, copy);
        let fault = failure(scene.unseal_by_tpm(None));
        assert_eq!(
            (fault.code.as_str(), fault.exit),
            ("SR-TPM-005", Exit::RolledBack),
            "{at} {when:?}"
        );
        by_tpm += 1;
        let fault = failure(scene.unseal_by_shares([None; 2]));
        assert_eq!(
            (fault.code.as_str(), fault.exit),
            ("SR-TPM-011", Exit::RolledBack),
            "{at} {when:?}"
        );
        assert!(!checkpoint(&fault).is_empty());
        by_shares += 1;
    }
    put_back(&mut scene, &newest);
    assert_open(&scene.unseal_by_tpm(None));
    assert_eq!(tokens(&scene), 0, "what was revoked stays revoked");
    tell("rollback-tpm", "earlier whole directories put back", moments);
    tell("rollback-tpm", "refused by the TPM, exit 6", by_tpm);
    tell("rollback-tpm", "refused by shares without a word of their holders, exit 6", by_shares);
}

// Red when the settings' word is not asked, or is asked for a new vault too.
#[test]
fn a_copy_from_before_the_seal_is_refused_where_the_settings_say_that_there_is_one() {
    let mut scene = Scene::found();
    let before = scene.copy_data("before");
    make_user(&scene, "alice");
    make_token(&scene, "stolen");
    assert!(matches!(scene.seal_to_tpm(None), Answer::Done));
    scene.kill_keeper();
    let newest = scene.copy_data("newest");
    // The stated limit: without a word of the settings nothing knows of a TPM.
    put_back(&mut scene, &before);
    assert_open(&scene.unseal_by_shares([None; 2]));
    scene.required = true;
    put_back(&mut scene, &before);
    let fault = failure(scene.unseal_by_shares([None; 2]));
    assert_eq!((fault.code.as_str(), fault.exit), ("SR-TPM-011", Exit::RolledBack));
    assert_eq!(failure(scene.unseal_by_tpm(None)).code, "SR-TPM-012");
    let shown = checkpoint(&fault);
    assert_open(&scene.unseal_by_shares([Some(&shown); 2]));
    put_back(&mut scene, &newest);
    assert_open(&scene.unseal_by_tpm(None));
    // Without its seal it is refused as well, until people say that this is what they want.
    assert!(matches!(scene.ask(&Request::TpmRemove), Answer::Done));
    scene.restart_keeper();
    assert_eq!(failure(scene.unseal_by_shares([None; 2])).code, "SR-TPM-011");
}

fn put_back(scene: &mut Scene, copy: &std::path::Path) {
    scene.kill_keeper();
    scene.put_back(copy, "");
    scene.start_keeper();
}

/// Copies the directory, and lets something happen after which that copy is an old one.
fn take(scene: &mut Scene, at: usize) -> (When, PathBuf) {
    let (name, token) = (format!("moment-{at}"), format!("token-{at}"));
    make_token(scene, &token);
    match at % 3 {
        0 => {
            let copy = scene.copy_data(&name);
            revoke_at_last(scene, &token);
            (When::Open, copy)
        }
        1 => {
            scene.kill_keeper();
            let copy = scene.copy_data(&name);
            scene.start_keeper();
            assert_open(&scene.unseal_by_tpm(None));
            revoke_at_last(scene, &token);
            (When::Killed, copy)
        }
        _ => {
            assert!(matches!(scene.ask(&Request::Seal), Answer::Done));
            let copy = scene.copy_data(&name);
            assert_open(&scene.unseal_by_shares([None; 2]));
            revoke_at_last(scene, &token);
            (When::Sealed, copy)
        }
    }
}

fn revoke_at_last(scene: &Scene, token: &str) {
    assert!(matches!(scene.ask(&revoke(token)), Answer::Done));
}
