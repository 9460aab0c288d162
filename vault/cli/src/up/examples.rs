//! The examples in the data directory: ready to run, with the token read from its file.
//!
//! Invariant: no example holds a token, passes one as an argument or prints one.

use std::path::Path;

use nix::unistd::{Gid, Uid};

use crate::environment::{self, Routes, quote};
use crate::failure::Outcome;
use crate::files::{self, Owner};
use crate::up::ground::Ground;
use crate::up::tell;

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
        program: &tell::program(ground),
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
    program: &'a str,
}

impl Filled<'_> {
    fn fill(&self, template: &str) -> String {
        let literal = |path: &Path| serde_json::json!(path.to_string_lossy()).to_string();
        let or_empty = |path: Option<&Path>| path.map_or_else(|| "\"\"".to_owned(), literal);
        let file = quote(&self.token.to_string_lossy());
        let no_token = format!(
            "no token can be read in {}; next: {} token create first --out {file}",
            self.token.display(),
            self.program
        );
        template
            .replace("{{token_file}}", &file)
            .replace("{{no_token}}", &quote(&no_token))
            .replace("{{environment}}", &quote(&self.environment.to_string_lossy()))
            .replace("{{token}}", &literal(self.token))
            .replace("{{authority}}", &or_empty(self.authority))
            .replace("{{bundle}}", &or_empty(self.bundle))
            .replace("{{base_url}}", self.base_url)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::process::Command;

    use super::{Filled, TEMPLATES};

    fn filled<'a>(environment: &'a Path, token: &'a Path) -> Filled<'a> {
        Filled {
            environment,
            token,
            authority: None,
            bundle: None,
            base_url: "https://localhost:8443/openai/v1",
            program: "strongroom --dir '/d'",
        }
    }

    #[test]
    fn every_place_in_every_template_is_filled() {
        let filled = filled(Path::new("/d/env.sh"), Path::new("/d/to\"ken"));
        for (name, template) in TEMPLATES {
            let text = filled.fill(template);
            assert!(!text.contains("{{") && text.starts_with("#!"), "{name}");
        }
    }

    // Red when the token is taken for granted, or the program that is started.
    #[test]
    fn what_an_example_lacks_is_said_in_one_line_with_the_next_step() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        let (environment, token) = (at("env.sh"), at("it's a token"));
        fs::write(&environment, format!("cat {:?} >/dev/null\n", token.display())).unwrap();
        let run = |name: &str| {
            let (_, template) = TEMPLATES.into_iter().find(|(known, _)| *known == name).unwrap();
            fs::write(at(name), filled(&environment, &token).fill(template)).unwrap();
            let ran = Command::new("/bin/sh").arg(at(name)).env("PATH", "/usr/bin:/bin").output();
            let ran = ran.unwrap();
            (ran.status.code(), String::from_utf8(ran.stderr).unwrap())
        };
        for name in ["call.sh", "claude-code.sh"] {
            let (code, said) = run(name);
            assert_eq!((code, said.lines().count()), (Some(1), 1), "{name}: {said}");
            let next = "next: strongroom --dir '/d' token create first --out ";
            assert!(said.contains("it's a token") && said.contains(next), "{name}: {said}");
        }
        fs::write(&token, "sr_x").unwrap();
        let (code, said) = run("claude-code.sh");
        assert_eq!((code, said.lines().count()), (Some(127), 1), "{said}");
        assert!(said.contains("Claude Code is not installed"), "{said}");
    }
}
