//! How often the random suites run, and where their figures go.

use std::fmt::Display;
use std::io::Write;

/// `small`, or `large` when the environment asks for a soak.
pub(crate) fn count(small: u32, large: u32) -> u32 {
    if std::env::var_os("SR_SOAK").is_some_and(|asked| asked == "1") { large } else { small }
}

/// Says a figure, and appends it to the file that the environment names.
pub(crate) fn figure(suite: &str, figure: &str, value: impl Display) {
    println!("{suite}: {figure}: {value}");
    if let Some(path) = std::env::var_os("SR_FIGURES") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).unwrap();
        file.write_all(format!("{suite}\t{figure}\t{value}\n").as_bytes()).unwrap();
    }
}
