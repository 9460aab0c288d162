//! One record of a tenant between plaintext and pieces.
//!
//! A record longer than one value lies in numbered pieces: `store key ‖ piece number`; the first byte of the first
//! plaintext is how many there are.
//!
//! Invariant: a record is sealed and opened with the keys, and under the name, of the tenant that its place names.
//! Invariant: all pieces of a record are of one version, one epoch and one format.
//! Distrusts: every piece until it is opened under the name that it was found by.

use std::collections::{BTreeMap, BTreeSet};

use strongroom_policy::id::TenantId;
use strongroom_sys::Secret;
use zeroize::Zeroizing;

use super::BooksError;
use super::ledger::Written;
use crate::envelope::{EnvelopeError, Header, open_record, seal_record};
use crate::keyring::{Keyring, KeyringError};
use crate::keys::{
    Algorithm, Context, Epoch, Format, RecordId, RecordKeySource, RecordVersion, Resting,
    RestingShredKey, RestingTenantKey, Scope, StoreId, TenantKey,
};
use crate::records::{RecordName, RecordPlace};

/// Plaintext of one piece; with the envelope it stays under the store's 8 KiB.
const PIECE_BYTES: usize = 7 * 1024;
/// Most pieces of one record.
pub(super) const MAX_PIECES: usize = 16;

/// Every tenant's keys, as records are sealed and opened with them: at rest, for there may be more than locked memory holds.
pub struct TenantKeys {
    store: StoreId,
    /// The tenant that the vault was made with: its records have no tenant in their names.
    first: TenantId,
    epoch: Epoch,
    epochs: BTreeSet<Epoch>,
    keys: BTreeMap<(TenantId, Epoch), RestingTenantKey>,
    lowest_format: Format,
    algorithm: Algorithm,
}

/// Most plaintext of one record.
pub const MAX_RECORD_BYTES: usize = MAX_PIECES * PIECE_BYTES;

/// A record as it lies in the store: a row of the store for each piece.
pub(super) struct Stored {
    pub(super) place: RecordPlace,
    pub(super) pieces: Vec<Vec<u8>>,
}

/// The shred keys that may have sealed a record; the second while it is being replaced.
#[derive(Clone, Copy)]
pub(super) enum Shreds<'k> {
    /// The record has no owner.
    None,
    /// Its owner's.
    One(&'k RestingShredKey),
    /// Its owner's, and the one that is to replace it.
    Replaced(&'k RestingShredKey, &'k RestingShredKey),
}

/// Which of them did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Under {
    /// The one that stands, or none.
    Present,
    /// Its successor.
    Successor,
}

impl TenantKeys {
    /// The key of each tenant in every generation that there is.
    ///
    /// # Errors
    /// `Unknown` when the first tenant's root is gone.
    pub fn of(
        keyring: &Keyring,
        first: TenantId,
        algorithm: Algorithm,
    ) -> Result<Self, KeyringError> {
        keyring.tenant_key(first, keyring.epoch())?;
        let mut keys = BTreeMap::new();
        for (tenant, epoch) in
            keyring.tenants().flat_map(|tenant| keyring.epochs().map(move |epoch| (tenant, epoch)))
        {
            keys.insert((tenant, epoch), keyring.resting_tenant_key(tenant, epoch)?);
        }
        Ok(Self {
            store: keyring.store(),
            first,
            epoch: keyring.epoch(),
            epochs: keyring.epochs().collect(),
            keys,
            lowest_format: keyring.lowest_format(),
            algorithm,
        })
    }

    /// The tenant that the vault was made with.
    pub fn first(&self) -> TenantId {
        self.first
    }

    /// The generation that new records are sealed under.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The generations whose keys there are.
    pub fn epochs(&self) -> impl Iterator<Item = Epoch> {
        self.epochs.iter().copied()
    }

    /// How many tenants' roots there are.
    pub fn tenants(&self) -> usize {
        self.keys.keys().filter(|(_, epoch)| *epoch == self.epoch).count()
    }

    /// The cipher of new records.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The format below which no record is opened.
    pub fn lowest_format(&self) -> Format {
        self.lowest_format
    }

    /// Seals a record: what is to lie under `piece_key` of each number.
    pub(super) fn seal(
        &self,
        (place, version): (&RecordPlace, u64),
        plain: &Secret,
        shred: Option<&RestingShredKey>,
    ) -> Result<Vec<Vec<u8>>, BooksError> {
        if shred.is_some() != place.name.owner(Format::NEWEST).is_some() {
            return Err(BooksError::Ownerless);
        }
        let (key, tenant_key) = (place.store_key(self.first), self.key(place.tenant, self.epoch)?);
        let shred = shred.map(Resting::open).transpose()?;
        let source = RecordKeySource::from_tenant(&tenant_key, shred.as_ref(), Format::NEWEST);
        let seal = |(number, piece): (u8, &Secret)| {
            let piece_key = piece_key(&key, number);
            let context = self.context(place, &piece_key, (self.epoch, version));
            Ok(piece.expose(|plain| {
                seal_record(&source, &context, self.algorithm, plain, &mut getrandom::fill)
            })?)
        };
        (0_u8..).zip(&split(plain)?).map(seal).collect()
    }

    /// Opens a record under the name that it was found by.
    pub(super) fn open<'k>(
        &self,
        stored: &Stored,
        shreds: impl Fn(&RecordName, Format) -> Result<Shreds<'k>, BooksError>,
    ) -> Result<(Secret, Written, Under), BooksError> {
        let Stored { place, pieces } = stored;
        let header = Header::parse(pieces.first().ok_or(BooksError::Malformed)?)?;
        if header.format < self.lowest_format {
            let (found, expected) = (header.format, self.lowest_format);
            return Err(EnvelopeError::OtherFormat { found, expected }.into());
        }
        let (plain, under) = match shreds(&place.name, header.format)? {
            Shreds::None => (self.open_under(stored, header, None)?, Under::Present),
            Shreds::One(shred) => (self.open_under(stored, header, Some(shred))?, Under::Present),
            Shreds::Replaced(shred, successor) => {
                match self.open_under(stored, header, Some(shred)) {
                    Err(BooksError::Envelope(EnvelopeError::OtherKeyOrContext)) => {
                        let plain = self.open_under(stored, header, Some(successor))?;
                        (plain, Under::Successor)
                    }
                    other => (other?, Under::Present),
                }
            }
        };
        let (version, epoch, format) = (header.version.0, header.epoch, header.format);
        let pieces = u8::try_from(pieces.len()).map_err(|_| BooksError::Malformed)?;
        Ok((plain, Written { version, pieces, epoch, format }, under))
    }

    fn open_under(
        &self,
        stored: &Stored,
        header: Header,
        shred: Option<&RestingShredKey>,
    ) -> Result<Secret, BooksError> {
        let Stored { place, pieces } = stored;
        let tenant_key = self.key(place.tenant, header.epoch)?;
        let shred = shred.map(Resting::open).transpose()?;
        let source = RecordKeySource::from_tenant(&tenant_key, shred.as_ref(), header.format);
        let key = place.store_key(self.first);
        let mut whole = Zeroizing::new(Vec::with_capacity(
            pieces.iter().fold(0, |sum, piece| piece.len().saturating_add(sum)),
        ));
        for (number, envelope) in (0_u8..).zip(pieces) {
            let piece_key = piece_key(&key, number);
            let context = self.context(place, &piece_key, (header.epoch, header.version.0));
            open_record(&source, &context, envelope)?
                .expose(|plain| whole.extend_from_slice(plain));
        }
        let (count, plain) = whole.split_first().ok_or(BooksError::Malformed)?;
        if usize::from(*count) != pieces.len() {
            return Err(BooksError::Malformed);
        }
        Ok(Secret::copy_from(plain))
    }

    /// A generation whose key was destroyed has no readable record, and neither has a tenant whose root was.
    fn key(&self, tenant: TenantId, epoch: Epoch) -> Result<TenantKey, BooksError> {
        let key = self.keys.get(&(tenant, epoch)).ok_or_else(|| {
            let known = self.epochs.contains(&epoch);
            if known { BooksError::TenantGone } else { BooksError::Retired(epoch) }
        })?;
        Ok(key.open()?)
    }

    fn context<'a>(
        &self,
        place: &RecordPlace,
        piece_key: &'a [u8],
        (epoch, version): (Epoch, u64),
    ) -> Context<'a> {
        Context {
            store: self.store,
            scope: Scope::Tenant(place.tenant),
            epoch,
            kind: place.name.kind(),
            record: RecordId(piece_key),
            version: RecordVersion(version),
        }
    }
}

fn split(plain: &Secret) -> Result<Vec<Secret>, BooksError> {
    plain.expose(|plain| {
        let count = plain.len().div_ceil(PIECE_BYTES).max(1);
        if count > MAX_PIECES {
            return Err(BooksError::TooLong);
        }
        let count_byte = u8::try_from(count).map_err(|_| BooksError::TooLong)?;
        let (first, rest) = plain.split_at_checked(PIECE_BYTES).unwrap_or((plain, &[]));
        let mut head = Zeroizing::new(Vec::with_capacity(PIECE_BYTES.saturating_add(1)));
        head.push(count_byte);
        head.extend_from_slice(first);
        let mut pieces = vec![Secret::copy_from(&head)];
        pieces.extend(rest.chunks(PIECE_BYTES).map(Secret::copy_from));
        Ok(pieces)
    })
}

/// The store's key of one piece.
pub(super) fn piece_key(key: &[u8], number: u8) -> Vec<u8> {
    let mut piece = Vec::with_capacity(key.len().saturating_add(1));
    piece.extend_from_slice(key);
    piece.push(number);
    piece
}

#[cfg(test)]
impl TenantKeys {
    /// The envelope that the first version would have written.
    pub(super) fn seal_first(
        &self,
        (place, version): (&RecordPlace, u64),
        plain: &[u8],
        shred: Option<&crate::keys::ShredKey>,
    ) -> Vec<u8> {
        let plain = Secret::copy_from(&[&[1], plain].concat());
        let tenant_key = self.key(place.tenant, self.epoch).unwrap();
        let source = RecordKeySource::from_tenant(&tenant_key, shred, Format::One);
        let piece_key = piece_key(&place.store_key(self.first), 0);
        let context = self.context(place, &piece_key, (self.epoch, version));
        plain
            .expose(|plain| {
                seal_record(&source, &context, self.algorithm, plain, &mut getrandom::fill)
            })
            .unwrap()
    }
}
