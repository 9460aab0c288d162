//! `strongroom user`: people, and programs that act as one.
//!
//! Invariant: a disabled person keeps their name and credentials, and none of their tokens acts.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_policy::id::UserId;
use strongroom_policy::name::Label;
use strongroom_policy::rules::Standing;
use strongroom_protocol::operator::listing::UserRow;
use strongroom_protocol::operator::{Answer, Pick, Request};

use crate::confirm::{Confirmation, Decision};
use crate::deletion::{self, Thing};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::{pick, render, user_sign_in};

/// Arguments of `user`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a person
    #[command(before_help = "Example: strongroom user create alice")]
    Create {
        /// Their name
        #[arg(value_parser = Label::parse)]
        label: Label,
    },
    /// List people
    #[command(before_help = "Example: strongroom user list")]
    List,
    /// Take a person's right to act: all their tokens stop at once
    #[command(before_help = "Example: strongroom user disable alice --dry-run")]
    Disable {
        /// Name or id
        #[arg(value_parser = pick::pick)]
        user: Pick,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Delete a person for ever, with their tokens and their own credentials
    #[command(before_help = "Example: strongroom user delete alice --dry-run")]
    Delete {
        /// Name or id
        #[arg(value_parser = pick::pick)]
        user: Pick,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Make an invitation and print it, once: whoever has it sets the person's password
    #[command(before_help = "Example: strongroom user invite alice")]
    Invite {
        /// Name or id
        #[arg(value_parser = pick::pick)]
        user: Pick,
    },
    /// Take in passwords that another system hashed by PBKDF2-HMAC-SHA256
    #[command(before_help = "Example: strongroom user import passwords.txt")]
    Import {
        /// One person a line: NAME $pbkdf2-sha256$i=100000$SALT$HASH
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Give it back
    #[command(before_help = "Example: strongroom user enable alice")]
    Enable {
        /// Name or id
        #[arg(value_parser = pick::pick)]
        user: Pick,
    },
}

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::Create { label } => {
            let id = create(&mut desk.link()?, label)?;
            told(desk, json!({"user": id.to_string()}), &format!("made {id}"));
        }
        Verb::List => list(desk)?,
        Verb::Invite { user } => user_sign_in::invite(user, desk)?,
        Verb::Import { file } => user_sign_in::import(&file, desk)?,
        Verb::Disable { user, confirmation } => disable(user, &confirmation, desk)?,
        Verb::Delete { user, confirmation } => {
            deletion::delete(Thing::User, user, &confirmation, desk)?;
        }
        Verb::Enable { user } => {
            desk.link()?.tell(&Request::UserEnable(user))?;
            told(desk, json!({"enabled": true}), "1 person may act again");
        }
    }
    Ok(())
}

/// Makes a person.
pub(crate) fn create(link: &mut Link, label: Label) -> Outcome<UserId> {
    match link.ask(&Request::UserCreate(label))? {
        Answer::User(id) => Ok(id),
        _ => Err(Failure::unexpected()),
    }
}

/// All people.
pub(crate) fn rows(link: &mut Link) -> Outcome<Vec<UserRow>> {
    match link.ask(&Request::UserList)? {
        Answer::Users(rows) => Ok(rows),
        _ => Err(Failure::unexpected()),
    }
}

fn disable(user: Pick, confirmation: &Confirmation, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let Answer::Tokens(tokens) = link.ask(&Request::TokenList)? else {
        return Err(Failure::unexpected());
    };
    let people = rows(&mut link)?;
    let row = pick::the_one(&people, &user, "user", |row| (row.id.to_string(), row.label.clone()))?;
    let theirs = tokens.iter().filter(|token| token.user == row.id).count();
    let act =
        format!("disable 1 person ({}) and stop {}", row.label, render::count(theirs, "token"));
    if confirmation.ask(&act)? == Decision::Go {
        link.tell(&Request::UserDisable(user))?;
        told(desk, json!({"disabled": true, "tokens": theirs}), "1 person disabled");
    }
    Ok(())
}

fn list(desk: &Desk) -> Outcome {
    let rows = rows(&mut desk.link()?)?;
    match desk.form {
        Form::Json => {
            let row = |row: &UserRow| {
                json!({
                    "id": row.id.to_string(),
                    "label": row.label,
                    "standing": row.standing,
                    "created": render::moment(row.created),
                })
            };
            out::object(json!({"users": rows.iter().map(row).collect::<Vec<Value>>()}));
        }
        Form::Text => {
            let cells = |row: &UserRow| {
                let standing = match row.standing {
                    Standing::Active => "active",
                    Standing::Disabled => "disabled",
                };
                let created = render::moment(row.created);
                [row.label.to_string(), standing.to_owned(), created, row.id.to_string()]
            };
            let cells: Vec<_> = rows.iter().map(cells).collect();
            render::table(["NAME", "STANDING", "MADE", "ID"], &cells, "nobody yet");
        }
    }
    Ok(())
}

fn told(desk: &Desk, object: Value, text: &str) {
    match desk.form {
        Form::Json => out::object(object),
        Form::Text => out::say(text),
    }
}
