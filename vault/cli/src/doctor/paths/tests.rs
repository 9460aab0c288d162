use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::unistd::{Uid, chown};
use strongroom_protocol::operator::{Check, Verdict};

use super::look;
use crate::places::{Install, Places};
use crate::settings::Settings;
use crate::trusted::table::{People, table};

/// An install as it is made, without processes; one user for all.
fn install(data: &Path) -> Places {
    let places = Places { install: Install::System, data: data.to_owned(), run: data.join("run") };
    for (directory, mode) in [
        (places.data.clone(), 0o755),
        (places.tls(), 0o755),
        (places.examples(), 0o755),
        (places.vault(), 0o700),
        (places.journal(), 0o700),
        (data.join("programs"), 0o755),
        (data.join("own"), 0o755),
    ] {
        fs::create_dir_all(&directory).unwrap();
        set(&directory, mode);
    }
    for (file, mode) in [
        ("strongroom.toml", 0o644),
        ("vault.pub", 0o644),
        ("audit.pub", 0o644),
        ("tls/cert.pem", 0o644),
        ("tls/ca.pem", 0o644),
        ("tls/key.pem", 0o600),
        ("env.sh", 0o644),
        ("examples/call.sh", 0o755),
        ("token", 0o600),
        ("vault/keyring", 0o600),
        ("vault/journal/tail", 0o600),
        ("programs/strongroom-keeper", 0o755),
        ("own/key.pem", 0o640),
        ("own/roots.pem", 0o644),
        ("own/audit.json", 0o640),
    ] {
        fs::write(data.join(file), "x").unwrap();
        set(&data.join(file), mode);
    }
    places
}

fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn looked(places: &Places) -> Vec<Check> {
    let own = |file: &str| places.data.join("own").join(file).display().to_string();
    let settings = format!(
        "accept_missing = [\"uids\"]\nextra_roots = [{:?}]\n[tls]\ncert = {:?}\nkey = {:?}\n\
         [[journal.sink]]\nkind = \"ocsf\"\npath = {:?}\n",
        own("roots.pem"),
        own("roots.pem"),
        own("key.pem"),
        own("audit.json"),
    );
    let settings = Settings::parse(&settings).unwrap();
    let mut people = People::find(places.install, Some(&settings));
    if !Uid::effective().is_root() {
        people = People::find(Install::Personal, Some(&settings));
    }
    look(&table(places, Some(&settings), &[places.data.join("programs")], &people))
}

// Each was passed over in silence once. Red when its row is taken out of the table.
#[test]
fn what_others_can_change_or_read_fails_with_a_fix_that_mends_it() {
    let scratch = tempfile::tempdir().unwrap();
    let places = install(&scratch.path().join("d"));
    let sound = looked(&places);
    assert!(sound.iter().all(|check| check.verdict == Verdict::Ok), "{sound:?}");
    for (path, mode) in [
        ("", 0o777),
        ("strongroom.toml", 0o666),
        ("strongroom.toml", 0o664),
        ("tls", 0o777),
        ("tls/cert.pem", 0o666),
        ("tls/ca.pem", 0o666),
        ("tls/key.pem", 0o644),
        ("vault.pub", 0o666),
        ("audit.pub", 0o666),
        ("env.sh", 0o777),
        ("examples", 0o777),
        ("examples/call.sh", 0o777),
        ("token", 0o644),
        ("vault", 0o755),
        ("vault/keyring", 0o666),
        ("vault/journal", 0o755),
        ("vault/journal/tail", 0o604),
        ("programs", 0o777),
        ("programs/strongroom-keeper", 0o777),
        ("own", 0o777),
        ("own/key.pem", 0o644),
        ("own/roots.pem", 0o666),
        ("own/audit.json", 0o666),
    ] {
        let broken = places.data.join(path);
        let before = fs::metadata(&broken).unwrap().permissions().mode();
        set(&broken, mode);
        let found = looked(&places);
        let failed: Vec<_> = found.iter().filter(|check| check.verdict == Verdict::Fail).collect();
        assert!(!failed.is_empty(), "{path} {mode:o} passes: {found:?}");
        mend(&failed);
        let after = looked(&places);
        assert!(after.iter().all(|check| check.verdict == Verdict::Ok), "{path}: {after:?}");
        set(&broken, before);
    }
}

fn mend(failed: &[&Check]) {
    for check in failed {
        let fix = check.fix.as_deref().unwrap();
        let ran = std::process::Command::new("/bin/sh").args(["-c", fix]).status().unwrap();
        assert!(ran.success(), "{fix}");
    }
}

#[test]
fn another_owner_fails_and_chown_mends_it() {
    if !Uid::effective().is_root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let places = install(&scratch.path().join("d"));
    for path in ["", "strongroom.toml", "token", "tls", "vault", "vault/journal/tail", "own"] {
        let taken = places.data.join(path);
        chown(&taken, Some(Uid::from_raw(65_534)), None).unwrap();
        let found = looked(&places);
        let failed: Vec<_> = found.iter().filter(|check| check.verdict == Verdict::Fail).collect();
        assert!(!failed.is_empty(), "{path}: {found:?}");
        assert!(failed.iter().all(|check| check.detail.contains("(uid 65534), not to")));
        mend(&failed);
        assert!(looked(&places).iter().all(|check| check.verdict == Verdict::Ok), "{path}");
    }
}

// Red when only the first file below the vault is mended.
#[test]
fn many_below_the_vault_are_one_row_and_one_fix() {
    let scratch = tempfile::tempdir().unwrap();
    let places = install(&scratch.path().join("d"));
    for file in ["vault/keyring", "vault/journal", "vault/journal/tail"] {
        set(&places.data.join(file), 0o777);
    }
    let found = looked(&places);
    let failed: Vec<_> = found.iter().filter(|check| check.verdict == Verdict::Fail).collect();
    assert_eq!(failed.len(), 1, "{found:?}");
    assert!(failed[0].detail.starts_with("3 entries below ") && failed[0].name == "paths");
    mend(&failed);
    assert!(looked(&places).iter().all(|check| check.verdict == Verdict::Ok));
}
