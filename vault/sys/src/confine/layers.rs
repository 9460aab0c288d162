//! The names of the layers, as configuration and reports spell them.

use std::fmt;
use std::str::FromStr;

use super::Violation;

/// One independent restriction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layer {
    /// Keys in pages that nobody outside can read (keeper).
    SecretMemory,
    /// Landlock: the file system.
    Files,
    /// Landlock: TCP ports.
    TcpPorts,
    /// Landlock: signals and abstract sockets of other processes.
    Scopes,
    /// seccomp: the list of system calls.
    SystemCalls,
}

impl Layer {
    /// Every layer.
    pub const ALL: [Self; 5] =
        [Self::SecretMemory, Self::Files, Self::TcpPorts, Self::Scopes, Self::SystemCalls];

    /// The name in `accept_missing` and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::SecretMemory => "secret-memory",
            Self::Files => "landlock-files",
            Self::TcpPorts => "landlock-tcp",
            Self::Scopes => "landlock-scopes",
            Self::SystemCalls => "seccomp",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that is no layer's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no confinement layer; \
     known are secret-memory, landlock-files, landlock-tcp, landlock-scopes, seccomp"
)]
pub struct UnknownLayer(String);

impl FromStr for Layer {
    type Err = UnknownLayer;

    fn from_str(name: &str) -> Result<Self, UnknownLayer> {
        let known = Self::ALL.into_iter().find(|layer| layer.name() == name);
        known.ok_or_else(|| UnknownLayer(name.to_owned()))
    }
}

/// Whether a layer is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// In force.
    Present,
    /// In force in a documented weaker form, and how it is weaker.
    Weaker(String),
    /// Not in force, and why.
    Missing(String),
}

/// What confines a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Which process.
    pub process: &'static str,
    /// What happens at a forbidden system call.
    pub on_violation: Violation,
    /// Each layer that the process should have.
    pub layers: Vec<(Layer, State)>,
}

impl Report {
    /// Whether `layer` is in force, weaker or not.
    pub fn has(&self, layer: Layer) -> bool {
        let found = self.layers.iter().find(|(each, _)| *each == layer);
        matches!(found, Some((_, State::Present | State::Weaker(_))))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.process)?;
        for (layer, state) in &self.layers {
            match state {
                State::Present => write!(f, " {layer}=present")?,
                State::Weaker(how) => write!(f, " {layer}=weaker ({how})")?,
                State::Missing(why) => write!(f, " {layer}=missing ({why})")?,
            }
        }
        match self.on_violation {
            Violation::Kill => f.write_str(" violation=kill"),
            Violation::Errno => f.write_str(" violation=errno"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Layer;

    #[test]
    fn every_layer_is_read_back_from_its_name() {
        for layer in Layer::ALL {
            assert_eq!(layer.name().parse(), Ok(layer));
        }
        assert!("landlock".parse::<Layer>().is_err());
    }
}
