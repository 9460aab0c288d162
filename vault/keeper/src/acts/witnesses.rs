//! What auditors and witnesses are told.
//!
//! Invariant: of the key that signs checkpoints only its public half leaves.

use std::sync::PoisonError;

use strongroom_protocol::operator::{Answer, Fault};
use strongroom_tlog::Signer;
use strongroom_tlog::key::Name;

use super::{Act, fault};
use crate::keys;
use crate::vault::Vault;

impl Act<'_> {
    /// The key to pin for audits.
    pub(super) fn audit_key(&self) -> Result<Answer, Fault> {
        let signer = self.vault(|vault| audit_signer(vault).ok_or_else(defect))?;
        Ok(Answer::AuditKey(signer.verifier().vkey()))
    }
}

/// The journal's signer: `strongroom/` and the store's id is its name, and so the log's origin.
fn audit_signer(vault: &Vault) -> Option<Signer> {
    let guard = vault.unsealed.lock().unwrap_or_else(PoisonError::into_inner);
    let system = guard.keyring().keyring().system();
    let seed = keys::derive_audit_signing_seed(system, vault.store).ok()?;
    let name = Name::parse(&format!("strongroom/{}", hex::encode(vault.store.0))).ok()?;
    seed.secret().expose(|seed| Signer::from_seed(name, seed.try_into().ok()?).ok())
}

fn defect() -> Fault {
    fault("SR-INTERNAL-010", "the audit key cannot be derived", "report this as a defect")
}
