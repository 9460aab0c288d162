//! The self-test of what the filter owes the store.
#![expect(unsafe_code, reason = "a system call without a wrapper")]

use nix::errno::Errno;

/// Whether the filter makes sled's flush a real `fsync`. False in a process without it, whose
/// store must then sync by itself.
pub fn flush_reaches_the_disk() -> bool {
    // SAFETY: numbers only; descriptor -1 is none.
    let answer = unsafe { libc::sync_file_range(-1, 0, 0, 0) };
    answer == -1 && Errno::last() == Errno::ENOSYS
}
