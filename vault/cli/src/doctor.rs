//! `strongroom doctor`: what is not as promised, each with one fix; also with the vault down.
//!
//! Invariant: looks and changes nothing; what is tried is tried in processes of its own.

mod paths;
mod processes;
pub(crate) mod trials;
mod weakened;

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::{Value, json};
use strongroom_policy::provider::Origin;
use strongroom_protocol::ask::VaultState;
use strongroom_protocol::operator::{Answer, Check, Request, Verdict};
use time::OffsetDateTime;

use crate::authority::{self, RENEW_BEFORE};
use crate::backup;
use crate::certificate;
use crate::desk::Desk;
use crate::failure::{Code, Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Colour, Form, paint};
use crate::places::Places;
use crate::render;
use crate::settings::Settings;
use crate::status;
use crate::tpm;

/// Prints the checks; fails when one of them did.
pub(crate) fn run(desk: &Desk) -> Outcome {
    let places = &desk.places;
    let settings = Settings::read(&places.settings());
    let known = settings.as_ref().ok().cloned().flatten();
    let mut link = desk.link();
    let mut checks = vec![clock()];
    checks.extend(paths::checks(places, known.as_ref(), link.as_ref().ok()));
    checks.extend(sockets(places));
    checks.extend(processes::host());
    checks.extend(trials::checks(known.as_ref()));
    match settings {
        Ok(Some(settings)) => {
            checks.push(check("settings", Verdict::Ok, "read, no unknown key", None));
            checks.extend(weakened::checks(places, &settings));
            checks.push(names(&settings));
            checks.push(tls(places, &settings));
            checks.extend(tpm::checks(desk, &settings));
            checks.push(backup::schedule::check(places, settings.backup.as_ref()));
        }
        Ok(None) => {
            let path = places.settings();
            let detail = format!("{} does not exist", path.display());
            checks.push(check("settings", Verdict::Fail, detail, Some("strongroom up")));
        }
        Err(failure) => checks.push(failed("settings", &failure)),
    }
    checks.extend(weakened::people(places));
    checks.extend(keeper(link.as_mut(), places, known.as_ref()));
    for check in &mut checks {
        check.detail = desk.here(&check.detail);
        check.fix = check.fix.as_deref().map(|fix| desk.here(fix));
    }
    print(desk.form, &checks);
    judge(&checks)
}

fn judge(checks: &[Check]) -> Outcome {
    let bad = checks.iter().filter(|check| check.verdict == Verdict::Fail).count();
    match bad {
        0 => Ok(()),
        bad => Err(Failure::new(
            Code::Unhealthy,
            format!(
                "{} not as promised",
                if bad == 1 { "1 thing is".into() } else { format!("{bad} things are") }
            ),
        )),
    }
}

fn print(form: Form, checks: &[Check]) {
    match form {
        Form::Json => out::object(as_json(checks)),
        Form::Text => {
            for Check { name, verdict, detail, fix } in checks {
                let word = match verdict {
                    Verdict::Ok => paint(Colour::Green, "ok  "),
                    Verdict::Warn => paint(Colour::Yellow, "warn"),
                    Verdict::Fail => paint(Colour::Red, "FAIL"),
                };
                out::data(&format!("{word}  {}: {}", out::plain(name), out::plain(detail)));
                if let Some(fix) = fix {
                    out::data(&format!("      fix: {}", out::plain(fix)));
                }
            }
        }
    }
}

/// `healthy` goes with the exit code: nothing failed.
fn as_json(checks: &[Check]) -> Value {
    json!({"checks": checks, "healthy": judge(checks).is_ok()})
}

fn keeper(
    link: Result<&mut Link, &mut Failure>,
    places: &Places,
    settings: Option<&Settings>,
) -> Vec<Check> {
    let asked = link.map_err(|failure| failure.clone()).and_then(|link| {
        let is_open = status::ask(link)?.state == VaultState::Ready;
        let processes = processes::checks(link, is_open, places.install, settings);
        Ok((processes, link.ask(&Request::Doctor)?))
    });
    match asked {
        Ok((processes, Answer::Doctor(checks))) => [processes, checks].concat(),
        Ok(_) => vec![failed("keeper", &Failure::unexpected())],
        Err(failure) => vec![failed("keeper", &failure)],
    }
}

/// Expiry of tokens and certificates goes by the clock; one before this program was written is wrong.
fn clock() -> Check {
    let year = OffsetDateTime::now_utc().year();
    let detail = render::moment(render::now());
    if (2026..2100).contains(&year) {
        check("clock", Verdict::Ok, detail, None)
    } else {
        check("clock", Verdict::Fail, detail, Some("set the clock (timedatectl set-ntp true)"))
    }
}

fn sockets(places: &Places) -> Vec<Check> {
    let sockets = [
        (places.operator_socket(), "operator"),
        (places.ask_socket(), "ask"),
        (places.errand_socket(Origin::BuiltIn), "errand"),
        (places.errand_socket(Origin::Operator), "errand-defined"),
        (places.call_socket(Origin::BuiltIn), "call"),
        (places.call_socket(Origin::Operator), "call-defined"),
    ];
    sockets.iter().filter_map(|(path, name)| socket(path, name)).collect()
}

fn socket(path: &Path, name: &str) -> Option<Check> {
    let found = fs::symlink_metadata(path).ok()?;
    let directory = fs::symlink_metadata(path.parent()?).ok()?;
    let mode = directory.permissions().mode() & 0o7777;
    let detail = format!(
        "{name}.sock is owned by uid {}, its directory is {mode:04o} for gid {}",
        found.uid(),
        directory.gid()
    );
    let good =
        found.file_type().is_socket() && mode & !0o710 == 0 && found.uid() == directory.uid();
    let verdict = if good { Verdict::Ok } else { Verdict::Fail };
    let fix = (!good).then_some("stop it, remove the run directory, and start it again");
    Some(check("sockets", verdict, detail, fix))
}

fn names(settings: &Settings) -> Check {
    let url = settings.public_url();
    let host = url.trim_start_matches("https://");
    let host = match host.strip_prefix('[') {
        Some(literal) => literal.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    let known = settings.names.iter().any(|name| name.as_ref().eq_ignore_ascii_case(host));
    if known || settings.tls.cert.is_some() {
        return check("names", Verdict::Ok, format!("users reach it at {url}"), None);
    }
    let detail = format!("users reach it at {url}, but `{host}` is not in the certificate");
    check("names", Verdict::Fail, detail, Some("add it to `names` in strongroom.toml"))
}

fn tls(places: &Places, settings: &Settings) -> Check {
    let cert = authority::locate(places, settings).cert;
    let end = fs::read(&cert).ok().and_then(|pem| certificate::end_of(&pem));
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let Some(left) = end.map(|end| (end - now) / 86_400) else {
        let detail = format!("{} holds no certificate that can be read", cert.display());
        return check("tls", Verdict::Fail, detail, Some("strongroom up"));
    };
    let detail = format!("the certificate ends in {left} days");
    let fix = match settings.tls.cert {
        Some(_) => "renew tls.cert, then start again",
        None => "start again: a new local authority is made then",
    };
    match left {
        ..1 => check("tls", Verdict::Fail, detail, Some(fix)),
        left if left < RENEW_BEFORE.whole_days() => check("tls", Verdict::Warn, detail, Some(fix)),
        _ => check("tls", Verdict::Ok, detail, None),
    }
}

fn failed(name: &str, failure: &Failure) -> Check {
    let detail = format!("{}: {}", failure.code, failure.message);
    check(name, Verdict::Fail, detail, failure.next.as_deref())
}

fn check(name: &str, verdict: Verdict, detail: impl Into<String>, fix: Option<&str>) -> Check {
    Check { name: name.to_owned(), verdict, detail: detail.into(), fix: fix.map(ToOwned::to_owned) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use strongroom_protocol::operator::Verdict;

    use super::{as_json, check, names};
    use crate::settings::Settings;

    #[test]
    fn json_says_healthy_as_long_as_nothing_failed() {
        let of = |verdict| vec![check("a", Verdict::Ok, "x", None), check("b", verdict, "y", None)];
        for (verdict, healthy) in
            [(Verdict::Ok, true), (Verdict::Warn, true), (Verdict::Fail, false)]
        {
            let told = as_json(&of(verdict));
            assert_eq!(
                (&told["healthy"], told["checks"][1]["name"].as_str()),
                (&json!(healthy), Some("b"))
            );
        }
    }

    #[test]
    fn a_public_name_that_is_not_in_the_certificate_fails() {
        let verdict = |text: &str| names(&toml::from_str::<Settings>(text).unwrap()).verdict;
        assert_eq!(verdict("names = [\"localhost\"]"), Verdict::Ok);
        assert_eq!(verdict("names = [\"::1\"]\npublic_url = \"https://[::1]:8443\""), Verdict::Ok);
        assert_eq!(verdict("names = [\"localhost\"]\npublic_url = \"https://a.b\""), Verdict::Fail);
    }
}
