//! How large a suite is, and where its figures go.
//!
//! `SR_SOAK=1` makes the suites large; `SR_FIGURES` names a file that each appends `suite<TAB>figure<TAB>value` to.

use std::fmt::Display;
use std::fs::OpenOptions;
use std::io::Write;

/// The small number, or the large one on demand.
pub(crate) fn size(small: usize, large: usize) -> usize {
    if std::env::var_os("SR_SOAK").is_some_and(|value| value == "1") { large } else { small }
}

/// Tells a figure.
pub(crate) fn tell(suite: &str, figure: &str, value: impl Display) {
    let suite = match std::env::var("SR_STORE") {
        Ok(store) => format!("{suite} on {store}"),
        Err(_) => suite.to_owned(),
    };
    println!("{suite}: {figure}: {value}");
    let Some(file) = std::env::var_os("SR_FIGURES") else { return };
    let mut file = OpenOptions::new().create(true).append(true).open(file).expect("SR_FIGURES");
    writeln!(file, "{suite}\t{figure}\t{value}").expect("SR_FIGURES");
}
