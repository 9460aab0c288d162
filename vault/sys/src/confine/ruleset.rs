//! Landlock: which paths, ports and other processes a process can reach.
//!
//! Invariant: every rule is a hard requirement; best effort would drop flags silently.
//! Invariant: what a rung of the ladder cannot enforce is reported as a missing layer.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};

use super::{ConfineError, Layer, Profile, State};

/// What of Landlock this kernel has.
pub(super) fn offered() -> [(Layer, State); 3] {
    let abi = newest_rung();
    let state = |needed: ABI, kernel: &str| match abi {
        Some(abi) if abi >= needed => State::Present,
        Some(_) => State::Missing(format!("Landlock here is older; it needs Linux {kernel}")),
        None => State::Missing(
            "Landlock is not in this kernel or not enabled (boot parameter lsm=landlock,…)"
                .to_owned(),
        ),
    };
    [
        (Layer::Files, state(ABI::V2, "5.19")),
        (Layer::TcpPorts, state(ABI::V4, "6.7")),
        (Layer::Scopes, state(ABI::V6, "6.12")),
    ]
}

/// Restricts the calling thread and all it makes.
pub(super) fn restrict(profile: Profile<'_>) -> Result<(), ConfineError> {
    let refused = |error: RulesetError| not_enforced(&error.to_string());
    let abi = newest_rung().ok_or_else(|| not_enforced("no longer offered"))?;
    let mut created = ruleset(abi, profile).and_then(Ruleset::create).map_err(refused)?;
    match profile {
        Profile::Keeper { data_dir, run_dir } => {
            // A right that the rung does not handle must not stand in a rule.
            let data = DATA_RIGHTS & AccessFs::from_all(abi);
            for (path, rights) in [(data_dir, data), (run_dir, RUN_RIGHTS)] {
                let rule = PathBeneath::new(open(path)?, rights);
                created = created.add_rule(rule).map_err(refused)?;
            }
        }
        Profile::Courier { .. } | Profile::Gateway | Profile::Tpm | Profile::SoftwareTpm { .. } => {
        }
    }
    // Older rungs know no ports, which is reported.
    if AccessNet::from_all(abi).contains(AccessNet::ConnectTcp) {
        for port in profile.dials() {
            let rule = NetPort::new(*port, AccessNet::ConnectTcp);
            created = created.add_rule(rule).map_err(refused)?;
        }
    }
    let status = created.restrict_self().map_err(refused)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced if status.no_new_privs => Ok(()),
        _ => Err(not_enforced("the kernel enforced only a part")),
    }
}

/// The data directory: whole life of plain files and directories; no program, device or link.
const DATA_RIGHTS: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});
/// The run directory: only to remove our own sockets at the end.
const RUN_RIGHTS: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ RemoveFile });

/// Newest first. Before 2, renaming between directories is always refused, which the store needs;
/// `truncate` by path, uncovered before 3, is on no list of system calls.
const RUNGS: [ABI; 5] = [ABI::V6, ABI::V5, ABI::V4, ABI::V3, ABI::V2];

fn newest_rung() -> Option<ABI> {
    RUNGS.into_iter().find(|abi| ruleset(*abi, Profile::Gateway).and_then(Ruleset::create).is_ok())
}

fn ruleset(abi: ABI, profile: Profile<'_>) -> Result<Ruleset, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?;
    let ports = AccessNet::from_all(abi)
        & match profile {
            // Any port: an operator's providers stand on any; what it dials is decided by the errand.
            Profile::Courier { ports: None } => BitFlags::from(AccessNet::BindTcp),
            Profile::Courier { ports: Some(_) }
            | Profile::Keeper { .. }
            | Profile::Gateway
            | Profile::Tpm
            | Profile::SoftwareTpm { .. } => AccessNet::BindTcp | AccessNet::ConnectTcp,
        };
    if !ports.is_empty() {
        rules = rules.handle_access(ports)?;
    }
    let scopes = Scope::from_all(abi);
    if !scopes.is_empty() {
        rules = rules.scope(scopes)?;
    }
    Ok(rules)
}

fn open(path: &Path) -> Result<PathFd, ConfineError> {
    PathFd::new(path).map_err(|error| ConfineError::Directory {
        path: path.to_owned(),
        reason: error.to_string(),
    })
}

fn not_enforced(reason: &str) -> ConfineError {
    ConfineError::NotEnforced { layer: Layer::Files, reason: reason.to_owned() }
}
