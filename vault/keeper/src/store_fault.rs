//! What people are told when the store says no: a stable code, and the next step.
//!
//! Invariant: what is not listed here is for the caller to judge, as damage or as a failing disk.

use strongroom_store::StoreError;

/// Code and next step of a refusal that is no damage; `None` for all others.
pub fn told(error: &StoreError) -> Option<(&'static str, &'static str)> {
    match error {
        StoreError::InUse => Some((
            "SR-STORE-002",
            "another Strongroom uses this data directory; stop it, or choose another --dir",
        )),
        StoreError::OtherKind { .. } => Some((
            "SR-STORE-012",
            "set [store] kind in strongroom.toml to what keeps this vault, then start again; or move it: strongroom store move",
        )),
        StoreError::Fenced => Some((
            "SR-STORE-013",
            "stop one of the two keepers; unsealing the other takes the records back",
        )),
        StoreError::Disconnected | StoreError::Server { .. } => Some((
            "SR-STORE-014",
            "look at the database and its log, start it, then restart Strongroom and unseal",
        )),
        StoreError::Unfit(_) => Some((
            "SR-STORE-015",
            "mend the database (deploy/RUNBOOK.md, 'Choose another store'), then start again",
        )),
        StoreError::Limit(_)
        | StoreError::Conflict
        | StoreError::Refused(_)
        | StoreError::Busy
        | StoreError::Stopped
        | StoreError::TimedOut
        | StoreError::Missing
        | StoreError::Exists
        | StoreError::Corrupt
        | StoreError::Foreign
        | StoreError::ReadOnly
        | StoreError::Io { .. }
        | StoreError::Poisoned => None,
    }
}
