//! The table: every path that an install trusts, each with who may own it and the widest mode.
//!
//! Invariant: a place that is added to `Places`, or a file to the settings, is decided here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nix::unistd::{Uid, User};
use strongroom_policy::provider::Origin;

use super::{Bound, Extent, Owner, Trusted, own_group};
use crate::places::{Install, Places};
use crate::settings::{NO_UIDS, Settings};
use crate::up::accounts::{COURIER_DEFINED_USER, COURIER_USER, GATEWAY_USER, KEEPER_USER};
use crate::up::role::{NOBODY, Role};

/// Others read it, and none but its owner changes it.
const PUBLIC: u32 = 0o755;
/// Nobody but its owner has it.
const PRIVATE: u32 = 0o700;
/// One group reads it too: a gateway's own key, or a log that is shipped.
const SHARED: u32 = 0o750;
/// One group passes to the sockets in it.
const SOCKETS: u32 = 0o710;

/// Who the processes are, as far as there are such users.
#[derive(Debug, Clone)]
pub(crate) struct People {
    /// Root, or the one person.
    pub(crate) admin: Owner,
    pub(crate) keeper: Owner,
    pub(crate) courier: Owner,
    pub(crate) courier_defined: Owner,
    pub(crate) gateway: Owner,
    pub(crate) emulator: Owner,
    pub(crate) own_group: Option<u32>,
}

impl People {
    /// Finds them, and makes none.
    pub(crate) fn find(install: Install, settings: Option<&Settings>) -> Self {
        let admin = match install {
            Install::System => Owner::root(),
            Install::Personal => Owner::of(Uid::effective().as_raw()),
        };
        let is_one = install == Install::Personal
            || settings.is_some_and(|settings| settings.accepts(NO_UIDS));
        let of = |name: &str| {
            let user = User::from_name(name).ok().flatten().filter(|_| !is_one);
            user.map_or_else(|| admin.clone(), |user| Owner::User(user.uid.as_raw(), user.name))
        };
        Self {
            keeper: of(KEEPER_USER),
            courier: of(COURIER_USER),
            courier_defined: of(COURIER_DEFINED_USER),
            gateway: of(GATEWAY_USER),
            emulator: if is_one { admin.clone() } else { Owner::of(NOBODY.0.as_raw()) },
            own_group: match install {
                Install::System => None,
                Install::Personal => own_group(),
            },
            admin,
        }
    }
}

/// Every path, and what leads to each.
pub(crate) fn table(
    places: &Places,
    settings: Option<&Settings>,
    programs: &[PathBuf],
    people: &People,
) -> Vec<Trusted> {
    let mut rows = own(places, people);
    rows.extend(settings.into_iter().flat_map(|settings| named(settings, people)));
    for directory in programs {
        rows.push(row(directory, &[&people.admin], PUBLIC, people));
        let all = Role::ALL.into_iter().map(Role::program).chain(["strongroom"]);
        rows.extend(all.map(|name| row(&directory.join(name), &[&people.admin], PUBLIC, people)));
    }
    rows.sort_by(|one, other| one.path.cmp(&other.path));
    rows.dedup();
    let leading = leading(&rows);
    rows.extend(leading);
    rows
}

/// What Strongroom makes.
fn own(places: &Places, people: &People) -> Vec<Trusted> {
    let People { admin, keeper, courier, courier_defined, gateway, emulator, .. } = people;
    let tls = places.tls();
    let socket = |socket: PathBuf| socket.parent().unwrap_or(&places.run).to_owned();
    let table: Vec<(PathBuf, Vec<&Owner>, u32, Extent)> = vec![
        (places.data.clone(), vec![admin], PUBLIC, Extent::Itself),
        (places.settings(), vec![admin], PUBLIC, Extent::Itself),
        (places.pin(), vec![admin], PUBLIC, Extent::Itself),
        (places.audit_pin(), vec![admin], PUBLIC, Extent::Itself),
        (tls.clone(), vec![admin], PUBLIC, Extent::Itself),
        (tls.join("cert.pem"), vec![admin], PUBLIC, Extent::Itself),
        (tls.join("ca.pem"), vec![admin], PUBLIC, Extent::Itself),
        (tls.join("ca-bundle.pem"), vec![admin], PUBLIC, Extent::Itself),
        (tls.join("names"), vec![admin], PUBLIC, Extent::Itself),
        (tls.join("key.pem"), vec![gateway, admin], PRIVATE, Extent::Itself),
        (places.environment(), vec![admin], PUBLIC, Extent::Itself),
        (places.examples(), vec![admin], PUBLIC, Extent::Below),
        (places.backups(), vec![admin], PUBLIC, Extent::Itself),
        (places.lock(), vec![admin], PRIVATE, Extent::Itself),
        (places.token(), vec![admin, &Owner::AnyPerson], PRIVATE, Extent::Itself),
        (places.demo_passphrase(), vec![admin], PRIVATE, Extent::Itself),
        (places.emulator(), vec![emulator], PRIVATE, Extent::Itself),
        (places.vault(), vec![keeper, admin], PRIVATE, Extent::Below),
        (places.run.clone(), vec![admin], PUBLIC, Extent::Itself),
        (socket(places.operator_socket()), vec![keeper], SOCKETS, Extent::Itself),
        (socket(places.ask_socket()), vec![keeper], SOCKETS, Extent::Itself),
        (socket(places.errand_socket(Origin::BuiltIn)), vec![keeper], SOCKETS, Extent::Itself),
        (socket(places.errand_socket(Origin::Operator)), vec![keeper], SOCKETS, Extent::Itself),
        (socket(places.call_socket(Origin::BuiltIn)), vec![courier], SOCKETS, Extent::Itself),
        (
            socket(places.call_socket(Origin::Operator)),
            vec![courier_defined],
            SOCKETS,
            Extent::Itself,
        ),
    ];
    let rows = table.into_iter();
    rows.map(|(path, owners, most, extent)| Trusted { extent, ..row(&path, &owners, most, people) })
        .collect()
}

/// What the settings name.
fn named(settings: &Settings, people: &People) -> Vec<Trusted> {
    let People { admin, keeper, gateway, .. } = people;
    let of = |path: &Path, owner, most| row(path, &[admin, owner], most, people);
    let cert = settings.tls.cert.iter().map(|path| of(path, gateway, PUBLIC));
    let key = settings.tls.key.iter().map(|path| of(path, gateway, SHARED));
    let roots = settings.extra_roots.iter().map(|path| row(path, &[admin], PUBLIC, people));
    let sinks = settings.journal.sink.iter();
    let sinks = sinks.map(|sink| Trusted {
        owners: vec![keeper.clone(), admin.clone()],
        ..of(&sink.path, keeper, SHARED)
    });
    cert.chain(key).chain(roots).chain(sinks).collect()
}

fn row(path: &Path, owners: &[&Owner], most: u32, people: &People) -> Trusted {
    Trusted {
        path: path.to_owned(),
        owners: owners.iter().map(|owner| (*owner).clone()).collect(),
        bound: Bound::AtMost(most),
        extent: Extent::Itself,
        own_group: people.own_group,
    }
}

/// The directories above the rows, by name and behind links. Root may own each, and whoever may own all that it leads to.
fn leading(rows: &[Trusted]) -> Vec<Trusted> {
    let mut above: BTreeMap<PathBuf, Trusted> = BTreeMap::new();
    for row in rows {
        let real = row.path.canonicalize().unwrap_or_else(|_| row.path.clone());
        for path in row.path.ancestors().skip(1).chain(real.ancestors().skip(1)) {
            if rows.iter().any(|row| row.path == path) {
                continue;
            }
            let owners = &row.owners;
            let leads = above.entry(path.to_owned()).or_insert_with(|| Trusted {
                path: path.to_owned(),
                owners: owners.clone(),
                bound: Bound::Leads,
                ..row.clone()
            });
            leads.extent = Extent::Itself;
            leads.owners.retain(|owner| owners.contains(owner) && *owner != Owner::AnyPerson);
        }
    }
    above.into_values().collect()
}

#[cfg(test)]
mod tests;
