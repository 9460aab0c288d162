//! Reading a whole store at unseal: judged against the manifest first, then opened record by record.
//!
//! Two threads share the work: the set hash is a sum, and records do not know each other.
//!
//! Invariant: no record is opened before the store is accepted, and none once a halt is called.
//! Distrusts: every row.

use std::ops::ControlFlow;
use std::thread;

use sha2::{Digest, Sha256};
use strongroom_policy::id::TenantId;
use strongroom_store::Store;
use strongroom_sys::Secret;

use super::ledger::Ledger;
use super::sealing::{Shreds, Stored, TenantKeys, Under};
use super::{BooksError, Written};
use crate::backup::halt::Halt;
use crate::keyring::{KeyringFile, ShredId};
use crate::keys::{Format, RecordId};
use crate::manifest::{MARK_RECORD, Manifest, ManifestError, Scanned, Verdict};
use crate::records::{RecordName, RecordPlace};

/// Every row of a store, in order, the mark included; and what ends the work on them.
pub(super) struct Rows(Vec<(Vec<u8>, Vec<u8>)>, Halt);

/// What the records say, and what is known of them.
pub(super) struct Read {
    pub(super) records: Vec<(RecordPlace, Secret)>,
    pub(super) ledger: Ledger,
    /// Whose records were sealed under the successor of their shred key.
    pub(super) taken: Vec<ShredId>,
}

impl Rows {
    /// Reads all rows.
    pub(super) fn read(store: &dyn Store, halt: &Halt) -> Result<Self, BooksError> {
        let mut rows = Vec::new();
        store.scan_all(&mut |key, value| {
            if halt.is_called() {
                return ControlFlow::Break(());
            }
            rows.push((key.as_bytes().to_vec(), value.as_bytes().to_vec()));
            ControlFlow::Continue(())
        })?;
        go_on(halt)?;
        Ok(Self(rows, halt.clone()))
    }

    /// Tells two reads of a store apart; keys are shorter than 2^16 bytes, and so are values.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        for (key, value) in &self.0 {
            for part in [key, value] {
                digest.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                digest.update(part);
            }
        }
        digest.finalize().into()
    }

    /// Whether this is the store that the manifest describes.
    pub(super) fn judge(
        &self,
        manifest: &Manifest,
        keyring: &KeyringFile,
    ) -> Result<Verdict, BooksError> {
        let scan = |rows: &[(Vec<u8>, Vec<u8>)]| {
            let mut scan = manifest.scan();
            for (key, value) in rows {
                go_on(&self.1)?;
                scan.take(RecordId(key), value).map_err(ManifestError::from)?;
            }
            Ok::<Scanned, BooksError>(scan.finish())
        };
        let (one, two) = in_halves(&self.0, scan)?;
        Ok(manifest.judge(&one?.plus(two?), keyring)?)
    }

    /// Opens every record.
    pub(super) fn open(self, keys: &TenantKeys, keyring: &KeyringFile) -> Result<Read, BooksError> {
        let halt = self.1.clone();
        let first = keys.first();
        let stored = self.into_records(first)?;
        let open = |stored: &[Stored]| -> Result<Vec<(Secret, Written, Under)>, BooksError> {
            let open = |one: &Stored| {
                go_on(&halt)?;
                keys.open(one, |name, format| shreds(keyring, name, format))
            };
            stored.iter().map(open).collect()
        };
        let (one, two) = in_halves(&stored, open)?;
        let mut read = Read { records: Vec::new(), ledger: Ledger::default(), taken: Vec::new() };
        for (stored, (plain, written, under)) in
            stored.into_iter().zip(one?.into_iter().chain(two?))
        {
            let Stored { place, .. } = stored;
            read.ledger.put(place.store_key(first), written);
            if let (Under::Successor, Some(owner)) = (under, place.name.owner(written.format)) {
                read.taken.push(owner);
            }
            read.records.push((place, plain));
        }
        read.taken.dedup();
        Ok(read)
    }

    /// Rows come in key order, so the pieces of a record follow each other from 0.
    fn into_records(self, first: TenantId) -> Result<Vec<Stored>, BooksError> {
        let mut records: Vec<Stored> = Vec::new();
        let mut last: Option<Vec<u8>> = None;
        for (row, value) in self.0 {
            if row == MARK_RECORD {
                continue;
            }
            let (number, key) = row.split_last().ok_or(BooksError::Malformed)?;
            match records.last_mut().filter(|_| last.as_deref() == Some(key)) {
                Some(record) if usize::from(*number) == record.pieces.len() => {
                    record.pieces.push(value);
                }
                None if *number == 0 => {
                    let place = RecordPlace::parse(key, first).ok_or(BooksError::Malformed)?;
                    records.push(Stored { place, pieces: vec![value] });
                    last = Some(key.to_vec());
                }
                Some(_) | None => return Err(BooksError::Malformed),
            }
        }
        Ok(records)
    }
}

#[cfg(test)]
impl Rows {
    /// Rows as a forger would put them.
    pub(super) fn of(rows: Vec<(Vec<u8>, Vec<u8>)>) -> Self {
        Self(rows, Halt::default())
    }
}

fn go_on(halt: &Halt) -> Result<(), BooksError> {
    if halt.is_called() { Err(BooksError::Halted) } else { Ok(()) }
}

/// The shred keys that may have sealed a record.
fn shreds<'k>(
    keyring: &'k KeyringFile,
    name: &RecordName,
    format: Format,
) -> Result<Shreds<'k>, BooksError> {
    let Some(owner) = name.owner(format) else { return Ok(Shreds::None) };
    let keyring = keyring.keyring();
    let present = keyring.shred_key(owner)?;
    Ok(keyring
        .successor(owner)
        .map_or(Shreds::One(present), |successor| Shreds::Replaced(present, successor)))
}

/// Does two halves on two threads.
fn in_halves<T: Sync, R: Send>(
    all: &[T],
    work: impl Fn(&[T]) -> R + Sync,
) -> Result<(R, R), BooksError> {
    let (one, two) = all.split_at_checked(all.len().div_ceil(2)).unwrap_or((all, &[]));
    thread::scope(|scope| {
        let second = scope.spawn(|| work(two));
        let first = work(one);
        Ok((first, second.join().map_err(|_| BooksError::Stopped)?))
    })
}
