//! Keys that stay for the life of a process, in memory nobody outside can read.
//!
//! One arena of [`ARENA_BYTES`], cut into cells of [`CELL_BYTES`]: a [`Locked`] value lies in as many neighbouring cells as it
//! needs. Who finds no room is told so; nothing is ever kept on the ordinary heap instead.
//!
//! Invariant: the arena's pages are never swapped, dumped or inherited by a child.
//! Invariant: a cell that is not in use is zero.
//! Invariant: a value lies at one place from its making to its drop, and is lent by reference only.
//!
//! `memfd_secret` pages leave the kernel's own map, so that `/proc/PID/mem`, ptrace and core files
//! do not show them even to root. They do not stop code injected into the process.
#![expect(
    unsafe_code,
    reason = "memfd_secret has no wrapper, and mapped memory starts as a pointer"
)]

use std::fmt;
use std::num::NonZeroUsize;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::mman::{self, MapFlags, MmapAdvise, ProtFlags};
use nix::unistd;
use subtle::ConstantTimeEq;

use crate::allocator::wipe;

/// What the memory of the arena withstands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protection {
    /// `memfd_secret`: not readable from outside, not even by root.
    SecretMemory,
    /// `mlock`, left out of core files, zero in children; root can read it.
    Locked,
}

/// Why there is no locked memory for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// Neither kind of page could be had.
    #[error("cannot lock {ARENA_BYTES} bytes of memory for keys ({0}); raise the memlock limit")]
    Refused(Errno),
    /// Other keys take the room.
    #[error("the {ARENA_BYTES} bytes of locked memory for keys are taken")]
    Exhausted,
    /// The kernel gave no randomness.
    #[error("the kernel gave no randomness")]
    Random,
}

/// Maps and locks the arena, once; later calls tell what was obtained.
///
/// Must run before the system call filter, which forbids all of it; [`crate::confine()`] does so
/// for the keeper.
///
/// # Errors
/// [`LockError::Refused`] when the kernel locks no memory at all.
pub fn prepare() -> Result<Protection, LockError> {
    with_arena(|arena| arena.protection)
}

/// A value in locked memory, for instance a cipher with its round keys; dropped where it lies, and wiped then.
///
/// What the value points to on the heap is not locked: for types that are all in one piece.
pub struct Locked<T> {
    value: NonNull<T>,
}

// SAFETY: the value is owned, as by a box.
unsafe impl<T: Send> Send for Locked<T> {}
// SAFETY: a shared reference to it gives shared references to the value, as one to a box does.
unsafe impl<T: Sync> Sync for Locked<T> {}

impl<T> Locked<T> {
    const CELLS: usize = size_of::<T>().div_ceil(CELL_BYTES);

    /// Moves a value in. Whatever made it has left copies on the stack: see [`crate::stack::wiping`].
    ///
    /// # Errors
    /// [`LockError`]; the value is dropped then.
    pub fn new(value: T) -> Result<Self, LockError> {
        const { assert!(align_of::<T>() <= CELL_BYTES) };
        let place = with_arena(|arena| arena.take(Self::CELLS))??.cast::<T>();
        // SAFETY: the cells hold `T` in size and alignment, and belong to nobody else.
        unsafe { place.write(value) };
        Ok(Self { value: place })
    }

    /// Lends the value for the length of one call.
    pub fn expose<R>(&self, see: impl FnOnce(&T) -> R) -> R {
        // SAFETY: written by `new`, and dropped by `drop` only.
        see(unsafe { self.value.as_ref() })
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: written by `new` and not used after this line.
        unsafe { ptr::drop_in_place(self.value.as_ptr()) };
        let cells = self.value.cast::<u8>();
        // SAFETY: the cells are this value's until they are given back.
        unsafe { wipe(cells.as_ptr(), Self::CELLS.saturating_mul(CELL_BYTES)) };
        if let Some(arena) = lock().as_mut() {
            arena.give_back(cells, Self::CELLS);
        }
    }
}

impl<T> fmt::Debug for Locked<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<locked>")
    }
}

/// A 32-byte key in locked memory, wiped on drop.
pub struct LockedKey {
    bytes: Locked<[u8; KEY_BYTES]>,
}

impl LockedKey {
    /// Reserves a place and lets `fill` write the key into it.
    ///
    /// # Errors
    /// [`LockError`], or whatever `fill` answers; a half-filled key is wiped.
    pub fn fill_with<E: From<LockError>>(
        fill: impl FnOnce(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let mut bytes = Locked::new([0; KEY_BYTES])?;
        // SAFETY: owned here, so nobody else sees it while it is written.
        fill(unsafe { bytes.value.as_mut() })?;
        Ok(Self { bytes })
    }

    /// Makes a key of the kernel's randomness.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn random() -> Result<Self, LockError> {
        Self::fill_with(|bytes| getrandom::fill(bytes).map_err(|_| LockError::Random))
    }

    /// Another copy of this key, in locked memory as well.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn copy(&self) -> Result<Self, LockError> {
        self.expose(|key| {
            Self::fill_with(|copy| {
                copy.copy_from_slice(key);
                Ok(())
            })
        })
    }

    /// Lends the key for the length of one call.
    pub fn expose<T>(&self, see: impl FnOnce(&[u8]) -> T) -> T {
        self.bytes.expose(|bytes| see(bytes))
    }

    /// Compares in constant time for equal lengths.
    pub fn matches(&self, other: &[u8]) -> bool {
        self.expose(|key| key.ct_eq(other).into())
    }
}

impl fmt::Debug for LockedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<key>")
    }
}

/// Bytes of a key: every cipher and derivation here takes 256 bits.
pub const KEY_BYTES: usize = 32;
/// What is given out at once: one key. As much as any value's alignment.
const CELL_BYTES: usize = 32;
/// `memfd_secret` pages count against the memlock limit like others; this fits the 64 KiB of older systems and containers.
/// An open vault takes about a tenth of it: its keys are few, and those of owners lie sealed under one of them.
pub const ARENA_BYTES: usize = 64 * 1024;
/// How many keys fit.
pub const KEYS: usize = ARENA_BYTES / CELL_BYTES;

struct Arena {
    protection: Protection,
    pages: NonNull<u8>,
    taken: [bool; KEYS],
}

// SAFETY: the pages are mapped for the life of the process and belong to the arena alone.
unsafe impl Send for Arena {}

impl Arena {
    /// The first run of free cells that is long enough.
    fn take(&mut self, cells: usize) -> Result<NonNull<u8>, LockError> {
        let mut free = 0_usize;
        for (at, taken) in self.taken.iter().enumerate() {
            free = if *taken { 0 } else { free.saturating_add(1) };
            if free >= cells {
                let first = at.saturating_add(1).saturating_sub(cells);
                self.mark(first, cells, true);
                // SAFETY: a cell inside the mapping, since `at` is one of its cells.
                return Ok(unsafe { self.pages.add(first.saturating_mul(CELL_BYTES)) });
            }
        }
        Err(LockError::Exhausted)
    }

    fn give_back(&mut self, place: NonNull<u8>, cells: usize) {
        let first = place.addr().get().saturating_sub(self.pages.addr().get()) / CELL_BYTES;
        self.mark(first, cells, false);
    }

    fn mark(&mut self, first: usize, cells: usize, taken: bool) {
        self.taken.iter_mut().skip(first).take(cells).for_each(|cell| *cell = taken);
    }
}

static ARENA: Mutex<Option<Arena>> = Mutex::new(None);

fn lock() -> MutexGuard<'static, Option<Arena>> {
    ARENA.lock().unwrap_or_else(PoisonError::into_inner)
}

fn with_arena<T>(act: impl FnOnce(&mut Arena) -> T) -> Result<T, LockError> {
    let mut arena = lock();
    if arena.is_none() {
        *arena = Some(map_arena().map_err(LockError::Refused)?);
    }
    arena.as_mut().map(act).ok_or(LockError::Exhausted)
}

fn map_arena() -> Result<Arena, Errno> {
    let (pages, protection) = match map_secret() {
        Ok(pages) => (pages, Protection::SecretMemory),
        // Older kernels, boot without secretmem.enable, or a container's filter.
        Err(_) => (map_locked()?, Protection::Locked),
    };
    // Touching every page now makes a shortage stop the start, not a later unseal.
    // SAFETY: the mapping is readable and writable, `ARENA_BYTES` long, and nobody else knows it.
    unsafe { wipe(pages.as_ptr(), ARENA_BYTES) };
    Ok(Arena { protection, pages, taken: [false; KEYS] })
}

fn map_secret() -> Result<NonNull<u8>, Errno> {
    // SAFETY: takes flags only and gives a new descriptor or -1.
    let fd = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just made it and nobody else knows it.
    let file = unsafe { OwnedFd::from_raw_fd(fd) };
    let length = i64::try_from(ARENA_BYTES).map_err(|_| Errno::EOVERFLOW)?;
    unistd::ftruncate(&file, length)?;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let pages =
        unsafe { mman::mmap(None, arena_len()?, READ_WRITE, MapFlags::MAP_SHARED, &file, 0) }?;
    // The descriptor closes here: with it, pidfd_getfd and mmap would read the keys.
    drop(file);
    advise(pages, MmapAdvise::MADV_DONTFORK)?;
    Ok(pages.cast())
}

fn map_locked() -> Result<NonNull<u8>, Errno> {
    // SAFETY: a new mapping at an address of the kernel's choice.
    let pages =
        unsafe { mman::mmap_anonymous(None, arena_len()?, READ_WRITE, MapFlags::MAP_PRIVATE) }?;
    // SAFETY: the whole mapping and nothing else.
    unsafe { mman::mlock(pages, ARENA_BYTES) }?;
    advise(pages, MmapAdvise::MADV_DONTDUMP)?;
    advise(pages, MmapAdvise::MADV_WIPEONFORK)?;
    Ok(pages.cast())
}

fn advise(pages: NonNull<libc::c_void>, advice: MmapAdvise) -> Result<(), Errno> {
    // SAFETY: the whole mapping, not yet lent to anyone; the advice drops no page of ours.
    unsafe { mman::madvise(pages, ARENA_BYTES, advice) }
}

fn arena_len() -> Result<NonZeroUsize, Errno> {
    NonZeroUsize::new(ARENA_BYTES).ok_or(Errno::EINVAL)
}

const READ_WRITE: ProtFlags = ProtFlags::PROT_READ.union(ProtFlags::PROT_WRITE);

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::FileExt;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::{KEY_BYTES, KEYS, LockError, Locked, LockedKey, Protection, prepare};

    // The arena is one per process, and one test fills it.
    static ALONE: Mutex<()> = Mutex::new(());

    fn readable_through_proc(address: u64) -> bool {
        let mut bytes = [0_u8; KEY_BYTES];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, address).is_ok()
    }

    #[test]
    fn a_key_cannot_be_read_through_proc() {
        let _alone = ALONE.lock().unwrap();
        let key = LockedKey::random().unwrap();
        assert!(key.expose(|bytes| bytes.iter().any(|byte| *byte != 0)));
        let address = key.expose(|bytes| bytes.as_ptr() as u64);
        assert_eq!(prepare().unwrap() == Protection::Locked, readable_through_proc(address));
        let local = [1_u8; KEY_BYTES];
        assert!(readable_through_proc(local.as_ptr() as u64), "the probe works");
    }

    #[test]
    fn the_descriptor_of_the_secret_pages_is_closed() {
        let _alone = ALONE.lock().unwrap();
        prepare().unwrap();
        for entry in fs::read_dir("/proc/self/fd").unwrap() {
            let target = fs::read_link(entry.unwrap().path()).unwrap_or_default();
            assert!(!target.to_string_lossy().contains("secretmem"), "{target:?}");
        }
    }

    #[test]
    fn a_dropped_key_leaves_zeros_and_its_place_is_used_again() {
        let _alone = ALONE.lock().unwrap();
        let key = LockedKey::random().unwrap();
        let address = key.expose(<[u8]>::as_ptr);
        drop(key);
        let next = LockedKey::fill_with(|bytes| {
            assert_eq!(bytes, [0; KEY_BYTES]);
            assert_eq!(bytes.as_ptr(), address);
            Ok::<(), LockError>(())
        });
        drop(next.unwrap());
    }

    #[test]
    fn a_failed_fill_wipes_and_returns_its_place() {
        let _alone = ALONE.lock().unwrap();
        let failed = LockedKey::fill_with(|bytes| {
            bytes.fill(9);
            Err(LockError::Random)
        });
        assert_eq!(failed.map(|_| ()), Err(LockError::Random));
        LockedKey::fill_with(|bytes| {
            assert_eq!(bytes, [0; KEY_BYTES]);
            Ok::<(), LockError>(())
        })
        .unwrap();
    }

    #[test]
    fn a_full_arena_says_so_and_recovers() {
        let _alone = ALONE.lock().unwrap();
        let mut keys: Vec<LockedKey> = (0..KEYS).map(|_| LockedKey::random().unwrap()).collect();
        assert_eq!(LockedKey::random().map(|_| ()), Err(LockError::Exhausted));
        keys.pop();
        LockedKey::random().unwrap();
    }

    #[test]
    fn a_value_of_several_cells_lies_in_locked_memory_and_leaves_zeros() {
        let _alone = ALONE.lock().unwrap();
        let value = Locked::new([7_u64; 20]).unwrap();
        let neighbour = LockedKey::random().unwrap();
        let address = value.expose(|value| value.as_ptr() as u64);
        assert_eq!(prepare().unwrap() == Protection::Locked, readable_through_proc(address));
        assert!(value.expose(|value| value.iter().all(|number| *number == 7)));
        let key = neighbour.copy().unwrap();
        drop(value);
        assert!(neighbour.expose(|bytes| key.matches(bytes)));
        let next = Locked::new([0_u8; 1]).unwrap();
        assert_eq!(next.expose(|value| value.as_ptr() as u64), address);
        let again = LockedKey::fill_with(|bytes| {
            assert_eq!(bytes, [0; KEY_BYTES]);
            Ok::<(), LockError>(())
        });
        drop(again.unwrap());
    }

    #[test]
    fn a_value_is_dropped_where_it_lies_and_once() {
        struct Told(&'static AtomicUsize);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        static DROPS: AtomicUsize = AtomicUsize::new(0);
        let _alone = ALONE.lock().unwrap();
        drop(Locked::new(Told(&DROPS)).unwrap());
        assert_eq!(DROPS.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_run_of_cells_is_found_behind_single_free_ones() {
        let _alone = ALONE.lock().unwrap();
        let mut keys: Vec<LockedKey> = (0..KEYS).map(|_| LockedKey::random().unwrap()).collect();
        keys.remove(7);
        assert_eq!(Locked::new([0_u8; 40]).map(|_| ()), Err(LockError::Exhausted));
        keys.truncate(KEYS - 3);
        let value = Locked::new([5_u8; 40]).unwrap();
        assert!(value.expose(|value| *value == [5; 40]));
    }

    #[test]
    fn a_key_may_move_to_another_thread() {
        let _alone = ALONE.lock().unwrap();
        let key = LockedKey::random().unwrap();
        std::thread::spawn(move || key.expose(<[u8]>::len)).join().unwrap();
    }

    #[test]
    fn the_fallback_is_locked_and_left_out_of_dumps() {
        let pages = super::map_locked().unwrap();
        let start = format!("{:x}-", pages.as_ptr() as usize);
        let maps = fs::read_to_string("/proc/self/smaps").unwrap();
        let ours = maps.split_once(&start).unwrap().1;
        let flags = ours.lines().find(|line| line.starts_with("VmFlags")).unwrap();
        for flag in [" lo", " dd", " wf"] {
            assert!(flags.contains(flag), "{flag} in {flags}");
        }
    }
}
