//! The directory of a run.
//!
//! Invariant: only a directory that an earlier run made, which its mark shows, is emptied.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

const MARK: &str = ".strongroom-bench";

/// Makes the directory, or empties an earlier run's; yields its real path.
pub(crate) fn prepare(named: Option<&Path>) -> Result<PathBuf> {
    let usual = std::env::temp_dir().join("strongroom-bench");
    let path = named.unwrap_or(&usual);
    if path.exists() {
        let shown = path.display();
        let empty = fs::read_dir(path)?.next().is_none();
        ensure!(
            empty || path.join(MARK).exists(),
            "{shown} holds other things than an earlier run: name another --dir"
        );
        fs::remove_dir_all(path).with_context(|| format!("cannot empty {shown}"))?;
    }
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    fs::write(path.join(MARK), "made by strongroom-bench; emptied by its next run\n")?;
    Ok(fs::canonicalize(path)?)
}

#[cfg(test)]
mod tests {
    use super::prepare;

    #[test]
    fn a_directory_of_somebody_else_is_left_alone() {
        let home = tempfile::tempdir().unwrap();
        std::fs::write(home.path().join("letter"), "dear").unwrap();
        assert!(prepare(Some(home.path())).is_err());
        assert!(home.path().join("letter").exists());
        let own = home.path().join("run");
        prepare(Some(&own)).unwrap();
        std::fs::write(own.join("old"), "").unwrap();
        prepare(Some(&own)).unwrap();
        assert!(!own.join("old").exists());
    }
}
