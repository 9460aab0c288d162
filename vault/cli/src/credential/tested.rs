//! What a provider answered to a credential's test.
//!
//! Invariant: the provider's text reaches the terminal without control characters.

use serde_json::{Value, json};
use strongroom_policy::refusal::Refusal;
use strongroom_protocol::errand::Ending;
use strongroom_protocol::operator::{Answer, Pick, Request, Tested};

use crate::failure::{Code, Failure, Outcome};
use crate::link::Link;
use crate::out::{self, Form};
use crate::render;

/// What a test says.
pub(crate) trait Verdict {
    /// Whether the provider took the key.
    fn accepted(&self) -> Outcome;
    /// For programs.
    fn json(&self) -> Value;
}

impl Verdict for Tested {
    fn accepted(&self) -> Outcome {
        match (self.outcome.ending, self.outcome.status) {
            (Ending::Complete, Some(200..300)) => Ok(()),
            (Ending::Complete, status) => {
                let status = status.map_or_else(|| "no status".to_owned(), |code| code.to_string());
                let what = format!("the provider did not accept the key ({status})");
                Err(Failure::new(Code::Rejected, what).next("strongroom credential rotate NAME"))
            }
            (Ending::Aborted(refusal), _) => {
                let what = format!("the test ended early: {}", refusal.message());
                Err(Failure::new(Code::Rejected, what).next(next_step(refusal)))
            }
        }
    }

    fn json(&self) -> Value {
        json!({
            "call": self.call.to_string(),
            "accepted": self.accepted().is_ok(),
            "status": self.outcome.status,
            "ms": u64::try_from(self.outcome.total.as_millis()).unwrap_or(u64::MAX),
            "text": self.text,
        })
    }
}

/// What to look at. `doctor` asks no provider; the courier's own reason is in the log.
fn next_step(refusal: Refusal) -> &'static str {
    if WAY.contains(&refusal) {
        "look at name resolution, firewall and proxy between here and the provider; the log of 'strongroom up' has the courier's reason"
    } else if OTHER_END.contains(&refusal) {
        "find out who answers in the provider's place (name resolution, a proxy that opens TLS, 'strongroom provider show NAME'); \
         the log of 'strongroom up' has the courier's reason"
    } else {
        "strongroom doctor"
    }
}

/// Nobody was reached, or nobody spoke.
const WAY: [Refusal; 2] = [Refusal::ProviderUnreachable, Refusal::ProviderTimeout];
/// Somebody was, and is not what the provider should be.
const OTHER_END: [Refusal; 4] = [
    Refusal::ProviderAddress,
    Refusal::ProviderTls,
    Refusal::ProviderBroken,
    Refusal::ProviderRedirect,
];

/// Prints the verdict.
pub(crate) fn report(form: Form, tested: &Tested) {
    match form {
        Form::Json => out::object(json!({"test": tested.json()})),
        Form::Text => {
            let status = tested.outcome.status.map_or("nothing".to_owned(), |s| s.to_string());
            let time = render::span(tested.outcome.total);
            out::say(&format!("the provider answered {status} in {time} ({})", tested.call));
            if tested.accepted().is_err() && !tested.text.is_empty() {
                out::say(&format!("  {}", out::plain(&tested.text)));
            }
        }
    }
}

/// Has the keeper make the call.
pub(crate) fn test(link: &mut Link, credential: Pick) -> Outcome<Tested> {
    match link.ask(&Request::CredentialTest(credential))? {
        Answer::Tested(tested) => Ok(*tested),
        _ => Err(Failure::unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use strongroom_policy::refusal::Refusal;

    use super::next_step;

    // Red when a provider that is not reached is left to `doctor`, which asks none.
    #[test]
    fn a_provider_that_is_not_reached_is_looked_for_on_the_way_there() {
        for refusal in Refusal::ALL {
            let is_upstream = refusal.code().starts_with("SR-UPSTREAM-");
            let next = next_step(refusal);
            assert_eq!(next.contains("log of 'strongroom up'"), is_upstream, "{refusal:?}");
            assert_eq!(next == "strongroom doctor", !is_upstream, "{refusal:?}");
        }
        assert!(next_step(Refusal::ProviderUnreachable).contains("firewall"));
    }
}
