//! What a provider is to us: a dialect, a destination to copy into credentials, and the paths that may be called.
//!
//! Invariant: a definition is the operator's; nothing in a call adds a host or a path.

pub mod builtin;

use serde::{Deserialize, Serialize};

use crate::destination::{BadDestination, Destination};
use crate::dialect::Dialect;
use crate::name::ProviderName;
use crate::route::{Method, PathRule};
use crate::target::Target;

/// A provider that credentials can be made for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderDefinition {
    /// The name in routes (`/openai/…`, `/p/NAME/…`) and commands.
    pub name: ProviderName,
    /// The API shape.
    pub dialect: Dialect,
    /// Copied into each credential when it is made, and frozen there.
    pub destination: Destination,
    /// What may be called; empty for a new operator-defined provider.
    pub paths: Vec<PathRule>,
    /// The cheapest request that shows whether a key works.
    pub probe: Option<Probe>,
    /// Who wrote the definition.
    pub origin: Origin,
}

/// The request of `credential test`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// Always a method without a body.
    pub method: Method,
    /// The target below the base path.
    pub target: Target,
}

/// Who wrote a definition. Each origin has a courier of its own: whoever captures the one sees no key of the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Comes with the program.
    BuiltIn,
    /// Added by an operator.
    Operator,
}

impl Origin {
    /// Both.
    pub const ALL: [Self; 2] = [Self::BuiltIn, Self::Operator];

    /// For messages and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BuiltIn => "built-in",
            Self::Operator => "operator-defined",
        }
    }
}

/// Most path rules a definition has.
pub const MAX_PATHS: usize = 128;
/// Most query parameters a path rule allows.
pub const MAX_QUERY_NAMES: usize = 32;

/// What is wrong with a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProvider {
    /// See [`BadDestination`].
    #[error(transparent)]
    Destination(#[from] BadDestination),
    /// More than [`MAX_PATHS`] rules, or more than [`MAX_QUERY_NAMES`] parameters in one.
    #[error("at most {MAX_PATHS} path rules with {MAX_QUERY_NAMES} query parameters each")]
    TooManyPaths,
    /// A probe with side effects.
    #[error("the probe must be a GET")]
    Probe,
}

impl ProviderDefinition {
    /// Checks what the field types do not say.
    ///
    /// # Errors
    /// The first field that does not hold.
    pub fn check(&self) -> Result<(), BadProvider> {
        self.destination.check()?;
        let bounded = self.paths.len() <= MAX_PATHS
            && self.paths.iter().all(|rule| rule.query.len() <= MAX_QUERY_NAMES);
        if !bounded {
            return Err(BadProvider::TooManyPaths);
        }
        match &self.probe {
            Some(probe) if probe.method != Method::Get => Err(BadProvider::Probe),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::builtin::definitions;
    use super::{BadProvider, MAX_PATHS, MAX_QUERY_NAMES, Origin, ProviderDefinition};
    use crate::destination::BadDestination;
    use crate::route::Method;

    fn provider() -> ProviderDefinition {
        definitions().unwrap().swap_remove(0)
    }

    #[test]
    fn each_origin_is_called_what_it_is_in_messages_and_metrics() {
        assert_eq!(Origin::ALL.map(Origin::name), ["built-in", "operator-defined"]);
    }

    #[test]
    fn a_definition_has_a_sound_destination_and_is_probed_by_a_get() {
        let mut nowhere = provider();
        nowhere.destination.port = 0;
        assert_eq!(nowhere.check(), Err(BadProvider::Destination(BadDestination::Port)));
        let mut changing = provider();
        changing.probe.as_mut().unwrap().method = Method::Post;
        assert_eq!(changing.check(), Err(BadProvider::Probe));
        assert_eq!(ProviderDefinition { probe: None, ..provider() }.check(), Ok(()));
    }

    #[test]
    fn a_definition_is_bounded() {
        let mut rule = provider().paths.swap_remove(0);
        rule.query = vec!["page".to_owned(); MAX_QUERY_NAMES];
        let with = |paths| ProviderDefinition { paths, ..provider() }.check();
        assert_eq!(with(vec![rule.clone(); MAX_PATHS]), Ok(()));
        assert_eq!(with(vec![rule.clone(); MAX_PATHS + 1]), Err(BadProvider::TooManyPaths));
        rule.query.push("one".to_owned());
        assert_eq!(with(vec![rule]), Err(BadProvider::TooManyPaths));
    }
}
