//! The examples in the data directory: ready to run, with the token read from its file.
//!
//! Invariant: no example holds a token, passes one as an argument or prints one.

use std::path::Path;

use nix::unistd::{Gid, Uid};

use crate::environment::{self, Routes, quote};
use crate::failure::Outcome;
use crate::files::{self, Owner};
use crate::up::ground::Ground;

/// Whoever called sudo reads the token and the examples.
pub(crate) fn reader() -> Option<Owner> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let (uid, gid) = (number("SUDO_UID")?, number("SUDO_GID")?);
    Uid::effective().is_root().then(|| (Uid::from_raw(uid), Gid::from_raw(gid)))
}

/// Writes `env.sh` and the examples.
pub(crate) fn write(ground: &Ground) -> Outcome {
    let places = &ground.places;
    let exports = environment::exports(&ground.settings, places, &ground.certificates);
    let heading = "# Written by every `strongroom up`. Use it as: . THIS_FILE\n";
    let script = format!("{heading}{}", environment::script(&exports));
    files::replace(&places.environment(), script.as_bytes(), 0o644, None)?;
    let url = ground.settings.public_url();
    let route = Routes::at(places).of("openai");
    let filled = Filled {
        environment: &places.environment(),
        token: &places.token(),
        authority: ground.certificates.authority.as_deref(),
        bundle: ground.certificates.bundle.as_deref(),
        base_url: &format!("{url}{route}/v1"),
    };
    for (name, template) in TEMPLATES {
        let path = places.examples().join(name);
        files::replace(&path, filled.fill(template).as_bytes(), 0o755, None)?;
    }
    Ok(())
}

const TEMPLATES: [(&str, &str); 4] = [
    ("call.sh", include_str!("../templates/call.sh")),
    ("call.py", include_str!("../templates/call.py")),
    ("call.mjs", include_str!("../templates/call.mjs")),
    ("claude-code.sh", include_str!("../templates/claude-code.sh")),
];

/// What stands in the templates' places.
struct Filled<'a> {
    environment: &'a Path,
    token: &'a Path,
    authority: Option<&'a Path>,
    bundle: Option<&'a Path>,
    base_url: &'a str,
}

impl Filled<'_> {
    fn fill(&self, template: &str) -> String {
        let literal = |path: &Path| serde_json::json!(path.to_string_lossy()).to_string();
        let or_empty = |path: Option<&Path>| path.map_or_else(|| "\"\"".to_owned(), literal);
        template
            .replace("{{environment}}", &quote(&self.environment.to_string_lossy()))
            .replace("{{token}}", &literal(self.token))
            .replace("{{authority}}", &or_empty(self.authority))
            .replace("{{bundle}}", &or_empty(self.bundle))
            .replace("{{base_url}}", self.base_url)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Filled, TEMPLATES};

    #[test]
    fn every_place_in_every_template_is_filled() {
        let filled = Filled {
            environment: Path::new("/d/env.sh"),
            token: Path::new("/d/to\"ken"),
            authority: None,
            bundle: None,
            base_url: "https://localhost:8443/openai/v1",
        };
        for (name, template) in TEMPLATES {
            let text = filled.fill(template);
            assert!(!text.contains("{{") && text.starts_with("#!"), "{name}");
        }
    }
}
