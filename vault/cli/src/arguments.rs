//! The command line as one tree; completions, man pages and help come from it.
//!
//! Invariant: the first line of every help text is an example; no argument takes a secret.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::{StringValueParser, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Args, Command as Tree, Parser, Subcommand};
use strongroom_protocol::operator::Pick;

use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::out::{self, Form};
use crate::{
    audit, backup, budget, credential, doctor, environment, init, key, manual, pick, policy, price,
    provider, seal, seal_ways, session, share, status, store, tenant, token, tpm, up, usage, user,
    witness, workspace,
};

/// Lets people use AI providers' keys without ever having them.
#[derive(Debug, Parser)]
#[command(name = "strongroom", version, before_help = "Example: strongroom up")]
#[command(arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 ready · 1 error · 2 sealed · 3 unsealing · 4 provisional · \
                        5 corrupt · 6 rolled back · 7 spliced · 8 foreign")]
pub(crate) struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Print JSON with a version instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// The install's directory, instead of the usual place
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// The demonstration instead of the real thing
    #[arg(long, global = true)]
    pub(crate) demo: bool,
    /// The tenant that it is about, instead of the one that `STRONGROOM_TENANT` names or the first
    #[arg(long, global = true, value_name = "NAME", value_parser = pick::pick)]
    pub(crate) tenant: Option<Pick>,
}

impl Common {
    /// The words that name this install in another command.
    pub(crate) fn place(&self) -> String {
        match &self.dir {
            Some(dir) => format!("--dir {}", environment::quote(&dir.to_string_lossy())),
            None if self.demo => "--demo".to_owned(),
            None => String::new(),
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the whole appliance on this machine, and explain the next step
    #[command(before_help = "Example: strongroom up --port 8443")]
    Up(up::Arguments),
    /// Make a vault in a running, empty appliance
    #[command(before_help = "Example: strongroom init --shares 5 --threshold 3 --plain-shares")]
    Init(init::Arguments),
    /// Open the vault with the passphrase or a share
    #[command(before_help = "Example: strongroom unseal")]
    Unseal(seal::UnsealArguments),
    /// Close the vault: keys leave memory and running calls are stopped
    #[command(before_help = "Example: strongroom seal")]
    Seal(seal::SealArguments),
    /// Shares: entering them back, and replacing them under a new root key
    #[command(before_help = "Example: strongroom share verify")]
    Share(share::Arguments),
    /// What leads into the vault: passphrases, shares, machines
    #[command(before_help = "Example: strongroom seal-ways list")]
    SealWays(seal_ways::Arguments),
    /// Say whether calls can be made
    #[command(before_help = "Example: strongroom status --json")]
    Status,
    /// Look for what is not as promised, with one fix each; works with the vault down
    #[command(before_help = "Example: strongroom doctor")]
    Doctor,
    /// Providers' keys
    #[command(before_help = "Example: strongroom credential add openai")]
    Credential(credential::Arguments),
    /// Providers: the built-in ones and your own
    #[command(before_help = "Example: strongroom provider list")]
    Provider(provider::Arguments),
    /// API tokens, which programs use instead of providers' keys
    #[command(
        before_help = "Example: strongroom token create laptop --models 'gpt-4o*' --expires 30d"
    )]
    Token(token::Arguments),
    /// People, and programs that act as one
    #[command(before_help = "Example: strongroom user create alice")]
    User(user::Arguments),
    /// Who is signed in
    #[command(before_help = "Example: strongroom session list")]
    Session(session::Arguments),
    /// Tenants, whose people and credentials know nothing of each other's
    #[command(before_help = "Example: strongroom tenant create acme")]
    Tenant(tenant::Arguments),
    /// Groups of people who share credentials
    #[command(before_help = "Example: strongroom workspace create research")]
    Workspace(workspace::Arguments),
    /// The tenant's own rules: who may use which key for what, and who may not
    #[command(before_help = "Example: strongroom policy show > rules.toml")]
    Policy(policy::Arguments),
    /// Generations of the keys that records are sealed with
    #[command(before_help = "Example: strongroom key rotate --wait")]
    Key(key::Arguments),
    /// The machine's TPM
    #[command(before_help = "Example: strongroom tpm status")]
    Tpm(tpm::Arguments),
    /// The journal of every decision
    #[command(before_help = "Example: strongroom audit tail -f")]
    Audit(audit::Arguments),
    /// Backups: make, verify, restore
    #[command(before_help = "Example: strongroom backup create --to /mnt/backup/today.backup")]
    Backup(backup::Arguments),
    /// The records: exported, imported, moved to another kind of store, compacted
    #[command(before_help = "Example: strongroom store compact")]
    Store(store::Arguments),
    /// Memories of the journal on other disks: they notice what whoever has this one can hide
    #[command(before_help = "Example: strongroom witness list")]
    Witness(witness::Arguments),
    /// How much may be spent, by whom, in a day or a month, and how many calls in a minute
    #[command(before_help = "Example: strongroom budget set user:alice --money 50 --per month")]
    Budget(budget::Arguments),
    /// What models cost
    #[command(before_help = "Example: strongroom price list")]
    Price(price::Arguments),
    /// Sums over the journal
    #[command(before_help = "Example: strongroom usage --by model --since 24h")]
    Usage(usage::Arguments),
    /// Print the exports that point SDKs at Strongroom
    #[command(before_help = "Example: eval \"$(strongroom env)\"")]
    Env,
    /// Print a completion script
    #[command(
        before_help = "Example: strongroom completions bash > /etc/bash_completion.d/strongroom"
    )]
    Completions(manual::CompletionArguments),
    /// Put a layer of confinement in force here, and try what it must stop; `doctor` runs this
    #[command(
        hide = true,
        before_help = "Example: strongroom try-layer seccomp --scratch /tmp/empty --listener 127.0.0.1:9"
    )]
    TryLayer(doctor::trials::Arguments),
    /// Write the man pages
    #[command(before_help = "Example: strongroom man /usr/local/share/man/man1")]
    Man(manual::ManArguments),
}

impl Cli {
    /// Runs the command and yields the exit code.
    pub(crate) fn run(self) -> ExitCode {
        let form = if self.common.json { Form::Json } else { Form::Text };
        match dispatch(self.command, &self.common, form) {
            Ok(code) => code,
            Err(failure) => {
                let failure = failure.at(&self.common.place());
                out::failure(form, &failure);
                ExitCode::from(failure.exit)
            }
        }
    }
}

impl Command {
    /// Whether it is about one tenant, or may be.
    const fn takes_a_tenant(&self) -> bool {
        match self {
            Self::Credential(_)
            | Self::Token(_)
            | Self::User(_)
            | Self::Workspace(_)
            | Self::Session(_)
            | Self::Policy(_)
            | Self::Budget(_)
            | Self::Usage(_) => true,
            Self::Audit(arguments) => arguments.takes_a_tenant(),
            Self::Up(_)
            | Self::Init(_)
            | Self::Unseal(_)
            | Self::Seal(_)
            | Self::Share(_)
            | Self::SealWays(_)
            | Self::Status
            | Self::Doctor
            | Self::Provider(_)
            | Self::Tenant(_)
            | Self::Key(_)
            | Self::Tpm(_)
            | Self::Backup(_)
            | Self::Store(_)
            | Self::Witness(_)
            | Self::Price(_)
            | Self::Env
            | Self::Completions(_)
            | Self::TryLayer(_)
            | Self::Man(_) => false,
        }
    }
}

fn dispatch(command: Command, common: &Common, form: Form) -> Outcome<ExitCode> {
    if common.tenant.is_some() && !command.takes_a_tenant() {
        let what = "this command is about the whole vault, not about one tenant";
        return Err(Failure::argument(what).next("the same without --tenant"));
    }
    let desk = || Desk::open(common, form);
    match command {
        Command::Up(arguments) => up::run(&arguments, common, form)?,
        Command::Init(arguments) => return init::run(&arguments, &desk()?),
        Command::Unseal(arguments) => return seal::unseal(&arguments, &desk()?),
        Command::Seal(arguments) => seal::seal(&arguments, &desk()?)?,
        Command::Share(arguments) => return share::run(&arguments, &desk()?),
        Command::SealWays(arguments) => seal_ways::run(&arguments, &desk()?)?,
        Command::Status => return status::run(&desk()?),
        Command::Doctor => doctor::run(&desk()?)?,
        Command::Credential(arguments) => credential::run(arguments, &desk()?)?,
        Command::Provider(arguments) => provider::run(arguments, &desk()?)?,
        Command::Token(arguments) => token::run(arguments, &desk()?)?,
        Command::User(arguments) => user::run(arguments, &desk()?)?,
        Command::Session(arguments) => session::run(arguments, &desk()?)?,
        Command::Tenant(arguments) => tenant::run(arguments, &desk()?)?,
        Command::Workspace(arguments) => workspace::run(arguments, &desk()?)?,
        Command::Policy(arguments) => policy::run(arguments, &desk()?)?,
        Command::Audit(arguments) => return audit::run(&arguments, &desk()?),
        Command::Key(arguments) => key::run(&arguments, &desk()?)?,
        Command::Tpm(arguments) => tpm::run(&arguments, &desk()?)?,
        Command::Backup(arguments) => backup::run(arguments, &desk()?)?,
        Command::Store(arguments) => store::run(arguments, common, form)?,
        Command::Witness(arguments) => witness::run(arguments, &desk()?)?,
        Command::Budget(arguments) => budget::run(arguments, &desk()?)?,
        Command::Price(arguments) => price::run(arguments, &desk()?)?,
        Command::Usage(arguments) => usage::run(&arguments, &desk()?)?,
        Command::TryLayer(arguments) => doctor::trials::run(&arguments)?,
        Command::Env => environment::run(&desk()?)?,
        Command::Completions(arguments) => manual::completions(&arguments),
        Command::Man(arguments) => manual::man(&arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Accepts `-` and nothing else: whatever stands there instead may be a secret, so it is not repeated.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnlyDash;

/// The secret comes from standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dash;

impl TypedValueParser for OnlyDash {
    type Value = Dash;

    fn parse_ref(
        &self,
        tree: &Tree,
        argument: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Dash, clap::Error> {
        let text = StringValueParser::new().parse_ref(tree, argument, value);
        if text.is_ok_and(|text| text == "-") {
            return Ok(Dash);
        }
        let refusal = "a secret is never an argument: every user of this machine can read the \
                       arguments of a process.\n  next: run the same command without it and type \
                       it at the hidden prompt, or pipe it in and write `-`. If it was a real \
                       secret, consider it seen: it is in your shell's history.\n";
        Err(clap::Error::raw(ErrorKind::InvalidValue, refusal))
    }
}

#[cfg(test)]
mod tests;
