//! Rules held against past calls: which of those that were made they would have refused.
//!
//! Invariant: nothing is changed; who is a member of what is as it is now, and so are paths' classes.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;
use strongroom_policy::claims::{Feature, Features};
use strongroom_policy::id::{CredentialId, Id, Kind, TokenId, UserId, WorkspaceId};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::{ModelName, ProviderName};
use strongroom_policy::provider::ProviderDefinition;
use strongroom_policy::route::{Method, PathClass};
use strongroom_policy::rules::{CallFacts, Home};
use strongroom_policy::target::Target;
use strongroom_policy::tenant_rules::{About, RuleSet, Shown};
use strongroom_protocol::operator::audit::{AuditAnswer, AuditFilter, AuditRequest};
use strongroom_protocol::operator::{Answer, Request};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::names::Names;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::render;

/// How many entries are asked for at a time.
const PORTION: u32 = 1_000;
/// A search reads the journal's files.
const PATIENCE: Duration = Duration::from_mins(1);
/// Told of a call that only a rule allowed which is none any more.
const UNSHARED: &str = "(no rule shares the key)";

/// Told of what nobody does with a shared key.
const SHARED_STATELESS: &str = "(stored objects under a shared key)";
const SHARED_FEATURES: &str = "(a feature that shared keys have not)";

/// A permitted call, as the journal tells of it.
#[derive(Debug, Deserialize)]
struct Past<'a> {
    what: &'a str,
    t: &'a str,
    #[serde(default)]
    call: &'a str,
    #[serde(default)]
    user: &'a str,
    #[serde(default)]
    token: &'a str,
    #[serde(default)]
    credential: &'a str,
    #[serde(default)]
    provider: &'a str,
    #[serde(default)]
    method: &'a str,
    #[serde(default)]
    path: &'a str,
    #[serde(default)]
    model: Option<&'a str>,
    #[serde(default)]
    features: Vec<&'a str>,
}

/// What rules say of a call.
enum Judgement {
    /// It would have been made.
    Made,
    /// It would have been refused.
    RefusedBy(String),
}

/// What a rule would have refused.
#[derive(Debug, Default)]
struct Refused {
    calls: u64,
    last: String,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    calls: u64,
    /// Of keys, providers or paths that are no more: nothing can be said of them.
    unknown: u64,
    refused: BTreeMap<String, Refused>,
}

/// Holds rules against the calls since then.
pub(super) fn run(
    link: &mut Link,
    names: &Names,
    set: &RuleSet,
    since: Duration,
    form: Form,
) -> Outcome {
    let back = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
    let since = Moment::from_unix_millis(render::now().unix_millis().saturating_sub(back));
    let (mut found, mut after) = (Found::default(), 0);
    let mut definitions = BTreeMap::new();
    loop {
        let filter = Box::new(AuditFilter { since: Some(since), ..AuditFilter::default() });
        let request = Request::Audit(AuditRequest::Search { filter, after, limit: PORTION });
        let Answer::Audit(AuditAnswer::Found { rows, looked, end }) =
            link.ask_within(&request, PATIENCE)?
        else {
            return Err(Failure::unexpected());
        };
        for row in &rows {
            let Ok(past) = serde_json::from_str::<Past<'_>>(&row.line) else { continue };
            if past.what == "admit" {
                found.calls = found.calls.saturating_add(1);
                let definition = define(link, past.provider, &mut definitions)?;
                match judge(&past, definition, names, set) {
                    None => found.unknown = found.unknown.saturating_add(1),
                    Some(Judgement::Made) => {}
                    Some(Judgement::RefusedBy(rule)) => found.count(rule, past.call),
                }
            }
        }
        if end {
            break;
        }
        after = looked;
    }
    found.print(form);
    Ok(())
}

/// A provider's definition as it is now, asked for once.
fn define<'d>(
    link: &mut Link,
    name: &str,
    known: &'d mut BTreeMap<String, Option<ProviderDefinition>>,
) -> Outcome<Option<&'d ProviderDefinition>> {
    if !known.contains_key(name) {
        let found = match ProviderName::parse(name) {
            Err(_) => None,
            Ok(parsed) => match link.ask(&Request::ProviderShow(parsed)) {
                Ok(Answer::Provider(definition)) => Some(*definition),
                Ok(_) => return Err(Failure::unexpected()),
                // It was removed since.
                Err(_) => None,
            },
        };
        known.insert(name.to_owned(), found);
    }
    Ok(known.get(name).and_then(Option::as_ref))
}

/// What the rules say of a past call; nothing if that cannot be said.
fn judge(
    past: &Past<'_>,
    definition: Option<&ProviderDefinition>,
    names: &Names,
    set: &RuleSet,
) -> Option<Judgement> {
    let (user, token): (UserId, TokenId) = (id(past.user)?, id(past.token)?);
    let credential: CredentialId = id(past.credential)?;
    let row = names.credentials.iter().find(|row| row.id == credential)?;
    let (method, target) = (Method::parse(past.method)?, Target::parse(past.path).ok()?);
    let path = definition?.paths.iter().find(|path| path.fits(method, &target).is_some())?;
    let is_member = |members: &[(UserId, _)]| members.iter().any(|(member, _)| *member == user);
    let joined = names.workspaces.iter().filter(|row| is_member(&row.members));
    let workspaces: Vec<WorkspaceId> = joined.map(|row| row.id).collect();
    let model = past.model.and_then(|model| ModelName::parse(model).ok());
    let features = past.features.iter().filter_map(|name| Feature::by_name(name));
    let about = About {
        user,
        token,
        workspaces: &workspaces,
        credential,
        home: row.home,
        provider: &row.provider,
    };
    let features = features.fold(Features::NONE, Features::with);
    let facts = CallFacts { class: path.class, body: path.body, model, features };
    let shown = Shown { call: &facts, now: moment(past.t)? };
    // A personal key that these rules share is nobody's alone any more.
    if matches!(row.home, Home::Personal(_)) && set.shares(credential) {
        if path.class == PathClass::Stateful {
            return Some(Judgement::RefusedBy(SHARED_STATELESS.to_owned()));
        }
        if features.first_beyond(Features::OF_SHARED_KEYS).is_some() {
            return Some(Judgement::RefusedBy(SHARED_FEATURES.to_owned()));
        }
    }
    if let Some(rule) = set.denying(&about, &shown) {
        return Some(Judgement::RefusedBy(rule.name.to_string()));
    }
    let at_home = match row.home {
        Home::Personal(owner) => owner == user,
        Home::Workspace(home) => workspaces.contains(&home),
    };
    let shared = at_home || set.allowing(&about, &shown).is_some();
    Some(if shared { Judgement::Made } else { Judgement::RefusedBy(UNSHARED.to_owned()) })
}

fn id<K: Kind>(text: &str) -> Option<Id<K>> {
    Id::from_str(text).ok()
}

fn moment(text: &str) -> Option<Moment> {
    let seconds = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp();
    Some(Moment::from_unix_millis(u64::try_from(seconds).ok()?.checked_mul(1000)?))
}

impl Found {
    fn count(&mut self, rule: String, call: &str) {
        let row = self.refused.entry(rule).or_default();
        row.calls = row.calls.saturating_add(1);
        call.clone_into(&mut row.last);
    }

    fn print(&self, form: Form) {
        let refused = self.refused.values().fold(0_u64, |sum, row| sum.saturating_add(row.calls));
        match form {
            Form::Json => {
                let row = |(rule, row): (&String, &Refused)| json!({"rule": rule, "calls": row.calls, "last_call": row.last});
                out::object(json!({
                    "calls": self.calls,
                    "refused": refused,
                    "unknown": self.unknown,
                    "by_rule": self.refused.iter().map(row).collect::<Vec<_>>(),
                }));
            }
            Form::Text => {
                let cells = |(rule, row): (&String, &Refused)| {
                    [rule.clone(), row.calls.to_string(), row.last.clone()]
                };
                let cells: Vec<_> = self.refused.iter().map(cells).collect();
                render::table(["RULE", "CALLS", "LAST"], &cells, "no call would have been refused");
                out::say(&format!("{refused} of {} calls would have been refused", self.calls));
                if self.unknown > 0 {
                    let what = "calls of keys or paths that are no more were left out";
                    out::say(&format!("{} {what}", self.unknown));
                }
            }
        }
    }
}
