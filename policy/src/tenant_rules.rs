//! A tenant's own rules beside the ready-made ones: who may use which key for what, and who may not.
//!
//! Invariant: a rule that denies wins over every rule that allows, ready-made ones included.
//! Invariant: where a call does not show what a rule asks for (a model that nobody can read, what an object that it refers to uses),
//! the rule denies and does not allow.
//! Invariant: the rules that are read for a call are those about its subject and its key, not all that there are.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::claims::Features;
use crate::id::{CredentialId, TokenId, UserId, WorkspaceId};
use crate::moment::Moment;
use crate::name::{ModelName, NotAName, ProviderName};
use crate::route::PathClass;
use crate::rules::{CallFacts, Choice, CredentialFacts, Home, MAX_CHOICES, Subject};

/// Most rules of one tenant.
pub const MAX_RULES: usize = 1_000;

/// What a rule is called: `[a-z0-9-]`, 1 to 48 bytes, begins with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RuleName(String);

/// Whether a rule gives or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// Whoever it is about may use a key that is not at home with them.
    Allow,
    /// Whoever it is about may not, whatever allows it.
    Deny,
}

/// Whom a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// Everyone of the tenant.
    Anyone,
    /// One person.
    User(UserId),
    /// Whoever presents one token.
    Token(TokenId),
    /// The members of a workspace.
    Workspace(WorkspaceId),
}

/// Which keys a rule is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Every key.
    Anything,
    /// Every key for a provider.
    Provider(ProviderName),
    /// Every key at home in a workspace.
    Workspace(WorkspaceId),
    /// One key.
    Credential(CredentialId),
}

/// In which calls a rule counts: all that is said here must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct When {
    /// Calls that name one of these models.
    pub models: Choice<ModelName>,
    /// Calls of paths of this class.
    pub class: Option<PathClass>,
    /// Calls that use any of these features.
    pub features: Option<Features>,
    /// Calls at these hours.
    pub hours: Option<Hours>,
    /// Calls before this moment: then the rule is over.
    pub until: Option<Moment>,
}

/// Hours of days of the week, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hours {
    /// Monday is bit 0.
    pub days: Days,
    /// The first minute of the day.
    pub from: Minute,
    /// The minute after the last; one that is not after `from` lies on the next day.
    pub to: Minute,
}

/// Days of the week; Monday is bit 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8")]
pub struct Days(u8);

/// A minute of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u16")]
pub struct Minute(u16);

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    /// What it is called; one name, one rule.
    pub name: RuleName,
    /// Whether it gives or takes.
    pub effect: Effect,
    /// About whom.
    pub who: Who,
    /// About which keys.
    pub what: What,
    /// In which calls.
    pub when: When,
}

/// A rule's number within its set.
type Place = usize;

/// All rules of a tenant, found by whom and what they are about.
#[derive(Debug, Default)]
pub struct RuleSet {
    rules: Vec<Rule>,
    by_about: HashMap<(Who, What), Vec<Place>>,
    given: HashMap<Who, HashSet<What>>,
    shared: BTreeSet<CredentialId>,
    timed: bool,
}

/// Who asks, and with which key.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The person.
    pub user: UserId,
    /// The token that was presented.
    pub token: TokenId,
    /// The workspaces that the person is a member of.
    pub workspaces: &'a [WorkspaceId],
    /// Which key.
    pub credential: CredentialId,
    /// Whose it is.
    pub home: Home,
    /// For which provider.
    pub provider: &'a ProviderName,
}

/// A call at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// What it shows of itself.
    pub call: &'a CallFacts,
    /// When it is.
    pub now: Moment,
}

/// Why a set of rules is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRules {
    /// Too many.
    #[error("{0} rules; there can be {MAX_RULES}")]
    TooMany(usize),
    /// Two of one name.
    #[error("two rules are called '{0}'")]
    Twice(RuleName),
    /// It gives what is not said.
    #[error("rule '{0}' allows: it must say which credential or workspace it gives the use of")]
    AllowsAnything(RuleName),
    /// It gives objects that belong to others.
    #[error(
        "rule '{0}' allows: a shared key reaches no stored objects, so its class can only be stateless"
    )]
    AllowsObjects(RuleName),
    /// A feature cannot be what allows.
    #[error("rule '{0}' allows: features can only be denied")]
    AllowsFeatures(RuleName),
    /// No feature is named.
    #[error("rule '{0}' names no feature")]
    NoFeature(RuleName),
    /// Lists without end, or empty ones.
    #[error("rule '{0}' names {1} models; it can name 1 to {MAX_CHOICES}")]
    Models(RuleName, usize),
}

/// No day of the week, or one beyond Sunday.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("days of the week are one to seven, Monday first")]
pub struct BadDays;

/// Not within a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a day has 1440 minutes")]
pub struct BadMinute;

const MINUTES_A_DAY: u64 = 24 * 60;
const DAYS_A_WEEK: u64 = 7;
/// The first day of 1970 was a Thursday.
const DAY_OF_EPOCH: u64 = 3;
const MILLIS_A_MINUTE: u64 = 60_000;

impl RuleName {
    /// Reads a rule's name.
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        Self::try_from(text.to_owned())
    }
}

impl TryFrom<String> for RuleName {
    type Error = NotAName;

    fn try_from(text: String) -> Result<Self, NotAName> {
        let good = (1..=48).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && text.starts_with(|first: char| first.is_ascii_lowercase());
        let rule = "1 to 48 of a-z, 0-9 and -, beginning with a letter";
        if good { Ok(Self(text)) } else { Err(NotAName { what: "a rule's name", rule }) }
    }
}

impl AsRef<str> for RuleName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<u8> for Days {
    type Error = BadDays;

    fn try_from(bits: u8) -> Result<Self, BadDays> {
        if bits == 0 || bits > 0x7f { Err(BadDays) } else { Ok(Self(bits)) }
    }
}

impl Days {
    /// Every day.
    pub const ALL: Self = Self(0x7f);

    /// Whether a day, Monday 0 to Sunday 6, is among them.
    pub const fn has(self, day: u8) -> bool {
        day < 7 && self.0 & (1 << day) != 0
    }
}

impl TryFrom<u16> for Minute {
    type Error = BadMinute;

    fn try_from(minute: u16) -> Result<Self, BadMinute> {
        if u64::from(minute) < MINUTES_A_DAY { Ok(Self(minute)) } else { Err(BadMinute) }
    }
}

impl Minute {
    /// Minutes since midnight.
    pub const fn minutes(self) -> u16 {
        self.0
    }
}

impl Hours {
    /// Whether a moment lies within. Hours that go over midnight belong to the day on which they begin.
    pub fn hold(self, now: Moment) -> bool {
        let minutes = now.unix_millis() / MILLIS_A_MINUTE;
        let minute = minutes % MINUTES_A_DAY;
        let today = (minutes / MINUTES_A_DAY).wrapping_add(DAY_OF_EPOCH) % DAYS_A_WEEK;
        let yesterday = today.wrapping_add(DAYS_A_WEEK - 1) % DAYS_A_WEEK;
        let has = |day: u64| u8::try_from(day).is_ok_and(|day| self.days.has(day));
        let (from, to) = (u64::from(self.from.0), u64::from(self.to.0));
        if from < to {
            has(today) && (from..to).contains(&minute)
        } else {
            (has(today) && minute >= from) || (has(yesterday) && minute < to)
        }
    }
}

impl Default for When {
    /// Always.
    fn default() -> Self {
        Self { models: Choice::Any, class: None, features: None, hours: None, until: None }
    }
}

impl When {
    /// Whether all that is said holds; of what the call does not show, `unshown` is assumed.
    fn holds(&self, shown: &Shown<'_>, unshown: bool) -> bool {
        let call = shown.call;
        let uses = |these| {
            call.features.and(these) != Features::NONE || (unshown && call.may_hide_features())
        };
        self.until.is_none_or(|end| shown.now < end)
            && self.hours.is_none_or(|hours| hours.hold(shown.now))
            && self.class.is_none_or(|class| class == call.class)
            && self.features.is_none_or(uses)
            && (self.models.is_any()
                || call.shown_model().map_or(unshown, |model| self.models.allows_model(model)))
    }
}

impl Rule {
    /// Whether it can be told apart what it gives and takes.
    fn check(&self) -> Result<(), BadRules> {
        let name = || self.name.clone();
        if let Choice::Only(models) = &self.when.models
            && (models.is_empty() || models.len() > MAX_CHOICES)
        {
            return Err(BadRules::Models(name(), models.len()));
        }
        if self.when.features == Some(Features::NONE) {
            return Err(BadRules::NoFeature(name()));
        }
        match (self.effect, &self.what) {
            (Effect::Deny, _) => Ok(()),
            (Effect::Allow, What::Anything | What::Provider(_)) => {
                Err(BadRules::AllowsAnything(name()))
            }
            (Effect::Allow, What::Workspace(_) | What::Credential(_)) => {
                if self.when.class == Some(PathClass::Stateful) {
                    return Err(BadRules::AllowsObjects(name()));
                }
                if self.when.features.is_some() {
                    return Err(BadRules::AllowsFeatures(name()));
                }
                Ok(())
            }
        }
    }
}

impl RuleSet {
    /// Takes rules in, in their order.
    ///
    /// # Errors
    /// When one of them cannot be, or two share a name.
    pub fn new(rules: Vec<Rule>) -> Result<Self, BadRules> {
        if rules.len() > MAX_RULES {
            return Err(BadRules::TooMany(rules.len()));
        }
        let mut set = Self::default();
        let mut names = BTreeSet::new();
        for (place, rule) in rules.iter().enumerate() {
            rule.check()?;
            if !names.insert(&rule.name) {
                return Err(BadRules::Twice(rule.name.clone()));
            }
            set.by_about.entry((rule.who, rule.what.clone())).or_default().push(place);
            set.timed |= rule.when.hours.is_some() || rule.when.until.is_some();
            if rule.effect == Effect::Allow {
                set.given.entry(rule.who).or_default().insert(rule.what.clone());
                if let What::Credential(credential) = rule.what {
                    set.shared.insert(credential);
                }
            }
        }
        set.rules = rules;
        Ok(set)
    }

    /// The rules, in their order.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Whether a rule gives the use of this very key to others. Then it is a shared one for its owner, too, until no rule does:
    /// what is stored under it at the provider would be everybody's.
    pub fn shares(&self, credential: CredentialId) -> bool {
        self.shared.contains(&credential)
    }

    /// Whether what is allowed depends on when: then what is allowed now may not be in a while.
    pub const fn is_timed(&self) -> bool {
        self.timed
    }

    /// What rules give the use of to a subject, for who looks for a key; whether they hold for a call is asked later.
    pub fn given_to<'a>(&'a self, subject: &'a Subject) -> impl Iterator<Item = &'a What> {
        let named = whos(subject.user, subject.token, &subject.workspaces);
        named.filter_map(|who| self.given.get(&who)).flatten()
    }

    /// Whether a rule gives a subject the use of a key, in some call at least.
    pub fn gives(&self, about: &About<'_>) -> bool {
        if self.given.is_empty() {
            return false;
        }
        let whats = about.whats();
        let gives = |given: &HashSet<What>| whats.iter().any(|what| given.contains(what));
        about.whos().filter_map(|who| self.given.get(&who)).any(gives)
    }

    /// The rules about a subject and a key, in their order, and whether each counts for what a call shows.
    pub fn about<'a>(&'a self, about: &About<'_>, shown: &Shown<'_>) -> Vec<(&'a Rule, bool)> {
        let whats = about.whats();
        let whos: Vec<Who> = about.whos().collect();
        let concerns = |rule: &&Rule| whos.contains(&rule.who) && whats.contains(&rule.what);
        let holds = |rule: &'a Rule| (rule, rule.when.holds(shown, rule.effect == Effect::Deny));
        self.rules.iter().filter(concerns).map(holds).collect()
    }

    /// The first rule that allows this call.
    pub fn allowing(&self, about: &About<'_>, shown: &Shown<'_>) -> Option<&Rule> {
        self.first(Effect::Allow, about, shown)
    }

    /// The first rule that denies this call.
    pub fn denying(&self, about: &About<'_>, shown: &Shown<'_>) -> Option<&Rule> {
        self.first(Effect::Deny, about, shown)
    }

    /// The first in the order of the set, so that what is told does not depend on a map's order.
    fn first(&self, effect: Effect, about: &About<'_>, shown: &Shown<'_>) -> Option<&Rule> {
        if self.rules.is_empty() {
            return None;
        }
        let whats = about.whats();
        let unshown = effect == Effect::Deny;
        let mut first: Option<Place> = None;
        for who in about.whos() {
            for what in &whats {
                // The key is made anew for each question: as cheap as a borrowed one, and plain.
                let Some(places) = self.by_about.get(&(who, what.clone())) else { continue };
                let better = |place: &&Place| first.is_none_or(|first| **place < first);
                let holds = |place: &&Place| {
                    self.rules.get(**place).is_some_and(|rule| {
                        rule.effect == effect && rule.when.holds(shown, unshown)
                    })
                };
                first = places.iter().take_while(better).find(holds).copied().or(first);
            }
        }
        first.and_then(|place| self.rules.get(place))
    }
}

impl<'a> About<'a> {
    /// A subject with a key.
    pub fn of(subject: &'a Subject, credential: &'a CredentialFacts) -> Self {
        Self {
            user: subject.user,
            token: subject.token,
            workspaces: &subject.workspaces,
            credential: credential.id,
            home: credential.home,
            provider: &credential.provider,
        }
    }

    fn whos(&self) -> impl Iterator<Item = Who> {
        whos(self.user, self.token, self.workspaces)
    }

    /// Everything that a rule may call the key.
    fn whats(&self) -> Vec<What> {
        let mut whats = vec![
            What::Anything,
            What::Credential(self.credential),
            What::Provider(self.provider.clone()),
        ];
        if let Home::Workspace(workspace) = self.home {
            whats.push(What::Workspace(workspace));
        }
        whats
    }
}

/// Everything that a rule may call a subject.
fn whos(user: UserId, token: TokenId, workspaces: &[WorkspaceId]) -> impl Iterator<Item = Who> {
    let own = [Who::Anyone, Who::User(user), Who::Token(token)];
    own.into_iter().chain(workspaces.iter().map(|workspace| Who::Workspace(*workspace)))
}

#[cfg(test)]
mod tests;
