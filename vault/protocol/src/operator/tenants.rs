//! Tenants, and requests about one of them.
//!
//! Invariant: a request about a tenant lies in its wrapper as bytes, so that no nesting of wrappers is ever decoded.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strongroom_policy::id::TenantId;
use strongroom_policy::moment::Moment;
use strongroom_policy::name::Label;
use strongroom_policy::rules::Standing;

use zeroize::Zeroizing;

use super::{Pick, Request};
use crate::frame::{FrameError, MAX_OPERATOR_BYTES, PREFIX_BYTES, decode, encode};

/// Whether to delete, or to count first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TenantDeletion {
    /// Say what would be deleted.
    Count,
    /// Delete, if it is still as much as was counted.
    Perform(Holdings),
}

/// How much a tenant has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holdings {
    /// People.
    pub users: u32,
    /// Workspaces.
    pub workspaces: u32,
    /// Tokens.
    pub tokens: u32,
    /// Credentials.
    pub credentials: u32,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantRow {
    /// Id.
    pub id: TenantId,
    /// Name.
    pub label: Label,
    /// Whether its tokens count.
    pub standing: Standing,
    /// Whether it is the first: what is asked of none in particular is asked of it.
    pub first: bool,
    /// What it has.
    pub holds: Holdings,
    /// When it was made; the first one with the vault.
    pub created: Option<Moment>,
}

/// What would be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantCounted {
    /// Its id.
    pub id: TenantId,
    /// Its name.
    pub label: Label,
    /// What goes with it.
    pub holds: Holdings,
}

/// What was deleted and destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantReceipt {
    /// What was deleted.
    pub counted: TenantCounted,
    /// Records that are gone from the store.
    pub records: u32,
    /// Calls under way that were stopped.
    pub stopped_calls: u32,
    /// Keys that were destroyed in both slots of the keyring: shred keys, and the tenant's root.
    pub destroyed_keys: u32,
    /// The keyring's generation since then.
    pub keyring_generation: u64,
    /// The commit since which store and manifest of an earlier time are refused.
    pub commit: u64,
}

impl Request {
    /// The same request, about this tenant.
    ///
    /// # Errors
    /// When it is too long.
    pub fn within(&self, tenant: Pick) -> Result<Self, FrameError> {
        let frame = encode(self, MAX_OPERATOR_BYTES)?;
        let bytes = frame.get(PREFIX_BYTES..).unwrap_or_default().to_vec();
        Ok(Self::In { tenant, request: Wrapped(Zeroizing::new(bytes)) })
    }
}

/// A request as bytes: it may hold what an operator brought, so they are wiped, and not printed.
pub struct Wrapped(Zeroizing<Vec<u8>>);

impl Wrapped {
    /// Takes bytes as they are: for whoever tests what is no request.
    pub const fn of(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Reads the request.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(&self) -> Result<Request, FrameError> {
        decode(&self.0)
    }
}

impl fmt::Debug for Wrapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<request>")
    }
}

impl Serialize for Wrapped {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Wrapped {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(WrappedVisitor)
    }
}

struct WrappedVisitor;

impl Visitor<'_> for WrappedVisitor {
    type Value = Wrapped;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a request as bytes")
    }

    // A frame bounds them.
    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Wrapped, E> {
        Ok(Wrapped(Zeroizing::new(bytes.to_vec())))
    }
}
