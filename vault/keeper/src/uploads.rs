//! Uploads of keys under way: opened by an operator, ended once by a sealed blob.
//!
//! Invariant: an upload id is used once and lives for [`UPLOAD_LIFE`]; what it is bound to was fixed when it was opened.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use strongroom_policy::id::UploadId;
use strongroom_protocol::upload::UploadBinding;

use crate::records::CredentialRecord;

/// How long an operator has to enter the key.
pub const UPLOAD_LIFE: Duration = Duration::from_mins(10);
/// Most uploads under way.
const MAX_UPLOADS: usize = 64;

/// What an upload will make.
pub struct Upload {
    /// What its blob must be bound to.
    pub binding: UploadBinding,
    /// The credential as it will be.
    pub record: CredentialRecord,
    ends: Instant,
}

/// Uploads under way.
#[derive(Default)]
pub struct Uploads(BTreeMap<UploadId, Upload>);

/// There are too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many uploads are under way; wait until they end")]
pub struct TooMany;

impl Uploads {
    /// Opens an upload.
    ///
    /// # Errors
    /// When too many are under way.
    pub fn open(
        &mut self,
        binding: UploadBinding,
        record: CredentialRecord,
        now: Instant,
    ) -> Result<(), TooMany> {
        self.0.retain(|_, upload| upload.ends > now);
        if self.0.len() >= MAX_UPLOADS {
            return Err(TooMany);
        }
        let ends = now.checked_add(UPLOAD_LIFE).unwrap_or(now);
        self.0.insert(binding.upload, Upload { binding, record, ends });
        Ok(())
    }

    /// Spends an upload, whatever comes of it.
    pub fn spend(&mut self, id: UploadId, now: Instant) -> Option<Upload> {
        self.0.remove(&id).filter(|upload| upload.ends > now)
    }
}
