//! `strongroom tenant`: tenants, whose people, credentials and rules know nothing of each other's.
//!
//! Invariant: what is confirmed is what is deleted; the vault refuses when the count has changed meanwhile.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_policy::name::Label;
use strongroom_policy::rules::Standing;
use strongroom_protocol::operator::tenants::{
    Holdings, TenantCounted, TenantDeletion, TenantReceipt, TenantRow,
};
use strongroom_protocol::operator::{Answer, Pick, Request};

use crate::confirm::{Confirmation, Decision};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::out::{self, Form};
use crate::{pick, render};

/// Arguments of `tenant`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Make a tenant
    #[command(before_help = "Example: strongroom tenant create acme")]
    Create {
        /// Its name
        #[arg(value_parser = Label::parse)]
        label: Label,
    },
    /// List tenants and how much each has
    #[command(before_help = "Example: strongroom tenant list")]
    List,
    /// Take a tenant's right to act: all its tokens stop at once
    #[command(before_help = "Example: strongroom tenant disable acme --dry-run")]
    Disable {
        /// Name or id
        #[arg(value_parser = pick::pick)]
        which: Pick,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Give it back
    #[command(before_help = "Example: strongroom tenant enable acme")]
    Enable {
        /// Name or id
        #[arg(value_parser = pick::pick)]
        which: Pick,
    },
    /// Delete a tenant for ever, with all that it has
    #[command(before_help = "Example: strongroom tenant delete acme --dry-run")]
    Delete {
        /// Name or id
        #[arg(value_parser = pick::pick)]
        which: Pick,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::Create { label } => {
            let Answer::Tenant(id) = desk.link()?.ask(&Request::TenantCreate(label))? else {
                return Err(Failure::unexpected());
            };
            told(desk, json!({"tenant": id.to_string()}), &format!("made {id}"));
        }
        Verb::List => list(desk)?,
        Verb::Disable { which, confirmation } => {
            let act = format!("stop every token and every call of the tenant {}", which.0);
            if confirmation.ask(&act)? == Decision::Go {
                desk.link()?.tell(&Request::TenantDisable(which))?;
                told(desk, json!({"disabled": true}), "1 tenant disabled");
            }
        }
        Verb::Enable { which } => {
            desk.link()?.tell(&Request::TenantEnable(which))?;
            told(desk, json!({"enabled": true}), "1 tenant may act again");
        }
        Verb::Delete { which, confirmation } => delete(which, &confirmation, desk)?,
    }
    Ok(())
}

fn list(desk: &Desk) -> Outcome {
    let Answer::Tenants(rows) = desk.link()?.ask(&Request::TenantList)? else {
        return Err(Failure::unexpected());
    };
    match desk.form {
        Form::Json => {
            let row = |row: &TenantRow| {
                json!({
                    "id": row.id.to_string(),
                    "label": row.label,
                    "standing": row.standing,
                    "first": row.first,
                    "holds": holds_json(row.holds),
                    "created": row.created.map(render::moment),
                })
            };
            out::object(json!({"tenants": rows.iter().map(row).collect::<Vec<Value>>()}));
        }
        Form::Text => {
            let cells = |row: &TenantRow| {
                let standing = match row.standing {
                    Standing::Active => "active",
                    Standing::Disabled => "disabled",
                };
                [
                    row.label.to_string(),
                    standing.to_owned(),
                    row.holds.users.to_string(),
                    row.holds.workspaces.to_string(),
                    row.holds.tokens.to_string(),
                    row.holds.credentials.to_string(),
                    row.id.to_string(),
                ]
            };
            let cells: Vec<_> = rows.iter().map(cells).collect();
            let headings =
                ["NAME", "STANDING", "PEOPLE", "WORKSPACES", "TOKENS", "CREDENTIALS", "ID"];
            render::table(headings, &cells, "no tenants");
        }
    }
    Ok(())
}

fn delete(named: Pick, confirmation: &Confirmation, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let count = Request::TenantDelete(named, TenantDeletion::Count);
    let Answer::TenantCounted(counted) = link.ask(&count)? else {
        return Err(Failure::unexpected());
    };
    if confirmation.ask(&act(&counted))? == Decision::Leave {
        return Ok(());
    }
    let id = pick::pick(&counted.id.to_string()).map_err(Failure::argument)?;
    let perform = Request::TenantDelete(id, TenantDeletion::Perform(counted.holds));
    let Answer::TenantDeleted(receipt) = link.ask(&perform)? else {
        return Err(Failure::unexpected());
    };
    match desk.form {
        Form::Json => out::object(receipt_json(&receipt)),
        Form::Text => {
            for line in sentences(&receipt) {
                out::data(&line);
            }
        }
    }
    Ok(())
}

fn act(counted: &TenantCounted) -> String {
    format!("delete 1 tenant ({}) for ever, with {}", counted.label, holds_text(counted.holds))
}

fn holds_text(holds: Holdings) -> String {
    let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let (people, workspaces) = (holds.users, render::count(number(holds.workspaces), "workspace"));
    let people = if people == 1 { "1 person".to_owned() } else { format!("{people} people") };
    let tokens = render::count(number(holds.tokens), "token");
    let credentials = render::count(number(holds.credentials), "credential");
    format!("{people}, {workspaces}, {tokens} and {credentials}")
}

fn holds_json(holds: Holdings) -> Value {
    json!({
        "users": holds.users,
        "workspaces": holds.workspaces,
        "tokens": holds.tokens,
        "credentials": holds.credentials,
    })
}

fn sentences(receipt: &TenantReceipt) -> Vec<String> {
    let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let counted = &receipt.counted;
    vec![
        format!(
            "deleted tenant {} ({}): {}, {} stopped",
            counted.label,
            counted.id,
            holds_text(counted.holds),
            render::count(number(receipt.stopped_calls), "call"),
        ),
        format!(
            "destroyed its root and its shred keys, {} in all, in both slots of the keyring (generation {}): \
             what lingers of {} in the store's files, and in copies of it, does not open with this keyring",
            render::count(number(receipt.destroyed_keys), "key"),
            receipt.keyring_generation,
            render::count(number(receipt.records), "record"),
        ),
        format!(
            "not destroyed: copies of an earlier keyring (backups, snapshots, what a flash disk \
             has moved), and what the journal says of it; store and manifest from before commit {} are refused",
            receipt.commit
        ),
    ]
}

fn receipt_json(receipt: &TenantReceipt) -> Value {
    let counted = &receipt.counted;
    json!({
        "deleted": {"what": "tenant", "id": counted.id.to_string(), "label": counted.label},
        "held": holds_json(counted.holds),
        "records": receipt.records,
        "stopped_calls": receipt.stopped_calls,
        "destroyed_keys": receipt.destroyed_keys,
        "keyring_generation": receipt.keyring_generation,
        "commit": receipt.commit,
    })
}

fn told(desk: &Desk, object: Value, text: &str) {
    match desk.form {
        Form::Json => out::object(object),
        Form::Text => out::say(text),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_policy::id::TenantId;
    use strongroom_policy::name::Label;
    use strongroom_protocol::operator::tenants::{Holdings, TenantCounted};

    use super::act;

    #[test]
    fn the_question_says_how_much_goes() {
        let holds = Holdings { users: 1, workspaces: 2, tokens: 3, credentials: 1 };
        let label = Label::parse("acme").unwrap();
        let counted = TenantCounted { id: TenantId::from_random([1; 16]), label, holds };
        assert_eq!(
            act(&counted),
            "delete 1 tenant (acme) for ever, with 1 person, 2 workspaces, 3 tokens and 1 credential"
        );
    }
}
