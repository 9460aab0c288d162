//! The keyring's plaintext.
//!
//! Invariant: outside the arena a key lies in one `Secret`, for as long as the plaintext does: keys are lent to the encoder,
//! which writes into a `Secret` of the final size, and are borrowed from the opened one when decoding.

use std::collections::BTreeMap;

use serde::ser::Error;
use serde::{Deserialize, Serialize, Serializer};
use strongroom_policy::id::TenantId;
use strongroom_sys::{LockedKey, Secret};

use super::{Keyring, KeyringError, ShredId};
use crate::keys::{
    DeriveError, Epoch, Format, KEY_BYTES, Key, Resting, RestingSeal, StoreId, purpose,
};
use crate::vault::algorithm;

/// With successors and the lowest format of records.
const KEYRING_FORMAT: u8 = 2;
/// Without them; read once, when a vault of the first version is unsealed, and never written.
const FIRST_FORMAT: u8 = 1;
/// Hides how many keys there are, to within twenty.
const PADDING_BYTES: usize = 1024;

#[derive(Serialize)]
struct WireOut<'a> {
    format: u8,
    store: StoreId,
    epoch: Epoch,
    commit_floor: u64,
    system: Lent<'a>,
    epochs: Vec<(Epoch, Lent<'a>)>,
    tenants: Vec<(TenantId, LentAtRest<'a, purpose::TenantRoot>)>,
    shreds: Vec<(ShredId, LentAtRest<'a, purpose::Shred>)>,
    lowest_format: u8,
    successors: Vec<(ShredId, LentAtRest<'a, purpose::Shred>)>,
}

#[derive(Deserialize)]
struct WireIn<'a> {
    format: u8,
    store: StoreId,
    epoch: Epoch,
    commit_floor: u64,
    #[serde(borrow)]
    system: &'a [u8],
    #[serde(borrow)]
    epochs: Vec<(Epoch, &'a [u8])>,
    #[serde(borrow)]
    tenants: Vec<(TenantId, &'a [u8])>,
    #[serde(borrow)]
    shreds: Vec<(ShredId, &'a [u8])>,
}

/// What follows it since the second format.
#[derive(Deserialize)]
struct TailIn<'a> {
    lowest_format: u8,
    #[serde(borrow)]
    successors: Vec<(ShredId, &'a [u8])>,
}

struct Lent<'a>(&'a LockedKey);

impl Serialize for Lent<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.expose(|bytes| serializer.serialize_bytes(bytes))
    }
}

struct LentAtRest<'a, P>(&'a Resting<P>);

impl<P> Serialize for LentAtRest<'_, P> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let key = self.0.open().map_err(S::Error::custom)?;
        key.secret().expose(|bytes| serializer.serialize_bytes(bytes))
    }
}

fn lend<I: Copy, P>(keys: &BTreeMap<I, Key<P>>) -> Vec<(I, Lent<'_>)> {
    keys.iter().map(|(id, key)| (*id, Lent(key.secret()))).collect()
}

fn lend_at_rest<I: Copy, P>(keys: &BTreeMap<I, Resting<P>>) -> Vec<(I, LentAtRest<'_, P>)> {
    keys.iter().map(|(id, key)| (*id, LentAtRest(key))).collect()
}

pub(crate) fn encode(keyring: &Keyring) -> Result<Secret, KeyringError> {
    let wire = WireOut {
        format: KEYRING_FORMAT,
        store: keyring.store,
        epoch: keyring.epoch,
        commit_floor: keyring.commit_floor,
        system: Lent(keyring.system.secret()),
        epochs: lend(&keyring.epochs),
        tenants: lend_at_rest(&keyring.tenants),
        shreds: lend_at_rest(&keyring.shreds),
        lowest_format: keyring.lowest_format.code(),
        successors: lend_at_rest(&keyring.successors),
    };
    let room = keyring
        .keys()
        .saturating_add(3)
        .saturating_mul(KEY_BYTES.saturating_add(20))
        .checked_next_multiple_of(PADDING_BYTES)
        .ok_or(KeyringError::Full)?;
    Secret::fill_with(room, |bytes| {
        postcard::to_slice(&wire, bytes).map(|_| ()).map_err(|_| KeyringError::Full)
    })
}

pub(crate) fn decode(plain: &[u8], store: StoreId) -> Result<Keyring, KeyringError> {
    let (wire, rest): (WireIn<'_>, _) =
        postcard::take_from_bytes(plain).map_err(|_| KeyringError::Malformed)?;
    let (tail, padding): (TailIn<'_>, _) = match wire.format {
        KEYRING_FORMAT => postcard::take_from_bytes(rest).map_err(|_| KeyringError::Malformed)?,
        FIRST_FORMAT => {
            (TailIn { lowest_format: Format::One.code(), successors: Vec::new() }, rest)
        }
        _ => return Err(KeyringError::Malformed),
    };
    if padding.iter().any(|byte| *byte != 0) {
        return Err(KeyringError::Malformed);
    }
    if wire.store != store {
        return Err(KeyringError::Foreign);
    }
    let rest = RestingSeal::draw(algorithm(), &mut getrandom::fill)?;
    let keyring = Keyring {
        store,
        epoch: wire.epoch,
        epochs: collect(wire.epochs, key)?,
        tenants: collect(wire.tenants, |bytes| lay(&rest, bytes))?,
        shreds: collect(wire.shreds, |bytes| lay(&rest, bytes))?,
        successors: collect(tail.successors, |bytes| lay(&rest, bytes))?,
        rest,
        system: key(wire.system)?,
        commit_floor: wire.commit_floor,
        lowest_format: Format::parse(tail.lowest_format).ok_or(KeyringError::Malformed)?,
    };
    if !keyring.epochs.contains_key(&keyring.epoch) {
        return Err(KeyringError::Malformed);
    }
    Ok(keyring)
}

fn collect<I: Ord, K>(
    wire: Vec<(I, &[u8])>,
    read: impl Fn(&[u8]) -> Result<K, KeyringError>,
) -> Result<BTreeMap<I, K>, KeyringError> {
    let mut keys = BTreeMap::new();
    for (id, bytes) in wire {
        if keys.insert(id, read(bytes)?).is_some() {
            return Err(KeyringError::Malformed);
        }
    }
    Ok(keys)
}

fn key<P>(bytes: &[u8]) -> Result<Key<P>, KeyringError> {
    Key::from_bytes(bytes).map_err(|error| match error {
        DeriveError::Defect => KeyringError::Malformed,
        DeriveError::Memory(_) => error.into(),
    })
}

fn lay<P>(rest: &RestingSeal, bytes: &[u8]) -> Result<Resting<P>, KeyringError> {
    Ok(Resting::of(rest, key(bytes)?)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[derive(Serialize)]
    struct FirstOut<'a> {
        format: u8,
        store: StoreId,
        epoch: Epoch,
        commit_floor: u64,
        system: Lent<'a>,
        epochs: Vec<(Epoch, Lent<'a>)>,
        tenants: Vec<(TenantId, LentAtRest<'a, purpose::TenantRoot>)>,
        shreds: Vec<(ShredId, LentAtRest<'a, purpose::Shred>)>,
    }

    /// A keyring as the first version wrote it.
    pub(in crate::keyring) fn encode_first(keyring: &Keyring) -> Secret {
        let wire = FirstOut {
            format: FIRST_FORMAT,
            store: keyring.store,
            epoch: keyring.epoch,
            commit_floor: keyring.commit_floor,
            system: Lent(keyring.system.secret()),
            epochs: lend(&keyring.epochs),
            tenants: lend_at_rest(&keyring.tenants),
            shreds: lend_at_rest(&keyring.shreds),
        };
        let mut plain = postcard::to_stdvec(&wire).unwrap();
        plain.resize(plain.len().next_multiple_of(PADDING_BYTES), 0);
        Secret::take(plain)
    }
}
