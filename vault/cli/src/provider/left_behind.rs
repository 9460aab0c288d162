//! Which keys a replaced provider leaves at its old destination: a key is sealed for one, and only a new upload moves it.
//!
//! Invariant: whoever replaces a provider is told of every credential that still goes elsewhere.

use std::collections::BTreeMap;

use strongroom_policy::destination::Destination;
use strongroom_policy::name::ProviderName;
use strongroom_protocol::operator::listing::CredentialRow;
use strongroom_protocol::operator::{Answer, Request};

use crate::failure::{Failure, Outcome};
use crate::link::Link;
use crate::{credential, out, provider, render};

/// Where a provider is now; `None` when there is none of this name.
pub(super) fn before(link: &mut Link, name: &ProviderName) -> Outcome<Option<Destination>> {
    if !provider::rows(link)?.iter().any(|row| row.name == *name) {
        return Ok(None);
    }
    match link.ask(&Request::ProviderShow(name.clone()))? {
        Answer::Provider(definition) => Ok(Some(definition.destination)),
        _ => Err(Failure::unexpected()),
    }
}

/// The credentials of a provider that was replaced which keep an old destination.
pub(super) fn find(
    link: &mut Link,
    name: &ProviderName,
    old: &Destination,
    new: &Destination,
) -> Outcome<Vec<CredentialRow>> {
    let rows = provider::rows(link)?;
    let url = rows.iter().find(|row| row.name == *name).map(|row| row.base_url.as_str());
    // An address that stayed, with another certificate or header, is an old destination too.
    let place = |one: &Destination| (one.host.clone(), one.port, one.base_path.clone());
    let all = old != new && place(old) == place(new);
    let mut found = credential::rows(link)?;
    found.retain(|row| row.provider == *name && (all || Some(row.base_url.as_str()) != url));
    Ok(found)
}

/// Warns of them, by where they go.
pub(super) fn warn(found: &[CredentialRow]) {
    let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for row in found {
        places.entry(&row.base_url).or_default().push(row.label.to_string());
    }
    for (place, mut labels) in places {
        labels.sort();
        let (verb, next) = match labels.as_slice() {
            [one] => ("goes", format!("'strongroom credential rotate {one}' moves it")),
            _ => ("go", "'strongroom credential rotate NAME' moves each".to_owned()),
        };
        out::warn(&format!(
            "{} ({}) still {verb} to {place} as it was defined before; {next}",
            render::count(labels.len(), "credential"),
            labels.join(", "),
        ));
    }
}
