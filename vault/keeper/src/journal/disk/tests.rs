//! Files that are replaced, links and other things in the way, and directories that several threads make.

use std::os::unix::fs::symlink;
use std::sync::Barrier;
use std::thread;

use super::*;

#[test]
fn a_file_that_is_replaced_is_as_long_as_what_was_put_last() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("checkpoint");
    // The spare is the file of the time before the last.
    for text in [&b"a very long one"[..], b"long", b"x", b"four", b""] {
        replace(&path, text).unwrap();
        assert_eq!(fs::read(&path).unwrap(), text);
    }
    assert_eq!(cuts::take_directories(), [scratch.path(); 5]);
    assert!(cuts::take_unsynced().is_empty(), "it was answered and not synced");
    lay(&path, b"laid").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"laid");
}

// Red when a link that somebody planted moves our writes elsewhere.
#[test]
fn no_link_is_followed() {
    let scratch = tempfile::tempdir().unwrap();
    let (target, link) = (scratch.path().join("target"), scratch.path().join("name"));
    fs::write(&target, b"theirs").unwrap();
    symlink(&target, &link).unwrap();
    symlink(&target, scratch.path().join("other.new")).unwrap();
    assert!(open(&link).is_err());
    assert!(create(&link).is_err());
    assert!(lay(&link, b"ours").is_err());
    assert!(replace(&scratch.path().join("other"), b"ours").is_err());
    assert_eq!(fs::read(&target).unwrap(), b"theirs");
}

#[test]
fn a_file_is_taken_away_once_and_what_is_none_is_an_error() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("next");
    fs::write(&path, b"").unwrap();
    for _ in 0..2 {
        remove(&path).unwrap();
        assert!(!path.exists());
    }
    fs::create_dir(&path).unwrap();
    assert!(remove(&path).is_err());
}

#[test]
fn the_directories_above_a_file_are_made_durable_by_whoever_comes_first() {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path();
    make_directory_of(&root.join("tail"), root).unwrap();
    assert!(cuts::take_directories().is_empty(), "the root is there");
    make_directory_of(&root.join("tile/0/000"), root).unwrap();
    assert_eq!(cuts::take_directories(), [root.to_path_buf(), root.join("tile")]);
    make_directory_of(&root.join("tile/0/001"), root).unwrap();
    assert!(cuts::take_directories().is_empty(), "it was there");
    for turn in 0..50 {
        let (path, together) = (root.join(format!("{turn}/a/b/c/file")), Barrier::new(4));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    together.wait();
                    make_directory_of(&path, root).unwrap();
                    assert!(path.parent().unwrap().is_dir());
                });
            }
        });
    }
    fs::write(root.join("file"), b"").unwrap();
    assert!(make_directory_of(&root.join("file/a/b"), root).is_err());
}
