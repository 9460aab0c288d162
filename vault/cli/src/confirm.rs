//! Confirming what cannot be undone.
//!
//! Invariant: nothing is removed without `--yes` or a typed answer, and both see how much it is.

use std::io::{self, BufRead};

use clap::Args;

use crate::failure::{Code, Failure, Outcome};
use crate::out;
use crate::prompt;

/// How a destructive command is confirmed.
#[derive(Debug, Clone, Args)]
pub(crate) struct Confirmation {
    /// Say what would be done, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
}

/// What was decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Do it.
    Go,
    /// Leave it.
    Leave,
}

impl Confirmation {
    /// Says what would be done and asks whether to.
    pub(crate) fn ask(&self, act: &str) -> Outcome<Decision> {
        if self.dry_run {
            out::say(&format!("would {act}"));
            return Ok(Decision::Leave);
        }
        if self.yes {
            return Ok(Decision::Go);
        }
        if !prompt::is_attended() {
            let what = format!("this would {act}, and nobody is there to confirm it");
            return Err(Failure::new(Code::Unconfirmed, what).next("say --yes, or --dry-run first"));
        }
        out::ask(&format!("This will {act}. Go on? [y/N] "));
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).map_err(Failure::argument)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(Decision::Go),
            _ => Err(Failure::new(Code::Unconfirmed, "left as it was")),
        }
    }
}
