//! Figures of this suite, which runs over the store that `SR_STORE` names.

use std::fmt::Display;

/// Tells a figure.
pub(crate) fn tell(suite: &str, figure: &str, value: impl Display) {
    match std::env::var("SR_STORE") {
        Ok(store) => strongroom_soak::tell(&format!("{suite} on {store}"), figure, value),
        Err(_) => strongroom_soak::tell(suite, figure, value),
    }
}
