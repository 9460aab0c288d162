//! Which settings the vault remembers, in one canonical form: a change of these is confirmed when it is unsealed.
//!
//! Invariant: a new setting does not compile before it is decided here whether whoever edits it could weaken the vault.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Backup, Dns, Journal, Settings, Store, Tpm};

/// What the keeper is told, `name=value` each, in the order of this page.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Guarded(Vec<String>);

impl Guarded {
    /// Those of a file, and who the processes and the operators are: users and groups by number.
    pub(crate) fn of(settings: &Settings, people: &[(&str, u32)]) -> Self {
        // Lanes bound the load, names and certificate are the gateway's own, whose key lies on the disk anyway.
        let Settings {
            listen,
            public_url: _,
            security_contact: _,
            names: _,
            metrics,
            lanes: _,
            accept_missing,
            extra_roots,
            tls: _,
            dns,
            tpm,
            backup,
            store,
            journal,
        } = settings;
        let mut guarded = Self::default();
        guarded.one("listen", listen);
        guarded.one("metrics", metrics);
        guarded.one("public_url", settings.public_url());
        let mut missing = accept_missing.clone();
        missing.sort();
        missing.dedup();
        guarded.one("accept_missing", missing.join(","));
        for (number, path) in extra_roots.iter().enumerate() {
            guarded.one(&format!("extra_roots.{number}"), with_digest(path));
        }
        guarded.dns(dns);
        guarded.tpm(tpm);
        guarded.backup(backup.as_ref());
        guarded.store(store);
        guarded.journal(journal);
        for (name, number) in people {
            guarded.one(name, number);
        }
        guarded
    }

    /// The lines.
    pub(crate) fn lines(&self) -> &[String] {
        &self.0
    }

    fn one(&mut self, name: &str, value: impl std::fmt::Display) {
        // A path may hold any character; the keeper takes no control characters.
        let value = value.to_string().replace(char::is_control, "?");
        self.0.push(format!("{name}={value}"));
    }

    fn dns(&mut self, Dns { servers, hosts }: &Dns) {
        for (number, server) in servers.iter().enumerate() {
            self.one(&format!("dns.servers.{number}"), server);
        }
        for (name, address) in hosts {
            self.one(&format!("dns.hosts.{name}"), address);
        }
    }

    fn tpm(&mut self, Tpm { tcti, pcrs, unattended, required }: &Tpm) {
        let pcrs: Vec<_> = pcrs.iter().map(ToString::to_string).collect();
        self.one("tpm.tcti", tcti.as_deref().unwrap_or_default());
        self.one("tpm.pcrs", pcrs.join(","));
        self.one("tpm.unattended", unattended);
        self.one("tpm.required", required);
    }

    /// Where copies of the vault go and who can read them; not how often.
    fn backup(&mut self, backup: Option<&Backup>) {
        let Some(Backup { directory, every: _, keep: _, recipients }) = backup else { return };
        self.one("backup.directory", directory.display());
        for (number, recipient) in recipients.iter().enumerate() {
            self.one(&format!("backup.recipients.{number}"), recipient);
        }
    }

    fn store(&mut self, store: &Store) {
        let Store { kind, socket: _, port, database, role, owner } = store;
        self.one("store.kind", kind.name());
        if let Some(database) = database {
            self.one("store.database", database);
            self.one("store.socket", store.socket().display());
            self.one("store.port", port.map(|port| port.to_string()).unwrap_or_default());
            self.one("store.role", role.as_deref().unwrap_or_default());
            self.one("store.owner", owner.as_deref().unwrap_or_default());
        }
    }

    fn journal(&mut self, Journal { durability, sink }: &Journal) {
        self.one("journal.durability", durability.name());
        for (number, sink) in sink.iter().enumerate() {
            self.one(&format!("journal.sink.{number}"), sink.argument());
        }
    }
}

/// A file that decides something counts by what is in it.
fn with_digest(path: &Path) -> String {
    let digest = match fs::read(path) {
        Ok(bytes) => format!("sha256 {}", hex::encode(Sha256::digest(bytes))),
        Err(_) => "not readable".to_owned(),
    };
    format!("{} {digest}", path.display())
}

#[cfg(test)]
mod tests {
    use super::{Guarded, Settings};

    fn lines(text: &str) -> Vec<String> {
        Guarded::of(&Settings::parse(text).unwrap(), &[("operators", 7)]).0
    }

    #[test]
    fn what_weakens_is_guarded_and_what_does_not_is_not() {
        let before = lines("accept_missing = [\"uids\"]");
        assert_eq!(lines("accept_missing = [\"uids\", \"uids\"]\nlanes = 4"), before);
        assert_eq!(lines("accept_missing = [\"uids\"]\nnames = [\"a.example\"]"), before);
        let root = tempfile::NamedTempFile::new().unwrap();
        let roots = format!("extra_roots = [\"{}\"]", root.path().display());
        for weaker in [
            "accept_missing = [\"uids\", \"seccomp\"]",
            "listen = \"0.0.0.0:8443\"",
            "metrics = \"0.0.0.0:9464\"",
            "public_url = \"https://evil.example\"",
            &roots,
            "[dns]\nservers = [\"10.0.0.1:53\"]",
            "[dns.hosts]\n\"api.openai.com\" = \"10.0.0.1\"",
            "[tpm]\ntcti = \"device:/dev/tpm0\"\nunattended = true",
            "[tpm]\npcrs = [23]",
            "[tpm]\ntcti = \"device:/dev/tpm0\"\nrequired = true",
            "[backup]\ndirectory = \"/mnt\"",
            "[store]\nkind = \"redb\"",
            "[journal]\ndurability = \"strict\"",
            "[[journal.sink]]\nkind = \"ocsf\"\npath = \"/x\"",
        ] {
            assert_ne!(lines(&format!("{weaker}\n")), lines(""), "{weaker}");
        }
        let of_empty = lines(&roots);
        std::fs::write(root.path(), "another authority").unwrap();
        assert_ne!(lines(&roots), of_empty, "a file counts by what is in it");
    }
}
