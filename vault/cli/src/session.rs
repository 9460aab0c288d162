//! `strongroom session`: who is signed in, and ending it.
//!
//! Invariant: no operator makes a session here; a session that is ended is over at its next request.

use std::str::FromStr;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_policy::id::SessionId;
use strongroom_protocol::operator::people::{PeopleAnswer, PeopleRequest, PersonSession};
use strongroom_protocol::operator::{Answer, Pick, Request};
use strongroom_protocol::person::Agent;

use crate::confirm::{Confirmation, Decision};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::{pick, render};

/// Arguments of `session`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List who is signed in
    #[command(before_help = "Example: strongroom session list --user alice")]
    List {
        /// Whose [default: everybody's]
        #[arg(long, value_name = "NAME", value_parser = pick::pick)]
        user: Option<Pick>,
    },
    /// End one session
    #[command(
        before_help = "Example: strongroom session revoke ses_0f1e2d3c4b5a69788796a5b4c3d2e1f0"
    )]
    Revoke {
        /// Its id
        #[arg(value_parser = SessionId::from_str)]
        session: SessionId,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// End all sessions, of one person or of everybody
    #[command(before_help = "Example: strongroom session revoke-all --user alice --yes")]
    RevokeAll {
        /// Whose [default: everybody's]
        #[arg(long, value_name = "NAME", value_parser = pick::pick)]
        user: Option<Pick>,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::List { user } => list(user, desk),
        Verb::Revoke { session, confirmation } => {
            let act = format!("end 1 session ({session})");
            if confirmation.ask(&act)? == Decision::Go {
                ended(PeopleRequest::Revoke(session), desk)?;
            }
            Ok(())
        }
        Verb::RevokeAll { user, confirmation } => {
            let rows = rows(&mut desk.link()?, user.clone())?;
            let act = format!("end {}", render::count(rows.len(), "session"));
            if confirmation.ask(&act)? == Decision::Go {
                ended(PeopleRequest::RevokeAll(user), desk)?;
            }
            Ok(())
        }
    }
}

fn ended(request: PeopleRequest, desk: &Desk) -> Outcome {
    let Answer::People(PeopleAnswer::Ended(count)) = desk.link()?.ask(&Request::People(request))?
    else {
        return Err(Failure::unexpected());
    };
    match desk.form {
        Form::Json => out::object(json!({"ended": count})),
        Form::Text => {
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            out::say(&format!("{} ended", render::count(count, "session")));
        }
    }
    Ok(())
}

fn rows(link: &mut Link, user: Option<Pick>) -> Outcome<Vec<PersonSession>> {
    match link.ask(&Request::People(PeopleRequest::Sessions(user)))? {
        Answer::People(PeopleAnswer::Sessions(rows)) => Ok(rows),
        _ => Err(Failure::unexpected()),
    }
}

fn list(user: Option<Pick>, desk: &Desk) -> Outcome {
    let rows = rows(&mut desk.link()?, user)?;
    match desk.form {
        Form::Json => {
            let row = |one: &PersonSession| {
                json!({
                    "id": one.row.id.to_string(),
                    "user": {"id": one.user.to_string(), "label": one.label},
                    "began": render::moment(one.row.began),
                    "seen": render::moment(one.row.seen),
                    "ends": render::moment(one.row.ends),
                    "told": {"address": one.row.told.address.to_string(), "agent": one.row.told.agent},
                })
            };
            out::object(json!({"sessions": rows.iter().map(row).collect::<Vec<Value>>()}));
        }
        Form::Text => {
            let cells = |one: &PersonSession| {
                [
                    one.label.to_string(),
                    render::moment(one.row.began),
                    render::moment(one.row.seen),
                    render::moment(one.row.ends),
                    format!("{} by {}", one.row.told.address, agent(one.row.told.agent)),
                    one.row.id.to_string(),
                ]
            };
            let cells: Vec<_> = rows.iter().map(cells).collect();
            let headings = ["USER", "SIGNED IN", "SEEN", "ENDS", "FROM, AS THE GATEWAY SAYS", "ID"];
            render::table(headings, &cells, "nobody is signed in");
        }
    }
    Ok(())
}

const fn agent(agent: Agent) -> &'static str {
    match agent {
        Agent::Other => "another program",
        Agent::Chrome => "Chrome",
        Agent::Edge => "Edge",
        Agent::Firefox => "Firefox",
        Agent::Safari => "Safari",
        Agent::Tool => "a tool",
    }
}
