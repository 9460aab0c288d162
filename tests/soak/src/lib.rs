//! How large a suite of tests is, where its figures go, and which tests did not run.
//!
//! `SR_SOAK=1` makes the suites large; `SR_FIGURES` names a file that each appends `suite<TAB>figure<TAB>value` to, `SR_SKIPPED` one
//! that each test that cannot run appends `test<TAB>reason` to: `deploy/test` counts them.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::panic,
    reason = "tests talk, and end when they cannot"
)]

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
    append("SR_FIGURES", &format!("{suite}\t{figure}\t{value}\n"));
}

/// Says that the test of this thread does not run here, or not all of it, and why: `root`, or a program that `deploy/test` installs.
/// A reason that begins with `this machine` is one that neither mends.
///
/// # Panics
/// When the file that the environment names is not written.
pub fn skipped(why: &str) {
    eprintln!("skipped: {why}");
    let thread = std::thread::current();
    append("SR_SKIPPED", &format!("{}\t{why}\n", thread.name().unwrap_or("a test")));
}

/// To the file that a variable names, if it does.
fn append(variable: &str, line: &str) {
    let Some(path) = std::env::var_os(variable) else { return };
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.and_then(|mut file| file.write_all(line.as_bytes()))
        .unwrap_or_else(|fault| panic!("{variable}: {fault}"));
}
