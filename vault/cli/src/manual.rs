//! `strongroom completions` and `strongroom man`, from the same tree as the help texts.
//!
//! Invariant: works without an install.

use std::path::PathBuf;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::arguments::Cli;
use crate::failure::{Failure, Outcome};
use crate::out;

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionArguments {
    /// For which shell
    #[arg(value_enum)]
    shell: KnownShell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub(crate) struct ManArguments {
    /// Where to write them [default: print the first one]
    directory: Option<PathBuf>,
}

/// Prints a completion script.
pub(crate) fn completions(arguments: &CompletionArguments) {
    let shell = match arguments.shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "strongroom", &mut script);
    out::raw(&script);
}

/// Writes the man pages.
pub(crate) fn man(arguments: &ManArguments) -> Outcome {
    if let Some(directory) = &arguments.directory {
        std::fs::create_dir_all(directory).map_err(|error| Failure::file(directory, error))?;
        return clap_mangen::generate_to(Cli::command(), directory)
            .map_err(|error| Failure::file(directory, error));
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(Failure::argument)?;
    out::raw(&page);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{ManArguments, man};

    #[test]
    fn every_command_has_a_man_page() {
        let scratch = tempfile::tempdir().unwrap();
        man(&ManArguments { directory: Some(scratch.path().to_owned()) }).unwrap();
        for page in ["strongroom.1", "strongroom-credential-add.1", "strongroom-up.1"] {
            assert!(scratch.path().join(page).is_file(), "{page}");
        }
    }
}
