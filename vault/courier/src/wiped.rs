//! Memory that serves call after call, wiped in between.
//!
//! Invariant: after `wipe` no byte of a call is left in a buffer, nor in the memory behind its end. On drop a `WipedVec` wipes
//! itself; the memory of a `ReadBuffer` is wiped by the allocator alone, when its last part is freed.
//! Invariant: a buffer that had to grow for a call is given back after it, to an allocator that wipes.
//!
//! Allocating a few buffers of some KiB for each call and giving them back cost a fifth of a call's time.

use std::mem::MaybeUninit;
use std::ops::{Deref, DerefMut};

use bytes::BytesMut;

/// Largest buffer that is kept from call to call, bytes.
pub(crate) const MAX_KEPT_BYTES: usize = 16 * 1024;
/// What one read asks for: most calls and answers fit.
pub(crate) const READ_BYTES: usize = 4 * 1024;

/// Overwrites `bytes`.
pub(crate) fn wipe(bytes: &mut [u8]) {
    // `zeroize` writes byte by byte, which costs more than all the matching of a call. A fill whose result is shown to an opaque
    // reader is not optimised away.
    bytes.fill(0);
    std::hint::black_box(bytes);
}

/// Empties `bytes` and overwrites all of its memory; gives it back when it is large.
pub(crate) fn wipe_all(bytes: &mut Vec<u8>) {
    bytes.clear();
    let memory = bytes.spare_capacity_mut();
    memory.fill(MaybeUninit::new(0));
    std::hint::black_box(memory);
    if bytes.capacity() > MAX_KEPT_BYTES {
        *bytes = Vec::new();
    }
}

/// Bytes that are near a key: wiped on drop too, whatever the allocator.
#[derive(Default)]
pub(crate) struct WipedVec(Vec<u8>);

impl WipedVec {
    /// Wipes it and makes room for `bytes`, up to which it then never grows.
    pub(crate) fn begin(&mut self, bytes: usize) {
        wipe_all(&mut self.0);
        if self.0.capacity() < bytes {
            self.0 = Vec::with_capacity(bytes);
        }
    }

    /// Empties it and overwrites all of its memory.
    pub(crate) fn wipe(&mut self) {
        wipe_all(&mut self.0);
    }
}

impl Drop for WipedVec {
    fn drop(&mut self) {
        self.wipe();
    }
}

impl Deref for WipedVec {
    type Target = Vec<u8>;

    fn deref(&self) -> &Vec<u8> {
        &self.0
    }
}

impl DerefMut for WipedVec {
    fn deref_mut(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }
}

/// What is read off a socket, handed out in shared parts.
#[derive(Default)]
pub(crate) struct ReadBuffer {
    pub(crate) bytes: BytesMut,
    memory: Memory,
}

/// What lies behind a `ReadBuffer`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Memory {
    /// None, or more than a call usually needs.
    #[default]
    Other,
    /// `READ_BYTES`, written from the beginning to the end of what is there.
    Written,
    /// The same, begun anew once it was full.
    WrittenTwice,
}

impl ReadBuffer {
    /// Makes room for `more` bytes.
    pub(crate) fn make_room(&mut self, more: usize) {
        if self.bytes.capacity() == 0 && more <= READ_BYTES {
            let bytes = BytesMut::with_capacity(READ_BYTES);
            *self = Self { bytes, memory: Memory::Written };
        } else if self.bytes.capacity() - self.bytes.len() < more {
            self.memory = match self.memory {
                Memory::Written | Memory::WrittenTwice if self.bytes.try_reclaim(more) => {
                    Memory::WrittenTwice
                }
                Memory::Written | Memory::WrittenTwice | Memory::Other => {
                    self.bytes.reserve(more);
                    Memory::Other
                }
            };
        }
    }

    /// Empties it, what nobody took included, and overwrites what was written; gives the memory back when it grew or when a part
    /// is still in use.
    pub(crate) fn wipe(&mut self) {
        let end = self.bytes.as_ptr().addr() + self.bytes.len();
        self.bytes.clear();
        // Asked for all of its memory, it starts at the beginning again.
        if self.memory == Memory::Other
            || !self.bytes.try_reclaim(READ_BYTES)
            || self.bytes.capacity() != READ_BYTES
        {
            *self = Self::default();
            return;
        }
        let start = self.bytes.as_ptr().addr();
        let written = if self.memory == Memory::Written { end - start } else { READ_BYTES };
        let memory = self.bytes.spare_capacity_mut();
        memory[..written].fill(MaybeUninit::new(0));
        std::hint::black_box(memory);
        self.memory = Memory::Written;
    }

    /// The same for what was taken; the rest stays.
    pub(crate) fn wipe_taken(&mut self) {
        if self.bytes.is_empty() {
            self.wipe();
        } else {
            *self = Self { bytes: BytesMut::from(&self.bytes[..]), memory: Memory::Other };
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;

    use bytes::Buf as _;

    use super::*;

    /// What lies in memory at `from`, whether or not it belongs to anything, as the kernel sees it.
    pub(crate) fn memory_at(from: *const u8, length: usize) -> Vec<u8> {
        let mut seen = vec![0; length];
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut seen, from.addr().try_into().unwrap()).unwrap();
        seen
    }

    #[test]
    fn nothing_is_left_in_a_buffer_nor_behind_its_end() {
        let mut bytes = WipedVec::default();
        bytes.begin(300);
        bytes.extend_from_slice(&[7; 300]);
        bytes.truncate(100);
        let (at, length) = (bytes.as_ptr(), bytes.capacity());
        assert!(memory_at(at, length).contains(&7));
        bytes.wipe();
        assert_eq!((bytes.as_ptr(), bytes.len()), (at, 0), "it is kept");
        assert!(!memory_at(at, length).contains(&7));
    }

    #[test]
    fn a_large_buffer_is_given_back() {
        let mut bytes = WipedVec::default();
        bytes.begin(MAX_KEPT_BYTES + 1);
        bytes.wipe();
        assert_eq!(bytes.capacity(), 0);
    }

    /// Reads `length` bytes and takes all but `left` in two parts.
    fn read(buffer: &mut ReadBuffer, length: usize, left: usize) -> [bytes::Bytes; 2] {
        buffer.make_room(1000);
        buffer.make_room(length);
        buffer.bytes.extend_from_slice(&vec![7; length]);
        buffer.bytes.advance(3);
        let first = buffer.bytes.split_to(10).freeze();
        [first, buffer.bytes.split_to(length - 13 - left).freeze()]
    }

    #[test]
    fn a_read_buffer_is_wiped_from_its_beginning_and_used_again() {
        let mut buffer = ReadBuffer::default();
        buffer.make_room(1);
        let at = buffer.bytes.as_ptr();
        // What the allocator left in it is not ours to wipe, and may hold anything.
        buffer.bytes.extend_from_slice(&[0; READ_BYTES]);
        buffer.wipe();
        for lengths in [&[50][..], &[READ_BYTES], &[20], &[2000, 3000], &[3000, 500, 100], &[4000]]
        {
            for &length in lengths {
                drop(read(&mut buffer, length, 0));
            }
            assert!(memory_at(at, READ_BYTES).contains(&7));
            buffer.wipe();
            assert_eq!((buffer.bytes.as_ptr(), buffer.bytes.capacity()), (at, READ_BYTES));
            assert!(!memory_at(at, READ_BYTES).contains(&7), "{lengths:?}");
        }
    }

    #[test]
    fn a_read_buffer_that_grew_or_is_still_lent_is_given_back() {
        let mut buffer = ReadBuffer::default();
        drop(read(&mut buffer, READ_BYTES + 1, 0));
        buffer.wipe();
        assert_eq!(buffer.bytes.capacity(), 0);
        let lent = read(&mut buffer, 100, 0);
        buffer.wipe();
        assert_eq!(buffer.bytes.capacity(), 0);
        drop(lent);
    }

    #[test]
    fn what_was_not_taken_stays_only_where_it_is_to() {
        let mut buffer = ReadBuffer::default();
        drop(read(&mut buffer, 100, 5));
        buffer.wipe();
        assert!(buffer.bytes.is_empty());
        drop(read(&mut buffer, 100, 5));
        buffer.wipe_taken();
        assert_eq!(&buffer.bytes[..], [7; 5]);
        buffer.bytes.advance(5);
        buffer.wipe_taken();
        assert_eq!(buffer.bytes.capacity(), 0);
    }
}
