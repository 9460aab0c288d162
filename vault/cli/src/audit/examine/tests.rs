//! A thief with the disk, with the tools, and with the stolen signing key, against one witnessed checkpoint.

use std::fs;
use std::io::Write;
use std::path::Path;

use strongroom_tlog::bundle::push_entry;
use strongroom_tlog::cosignature::{Timestamp, Witness, WitnessKey};
use strongroom_tlog::key::Name;
use strongroom_tlog::{Checkpoint, Edge, Note, Signer, Verifier, leaf_hash};
use tempfile::TempDir;

use super::super::directory::Directory;
use super::super::finding::{Finding, Mend};
use super::{Report, Witnessed, examine, witnessed};
use crate::progress::Progress;

const LOG: &str = "strongroom/0011";
/// Entries of the sound journal, of which the checkpoint covers all but a few.
const ENTRIES: u64 = 700;
const COVERED: u64 = 690;
/// What the witness saw.
const SEEN: u64 = 600;

fn signer(seed: u8) -> Signer {
    Signer::from_seed(Name::parse(LOG).unwrap(), &[seed; 32]).unwrap()
}

fn log() -> Verifier {
    signer(1).verifier()
}

fn entry(number: u64, text: &str) -> Vec<u8> {
    format!("{{\"n\":{number},\"what\":\"{text}\",\"chain\":\"00\"}}\n").into_bytes()
}

fn sound(count: u64) -> Vec<Vec<u8>> {
    (1..=count).map(|number| entry(number, "admit")).collect()
}

fn head(entries: &[Vec<u8>], size: u64) -> Checkpoint {
    let mut edge = Edge::empty();
    for entry in entries.iter().take(usize::try_from(size).unwrap()) {
        drop(edge.push(leaf_hash(entry)).unwrap());
    }
    Checkpoint { origin: Name::parse(LOG).unwrap().into(), size: edge.size(), root: edge.root() }
}

/// What is written of a history.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    Entries,
    EntriesAndTiles,
}

fn put(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// Lays a history out as the keeper does.
fn lay(place: &Path, entries: &[Vec<u8>], what: Layout) {
    let mut edge = Edge::empty();
    drop(fs::remove_dir_all(place.join("tile/entries")));
    for (index, bundle) in (0_u64..).zip(entries.chunks(256)) {
        let mut bytes = Vec::new();
        for entry in bundle {
            push_entry(&mut bytes, entry).unwrap();
            for full in edge.push(leaf_hash(entry)).unwrap() {
                if what == Layout::EntriesAndTiles {
                    put(&place.join(full.tile.path()), &full.bytes());
                }
            }
        }
        if bundle.len() == 256 {
            put(&place.join(format!("tile/entries/{index:03}")), &bytes);
        } else {
            put(&place.join("tail"), &bytes);
        }
    }
}

fn checkpoint(place: &Path, head: &Checkpoint, signer: &Signer) {
    put(&place.join("checkpoint"), head.sign(signer).unwrap().encode().as_bytes());
}

/// The journal as it was when it was copied.
fn journal() -> TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let entries = sound(ENTRIES);
    lay(scratch.path(), &entries, Layout::EntriesAndTiles);
    checkpoint(scratch.path(), &head(&entries, COVERED), &signer(1));
    scratch
}

/// What the witness keeps of it.
fn seen() -> (Vec<u8>, WitnessKey) {
    let witness = Witness::from_seed(Name::parse("usb").unwrap(), &[9; 32]).unwrap();
    let head = head(&sound(SEEN), SEEN);
    let mut note = head.sign(&signer(1)).unwrap();
    note.push(witness.cosign(&head, Timestamp::new(1_700_000_000).unwrap()));
    (note.encode().into_bytes(), witness.key())
}

fn look(place: &Path) -> Report {
    let (bytes, key) = seen();
    let seen = witnessed(("usb/checkpoint", &bytes), &log(), &[key]).unwrap();
    look_with(place, &[seen])
}

fn look_with(place: &Path, seen: &[Witnessed]) -> Report {
    let directory = Directory::open(place, &[]).unwrap();
    examine(&directory, &log(), seen, &mut Progress::new("entries", 0)).unwrap()
}

fn gravest(place: &Path) -> Finding {
    look(place).findings.into_iter().next().expect("it must be found")
}

#[test]
fn a_sound_journal_holds_and_its_uncovered_entries_are_counted() {
    let journal = journal();
    let report = look(journal.path());
    assert_eq!(report.findings, []);
    assert_eq!((report.entries, report.uncovered(), report.archived), (ENTRIES, 10, 0));
    assert_eq!(report.continued.len(), 1);
    assert_eq!(report.recomputed, report.head.map(|head| head.root));
    // A write that was cut off is said to be one, and nothing worse.
    let mut tail = fs::OpenOptions::new().append(true).open(journal.path().join("tail")).unwrap();
    tail.write_all(&[0, 90, b'{']).unwrap();
    let report = look(journal.path());
    assert_eq!((report.findings, report.torn_bytes, report.entries), (vec![], 3, ENTRIES));
}

#[test]
fn an_empty_journal_and_one_without_checkpoint_are_told_apart() {
    let scratch = tempfile::tempdir().unwrap();
    let missing = look_with(scratch.path(), &[]);
    assert_eq!(missing.findings[0].exit(), 11);
    checkpoint(scratch.path(), &head(&[], 0), &signer(1));
    assert_eq!(look_with(scratch.path(), &[]).findings, []);
}

#[test]
fn an_archived_beginning_is_none_that_was_taken_away() {
    let scratch = tempfile::tempdir().unwrap();
    let mut entries = sound(ENTRIES);
    lay(scratch.path(), &entries, Layout::EntriesAndTiles);
    checkpoint(scratch.path(), &head(&entries, COVERED), &signer(1));
    let bundle = scratch.path().join("tile/entries/000");
    let archive = tempfile::tempdir().unwrap();
    put(&archive.path().join("tile/entries/000"), &fs::read(&bundle).unwrap());
    fs::remove_file(&bundle).unwrap();
    let Finding::Missing { what } = gravest(scratch.path()) else { panic!("not missing") };
    assert_eq!(what, "tile/entries/000, entries 1 to 256, is");

    let told = b"{\"n\":601,\"what\":\"archive\",\"first\":257,\"chain\":\"00\"}\n";
    entries[600] = told.to_vec();
    lay(scratch.path(), &entries, Layout::EntriesAndTiles);
    fs::remove_file(&bundle).unwrap();
    checkpoint(scratch.path(), &head(&entries, COVERED), &signer(1));
    let report = look(scratch.path());
    assert_eq!((report.findings, report.archived), (vec![], 256));
    let directory = Directory::open(scratch.path(), &[archive.path().to_owned()]).unwrap();
    let report = examine(&directory, &log(), &[], &mut Progress::new("entries", 0)).unwrap();
    assert_eq!((report.findings, report.archived), (vec![], 0));
    // Another bundle in the place of the archived one is found like anything else.
    put(
        &archive.path().join("tile/entries/000"),
        &fs::read(scratch.path().join("tile/entries/001")).unwrap(),
    );
    let report = examine(&directory, &log(), &[], &mut Progress::new("entries", 0)).unwrap();
    assert_eq!(report.findings[0].exit(), 11);
}

#[test]
fn a_changed_tile_is_told_from_a_changed_entry() {
    for (tile, entry) in [("tile/0/000", false), ("tile/0/001", false), ("tile/entries/001", true)]
    {
        let journal = journal();
        let path = journal.path().join(tile);
        let mut bytes = fs::read(&path).unwrap();
        bytes[100] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let found = gravest(journal.path());
        assert_eq!(found.exit(), 10, "{found:?}");
        assert_eq!(matches!(found, Finding::Changed { .. }), entry, "{found:?}");
    }
}

// Red when a tile that is too long stops the reading, and when it is not said what mends a tile.
#[test]
fn a_tile_that_is_too_long_is_a_finding_and_what_mends_a_tile_is_said() {
    for name in ["tile/0/000", "tile/0/001"] {
        let journal = journal();
        let path = journal.path().join(name);
        fs::write(&path, [fs::read(&path).unwrap(), vec![7; 40]].concat()).unwrap();
        let report = look(journal.path());
        let wrong = Finding::Tile { file: name.to_owned(), mend: Mend::Opening };
        assert_eq!(report.findings, [wrong]);
        assert_eq!(report.recomputed, report.head.map(|head| head.root));
        let failure = report.findings[0].failure();
        assert_eq!(failure.exit, 10);
        assert!(failure.next.unwrap().contains("the next unsealing makes it again"));
        fs::remove_file(&path).unwrap();
        assert_eq!(look(journal.path()).findings, []);
    }
    // Where the entries are archived nothing here makes it again.
    let (journal, archive) = (journal(), tempfile::tempdir().unwrap());
    let bundle = journal.path().join("tile/entries/000");
    put(&archive.path().join("tile/entries/000"), &fs::read(&bundle).unwrap());
    fs::remove_file(&bundle).unwrap();
    let tile = journal.path().join("tile/0/000");
    let mut bytes = fs::read(&tile).unwrap();
    bytes[100] ^= 1;
    fs::write(&tile, bytes).unwrap();
    let directory = Directory::open(journal.path(), &[archive.path().to_owned()]).unwrap();
    let report = examine(&directory, &log(), &[], &mut Progress::new("entries", 0)).unwrap();
    let wrong = Finding::Tile { file: "tile/0/000".to_owned(), mend: Mend::Archive };
    assert_eq!(report.findings, [wrong]);
    assert!(report.findings[0].failure().next.unwrap().contains("archive's own copy"));
}

// Red when a missing tile is called tampering though the signed root holds; or when it is not, though the root does not.
#[test]
fn a_tile_that_a_power_cut_took_is_told_and_is_wrong_only_where_the_root_does_not_hold() {
    let cuts: [fn(&Path); 4] = [
        |tile| fs::remove_file(tile).unwrap(),
        |tile| fs::write(tile, []).unwrap(),
        |tile| fs::write(tile, &fs::read(tile).unwrap()[..5000]).unwrap(),
        |tile| fs::write(tile, [0; 8192]).unwrap(),
    ];
    for cut in cuts {
        let journal = journal();
        cut(&journal.path().join("tile/0/001"));
        let report = look_with(journal.path(), &[]);
        assert_eq!((report.lacking_tiles, report.findings.len()), (1, 0), "{:?}", report.findings);
        assert!(
            super::super::verify::lines(&report, &log())
                .iter()
                .any(|line| line.contains("lacking"))
        );
        let bundle = journal.path().join("tile/entries/001");
        let mut bytes = fs::read(&bundle).unwrap();
        let at = bytes.len() - 10;
        bytes[at] ^= 1;
        fs::write(&bundle, bytes).unwrap();
        assert_eq!(gravest(journal.path()).exit(), 11);
    }
}

#[test]
fn every_bit_of_the_checkpoint_counts() {
    let journal = journal();
    let path = journal.path().join("checkpoint");
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut changed = sound.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert_eq!(gravest(journal.path()).exit(), 15, "byte {at}");
    }
}

#[test]
fn a_static_copy_with_partial_tiles_holds_and_is_judged_by_them() {
    let journal = journal();
    let entries = sound(COVERED);
    fs::remove_file(journal.path().join("tail")).unwrap();
    let mut edge = Edge::empty();
    for entry in &entries {
        drop(edge.push(leaf_hash(entry)).unwrap());
    }
    for (tile, hashes) in edge.partials() {
        let bytes = strongroom_tlog::tile::encode_hashes(hashes);
        put(&journal.path().join(tile.path()), &bytes);
    }
    let mut last = Vec::new();
    for entry in &entries[512..] {
        push_entry(&mut last, entry).unwrap();
    }
    let path = journal.path().join("tile/entries/002.p/178");
    put(&path, &last);
    let report = look(journal.path());
    assert_eq!((report.findings, report.entries), (vec![], COVERED));
    last[10] ^= 1;
    put(&path, &last);
    assert!(
        look(journal.path())
            .findings
            .iter()
            .any(|found| { matches!(found, Finding::Changed { entry: 513, .. }) })
    );
}

#[test]
fn a_witnessed_checkpoint_is_believed_of_its_signers_only() {
    let (bytes, key) = seen();
    let other = Witness::from_seed(Name::parse("usb").unwrap(), &[8; 32]).unwrap().key();
    assert!(witnessed(("x", &bytes), &log(), &[]).is_ok());
    assert!(witnessed(("x", &bytes), &log(), &[other.clone(), key.clone()]).is_ok());
    assert_eq!(witnessed(("x", &bytes), &log(), &[other]).unwrap_err().code, "SR-AUDIT-002");
    assert!(witnessed(("x", &bytes), &signer(2).verifier(), std::slice::from_ref(&key)).is_err());
    let mut note = Note::parse(&bytes).unwrap();
    let text = note.encode().replace("\n600\n", "\n601\n");
    note = Note::parse(text.as_bytes()).unwrap();
    assert!(witnessed(("x", note.encode().as_bytes()), &log(), &[key]).is_err());
}

/// What a thief does to the history.
#[derive(Debug, Clone, Copy)]
enum Attack {
    Edit,
    Delete,
    Reorder,
    Truncate,
    Fork,
    /// Whatever else is done, with everything recomputed and signed by the stolen key.
    Resign,
}

const ATTACKS: [Attack; 6] =
    [Attack::Edit, Attack::Delete, Attack::Reorder, Attack::Truncate, Attack::Fork, Attack::Resign];
const ROUNDS: u64 = 60;

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn throw(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

fn at(number: u64) -> usize {
    usize::try_from(number - 1).unwrap()
}

/// Does it below what was witnessed; answers what an auditor should say.
fn attack(place: &Path, attack: Attack, dice: &mut Dice) -> Vec<u8> {
    let mut entries = sound(ENTRIES);
    let victim = 1 + dice.throw(SEEN);
    match attack {
        Attack::Edit => {
            entries[at(victim)] = entry(victim, "close");
            let thorough = dice.throw(2) == 0;
            lay(place, &entries, if thorough { Layout::EntriesAndTiles } else { Layout::Entries });
            vec![10]
        }
        Attack::Delete => {
            if dice.throw(3) == 0 {
                let bundle = (victim - 1) / 256 % 2;
                fs::remove_file(place.join(format!("tile/entries/{bundle:03}"))).unwrap();
            } else {
                entries.remove(at(victim));
                lay(place, &entries, Layout::Entries);
            }
            vec![11]
        }
        Attack::Reorder => {
            let other = 1 + (victim + dice.throw(SEEN - 1)) % SEEN;
            entries.swap(at(victim), at(other));
            lay(place, &entries, Layout::Entries);
            vec![12]
        }
        Attack::Truncate => {
            // An older checkpoint that the log really signed, and all that it covers.
            let size = dice.throw(SEEN);
            lay(place, &entries[..usize::try_from(size).unwrap()], Layout::Entries);
            if size.is_multiple_of(256) {
                drop(fs::remove_file(place.join("tail")));
            }
            checkpoint(place, &head(&entries, size), &signer(1));
            vec![13]
        }
        Attack::Fork => {
            // Another life from some moment on, with another vault's time line, signed by the stolen key.
            for number in victim..=ENTRIES {
                entries[at(number)] = entry(number, "refuse");
            }
            lay(place, &entries, Layout::EntriesAndTiles);
            checkpoint(place, &head(&entries, COVERED), &signer(1));
            vec![14]
        }
        Attack::Resign => resign(place, entries, victim, dice),
    }
}

/// Everything is recomputed and renumbered, then signed: by the stolen key, or by one of the thief's.
fn resign(place: &Path, mut entries: Vec<Vec<u8>>, victim: u64, dice: &mut Dice) -> Vec<u8> {
    match dice.throw(3) {
        0 => entries[at(victim)] = entry(victim, "close"),
        1 => entries.swap(at(victim), at(1 + victim % SEEN)),
        _ => {
            entries.remove(at(victim));
        }
    }
    for (number, entry) in (1_u64..).zip(&mut entries) {
        let text = String::from_utf8(entry.clone()).unwrap();
        let rest = text.split_once(',').unwrap().1.to_owned();
        *entry = format!("{{\"n\":{number},{rest}").into_bytes();
    }
    // Entries that say nothing but their number are not changed by exchanging them.
    entries[at(victim)] = entry(victim, "exchanged");
    lay(place, &entries, Layout::EntriesAndTiles);
    let thief = dice.throw(2) == 0;
    let size = (entries.len() as u64).min(COVERED);
    checkpoint(place, &head(&entries, size), &signer(if thief { 2 } else { 1 }));
    vec![if thief { 15 } else { 14 }]
}

#[test]
fn each_attack_is_found_every_time_with_one_witnessed_checkpoint() {
    for kind in ATTACKS {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
        let mut found = 0;
        for round in 0..ROUNDS {
            let journal = journal();
            let expected = attack(journal.path(), kind, &mut dice);
            let findings = look(journal.path()).findings;
            let first = findings.first().map_or(0, Finding::exit);
            assert!(expected.contains(&first), "{kind:?} {round}: {findings:?}");
            found += u64::from(!findings.is_empty());
        }
        assert_eq!(found, ROUNDS, "{kind:?}");
        let figure = format!("{kind:?} found by the offline verifier");
        strongroom_soak::tell("journal", &figure, format!("{found} of {ROUNDS}"));
    }
}

#[test]
fn without_a_witness_a_stolen_key_rewrites_history_unseen() {
    // The limit that makes witnesses necessary, kept here so that nobody promises more.
    let journal = journal();
    let mut entries = sound(ENTRIES);
    entries[at(5)] = entry(5, "close");
    lay(journal.path(), &entries, Layout::EntriesAndTiles);
    checkpoint(journal.path(), &head(&entries, COVERED), &signer(1));
    assert_eq!(look_with(journal.path(), &[]).findings, []);
    assert_eq!(
        gravest(journal.path()),
        Finding::Forked { size: SEEN, by: "usb/checkpoint, cosigned by usb".to_owned() }
    );
}

#[test]
fn the_first_entry_that_differs_is_named() {
    let journal = journal();
    let mut entries = sound(ENTRIES);
    entries[at(300)] = entry(300, "close");
    entries[at(400)] = entry(400, "close");
    lay(journal.path(), &entries, Layout::Entries);
    let file = "tile/entries/001".to_owned();
    assert_eq!(gravest(journal.path()), Finding::Changed { entry: 300, file: file.clone() });
    let mut entries = sound(ENTRIES);
    entries.remove(at(300));
    lay(journal.path(), &entries, Layout::Entries);
    assert_eq!(gravest(journal.path()), Finding::Removed { entry: 300, file: file.clone() });
    let mut entries = sound(ENTRIES);
    entries.swap(at(300), at(17));
    lay(journal.path(), &entries, Layout::Entries);
    let moved = Finding::Moved { entry: 17, found: 300, file: "tile/entries/000".to_owned() };
    assert_eq!(gravest(journal.path()), moved);
}
