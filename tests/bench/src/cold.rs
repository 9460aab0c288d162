//! The cold start: from nothing, and from a sealed vault, to the first good call.
//!
//! Invariant: a call is good when the emulator's whole reply came back, with the key of the vault.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use serde::Serialize;

use crate::appliance::{Appliance, PASSPHRASE, PROVIDER};
use crate::client::Dial;
use crate::load;
use crate::operator::{Operator, pinned};
use crate::report::say;
use crate::scene::Kind;

/// How long starting took, seconds.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cold {
    pub(crate) credentials: u32,
    /// To store them all.
    pub(crate) populate_s: f64,
    /// A refused passphrase: the key derivation and nothing else.
    pub(crate) derivation_s: f64,
    /// The right passphrase: the derivation, opening and the full scan.
    pub(crate) unseal_s: f64,
    /// From the answer to the first good call, on a new connection.
    pub(crate) unseal_to_call_s: f64,
    /// From `strongroom up` to the first good call.
    pub(crate) start_to_call_s: f64,
    /// The same without the derivation: what the goal is about.
    pub(crate) start_beyond_derivation_s: f64,
}

const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(2);
/// Runs of the derivation; the fastest counts, so that no noise of the machine is taken off the start.
const DERIVATIONS: u32 = 3;

/// A start of the appliance that carried all calls before: its journal is as long as they made it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Restart {
    /// What lies in the journal's directory, MiB.
    pub(crate) journal_mib: f64,
    /// From `strongroom up` to the first good call.
    pub(crate) start_to_call_s: f64,
}

/// Stops it and starts it again.
pub(crate) async fn restart(appliance: &mut Appliance) -> Result<Restart> {
    let dial = Dial::new(&appliance.target()?)?;
    let journal_mib = appliance.journal_bytes()? as f64 / (1024.0 * 1024.0);
    appliance.stop();
    let begun = Instant::now();
    appliance.launch()?;
    let start_to_call_s = first_call(&dial, begun).await?;
    Ok(Restart { journal_mib, start_to_call_s })
}

/// Fills a new vault, closes and opens it, then starts everything anew.
pub(crate) async fn measure(mut appliance: Appliance, credentials: u32) -> Result<Cold> {
    let dial = Dial::new(&appliance.target()?)?;
    let mut operator = Operator::connect(&appliance.operator_socket())?;
    let begun = Instant::now();
    operator.populate(PROVIDER, credentials, &pinned(&appliance.pin())?)?;
    let populate_s = begun.elapsed().as_secs_f64();
    say(&format!("cold start: stored {credentials} credentials in {populate_s:.1} s"));

    operator.seal()?;
    let mut derivation_s = f64::INFINITY;
    for _ in 0..DERIVATIONS {
        let begun = Instant::now();
        ensure!(!operator.unseal("not the passphrase of this vault")?, "any passphrase opens it");
        derivation_s = derivation_s.min(begun.elapsed().as_secs_f64());
    }
    let begun = Instant::now();
    ensure!(operator.unseal(PASSPHRASE)?, "the right passphrase does not open it");
    let unseal_s = begun.elapsed().as_secs_f64();
    let unseal_to_call_s = first_call(&dial, Instant::now()).await?;
    drop(operator);

    appliance.stop();
    let begun = Instant::now();
    appliance.launch()?;
    let start_to_call_s = first_call(&dial, begun).await?;
    appliance.wait_until_listening()?;
    Ok(Cold {
        credentials,
        populate_s,
        derivation_s,
        unseal_s,
        unseal_to_call_s,
        start_to_call_s,
        start_beyond_derivation_s: start_to_call_s - derivation_s,
    })
}

/// Tries until a call is good; yields the seconds since `begun`.
async fn first_call(dial: &Dial, begun: Instant) -> Result<f64> {
    loop {
        match load::once(dial, Kind::Plain).await {
            Ok(_) => return Ok(begun.elapsed().as_secs_f64()),
            Err(error) if begun.elapsed() > PATIENCE => bail!("no good call: {error:#}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { journal_mib, start_to_call_s } = self;
        write!(
            f,
            "start with a journal of {journal_mib:.0} MiB to the first call: {start_to_call_s:.3} s"
        )
    }
}

impl fmt::Display for Cold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} credentials: key derivation {:.3} s, unseal {:.3} s, then the first call {:.3} s; \
             start to the first call {:.3} s",
            self.credentials,
            self.derivation_s,
            self.unseal_s,
            self.unseal_to_call_s,
            self.start_to_call_s
        )
    }
}
