//! What every command but `up` works with: where things are and how to print.
//!
//! Invariant: opening a desk touches nothing and starts nothing.

use strongroom_protocol::operator::Pick;

use crate::arguments::Common;
use crate::failure::{Failure, Outcome, speak_of};
use crate::link::Link;
use crate::out::Form;
use crate::pick;
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
    /// The tenant that requests are about, where they are about one.
    tenant: Option<Pick>,
}

impl Desk {
    /// Finds the places.
    pub(crate) fn open(common: &Common, form: Form) -> Outcome<Self> {
        let places = Places::of_client(&Surroundings::here(), common.dir.as_deref(), common.demo)?;
        places.check()?;
        let tenant = common.tenant.clone().map_or_else(of_environment, |one| Ok(Some(one)))?;
        Ok(Self { places, form, place: common.place(), tenant })
    }

    /// A text whose commands work as they stand here.
    pub(crate) fn here(&self, text: &str) -> String {
        speak_of(&self.place, text)
    }

    /// Connects to the keeper.
    pub(crate) fn link(&self) -> Outcome<Link> {
        Ok(Link::open(&self.places.operator_socket())?.within(self.tenant.clone()))
    }
}

/// Names the tenant for a whole shell.
const TENANT_VARIABLE: &str = "STRONGROOM_TENANT";

fn of_environment() -> Outcome<Option<Pick>> {
    let named = std::env::var_os(TENANT_VARIABLE).filter(|value| !value.is_empty());
    let Some(named) = named else { return Ok(None) };
    let picked = named.to_str().map(pick::pick);
    let wrong = || Failure::argument(format!("{TENANT_VARIABLE} names no tenant"));
    picked.ok_or_else(wrong)?.map(Some).map_err(|_| wrong())
}
