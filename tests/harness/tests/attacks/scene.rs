//! An appliance with two people, one of whom the attacker's part has heard, and the judgement over what the attacker got.
//!
//! Invariant: ben's key and token are never used here: whoever sees either has taken it.

use std::collections::BTreeMap;
use std::fs;

use nix::unistd::Pid;
use serde_json::Value;
use strongroom_emulator::{Api, Seen};
use strongroom_policy::provider::builtin::definitions;
use strongroom_policy::target::Target;
use strongroom_tests::captured::{Captured, Loot, Programs};
use strongroom_tests::speak::{self, models};
use strongroom_tests::{Appliance, Options, Part, canary, until};

/// The one key that is ben's.
pub(crate) const BENS: Api = Api::Gemini;
/// What a process may grow by while it is attacked: its buffers for each connection are bounded far below.
const MAX_GROWTH_KIB: u64 = 96 * 1024;

/// Everything that stands for one test.
pub(crate) struct Scene {
    pub(crate) appliance: Appliance,
    pub(crate) programs: Programs,
    /// A token of anna's that the attacker has heard.
    pub(crate) token: String,
    /// One that it has not.
    honest: String,
    /// Ben's credential.
    pub(crate) bens: String,
}

/// How keeper and courier were before the attack.
pub(crate) struct Before {
    parts: Vec<(Part, Pid, u64)>,
    admitted: usize,
}

impl Scene {
    pub(crate) fn set() -> Self {
        let programs = Programs::new();
        let programs_of = Some(programs.path().to_owned());
        let options = Options { programs: programs_of, ..Options::default() };
        let appliance = Appliance::start(&options);
        for person in ["anna", "ben"] {
            appliance.json(&["user", "create", person], b"");
        }
        for api in Api::ALL.into_iter().filter(|api| *api != BENS) {
            appliance.deposit(api, &["--for", "anna", "--no-test"]);
        }
        let bens = appliance.deposit(BENS, &["--for", "ben", "--label", "bens", "--no-test"]);
        let token = appliance.token("heard", &["--user", "anna", "--rate", "1000000"]);
        let honest = appliance.token("honest", &["--user", "anna"]);
        appliance.gate().call(&models(Api::OpenAi, &honest)).is(200);
        Self { appliance, programs, token, honest, bens }
    }

    /// Notes how those processes are that are not the attacker's.
    pub(crate) fn before(&self, captured: Part) -> Before {
        self.appliance.providers().clear();
        let others = Part::ALL.into_iter().filter(|part| *part != captured);
        // A courier's end takes the gateway with it.
        let lasting = others.filter(|part| captured == Part::Gateway || *part == Part::Keeper);
        let look = |part| {
            let pid = until("it runs", || self.appliance.pid(part));
            (part, pid, resident_kib(pid))
        };
        let admitted = self.count("admit");
        Before { parts: lasting.map(look).collect(), admitted }
    }

    /// How many entries of this kind the journal has.
    pub(crate) fn count(&self, what: &str) -> usize {
        self.appliance.entries().iter().filter(|entry| entry["what"] == what).count()
    }

    /// Gives the place back and judges what the attacker got.
    pub(crate) fn judge(&self, before: &Before, captured: Captured<'_>) -> Loot {
        let loot = captured.loot();
        for (part, pid, resident) in &before.parts {
            assert_eq!(self.appliance.pid(*part), Some(*pid), "the {part:?} did not last");
            let now = resident_kib(*pid);
            assert!(now < resident + MAX_GROWTH_KIB, "{part:?}: {resident} KiB, then {now} KiB");
        }
        // What a captured courier had under way ends with it.
        captured.release();
        self.no_call_without_its_entry(before);
        for seen in self.appliance.providers().seen() {
            went_where_it_belongs(&seen);
        }
        for (part, pid, _) in &before.parts {
            assert_eq!(self.appliance.pid(*part), Some(*pid), "the {part:?} did not last");
        }
        self.appliance.gate().call(&models(Api::OpenAi, &self.honest)).is(200);
        loot
    }

    /// Each admitted call has one end in the journal, and providers saw no more requests than there were calls.
    fn no_call_without_its_entry(&self, before: &Before) {
        let ended = |entries: &[Value]| {
            let mut ends: BTreeMap<String, usize> = BTreeMap::new();
            let mut admitted = 0;
            for entry in entries {
                let call = entry["call"].as_str().unwrap_or_default().to_owned();
                match entry["what"].as_str() {
                    Some("admit") => {
                        admitted += 1;
                        assert!(ends.insert(call, 0).is_none(), "admitted twice: {entry}");
                    }
                    Some("close" | "lost") => {
                        let count = ends.get_mut(&call);
                        *count.unwrap_or_else(|| panic!("an end of no call: {entry}")) += 1;
                    }
                    _ => {}
                }
            }
            assert!(ends.values().all(|count| *count <= 1), "a call ended twice");
            ends.values().all(|count| *count == 1).then_some(admitted)
        };
        let admitted = self.appliance.journaled("every admitted call has ended", ended);
        let requests = self.appliance.providers().counts().requests;
        let calls = u64::try_from(admitted - before.admitted).expect("it grows");
        assert!(requests <= calls, "{requests} requests at providers for {calls} calls");
    }
}

/// The request went to the host of its key, to a path in its table, and with no other key.
fn went_where_it_belongs(seen: &Seen) {
    let api = Api::ALL.into_iter().find(|api| api.host() == seen.host);
    let api = api.unwrap_or_else(|| panic!("a foreign host: {seen:#?}"));
    assert_eq!(seen.sni.as_deref(), Some(api.host()), "{seen:#?}");
    for key in Api::ALL {
        let there = seen.mentions(canary::key(key));
        assert_eq!(there, key == api && api != BENS, "{key:?}: {seen:#?}");
    }
    let query = seen.query.as_deref().map_or(String::new(), |query| format!("?{query}"));
    let target = Target::parse(&format!("{}{query}", seen.path)).expect("a canonical target");
    let tables = definitions().expect("the tables are good");
    let of_api = tables.iter().find(|one| one.name.as_ref() == speak::provider(api));
    let listed =
        of_api.expect("it is built in").paths.iter().any(|rule| {
            rule.method.name() == seen.method && rule.pattern.matches(&target).is_some()
        });
    assert!(listed, "{} {} is in no table", seen.method, seen.path);
}

/// A process's memory, KiB.
pub(crate) fn resident_kib(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
