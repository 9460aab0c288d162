//! Ways to the decoders of this crate that are private, for `fuzz/`; nothing in the product calls them.
//!
//! Invariant: each takes bytes and answers with bytes or words: no key of a vault, no file, no change.

use strongroom_policy::moment::Moment;
use strongroom_sys::Secret;

use crate::journal::line::{Known, chain_of, millis};
use crate::journal::reserve;
use crate::keyring::encoding;
use crate::keys::{self, StoreId};
use crate::manifest;
use crate::seal::file::{Read, SealFile};
use crate::slots::{self, Capacity, Generation};

/// The plaintext of a keyring, decoded and encoded again.
pub fn keyring(plain: &[u8], store: StoreId) -> Option<Secret> {
    encoding::encode(&encoding::decode(plain, store).ok()?).ok()
}

/// The plaintext of a manifest, decoded and encoded again.
pub fn manifest(plain: &[u8]) -> Option<Vec<u8>> {
    postcard::to_stdvec(&manifest::decode(plain).ok()?).ok()
}

/// The payload of a seal file, decoded, and encoded as it is written today.
pub fn seal(payload: &[u8]) -> Option<Vec<u8>> {
    match SealFile::decode(payload).ok()? {
        Read::Current(file) | Read::FirstShares(file) | Read::FirstPassphrase(file, _) => {
            file.encode().ok()
        }
    }
}

/// The newest whole slot of a slot file's bytes.
pub fn newest_slot(image: &[u8], capacity: Capacity) -> Option<(Generation, &[u8])> {
    slots::newest(image, capacity).map(|slot| (slot.generation, slot.payload))
}

/// A slot as it is written.
pub fn write_slot(capacity: Capacity, generation: Generation, payload: &[u8]) -> Option<Vec<u8>> {
    slots::encode(capacity, generation, payload).ok()
}

/// An entry of the journal that was read back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// Its kind.
    pub what: String,
    /// When, if that is a moment.
    pub moment: Option<Moment>,
    /// Its chain value.
    pub chain: Option<[u8; 32]>,
}

/// What an entry of the journal says of itself.
pub fn entry(entry: &[u8]) -> Option<Entry> {
    let known = Known::read(entry)?;
    let (number, what) = (known.n, known.what.to_owned());
    Some(Entry { number, what, moment: millis(known.t), chain: chain_of(entry) })
}

/// What the journal's reserve says: moments and reasons.
pub fn reserve(text: &[u8]) -> Vec<(String, &'static str)> {
    reserve::read(text).into_iter().map(|found| (found.at, found.reason)).collect()
}

/// The checksum that stands behind a share's bytes.
pub fn checksum_share(body: &[u8]) -> [u8; 4] {
    keys::checksum_share(body)
}
