//! A key in n shares of which any k give it back, and fewer say nothing of it.
//!
//! Where shares alone open the vault the key is R itself; where they are one lock among others it is that lock's key.
//!
//! Shamir's scheme byte by byte over GF(2^8), in HashiCorp's layout: the y of each byte, then x.
//!
//! ```text
//! share   version 1 ‖ set 6 ‖ vault 8 ‖ k 1 ‖ n 1 ‖ y 32 ‖ x 1 ‖ MAC 16          = 66 bytes
//! ```
//!
//! A share is checked three times: its digest is in the seal file, so a bad one is named when it
//! is entered; the key must match its commitment; then the MACs, under a key below it, prove what
//! each share said of itself even when the seal file was edited.
//!
//! Invariant: coefficients are uniform, zero included: excluding it would bias every share
//! (RUSTSEC-2024-0398).
//! Invariant: x is never 0 and never twice.

use serde::{Deserialize, Serialize};
use strongroom_sys::{LockedKey, Secret};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::field::{invert, multiply};
use super::file::SealFile;
use crate::keys::{
    self, DeriveError, FillRandom, KEY_BYTES, RootKey, ShareLockKey, ShareMacKey, StoreId,
    TAG_BYTES,
};

/// The only version of shares.
pub(super) const SHARE_VERSION: u8 = 1;
/// More people than that in one ceremony are not a ceremony.
const MAX_SHARES: u8 = 32;
pub(super) const POINT_BYTES: usize = KEY_BYTES + 1;
const MAC_BYTES: usize = 16;
const VAULT_BYTES: usize = 8;
/// Length of a share without its checksum.
pub(super) const BODY_BYTES: usize = 66;

/// Which splitting: drawn at random each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetId(pub [u8; 6]);

/// One share: secret.
pub struct Share {
    pub(super) set: SetId,
    pub(super) vault: [u8; VAULT_BYTES],
    pub(super) threshold: u8,
    pub(super) count: u8,
    /// y…‖x.
    pub(super) point: Secret,
    pub(super) mac: [u8; MAC_BYTES],
}

/// What the seal file says of a set: public.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShareSet {
    /// Which.
    pub id: SetId,
    /// How many shares open.
    pub threshold: u8,
    /// How many there are.
    pub count: u8,
    commitment: [u8; TAG_BYTES],
    /// By index, from 1.
    digests: Vec<[u8; TAG_BYTES]>,
}

/// What is split, lent.
#[derive(Clone, Copy)]
pub(super) enum Splitting<'a> {
    /// R.
    Root(&'a RootKey),
    /// The key of one lock among others.
    Lock(&'a ShareLockKey),
}

/// What a set of shares gives back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    /// R.
    Root,
    /// The key of one lock among others.
    Lock,
}

/// What k shares gave back.
#[derive(Debug)]
pub(super) enum Combined {
    /// R.
    Root(RootKey),
    /// The key of one lock among others.
    Lock(ShareLockKey),
}

/// Why a key was not split.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// Not 2 ≤ k ≤ n ≤ 32.
    #[error("the threshold must lie between 2 and the number of shares, which is at most 32")]
    Numbers,
    /// No randomness.
    #[error("the kernel gave no randomness")]
    Random(#[from] getrandom::Error),
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

/// Why a share was not taken; the shares accepted before it stay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareRefusal {
    /// A mistype, or not a share.
    #[error(transparent)]
    Text(#[from] super::BadShareText),
    /// Of another vault.
    #[error("this share belongs to another vault")]
    ForeignVault,
    /// Of a set that was replaced.
    #[error("this share is stale: its set was replaced by a newer one")]
    Stale,
    /// Of this vault, of a set that never stood or that another share of this attempt is not of.
    #[error("this share is of another set than the one that is being entered")]
    WrongSet,
    /// The same share again.
    #[error("share {index} was already entered")]
    Duplicate {
        /// Its number.
        index: u8,
    },
    /// It is well-formed and was never handed out.
    #[error("share {index} was altered: it is not the one that was handed out")]
    Altered {
        /// Its number.
        index: u8,
    },
    /// Enough shares of its set are in already.
    #[error("enough shares of this set are in, share {index} is not needed")]
    NotNeeded {
        /// Its number.
        index: u8,
    },
    /// k good shares gave something that is not the key that was split: the seal file was edited.
    #[error("the shares do not give the key: the seal file was altered")]
    NotTheRoot,
    /// The key is right, and this share lies about itself.
    #[error("share {index} is forged")]
    Forged {
        /// Its number.
        index: u8,
    },
    /// A defect of ours.
    #[error(transparent)]
    Derive(#[from] DeriveError),
}

/// Splits R: what the seal file keeps, and the shares by index from 1.
///
/// # Errors
/// When the numbers make no sense, or there is no randomness.
pub fn split_root(
    root: &RootKey,
    vault: StoreId,
    numbers: (u8, u8),
    random: FillRandom<'_>,
) -> Result<(ShareSet, Vec<Share>), SplitError> {
    split(Splitting::Root(root), vault, numbers, random)
}

/// Splits a key: what the seal file keeps, and the shares by index from 1.
pub(super) fn split(
    key: Splitting<'_>,
    vault: StoreId,
    (threshold, count): (u8, u8),
    random: FillRandom<'_>,
) -> Result<(ShareSet, Vec<Share>), SplitError> {
    if threshold < 2 || threshold > count || count > MAX_SHARES {
        return Err(SplitError::Numbers);
    }
    let mut id = [0; 6];
    random(&mut id)?;
    let mac_key = key.mac_key(vault)?;
    let degree = usize::from(threshold).saturating_sub(1);
    let coefficients = Secret::fill_with(degree.saturating_mul(KEY_BYTES), random)?;

    let mut shares = Vec::with_capacity(usize::from(count));
    for x in 1..=count {
        let point = evaluate(key.secret(), &coefficients, x)?;
        let vault = tag_of(vault);
        let mut share =
            Share { set: SetId(id), vault, threshold, count, point, mac: [0; MAC_BYTES] };
        share.mac = share.expected_mac(&mac_key);
        shares.push(share);
    }
    let commitment = key.commitment(vault)?;
    let digests = shares.iter().map(Share::digest).collect();
    Ok((ShareSet { id: SetId(id), threshold, count, commitment, digests }, shares))
}

impl Splitting<'_> {
    fn secret(&self) -> &LockedKey {
        match self {
            Self::Root(root) => root.secret(),
            Self::Lock(key) => key.secret(),
        }
    }

    fn mac_key(self, vault: StoreId) -> Result<ShareMacKey, DeriveError> {
        match self {
            Self::Root(root) => keys::derive_share_mac_key(root, vault),
            Self::Lock(key) => keys::derive_lock_share_mac_key(key, vault),
        }
    }

    fn commitment(self, vault: StoreId) -> Result<[u8; TAG_BYTES], DeriveError> {
        match self {
            Self::Root(root) => keys::derive_root_commitment(root, vault),
            Self::Lock(key) => keys::derive_lock_commitment(key, vault),
        }
    }
}

impl Share {
    /// Its number, from 1.
    pub fn index(&self) -> u8 {
        self.point.expose(|point| point.last().copied().unwrap_or(0))
    }

    /// Its set.
    pub fn set(&self) -> SetId {
        self.set
    }

    /// How many are needed.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Lends the share's bytes, in the order of the drawing.
    pub(super) fn body<T>(&self, see: impl FnOnce(&[u8]) -> T) -> T {
        self.said(&self.mac, see)
    }

    fn said<T>(&self, mac: &[u8], see: impl FnOnce(&[u8]) -> T) -> T {
        let mut bytes = Zeroizing::new(Vec::with_capacity(BODY_BYTES));
        bytes.push(SHARE_VERSION);
        bytes.extend_from_slice(&self.set.0);
        bytes.extend_from_slice(&self.vault);
        bytes.extend_from_slice(&[self.threshold, self.count]);
        self.point.expose(|point| bytes.extend_from_slice(point));
        bytes.extend_from_slice(mac);
        see(&bytes)
    }

    fn digest(&self) -> [u8; TAG_BYTES] {
        self.body(keys::digest_share)
    }

    fn expected_mac(&self, key: &ShareMacKey) -> [u8; MAC_BYTES] {
        let tag = self.said(&[], |said| keys::tag_share(key, said));
        let [mac, _] = *tag.as_chunks::<MAC_BYTES>().0 else { return [0; MAC_BYTES] };
        mac
    }

    /// Finds the set in which this share was handed out, and names what is wrong with it.
    pub(super) fn check<'a>(&self, file: &'a SealFile) -> Result<&'a ShareSet, ShareRefusal> {
        if self.vault != tag_of(file.vault) {
            return Err(ShareRefusal::ForeignVault);
        }
        if file.retired.contains(&self.set) {
            return Err(ShareRefusal::Stale);
        }
        let set = file.share_sets().find(|set| set.id == self.set).ok_or(ShareRefusal::WrongSet)?;
        let index = self.index();
        let expected = usize::from(index).checked_sub(1).and_then(|at| set.digests.get(at));
        match expected {
            Some(expected) if bool::from(self.digest().ct_eq(expected)) => Ok(set),
            Some(_) | None => Err(ShareRefusal::Altered { index }),
        }
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<share {} of {}>", self.index(), self.count)
    }
}

/// The key of exactly k checked shares of one set.
pub(super) fn combine(
    (set, gives): (&ShareSet, Gives),
    vault: StoreId,
    shares: &[Share],
) -> Result<Combined, ShareRefusal> {
    let secret = interpolate(shares)?;
    let combined = match gives {
        Gives::Root => Combined::Root(RootKey::from_secret(secret)?),
        Gives::Lock => Combined::Lock(ShareLockKey::from_secret(secret)?),
    };
    let key = match &combined {
        Combined::Root(root) => Splitting::Root(root),
        Combined::Lock(key) => Splitting::Lock(key),
    };
    if !bool::from(key.commitment(vault)?.ct_eq(&set.commitment)) {
        return Err(ShareRefusal::NotTheRoot);
    }
    let mac_key = key.mac_key(vault)?;
    match shares.iter().find(|share| !bool::from(share.expected_mac(&mac_key).ct_eq(&share.mac))) {
        Some(forged) => Err(ShareRefusal::Forged { index: forged.index() }),
        None => Ok(combined),
    }
}

fn tag_of(vault: StoreId) -> [u8; VAULT_BYTES] {
    let [tag, _] = *vault.0.as_chunks::<VAULT_BYTES>().0 else { return [0; VAULT_BYTES] };
    tag
}

/// The polynomials at `x`, by Horner's rule: the highest coefficients are the last 32 bytes.
fn evaluate(secret: &LockedKey, coefficients: &Secret, x: u8) -> Result<Secret, DeriveError> {
    Secret::fill_with(POINT_BYTES, |point| {
        let (last, y) = point.split_last_mut().ok_or(DeriveError::Defect)?;
        *last = x;
        let mut step = |coefficients: &[u8]| {
            for (y, coefficient) in y.iter_mut().zip(coefficients) {
                *y = multiply(*y, x) ^ coefficient;
            }
        };
        coefficients.expose(|all| all.rchunks_exact(KEY_BYTES).for_each(&mut step));
        secret.expose(step);
        Ok(())
    })
}

/// Lagrange at 0. Over x = 1, 2, 3 every weight is 1 in any field, so tests must use others too.
pub(super) fn interpolate(shares: &[Share]) -> Result<Secret, DeriveError> {
    Secret::fill_with(KEY_BYTES, |secret| {
        for share in shares {
            let weight = weight_of(share.index(), shares);
            share.point.expose(|point| {
                for (byte, y) in secret.iter_mut().zip(point) {
                    *byte ^= multiply(weight, *y);
                }
            });
        }
        Ok(())
    })
}

fn weight_of(x: u8, shares: &[Share]) -> u8 {
    let others = shares.iter().map(Share::index).filter(|other| *other != x);
    others.fold(1, |weight, other| multiply(weight, multiply(other, invert(other ^ x))))
}

#[cfg(test)]
pub(super) mod tests {
    use sha2::{Digest, Sha256};

    use super::*;
    use crate::seal::field::oracle::Tables;

    const VAULT: StoreId = StoreId([7; 16]);

    fn root(byte: u8) -> RootKey {
        RootKey::from_secret(Secret::copy_from(&[byte; 32])).unwrap()
    }

    fn split(root: &RootKey, threshold: u8, count: u8) -> (ShareSet, Vec<Share>) {
        split_root(root, VAULT, (threshold, count), &mut getrandom::fill).unwrap()
    }

    /// Three shares with these bytes in each, of no set at all.
    pub(in crate::seal) fn bare_shares(bytes: &[u8; KEY_BYTES]) -> Vec<Share> {
        let share = |x| Share {
            set: SetId([0; 6]),
            vault: [0; VAULT_BYTES],
            threshold: 3,
            count: 5,
            point: Secret::copy_from(&[&bytes[..], &[x]].concat()),
            mac: [0; MAC_BYTES],
        };
        [1, 2, 5].map(share).into()
    }

    fn copy(share: &Share) -> Share {
        let point = share.point.expose(Secret::copy_from);
        Share { point, ..*share }
    }

    fn chosen(shares: &[Share], choice: u16) -> Vec<Share> {
        let picked = shares.iter().enumerate().filter(|(index, _)| choice & (1 << index) != 0);
        picked.map(|(_, share)| copy(share)).collect()
    }

    fn combine_root(set: &ShareSet, shares: &[Share]) -> Result<RootKey, ShareRefusal> {
        match combine((set, Gives::Root), VAULT, shares)? {
            Combined::Root(root) => Ok(root),
            Combined::Lock(_) => panic!("a lock's key"),
        }
    }

    /// HashiCorp's combine, written again over tables: y…‖x, Lagrange at 0.
    fn oracle_combine(points: &[Vec<u8>]) -> Vec<u8> {
        let tables = Tables::make();
        let weight = |one: &[u8]| {
            points.iter().filter(|other| other[32] != one[32]).fold(1, |weight, other| {
                tables.multiply(weight, tables.divide(other[32], other[32] ^ one[32]))
            })
        };
        (0..32)
            .map(|at| points.iter().fold(0, |sum, p| sum ^ tables.multiply(weight(p), p[at])))
            .collect()
    }

    #[test]
    fn any_k_of_n_shares_give_the_root_back_and_fewer_give_something_else() {
        let root = RootKey::make(&mut getrandom::fill).unwrap();
        for count in 2..=9_u8 {
            for threshold in 2..=count.min(5) {
                let (set, shares) = split(&root, threshold, count);
                for choice in 0_u16..1 << count {
                    let some = chosen(&shares, choice);
                    let combined = combine_root(&set, &some);
                    if choice.count_ones() >= u32::from(threshold) {
                        assert!(root.secret().expose(|r| combined.unwrap().secret().matches(r)));
                    } else {
                        assert!(matches!(combined, Err(ShareRefusal::NotTheRoot)));
                    }
                }
            }
        }
    }

    // Guards the layout against another field or order. With x = 1, 2, 3 all weights are 1, and a
    // wrong field goes unnoticed: so x ≥ 2.
    #[test]
    fn shares_2_3_4_combine_in_an_independent_implementation_of_hashicorps_layout() {
        let root = RootKey::make(&mut getrandom::fill).unwrap();
        let (_, shares) = split(&root, 3, 6);
        for choice in [0b001_110, 0b111_000, 0b110_100] {
            let points: Vec<Vec<u8>> = chosen(&shares, choice)
                .iter()
                .map(|share| share.point.expose(<[u8]>::to_vec))
                .collect();
            assert!(root.secret().matches(&oracle_combine(&points)));
        }
    }

    /// Points of the polynomial 0x42 + 0x9d·x + 0x17·x² per byte, worked out over the tables.
    #[test]
    fn points_made_elsewhere_are_combined_here() {
        let tables = Tables::make();
        let shares: Vec<Share> = [2_u8, 3, 4, 200]
            .into_iter()
            .map(|x| {
                let (linear, square) =
                    (tables.multiply(0x9d, x), tables.multiply(0x17, tables.multiply(x, x)));
                let mut point = vec![0x42 ^ linear ^ square; 32];
                point.push(x);
                let point = Secret::take(point);
                Share {
                    set: SetId([0; 6]),
                    vault: [0; 8],
                    threshold: 3,
                    count: 4,
                    point,
                    mac: [0; 16],
                }
            })
            .collect();
        for three in [0b0111, 0b1110, 0b1011, 0b1101] {
            assert!(interpolate(&chosen(&shares, three)).unwrap().matches(&[0x42; 32]));
        }
    }

    // Guards uniform coefficients. Red when a zero coefficient is drawn again or the top bit is cut.
    // 255 degrees of freedom: mean 255, deviation 22.6; 400 is more than six deviations away.
    #[test]
    fn coefficients_are_uniform_by_chi_square() {
        let root = root(0x42);
        let tables = Tables::make();
        let mut seen = [0_u32; 256];
        let rounds = 4_000;
        for _ in 0..rounds {
            let (_, shares) = split(&root, 2, 2);
            shares[1].point.expose(|point| {
                for y in &point[..32] {
                    seen[usize::from(tables.divide(y ^ 0x42, 2))] += 1;
                }
            });
        }
        let expected = f64::from(rounds * 32) / 256.0;
        let chi: f64 = seen.iter().map(|n| (f64::from(*n) - expected).powi(2) / expected).sum();
        assert!((150.0..400.0).contains(&chi), "chi-square {chi}");
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for numbers in [(0, 0), (0, 3), (1, 1), (1, 3), (4, 3), (2, 33), (2, 255)] {
            let refused = split_root(&root(1), VAULT, numbers, &mut getrandom::fill);
            assert!(matches!(refused, Err(SplitError::Numbers)), "{numbers:?}");
        }
    }

    // Guards the MAC. Red when `combine` does not compare it.
    #[test]
    fn a_share_that_lies_about_itself_is_forged_even_when_its_point_is_good() {
        let root = root(9);
        let (set, shares) = split(&root, 2, 3);
        let mut lying = chosen(&shares, 0b110);
        lying[1].threshold = 3;
        assert!(matches!(combine_root(&set, &lying), Err(ShareRefusal::Forged { index: 3 })));
        let mut lying = chosen(&shares, 0b110);
        lying[0].mac[0] ^= 1;
        assert!(matches!(combine_root(&set, &lying), Err(ShareRefusal::Forged { index: 2 })));
    }

    #[test]
    fn a_share_shows_its_number_and_no_byte() {
        let (_, shares) = split(&root(1), 2, 3);
        assert_eq!(format!("{:?}", shares[1]), "<share 2 of 3>");
    }

    /// Random bytes that are the same for ever.
    pub(in crate::seal) fn golden_random() -> impl FnMut(&mut [u8]) -> Result<(), getrandom::Error>
    {
        let mut block = 0_u32;
        move |bytes| {
            for chunk in bytes.chunks_mut(32) {
                let digest = Sha256::digest([b"golden".as_slice(), &block.to_be_bytes()].concat());
                chunk.copy_from_slice(&digest[..chunk.len()]);
                block += 1;
            }
            Ok(())
        }
    }
}
