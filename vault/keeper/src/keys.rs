//! Every derivation of a key, every label and every associated-data layout, side by side.
//!
//! ```text
//! R ──── keyring key ── seals the keyring, which holds, drawn at random:
//! │                       system seed ── manifest, set hash, mark, journal, audit signing,
//! │                                      token hash, pepper, subject tag, upload
//! │                       epoch keys ×
//! │                       tenant roots ── tenant key of (tenant, epoch) ─┐
//! │                       shred keys ────────────────────────────────────┴─ record keys
//! ├──── share MAC key
//! └──── root commitment (public)
//! passphrase ── Argon2id ── passphrase key ─┐
//! shares ── lock key (random, split) ───────┼── way key ── seals R
//! TPM ── machine key, moment key ── lock key ┘
//! ```
//!
//! Invariant: one label per derivation, and every input is length-prefixed, so that no two
//! derivations and no two contexts ever hash the same bytes.
//! Invariant: a key wraps keys or seals data, never both.

mod resting;
mod typed;

use std::marker::PhantomData;

use hkdf::{Hkdf, HkdfExtract};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use strongroom_policy::id::{TenantId, UserId};
use strongroom_sys::locked::LockError;
use strongroom_sys::{Locked, LockedKey, Secret, stack};
use zeroize::Zeroizing;

pub use resting::{Resting, RestingSeal, RestingShredKey, RestingTenantKey};
pub use typed::{
    AuditSigningSeed, EpochKey, JournalKey, Key, KeyringKey, ManifestKey, MarkKey, PassphraseKey,
    Pepper, RootKey, SetHashKey, ShareLockKey, ShareMacKey, ShredKey, StreamKey, SubjectTagKey,
    SystemSeed, TenantKey, TenantRoot, TokenHashKey, TpmLockKey, TpmMachineKey, TpmMomentKey,
    UploadKeyPair, WayKey, purpose,
};

const KEYRING: &[u8] = b"strongroom/v1/key/keyring";
const ROOT_COMMITMENT: &[u8] = b"strongroom/v1/commitment/root";
const SHARE_MAC: &[u8] = b"strongroom/v1/key/share-mac";
const LOCK_COMMITMENT: &[u8] = b"strongroom/v1/commitment/share-lock";
const LOCK_SHARE_MAC: &[u8] = b"strongroom/v1/key/share-lock-mac";
const WAY: &[u8] = b"strongroom/v1/key/way";
const TPM_LOCK: &[u8] = b"strongroom/v1/key/tpm-lock";
const TPM_PIN: &[u8] = b"strongroom/v1/key/tpm-pin";
const TENANT: &[u8] = b"strongroom/v1/key/tenant";
const MANIFEST: &[u8] = b"strongroom/v1/key/manifest";
const SET_HASH: &[u8] = b"strongroom/v1/key/set-hash";
const MARK: &[u8] = b"strongroom/v1/key/mark";
const JOURNAL: &[u8] = b"strongroom/v1/key/journal";
const AUDIT_SIGNING: &[u8] = b"strongroom/v1/key/audit-signing";
const TOKEN_HASH: &[u8] = b"strongroom/v1/key/token-hash";
const PEPPER: &[u8] = b"strongroom/v1/key/pepper";
const SUBJECT_TAG: &[u8] = b"strongroom/v1/key/subject-tag";
const UPLOAD: &[u8] = b"strongroom/v1/key/upload";
const STREAM: &[u8] = b"strongroom/v1/key/stream";

const RECORD_CONTEXT: &[u8] = b"strongroom/v1/context/record";
const SET_ELEMENT: &[u8] = b"strongroom/v1/expand/set-element";

const TOKEN_TAG: &[u8] = b"strongroom/v1/mac/token";
const VERIFIER_TAG: &[u8] = b"strongroom/v1/mac/verifier";
const IDEMPOTENCY_TAG: &[u8] = b"strongroom/v1/mac/idempotency";
const SESSION_TAG: &[u8] = b"strongroom/v1/mac/session";
const INVITATION_TAG: &[u8] = b"strongroom/v1/mac/invitation";
const DECOY_TAG: &[u8] = b"strongroom/v1/mac/decoy-salt";
const JOURNAL_TAG: &[u8] = b"strongroom/v1/mac/journal";
const SHARE_TAG: &[u8] = b"strongroom/v1/mac/share";
const MARK_TAG: &[u8] = b"strongroom/v1/mac/mark";
const ELEMENT_TAG: &[u8] = b"strongroom/v1/mac/set-element";

const SHARE_DIGEST: &[u8] = b"strongroom/v1/digest/share";
const STATE_DIGEST: &[u8] = b"strongroom/v1/digest/state";
const SHARE_CHECKSUM: &[u8] = b"strongroom/v1/digest/share-text";

/// Length of every key, 256 bits.
pub const KEY_BYTES: usize = 32;
/// More stack than a derivation, a MAC or a cipher uses without optimisation, where AES takes 28 KiB; with it, 8.
pub(crate) const STACK_BYTES: usize = 32 * 1024;
/// More stack than HPKE and the curve below it use.
pub(crate) const HPKE_STACK_BYTES: usize = 64 * 1024;
/// More than a MAC over hashed pads uses: one is made several times for each call.
const MAC_STACK_BYTES: usize = 4 * 1024;
/// Length of a MAC, a digest and a commitment.
pub const TAG_BYTES: usize = 32;
/// Length of an element of the set hash: 1,024 lanes of 16 bits (`LtHash16`).
pub const ELEMENT_BYTES: usize = 2048;

/// Fills a buffer with unpredictable bytes; callers outside tests pass `&mut getrandom::fill`.
pub type FillRandom<'a> = &'a mut dyn FnMut(&mut [u8]) -> Result<(), getrandom::Error>;

/// Why there is no such key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeriveError {
    /// HKDF refused a length, or a key is not 32 bytes: a defect of ours, never of the input.
    #[error("a key was derived or taken with a wrong length")]
    Defect,
    /// There is no locked memory for it, or no randomness.
    #[error("{0}")]
    Memory(#[from] LockError),
}

impl DeriveError {
    /// Whether what failed is that the locked memory for keys is taken.
    pub fn is_behind(error: &(dyn std::error::Error + 'static)) -> bool {
        let mut sources = std::iter::successors(Some(error), |error| error.source());
        sources.any(|source| {
            source.downcast_ref::<LockError>().is_some_and(|error| *error == LockError::Exhausted)
        })
    }
}

/// Which vault: drawn at random by `init`, in every context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreId(pub [u8; 16]);

/// Which way to R: counted up within a vault, never given again.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct WayId(pub u32);

/// The key of one lock of a way.
#[derive(Debug)]
pub enum LockKey {
    /// Stretched from a passphrase.
    Passphrase(PassphraseKey),
    /// Combined from shares.
    Shares(ShareLockKey),
    /// Unsealed by the TPM.
    Tpm(TpmLockKey),
}

impl LockKey {
    fn parts(&self) -> (&'static [u8], &LockedKey) {
        match self {
            Self::Passphrase(key) => (b"passphrase", key.secret()),
            Self::Shares(key) => (b"shares", key.secret()),
            Self::Tpm(key) => (b"tpm", key.secret()),
        }
    }
}

/// A generation of tenant keys: every new write uses the newest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch(pub u32);

/// The version of one record, counted up by each rewrite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordVersion(pub u64);

/// Which record: its key in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordId<'a>(pub &'a [u8]);

/// Whose record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The appliance's own.
    System,
    /// A tenant's.
    Tenant(TenantId),
}

/// What a record is; the label is part of the context and never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// R under the locks of a way.
    Root,
    /// The keyring.
    Keyring,
    /// The manifest.
    Manifest,
    /// A provider's key.
    Credential,
    /// An operator's definition of a provider.
    Provider,
    /// A person or a program.
    Person,
    /// An API token's hash and scope.
    Token,
    /// A workspace and its members.
    Workspace,
    /// What a tenant is called.
    Tenant,
    /// A tenant's rules.
    Rules,
    /// A budget's totals.
    Budget,
    /// A session.
    Session,
    /// The appliance's settings.
    Settings,
    /// A password's verifier.
    Verifier,
    /// What was tried in vain.
    Tries,
    /// An invitation.
    Invitation,
    /// What signs sessions.
    SessionKey,
}

impl Kind {
    const fn label(self) -> &'static [u8] {
        match self {
            Self::Root => b"root",
            Self::Keyring => b"keyring",
            Self::Manifest => b"manifest",
            Self::Credential => b"credential",
            Self::Provider => b"provider",
            Self::Person => b"person",
            Self::Token => b"token",
            Self::Workspace => b"workspace",
            Self::Tenant => b"tenant",
            Self::Rules => b"rules",
            Self::Budget => b"budget",
            Self::Session => b"session",
            Self::Settings => b"settings",
            Self::Verifier => b"verifier",
            Self::Tries => b"tries",
            Self::Invitation => b"invitation",
            Self::SessionKey => b"session-key",
        }
    }
}

/// The cipher of one envelope; the choice is the CPU's, reading knows both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Where the CPU has AES instructions.
    Aes256Gcm,
    /// Elsewhere.
    ChaCha20Poly1305,
}

impl Algorithm {
    /// The byte in the envelope.
    pub const fn code(self) -> u8 {
        match self {
            Self::Aes256Gcm => 1,
            Self::ChaCha20Poly1305 => 2,
        }
    }

    /// The algorithm of an envelope's byte.
    pub const fn parse(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Aes256Gcm),
            2 => Some(Self::ChaCha20Poly1305),
            _ => None,
        }
    }
}

/// How an envelope's key is derived: its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// The appliance's own envelopes: R, keyring and manifest. And tenants' records as the first version wrote them, of which
    /// only a credential's key was mixed with a shred key; read until the last of them is rewritten, then refused.
    One,
    /// Tenants' records: whatever has an owner is mixed with the owner's shred key (`records.rs`).
    Two,
}

impl Format {
    /// What tenants' records are written in.
    pub const NEWEST: Self = Self::Two;

    /// The byte in the envelope.
    pub const fn code(self) -> u8 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// The format of an envelope's byte.
    pub const fn parse(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::One),
            2 => Some(Self::Two),
            _ => None,
        }
    }
}

/// What an envelope belongs to; both the associated data and the `info` of its key derivation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context<'a> {
    /// The vault.
    pub store: StoreId,
    /// Whose.
    pub scope: Scope,
    /// Under which generation of keys.
    pub epoch: Epoch,
    /// What.
    pub kind: Kind,
    /// Which.
    pub record: RecordId<'a>,
    /// Which rewrite of it.
    pub version: RecordVersion,
}

impl Context<'_> {
    /// `label ‖ format ‖ store ‖ tenant ‖ epoch ‖ kind ‖ record ‖ version ‖ algorithm`, each
    /// length-prefixed; the system's tenant is empty, numbers are big-endian.
    pub fn encode(&self, format: Format, algorithm: Algorithm) -> Vec<u8> {
        let tenant: &[u8] = match &self.scope {
            Scope::System => &[],
            Scope::Tenant(tenant) => tenant.bytes(),
        };
        length_prefixed(&[
            RECORD_CONTEXT,
            &[format.code()],
            &self.store.0,
            tenant,
            &self.epoch.0.to_be_bytes(),
            self.kind.label(),
            self.record.0,
            &self.version.0.to_be_bytes(),
            &[algorithm.code()],
        ])
    }
}

/// The key above a record's key. One constructor per key that may seal an envelope.
pub struct RecordKeySource<'a> {
    key: &'a LockedKey,
    shred: Option<&'a LockedKey>,
    format: Format,
}

impl<'a> RecordKeySource<'a> {
    /// Records of a tenant; with the shred key of their owner they die with it.
    pub fn from_tenant(key: &'a TenantKey, shred: Option<&'a ShredKey>, format: Format) -> Self {
        Self { key: key.secret(), shred: shred.map(Key::secret), format }
    }

    /// The keyring.
    pub fn from_keyring(key: &'a KeyringKey) -> Self {
        Self { key: key.secret(), shred: None, format: Format::One }
    }

    /// The manifest.
    pub fn from_manifest(key: &'a ManifestKey) -> Self {
        Self { key: key.secret(), shred: None, format: Format::One }
    }

    /// R under a way's locks.
    pub fn from_way(key: &'a WayKey) -> Self {
        Self { key: key.secret(), shred: None, format: Format::One }
    }

    /// R under a passphrase, as the seal file's format 1 had it; opened to be rewritten only.
    pub fn from_passphrase(key: &'a PassphraseKey) -> Self {
        Self { key: key.secret(), shred: None, format: Format::One }
    }

    /// The one format that this source seals and opens.
    pub(crate) fn format(&self) -> Format {
        self.format
    }
}

/// The key and the commitment of one envelope.
pub struct RecordKey {
    /// Used once: one key, one nonce, one message.
    pub(crate) key: Secret,
    /// Binds the envelope to this key and context, which AES-GCM and ChaCha20-Poly1305 do not.
    pub(crate) commitment: [u8; TAG_BYTES],
}

/// `HKDF(source, salt ‖ shred key, context) → key ‖ commitment`.
pub(crate) fn derive_record_key(
    source: &RecordKeySource<'_>,
    salt: &[u8; KEY_BYTES],
    context: &[u8],
) -> Result<RecordKey, DeriveError> {
    let mut full_salt = Zeroizing::new(Vec::with_capacity(KEY_BYTES.saturating_mul(2)));
    full_salt.extend_from_slice(salt);
    if let Some(shred) = source.shred {
        shred.expose(|shred| full_salt.extend_from_slice(shred));
    }
    stack::wiping::<STACK_BYTES, _>(|| {
        let hkdf = source.key.expose(|key| Hkdf::<Sha256>::new(Some(&full_salt), key));
        let mut output = Zeroizing::new([0_u8; 64]);
        hkdf.expand(context, output.as_mut_slice()).map_err(|_| DeriveError::Defect)?;
        let (key, commitment) =
            output.split_first_chunk::<KEY_BYTES>().ok_or(DeriveError::Defect)?;
        let commitment = *commitment.first_chunk().ok_or(DeriveError::Defect)?;
        Ok(RecordKey { key: Secret::copy_from(key), commitment })
    })
}

/// R → the key that seals the keyring.
pub fn derive_keyring_key(root: &RootKey, store: StoreId) -> Result<KeyringKey, DeriveError> {
    derive(root, &[], &[KEYRING, &store.0])
}

/// R → what the seal file may publish of it.
pub fn derive_root_commitment(
    root: &RootKey,
    store: StoreId,
) -> Result<[u8; TAG_BYTES], DeriveError> {
    let commitment: Key<()> = derive(root, &[], &[ROOT_COMMITMENT, &store.0])?;
    commitment.secret().expose(|bytes| bytes.try_into().map_err(|_| DeriveError::Defect))
}

/// R → the key that authenticates its shares once they are combined.
pub fn derive_share_mac_key(root: &RootKey, store: StoreId) -> Result<ShareMacKey, DeriveError> {
    derive(root, &[], &[SHARE_MAC, &store.0])
}

/// The split key of a lock → what the seal file may publish of it.
pub fn derive_lock_commitment(
    key: &ShareLockKey,
    store: StoreId,
) -> Result<[u8; TAG_BYTES], DeriveError> {
    let commitment: Key<()> = derive(key, &[], &[LOCK_COMMITMENT, &store.0])?;
    commitment.secret().expose(|bytes| bytes.try_into().map_err(|_| DeriveError::Defect))
}

/// The split key of a lock → the key that authenticates its shares once they are combined.
pub fn derive_lock_share_mac_key(
    key: &ShareLockKey,
    store: StoreId,
) -> Result<ShareMacKey, DeriveError> {
    derive(key, &[], &[LOCK_SHARE_MAC, &store.0])
}

/// The two halves that a TPM unseals → the key of its lock; without either of them there is nothing.
pub fn derive_tpm_lock_key(
    machine: &TpmMachineKey,
    moment: &TpmMomentKey,
    store: StoreId,
) -> Result<TpmLockKey, DeriveError> {
    moment.secret().expose(|moment| derive(machine, moment, &[TPM_LOCK, &store.0]))
}

/// A PIN → what the TPM is shown of it. The TPM counts guesses, so nothing is stretched. It does not end in a zero, which
/// TPMs drop.
pub fn derive_tpm_pin(
    pin: &[u8],
    store: StoreId,
    storage: &[u8; 32],
) -> Result<Zeroizing<[u8; KEY_BYTES]>, DeriveError> {
    let mut shown = Zeroizing::new([0; KEY_BYTES]);
    let info = length_prefixed(&[TPM_PIN, &store.0, storage]);
    Hkdf::<Sha256>::new(None, pin)
        .expand(&info, shown.as_mut_slice())
        .map_err(|_| DeriveError::Defect)?;
    if let Some(last) = shown.last_mut() {
        *last |= 1;
    }
    Ok(shown)
}

/// The keys of all locks of a way, in its order → the key that seals R.
///
/// `HKDF-SHA256(kind ‖ key ‖ …, info = label, vault, way, kinds)`: whoever lacks one of them has nothing.
pub fn derive_way_key(
    locks: &[&LockKey],
    store: StoreId,
    way: WayId,
) -> Result<WayKey, DeriveError> {
    let room = locks.len().saturating_mul(64);
    let mut material = Zeroizing::new(Vec::with_capacity(room));
    let id = way.0.to_be_bytes();
    let mut info: Vec<&[u8]> = vec![WAY, &store.0, &id];
    for lock in locks {
        let (kind, key) = lock.parts();
        info.push(kind);
        for part in [&length(kind), kind, &length(&[0; KEY_BYTES])] {
            material.extend_from_slice(part);
        }
        key.expose(|key| material.extend_from_slice(key));
    }
    if material.len() > room {
        return Err(DeriveError::Defect);
    }
    let info = length_prefixed(&info);
    Key::fill_with(|out| {
        stack::wiping::<STACK_BYTES, _>(|| {
            let hkdf = Hkdf::<Sha256>::new(None, &material);
            hkdf.expand(&info, out).map_err(|_| DeriveError::Defect)
        })
    })
}

/// Tenant root and epoch key → the tenant's key in that epoch; the loss of either ends it.
pub fn derive_tenant_key(
    root: &TenantRoot,
    (epoch, epoch_key): (Epoch, &EpochKey),
    (store, tenant): (StoreId, &TenantId),
) -> Result<TenantKey, DeriveError> {
    let info: [&[u8]; 4] = [TENANT, &store.0, tenant.bytes(), &epoch.0.to_be_bytes()];
    epoch_key.secret().expose(|salt| derive(root, salt, &info))
}

/// System seed → the key that seals the manifest.
pub fn derive_manifest_key(seed: &SystemSeed, store: StoreId) -> Result<ManifestKey, DeriveError> {
    derive(seed, &[], &[MANIFEST, &store.0])
}

/// System seed → the key of the set hash.
pub fn derive_set_hash_key(seed: &SystemSeed, store: StoreId) -> Result<SetHashKey, DeriveError> {
    derive(seed, &[], &[SET_HASH, &store.0])
}

/// System seed → the key of the commit mark in the store.
pub fn derive_mark_key(seed: &SystemSeed, store: StoreId) -> Result<MarkKey, DeriveError> {
    derive(seed, &[], &[MARK, &store.0])
}

/// System seed → the key of the journal's MACs.
pub fn derive_journal_key(seed: &SystemSeed, store: StoreId) -> Result<JournalKey, DeriveError> {
    derive(seed, &[], &[JOURNAL, &store.0])
}

/// System seed → the Ed25519 seed that signs checkpoints.
pub fn derive_audit_signing_seed(
    seed: &SystemSeed,
    store: StoreId,
) -> Result<AuditSigningSeed, DeriveError> {
    derive(seed, &[], &[AUDIT_SIGNING, &store.0])
}

/// System seed → the key under which API tokens are hashed.
pub fn derive_token_hash_key(
    seed: &SystemSeed,
    store: StoreId,
) -> Result<TokenHashKey, DeriveError> {
    derive(seed, &[], &[TOKEN_HASH, &store.0])
}

/// System seed → the pepper of password verifiers.
pub fn derive_pepper(seed: &SystemSeed, store: StoreId) -> Result<Pepper, DeriveError> {
    derive(seed, &[], &[PEPPER, &store.0])
}

/// System seed → the key of idempotency tags.
pub fn derive_subject_tag_key(
    seed: &SystemSeed,
    store: StoreId,
) -> Result<SubjectTagKey, DeriveError> {
    derive(seed, &[], &[SUBJECT_TAG, &store.0])
}

/// System seed → the input of HPKE's `DeriveKeyPair` (RFC 9180, 7.1.3) for sealed uploads.
pub fn derive_upload_key_pair(
    seed: &SystemSeed,
    store: StoreId,
) -> Result<UploadKeyPair, DeriveError> {
    derive(seed, &[], &[UPLOAD, &store.0])
}

/// System seed, salt and header → the key of one backup: a header that was changed leads to another key.
pub fn derive_stream_key(
    seed: &SystemSeed,
    store: StoreId,
    (salt, header): (&[u8; KEY_BYTES], &[u8]),
) -> Result<StreamKey, DeriveError> {
    derive(seed, salt, &[STREAM, &store.0, &Sha256::digest(header)])
}

/// What the store keeps of an API token.
pub fn tag_token(key: &MacKey<purpose::TokenHash>, token: &[u8]) -> [u8; TAG_BYTES] {
    key.mac(&[TOKEN_TAG, token])
}

/// What the store keeps of a session's text.
pub fn tag_session(key: &MacKey<purpose::TokenHash>, text: &[u8]) -> [u8; TAG_BYTES] {
    key.mac(&[SESSION_TAG, text])
}

/// What the store keeps of an invitation.
pub fn tag_invitation(key: &MacKey<purpose::TokenHash>, text: &[u8]) -> [u8; TAG_BYTES] {
    key.mac(&[INVITATION_TAG, text])
}

/// The salts of a name that nobody has: always the same ones, and like any other.
pub fn tag_decoy(key: &MacKey<purpose::TokenHash>, tenant: &[u8], name: &[u8]) -> [u8; TAG_BYTES] {
    key.mac(&[DECOY_TAG, tenant, name])
}

/// What the store keeps of a password's Argon2id output.
pub fn tag_verifier(key: &Pepper, user: &UserId, verifier: &[u8]) -> [u8; TAG_BYTES] {
    mac(key.secret(), &[VERIFIER_TAG, user.bytes(), verifier])
}

/// A subject's idempotency key as the provider sees it: no subject can name another's.
pub fn tag_idempotency(
    key: &MacKey<purpose::SubjectTag>,
    user: &UserId,
    value: &[u8],
) -> [u8; TAG_BYTES] {
    key.mac(&[IDEMPOTENCY_TAG, user.bytes(), value])
}

/// A journal record chained to the tag before it.
pub fn tag_journal(
    key: &MacKey<purpose::Journal>,
    before: &[u8; TAG_BYTES],
    record: &[u8],
) -> [u8; TAG_BYTES] {
    key.mac(&[JOURNAL_TAG, before, record])
}

/// A share's authenticator over everything that it says.
pub(crate) fn tag_share(key: &ShareMacKey, said: &[u8]) -> [u8; TAG_BYTES] {
    mac(key.secret(), &[SHARE_TAG, said])
}

/// The authenticator of the commit number that lies in the store.
pub(crate) fn tag_mark(key: &MarkKey, store: StoreId, commit: u64) -> [u8; TAG_BYTES] {
    mac(key.secret(), &[MARK_TAG, &store.0, &commit.to_be_bytes()])
}

/// The element of the set hash for one record: `HMAC(key, record ‖ SHA-256(value))`, expanded.
pub(crate) fn derive_set_element(
    key: &SetHashKey,
    record: RecordId<'_>,
    value: &[u8],
) -> Result<[u8; ELEMENT_BYTES], DeriveError> {
    let seed = mac(key.secret(), &[ELEMENT_TAG, record.0, &Sha256::digest(value)]);
    let mut element = [0_u8; ELEMENT_BYTES];
    let hkdf = Hkdf::<Sha256>::from_prk(&seed).map_err(|_| DeriveError::Defect)?;
    hkdf.expand(SET_ELEMENT, &mut element).map_err(|_| DeriveError::Defect)?;
    Ok(element)
}

/// What the seal file publishes of a share; its 256 uniform bits cannot be guessed from it.
pub(crate) fn digest_share(body: &[u8]) -> [u8; TAG_BYTES] {
    Sha256::digest(length_prefixed(&[SHARE_DIGEST, body])).into()
}

/// What the journal says of the store's state after a commit; the set hash in it is keyed, so nothing is learned from it.
pub(crate) fn digest_state(
    store: StoreId,
    (commit, count): (u64, u64),
    keyring: u64,
    set_hash: &[u8],
) -> [u8; TAG_BYTES] {
    let numbers = [commit, count, keyring].map(u64::to_be_bytes).concat();
    Sha256::digest(length_prefixed(&[STATE_DIGEST, &store.0, &numbers, set_hash])).into()
}

/// The checksum in a share's text.
pub(crate) fn checksum_share(body: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..]: [u8; TAG_BYTES] =
        Sha256::digest(length_prefixed(&[SHARE_CHECKSUM, body])).into();
    [a, b, c, d]
}

fn derive<F, T>(from: &Key<F>, salt: &[u8], info: &[&[u8]]) -> Result<Key<T>, DeriveError> {
    let info = length_prefixed(info);
    Key::fill_with(|out| {
        stack::wiping::<STACK_BYTES, _>(|| {
            let hkdf = from.secret().expose(|key| Hkdf::<Sha256>::new(Some(salt), key));
            hkdf.expand(&info, out).map_err(|_| DeriveError::Defect)
        })
    })
}

/// A key of MACs that are made for every call, with its pads hashed once: they are as secret as the key that they were made
/// of, and lie where it lay.
pub struct MacKey<P> {
    keyed: Locked<Hmac<Sha256>>,
    purpose: PhantomData<fn() -> P>,
}

impl<P> MacKey<P> {
    /// Hashes the key's pads.
    ///
    /// # Errors
    /// When there is no locked memory.
    pub fn new(key: &Key<P>) -> Result<Self, DeriveError> {
        let keyed = stack::wiping::<STACK_BYTES, _>(|| {
            let keyed = key.secret().expose(Hmac::new_from_slice);
            Ok::<_, DeriveError>(Locked::new(keyed.map_err(|_| DeriveError::Defect)?)?)
        })?;
        Ok(Self { keyed, purpose: PhantomData })
    }

    fn mac(&self, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
        stack::wiping::<MAC_STACK_BYTES, _>(|| {
            let mut hmac = self.keyed.expose(Hmac::clone);
            for part in parts {
                hmac.update(&length(part));
                hmac.update(part);
            }
            hmac.finalize().into_bytes().into()
        })
    }
}

/// HMAC-SHA256: HKDF-Extract is exactly that (RFC 5869, 2.2), and unlike `Hmac` it cannot fail.
fn mac(key: &LockedKey, parts: &[&[u8]]) -> [u8; TAG_BYTES] {
    stack::wiping::<STACK_BYTES, _>(|| {
        let mut hmac = key.expose(|key| HkdfExtract::<Sha256>::new(Some(key)));
        for part in parts {
            hmac.input_ikm(&length(part));
            hmac.input_ikm(part);
        }
        hmac.finalize().0.into()
    })
}

fn length_prefixed(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend_from_slice(&length(part));
        bytes.extend_from_slice(part);
    }
    bytes
}

fn length(part: &[u8]) -> [u8; 8] {
    u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes()
}

#[cfg(test)]
mod depth;
#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([7; 16]);

    #[test]
    fn no_label_is_used_twice_or_begins_another() {
        let labels: [&[u8]; 34] = [
            SESSION_TAG,
            INVITATION_TAG,
            DECOY_TAG,
            STREAM,
            KEYRING,
            ROOT_COMMITMENT,
            SHARE_MAC,
            LOCK_COMMITMENT,
            LOCK_SHARE_MAC,
            WAY,
            TPM_LOCK,
            TPM_PIN,
            TENANT,
            MANIFEST,
            SET_HASH,
            MARK,
            JOURNAL,
            AUDIT_SIGNING,
            TOKEN_HASH,
            PEPPER,
            SUBJECT_TAG,
            UPLOAD,
            RECORD_CONTEXT,
            SET_ELEMENT,
            TOKEN_TAG,
            VERIFIER_TAG,
            IDEMPOTENCY_TAG,
            JOURNAL_TAG,
            SHARE_TAG,
            MARK_TAG,
            ELEMENT_TAG,
            SHARE_DIGEST,
            SHARE_CHECKSUM,
            STATE_DIGEST,
        ];
        for (index, one) in labels.iter().enumerate() {
            for other in &labels[index + 1..] {
                assert_ne!(one, other);
            }
        }
    }

    #[test]
    fn moving_a_byte_between_neighbouring_fields_changes_the_context() {
        assert_ne!(length_prefixed(&[b"ab", b"c"]), length_prefixed(&[b"a", b"bc"]));
        // Nor can a field hold what looks like the beginning of the next one.
        for byte in [0_u8, 1] {
            let joined = [b"a".as_slice(), &[byte; 8], b"b"].concat();
            assert_ne!(length_prefixed(&[b"a", b"b"]), length_prefixed(&[joined.as_slice()]));
        }
        let key = TokenHashKey::from_secret(Secret::copy_from(&[1; 32])).unwrap();
        assert_ne!(mac(key.secret(), &[b"ab", b"c"]), mac(key.secret(), &[b"a", b"bc"]));
    }

    #[test]
    fn a_key_that_was_hashed_once_makes_the_same_tags_again_and_again() {
        let key = JournalKey::from_secret(Secret::copy_from(&[1; 32])).unwrap();
        let kept = MacKey::new(&key).unwrap();
        for record in [&b"one"[..], b"two"] {
            let anew = mac(key.secret(), &[JOURNAL_TAG, &[7; 32], record]);
            assert_eq!(tag_journal(&kept, &[7; 32], record), anew);
        }
    }

    /// RFC 4231, test case 2, with our framing taken off.
    #[test]
    fn the_mac_is_hmac_sha256() {
        let mut hmac = HkdfExtract::<Sha256>::new(Some(b"Jefe"));
        hmac.input_ikm(b"what do ya want for nothing?");
        assert_eq!(
            hex::encode(hmac.finalize().0),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn a_tenants_key_differs_by_tenant_epoch_epoch_key_and_store() {
        let root = TenantRoot::from_secret(Secret::copy_from(&[1; 32])).unwrap();
        let epoch_key = EpochKey::from_secret(Secret::copy_from(&[2; 32])).unwrap();
        let other_epoch_key = EpochKey::from_secret(Secret::copy_from(&[3; 32])).unwrap();
        let (one, two) = (TenantId::from_random([1; 16]), TenantId::from_random([2; 16]));
        let key = |epoch, epoch_key, store, tenant| {
            let key = derive_tenant_key(&root, (Epoch(epoch), epoch_key), (store, tenant)).unwrap();
            key.secret().expose(<[u8]>::to_vec)
        };
        let base = key(1, &epoch_key, STORE, &one);
        assert_eq!(base, key(1, &epoch_key, STORE, &one));
        assert_ne!(base, key(2, &epoch_key, STORE, &one));
        assert_ne!(base, key(1, &other_epoch_key, STORE, &one));
        assert_ne!(base, key(1, &epoch_key, StoreId([8; 16]), &one));
        assert_ne!(base, key(1, &epoch_key, STORE, &two));
    }

    #[test]
    fn a_ways_key_needs_every_lock_in_its_order_its_way_and_its_vault() {
        let key = |byte| Secret::copy_from(&[byte; 32]);
        let one = LockKey::Passphrase(Key::from_secret(key(1)).unwrap());
        let two = LockKey::Shares(Key::from_secret(key(2)).unwrap());
        let other_kind = LockKey::Tpm(Key::from_secret(key(2)).unwrap());
        let way = |locks: &[&LockKey], store, way| {
            let key = derive_way_key(locks, store, WayId(way)).unwrap();
            key.secret().expose(<[u8]>::to_vec)
        };
        let base = way(&[&one, &two], STORE, 1);
        assert_eq!(base, way(&[&one, &two], STORE, 1));
        for other in [
            way(&[&one], STORE, 1),
            way(&[&two], STORE, 1),
            way(&[&two, &one], STORE, 1),
            way(&[&one, &other_kind], STORE, 1),
            way(&[&one, &two, &two], STORE, 1),
            way(&[&one, &two], STORE, 2),
            way(&[&one, &two], StoreId([8; 16]), 1),
        ] {
            assert_ne!(base, other);
        }
    }

    /// Of each of these the first says the usual inputs, and every other one changes a single one of them.
    fn all_differ<const N: usize>(what: &str, values: &[[u8; N]]) {
        let distinct: std::collections::BTreeSet<_> = values.iter().collect();
        assert_eq!(distinct.len(), values.len(), "{what}");
    }

    /// What is published, kept or shown in place of a secret would else vouch for another one as well.
    #[test]
    fn commitments_and_what_a_tpm_is_shown_differ_by_key_vault_and_pin() {
        let root = |byte| RootKey::from_secret(Secret::copy_from(&[byte; 32])).unwrap();
        let commitment = |byte, store| derive_root_commitment(&root(byte), store).unwrap();
        let other = StoreId([8; 16]);
        all_differ("root", &[commitment(1, STORE), commitment(2, STORE), commitment(1, other)]);
        let lock = |byte| ShareLockKey::from_secret(Secret::copy_from(&[byte; 32])).unwrap();
        let commitment = |byte, store| derive_lock_commitment(&lock(byte), store).unwrap();
        all_differ("lock", &[commitment(1, STORE), commitment(2, STORE), commitment(1, other)]);
        let pin = |pin: &[u8], store, storage| *derive_tpm_pin(pin, store, storage).unwrap();
        let base = pin(b"1234", STORE, &[1; 32]);
        assert_eq!(base, pin(b"1234", STORE, &[1; 32]));
        let others = [
            pin(b"1235", STORE, &[1; 32]),
            pin(b"1234", other, &[1; 32]),
            pin(b"1234", STORE, &[2; 32]),
        ];
        all_differ("pin", &[[base].as_slice(), &others].concat());
        // A TPM drops zeros at the end: a PIN that ends in one would be shown as a shorter one.
        for byte in 0..=u8::MAX {
            assert_eq!(pin(&[byte], STORE, &[1; 32])[31] & 1, 1);
        }
    }

    #[test]
    fn every_tag_and_digest_depends_on_all_that_it_is_made_of() {
        let secret = |byte| Secret::copy_from(&[byte; 32]);
        let [one, two] =
            [1, 2].map(|byte| MacKey::new(&Key::from_secret(secret(byte)).unwrap()).unwrap());
        all_differ("token", &[tag_token(&one, b"a"), tag_token(&one, b"b"), tag_token(&two, b"a")]);
        let [one, two] =
            [1, 2].map(|byte| MacKey::new(&Key::from_secret(secret(byte)).unwrap()).unwrap());
        let tag = |key, before, record: &[u8]| tag_journal(key, &[before; 32], record);
        let tags = [tag(&one, 1, b"a"), tag(&one, 1, b"b"), tag(&one, 2, b"a"), tag(&two, 1, b"a")];
        all_differ("journal", &tags);
        let [one, two] = [1, 2].map(|byte| Pepper::from_secret(secret(byte)).unwrap());
        let tag = |key, user, verifier: &[u8]| {
            tag_verifier(key, &UserId::from_random([user; 16]), verifier)
        };
        let tags = [tag(&one, 1, b"a"), tag(&one, 1, b"b"), tag(&one, 2, b"a"), tag(&two, 1, b"a")];
        all_differ("verifier", &tags);
        let [one, two] = [1, 2].map(|byte| ShareMacKey::from_secret(secret(byte)).unwrap());
        all_differ("share", &[tag_share(&one, b"a"), tag_share(&one, b"b"), tag_share(&two, b"a")]);
        let [one, two] = [1, 2].map(|byte| MarkKey::from_secret(secret(byte)).unwrap());
        let other = StoreId([8; 16]);
        let tag = |key, store, commit| tag_mark(key, store, commit);
        let tags =
            [tag(&one, STORE, 1), tag(&one, STORE, 2), tag(&one, other, 1), tag(&two, STORE, 1)];
        all_differ("mark", &tags);
        let [one, two] = [1, 2].map(|byte| SetHashKey::from_secret(secret(byte)).unwrap());
        let element = |key, record: &[u8], value: &[u8]| {
            derive_set_element(key, RecordId(record), value).unwrap()
        };
        let elements = [
            element(&one, b"r", b"a"),
            element(&one, b"r", b"b"),
            element(&one, b"s", b"a"),
            element(&two, b"r", b"a"),
        ];
        all_differ("element", &elements);
        all_differ("digest", &[digest_share(b"a"), digest_share(b"b")]);
        all_differ("checksum", &[checksum_share(b"a"), checksum_share(b"b")]);
        let states = [
            digest_state(STORE, (1, 2), 3, b"h"),
            digest_state(other, (1, 2), 3, b"h"),
            digest_state(STORE, (9, 2), 3, b"h"),
            digest_state(STORE, (1, 9), 3, b"h"),
            digest_state(STORE, (1, 2), 9, b"h"),
            digest_state(STORE, (1, 2), 3, b"i"),
        ];
        all_differ("state", &states);
    }

    #[test]
    fn one_users_idempotency_key_is_never_anothers() {
        let key = SubjectTagKey::from_secret(Secret::copy_from(&[1; 32])).unwrap();
        let key = MacKey::new(&key).unwrap();
        let (one, two) = (UserId::from_random([1; 16]), UserId::from_random([2; 16]));
        assert_ne!(tag_idempotency(&key, &one, b"k"), tag_idempotency(&key, &two, b"k"));
    }
}
