use std::path::PathBuf;

use super::{People, table};
use crate::places::{Install, Places};
use crate::settings::Settings;
use crate::trusted::{Bound, Extent, Owner};

fn people() -> People {
    let user = |uid, name: &str| Owner::User(uid, name.to_owned());
    People {
        admin: Owner::root(),
        keeper: user(901, "strongroom-keeper"),
        courier: user(902, "strongroom-courier"),
        courier_defined: user(903, "strongroom-courier-defined"),
        gateway: user(904, "strongroom-gateway"),
        emulator: user(65_534, "nobody"),
        own_group: None,
    }
}

const SETTINGS: &str = r#"
extra_roots = ["/no/roots/ca.pem"]
[tls]
cert = "/no/tls/cert.pem"
key = "/no/tls/key.pem"
[[journal.sink]]
kind = "ocsf"
path = "/no/log/audit.json"
"#;

/// The page that an auditor asks for; a row that is lost is a difference here.
const PAGE: &str = "\
/ leads root alone
/no leads root alone
/no/d 0755 root
/no/d/audit.pub 0755 root
/no/d/backups.json 0755 root
/no/d/demo-passphrase 0700 root
/no/d/emulator 0700 nobody
/no/d/env.sh 0755 root
/no/d/examples 0755 root, and below
/no/d/run 0755 root
/no/d/run/ask 0710 strongroom-keeper
/no/d/run/call 0710 strongroom-courier
/no/d/run/call-defined 0710 strongroom-courier-defined
/no/d/run/errand 0710 strongroom-keeper
/no/d/run/errand-defined 0710 strongroom-keeper
/no/d/run/operator 0710 strongroom-keeper
/no/d/strongroom.toml 0755 root
/no/d/tls 0755 root
/no/d/tls/ca-bundle.pem 0755 root
/no/d/tls/ca.pem 0755 root
/no/d/tls/cert.pem 0755 root
/no/d/tls/key.pem 0700 strongroom-gateway, root
/no/d/tls/names 0755 root
/no/d/token 0700 root, a person
/no/d/up.lock 0700 root
/no/d/vault 0700 strongroom-keeper, root, and below
/no/d/vault.pub 0755 root
/no/log leads strongroom-keeper, root
/no/log/audit.json 0750 strongroom-keeper, root
/no/programs 0755 root
/no/programs/strongroom 0755 root
/no/programs/strongroom-courier 0755 root
/no/programs/strongroom-emulator 0755 root
/no/programs/strongroom-gateway 0755 root
/no/programs/strongroom-keeper 0755 root
/no/programs/strongroom-tpm 0755 root
/no/roots leads root
/no/roots/ca.pem 0755 root
/no/tls leads root, strongroom-gateway
/no/tls/cert.pem 0755 root, strongroom-gateway
/no/tls/key.pem 0750 root, strongroom-gateway
";

#[test]
fn every_trusted_path_stands_on_the_page() {
    let places = Places { install: Install::System, data: "/no/d".into(), run: "/no/d/run".into() };
    let settings = Settings::parse(SETTINGS).unwrap();
    let programs = [PathBuf::from("/no/programs")];
    let rows = table(&places, Some(&settings), &programs, &people());
    let name = |owner: &Owner| match owner {
        Owner::User(_, name) => name.clone(),
        Owner::AnyPerson => "a person".to_owned(),
    };
    let line = |row: &crate::trusted::Trusted| {
        let bound = match row.bound {
            Bound::AtMost(most) => format!("{most:04o}"),
            Bound::Leads => "leads".to_owned(),
        };
        let owners = row.owners.iter().map(name).collect::<Vec<_>>().join(", ");
        let owners = if owners.is_empty() { "root alone" } else { &owners };
        let extent = match row.extent {
            Extent::Itself => "",
            Extent::Below => ", and below",
        };
        format!("{} {bound} {owners}{extent}\n", row.path.display())
    };
    let mut lines: Vec<String> = rows.iter().map(line).collect();
    lines.sort();
    lines.dedup();
    assert_eq!(lines.concat(), PAGE);
}

#[test]
fn one_user_for_all_owns_all() {
    let one = Settings::parse("accept_missing = [\"uids\"]").unwrap();
    let people = People::find(Install::System, Some(&one));
    for owner in [&people.keeper, &people.courier, &people.gateway, &people.emulator] {
        assert_eq!(*owner, Owner::root());
    }
    assert_eq!(people.own_group, None);
}
