//! Hashing of passwords, on threads of its own and a few at a time: a flood of sign-ins takes no time from calls.
//!
//! Invariant: at most cores - 1 hash at once, and [`QUEUE`] wait; whoever comes then is told to come again.
//! Invariant: who has begun has a place until the thread is done, also when the caller went away.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread::available_parallelism;

use argon2::{Algorithm, Argon2, Block, Params, Version};
use aws_lc_rs::pbkdf2;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::person::{
    ARGON2ID_KIB, ARGON2ID_LANES, ARGON2ID_PASSES, Challenge, NewVerifier, PBKDF2_ITERATIONS,
    Pbkdf2, Proof, SALT_BYTES, TAG_BYTES,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use zeroize::Zeroizing;

use super::password::Password;
use super::problem::Problem;

/// Most who wait.
const QUEUE: usize = 32;

/// Places to hash.
pub(crate) struct Hashing {
    places: Arc<Semaphore>,
    queue: Semaphore,
}

/// One of them.
pub(super) struct Place {
    _held: OwnedSemaphorePermit,
}

impl Hashing {
    /// As many as there are cores, but one.
    pub(crate) fn new() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let places = Arc::new(Semaphore::new(cores.saturating_sub(1).max(1)));
        Self { places, queue: Semaphore::new(QUEUE) }
    }

    /// Waits for a place.
    pub(super) async fn place(&self) -> Result<Place, Problem> {
        let _waiting = self.queue.try_acquire().map_err(|_| Problem::busy())?;
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map(|held| Place { _held: held }).map_err(|_| Problem::internal())
    }
}

impl Place {
    /// Hashes a password as the keeper wants it.
    pub(super) async fn prove(
        self,
        password: Arc<Password>,
        challenge: Challenge,
    ) -> Result<(Self, Proof), Problem> {
        let Challenge { attempt, salt, pbkdf2 } = challenge;
        self.work(move || {
            let argon2id = hash(password.normal(), &salt)?;
            let pbkdf2 = pbkdf2.map(|how| hash_as_before(password.typed(), how)).transpose()?;
            Ok(Proof { attempt, argon2id, pbkdf2 })
        })
        .await
    }

    /// Hashes a password that is to be set.
    pub(super) async fn make(
        self,
        password: Arc<Password>,
    ) -> Result<(Self, NewVerifier), Problem> {
        self.work(move || {
            let mut salt = [0; SALT_BYTES];
            aws_lc_rs::rand::fill(&mut salt).map_err(|_| Problem::internal())?;
            Ok(NewVerifier { salt, tag: hash(password.normal(), &salt)? })
        })
        .await
    }

    async fn work<T: Send + 'static>(
        self,
        work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
    ) -> Result<(Self, T), Problem> {
        // The place goes with the work: dropping the request frees it only when the thread is done.
        let working = spawn_blocking(move || (self, work()));
        let (place, done) = working.await.map_err(|_| Problem::internal())?;
        Ok((place, done?))
    }
}

fn hash(password: &[u8], salt: &[u8; SALT_BYTES]) -> Result<SecretBytes, Problem> {
    let params = Params::new(ARGON2ID_KIB, ARGON2ID_PASSES, ARGON2ID_LANES, Some(TAG_BYTES));
    let params = params.map_err(|_| Problem::internal())?;
    // Our own blocks, because those that argon2 would allocate are not wiped.
    let mut blocks = Zeroizing::new(Vec::new());
    blocks.try_reserve_exact(params.block_count()).map_err(|_| Problem::busy())?;
    blocks.resize(params.block_count(), Block::new());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut tag = Zeroizing::new(vec![0; TAG_BYTES]);
    argon2
        .hash_password_into_with_memory(password, salt, &mut tag, blocks.as_mut_slice())
        .map_err(|_| Problem::internal())?;
    Ok(SecretBytes::take(tag))
}

/// What another system made of it, and then as much again as makes every attempt cost the same.
fn hash_as_before(password: &[u8], how: Pbkdf2) -> Result<SecretBytes, Problem> {
    let derive = |iterations: u32| {
        let bounded = iterations.min(*PBKDF2_ITERATIONS.end());
        let count = NonZeroU32::new(bounded)?;
        let mut tag = Zeroizing::new(vec![0; TAG_BYTES]);
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, count, &how.salt, password, &mut tag);
        Some(SecretBytes::take(tag))
    };
    let tag = derive(how.iterations).ok_or_else(Problem::internal)?;
    drop(derive(how.idle));
    Ok(tag)
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::person::Pbkdf2;

    use super::{Hashing, hash_as_before};

    /// Made with Python's `hashlib.pbkdf2_hmac`; Argon2's vectors are the keeper's, by the same library.
    #[test]
    fn an_imported_password_is_hashed_as_others_hash_it() {
        let told = hash_as_before(
            b"correct horse",
            Pbkdf2 { salt: *b"0123456789abcdef", iterations: 100_000, idle: 1000 },
        );
        let told = told.unwrap().expose(<[u8]>::to_vec);
        assert_eq!(told, PBKDF2_TOLD);
    }

    const PBKDF2_TOLD: [u8; 32] = [
        0x59, 0x81, 0x15, 0x57, 0x5b, 0xa5, 0xd2, 0xa0, 0x6d, 0xee, 0x21, 0xa7, 0x38, 0x5a, 0x6a,
        0xe5, 0x19, 0x87, 0xd1, 0xa3, 0x85, 0xbe, 0x63, 0x8a, 0x4e, 0x55, 0x00, 0x82, 0x7f, 0x66,
        0x59, 0x83,
    ];

    // Red when the queue has no end.
    #[tokio::test]
    async fn who_comes_when_too_many_wait_is_told_to_come_again() {
        let hashing = std::sync::Arc::new(Hashing::new());
        let all = u32::try_from(hashing.places.available_permits()).unwrap();
        let busy = hashing.places.acquire_many(all).await.unwrap();
        let waiting: Vec<_> = (0..super::QUEUE)
            .map(|_| {
                let hashing = std::sync::Arc::clone(&hashing);
                tokio::spawn(async move { hashing.place().await.is_ok() })
            })
            .collect();
        while hashing.queue.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        assert!(hashing.place().await.is_err());
        drop(busy);
        for one in waiting {
            assert!(one.await.unwrap());
        }
        assert!(hashing.place().await.is_ok());
    }
}
