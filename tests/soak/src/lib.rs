//! How large a suite of tests is, and where its figures go.
//!
//! `SR_SOAK=1` makes the suites large; `SR_FIGURES` names a file that each appends `suite<TAB>figure<TAB>value` to.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, clippy::panic, reason = "tests talk, and end when they cannot")]

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// The small number, or the large one on demand.
pub fn size<T>(small: T, large: T) -> T {
    if std::env::var_os("SR_SOAK").is_some_and(|asked| asked == "1") { large } else { small }
}

/// Says a figure, and appends it to the file that the environment names.
///
/// # Panics
/// When that file is not written.
pub fn tell(suite: &str, figure: &str, value: impl Display) {
    println!("{suite}: {figure}: {value}");
    let Some(path) = std::env::var_os("SR_FIGURES") else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    let line = format!("{suite}\t{figure}\t{value}\n");
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|fault| panic!("SR_FIGURES: {fault}"));
}
