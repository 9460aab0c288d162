//! Overwriting what work with keys has left on the stack.
//!
//! Ciphers and hashes take keys apart in local variables, and moves copy values: neither is wiped by who made them.
//!
//! Invariant: what lay up to `BYTES` below the caller's frame is zero when [`wiping`] returns.
//! Limit: registers, and what the caller's own frame holds.

use std::hint::black_box;

/// Runs `work`, then overwrites the stack that it used. `BYTES` must be more than it uses; twice as much is meant, since
/// builds without optimisation have deeper frames.
#[inline(never)]
pub fn wiping<const BYTES: usize, T>(work: impl FnOnce() -> T) -> T {
    let done = apart(work);
    overwrite::<BYTES>();
    done
}

/// Never part of the caller's frame, which lives on.
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[inline(never)]
fn overwrite<const BYTES: usize>() {
    let area = [0_u8; BYTES];
    // Who looks at all of it must find it written.
    black_box(&area);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::hint::black_box;
    use std::os::unix::fs::FileExt;

    use super::{apart, wiping};

    const AREA_BYTES: usize = 512;
    const RUN: [u8; 4] = [0xA7; 4];

    /// Fills a local variable and tells where it lay.
    fn leave() -> u64 {
        let mut area = [0_u8; AREA_BYTES];
        area.fill(RUN[0]);
        black_box(&area);
        area.as_ptr() as u64
    }

    /// Counts runs and no single bytes: an address that the probe itself puts there may have one such byte.
    fn left_at(address: u64) -> usize {
        let mut left = [0_u8; AREA_BYTES];
        let memory = File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut left, address).unwrap();
        left.chunks_exact(RUN.len()).filter(|bytes| **bytes == RUN).count()
    }

    // What reads uses the same stack below: only the upper part of what was left is sure to be seen.
    #[test]
    fn what_work_left_on_the_stack_is_overwritten() {
        let deep = || {
            let above = [0_u8; 1024];
            let address = leave();
            black_box(&above);
            address
        };
        let memory = std::thread::spawn(move || left_at(apart(deep))).join().unwrap();
        assert!(memory > AREA_BYTES / RUN.len() / 2, "the probe sees what is left: {memory}");
        assert_eq!(
            std::thread::spawn(move || left_at(wiping::<16_384, _>(deep))).join().unwrap(),
            0
        );
    }
}
