//! `strongroom workspace`: groups of people who share credentials.
//!
//! Invariant: leaving a workspace ends the use of its credentials at once; the keeper sees to that.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_policy::name::Label;
use strongroom_protocol::operator::listing::WorkspaceRow;
use strongroom_protocol::operator::{Answer, Pick, Request};

use crate::confirm::{Confirmation, Decision};
use crate::deletion::{self, Thing};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::out::{self, Form};
use crate::{pick, render};

/// Arguments of `workspace`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a workspace
    #[command(before_help = "Example: strongroom workspace create research")]
    Create {
        /// Its name
        #[arg(value_parser = Label::parse)]
        label: Label,
    },
    /// List workspaces and their members
    #[command(before_help = "Example: strongroom workspace list")]
    List,
    /// Add a member
    #[command(before_help = "Example: strongroom workspace join research alice")]
    Join {
        /// The workspace
        #[arg(value_parser = pick::pick)]
        workspace: Pick,
        /// The person
        #[arg(value_parser = pick::pick)]
        user: Pick,
    },
    /// Remove a member
    #[command(before_help = "Example: strongroom workspace leave research alice --yes")]
    Leave {
        /// The workspace
        #[arg(value_parser = pick::pick)]
        workspace: Pick,
        /// The person
        #[arg(value_parser = pick::pick)]
        user: Pick,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Delete a workspace for ever, with the credentials at home there
    #[command(before_help = "Example: strongroom workspace delete research --dry-run")]
    Delete {
        /// The workspace
        #[arg(value_parser = pick::pick)]
        workspace: Pick,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::Create { label } => {
            let Answer::Workspace(id) = desk.link()?.ask(&Request::WorkspaceCreate(label))? else {
                return Err(Failure::unexpected());
            };
            told(desk, json!({"workspace": id.to_string()}), &format!("made {id}"));
        }
        Verb::List => list(desk)?,
        Verb::Join { workspace, user } => {
            desk.link()?.tell(&Request::WorkspaceJoin(workspace, user))?;
            told(desk, json!({"joined": true}), "1 member added");
        }
        Verb::Delete { workspace, confirmation } => {
            deletion::delete(Thing::Workspace, workspace, &confirmation, desk)?;
        }
        Verb::Leave { workspace, user, confirmation } => {
            let act = format!("remove 1 member ({}) from {}", user.0, workspace.0);
            if confirmation.ask(&act)? == Decision::Go {
                desk.link()?.tell(&Request::WorkspaceLeave(workspace, user))?;
                told(desk, json!({"left": true}), "1 member removed");
            }
        }
    }
    Ok(())
}

fn list(desk: &Desk) -> Outcome {
    let Answer::Workspaces(rows) = desk.link()?.ask(&Request::WorkspaceList)? else {
        return Err(Failure::unexpected());
    };
    match desk.form {
        Form::Json => {
            let row = |row: &WorkspaceRow| {
                let members = row.members.iter();
                let members =
                    members.map(|(id, label)| json!({"id": id.to_string(), "label": label}));
                json!({
                    "id": row.id.to_string(),
                    "label": row.label,
                    "members": members.collect::<Vec<Value>>(),
                    "created": render::moment(row.created),
                })
            };
            out::object(json!({"workspaces": rows.iter().map(row).collect::<Vec<Value>>()}));
        }
        Form::Text => {
            let cells = |row: &WorkspaceRow| {
                let members: Vec<_> = row.members.iter().map(|(_, label)| label.as_ref()).collect();
                [row.label.to_string(), members.join(", "), row.id.to_string()]
            };
            let cells: Vec<_> = rows.iter().map(cells).collect();
            render::table(["NAME", "MEMBERS", "ID"], &cells, "no workspaces");
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
