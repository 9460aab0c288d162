//! Rules as text.
//!
//! Invariant: what is written reads back as the same rules; an unknown word is an error with its line.

use serde::{Deserialize, Serialize};
use strongroom_policy::claims::{Feature, Features};
use strongroom_policy::moment::Moment;
use strongroom_policy::name::ModelName;
use strongroom_policy::route::PathClass;
use strongroom_policy::rules::Choice;
use strongroom_policy::tenant_rules::{Days, Effect, Hours, Minute, Rule, RuleName, RuleSet, When};
use strongroom_protocol::operator::rules::check_length;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use toml::Spanned;

use super::Written;
use super::names::Names;
use crate::failure::{Failure, Outcome};
use crate::render;

/// The whole text.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u64,
    #[serde(default)]
    rule: Vec<Spanned<RuleText>>,
}

/// One rule as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RuleText {
    name: String,
    effect: Effect,
    who: String,
    keys: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    models: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    class: Option<PathClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    features: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    days: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hours: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

const HEAD: &str = "\
# The rules of this tenant. Without any, people use their own keys and those of their workspaces.
#
# [[rule]]
# name = \"no-hosted-tools\"            # a-z, 0-9 and -
# effect = \"deny\"                     # or \"allow\": gives the use of one credential, or of a workspace's
# who = \"workspace:research\"          # anyone, user:NAME, token:NAME, workspace:NAME
# keys = \"provider:openai\"            # anything, provider:NAME, workspace:NAME, credential:NAME
# models = [\"gpt-4o*\"]                # and so on: all that is said must hold; a final * stands for any ending
# class = \"stateless\"                 # or \"stateful\"
# features = [\"hosted-tools\"]         # any of these; only to deny
# days = [\"mon\", \"tue\"]
# hours = \"22:00-06:00\"               # UTC
# until = \"2027-01-01T00:00:00Z\"
#
# Denying wins. A call whose model cannot be read is denied by a rule that denies models, and not allowed by one that allows them.
";

/// Reads a text.
pub(super) fn read(text: &str, names: &Names) -> Outcome<Written> {
    let refused = |what: String| {
        Failure::argument(what)
            .next("nothing was changed; 'strongroom policy show' prints the form")
    };
    let parsed: Text = toml::from_str(text).map_err(|error| refused(error.to_string()))?;
    let mut rules = Vec::with_capacity(parsed.rule.len());
    for written in parsed.rule {
        let line = line_of(text, written.span().start);
        let name = written.get_ref().name.clone();
        let rule = written.into_inner().rule(names);
        rules.push(rule.map_err(|why| refused(format!("line {line}, rule '{name}': {why}")))?);
    }
    check_length(&rules).map_err(|error| refused(error.to_string()))?;
    let set = RuleSet::new(rules).map_err(|error| refused(error.to_string()))?;
    Ok(Written { version: parsed.version, set })
}

fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count().saturating_add(1)
}

/// Writes rules.
pub(super) fn write(version: u64, rules: &[Rule], names: &Names) -> String {
    let mut text = format!("{HEAD}\nversion = {version}\n");
    for rule in rules {
        text.push_str("\n[[rule]]\n");
        // Strings and lists of strings: they are always written.
        text.push_str(&toml::to_string(&written(rule, names)).unwrap_or_default());
    }
    text
}

/// A rule in one line.
pub(super) fn line(rule: &Rule, names: &Names) -> String {
    let text = written(rule, names);
    let mut line =
        format!("{}: {} {} with {}", text.name, effect(rule.effect), text.who, text.keys);
    let lists = [("models", text.models), ("features", text.features), ("days", text.days)];
    for (what, list) in lists {
        if let Some(list) = list {
            line.extend([", ", what, " ", &list.join(" ")]);
        }
    }
    let class = text.class.map(|class| class_name(class).to_owned());
    for (what, one) in [("class", class), ("hours", text.hours), ("until", text.until)] {
        if let Some(one) = one {
            line.extend([", ", what, " ", &one]);
        }
    }
    line
}

pub(super) const fn effect(effect: Effect) -> &'static str {
    match effect {
        Effect::Allow => "allow",
        Effect::Deny => "deny",
    }
}

const fn class_name(class: PathClass) -> &'static str {
    match class {
        PathClass::Stateless => "stateless",
        PathClass::Stateful => "stateful",
    }
}

/// A rule as it is written.
pub(super) fn written(rule: &Rule, names: &Names) -> RuleText {
    let When { models, class, features, hours, until } = &rule.when;
    let clock =
        |minute: Minute| format!("{:02}:{:02}", minute.minutes() / 60, minute.minutes() % 60);
    let every = |hours: &&Hours| hours.days != Days::ALL;
    let whole = |hours: &&Hours| hours.from.minutes() != 0 || hours.to.minutes() != 0;
    RuleText {
        name: rule.name.to_string(),
        effect: rule.effect,
        who: names.of_who(rule.who),
        keys: names.of_what(&rule.what),
        models: match models {
            Choice::Any => None,
            Choice::Only(list) => Some(list.iter().map(ToString::to_string).collect()),
        },
        class: *class,
        features: features.map(|set| set.iter().map(|one| one.name().to_owned()).collect()),
        days: hours.as_ref().filter(every).map(|hours| {
            let chosen = (0_u8..).zip(DAYS).filter(|(day, _)| hours.days.has(*day));
            chosen.map(|(_, name)| name.to_owned()).collect()
        }),
        hours: hours
            .as_ref()
            .filter(whole)
            .map(|hours| format!("{}-{}", clock(hours.from), clock(hours.to))),
        until: until.map(render::moment),
    }
}

impl RuleText {
    fn rule(self, names: &Names) -> Result<Rule, String> {
        let models = match self.models {
            None => Choice::Any,
            Some(list) => {
                let read = list.iter().map(|one| ModelName::parse(one));
                Choice::Only(read.collect::<Result<_, _>>().map_err(|error| error.to_string())?)
            }
        };
        Ok(Rule {
            name: RuleName::parse(&self.name).map_err(|error| error.to_string())?,
            effect: self.effect,
            who: names.who(&self.who)?,
            what: names.what(&self.keys)?,
            when: When {
                models,
                class: self.class,
                features: self.features.as_deref().map(features).transpose()?,
                hours: hours(self.days.as_deref(), self.hours.as_deref())?,
                until: self.until.as_deref().map(moment).transpose()?,
            },
        })
    }
}

fn features(list: &[String]) -> Result<Features, String> {
    list.iter().try_fold(Features::NONE, |all, name| {
        let known = || Feature::ALL.map(Feature::name).join(", ");
        let one = Feature::by_name(name);
        one.map(|one| all.with(one))
            .ok_or_else(|| format!("features are {}, not \"{name}\"", known()))
    })
}

fn hours(days: Option<&[String]>, hours: Option<&str>) -> Result<Option<Hours>, String> {
    if days.is_none() && hours.is_none() {
        return Ok(None);
    }
    let days = match days {
        None => Days::ALL,
        Some(list) => {
            let bits = list.iter().try_fold(0_u8, |bits, name| {
                let place = DAYS.iter().position(|day| day == name);
                let bit = place.and_then(|place| 1_u8.checked_shl(u32::try_from(place).ok()?));
                bit.map(|bit| bits | bit)
                    .ok_or_else(|| format!("days are {}, not \"{name}\"", DAYS.join(", ")))
            })?;
            Days::try_from(bits).map_err(|error| error.to_string())?
        }
    };
    let bad = || "hours are written as 22:00-06:00, UTC".to_owned();
    let (from, to) = hours.unwrap_or("00:00-00:00").split_once('-').ok_or_else(bad)?;
    Ok(Some(Hours { days, from: clock(from).ok_or_else(bad)?, to: clock(to).ok_or_else(bad)? }))
}

fn clock(text: &str) -> Option<Minute> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || !digits(minute) {
        return None;
    }
    let minute: u16 = minute.parse().ok().filter(|minute| *minute < 60)?;
    let hour: u16 = hour.parse().ok()?;
    Minute::try_from(hour.checked_mul(60)?.checked_add(minute)?).ok()
}

fn moment(text: &str) -> Result<Moment, String> {
    let bad = || format!("until is a time as 2027-01-01T00:00:00Z, not \"{text}\"");
    let date = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| bad())?;
    let millis =
        u64::try_from(date.unix_timestamp()).ok().and_then(|seconds| seconds.checked_mul(1000));
    millis.map(Moment::from_unix_millis).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use strongroom_policy::id::{TokenId, UserId};
    use strongroom_policy::name::Label;

    use super::super::names::Names;
    use super::{read, write};

    fn names() -> Names {
        let label = |text| Label::parse(text).unwrap();
        let user = |byte, text| (UserId::from_random([byte; 16]), label(text));
        Names {
            users: vec![user(1, "alice b"), user(2, "twin"), user(3, "twin")],
            tokens: vec![(TokenId::from_random([4; 16]), label("ci"))],
            ..Names::default()
        }
    }

    const WHOLE: &str = r#"
version = 7
[[rule]]
name = "a"
effect = "deny"
who = "user:alice b"
keys = "provider:openai"
models = ["gpt-4o*", "o3"]
class = "stateful"
features = ["hosted-tools"]
days = ["mon", "sun"]
hours = "22:00-06:30"
until = "2027-01-01T00:00:00Z"

[[rule]]
name = "b"
effect = "allow"
who = "usr_02020202020202020202020202020202"
"#;

    #[test]
    fn what_is_written_reads_back_as_the_same_rules() {
        let names = names();
        let id = "crd_05050505050505050505050505050505";
        let text = WHOLE.replace("who = \"usr_", "who = \"user:usr_")
            + &format!("keys = \"credential:{id}\"\n");
        let first = read(&text, &names).unwrap();
        assert_eq!((first.version, first.set.rules().len()), (7, 2));
        let written = write(first.version, first.set.rules(), &names);
        assert!(written.contains("user:alice b") && written.contains("user:usr_0202"), "{written}");
        let again = read(&written, &names).unwrap();
        assert_eq!(again.set.rules(), first.set.rules());
        assert_eq!(again.version, 7);
    }

    #[test]
    fn a_flaw_is_named_with_its_rule_and_line() {
        let names = names();
        let rule = "version = 1\n[[rule]]\nname = \"a\"\neffect = \"deny\"\nwho = \"anyone\"\nkeys = \"anything\"\n";
        assert!(read(rule, &names).is_ok());
        for (from, to, said) in [
            ("anyone", "user:bob", "line 2, rule 'a': there is no user 'bob'"),
            ("anyone", "user:twin", "several users are called 'twin'"),
            ("anyone", "everyone", "who is anyone"),
            ("anything", "keys", "keys are anything"),
            ("\"deny\"", "\"forbid\"", "unknown variant"),
            ("\"a\"", "\"A b\"", "a rule's name must be"),
            ("\"anything\"", "\"anything\"\nmodel = \"x\"", "unknown field `model`"),
            ("\"anything\"", "\"anything\"\nhours = \"9-17\"", "hours are written as"),
            ("\"anything\"", "\"anything\"\nhours = \"24:00-06:00\"", "hours are written as"),
            ("\"anything\"", "\"anything\"\nhours = \"+9:00-06:00\"", "hours are written as"),
            ("\"anything\"", "\"anything\"\ndays = [\"monday\"]", "days are mon"),
            ("\"anything\"", "\"anything\"\ndays = []", "one to seven"),
            ("\"anything\"", "\"anything\"\nfeatures = [\"x\"]", "features are"),
            ("\"anything\"", "\"anything\"\nuntil = \"tomorrow\"", "until is a time"),
            ("\"anything\"", "\"anything\"\nmodels = []", "names 0 models"),
            ("\"deny\"", "\"allow\"", "it must say which credential"),
            ("version = 1\n", "", "version"),
        ] {
            let Err(failure) = read(&rule.replace(from, to), &names) else {
                panic!("{to} was read")
            };
            assert!(failure.message.contains(said), "{to}: {}", failure.message);
        }
    }

    #[test]
    fn what_no_record_can_keep_is_refused_when_it_is_read() {
        let model = "m".repeat(60);
        let models: Vec<String> = (0..60).map(|number| format!("\"{model}{number}\"")).collect();
        let rule = |number| {
            format!(
                "[[rule]]\nname = \"r{number}\"\neffect = \"deny\"\nwho = \"anyone\"\nkeys = \"anything\"\nmodels = [{}]\n",
                models.join(", ")
            )
        };
        let text =
            |count| (0..count).map(rule).fold("version = 1\n".to_owned(), |all, one| all + &one);
        assert!(read(&text(29), &names()).is_ok());
        let Err(failure) = read(&text(31), &names()) else { panic!("it was read") };
        assert!(failure.message.contains("there can be 114656"), "{}", failure.message);
    }

    #[test]
    fn a_label_that_looks_like_an_id_is_written_as_its_own_id() {
        let id = "usr_07070707070707070707070707070707";
        let mut names = names();
        names.users.push((UserId::from_random([1; 16]), Label::parse(id).unwrap()));
        names.users.remove(0);
        let text = "version = 1\n[[rule]]\nname = \"a\"\neffect = \"deny\"\nwho = \"user:usr_01010101010101010101010101010101\"\nkeys = \"anything\"\n";
        let first = read(text, &names).unwrap();
        let again = read(&write(1, first.set.rules(), &names), &names).unwrap();
        assert_eq!(again.set.rules(), first.set.rules());
    }
}
