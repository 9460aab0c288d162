//! Who signs the journal's checkpoints: the key's name is the log's origin.
//!
//! Invariant: between two checkpoints the seed lies in the arena alone. The library's key pair is made for each signature and
//! wiped by the library with it; what signing leaves on the stack is overwritten.

use strongroom_sys::stack;
use strongroom_tlog::{Checkpoint, Name, Note, Signer, Verifier};

use crate::keys::{AuditSigningSeed, DeriveError};

/// More stack than Ed25519 uses.
const STACK_BYTES: usize = 64 * 1024;

/// The signing key of a vault's journal.
pub struct CheckpointKey {
    name: Name,
    seed: AuditSigningSeed,
    verifier: Verifier,
}

impl CheckpointKey {
    /// The key of a seed.
    ///
    /// # Errors
    /// When the library refuses the seed.
    pub fn new(name: Name, seed: AuditSigningSeed) -> Result<Self, DeriveError> {
        let verifier = with_signer((&name, &seed), Signer::verifier)?;
        Ok(Self { name, seed, verifier })
    }

    /// Who verifies what this signs.
    pub fn verifier(&self) -> Verifier {
        self.verifier.clone()
    }

    /// Signs a checkpoint of this log.
    ///
    /// # Errors
    /// Only through a defect of ours.
    pub fn sign(&self, checkpoint: &Checkpoint) -> Result<Note, DeriveError> {
        with_signer((&self.name, &self.seed), |signer| checkpoint.sign(signer))?
            .map_err(|_| DeriveError::Defect)
    }
}

fn with_signer<T>(
    (name, seed): (&Name, &AuditSigningSeed),
    act: impl FnOnce(&Signer) -> T,
) -> Result<T, DeriveError> {
    stack::wiping::<STACK_BYTES, _>(|| {
        let signer = seed.secret().expose(|seed| {
            let seed = seed.try_into().map_err(|_| DeriveError::Defect)?;
            Signer::from_seed(name.clone(), seed).map_err(|_| DeriveError::Defect)
        })?;
        Ok(act(&signer))
    })
}
