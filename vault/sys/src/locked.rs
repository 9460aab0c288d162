//! Keys that stay for the life of a process, in memory nobody outside can read.
//!
//! Invariant: the arena's pages are never swapped, dumped or inherited by a child.
//! Invariant: a slot that is not in use is zero.
//!
//! `memfd_secret` pages leave the kernel's own map, so that `/proc/PID/mem`, ptrace and core files
//! do not show them even to root. They do not stop code injected into the process.
#![expect(
    unsafe_code,
    reason = "memfd_secret has no wrapper, and mapped memory starts as a pointer"
)]

use std::fmt;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::os::fd::{FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::mman::{self, MapFlags, MmapAdvise, ProtFlags};
use nix::unistd;
use zeroize::Zeroize;

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
    /// Every slot holds a key.
    #[error("all {KEYS} places for keys in locked memory are taken")]
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

/// A 32-byte key in locked memory, wiped on drop.
pub struct LockedKey {
    slot: ManuallyDrop<&'static mut Slot>,
}

impl LockedKey {
    /// Reserves a place and lets `fill` write the key into it.
    ///
    /// # Errors
    /// [`LockError`], or whatever `fill` answers; a half-filled key is wiped.
    pub fn fill_with<E: From<LockError>>(
        fill: impl FnOnce(&mut [u8; KEY_BYTES]) -> Result<(), E>,
    ) -> Result<Self, E> {
        let slot = with_arena(|arena| arena.free.pop())?.ok_or(LockError::Exhausted)?;
        let mut key = Self { slot: ManuallyDrop::new(slot) };
        fill(&mut key.slot)?;
        Ok(key)
    }

    /// Makes a key of the kernel's randomness.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn random() -> Result<Self, LockError> {
        Self::fill_with(|bytes| getrandom::fill(bytes).map_err(|_| LockError::Random))
    }

    /// Lends the key for the length of one call.
    pub fn expose<T>(&self, see: impl FnOnce(&[u8; KEY_BYTES]) -> T) -> T {
        see(&self.slot)
    }
}

impl Drop for LockedKey {
    fn drop(&mut self) {
        self.slot.zeroize();
        // SAFETY: `slot` is not used after this line, the last of `drop`.
        let slot = unsafe { ManuallyDrop::take(&mut self.slot) };
        if let Some(arena) = lock().as_mut() {
            arena.free.push(slot);
        }
    }
}

impl fmt::Debug for LockedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<key>")
    }
}

/// Bytes of a key: every cipher and derivation here takes 256 bits.
pub const KEY_BYTES: usize = 32;
// Fits the 64 KiB memlock limit of older systems and containers.
const ARENA_BYTES: usize = 64 * 1024;
/// How many keys fit: the root key, epochs, and the tenant keys in use.
pub const KEYS: usize = ARENA_BYTES / KEY_BYTES;

type Slot = [u8; KEY_BYTES];

struct Arena {
    protection: Protection,
    free: Vec<&'static mut Slot>,
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
    // SAFETY: the mapping is readable and writable, `ARENA_BYTES` long, never unmapped, and this
    // slice is the only reference to it.
    let bytes: &'static mut [u8] =
        unsafe { std::slice::from_raw_parts_mut(pages.as_ptr(), ARENA_BYTES) };
    // Touching every page now makes a shortage stop the start, not a later unseal.
    bytes.fill(0);
    Ok(Arena { protection, free: bytes.as_chunks_mut::<KEY_BYTES>().0.iter_mut().collect() })
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

    use super::{KEY_BYTES, KEYS, LockError, LockedKey, Protection, prepare};

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
        let address = key.expose(|bytes| bytes.as_ptr());
        drop(key);
        let next = LockedKey::fill_with(|bytes| {
            assert_eq!(*bytes, [0; KEY_BYTES]);
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
            assert_eq!(*bytes, [0; KEY_BYTES]);
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
    fn a_key_may_move_to_another_thread() {
        let _alone = ALONE.lock().unwrap();
        let key = LockedKey::random().unwrap();
        std::thread::spawn(move || key.expose(|bytes| bytes.len())).join().unwrap();
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
