//! Ordered, durable key-value stores behind one small trait.
//!
//! Invariant: this crate knows no key and no secret; what it is given is already sealed.
//! Invariant: a commit that was acknowledged survives a power cut, or the store says that it failed.
//! Invariant: nothing here is a source of counters or ids; a store that lost its tail would give them out twice.
#![forbid(unsafe_code)]

mod batch;
pub mod check;
mod choice;
mod contract;
mod embedded;
mod group;
mod memory;
pub mod moving;
mod place;
mod poison;
mod postgres;
mod record;
mod redb_store;

pub use batch::{Batch, Change, MAX_BATCH_BYTES, MAX_BATCH_OPS};
pub use choice::{Choice, Kind, UnknownKind};
pub use contract::{MAX_SCAN_RECORDS, Store, StoreError};
pub use embedded::SledStore;
pub use group::{COMMIT_PATIENCE, GroupCommit, QUEUE_BATCHES, Witness, WitnessError};
pub use memory::MemoryStore;
pub use postgres::{DEFAULT_PORT, Database, PostgresStore, Server};
pub use record::{Key, LimitError, MAX_KEY_BYTES, MAX_VALUE_BYTES, Value};
pub use redb_store::RedbStore;
