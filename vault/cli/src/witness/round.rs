//! One round of a witness: ask, judge, put down, tell.
//!
//! Invariant: nothing is told before it is on the witness's disk.
//! Invariant: after a refusal the vault hears what is kept, which shows it that it was rolled back or forked.

use std::time::{SystemTime, UNIX_EPOCH};

use strongroom_protocol::operator::witness::{FromWitness, KeyText, NoteText, ToWitness};
use strongroom_protocol::operator::{Answer, Request};
use strongroom_tlog::cosignature::{Nonce, Timestamp};
use strongroom_tlog::{Hash, Size};

use super::memory::{Kept, Memory};
use super::mirror::Mirror;
use crate::failure::{Failure, Outcome};
use crate::link::Link;

/// What came of a round.
#[derive(Debug)]
pub(crate) struct Told {
    /// Whether anything was new, or the vault waited.
    pub(crate) news: bool,
    /// How many entries are remembered.
    pub(crate) size: Size,
    /// Their root.
    pub(crate) root: Hash,
    /// Whether the vault waited for an answer.
    pub(crate) answered: bool,
}

/// Runs a round.
pub(crate) fn run(
    memory: &mut Memory,
    mirror: Option<&mut Mirror>,
    link: &mut Link,
) -> Outcome<Told> {
    let ask = FromWitness::Ask { size: memory.size().0 };
    let ToWitness::Checkpoint { note, proof, nonce } = exchange(link, ask)? else {
        return Err(Failure::unexpected());
    };
    let nonce = nonce.map(Nonce);
    let proof: Vec<Hash> = proof.into_iter().map(Hash).collect();
    let judged = match memory.judge(note.as_ref(), &proof) {
        Ok(judged) => judged,
        Err(refusal) => {
            if let Some(kept) = memory.kept().filter(|_| refusal.is_evidence()) {
                // The vault may be the one that lies: whatever it says to this changes nothing.
                drop(tell(memory, kept, nonce, link));
            }
            return Err(refusal.failure());
        }
    };
    if let Some(mirror) = mirror {
        mirror.follow(&judged, link)?;
    }
    let before = memory.kept().map(|kept| kept.head.clone());
    let news = before.as_ref() != Some(&judged.head);
    if news {
        memory.keep(judged, now())?;
    }
    let kept = memory.kept().ok_or_else(Failure::unexpected)?;
    tell(memory, kept, nonce, link)?;
    let Kept { head, .. } = kept;
    Ok(Told {
        news: news || nonce.is_some(),
        size: head.size,
        root: head.root,
        answered: nonce.is_some(),
    })
}

fn tell(memory: &Memory, kept: &Kept, nonce: Option<Nonce>, link: &mut Link) -> Outcome {
    let tell = FromWitness::Tell {
        key: KeyText::new(memory.key().vkey()).map_err(Failure::argument)?,
        note: NoteText::new(kept.note.encode()).map_err(Failure::argument)?,
        answer: nonce.map(|nonce| memory.answer(nonce, &kept.head)),
    };
    match exchange(link, tell)? {
        ToWitness::Taken => Ok(()),
        ToWitness::Checkpoint { .. } | ToWitness::Entries(_) => Err(Failure::unexpected()),
    }
}

/// Says something and hears the answer.
pub(super) fn exchange(link: &mut Link, say: FromWitness) -> Outcome<ToWitness> {
    match link.ask(&Request::Witness(say))? {
        Answer::Witness(answer) => Ok(answer),
        _ => Err(Failure::unexpected()),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::new(since.as_secs()).unwrap_or(Timestamp::LAST)
}

#[cfg(test)]
mod tests;
