//! What every command but `up` works with: where things are and how to print.
//!
//! Invariant: opening a desk touches nothing and starts nothing.

use crate::arguments::Common;
use crate::failure::{Outcome, speak_of};
use crate::link::Link;
use crate::out::Form;
use crate::places::{Places, Surroundings};

/// Where things are and how to print.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Where things are.
    pub(crate) places: Places,
    /// How to print.
    pub(crate) form: Form,
    /// The words that name this install in another command.
    place: String,
}

impl Desk {
    /// Finds the places.
    pub(crate) fn open(common: &Common, form: Form) -> Outcome<Self> {
        let places = Places::of_client(&Surroundings::here(), common.dir.as_deref(), common.demo)?;
        places.check()?;
        Ok(Self { places, form, place: common.place() })
    }

    /// A text whose commands work as they stand here.
    pub(crate) fn here(&self, text: &str) -> String {
        speak_of(&self.place, text)
    }

    /// Connects to the keeper.
    pub(crate) fn link(&self) -> Outcome<Link> {
        Link::open(&self.places.operator_socket())
    }
}
