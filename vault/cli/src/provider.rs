//! `strongroom provider`: who can be called, where, and by which paths.
//!
//! Invariant: a new provider has no path that the operator did not name.

mod left_behind;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use strongroom_policy::destination::{Destination, Injection, Reach};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::{HostName, ProviderName};
use strongroom_policy::provider::builtin::{injection_of, paths_of, probe_of};
use strongroom_policy::provider::{Origin, ProviderDefinition};
use strongroom_policy::route::{BodyKind, Method, PathClass, PathPattern, PathRule};
use strongroom_protocol::operator::listing::ProviderRow;
use strongroom_protocol::operator::{Answer, Request};

use crate::confirm::{Confirmation, Decision};
use crate::deposit;
use crate::desk::Desk;
use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::{credential, render};

/// Arguments of `provider`.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List providers
    #[command(before_help = "Example: strongroom provider list")]
    List,
    /// Show one provider with every path that may be called
    #[command(before_help = "Example: strongroom provider show openai")]
    Show {
        /// Its name
        #[arg(value_parser = ProviderName::parse)]
        provider: ProviderName,
    },
    /// Add or replace a provider of your own, reached at /p/NAME
    #[command(
        before_help = "Example: strongroom provider add local-llm --base-url https://llm.lan:8443 --dialect openai --private --paths-of openai"
    )]
    Add(AddArguments),
    /// Remove a provider of your own that no credential names
    #[command(before_help = "Example: strongroom provider remove local-llm --yes")]
    Remove {
        /// Its name
        #[arg(value_parser = ProviderName::parse)]
        provider: ProviderName,
        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
struct AddArguments {
    /// Its name, as in /p/NAME
    #[arg(value_parser = ProviderName::parse)]
    provider: ProviderName,
    /// Where it is, as `https://host:port/base`
    #[arg(long, value_name = "URL", value_parser = base_url)]
    base_url: BaseUrl,
    /// Whose API it speaks: openai, anthropic, google, xai
    #[arg(long, value_parser = dialect)]
    dialect: Dialect,
    /// How it takes the key: bearer, or header:NAME [default: as the dialect's own provider]
    #[arg(long, value_name = "HOW", value_parser = injection)]
    auth: Option<Injection>,
    /// The name in its certificate [default: the host]
    #[arg(long, value_name = "NAME", value_parser = HostName::parse)]
    tls_name: Option<HostName>,
    /// A certificate authority for it, PEM
    #[arg(long, value_name = "FILE")]
    ca: Vec<PathBuf>,
    /// It may have a private or loopback address
    #[arg(long)]
    private: bool,
    /// The paths of this dialect's own provider
    #[arg(long, value_name = "DIALECT", value_parser = dialect)]
    paths_of: Option<Dialect>,
    /// One more path, as "POST /v1/chat/completions"
    #[arg(long, value_name = "METHOD PATH", value_parser = path_rule)]
    allow: Vec<PathRule>,
}

/// `https://host[:port][/base]`, read apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    host: HostName,
    port: u16,
    base_path: String,
}

/// Runs the verb.
pub(crate) fn run(arguments: Arguments, desk: &Desk) -> Outcome {
    match arguments.verb {
        Verb::List => list(desk),
        Verb::Show { provider } => show(provider, desk),
        Verb::Add(arguments) => add(arguments, desk),
        Verb::Remove { provider, confirmation } => remove(&provider, &confirmation, desk),
    }
}

fn add(arguments: AddArguments, desk: &Desk) -> Outcome {
    let definition = define(arguments)?;
    let place = deposit::describe(&definition.destination);
    let paths = definition.paths.len();
    let (name, new) = (definition.name.clone(), definition.destination.clone());
    let mut link = desk.link()?;
    let old = left_behind::before(&mut link, &name)?;
    link.tell(&Request::ProviderPut(Box::new(definition)))?;
    let left = match old {
        Some(old) => left_behind::find(&mut link, &name, &old, &new)?,
        None => Vec::new(),
    };
    let ids: Vec<_> = left.iter().map(|row| row.id.to_string()).collect();
    match desk.form {
        Form::Json => {
            out::object(json!({"provider": name, "paths": paths, "old_destination": ids}));
        }
        Form::Text => {
            out::say(&format!("{name} is reached at /p/{name} and goes to {place}"));
            match paths {
                0 => out::warn("no path of it may be called yet; add --paths-of or --allow"),
                _ => out::say(&format!("{} may be called", render::count(paths, "path"))),
            }
        }
    }
    left_behind::warn(&left);
    Ok(())
}

fn define(arguments: AddArguments) -> Outcome<ProviderDefinition> {
    let AddArguments { provider, base_url, dialect, auth, tls_name, ca, .. } = arguments;
    let mut paths = arguments.paths_of.map(paths_of).unwrap_or_default();
    for rule in arguments.allow {
        paths.retain(|known| (known.method, &known.pattern) != (rule.method, &rule.pattern));
        paths.push(rule);
    }
    let definition = ProviderDefinition {
        name: provider,
        dialect,
        destination: Destination {
            tls_name: tls_name.unwrap_or_else(|| base_url.host.clone()),
            host: base_url.host,
            port: base_url.port,
            extra_authorities: authorities(&ca)?,
            reach: if arguments.private { Reach::Private } else { Reach::Public },
            base_path: base_url.base_path,
            injection: auth.unwrap_or_else(|| injection_of(dialect)),
            fixed_headers: Vec::new(),
        },
        probe: probe_of(dialect).filter(|probe| {
            paths.iter().any(|rule| rule.fits(probe.method, &probe.target).is_some())
        }),
        paths,
        origin: Origin::Operator,
    };
    definition.check().map_err(Failure::argument)?;
    Ok(definition)
}

/// Certificates of PEM files, DER.
pub(crate) fn authorities(files: &[PathBuf]) -> Outcome<Vec<Vec<u8>>> {
    let mut authorities = Vec::new();
    for file in files {
        authorities.extend(authorities_of(file)?);
    }
    Ok(authorities)
}

fn authorities_of(file: &Path) -> Outcome<Vec<Vec<u8>>> {
    let found = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| Failure::file(file, error))?;
    if found.is_empty() {
        return Err(Failure::file(file, "holds no certificate"));
    }
    Ok(found.into_iter().map(|der| der.as_ref().to_vec()).collect())
}

fn show(provider: ProviderName, desk: &Desk) -> Outcome {
    let Answer::Provider(definition) = desk.link()?.ask(&Request::ProviderShow(provider))? else {
        return Err(Failure::unexpected());
    };
    match desk.form {
        Form::Json => out::object(json!({"provider": definition_json(&definition)})),
        Form::Text => {
            let ProviderDefinition { name, dialect, destination, paths, .. } = &*definition;
            out::data(&format!(
                "{name} speaks {} and goes to {}",
                dialect.name(),
                deposit::describe(destination)
            ));
            let class = |class| match class {
                PathClass::Stateless => "stateless",
                PathClass::Stateful => "stateful",
            };
            let cells: Vec<_> = paths
                .iter()
                .map(|rule| {
                    let (method, path) = (rule.method.name(), rule.pattern.as_str());
                    [method.to_owned(), path.to_owned(), class(rule.class).to_owned()]
                })
                .collect();
            render::table(["METHOD", "PATH", "CLASS"], &cells, "no path may be called");
        }
    }
    Ok(())
}

fn definition_json(definition: &ProviderDefinition) -> Value {
    let ProviderDefinition { name, dialect, destination, paths, origin, .. } = definition;
    json!({
        "name": name,
        "dialect": dialect,
        "origin": origin,
        "host": destination.host,
        "port": destination.port,
        "tls_name": destination.tls_name,
        "base_path": destination.base_path,
        "reach": destination.reach,
        "injection": destination.injection,
        "extra_authorities": destination.extra_authorities.len(),
        "paths": paths,
    })
}

fn list(desk: &Desk) -> Outcome {
    let rows = rows(&mut desk.link()?)?;
    match desk.form {
        Form::Json => out::object(json!({"providers": rows})),
        Form::Text => {
            let cells = |row: &ProviderRow| {
                let origin = match row.origin {
                    Origin::BuiltIn => "built in",
                    Origin::Operator => "yours",
                };
                [
                    row.name.to_string(),
                    row.dialect.name().to_owned(),
                    row.base_url.clone(),
                    origin.to_owned(),
                    row.paths.to_string(),
                    row.credentials.to_string(),
                ]
            };
            let cells: Vec<_> = rows.iter().map(cells).collect();
            let headings = ["NAME", "DIALECT", "GOES TO", "ORIGIN", "PATHS", "CREDENTIALS"];
            render::table(headings, &cells, "no providers");
        }
    }
    Ok(())
}

/// All providers.
pub(crate) fn rows(link: &mut Link) -> Outcome<Vec<ProviderRow>> {
    match link.ask(&Request::ProviderList)? {
        Answer::Providers(rows) => Ok(rows),
        _ => Err(Failure::unexpected()),
    }
}

fn remove(provider: &ProviderName, confirmation: &Confirmation, desk: &Desk) -> Outcome {
    let mut link = desk.link()?;
    let named = credential::rows(&mut link)?.iter().filter(|row| row.provider == *provider).count();
    let act =
        format!("remove 1 provider ({provider}), named by {}", render::count(named, "credential"));
    if confirmation.ask(&act)? == Decision::Go {
        link.tell(&Request::ProviderRemove(provider.clone()))?;
        match desk.form {
            Form::Json => out::object(json!({"removed": provider})),
            Form::Text => out::say("1 provider removed"),
        }
    }
    Ok(())
}

fn base_url(text: &str) -> Result<BaseUrl, String> {
    let bad = || "write https://host, https://host:port or https://host:port/base".to_owned();
    let rest = text.strip_prefix("https://").ok_or_else(bad)?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.strip_prefix('[') {
        Some(literal) => literal.split_once(']').ok_or_else(bad)?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| bad())?,
        None if port.is_empty() => 443,
        None => return Err(bad()),
    };
    let host = HostName::parse(host).map_err(|error| error.to_string())?;
    Ok(BaseUrl { host, port, base_path: path.trim_end_matches('/').to_owned() })
}

fn dialect(text: &str) -> Result<Dialect, String> {
    let known = || Dialect::ALL.map(Dialect::name).join(", ");
    Dialect::by_name(text).ok_or_else(|| format!("known are {}", known()))
}

fn injection(text: &str) -> Result<Injection, String> {
    match text.split_once(':') {
        None if text == "bearer" => Ok(Injection::Bearer),
        Some(("header", name)) => Ok(Injection::Header(name.to_ascii_lowercase())),
        None | Some(_) => Err("write bearer or header:NAME".to_owned()),
    }
}

/// A path of one's own counts as stateful: what it reaches is not known.
fn path_rule(text: &str) -> Result<PathRule, String> {
    let (method, path) = text.split_once(' ').ok_or("write \"METHOD /path\"")?;
    let method = Method::parse(method).ok_or("the method is GET, POST, PUT, PATCH or DELETE")?;
    let pattern = PathPattern::parse(path.trim()).map_err(|error| error.to_string())?;
    let known = Dialect::ALL.into_iter().flat_map(paths_of);
    let known = known.into_iter().find(|rule| rule.method == method && rule.pattern == pattern);
    Ok(known.unwrap_or(PathRule {
        method,
        pattern,
        class: PathClass::Stateful,
        body: match method {
            Method::Get | Method::Delete => BodyKind::Empty,
            Method::Post | Method::Put | Method::Patch => BodyKind::Json,
        },
        query: Vec::new(),
    }))
}

#[cfg(test)]
mod tests {
    use strongroom_policy::destination::Injection;
    use strongroom_policy::route::PathClass;

    use super::{base_url, injection, path_rule};

    #[test]
    fn a_base_url_is_https_with_a_host_and_nothing_hidden() {
        let url = base_url("https://LLM.lan:8443/v2/").unwrap();
        assert_eq!((url.host.as_ref(), url.port, url.base_path.as_str()), ("llm.lan", 8443, "/v2"));
        assert_eq!(base_url("https://[::1]:1").unwrap().host.as_ref(), "::1");
        assert_eq!(base_url("https://a").unwrap().port, 443);
        for bad in [
            "http://a",
            "a",
            "https://",
            "https://u@a",
            "https://a:b",
            "https://[::1]x",
            "https://a:70000",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_known_path_keeps_its_class_and_an_unknown_one_counts_as_stateful() {
        assert_eq!(path_rule("POST /v1/chat/completions").unwrap().class, PathClass::Stateless);
        assert_eq!(path_rule("POST /v1/made-up").unwrap().class, PathClass::Stateful);
        for bad in ["/v1/x", "post /v1/x", "POST v1", "POST /v1/../x"] {
            assert!(path_rule(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_key_goes_into_one_header() {
        assert_eq!(injection("header:X-Api-Key"), Ok(Injection::Header("x-api-key".into())));
        assert_eq!(injection("bearer"), Ok(Injection::Bearer));
        assert!(injection("query:key").is_err());
    }
}
