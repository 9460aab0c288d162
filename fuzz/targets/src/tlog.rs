//! The journal as a transparency log, as an auditor or a witness gets it from somebody.
//!
//! Claims: each of these forms has one spelling, so what is read is written as it was; what verifies was signed here.

use strongroom_tlog::bundle::push_entry;
use strongroom_tlog::cosignature::{Timestamp, Witness, WitnessKey};
use strongroom_tlog::key::{Name, Signer, Verifier};
use strongroom_tlog::note::Line;
use strongroom_tlog::tile::{decode_hashes, encode_hashes};
use strongroom_tlog::{
    Bundle, Checkpoint, Entries, Hash, Inclusion, Note, Size, Tile, verify_consistency,
};

use crate::Verdict;

/// The log's key here.
pub fn log() -> Signer {
    Signer::from_seed(Name::parse("strongroom/fuzz").expect("a name"), &[7; 32]).expect("a seed")
}

/// A witness here.
pub fn witness() -> Witness {
    Witness::from_seed(Name::parse("witness/fuzz").expect("a name"), &[8; 32]).expect("a seed")
}

/// `kind 1 ‖ bytes`: a bundle of entries, a tile of hashes, or the path of either.
pub fn tile(input: &[u8]) -> Verdict {
    let Some((kind, bytes)) = input.split_first() else { return Verdict::Refused };
    match kind % 3 {
        0 => bundle(bytes),
        1 => {
            let Ok(hashes) = decode_hashes(bytes) else { return Verdict::Refused };
            assert_eq!(encode_hashes(&hashes), bytes);
            assert!((1..=256).contains(&hashes.len()));
            Verdict::Accepted
        }
        _ => {
            let Ok(path) = std::str::from_utf8(bytes) else { return Verdict::Refused };
            let (tile, bundle) = (Tile::parse(path), Bundle::parse(path));
            assert!(tile.is_err() || bundle.is_err(), "one path of two things");
            let written = tile.map(Tile::path).or_else(|_| bundle.map(Bundle::path));
            if let Ok(written) = &written {
                assert_eq!(written, path);
            }
            Verdict::of(&written)
        }
    }
}

fn bundle(bytes: &[u8]) -> Verdict {
    let mut entries = Entries::of(bytes);
    let mut again = Vec::new();
    let mut count = 0;
    loop {
        match entries.next() {
            Some(Ok(entry)) => {
                push_entry(&mut again, entry).expect("it was one");
                count += 1;
                assert_eq!(entries.at(), again.len());
            }
            Some(Err(_)) => {
                assert!(entries.next().is_none(), "it went on after an error");
                break;
            }
            None => break,
        }
    }
    assert!(count <= 256 && bytes.starts_with(&again));
    if again == bytes { Verdict::Accepted } else { Verdict::Refused }
}

/// A signed note, a checkpoint in it, cosignatures below it, a line or a key by itself.
pub fn note(input: &[u8]) -> Verdict {
    let text = std::str::from_utf8(input);
    let keys = text.is_ok_and(keys);
    let Ok(note) = Note::parse(input) else {
        return if keys { Verdict::Accepted } else { Verdict::Refused };
    };
    assert_eq!(note.encode().as_bytes(), input, "a note with two spellings");
    for line in note.lines() {
        assert_eq!(Line::parse(line.encode().trim_end_matches('\n')).as_ref(), Some(line));
    }
    if let Ok(checkpoint) = Checkpoint::parse(note.text()) {
        assert_eq!(checkpoint.encode(), note.text());
        let (log, witness) = (log(), witness());
        let seen = Checkpoint::open(&note, &log.verifier());
        assert!(seen.is_err() || seen.as_ref() == Ok(&checkpoint));
        let cosigned = witness.key().verify(&note);
        // Adding our own lines to it makes it one that both believe.
        let mut signed = note.clone();
        log.sign(&mut signed);
        signed.push(witness.cosign(&checkpoint, Timestamp::new(1).expect("a time")));
        assert_eq!(Checkpoint::open(&signed, &log.verifier()).as_ref(), Ok(&checkpoint));
        assert_eq!(witness.key().verify(&signed).map(Timestamp::seconds).ok(), Some(1));
        return Verdict::of(&cosigned);
    }
    Verdict::Accepted
}

/// A text that is one key or one line.
fn keys(text: &str) -> bool {
    let log = Verifier::parse(text);
    let witness = WitnessKey::parse(text);
    assert!(log.is_err() || witness.is_err(), "one key of two kinds");
    if let Ok(key) = &log {
        assert_eq!(key.vkey(), text);
    }
    if let Ok(key) = &witness {
        assert_eq!(key.vkey(), text);
    }
    let line = Line::parse(text);
    if let Some(line) = &line {
        assert_eq!(line.encode(), format!("{text}\n"));
    }
    log.is_ok() || witness.is_ok() || line.is_some()
}

/// `kind 1 ‖ bytes`: a proof that an entry is in the log, or that one tree continues another.
pub fn proof(input: &[u8]) -> Verdict {
    let Some((kind, bytes)) = input.split_first() else { return Verdict::Refused };
    if kind % 2 == 1 {
        return consistency(bytes);
    }
    let Ok(proof) = Inclusion::parse(bytes) else { return Verdict::Refused };
    let written = proof.encode();
    assert_eq!(written.as_bytes(), bytes, "a proof with two spellings");
    let shown = proof.verify(&log().verifier());
    Verdict::of(&shown)
}

/// `old size u64 ‖ new size u64 ‖ old root ‖ new root ‖ hashes`.
fn consistency(bytes: &[u8]) -> Verdict {
    let Some((old, rest)) = bytes.split_first_chunk::<8>() else { return Verdict::Refused };
    let Some((new, rest)) = rest.split_first_chunk::<8>() else { return Verdict::Refused };
    let (hashes, odd) = rest.as_chunks::<32>();
    let [old_root, new_root, path @ ..] = hashes else { return Verdict::Refused };
    if !odd.is_empty() {
        return Verdict::Refused;
    }
    let (old, new) = (Size(u64::from_be_bytes(*old)), Size(u64::from_be_bytes(*new)));
    let path: Vec<Hash> = path.iter().copied().map(Hash).collect();
    let (old_root, new_root) = (Hash(*old_root), Hash(*new_root));
    let shown = verify_consistency((old, old_root), (new, new_root), &path);
    if shown.is_ok() {
        assert!(old <= new);
        assert!(old != new || old_root == new_root, "two roots of one size");
    }
    Verdict::of(&shown)
}
