//! What the settings give away that they need not, and who else is let in: each with its reason.
//!
//! Invariant: what a setting gives away is a warning, and one user for all processes a failure, accepted or not.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use nix::unistd::{Group, Uid};
use strongroom_policy::name::HostName;
use strongroom_policy::provider::builtin;
use strongroom_protocol::operator::{Check, Verdict};

use super::check;
use crate::places::{Install, Places};
use crate::settings::{NO_UIDS, Settings};
use crate::trusted::word;
use crate::up::accounts::OPERATORS;

/// Looks at the settings.
pub(super) fn checks(places: &Places, settings: &Settings) -> Vec<Check> {
    let mut checks = vec![users(places.install, Uid::effective().is_root(), settings)];
    checks.extend(metrics(settings));
    checks.extend(unreachable_names(settings));
    checks.extend(diverted(settings));
    checks.extend(authorities(settings));
    checks
}

/// Who is let in whatever the settings say: operators, and whoever reads the demonstration's passphrase.
pub(super) fn people(places: &Places) -> Vec<Check> {
    let group = match places.install {
        Install::System => Group::from_name(OPERATORS).ok().flatten(),
        Install::Personal => None,
    };
    let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let operators = group.map(|group| operators(&group.mem, group.gid.as_raw(), &accounts));
    operators.into_iter().chain(demonstration(places)).collect()
}

/// The one thing that fails although it was accepted: without it the walls between the processes hold by their filters alone.
fn users(install: Install, is_root: bool, settings: &Settings) -> Check {
    let fix = match (settings.accepts(NO_UIDS), install, is_root) {
        (false, Install::System, _) => {
            return check("users", Verdict::Ok, "each process is a user of its own", None);
        }
        (false, Install::Personal, _) => "run it as root".to_owned(),
        (true, _, true) => TAKE_OUT.to_owned(),
        (true, _, false) => format!("run it as root: {TAKE_OUT}"),
    };
    let detail = "all processes run as one user, which is for trying out: any of them could open the operator's socket";
    check("users", Verdict::Fail, detail, Some(&fix))
}
const TAKE_OUT: &str = "take \"uids\" out of accept_missing in strongroom.toml and start again";

fn metrics(settings: &Settings) -> Option<Check> {
    let address = settings.metrics;
    if address.ip().to_canonical().is_loopback() {
        return None;
    }
    let detail = format!(
        "{address} is not this machine alone: whoever reaches it reads how much is called of which provider; \
         no token is asked for"
    );
    let fix = format!("metrics = \"127.0.0.1:{}\" in strongroom.toml", address.port());
    Some(check("metrics", Verdict::Warn, detail, Some(&fix)))
}

/// Whoever comes from elsewhere finds no name in the certificate, and is tempted to switch the check off.
fn unreachable_names(settings: &Settings) -> Option<Check> {
    let is_public = !settings.listen.ip().to_canonical().is_loopback();
    let is_own = settings.tls.cert.is_some();
    if !is_public || is_own || !settings.names.iter().all(is_local) {
        return None;
    }
    let detail = format!(
        "it listens on {}, and no name in its certificate is one that other machines know: whoever calls from there \
         has to switch the certificate's check off, or fails",
        settings.listen
    );
    let fix = "add the name that they use to `names` in strongroom.toml, or listen on 127.0.0.1";
    Some(check("listen", Verdict::Warn, detail, Some(fix)))
}

/// A name without a dot is this machine's or its neighbours'.
fn is_local(name: &HostName) -> bool {
    let name = name.as_ref();
    match name.parse::<IpAddr>() {
        Ok(ip) => ip.to_canonical().is_loopback(),
        Err(_) => !name.contains('.') || name.to_ascii_lowercase().ends_with(".localhost"),
    }
}

fn diverted(settings: &Settings) -> Vec<Check> {
    let definitions = builtin::definitions().unwrap_or_default();
    let hosts = definitions.iter().map(|definition| &definition.destination.host);
    let diverted = hosts.filter_map(|host| Some((host, settings.dns.hosts.get(host)?)));
    diverted
        .map(|(host, address)| {
            let detail = format!(
                "calls to {host} go to {address}, as [dns.hosts] says; its certificate is checked still"
            );
            let fix = format!("take \"{host}\" out of [dns.hosts] in strongroom.toml");
            check("names of providers", Verdict::Warn, detail, Some(&fix))
        })
        .collect()
}

fn authorities(settings: &Settings) -> Option<Check> {
    let files: Vec<_> =
        settings.extra_roots.iter().map(|path| path.display().to_string()).collect();
    (!files.is_empty()).then(|| {
        let detail = format!(
            "whoever has the key of an authority in {} can answer in a built-in provider's place, and is sent its key",
            files.join(", ")
        );
        check("extra roots", Verdict::Warn, detail, Some("take them out of extra_roots, if none is needed"))
    })
}

/// Members of the group, and users whose first group it is.
fn operators(members: &[String], group: u32, accounts: &str) -> Check {
    let mut names: BTreeSet<&str> = members.iter().map(String::as_str).collect();
    names.extend(accounts.lines().filter_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(2)?.parse() == Ok(group)).then_some(name)
    }));
    if names.is_empty() {
        let detail = format!("root alone: nobody is in the group `{OPERATORS}`");
        return check("operators", Verdict::Ok, detail, None);
    }
    let names = names.into_iter().collect::<Vec<_>>().join(", ");
    let detail = format!(
        "besides root, whoever is in the group `{OPERATORS}` may do all that an operator may: {names}"
    );
    let fix = format!("gpasswd -d NAME {OPERATORS}, for whoever should not");
    check("operators", Verdict::Warn, detail, Some(&fix))
}

fn demonstration(places: &Places) -> Option<Check> {
    let passphrase = places.demo_passphrase();
    passphrase.exists().then(|| {
        let detail = format!(
            "this is the demonstration: its passphrase lies beside the vault in {} and protects nothing",
            word(&passphrase)
        );
        check("demonstration", Verdict::Warn, detail, Some("for real keys start one without --demo"))
    })
}

#[cfg(test)]
mod tests {
    use strongroom_protocol::operator::Verdict;

    use super::{authorities, diverted, metrics, operators, unreachable_names, users};
    use crate::places::Install;
    use crate::settings::Settings;

    fn settings(text: &str) -> Settings {
        Settings::parse(text).unwrap()
    }

    // Red when one of the judgements passes everything.
    #[test]
    fn what_weakens_is_told_and_what_does_not_is_not() {
        let told = |text: &str| {
            let settings = settings(text);
            let one = [metrics(&settings), unreachable_names(&settings), authorities(&settings)];
            let all = one.into_iter().flatten().chain(diverted(&settings));
            all.map(|check| {
                assert!(check.verdict == Verdict::Warn && check.fix.is_some());
                check.name
            })
            .collect::<Vec<_>>()
            .join(" ")
        };
        for (text, expected) in [
            ("", ""),
            ("metrics = \"127.0.0.2:9464\"", ""),
            ("metrics = \"[::1]:9464\"", ""),
            ("metrics = \"0.0.0.0:9464\"", "metrics"),
            ("metrics = \"10.0.0.1:9464\"", "metrics"),
            ("metrics = \"[::]:9464\"", "metrics"),
            ("names = [\"localhost\", \"127.0.0.1\", \"::1\", \"host\"]", ""),
            ("listen = \"0.0.0.0:8443\"\nnames = [\"localhost\", \"::1\", \"host\"]", "listen"),
            ("listen = \"0.0.0.0:8443\"\nnames = [\"localhost\", \"vault.example\"]", ""),
            ("listen = \"0.0.0.0:8443\"\nnames = [\"localhost\", \"10.0.0.1\"]", ""),
            ("listen = \"0.0.0.0:8443\"\n[tls]\ncert = \"/c\"\nkey = \"/k\"", ""),
            ("[dns.hosts]\n\"models.example\" = \"10.0.0.1\"", ""),
            ("[dns.hosts]\n\"api.openai.com\" = \"10.0.0.1\"", "names of providers"),
            ("extra_roots = [\"/ca.pem\"]", "extra roots"),
        ] {
            assert_eq!(told(text), expected, "{text}");
        }
    }

    // Red when root is told to become root.
    #[test]
    fn one_user_for_all_fails_with_a_step_that_can_be_taken() {
        let (own, one) = (settings(""), settings("accept_missing = [\"uids\"]"));
        for (install, is_root, settings, expected) in [
            (Install::System, true, &own, ""),
            (Install::Personal, false, &own, "run it as root"),
            (Install::System, true, &one, super::TAKE_OUT),
            (Install::Personal, false, &one, &format!("run it as root: {}", super::TAKE_OUT)),
        ] {
            let found = users(install, is_root, settings);
            assert_eq!(found.verdict == Verdict::Ok, expected.is_empty(), "{found:?}");
            assert_eq!(found.fix.unwrap_or_default(), expected);
        }
    }

    #[test]
    fn operators_are_listed_by_either_way_into_the_group() {
        let accounts = "root:x:0:0::/:/bin/sh\nbob:x:1001:77::/:/bin/sh\nbad\n";
        let found = operators(&["alice".to_owned()], 77, accounts);
        assert!(found.verdict == Verdict::Warn && found.detail.ends_with(": alice, bob"));
        assert_eq!(operators(&[], 78, accounts).verdict, Verdict::Ok);
    }
}
