//! `strongroom policy`: the tenant's own rules as text, what they decide, and what they would have decided.
//!
//! Invariant: nothing is put in force that was not checked as a whole and shown as a difference.

mod names;
mod simulate;
mod text;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_policy::claims::{Claims, Feature, Features, Length};
use strongroom_policy::name::{BetaName, Label, ModelName, ProviderName};
use strongroom_policy::route::Method;
use strongroom_policy::target::Target;
use strongroom_policy::tenant_rules::{Effect, Rule, RuleSet};
use strongroom_protocol::operator::rules::{Explained, Question, Rules, RulesAnswer, RulesRequest};
use strongroom_protocol::operator::{Answer, Pick, Request};

use crate::confirm::{Confirmation, Decision};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::{pick, render};
use names::Names;

/// Arguments of `policy`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Print the rules in force, as text that `apply` takes
    #[command(before_help = "Example: strongroom policy show > rules.toml")]
    Show,
    /// Check a text without putting it in force, and show what it would change
    #[command(before_help = "Example: strongroom policy check rules.toml")]
    Check {
        /// The text; - reads standard input
        file: PathBuf,
    },
    /// Put a text in force, as a whole
    #[command(before_help = "Example: strongroom policy apply rules.toml")]
    Apply {
        /// The text; - reads standard input
        file: PathBuf,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Say what would be decided about a call, and by which rule; nothing is called
    #[command(
        before_help = "Example: strongroom policy explain --token laptop openai POST /v1/chat/completions --model gpt-4o"
    )]
    Explain(ExplainArguments),
    /// Hold a text against past calls: which of them it would refuse
    #[command(before_help = "Example: strongroom policy simulate rules.toml --since 7d")]
    Simulate {
        /// The text; - reads standard input
        file: PathBuf,
        /// How far back
        #[arg(long, value_name = "TIME", default_value = "7d", value_parser = pick::duration)]
        since: Duration,
    },
}

#[derive(Debug, Args)]
struct ExplainArguments {
    /// The token that would be presented
    #[arg(long, value_name = "NAME", value_parser = pick::pick)]
    token: Pick,
    /// The route's provider
    #[arg(value_parser = ProviderName::parse)]
    provider: ProviderName,
    /// The method
    #[arg(value_parser = method)]
    method: Method,
    /// The path below the route, with its query
    path: String,
    /// The model that the body would name
    #[arg(long, value_parser = ModelName::parse)]
    model: Option<ModelName>,
    /// Features that it would use
    #[arg(long, value_delimiter = ',', value_parser = pick::feature)]
    features: Vec<Feature>,
    /// Values of the beta header
    #[arg(long, value_delimiter = ',', value_parser = BetaName::parse)]
    betas: Vec<BetaName>,
    /// The credential that would be named
    #[arg(long, value_name = "NAME", value_parser = Label::parse)]
    credential: Option<Label>,
}

/// Longest text: a thousand rules with every list full stay below it.
const MAX_TEXT_BYTES: u64 = 4 * 1024 * 1024;

fn method(text: &str) -> Result<Method, String> {
    Method::parse(text).ok_or_else(|| "known are GET, POST, PUT, PATCH, DELETE".to_owned())
}

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::Show => show(desk),
        Verb::Check { file } => check(&file, desk),
        Verb::Apply { file, confirmation } => apply(&file, &confirmation, desk),
        Verb::Explain(arguments) => explain(arguments, desk),
        Verb::Simulate { file, since } => {
            let mut link = desk.link()?;
            let names = Names::ask(&mut link)?;
            let written = text::read(&read(&file)?, &names)?;
            simulate::run(&mut link, &names, &written.set, since, desk.form)
        }
    }
}

fn show(desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let (rules, names) = (in_force(&mut link)?, Names::ask(&mut link)?);
    match desk.form {
        Form::Json => out::object(json!({
            "version": rules.version,
            "changed": rules.changed.map(render::moment),
            "rules": rules.rules.iter().map(|rule| object(rule, &names)).collect::<Vec<Value>>(),
        })),
        Form::Text => out::raw(text::write(rules.version, &rules.rules, &names).as_bytes()),
    }
    Ok(())
}

fn check(file: &Path, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let (rules, names) = (in_force(&mut link)?, Names::ask(&mut link)?);
    let written = text::read(&read(file)?, &names)?;
    stale(written.version, rules.version)?;
    let change = Change::between(&rules.rules, written.set.rules());
    match desk.form {
        Form::Json => out::object(change.object()),
        Form::Text => change.print(&names, "it can be applied"),
    }
    Ok(())
}

fn apply(file: &Path, confirmation: &Confirmation, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let (before, names) = (in_force(&mut link)?, Names::ask(&mut link)?);
    let written = text::read(&read(file)?, &names)?;
    stale(written.version, before.version)?;
    let change = Change::between(&before.rules, written.set.rules());
    if change.is_none() {
        told(desk, before.version, &change, "these are the rules in force");
        return Ok(());
    }
    if desk.form == Form::Text {
        change.print(&names, "this is what changes");
    }
    if confirmation.ask(&format!("put {} in force", counted(written.set.rules().len())))?
        != Decision::Go
    {
        return Ok(());
    }
    let rules = written.set.rules().to_vec();
    let request = Request::Rules(RulesRequest::Replace { version: before.version, rules });
    let Answer::Rules(RulesAnswer::Replaced(version)) = link.ask(&request)? else {
        return Err(Failure::unexpected());
    };
    told(desk, version, &change, &format!("version {version} is in force from the next call on"));
    Ok(())
}

fn told(desk: &Desk, version: u64, change: &Change<'_>, line: &str) {
    match desk.form {
        Form::Json => {
            let mut object = change.object();
            if let Some(object) = object.as_object_mut() {
                object.insert("version".to_owned(), json!(version));
            }
            out::object(object);
        }
        Form::Text => out::say(line),
    }
}

fn counted(count: usize) -> String {
    if count == 1 { "1 rule".to_owned() } else { format!("{count} rules") }
}

/// A text says which version it was made from, so that nobody undoes unseen what another did meanwhile.
fn stale(written: u64, in_force: u64) -> Outcome {
    if written == in_force {
        return Ok(());
    }
    let what = format!("the text was made from version {written}; in force is version {in_force}");
    Err(Failure::argument(what)
        .next("see what is in force ('strongroom policy show'), and make your change there"))
}

fn explain(arguments: ExplainArguments, desk: &Desk) -> Outcome {
    let target = Target::parse(&arguments.path)
        .map_err(|error| Failure::argument(format!("the path: {error}")))?;
    let features = arguments.features.iter().fold(Features::NONE, |all, one| all.with(*one));
    let has_body = matches!(arguments.method, Method::Post | Method::Put | Method::Patch);
    let question = Question {
        token: arguments.token,
        provider: arguments.provider,
        choice: arguments.credential,
        method: arguments.method,
        target,
        betas: arguments.betas,
        claims: Claims { features, ..Claims::of_no_body(arguments.model) },
        length: if has_body { Length::Chunked } else { Length::Known(0) },
    };
    let request = Request::Rules(RulesRequest::Explain(Box::new(question)));
    let Answer::Rules(RulesAnswer::Explained(told)) = desk.link()?.ask(&request)? else {
        return Err(Failure::unexpected());
    };
    print_explained(&told, desk.form);
    Ok(())
}

fn print_explained(told: &Explained, form: Form) {
    if form == Form::Json {
        let rows = told.considered.iter().map(|row| {
            json!({"rule": row.name.as_ref(), "effect": text::effect(row.effect), "holds": row.holds})
        });
        out::object(json!({
            "permitted": told.refusal.is_none(),
            "refusal": told.refusal,
            "rule": told.rule,
            "about": told.about,
            "credential": told.credential,
            "considered": rows.collect::<Vec<Value>>(),
        }));
        return;
    }
    let about = told.about.as_ref().map_or_else(String::new, |about| format!(" ({about})"));
    out::data(&match &told.refusal {
        None => format!("permitted by {}", told.rule),
        Some(code) => format!("refused with {code} by {}{about}", told.rule),
    });
    if let Some(credential) = &told.credential {
        out::data(&format!("with the credential '{credential}'"));
    }
    let row = |row: &strongroom_protocol::operator::rules::Considered| {
        let holds = if row.holds { "counts" } else { "not for this call" };
        [row.name.to_string(), text::effect(row.effect).to_owned(), holds.to_owned()]
    };
    let rows: Vec<_> = told.considered.iter().map(row).collect();
    render::table(
        ["RULE", "EFFECT", "HERE"],
        &rows,
        "no rule of the tenant is about this person and key",
    );
}

fn in_force(link: &mut Link) -> Outcome<Rules> {
    match link.ask(&Request::Rules(RulesRequest::Show))? {
        Answer::Rules(RulesAnswer::Rules(rules)) => Ok(*rules),
        _ => Err(Failure::unexpected()),
    }
}

fn read(file: &Path) -> Outcome<String> {
    let failed = |error| Failure::file(file, error);
    let mut text = String::new();
    let mut from: Box<dyn Read> = if file == Path::new("-") {
        Box::new(std::io::stdin())
    } else {
        Box::new(fs::File::open(file).map_err(failed)?)
    };
    let limit = MAX_TEXT_BYTES.saturating_add(1);
    from.by_ref().take(limit).read_to_string(&mut text).map_err(failed)?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_TEXT_BYTES {
        return Err(Failure::file(file, format!("is longer than {MAX_TEXT_BYTES} bytes")));
    }
    Ok(text)
}

fn object(rule: &Rule, names: &Names) -> Value {
    serde_json::to_value(text::written(rule, names)).unwrap_or(Value::Null)
}

/// What one set has that the other has not, by name.
struct Change<'a> {
    added: Vec<&'a Rule>,
    removed: Vec<&'a Rule>,
    changed: Vec<(&'a Rule, &'a Rule)>,
    moved: bool,
}

impl<'a> Change<'a> {
    fn between(before: &'a [Rule], after: &'a [Rule]) -> Self {
        let find = |rules: &'a [Rule], rule: &Rule| rules.iter().find(|one| one.name == rule.name);
        let common = |one: &'a [Rule], other: &'a [Rule]| {
            let named = one.iter().filter(|rule| find(other, rule).is_some());
            named.map(|rule| &rule.name).collect::<Vec<_>>()
        };
        let pairs = after.iter().filter_map(|rule| Some((find(before, rule)?, rule)));
        Self {
            added: after.iter().filter(|rule| find(before, rule).is_none()).collect(),
            removed: before.iter().filter(|rule| find(after, rule).is_none()).collect(),
            changed: pairs.filter(|(old, new)| old != new).collect(),
            moved: common(before, after) != common(after, before),
        }
    }

    const fn is_none(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty() && !self.moved
    }

    fn object(&self) -> Value {
        let names = |rules: &[&Rule]| {
            rules.iter().map(|rule| json!(rule.name.as_ref())).collect::<Vec<_>>()
        };
        let changed: Vec<&Rule> = self.changed.iter().map(|(_, new)| *new).collect();
        json!({
            "added": names(&self.added),
            "removed": names(&self.removed),
            "changed": names(&changed),
            "moved": self.moved,
        })
    }

    fn print(&self, names: &Names, line: &str) {
        if self.is_none() {
            out::say("nothing changes");
            return;
        }
        out::say(&format!("{line}:"));
        for rule in &self.removed {
            out::say(&format!("  - {}", text::line(rule, names)));
        }
        for (old, new) in &self.changed {
            out::say(&format!("  - {}", text::line(old, names)));
            out::say(&format!("  + {}", text::line(new, names)));
        }
        for rule in &self.added {
            out::say(&format!("  + {}", text::line(rule, names)));
        }
        if self.moved {
            out::say("  the order of rules changes, by which the first that counts is named");
        }
        let gives = |rule: &&&Rule| rule.effect == Effect::Allow;
        let new = self.added.iter().chain(self.changed.iter().map(|(_, new)| new));
        for rule in new.filter(gives) {
            out::warn(&format!(
                "'{}' shares a key: whoever uses it, its owner included, reaches no stored objects or hosted tools with it",
                rule.name
            ));
        }
    }
}

/// A text that was read.
struct Written {
    version: u64,
    set: RuleSet,
}
