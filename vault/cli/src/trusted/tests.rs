use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use strongroom_protocol::operator::Verdict;

use super::{Bound, Extent, Found, Kind, Owner, Trusted, is_ours, word};

fn trusted(bound: Bound) -> Trusted {
    let owners = vec![Owner::User(900, "keeper".to_owned())];
    Trusted { path: "/d".into(), owners, bound, extent: Extent::Itself, own_group: Some(7) }
}

/// `verdict: fix` of a path, or nothing.
fn told(bound: Bound, kind: Kind, owner: (u32, u32), mode: u32) -> String {
    let found = Found { uid: owner.0, gid: owner.1, mode, kind };
    let flaw = trusted(bound).judge(Path::new("/d"), found);
    flaw.map_or_else(String::new, |flaw| format!("{:?}: {}", flaw.verdict, flaw.fix()))
}

// Red when one of the bits, the owner or the sticky bit is not looked at.
#[test]
fn owner_and_mode_are_judged_and_the_fix_can_be_typed() {
    let (public, private, shared) =
        (Bound::AtMost(0o755), Bound::AtMost(0o700), Bound::AtMost(0o750));
    for (bound, kind, owner, mode, expected) in [
        (public, Kind::File, (900, 900), 0o644, ""),
        (public, Kind::File, (0, 0), 0o644, ""),
        (public, Kind::File, (900, 900), 0o666, "Fail: chmod 0644 /d"),
        (public, Kind::File, (900, 900), 0o664, "Fail: chmod 0644 /d"),
        (public, Kind::File, (900, 7), 0o664, ""),
        (public, Kind::File, (900, 7), 0o666, "Fail: chmod 0644 /d"),
        (public, Kind::File, (0, 0), 0o4755, "Fail: chmod 0755 /d"),
        (public, Kind::Directory, (0, 0), 0o2755, ""),
        (public, Kind::Directory, (900, 900), 0o777, "Fail: chmod 0755 /d"),
        (public, Kind::Directory, (900, 900), 0o1777, "Fail: chmod 0755 /d"),
        (public, Kind::File, (65_534, 900), 0o644, "Fail: chown keeper: /d"),
        (public, Kind::File, (1000, 900), 0o666, "Fail: chown keeper: /d && chmod 0644 /d"),
        (private, Kind::File, (900, 900), 0o600, ""),
        (private, Kind::File, (900, 900), 0o640, "Fail: chmod 0600 /d"),
        (private, Kind::File, (900, 900), 0o604, "Fail: chmod 0600 /d"),
        (private, Kind::Directory, (900, 900), 0o711, "Fail: chmod 0700 /d"),
        (shared, Kind::File, (900, 900), 0o640, ""),
        (shared, Kind::File, (900, 900), 0o644, "Fail: chmod 0640 /d"),
        (shared, Kind::File, (900, 900), 0o660, "Fail: chmod 0640 /d"),
        (shared, Kind::Other, (900, 900), 0o666, ""),
        (Bound::Leads, Kind::Directory, (0, 0), 0o755, ""),
        (Bound::Leads, Kind::Directory, (0, 0), 0o777, "Fail: chmod go-w /d"),
        (Bound::Leads, Kind::Directory, (0, 0), 0o1777, ""),
        (Bound::Leads, Kind::Directory, (0, 0), 0o775, ""),
        (Bound::Leads, Kind::Directory, (0, 50), 0o2775, "Warn: chmod g-w /d"),
        (Bound::Leads, Kind::Directory, (65_534, 0), 0o755, "Fail: chown keeper: /d"),
        (Bound::Leads, Kind::Directory, (65_534, 0), 0o1777, "Fail: chown keeper: /d"),
    ] {
        let found = told(bound, kind, owner, mode);
        assert_eq!(found, expected, "{bound:?} {kind:?} {owner:?} {mode:o}");
    }
}

#[test]
fn a_token_may_be_a_persons_and_not_a_systems_user() {
    for (uid, right) in [(0, true), (1000, true), (65_534, false), (33, false)] {
        assert_eq!(uid == 0 || Owner::AnyPerson.is(uid), right, "{uid}");
    }
}

#[test]
fn a_link_is_judged_by_what_it_names_and_is_nobodys_own() {
    let scratch = tempfile::tempdir().unwrap();
    let (file, link) = (scratch.path().join("file"), scratch.path().join("link"));
    assert_eq!(Trusted::public(&file).flaw().unwrap(), None, "not there");
    fs::write(&file, "x").unwrap();
    symlink(&file, &link).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(Trusted::public(&link).flaw().unwrap(), None);
    assert!(is_ours(&file) && !is_ours(&link) && !is_ours(&scratch.path().join("gone")));
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    let flaw = Trusted::public(&link).flaw().unwrap().expect("others can change it");
    assert_eq!(flaw.verdict, Verdict::Fail);
    assert!(flaw.fix().ends_with("/file") && flaw.why.contains("everybody can change it"));
    assert!(!is_ours(&file));
}

#[test]
fn a_fix_is_one_word_of_a_shell_for_each_path() {
    assert_eq!(word(Path::new("/var/lib/a-b.c_d")), "/var/lib/a-b.c_d");
    assert_eq!(word(Path::new("/a b")), "'/a b'");
    assert_eq!(word(Path::new("/a'$b")), r"'/a'\''$b'");
    assert_eq!(Owner::of(0), Owner::root());
}
