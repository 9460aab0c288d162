//! The thread that hands the journal to the disk: syncs, hash tiles, and the signed checkpoint.
//!
//! Tiles follow from the entries, and are half of all files: they are written and not synced. What a power cut takes of them the
//! next opening makes again.
//!
//! Invariant: a checkpoint covers only entries and bundles that were synced before it was signed.
//! Invariant: a checkpoint is told to others once it is durable itself.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use strongroom_tlog::{Checkpoint, Hash, Origin, Size};

use super::disk;
use super::place::Place;
use super::shared::{Shared, Taken, WAKE_AFTER};
use super::signing::CheckpointKey;

/// How long an entry may lie in the page cache.
pub const SYNC_EVERY: Duration = Duration::from_millis(200);
/// How old the newest entry that no checkpoint covers may become, less the time until the thread looks again.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(800);
const TAKEN_AWAY: &str = "the journal's file was taken away";
/// How often it is looked whether the journal is where it was, while nothing is written.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two rounds under load: what gathers meanwhile shares the next checkpoint. A round costs the processor about as much
/// as a hundred calls: at most a tenth of a second apart they are nothing beside the calls that need them.
const BREATH: Duration = Duration::from_millis(100);

/// The head of the journal as it was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// How many entries.
    pub size: u64,
    /// The root over them.
    pub root: [u8; 32],
    /// The note, as it stands in the file `checkpoint`.
    pub note: String,
}

/// The last durable checkpoint, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Published(Mutex<Option<Arc<Signed>>>);

impl Published {
    pub(super) fn new(signed: Option<Signed>) -> Self {
        Self(Mutex::new(signed.map(Arc::new)))
    }

    pub(super) fn last(&self) -> Option<Arc<Signed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, signed: Signed) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(signed));
    }
}

/// What the thread owns.
pub(super) struct Keeping {
    place: Place,
    shared: Arc<Shared>,
    published: Arc<Published>,
    signer: CheckpointKey,
    /// How many entries are on the disk for certain.
    synced: Size,
    signed_at: Option<Instant>,
}

impl Keeping {
    /// Over a journal whose first `synced` entries and bundles are on the disk.
    pub(super) fn new(
        place: Place,
        (shared, published): (Arc<Shared>, Arc<Published>),
        signer: CheckpointKey,
        synced: Size,
    ) -> Self {
        Self { place, shared, published, signer, synced, signed_at: None }
    }

    /// Keeps until the writing has ended.
    pub(super) fn run(mut self) {
        let tail = self.place.tail();
        loop {
            let idle = self.has_kept_all() && !self.shared.comes(LOOK_EVERY);
            // Looked at when something came, too, for nobody may have looked for a while.
            if !self.shared.is_in_place(&tail) {
                self.shared.stop(TAKEN_AWAY);
            }
            if idle {
                continue;
            }
            let taken = self.shared.take(&tail, SYNC_EVERY);
            let last = taken.last;
            self.keep(&taken);
            if last {
                return;
            }
            self.shared.rest(BREATH);
        }
    }

    /// Whether nothing is to be done before something is written.
    pub(super) fn has_kept_all(&self) -> bool {
        self.published.last().is_some_and(|signed| signed.size == self.synced.0)
    }

    /// One round; after a failure the journal takes nothing more, for what a failed sync dropped is not told again.
    pub(super) fn keep(&mut self, taken: &Taken) {
        if !taken.in_place {
            self.shared.stop(TAKEN_AWAY);
            return;
        }
        if self.shared.health().is_err() {
            return;
        }
        let (size, root, now) = (taken.size, taken.root, taken.last || taken.wished);
        if let Err(error) = self.sync(taken) {
            tracing::error!(%error, "the journal cannot be kept");
            self.shared.stop("entries could not be handed to the disk");
            return;
        }
        if self.is_due(size, now)
            && let Err(error) = self.sign(size, root)
        {
            tracing::error!(%error, "the journal's checkpoint cannot be kept");
            self.shared.stop("a checkpoint could not be kept");
        }
    }

    fn sync(&mut self, taken: &Taken) -> io::Result<()> {
        if taken.size == self.synced {
            return Ok(());
        }
        let root = self.place.root();
        for (_, bundle) in &taken.unkept.bundles {
            self.shared.ask(|| disk::sync(bundle))?;
        }
        self.shared.ask(|| disk::sync(&taken.tail))?;
        let bundles = taken.unkept.bundles.iter().map(|(path, _)| path.as_path());
        if self.sync_directories_of(bundles)? {
            self.shared.ask(|| disk::sync_directory(root))?;
        }
        for full in &taken.unkept.tiles {
            let path = self.place.tile(full.tile);
            disk::make_directory_of(&path, root)?;
            self.shared.ask(|| disk::lay(&path, &full.bytes()))?;
        }
        self.synced = taken.size;
        Ok(())
    }

    /// Makes the names of files durable, each directory once where its files follow each other; whether there were any.
    fn sync_directories_of<'p>(&self, files: impl Iterator<Item = &'p Path>) -> io::Result<bool> {
        let mut last: Option<&Path> = None;
        for directory in files.filter_map(Path::parent) {
            if last != Some(directory) {
                self.shared.ask(|| disk::sync_directory(directory))?;
                last = Some(directory);
            }
        }
        Ok(last.is_some())
    }

    fn is_due(&self, size: Size, now: bool) -> bool {
        let signed = self.published.last().map_or(0, |signed| signed.size);
        let new = size.0.saturating_sub(signed);
        let old = self.signed_at.is_none_or(|at| at.elapsed() >= CHECKPOINT_EVERY);
        new >= WAKE_AFTER || (new > 0 && (old || now))
    }

    fn sign(&mut self, size: Size, root: Hash) -> io::Result<()> {
        let origin = Origin::from(self.signer.verifier().name().clone());
        let checkpoint = Checkpoint { origin, size, root };
        let note = self.signer.sign(&checkpoint).map_err(io::Error::other)?.encode();
        self.shared.ask(|| disk::replace(&self.place.checkpoint(), note.as_bytes()))?;
        self.published.publish(Signed { size: size.0, root: root.0, note });
        self.signed_at = Some(Instant::now());
        Ok(())
    }
}
