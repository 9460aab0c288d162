//! What only one of the implementations does.

use strongroom_store::{RedbStore, SledStore, Store, StoreError};

use crate::{key, put, value};

#[test]
fn in_sled_every_acknowledgement_follows_an_fsync_of_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let store = SledStore::create(&scratch.path().join("store")).unwrap();
    assert_eq!((store.commits(), store.fsyncs()), (0, 1));
    for round in 1..=20_u64 {
        store.commit(put("a", &round.to_string())).unwrap();
        assert_eq!((store.commits(), store.fsyncs()), (round, round + 1));
    }
    let conflict = store.commit(put("a", "x").expect(key("a"), None));
    assert!(matches!(conflict, Err(StoreError::Conflict)));
    assert_eq!((store.commits(), store.fsyncs()), (20, 21));
}

#[test]
fn in_redb_every_acknowledgement_follows_a_sync_of_its_own() {
    let scratch = tempfile::tempdir().unwrap();
    let store = RedbStore::create(&scratch.path().join("store")).unwrap();
    let made = store.fsyncs();
    for round in 1..=20_u64 {
        store.commit(put("a", &round.to_string())).unwrap();
        assert_eq!((store.commits(), store.fsyncs()), (round, made + round));
    }
    let conflict = store.commit(put("a", "x").expect(key("a"), None));
    assert!(matches!(conflict, Err(StoreError::Conflict)));
    assert_eq!((store.commits(), store.fsyncs()), (20, made + 20));
    assert_eq!(store.get(&key("a")).unwrap(), Some(value("20")));
}

#[test]
fn an_unfinished_snapshot_does_not_block_the_store_and_an_empty_published_one_does() {
    let scratch = tempfile::tempdir().unwrap();
    let dir = scratch.path().join("store");
    let store = SledStore::create(&dir).unwrap();
    store.commit(put("a", "1")).unwrap();
    drop(store);
    let unfinished = dir.join("snap.FFFFFFFFFFFFFFF0.generating");
    std::fs::write(&unfinished, b"").unwrap();
    let store = SledStore::open(&dir).unwrap();
    assert_eq!(store.get(&key("a")).unwrap(), Some(value("1")));
    assert!(!unfinished.exists());
    drop(store);
    let empty = dir.join("snap.FFFFFFFFFFFFFFF0");
    std::fs::write(&empty, b"").unwrap();
    assert!(matches!(SledStore::open(&dir), Err(StoreError::Corrupt)));
    assert!(empty.exists());
}
