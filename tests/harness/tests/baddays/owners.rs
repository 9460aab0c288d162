//! Data whose owner is another user than the one that reads it: system users that were removed and made again.
//!
//! Invariant: what cannot be read is not called damaged, and is as it was once its owner is right again.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use strongroom_emulator::Api;
use strongroom_tests::Appliance;
use strongroom_tests::speak::models;

/// No system user of ours.
const SOMEBODY: u32 = 61_234;

fn all_below(path: &Path) -> Vec<PathBuf> {
    let mut found = vec![path.to_owned()];
    if fs::symlink_metadata(path).expect("it is there").is_dir() {
        for entry in fs::read_dir(path).expect("root reads it") {
            found.extend(all_below(&entry.expect("it is listed").path()));
        }
    }
    found
}

// As it was without `refuse_foreign_owner` and SR-STORE-020: called damaged, exit 5, with the advice to restore a backup.
#[test]
fn data_of_another_user_is_not_called_damaged_and_serves_again_once_it_is_given_back() {
    if !Uid::effective().is_root() {
        strongroom_soak::skipped("giving files away needs root");
        return;
    }
    let (mut appliance, token) = Appliance::stocked();
    appliance.stop();
    let vault = appliance.data().join("vault");
    let owner = fs::metadata(vault.join("keyring.a")).map(|found| found.uid());
    let owner = owner.unwrap_or_else(|_| fs::metadata(&vault).expect("a vault").uid());
    let give = |paths: &[PathBuf], to| {
        for path in paths {
            chown(path, Some(to), Some(to)).expect("root gives files away");
        }
    };
    let whole = all_below(&vault);
    give(&whole, SOMEBODY);
    let refused = appliance.up_again();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    for said in ["belongs to uid 61234", "chown -R strongroom-keeper: "] {
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
    assert!(!refused.stderr.contains("backup"), "{}", refused.stderr);

    // Deeper down than is looked at before the keeper starts.
    give(&whole, owner);
    let is_store = |path: &&PathBuf| path.is_dir() && path.ends_with("store");
    let store = all_below(whole.iter().find(is_store).expect("a store"));
    give(store.get(1..).expect("files"), SOMEBODY);
    let refused = appliance.up_again();
    assert_eq!(refused.code, 1, "{}", refused.stderr);
    assert!(refused.stderr.contains("SR-STORE-020"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("restore a backup"), "{}", refused.stderr);

    give(&store, owner);
    appliance.up();
    appliance.wait_ready();
    appliance.gate().call(&models(Api::OpenAi, &token)).is(200);
}
