//! Provider definitions.
//!
//! Invariant: the built-in ones are not changed; one that credentials name is not removed.
//! Invariant: a credential keeps the destination that it was made with, whatever becomes of the definition.

use strongroom_policy::destination::Destination;
use strongroom_policy::name::ProviderName;
use strongroom_policy::provider::{Origin, ProviderDefinition};
use strongroom_protocol::operator::listing::ProviderRow;
use strongroom_protocol::operator::{Answer, Fault};

use super::people::gone;
use super::{Act, fault, full_fault, write};
use crate::keeper::fits_a_snapshot;
use crate::records::RecordName;
use crate::vault::Vault;

/// Most operator-defined providers: their paths must fit into one snapshot for the gateway.
const MAX_PROVIDERS: usize = 64;

impl Act<'_> {
    pub(super) fn providers(&self) -> Result<Answer, Fault> {
        self.vault(|vault| {
            let row = |one: &ProviderDefinition| ProviderRow {
                name: one.name.clone(),
                dialect: one.dialect,
                base_url: base_url(&one.destination),
                origin: one.origin,
                paths: u32::try_from(one.paths.len()).unwrap_or(u32::MAX),
                credentials: credentials_of(vault, &one.name),
            };
            Ok(Answer::Providers(vault.tables.providers.values().map(row).collect()))
        })
    }

    pub(super) fn provider(&self, name: &ProviderName) -> Result<Answer, Fault> {
        self.vault(|vault| {
            let found = vault.tables.providers.get(name).cloned().map(Box::new);
            found.map(Answer::Provider).ok_or_else(|| gone("provider"))
        })
    }

    pub(super) async fn provider_put(&self, wish: ProviderDefinition) -> Result<Answer, Fault> {
        let definition = ProviderDefinition { origin: Origin::Operator, ..wish };
        definition.check().map_err(|error| {
            fault("SR-PROVIDER-003", error.to_string(), "see 'strongroom provider add --help'")
        })?;
        if !definition.destination.fixed_headers.is_empty() {
            return Err(fault(
                "SR-PROVIDER-004",
                "fixed headers belong to a credential",
                "give them to 'strongroom credential add'",
            ));
        }
        let name = definition.name.clone();
        self.vault(|vault| {
            let providers = &vault.tables.providers;
            if providers.get(&name).is_some_and(|one| one.origin == Origin::BuiltIn) {
                return Err(built_in(&name));
            }
            let new = !providers.contains_key(&name);
            if new && providers.len() >= MAX_PROVIDERS {
                return Err(full_fault("providers"));
            }
            let others = providers.values().filter(|one| one.name != name);
            if fits_a_snapshot(others.chain([&definition])) {
                Ok(())
            } else {
                Err(full_fault("paths in all providers together"))
            }
        })?;
        let kept = definition.clone();
        self.commit(
            ("provider.put", name.to_string()),
            |vault, changes| {
                write(vault, changes, &vault.place(RecordName::Provider(name.clone())), &definition)
            },
            |vault| drop(vault.tables.providers.insert(kept.name.clone(), kept)),
        )
        .await?;
        Ok(Answer::Done)
    }

    pub(super) async fn provider_remove(&self, name: ProviderName) -> Result<Answer, Fault> {
        self.vault(|vault| match vault.tables.providers.get(&name) {
            None => Err(gone("provider")),
            Some(one) if one.origin == Origin::BuiltIn => Err(built_in(&name)),
            Some(_) if credentials_of(vault, &name) > 0 => Err(fault(
                "SR-PROVIDER-006",
                format!("credentials are bound to '{name}'"),
                "delete them first ('strongroom credential list')",
            )),
            Some(_) => Ok(()),
        })?;
        self.commit(
            ("provider.remove", name.to_string()),
            |vault, changes| {
                vault.books.delete(changes, &vault.place(RecordName::Provider(name.clone())))
            },
            |vault| drop(vault.tables.providers.remove(&name)),
        )
        .await?;
        Ok(Answer::Done)
    }
}

fn built_in(name: &ProviderName) -> Fault {
    let message = format!("'{name}' is built in");
    fault("SR-PROVIDER-005", message, "define a provider of your own under another name")
}

fn credentials_of(vault: &Vault, name: &ProviderName) -> u32 {
    let count = vault.tables.count(|tenant| {
        tenant.credentials.values().filter(|one| one.record.provider == *name).count()
    });
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// `https://host:port/base`, for people.
pub(super) fn base_url(destination: &Destination) -> String {
    let host = destination.host.as_ref();
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    let port =
        if destination.port == 443 { String::new() } else { format!(":{}", destination.port) };
    format!("https://{host}{port}{}", destination.base_path)
}
