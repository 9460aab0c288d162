//! Texts and definitions that decide: paths, names, rules, providers.
//!
//! Claims: a canonical path is its own canonical path; a name reads back as itself; what was checked is still good after it
//! was stored.

use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_policy::id::{CallId, CredentialId, TokenId, UserId, WorkspaceId};
use strongroom_policy::name::{BetaName, HostName, Label, ModelName, ProviderName};
use strongroom_policy::provider::ProviderDefinition;
use strongroom_policy::provider::builtin::definitions;
use strongroom_policy::route::{Method, PathPattern};
use strongroom_policy::rules::{CredentialRules, TokenScope};
use strongroom_policy::target::{MAX_TARGET_BYTES, Target};

use crate::Verdict;

/// A request target.
pub fn path(input: &[u8]) -> Verdict {
    let Ok(text) = std::str::from_utf8(input) else { return Verdict::Refused };
    let Ok(target) = Target::parse(text) else { return Verdict::Refused };
    let canonical = target.as_str();
    assert_eq!(Target::parse(canonical).as_ref(), Ok(&target), "not its own canonical form");
    assert!(canonical.len() <= text.len() && canonical.len() <= MAX_TARGET_BYTES);
    assert!(canonical.starts_with('/') && !canonical.starts_with("//"));
    assert!(canonical.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#' && byte != b'\\'));
    // In the path no escape is left, so no reader can decode it to anything else.
    assert!(!target.path().contains(['%', ';', '?']));
    let segments: Vec<&str> = target.segments().collect();
    assert_eq!(format!("/{}", segments.join("/")), target.path());
    let plain = |segment: &&str| !matches!(*segment, "" | "." | "..");
    assert!(segments.iter().all(plain) || target.path() == "/");
    for (name, _) in target.parameters() {
        assert!(!name.is_empty() && !name.contains('%'));
        assert_eq!(target.parameters().filter(|(other, _)| *other == name).count(), 1);
    }
    for definition in definitions().expect("they are ours") {
        for rule in &definition.paths {
            fits(&rule.pattern, &target);
        }
    }
    Verdict::Accepted
}

/// A pattern that fits has as many segments, and what it found stands in the path.
fn fits(pattern: &PathPattern, target: &Target) {
    let Some(model) = pattern.matches(target) else { return };
    assert_eq!(pattern.as_str().split('/').count(), target.path().split('/').count());
    if let Some(model) = model {
        assert!(!model.is_empty() && target.segments().any(|segment| segment.starts_with(model)));
    }
}

/// A provider's definition as an operator sends it and the store keeps it.
pub fn definition(input: &[u8]) -> Verdict {
    let Some(definition) = stored::<ProviderDefinition>(input) else { return Verdict::Refused };
    let checked = definition.check();
    if checked.is_ok() {
        let base = &definition.destination.base_path;
        assert!(base.is_empty() || Target::parse(base).is_ok_and(|base| base.path() != "/"));
        for (name, value) in &definition.destination.fixed_headers {
            assert!(!name.is_empty() && !name.contains([':', '\r', '\n', ' ']));
            assert!(!value.contains(['\r', '\n', '\0']));
        }
        for rule in &definition.paths {
            let pattern = rule.pattern.as_str();
            assert_eq!(PathPattern::parse(pattern).as_ref(), Ok(&rule.pattern));
        }
    }
    Verdict::of(&checked)
}

/// `kind 1 ‖ text or rules`: the names, ids and rules of policy.
pub fn rules(input: &[u8]) -> Verdict {
    let Some((kind, rest)) = input.split_first() else { return Verdict::Refused };
    let accepted = match kind % 3 {
        0 => stored::<TokenScope>(rest).is_some(),
        1 => stored::<CredentialRules>(rest).is_some(),
        _ => std::str::from_utf8(rest).is_ok_and(names),
    };
    if accepted { Verdict::Accepted } else { Verdict::Refused }
}

/// Reads one kind of name and writes it.
type Reader<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Every kind of name that a text may be.
fn names(text: &str) -> bool {
    let mut any = false;
    let mut name = |read: Option<String>, again: Reader<'_>| {
        if let Some(written) = read {
            assert_eq!(again(&written).as_ref(), Some(&written), "a name that changes when read");
            assert!(!written.contains(char::is_control));
            any = true;
        }
    };
    let provider = |text: &str| ProviderName::parse(text).ok().map(|name| name.to_string());
    let model = |text: &str| ModelName::parse(text).ok().map(|name| name.to_string());
    let label = |text: &str| Label::parse(text).ok().map(|name| name.to_string());
    let beta = |text: &str| BetaName::parse(text).ok().map(|name| name.to_string());
    let host = |text: &str| HostName::parse(text).ok().map(|name| name.to_string());
    let method = |text: &str| Method::parse(text).map(|method| method.name().to_owned());
    let pattern =
        |text: &str| PathPattern::parse(text).ok().map(|pattern| pattern.as_str().to_owned());
    let id = |text: &str| {
        let user = text.parse::<UserId>().ok().map(|id| id.to_string());
        let workspace = || text.parse::<WorkspaceId>().ok().map(|id| id.to_string());
        let credential = || text.parse::<CredentialId>().ok().map(|id| id.to_string());
        let token = || text.parse::<TokenId>().ok().map(|id| id.to_string());
        let call = || text.parse::<CallId>().ok().map(|id| id.to_string());
        user.or_else(workspace).or_else(credential).or_else(token).or_else(call)
    };
    let kinds: [Reader<'_>; 8] = [&provider, &model, &label, &beta, &host, &method, &pattern, &id];
    for read in kinds {
        name(read(text), read);
    }
    if let Some(written) = id(text) {
        assert_eq!(written, text, "an id with two spellings");
    }
    any
}

/// Reads a value as the store keeps it; written again it reads as the same.
pub(crate) fn stored<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    bytes: &[u8],
) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes::<T>(bytes).ok()?;
    let written = postcard::to_stdvec(&value).expect("what was read can be written");
    let again: T = postcard::from_bytes(&written).expect("what was written can be read");
    assert_eq!(again, value);
    rest.is_empty().then_some(value)
}
