//! What people, tokens, workspaces and credentials are called, for rules that name them.
//!
//! Invariant: a name that several have, or that reads as an id, is none: it is written as an id.

use std::str::FromStr;

use strongroom_policy::id::{CredentialId, Id, Kind, TokenId, UserId, WorkspaceId};
use strongroom_policy::name::Label;
use strongroom_policy::name::ProviderName;
use strongroom_policy::tenant_rules::{What, Who};
use strongroom_protocol::operator::listing::{CredentialRow, TokenRow, WorkspaceRow};
use strongroom_protocol::operator::{Answer, Request};

use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::{credential, user};

/// Everything that rules can name.
#[derive(Debug, Default)]
pub(super) struct Names {
    pub(super) users: Vec<(UserId, Label)>,
    pub(super) tokens: Vec<(TokenId, Label)>,
    pub(super) workspaces: Vec<WorkspaceRow>,
    pub(super) credentials: Vec<CredentialRow>,
}

impl Names {
    pub(super) fn ask(link: &mut Link) -> Outcome<Self> {
        let Answer::Workspaces(workspaces) = link.ask(&Request::WorkspaceList)? else {
            return Err(Failure::unexpected());
        };
        let Answer::Tokens(tokens) = link.ask(&Request::TokenList)? else {
            return Err(Failure::unexpected());
        };
        let token = |row: TokenRow| (row.id, row.label);
        Ok(Self {
            users: user::rows(link)?.into_iter().map(|row| (row.id, row.label)).collect(),
            tokens: tokens.into_iter().map(token).collect(),
            workspaces,
            credentials: credential::rows(link)?,
        })
    }

    /// Reads `anyone`, `user:NAME`, `token:NAME` or `workspace:NAME`.
    pub(super) fn who(&self, text: &str) -> Result<Who, String> {
        match text.split_once(':') {
            None if text == "anyone" => Ok(Who::Anyone),
            Some(("user", name)) => id("user", name, self.of_users()).map(Who::User),
            Some(("token", name)) => id("token", name, self.of_tokens()).map(Who::Token),
            Some(("workspace", name)) => {
                id("workspace", name, self.of_workspaces()).map(Who::Workspace)
            }
            Some(_) | None => Err(format!(
                "who is anyone, user:NAME, token:NAME or workspace:NAME, not \"{text}\""
            )),
        }
    }

    /// Reads `anything`, `provider:NAME`, `workspace:NAME` or `credential:NAME`.
    pub(super) fn what(&self, text: &str) -> Result<What, String> {
        match text.split_once(':') {
            None if text == "anything" => Ok(What::Anything),
            Some(("provider", name)) => {
                ProviderName::parse(name).map(What::Provider).map_err(|error| error.to_string())
            }
            Some(("workspace", name)) => {
                id("workspace", name, self.of_workspaces()).map(What::Workspace)
            }
            Some(("credential", name)) => {
                id("credential", name, self.of_credentials()).map(What::Credential)
            }
            Some(_) | None => Err(format!(
                "keys are anything, provider:NAME, workspace:NAME or credential:NAME, not \"{text}\""
            )),
        }
    }

    pub(super) fn of_who(&self, who: Who) -> String {
        match who {
            Who::Anyone => "anyone".to_owned(),
            Who::User(user) => format!("user:{}", name(user, &self.of_users())),
            Who::Token(token) => format!("token:{}", name(token, &self.of_tokens())),
            Who::Workspace(home) => format!("workspace:{}", name(home, &self.of_workspaces())),
        }
    }

    pub(super) fn of_what(&self, what: &What) -> String {
        match what {
            What::Anything => "anything".to_owned(),
            What::Provider(provider) => format!("provider:{provider}"),
            What::Workspace(home) => format!("workspace:{}", name(*home, &self.of_workspaces())),
            What::Credential(key) => format!("credential:{}", name(*key, &self.of_credentials())),
        }
    }

    fn of_users(&self) -> impl Iterator<Item = (UserId, &Label)> + Clone {
        self.users.iter().map(|(id, label)| (*id, label))
    }

    fn of_tokens(&self) -> impl Iterator<Item = (TokenId, &Label)> + Clone {
        self.tokens.iter().map(|(id, label)| (*id, label))
    }

    fn of_workspaces(&self) -> impl Iterator<Item = (WorkspaceId, &Label)> + Clone {
        self.workspaces.iter().map(|row| (row.id, &row.label))
    }

    fn of_credentials(&self) -> impl Iterator<Item = (CredentialId, &Label)> + Clone {
        self.credentials.iter().map(|row| (row.id, &row.label))
    }
}

/// The id of a name, or an id as it is written: also of what is gone, so that what was printed can be read.
fn id<'a, K: Kind + 'static>(
    what: &str,
    text: &str,
    known: impl Iterator<Item = (Id<K>, &'a Label)>,
) -> Result<Id<K>, String> {
    if let Ok(id) = Id::from_str(text) {
        return Ok(id);
    }
    let mut found = known.filter(|(_, label)| label.as_ref() == text);
    match (found.next(), found.next()) {
        (Some((id, _)), None) => Ok(id),
        (None, _) => Err(format!("there is no {what} '{text}' (strongroom {what} list)")),
        (Some(_), Some(_)) => Err(format!("several {what}s are called '{text}'; write the id")),
    }
}

fn name<'a, K: Kind + 'static>(
    id: Id<K>,
    known: &(impl Iterator<Item = (Id<K>, &'a Label)> + Clone),
) -> String {
    let label = known.clone().find(|(one, _)| *one == id).map(|(_, label)| label);
    let unique = |label: &&Label| known.clone().filter(|(_, other)| other == label).count() == 1;
    // One that reads as an id would be read as that one.
    let plain = |label: &&Label| Id::<K>::from_str(label.as_ref()).is_err();
    label.filter(plain).filter(unique).map_or_else(|| id.to_string(), ToString::to_string)
}
