//! Deleting people and workspaces: counted, confirmed, and told what was destroyed.
//!
//! Invariant: what is confirmed is what is deleted; the vault refuses when the count has changed meanwhile.

use serde_json::{Value, json};
use strongroom_protocol::operator::keys::{Counted, Deletion, Receipt};
use strongroom_protocol::operator::{Answer, Pick, Request};

use crate::confirm::{Confirmation, Decision};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::out::{self, Form};
use crate::{pick, render};

/// What is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A person.
    User,
    /// A workspace.
    Workspace,
}

impl Thing {
    fn word(self) -> &'static str {
        match self {
            Self::User => "person",
            Self::Workspace => "workspace",
        }
    }

    fn request(self, pick: Pick, deletion: Deletion) -> Request {
        match self {
            Self::User => Request::UserDelete(pick, deletion),
            Self::Workspace => Request::WorkspaceDelete(pick, deletion),
        }
    }
}

/// Counts, asks, deletes and prints the receipt.
pub(crate) fn delete(
    thing: Thing,
    named: Pick,
    confirmation: &Confirmation,
    desk: &Desk,
) -> Outcome {
    let mut link = desk.link()?;
    let Answer::Counted(counted) = link.ask(&thing.request(named, Deletion::Count))? else {
        return Err(Failure::unexpected());
    };
    if confirmation.ask(&act(thing, &counted))? == Decision::Leave {
        return Ok(());
    }
    let id = pick::pick(&counted.id).map_err(Failure::argument)?;
    let perform = thing.request(id, Deletion::Perform(counted.dependents));
    let Answer::Deleted(receipt) = link.ask(&perform)? else {
        return Err(Failure::unexpected());
    };
    match desk.form {
        Form::Json => out::object(receipt_json(thing, &receipt)),
        Form::Text => {
            for line in sentences(thing, &receipt) {
                out::data(&line);
            }
        }
    }
    Ok(())
}

fn act(thing: Thing, counted: &Counted) -> String {
    let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let with = counted.dependents;
    let credentials = render::count(number(with.credentials), "credential");
    let memberships = render::count(number(with.memberships), "membership");
    let more = match thing {
        Thing::User => {
            let tokens = render::count(number(with.tokens), "token");
            format!("{tokens}, {credentials} of theirs and {memberships}")
        }
        Thing::Workspace => format!("{credentials} at home there and {memberships}"),
    };
    format!("delete 1 {} ({}) for ever, with {more}", thing.word(), counted.label)
}

fn sentences(thing: Thing, receipt: &Receipt) -> Vec<String> {
    let number = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    let counted = &receipt.counted;
    vec![
        format!(
            "deleted {} {} ({}): {} and {}, {} stopped",
            thing.word(),
            counted.label,
            counted.id,
            render::count(number(counted.dependents.tokens), "token"),
            render::count(number(counted.dependents.credentials), "credential"),
            render::count(number(receipt.stopped_calls), "call"),
        ),
        format!(
            "destroyed {} in both slots of the keyring (generation {}): what lingers of {} in the \
             store's files, and in copies of it, does not open with this keyring",
            render::count(number(receipt.destroyed_keys), "shred key"),
            receipt.keyring_generation,
            render::count(number(receipt.records), "record"),
        ),
        format!(
            "not destroyed: copies of an earlier keyring (backups, snapshots, what a flash disk \
             has moved); store and manifest from before commit {} are refused",
            receipt.commit
        ),
    ]
}

fn receipt_json(thing: Thing, receipt: &Receipt) -> Value {
    let counted = &receipt.counted;
    json!({
        "deleted": {"what": thing.word(), "id": counted.id, "label": counted.label},
        "tokens": counted.dependents.tokens,
        "credentials": counted.dependents.credentials,
        "memberships": counted.dependents.memberships,
        "records": receipt.records,
        "stopped_calls": receipt.stopped_calls,
        "destroyed_keys": receipt.destroyed_keys,
        "keyring_generation": receipt.keyring_generation,
        "commit": receipt.commit,
    })
}

#[cfg(test)]
mod tests {
    use strongroom_policy::name::Label;
    use strongroom_protocol::operator::keys::{Counted, Dependents};

    use super::{Thing, act};

    #[test]
    fn the_question_says_how_much_goes() {
        let dependents = Dependents { tokens: 2, credentials: 1, memberships: 0 };
        let label = Label::parse("alice").unwrap();
        let counted = Counted { id: "usr_1".to_owned(), label, dependents };
        assert_eq!(
            act(Thing::User, &counted),
            "delete 1 person (alice) for ever, with 2 tokens, 1 credential of theirs and 0 memberships"
        );
        assert_eq!(
            act(Thing::Workspace, &counted),
            "delete 1 workspace (alice) for ever, with 1 credential at home there and 0 memberships"
        );
    }
}
