//! `strongroom credential`: providers' keys in the vault.
//!
//! Invariant: a key is read only after its destination was shown, and leaves this process sealed.

mod tested;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use strongroom_policy::claims::Feature;
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::{BetaName, Label, ModelName, ProviderName};
use strongroom_policy::rules::{CredentialRules, Home};
use strongroom_protocol::operator::listing::{CredentialRow, TokenRow};
use strongroom_protocol::operator::{Answer, CredentialWish, HomePick, Pick, Request};

use crate::arguments::{Dash, OnlyDash};
use crate::confirm::{Confirmation, Decision};
use crate::deposit::{Slot, Wanted, warn_of_foreign_key};
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::{pick, pin, prompt, render};
use tested::{Verdict, report, test};

/// Arguments of `credential`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Bring a provider's key into the vault, by hidden prompt or standard input
    #[command(before_help = "Example: strongroom credential add openai --for workspace:research")]
    Add(AddArguments),
    /// List credentials
    #[command(before_help = "Example: strongroom credential list")]
    List,
    /// Make the provider's cheapest call with a credential
    #[command(before_help = "Example: strongroom credential test openai")]
    Test {
        /// Label or id
        #[arg(value_parser = pick::pick)]
        credential: Pick,
    },
    /// Give a credential a new key of the same account
    #[command(before_help = "Example: strongroom credential rotate openai")]
    Rotate {
        /// Label or id
        #[arg(value_parser = pick::pick)]
        credential: Pick,
        /// `-` reads the key from standard input
        #[arg(value_parser = OnlyDash)]
        source: Option<Dash>,
        /// Do not call the provider afterwards
        #[arg(long)]
        no_test: bool,
    },
    /// Remove a credential; calls under way are stopped
    #[command(before_help = "Example: strongroom credential delete openai --dry-run")]
    Delete {
        /// Label or id
        #[arg(value_parser = pick::pick)]
        credential: Pick,
        #[command(flatten)]
        confirmation: Confirmation,
    },
    /// Replace what a credential may be used for
    #[command(before_help = "Example: strongroom credential rules openai --models gpt-4o-mini")]
    Rules {
        /// Label or id
        #[arg(value_parser = pick::pick)]
        credential: Pick,
        #[command(flatten)]
        rules: RuleArguments,
    },
}

#[derive(Debug, Args)]
struct AddArguments {
    /// The provider
    #[arg(value_parser = ProviderName::parse)]
    provider: ProviderName,
    /// `-` reads the key from standard input
    #[arg(value_parser = OnlyDash)]
    source: Option<Dash>,
    /// Whose: a person, or workspace:NAME [default: the first person]
    #[arg(long = "for", value_name = "NAME", value_parser = pick::home)]
    home: Option<HomePick>,
    /// Its name [default: the provider's]
    #[arg(long, value_parser = Label::parse)]
    label: Option<Label>,
    /// A header that always goes with it, as openai-organization=org-1
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    rules: RuleArguments,
    /// Do not call the provider afterwards
    #[arg(long)]
    no_test: bool,
}

#[derive(Debug, Args)]
struct RuleArguments {
    /// Models it may be used with; a final * stands for any ending [default: any]
    #[arg(long, value_delimiter = ',', value_parser = ModelName::parse)]
    models: Vec<ModelName>,
    /// Features it may be used with [default: the ready-made set]
    #[arg(long, value_delimiter = ',', value_parser = pick::feature)]
    features: Vec<Feature>,
    /// Beta values it may be used with [default: any]
    #[arg(long, value_delimiter = ',', value_parser = BetaName::parse)]
    betas: Vec<BetaName>,
    /// When it ends, from now, as 30d [default: never]
    #[arg(long, value_name = "TIME", value_parser = pick::duration)]
    expires: Option<std::time::Duration>,
}

impl RuleArguments {
    fn is_empty(&self) -> bool {
        self.models.is_empty()
            && self.features.is_empty()
            && self.betas.is_empty()
            && self.expires.is_none()
    }

    fn rules(self) -> CredentialRules {
        CredentialRules {
            models: pick::choice(self.models),
            features: pick::features(&self.features),
            betas: pick::choice(self.betas),
            expires: pick::expiry(self.expires),
        }
    }
}

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::Add(arguments) => add(arguments, desk),
        Verb::List => list(desk),
        Verb::Test { credential } => {
            let tested = test(&mut desk.link()?, credential)?;
            report(desk.form, &tested);
            tested.accepted()
        }
        Verb::Rotate { credential, source, no_test } => rotate(&credential, source, no_test, desk),
        Verb::Delete { credential, confirmation } => delete(&credential, &confirmation, desk),
        Verb::Rules { credential, rules } => {
            if rules.is_empty() {
                let what = "no rule is named, and every rule that is not named is lifted";
                return Err(Failure::argument(what)
                    .next("name at least one, as --models gpt-4o-mini; --models '*' allows all"));
            }
            let request = Request::CredentialRules(credential, Box::new(rules.rules()));
            desk.link()?.tell(&request)?;
            done(desk.form, json!({"changed": true}), "rules replaced");
            Ok(())
        }
    }
}

fn add(arguments: AddArguments, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let pinned = pin::verified(&desk.places.pin(), &mut link)?;
    let provider = arguments.provider;
    let dialect = dialect_of(&mut link, &provider)?;
    let label = match arguments.label {
        Some(label) => label,
        None => Label::parse(provider.as_ref()).map_err(Failure::argument)?,
    };
    let wish = CredentialWish {
        provider: provider.clone(),
        home: arguments.home.unwrap_or(HomePick::Personal(None)),
        label,
        fixed_headers: arguments.headers,
        rules: arguments.rules.rules(),
    };
    let slot = Slot::open(&mut link, &Request::CredentialAdd(Box::new(wish)), Wanted::New)?;
    slot.show();
    let key = read_key(provider.as_ref(), arguments.source)?;
    warn_of_foreign_key(&key, dialect, provider.as_ref());
    let id = slot.fill(&mut link, &pinned, &key)?;
    drop(key);
    finish(&mut link, desk.form, &id.to_string(), arguments.no_test)
}

fn rotate(credential: &Pick, source: Option<Dash>, no_test: bool, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let pinned = pin::verified(&desk.places.pin(), &mut link)?;
    let rows = rows(&mut link)?;
    let row = one(&rows, credential)?;
    let dialect = dialect_of(&mut link, &row.provider)?;
    let request = Request::CredentialRotate(pick_of(&row.id.to_string())?);
    let slot = Slot::open(&mut link, &request, Wanted::Rotation(row.id))?;
    slot.show();
    let key = read_key(row.label.as_ref(), source)?;
    warn_of_foreign_key(&key, dialect, row.provider.as_ref());
    let id = slot.fill(&mut link, &pinned, &key)?;
    drop(key);
    finish(&mut link, desk.form, &id.to_string(), no_test)
}

/// Tells what was stored, and tries it. A provider that refuses is a warning: the key is in the vault.
fn finish(link: &mut Link, form: Form, id: &str, no_test: bool) -> Outcome {
    let tested = if no_test { None } else { Some(test(link, pick_of(id)?)) };
    let verdict = match &tested {
        None => Value::Null,
        Some(Ok(tested)) => tested.json(),
        Some(Err(failure)) => json!({"error": failure.message, "code": failure.code}),
    };
    done(form, json!({"credential": id, "test": verdict}), &format!("stored as {id}"));
    match tested {
        Some(Ok(tested)) => {
            if form == Form::Text {
                report(form, &tested);
            }
            if let Err(failure) = tested.accepted() {
                out::warn(&failure.to_string());
            }
        }
        Some(Err(failure)) => out::warn(&format!("it could not be tested: {failure}")),
        None => {}
    }
    Ok(())
}

fn delete(credential: &Pick, confirmation: &Confirmation, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let rows = rows(&mut link)?;
    let row = one(&rows, credential)?;
    let bound = tokens(&mut link)?;
    let bound = bound.iter().filter(|token| token.scope.credential == Some(row.id)).count();
    let act = format!(
        "delete 1 credential ({}, {}) to which {} bound",
        row.label,
        row.base_url,
        match bound {
            1 => "1 token is".to_owned(),
            many => format!("{many} tokens are"),
        }
    );
    if confirmation.ask(&act)? == Decision::Go {
        link.tell(&Request::CredentialDelete(pick_of(&row.id.to_string())?))?;
        done(desk.form, json!({"deleted": row.id.to_string()}), "1 credential deleted");
    }
    Ok(())
}

fn list(desk: &Desk) -> Outcome {
    let rows = rows(&mut desk.link()?)?;
    match desk.form {
        Form::Json => {
            let rows: Vec<Value> = rows.iter().map(row_json).collect();
            out::object(json!({"credentials": rows}));
        }
        Form::Text => {
            let cells = |row: &CredentialRow| {
                [
                    row.label.to_string(),
                    row.provider.to_string(),
                    row.home_label.to_string(),
                    row.base_url.clone(),
                    pick::chosen(&row.rules.models),
                    render::moment(row.rotated),
                    row.id.to_string(),
                ]
            };
            let cells: Vec<_> = rows.iter().map(cells).collect();
            let headings = ["LABEL", "PROVIDER", "FOR", "GOES TO", "MODELS", "KEY SET", "ID"];
            render::table(
                headings,
                &cells,
                &desk.here("no credentials; next: strongroom credential add openai"),
            );
        }
    }
    Ok(())
}

fn row_json(row: &CredentialRow) -> Value {
    let home = match row.home {
        Home::Personal(id) => json!({"user": id.to_string(), "label": row.home_label}),
        Home::Workspace(id) => {
            json!({"workspace": id.to_string(), "label": row.home_label})
        }
    };
    json!({
        "id": row.id.to_string(),
        "label": row.label,
        "provider": row.provider,
        "for": home,
        "base_url": row.base_url,
        "key_version": row.version,
        "rules": row.rules,
        "created": render::moment(row.created),
        "rotated": render::moment(row.rotated),
    })
}

fn read_key(what: &str, source: Option<Dash>) -> Outcome<prompt::Typed> {
    match source {
        Some(Dash) => prompt::standard_input(),
        None => prompt::secret(&format!("Key for {what} (hidden): ")),
    }
}

fn dialect_of(link: &mut Link, provider: &ProviderName) -> Outcome<Dialect> {
    match link.ask(&Request::ProviderShow(provider.clone()))? {
        Answer::Provider(definition) => Ok(definition.dialect),
        _ => Err(Failure::unexpected()),
    }
}

/// All credentials.
pub(crate) fn rows(link: &mut Link) -> Outcome<Vec<CredentialRow>> {
    match link.ask(&Request::CredentialList)? {
        Answer::Credentials(rows) => Ok(rows),
        _ => Err(Failure::unexpected()),
    }
}

fn tokens(link: &mut Link) -> Outcome<Vec<TokenRow>> {
    match link.ask(&Request::TokenList)? {
        Answer::Tokens(rows) => Ok(rows),
        _ => Err(Failure::unexpected()),
    }
}

fn one<'r>(rows: &'r [CredentialRow], credential: &Pick) -> Outcome<&'r CredentialRow> {
    pick::the_one(rows, credential, "credential", |row| (row.id.to_string(), row.label.clone()))
}

fn pick_of(id: &str) -> Outcome<Pick> {
    pick::pick(id).map_err(Failure::argument)
}

fn done(form: Form, object: Value, text: &str) {
    match form {
        Form::Json => out::object(object),
        Form::Text => out::say(text),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_ascii_lowercase(), value.to_owned()))
}
