//! Chance that can be repeated: the seed is printed, and `SR_SEED` sets it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// xorshift64.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Seeded by the environment, or by the clock.
    ///
    /// # Panics
    /// When the clock stands before 1970.
    #[expect(clippy::new_without_default, reason = "two of them are not alike")]
    #[expect(clippy::print_stdout, reason = "a test says its seed")]
    pub fn new() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        let drawn = now.as_secs() ^ (u64::from(now.subsec_nanos()) << 20);
        let given = std::env::var("SR_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or(drawn) | 1;
        println!("SR_SEED={seed}");
        Self(seed)
    }

    /// 0 to `sides - 1`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides.max(1)
    }

    /// 0 to `sides - 1`, to index with.
    ///
    /// # Panics
    /// Never: it came from an index.
    pub fn pick(&mut self, sides: usize) -> usize {
        usize::try_from(self.roll(sides as u64)).expect("it came from one")
    }

    /// Sixteen bytes.
    pub fn bytes(&mut self) -> [u8; 16] {
        let [one, other] = [self.roll(u64::MAX), self.roll(u64::MAX)];
        (u128::from(one) << 64 | u128::from(other)).to_le_bytes()
    }

    /// Lets a moment of up to `most` pass, so that what follows meets the others anywhere in their work.
    pub fn linger(&mut self, most: Duration) {
        let micros = u64::try_from(most.as_micros()).unwrap_or(u64::MAX);
        let end = Instant::now() + Duration::from_micros(self.roll(micros));
        while Instant::now() < end {
            std::thread::yield_now();
        }
    }
}
