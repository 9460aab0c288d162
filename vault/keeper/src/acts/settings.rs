//! An operator's word that the settings of this start are meant, for a vault that remembers others.
//!
//! Invariant: the word is for the difference that was shown, counts for one opening at which somebody is, within ten minutes, and
//! only while the vault is closed.

use std::time::Instant;

use strongroom_protocol::operator::{Answer, Fault};

use super::{Act, fault};
use crate::keeper::State;
use crate::settings::{ACCEPTANCE_LIFE, Acceptance};

/// Longest text that is taken for the name of a difference: its digits and a few blanks.
const MAX_DIFFERENCE_BYTES: usize = 64;

impl Act<'_> {
    pub(super) fn accept_settings(&self, difference: String) -> Result<Answer, Fault> {
        match &*self.keeper.state.borrow() {
            State::Sealed(_) | State::Faulty(_) => {}
            State::Uninitialised(_) | State::Opening | State::Ready(_) => {
                let what = "only a sealed vault is asked for its settings";
                return Err(fault("SR-SETTINGS-002", what, "nothing to do"));
            }
        }
        if difference.len() > MAX_DIFFERENCE_BYTES {
            let next = "type it as the refusal showed it";
            return Err(fault("SR-SETTINGS-003", "this names no difference of settings", next));
        }
        let now = Instant::now();
        let until = now.checked_add(ACCEPTANCE_LIFE).unwrap_or(now);
        let word = Acceptance { by: self.operator, difference, until };
        self.keeper.acceptance.replace(Some(word));
        Ok(Answer::Done)
    }

    /// The word for the opening that begins now; it is spent.
    pub(super) fn spend_acceptance(&self) -> Option<Acceptance> {
        let given = self.keeper.acceptance.take()?;
        (Instant::now() < given.until).then_some(given)
    }
}
