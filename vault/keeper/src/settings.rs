//! The settings that a vault remembers: whoever edits the configuration of a sealed vault must not weaken it unseen.
//!
//! They come as `--setting NAME=VALUE` from the supervisor, which says what is guarded (`vault/cli/src/settings/guarded.rs`). The ones
//! that the vault was last opened under lie in it as a record (`s`); sealing and manifest protect it like any other.
//!
//! Invariant: a vault that remembers other settings opens on an operator's word for exactly what differs, and the word is in the
//! journal first.
//! Distrusts: the settings of this start; who has the disk may have written them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Most settings.
pub const MAX_SETTINGS: usize = 512;
/// Most bytes of all names and values: the record fits into its pieces.
pub const MAX_SETTINGS_BYTES: usize = 64 * 1024;
/// How long an operator's word waits for the vault to be opened: as long as an attempt to unseal lives.
pub const ACCEPTANCE_LIFE: Duration = Duration::from_mins(10);
/// Bytes of a difference's digest.
const DIGEST_BYTES: usize = 16;
/// Most differences that are shown.
const MAX_SHOWN: usize = 16;
/// Longest list of names in a journal entry.
const MAX_NAMES_BYTES: usize = 1024;

/// Settings by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings(BTreeMap<String, String>);

/// One setting, `name=value`: the name of `a-z0-9._-`, the value without control characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    name: String,
    value: String,
}

/// It is not one, or one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a setting is NAME=VALUE; each name once, {MAX_SETTINGS} of them at most")]
pub struct BadSetting;

/// An operator's word that settings were changed on purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acceptance {
    /// The Unix user.
    pub by: u32,
    /// The digest of what differs, as it was shown.
    pub difference: String,
    /// Until when it counts.
    pub until: Instant,
}

/// What differs, old and new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Differences(Vec<(String, Option<String>, Option<String>)>);

/// How the settings of this start stand to those that the vault remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judged {
    /// They are the same.
    Same,
    /// It remembers none: it is new, of an earlier version, or was just restored.
    First,
    /// They differ, and an operator said that this is meant.
    Accepted {
        /// The Unix user.
        by: u32,
        /// Which.
        names: String,
    },
}

impl Settings {
    /// Takes one more.
    ///
    /// # Errors
    /// When its name is there already, or there is no room.
    pub fn add(&mut self, Setting { name, value }: Setting) -> Result<(), BadSetting> {
        let bytes = self.0.iter().map(|(name, value)| name.len().saturating_add(value.len()));
        let bytes = bytes.fold(name.len().saturating_add(value.len()), usize::saturating_add);
        if self.0.len() >= MAX_SETTINGS || bytes > MAX_SETTINGS_BYTES {
            return Err(BadSetting);
        }
        match self.0.insert(name, value) {
            None => Ok(()),
            Some(_) => Err(BadSetting),
        }
    }

    /// Judges them by those that the vault remembers.
    ///
    /// # Errors
    /// What differs, when nobody has said that this is meant.
    pub fn judge(
        &self,
        remembered: Option<&Self>,
        accepted: Option<&Acceptance>,
    ) -> Result<Judged, Differences> {
        let Some(remembered) = remembered else { return Ok(Judged::First) };
        let differences = remembered.differences(self);
        match accepted {
            _ if differences.0.is_empty() => Ok(Judged::Same),
            Some(word) if word.difference.trim() == differences.digest() => {
                Ok(Judged::Accepted { by: word.by, names: differences.names() })
            }
            Some(_) | None => Err(differences),
        }
    }

    fn differences(&self, now: &Self) -> Differences {
        let names: BTreeSet<&String> = self.0.keys().chain(now.0.keys()).collect();
        let of =
            |name: &String| (name.clone(), self.0.get(name).cloned(), now.0.get(name).cloned());
        let all = names.into_iter().map(of);
        Differences(all.filter(|(_, before, after)| before != after).collect())
    }
}

impl Differences {
    /// Names exactly these differences, all of them, shown or not: long enough that nobody finds two that have the same.
    pub fn digest(&self) -> String {
        let mut digest = Sha256::new_with_prefix(b"strongroom/v1/settings/difference");
        let mut take = |text: &str| {
            digest.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
            digest.update(text);
        };
        for (name, before, now) in &self.0 {
            take(name);
            for value in [before, now] {
                take(if value.is_some() { "set" } else { "unset" });
                take(value.as_deref().unwrap_or_default());
            }
        }
        let digest = digest.finalize();
        hex::encode(digest.get(..DIGEST_BYTES).unwrap_or_default())
    }

    /// The names, as a journal entry has room for them.
    fn names(&self) -> String {
        let mut names = String::new();
        for (name, ..) in &self.0 {
            if names.len().saturating_add(name.len()) > MAX_NAMES_BYTES {
                names.push_str(",...");
                break;
            }
            if !names.is_empty() {
                names.push(',');
            }
            names.push_str(name);
        }
        names
    }
}

impl fmt::Display for Differences {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings are not those that the vault was last opened under:")?;
        for (number, (name, before, now)) in self.0.iter().take(MAX_SHOWN).enumerate() {
            let unset =
                |value: &Option<String>| value.clone().unwrap_or_else(|| "(not set)".into());
            let mark = if number == 0 { " " } else { "; " };
            write!(f, "{mark}{name}: {} → {}", unset(before), unset(now))?;
        }
        match self.0.len().checked_sub(MAX_SHOWN) {
            None | Some(0) => Ok(()),
            Some(more) => write!(f, "; and {more} more"),
        }
    }
}

impl FromStr for Setting {
    type Err = BadSetting;

    fn from_str(text: &str) -> Result<Self, BadSetting> {
        let (name, value) = text.split_once('=').ok_or(BadSetting)?;
        let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-');
        if name.is_empty() || !name.bytes().all(known) || value.chars().any(char::is_control) {
            return Err(BadSetting);
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Acceptance, BadSetting, Judged, MAX_SETTINGS, Setting, Settings};

    fn word(difference: &str) -> Acceptance {
        Acceptance { by: 7, difference: difference.to_owned(), until: Instant::now() }
    }

    fn of(lines: &[&str]) -> Settings {
        let mut settings = Settings::default();
        for line in lines {
            settings.add(line.parse().unwrap()).unwrap();
        }
        settings
    }

    #[test]
    fn a_difference_is_shown_with_old_and_new_and_passes_on_somebodys_word() {
        let (before, now) = (of(&["a=1", "b=2", "c=3"]), of(&["b=2", "c=4", "d=5"]));
        assert_eq!(before.judge(Some(&before), None), Ok(Judged::Same));
        assert_eq!(now.judge(None, None), Ok(Judged::First));
        let shown = now.judge(Some(&before), None).unwrap_err();
        let told = shown.to_string();
        assert!(told.ends_with(": a: 1 → (not set); c: 3 → 4; d: (not set) → 5"), "{told}");
        let accepted = Judged::Accepted { by: 7, names: "a,c,d".to_owned() };
        let word = word(&shown.digest());
        assert_eq!(now.judge(Some(&before), Some(&word)), Ok(accepted));
        assert_eq!(before.judge(Some(&before), Some(&word)), Ok(Judged::Same));
        let more = of(&["b=2", "c=4", "d=5", "e=6"]);
        assert!(more.judge(Some(&before), Some(&word)).is_err(), "more than was shown");
    }

    // Red when an absent value is taken for an empty one, or a name and its value are joined.
    #[test]
    fn no_two_differences_have_one_digest() {
        let all = [&["a="][..], &[], &["a=1"], &["a=12"], &["a1=2"], &["b="]];
        let mut digests = std::collections::BTreeSet::new();
        for before in all {
            for now in all.iter().filter(|now| **now != before) {
                let differs = of(now).judge(Some(&of(before)), None).unwrap_err();
                assert_eq!(differs.digest().len(), 32);
                digests.insert(differs.digest());
            }
        }
        assert_eq!(digests.len(), all.len() * (all.len() - 1));
    }

    #[test]
    fn a_name_comes_once_and_all_have_a_bound() {
        let mut settings = of(&["a=1"]);
        assert_eq!(settings.add("a=2".parse().unwrap()), Err(BadSetting));
        for bad in ["", "=x", "a", "A=1", "a b=1", "a=\n"] {
            assert!(bad.parse::<Setting>().is_err(), "{bad:?}");
        }
        assert_eq!("a.b=".parse::<Setting>().map(|one| one.value), Ok(String::new()));
        for number in 1..MAX_SETTINGS {
            settings.add(format!("n{number}=").parse().unwrap()).unwrap();
        }
        assert_eq!(settings.add("one.more=".parse().unwrap()), Err(BadSetting));
        let long = format!("a={}", "x".repeat(super::MAX_SETTINGS_BYTES));
        assert_eq!(of(&[]).add(long.parse().unwrap()), Err(BadSetting));
    }

    #[test]
    fn what_is_shown_and_recorded_has_a_bound() {
        let lines: Vec<String> =
            (0..400).map(|n| format!("dns.hosts.h{n}.example=10.0.0.1")).collect();
        let now = of(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let told = now.judge(Some(&of(&[])), None).unwrap_err().to_string();
        assert!(told.ends_with("; and 384 more") && told.len() < 2000, "{told}");
        let word = word(&now.judge(Some(&of(&[])), None).unwrap_err().digest());
        let Ok(Judged::Accepted { names, .. }) = now.judge(Some(&of(&[])), Some(&word)) else {
            panic!()
        };
        assert!(names.ends_with(",...") && names.len() < 1100, "{names}");
    }
}
