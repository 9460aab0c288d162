//! Which processes there are, and with which command line each is started.
//!
//! Invariant: no command line carries a secret; the demonstration's keys open nothing.

use std::path::Path;

use nix::unistd::{Gid, Uid};
use strongroom_policy::provider::Origin;
use strongroom_policy::provider::builtin::PORT as BUILT_IN_PORT;
use strongroom_sys::spawn::Network;

use crate::files::Owner;
use crate::settings::{Guarded, NO_NETNS, Settings, StoreKind};
use crate::up::accounts::KEEPER_USER;
use crate::up::demo;
use crate::up::ground::Ground;

/// A process of the appliance, in the order in which they are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Talks to the TPM: stopped last, since the keeper moves the counter at its end.
    Tpm,
    /// Has the keys.
    Keeper,
    /// The demonstration's provider.
    Emulator,
    /// Dials the providers of this origin.
    Courier(Origin),
    /// Is talked to by users.
    Gateway,
}

impl Role {
    /// All of them, in the order of their start; they are stopped in reverse.
    pub(crate) const ALL: [Self; 6] = [
        Self::Tpm,
        Self::Keeper,
        Self::Emulator,
        Self::Courier(Origin::BuiltIn),
        Self::Courier(Origin::Operator),
        Self::Gateway,
    ];

    /// For people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Tpm => "TPM helper",
            Self::Keeper => "keeper",
            Self::Emulator => "emulator",
            Self::Courier(Origin::BuiltIn) => "courier",
            Self::Courier(Origin::Operator) => "courier of operator-defined providers",
            Self::Gateway => "gateway",
        }
    }

    /// The program's file name.
    pub(crate) const fn program(self) -> &'static str {
        match self {
            Self::Tpm => "strongroom-tpm",
            Self::Keeper => "strongroom-keeper",
            Self::Emulator => "strongroom-emulator",
            Self::Courier(_) => "strongroom-courier",
            Self::Gateway => "strongroom-gateway",
        }
    }

    /// Which process must run before this one.
    pub(crate) const fn needs(self) -> &'static [Self] {
        match self {
            Self::Tpm | Self::Keeper | Self::Emulator => &[],
            Self::Courier(_) => &[Self::Keeper],
            // Not the other courier: without it, the built-in providers are served.
            Self::Gateway => &[Self::Keeper, Self::Courier(Origin::BuiltIn)],
        }
    }

    /// Whom it becomes.
    pub(crate) fn identity(self, ground: &Ground) -> Option<Owner> {
        let accounts = &ground.accounts;
        accounts.identity(match self {
            // It opens the device as root, and becomes its own user by itself.
            Self::Tpm => return None,
            Self::Keeper => accounts.keeper,
            Self::Emulator => NOBODY,
            Self::Courier(origin) => accounts.courier(origin),
            Self::Gateway => accounts.gateway,
        })
    }

    /// Keeper and gateway need no network of their own: the one has none, the other inherits its listener.
    pub(crate) fn network(self, settings: &Settings) -> Network {
        let device = settings.tpm.tcti.as_ref().is_some_and(|tcti| tcti.starts_with("device:"));
        match self {
            Self::Keeper | Self::Gateway if !settings.accepts(NO_NETNS) => Network::None,
            Self::Tpm if !settings.accepts(NO_NETNS) && device => Network::None,
            Self::Keeper | Self::Gateway | Self::Courier(_) | Self::Emulator | Self::Tpm => {
                Network::Host
            }
        }
    }

    /// Its arguments. `ready` is the descriptor that it tells its readiness by; the gateway's listeners follow.
    pub(crate) fn arguments(self, ground: &Ground, ready: i32) -> Vec<String> {
        let mut line = match self {
            Self::Tpm => tpm(ground, ready),
            Self::Keeper => keeper(ground, ready),
            Self::Emulator => return demo::arguments(ground, ready),
            Self::Courier(origin) => courier(ground, origin),
            Self::Gateway => gateway(ground, ready),
        };
        line.pair("--ready-fd", ready);
        line.0
    }
}

/// The emulator needs nothing but its directory.
pub(crate) const NOBODY: Owner = (Uid::from_raw(65_534), Gid::from_raw(65_534));

/// The keeper's arguments for looking at the store before it is opened.
pub(crate) fn check_arguments(ground: &Ground) -> Vec<String> {
    task_arguments("--check", ground)
}

/// The keeper's arguments for doing something to the store instead of serving.
pub(crate) fn task_arguments(task: &str, ground: &Ground) -> Vec<String> {
    let mut line = Line(vec![task.to_owned()]);
    records(&mut line, ground);
    line.0
}

/// Where the records are and what keeps them.
fn records(line: &mut Line, ground: &Ground) {
    line.path("--data", &ground.places.vault());
    line.list("--accept-missing", &ground.settings.missing_layers());
    let store = &ground.settings.store;
    line.pair("--store", store.kind.name());
    match store.kind {
        StoreKind::Sled | StoreKind::Redb => {}
        StoreKind::Postgres => {
            line.path("--store-socket", store.socket());
            if let Some(port) = store.port {
                line.pair("--store-port", port);
            }
            if let Some(database) = &store.database {
                line.pair("--store-database", database);
            }
            if let Some(owner) = ground.store_owner {
                line.pair("--store-owner", owner);
            }
            line.pair("--store-role", store.role.as_deref().unwrap_or(KEEPER_USER));
        }
    }
}

/// With separate users the keeper, and likewise the courier, is told to give its sockets to its own group,
/// which opens them to nobody: it has no right to give them away, and the supervisor does so once they stand.
/// Without, the keeper's sockets have no group and stay their owner's.
fn keeper(ground: &Ground, ready: i32) -> Line {
    let (places, accounts) = (&ground.places, &ground.accounts);
    let mut line = Line::default();
    records(&mut line, ground);
    line.path("--run", &places.run);
    line.pair("--ask-uid", accounts.gateway.0);
    line.pair("--errand-uid", accounts.courier.0);
    line.pair("--errand-defined-uid", accounts.courier_defined.0);
    for flag in ["--operator-gid", "--ask-gid", "--errand-gid", "--errand-defined-gid"] {
        if let Some((_, gid)) = accounts.identity(accounts.keeper) {
            line.pair(flag, gid);
        }
    }
    line.pair("--public-url", ground.settings.public_url());
    if ground.tpm.is_some() {
        line.pair("--tpm-fd", ready + 1);
        line.pair("--tpm-seal", if ground.settings.tpm.required { "required" } else { "optional" });
    }
    line.pair("--journal-durability", ground.settings.journal.durability.name());
    for sink in &ground.settings.journal.sink {
        line.pair("--sink", sink.argument());
    }
    let people = [
        ("users.keeper", accounts.keeper.0.as_raw()),
        ("users.courier", accounts.courier.0.as_raw()),
        ("users.courier-defined", accounts.courier_defined.0.as_raw()),
        ("users.gateway", accounts.gateway.0.as_raw()),
        ("groups.operators", accounts.operators.as_raw()),
    ];
    for setting in Guarded::of(&ground.settings, &people).lines() {
        line.pair("--setting", setting);
    }
    line
}

fn tpm(ground: &Ground, ready: i32) -> Line {
    let mut line = Line::default();
    if let Some(tcti) = &ground.settings.tpm.tcti {
        line.pair("--tcti", tcti);
    }
    line.pair("--keeper-fd", ready + 1);
    if let Some((uid, gid)) = ground.accounts.tpm.and_then(|tpm| ground.accounts.identity(tpm)) {
        line.pair("--uid", uid);
        line.pair("--gid", gid);
    }
    line.list("--accept-missing", &ground.settings.missing_layers());
    line
}

fn courier(ground: &Ground, origin: Origin) -> Line {
    let (places, accounts, settings) = (&ground.places, &ground.accounts, &ground.settings);
    let mut line = Line::default();
    line.path("--errand", &places.errand_socket(origin));
    line.path("--call", &places.call_socket(origin));
    line.pair("--gateway-uid", accounts.gateway.0);
    line.pair("--gateway-gid", accounts.courier(origin).1);
    match origin {
        Origin::BuiltIn => line.pair("--dial-port", BUILT_IN_PORT),
        // They stand on any port.
        Origin::Operator => {}
    }
    let servers: Vec<_> = settings.dns.servers.iter().map(ToString::to_string).collect();
    line.list("--dns", &servers);
    for (name, ip) in &settings.dns.hosts {
        line.pair("--host", format!("{name}={ip}"));
    }
    for file in &settings.extra_roots {
        line.path("--extra-root", file);
    }
    line.list("--accept-missing", &settings.missing_layers());
    line
}

fn gateway(ground: &Ground, ready: i32) -> Line {
    let mut line = Line::default();
    line.pair("--listener-fd", ready + 1);
    line.pair("--metrics-listener-fd", ready + 2);
    line.path("--ask", &ground.places.ask_socket());
    line.path("--call", &ground.places.call_socket(Origin::BuiltIn));
    line.path("--call-defined", &ground.places.call_socket(Origin::Operator));
    line.path("--cert", &ground.certificates.cert);
    line.path("--key", &ground.certificates.key);
    line.pair("--lanes", ground.settings.lanes);
    if let Some(contact) = &ground.settings.security_contact {
        line.pair("--security-contact", contact);
    }
    for layer in ground.settings.missing_layers() {
        line.pair("--accept-missing", layer);
    }
    line
}

/// A command line under way.
#[derive(Default)]
struct Line(Vec<String>);

impl Line {
    fn pair(&mut self, flag: &str, value: impl std::fmt::Display) {
        self.0.extend([flag.to_owned(), value.to_string()]);
    }

    /// One flag for all items, none for none.
    fn list<T: std::borrow::Borrow<str>>(&mut self, flag: &str, items: &[T]) {
        if !items.is_empty() {
            self.pair(flag, items.join(","));
        }
    }

    fn path(&mut self, flag: &str, path: &Path) {
        self.pair(flag, path.display());
    }
}
