//! `strongroom token`: what programs present instead of a provider's key.
//!
//! Invariant: a token's text is printed or written once, when it is made.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_policy::id::TokenId;
use strongroom_policy::name::{Label, ModelName, ProviderName};
use strongroom_policy::rules::TokenScope;
use strongroom_protocol::SecretBytes;
use strongroom_protocol::operator::listing::TokenRow;
use strongroom_protocol::operator::{Answer, Pick, Request, TokenWish};

use crate::confirm::{Confirmation, Decision};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::files::{self, Owner};
use crate::link::Link;
use crate::out::{self, Form};
use crate::{pick, render};

/// Arguments of `token`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a token and print it, once
    #[command(
        before_help = "Example: strongroom token create laptop --models 'gpt-4o*' --expires 30d"
    )]
    Create(CreateArguments),
    /// List tokens
    #[command(before_help = "Example: strongroom token list")]
    List,
    /// End a token; calls under way are stopped
    #[command(before_help = "Example: strongroom token revoke laptop --yes")]
    Revoke {
        /// Label or id
        #[arg(value_parser = pick::pick)]
        token: Pick,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
struct CreateArguments {
    /// Its name
    #[arg(value_parser = Label::parse)]
    label: Label,
    /// Whose [default: the first person]
    #[arg(long, value_name = "NAME", value_parser = pick::pick)]
    user: Option<Pick>,
    /// Models it may name; a final * stands for any ending [default: any]
    #[arg(long, value_delimiter = ',', value_parser = ModelName::parse)]
    models: Vec<ModelName>,
    /// Providers it may call [default: any]
    #[arg(long, value_delimiter = ',', value_parser = ProviderName::parse)]
    providers: Vec<ProviderName>,
    /// The one credential it is bound to
    #[arg(long, value_name = "NAME", value_parser = pick::pick)]
    credential: Option<Pick>,
    /// When it ends, from now, as 30d [default: never]
    #[arg(long, value_name = "TIME", value_parser = pick::duration)]
    expires: Option<std::time::Duration>,
    /// Calls per minute
    #[arg(long, value_name = "CALLS", default_value_t = USUAL_RATE, value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
    /// Write it to a new file (0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Ten calls a second: more than a person and most programs make.
pub(crate) const USUAL_RATE: u32 = 600;

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::Create(arguments) => create(arguments, desk),
        Verb::List => list(desk),
        Verb::Revoke { token, confirmation } => revoke(&token, &confirmation, desk),
    }
}

fn create(arguments: CreateArguments, desk: &Desk) -> Outcome {
    let CreateArguments { label, user, models, providers, credential, expires, rate, out: file } =
        arguments;
    let scope = TokenScope {
        providers: pick::choice(providers),
        models: pick::choice(models),
        credential: None,
        expires: pick::expiry(expires),
        calls_per_minute: rate,
    };
    let wish = TokenWish { user, label, scope, credential };
    // Before the token is made: one whose text went nowhere would live on.
    if let Some(file) = file.as_deref().filter(|file| file.exists()) {
        return Err(Failure::file(file, "exists; a token is never written over a file")
            .next("name another file, or move that one away"));
    }
    let (id, text) = make(&mut desk.link()?, wish)?;
    if let Some(file) = &file {
        save(file, &text, None)?;
    }
    match (desk.form, &file) {
        (Form::Json, Some(file)) => out::object(json!({"id": id.to_string(), "file": file})),
        (Form::Json, None) => {
            let token = text.expose(|text| String::from_utf8_lossy(text).into_owned());
            out::object(json!({"id": id.to_string(), "token": token}));
        }
        (Form::Text, Some(file)) => out::say(&format!("{id} is in {}", file.display())),
        (Form::Text, None) => {
            out::say(&format!("{id}; its text follows and is not kept:"));
            text.expose(out::raw);
            out::raw(b"\n");
        }
    }
    Ok(())
}

/// Makes a token.
pub(crate) fn make(link: &mut Link, wish: TokenWish) -> Outcome<(TokenId, SecretBytes)> {
    match link.ask(&Request::TokenCreate(Box::new(wish)))? {
        Answer::Token { id, text } => Ok((id, text)),
        _ => Err(Failure::unexpected()),
    }
}

/// Writes a token to a file that only its owner reads.
pub(crate) fn save(file: &Path, text: &SecretBytes, owner: Option<Owner>) -> Outcome {
    if file.exists() {
        return Err(Failure::file(file, "exists; a token is never written over a file"));
    }
    text.expose(|text| files::replace(file, text, 0o600, owner))
}

/// All tokens.
fn rows(link: &mut Link) -> Outcome<Vec<TokenRow>> {
    match link.ask(&Request::TokenList)? {
        Answer::Tokens(rows) => Ok(rows),
        _ => Err(Failure::unexpected()),
    }
}

fn list(desk: &Desk) -> Outcome {
    let rows = rows(&mut desk.link()?)?;
    match desk.form {
        Form::Json => {
            let rows: Vec<Value> = rows.iter().map(row_json).collect();
            out::object(json!({"tokens": rows}));
        }
        Form::Text => {
            let cells = |row: &TokenRow| {
                [
                    row.label.to_string(),
                    row.user_label.to_string(),
                    pick::chosen(&row.scope.providers),
                    pick::chosen(&row.scope.models),
                    format!("{}/min", row.scope.calls_per_minute),
                    render::until(row.scope.expires),
                    row.id.to_string(),
                ]
            };
            let cells: Vec<_> = rows.iter().map(cells).collect();
            let headings = ["LABEL", "USER", "PROVIDERS", "MODELS", "RATE", "ENDS", "ID"];
            render::table(
                headings,
                &cells,
                &desk.here("no tokens; next: strongroom token create NAME"),
            );
        }
    }
    Ok(())
}

fn row_json(row: &TokenRow) -> Value {
    let TokenScope { providers, models, credential, expires, calls_per_minute } = &row.scope;
    json!({
        "id": row.id.to_string(),
        "label": row.label,
        "user": {"id": row.user.to_string(), "label": row.user_label},
        "scope": {
            "providers": providers,
            "models": models,
            "credential": credential.map(|id| id.to_string()),
            "expires": expires.map(render::moment),
            "calls_per_minute": calls_per_minute,
        },
        "created": render::moment(row.created),
    })
}

fn revoke(token: &Pick, confirmation: &Confirmation, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let rows = rows(&mut link)?;
    let row = pick::the_one(&rows, token, "token", |row| (row.id.to_string(), row.label.clone()))?;
    let act = format!("revoke 1 token ({} of {})", row.label, row.user_label);
    if confirmation.ask(&act)? == Decision::Go {
        let id = pick::pick(&row.id.to_string()).map_err(Failure::argument)?;
        link.tell(&Request::TokenRevoke(id))?;
        match desk.form {
            Form::Json => out::object(json!({"revoked": row.id.to_string()})),
            Form::Text => out::say("1 token revoked"),
        }
    }
    Ok(())
}
