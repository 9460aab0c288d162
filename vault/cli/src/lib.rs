//! `strongroom`: the operator's tool, and the supervisor that runs the appliance (`strongroom up`).
//!
//! Invariant: no secret comes from the command line or the environment; data goes to standard output, talk to
//! standard error.
//! Invariant: no passphrase or share is read before this process can leave no core and be traced by nobody but root.
#![forbid(unsafe_code)]

mod arguments;
mod audit;
mod authority;
mod backup;
mod budget;
mod certificate;
mod confirm;
mod credential;
mod custody;
mod deletion;
mod deposit;
mod desk;
mod doctor;
mod environment;
mod failure;
mod files;
#[doc(hidden)]
pub mod fuzzing;
mod holders;
mod init;
mod key;
mod link;
mod manual;
mod out;
mod parts;
mod pick;
mod pin;
mod places;
mod policy;
mod price;
mod progress;
mod prompt;
mod provider;
mod render;
mod seal;
mod seal_ways;
mod session;
mod settings;
mod share;
mod status;
mod store;
mod tenant;
mod token;
mod tpm;
mod trusted;
mod up;
mod usage;
mod user;
mod user_sign_in;
mod witness;
mod workspace;

use std::process::ExitCode;

use clap::Parser;
use strongroom_sys::process::keep_memory_private;

use crate::arguments::Cli;
use crate::failure::{Code, Failure};
use crate::out::Form;

/// Does what the command line says.
pub fn run() -> ExitCode {
    if let Err(error) = keep_memory_private() {
        out::failure(Form::Text, &Failure::new(Code::Process, format!("harden itself: {error}")));
        return ExitCode::FAILURE;
    }
    match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => {
            // Clap's own code for a wrong argument is 2, which here means "sealed".
            let code = if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
            let _closed = error.print();
            code
        }
    }
}
