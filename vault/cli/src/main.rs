//! `strongroom`: see the library beside it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    strongroom_cli::run()
}
