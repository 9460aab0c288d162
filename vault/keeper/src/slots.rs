//! A small file with two slots of which one is always whole.
//!
//! ```text
//! file   slot A ‖ slot B, each of a fixed capacity
//! slot   magic 8 ‖ generation u64 ‖ length u32 ‖ payload ‖ SHA-256 of all before it ‖ zeros
//! ```
//!
//! A write goes over the older slot and is made durable before it is acknowledged, so a crash
//! between any two system calls, or in the middle of one, leaves the newer slot as it was.
//!
//! Invariant: a write covers every byte of the payload that lay in its slot before.
//! Invariant: after a failed write the file refuses all others; a sync is never retried, because
//! the kernel may have dropped the pages and report success the second time.
//! Invariant: files are 0600 and appear whole, by rename.
//! Distrusts: every byte of the file; the digest finds torn writes, the payload authenticates itself.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use nix::fcntl::OFlag;
use sha2::{Digest, Sha256};

/// How often a slot file was written; the newest valid slot has the highest.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Generation(pub u64);

impl Generation {
    /// Of the two payloads that a new file holds.
    pub const FIRST_TWO: [Self; 2] = [Self(1), Self(2)];
}

/// The room of one slot in bytes, at most 16 MiB; fixed per kind of file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity(pub u32);

/// Why a slot file could not be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// There is no such file.
    #[error("the file is missing")]
    Missing,
    /// There is one already.
    #[error("the file exists already")]
    Exists,
    /// Neither slot is whole.
    #[error("neither slot of the file is whole")]
    NoValidSlot,
    /// The payload is larger than a slot.
    #[error("the payload of {bytes} bytes does not fit its slot")]
    Full {
        /// Its length.
        bytes: usize,
    },
    /// An earlier write failed.
    #[error("an earlier write of this file failed, it is not written again")]
    Broken,
    /// The file system's answer.
    #[error("the file system refused")]
    Io(#[from] io::Error),
}

impl SlotError {
    /// Whether there was no room for it: the file is as it was.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io(error) if lacks_room(error.kind()))
    }
}

/// Whether the file system refused for lack of room.
pub const fn lacks_room(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// An open slot file.
#[derive(Debug)]
pub struct SlotFile {
    file: File,
    capacity: Capacity,
    newest: Side,
    generation: Generation,
    /// How far from the start of each slot old bytes may reach.
    reach: [usize; 2],
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Sound,
    Broken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    A,
    B,
}

impl SlotFile {
    /// Makes the file with both slots filled, as generations 1 and 2, and syncs it and its
    /// directory.
    ///
    /// # Errors
    /// When the file exists, a payload does not fit, or the file system refuses.
    pub fn create(
        path: &Path,
        capacity: Capacity,
        payloads: [&[u8]; 2],
    ) -> Result<Self, SlotError> {
        Self::create_at(path, capacity, (Generation::FIRST_TWO, payloads))
    }

    /// Makes the file as [`Self::create`] does, with two generations that follow each other.
    ///
    /// # Errors
    /// As for [`Self::create`].
    pub fn create_at(
        path: &Path,
        capacity: Capacity,
        ([one, two], [first, second]): ([Generation; 2], [&[u8]; 2]),
    ) -> Result<Self, SlotError> {
        if path.try_exists()? {
            return Err(SlotError::Exists);
        }
        let (a, b) = (encode(capacity, one, first)?, encode(capacity, two, second)?);
        let reach = [a.len(), b.len()];

        let provisional = path.with_extension("new");
        match std::fs::remove_file(&provisional) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let file = options().create_new(true).mode(0o600).open(&provisional)?;
        file.set_len(u64::from(capacity.0).saturating_mul(2))?;
        file.write_all_at(&a, 0)?;
        file.write_all_at(&b, u64::from(capacity.0))?;
        file.sync_all()?;
        std::fs::rename(&provisional, path)?;
        sync_directory_of(path)?;
        Ok(Self { file, capacity, newest: Side::B, generation: two, reach, state: State::Sound })
    }

    /// Opens the file and answers the newest whole payload.
    ///
    /// # Errors
    /// When it is missing, unreadable, or neither slot is whole.
    pub fn open(path: &Path, capacity: Capacity) -> Result<(Self, Vec<u8>), SlotError> {
        let file = match options().open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(SlotError::Missing);
            }
            opened => opened?,
        };
        let whole = usize::try_from(capacity.0).unwrap_or(0).saturating_mul(2);
        let mut image = Vec::with_capacity(whole);
        (&file).take(u64::from(capacity.0).saturating_mul(2)).read_to_end(&mut image)?;
        let newest = newest(&image, capacity).ok_or(SlotError::NoValidSlot)?;
        let slots = Self {
            file,
            capacity,
            newest: newest.side,
            generation: newest.generation,
            reach: newest.reach,
            state: State::Sound,
        };
        Ok((slots, newest.payload.to_vec()))
    }

    /// The generation of the newest whole slot.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// The generation that the next write will have, to be bound into its payload.
    pub fn next_generation(&self) -> Generation {
        Generation(self.generation.0.saturating_add(1))
    }

    /// Refuses every write from now on.
    pub fn abandon(&mut self) {
        self.state = State::Broken;
    }

    /// Writes `payload` over the older slot; durable on return.
    ///
    /// # Errors
    /// When it does not fit (nothing changed), or the file system refuses (the file is broken).
    pub fn write(&mut self, payload: &[u8]) -> Result<Generation, SlotError> {
        if self.state == State::Broken {
            return Err(SlotError::Broken);
        }
        let generation = self.next_generation();
        let mut bytes = encode(self.capacity, generation, payload)?;
        let written = bytes.len();
        let [a, b] = &mut self.reach;
        let (side, reach, offset) = match self.newest {
            Side::A => (Side::B, b, u64::from(self.capacity.0)),
            Side::B => (Side::A, a, 0),
        };
        bytes.resize(written.max(*reach), 0);
        self.state = State::Broken;
        self.file.write_all_at(&bytes, offset)?;
        #[cfg(test)]
        steps::passed();
        self.file.sync_data()?;
        #[cfg(test)]
        steps::passed();
        self.state = State::Sound;
        *reach = written;
        self.newest = side;
        self.generation = generation;
        Ok(generation)
    }
}

/// Makes a file's entry in its directory durable.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().unwrap_or_else(|| Path::new("."));
    File::open(directory)?.sync_all()
}

/// A slot file is never a link: one planted in its place would move our writes elsewhere.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits());
    options
}

pub(crate) struct Newest<'a> {
    side: Side,
    pub(crate) generation: Generation,
    pub(crate) payload: &'a [u8],
    reach: [usize; 2],
}

pub(crate) fn newest(image: &[u8], capacity: Capacity) -> Option<Newest<'_>> {
    let room = usize::try_from(capacity.0).ok()?;
    let (a, b) = image.split_at_checked(room).unwrap_or((image, &[]));
    // Not the length field: a torn write may end before its zeros, over a longer old payload.
    let reach = [a, b].map(|slot| {
        slot.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1))
    });
    let (a, b) = (decode(a), decode(b));
    let a = a.map(|(generation, payload)| Newest { side: Side::A, generation, payload, reach });
    let b = b.map(|(generation, payload)| Newest { side: Side::B, generation, payload, reach });
    [a, b].into_iter().flatten().max_by_key(|slot| slot.generation)
}

pub(crate) fn encode(
    capacity: Capacity,
    generation: Generation,
    payload: &[u8],
) -> Result<Vec<u8>, SlotError> {
    let full = || SlotError::Full { bytes: payload.len() };
    let total = payload.len().checked_add(OVERHEAD_BYTES).ok_or_else(full)?;
    if u32::try_from(total).map_err(|_| full())? > capacity.0 {
        return Err(full());
    }
    let length = u32::try_from(payload.len()).map_err(|_| full())?;
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&generation.0.to_be_bytes());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.write_all(payload)?;
    let digest = Sha256::digest(&bytes);
    bytes.extend_from_slice(&digest);
    Ok(bytes)
}

fn decode(slot: &[u8]) -> Option<(Generation, &[u8])> {
    let (magic, rest) = slot.split_first_chunk::<8>()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    let (payload, rest) = rest.split_at_checked(length)?;
    let (digest, _) = rest.split_first_chunk::<32>()?;
    let signed = slot.get(..length.checked_add(HEADER_BYTES)?)?;
    (magic == MAGIC && Sha256::digest(signed).as_slice() == digest)
        .then_some((Generation(u64::from_be_bytes(*generation)), payload))
}

const MAGIC: &[u8; 8] = b"SRslots1";
const HEADER_BYTES: usize = 20;
const OVERHEAD_BYTES: usize = HEADER_BYTES + 32;

/// Where tests look at the disk: after each system call of a write.
#[cfg(test)]
pub(crate) mod steps {
    use std::cell::RefCell;

    type Look = Box<dyn FnMut()>;

    thread_local! {
        static LOOK: RefCell<Option<Look>> = const { RefCell::new(None) };
    }

    pub(super) fn passed() {
        LOOK.with_borrow_mut(|look| {
            if let Some(look) = look {
                look();
            }
        });
    }

    /// Looks after each system call on this thread while `act` runs.
    pub(crate) fn watch<T>(look: impl FnMut() + 'static, act: impl FnOnce() -> T) -> T {
        LOOK.set(Some(Box::new(look)));
        let done = act();
        LOOK.set(None);
        done
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::slots::scratch::Scratch;

    const CAPACITY: Capacity = Capacity(4096);

    fn read(image: &[u8]) -> Vec<u8> {
        newest(image, CAPACITY).unwrap().payload.to_vec()
    }

    #[test]
    fn the_newest_payload_comes_back_and_slots_alternate() {
        let scratch = Scratch::make();
        let path = scratch.path("slots");
        let mut slots = SlotFile::create(&path, CAPACITY, [b"one", b"two"]).unwrap();
        for number in 3_u64..20 {
            let payload = vec![u8::try_from(number).unwrap(); usize::try_from(number * 7).unwrap()];
            assert_eq!(slots.write(&payload).unwrap(), Generation(number));
            let (again, found) = SlotFile::open(&path, CAPACITY).unwrap();
            assert_eq!((again.generation(), found), (Generation(number), payload));
        }
    }

    // Guards crash safety. Red when `write` takes the newer slot.
    #[test]
    fn a_write_torn_at_any_byte_leaves_the_old_or_the_new_payload() {
        let scratch = Scratch::make();
        let path = scratch.path("slots");
        let mut slots = SlotFile::create(&path, CAPACITY, [b"first", &[7; 700]]).unwrap();
        for next in [vec![1; 900], vec![2; 10], vec![3; 901], vec![4; 333]] {
            let before = std::fs::read(&path).unwrap();
            let old = read(&before);
            slots.write(&next).unwrap();
            let after = std::fs::read(&path).unwrap();
            let changed: Vec<usize> =
                (0..after.len()).filter(|i| before[*i] != after[*i]).collect();
            for cut in 0..=changed.len() {
                let mut torn = before.clone();
                changed[..cut].iter().for_each(|index| torn[*index] = after[*index]);
                let found = read(&torn);
                assert!(found == old || found == next, "cut {cut}");
                assert!(cut < changed.len() || found == next, "an acknowledged write is lost");
            }
        }
    }

    #[test]
    fn a_write_whose_sectors_land_in_any_order_leaves_the_old_or_the_new_payload() {
        let scratch = Scratch::make();
        let path = scratch.path("slots");
        let mut slots = SlotFile::create(&path, CAPACITY, [&[6; 3000], &[7; 3000]]).unwrap();
        let before = std::fs::read(&path).unwrap();
        slots.write(&[8; 3000]).unwrap();
        let after = std::fs::read(&path).unwrap();
        for landed in 0_u32..1 << 6 {
            let mut torn = before.clone();
            for sector in (0..6).filter(|sector| landed & (1 << sector) != 0) {
                let range = sector * 512..(sector + 1) * 512;
                torn[range.clone()].copy_from_slice(&after[range]);
            }
            let found = read(&torn);
            assert!(found == [7; 3000] || found == [8; 3000], "sectors {landed:b}");
        }
    }

    // Guards real deletion. Red when `write` does not pad up to the old reach.
    #[test]
    fn two_writes_leave_no_byte_of_an_older_payload() {
        let scratch = Scratch::make();
        let path = scratch.path("slots");
        let mut slots = SlotFile::create(&path, CAPACITY, [&[0xEE; 2000], &[0xEE; 1500]]).unwrap();
        slots.write(&[1; 10]).unwrap();
        let (mut slots, _) = SlotFile::open(&path, CAPACITY).unwrap();
        slots.write(&[2; 10]).unwrap();
        let image = std::fs::read(&path).unwrap();
        assert!(!image.windows(4).any(|window| window == [0xEE; 4]));
    }

    #[test]
    fn a_torn_slot_is_overwritten_whole_by_the_next_write() {
        let scratch = Scratch::make();
        let path = scratch.path("slots");
        drop(SlotFile::create(&path, CAPACITY, [&[0xEE; 2000], b"kept"]).unwrap());
        let mut image = std::fs::read(&path).unwrap();
        image[30] ^= 1;
        std::fs::write(&path, &image).unwrap();
        let (mut slots, found) = SlotFile::open(&path, CAPACITY).unwrap();
        assert_eq!(found, b"kept");
        slots.write(b"next").unwrap();
        let image = std::fs::read(&path).unwrap();
        assert!(!image.windows(4).any(|window| window == [0xEE; 4]));
    }

    #[test]
    fn without_a_whole_slot_the_file_is_refused_and_left_as_it_is() {
        let scratch = Scratch::make();
        let path = scratch.path("slots");
        for image in [vec![], vec![0; 8192], vec![0xFF; 8192], b"SRslots1".to_vec()] {
            std::fs::write(&path, &image).unwrap();
            let refused = SlotFile::open(&path, CAPACITY);
            assert!(matches!(refused, Err(SlotError::NoValidSlot)));
            assert_eq!(std::fs::read(&path).unwrap(), image);
        }
        let missing = SlotFile::open(&scratch.path("none"), CAPACITY);
        assert!(matches!(missing, Err(SlotError::Missing)));
    }

    #[test]
    fn a_payload_too_large_changes_nothing_and_the_file_stays_usable() {
        let scratch = Scratch::make();
        let path = scratch.path("slots");
        let mut slots = SlotFile::create(&path, CAPACITY, [b"one", b"two"]).unwrap();
        assert!(matches!(slots.write(&[0; 4096]), Err(SlotError::Full { bytes: 4096 })));
        assert_eq!(SlotFile::open(&path, CAPACITY).unwrap().1, b"two");
        assert!(slots.write(&vec![1; 4096 - OVERHEAD_BYTES]).is_ok());
    }

    // Red when `write` leaves the state `Sound` before the sync has answered.
    #[test]
    fn after_a_failed_write_the_file_is_never_written_again() {
        let mut slots = SlotFile {
            file: File::open("/dev/null").unwrap(),
            capacity: CAPACITY,
            newest: Side::A,
            generation: Generation(1),
            reach: [0; 2],
            state: State::Sound,
        };
        assert!(matches!(slots.write(b"x"), Err(SlotError::Io(_))));
        assert!(matches!(slots.write(b"x"), Err(SlotError::Broken)));
    }

    #[test]
    fn a_file_is_private_is_never_replaced_and_is_never_a_link() {
        let scratch = Scratch::make();
        let (path, link) = (scratch.path("slots"), scratch.path("link"));
        drop(SlotFile::create(&path, CAPACITY, [b"one", b"two"]).unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = SlotFile::create(&path, CAPACITY, [b"three", b"four"]);
        assert!(matches!(again, Err(SlotError::Exists)));
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(SlotFile::open(&link, CAPACITY), Err(SlotError::Io(_))));
    }
}

/// A directory for one test.
#[cfg(test)]
pub(crate) mod scratch {
    use std::path::{Path, PathBuf};

    /// Removed on drop.
    pub(crate) struct Scratch(PathBuf);

    impl Scratch {
        /// Makes an empty directory of a name that nobody else has.
        pub(crate) fn make() -> Self {
            let mut name = [0; 16];
            getrandom::fill(&mut name).unwrap();
            let path = std::env::temp_dir().join(format!("strongroom-{}", hex::encode(name)));
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        /// The directory.
        pub(crate) fn directory(&self) -> &Path {
            &self.0
        }

        /// A path in it.
        pub(crate) fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }
}
