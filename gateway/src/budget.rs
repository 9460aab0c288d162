//! The memory that request bodies may take: one budget for all, a share for each connection, a small one for strangers.
//!
//! Invariant: a stranger's room counts its head too, so that many small bodies do not bring many large heads.
//! Invariant: no body is held beyond what was taken from the budget; who waits for room waits at most [`ROOM_WAIT`].

use std::sync::Arc;
use std::time::Duration;

use strongroom_policy::refusal::Refusal;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// All bodies that are being read.
const TOTAL_BYTES: u64 = 128 * 1024 * 1024;
/// Bodies of callers whom the keeper has not identified.
const STRANGERS_BYTES: u64 = 32 * 1024 * 1024;
/// What one connection may hold: the largest body and some small ones, so that four cannot be crowded out by one.
const CONNECTION_BYTES: u64 = 33 * 1024 * 1024;
/// What a stranger's head takes at most: 100 fields of an HTTP/2 head, and the read buffer that their values pin.
const HEAD_BYTES: u64 = 32 * 1024;
/// How long a body waits for room.
const ROOM_WAIT: Duration = Duration::from_secs(5);
/// A permit's size.
const UNIT_BYTES: u64 = 1024;

/// The budget of the process.
pub(crate) struct BodyBudget {
    total: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

/// One connection's share.
pub(crate) type Share = Arc<Semaphore>;

/// Room that was taken; dropped, it is free again.
#[derive(Default)]
pub(crate) struct Hold {
    _strangers: Option<OwnedSemaphorePermit>,
    share: Option<OwnedSemaphorePermit>,
    total: Option<OwnedSemaphorePermit>,
    taken_bytes: u64,
}

impl BodyBudget {
    pub(crate) fn new() -> Self {
        Self { total: semaphore(TOTAL_BYTES), strangers: semaphore(STRANGERS_BYTES) }
    }

    pub(crate) fn share() -> Share {
        semaphore(CONNECTION_BYTES)
    }

    /// Room for a stranger's body and its head, when there is some now.
    pub(crate) fn for_stranger(&self, bytes: u64) -> Option<Hold> {
        let wanted = units(bytes.saturating_add(HEAD_BYTES));
        let permit = Arc::clone(&self.strangers).try_acquire_many_owned(wanted).ok()?;
        Some(Hold { _strangers: Some(permit), taken_bytes: bytes, ..Hold::default() })
    }

    /// Makes a hold at least `bytes` large.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when there is no room in time.
    pub(crate) async fn grow(
        &self,
        hold: &mut Hold,
        share: &Share,
        bytes: u64,
    ) -> Result<(), Refusal> {
        if bytes <= hold.taken_bytes {
            return Ok(());
        }
        let more = units(bytes) - units(hold.taken_bytes).min(units(bytes));
        let taken = timeout(ROOM_WAIT, async {
            let share = Arc::clone(share).acquire_many_owned(more).await?;
            Ok::<_, tokio::sync::AcquireError>((
                share,
                Arc::clone(&self.total).acquire_many_owned(more).await?,
            ))
        });
        let Ok(Ok((share, total))) = taken.await else { return Err(Refusal::Busy) };
        merge(&mut hold.share, share);
        merge(&mut hold.total, total);
        hold.taken_bytes = bytes;
        Ok(())
    }
}

fn merge(held: &mut Option<OwnedSemaphorePermit>, more: OwnedSemaphorePermit) {
    match held {
        Some(permit) => permit.merge(more),
        None => *held = Some(more),
    }
}

fn semaphore(bytes: u64) -> Arc<Semaphore> {
    Arc::new(Semaphore::new(usize::try_from(bytes / UNIT_BYTES).unwrap_or(0)))
}

/// At least one, so that many empty bodies are bounded too.
fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::{BodyBudget, HEAD_BYTES, Hold, STRANGERS_BYTES};

    #[tokio::test(start_paused = true)]
    async fn one_connection_does_not_take_all_the_room() {
        let budget = BodyBudget::new();
        let (greedy, other) = (BodyBudget::share(), BodyBudget::share());
        let (mut first, mut second, mut third) =
            (Hold::default(), Hold::default(), Hold::default());
        budget.grow(&mut first, &greedy, 32 * 1024 * 1024).await.unwrap();
        assert!(budget.grow(&mut second, &greedy, 32 * 1024 * 1024).await.is_err());
        assert!(budget.grow(&mut third, &other, 32 * 1024 * 1024).await.is_ok());
        drop(first);
        assert!(budget.grow(&mut second, &greedy, 32 * 1024 * 1024).await.is_ok());
    }

    #[test]
    fn strangers_have_a_small_pool_of_their_own() {
        let budget = BodyBudget::new();
        let all = budget.for_stranger(STRANGERS_BYTES - HEAD_BYTES).unwrap();
        assert!(budget.for_stranger(1).is_none());
        drop(all);
        assert!(budget.for_stranger(1).is_some());
    }

    #[test]
    fn heads_of_strangers_are_bounded_even_without_bodies() {
        let budget = BodyBudget::new();
        let holds: Vec<_> = std::iter::from_fn(|| budget.for_stranger(0)).take(2000).collect();
        assert_eq!(u64::try_from(holds.len()).unwrap(), STRANGERS_BYTES / HEAD_BYTES);
    }
}
