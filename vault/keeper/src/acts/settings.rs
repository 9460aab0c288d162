//! An operator's word that the settings of this start are meant, for a vault that remembers others.
//!
//! Invariant: the word counts for one opening, within ten minutes, and only while the vault is closed.

use std::time::Instant;

use strongroom_protocol::operator::{Answer, Fault};

use super::{Act, fault};
use crate::keeper::State;
use crate::settings::{ACCEPTANCE_LIFE, Acceptance};

impl Act<'_> {
    pub(super) fn accept_settings(&self) -> Result<Answer, Fault> {
        match &*self.keeper.state.borrow() {
            State::Sealed(_) | State::Faulty(_) => {}
            State::Uninitialised(_) | State::Opening | State::Ready(_) => {
                let what = "only a sealed vault is asked for its settings";
                return Err(fault("SR-SETTINGS-002", what, "nothing to do"));
            }
        }
        let now = Instant::now();
        let until = now.checked_add(ACCEPTANCE_LIFE).unwrap_or(now);
        self.keeper.acceptance.set(Some(Acceptance { by: self.operator, until }));
        Ok(Answer::Done)
    }

    /// Who gave their word for the opening that begins now; it is spent.
    pub(super) fn spend_acceptance(&self) -> Option<u32> {
        let given = self.keeper.acceptance.take()?;
        (Instant::now() < given.until).then_some(given.by)
    }
}
