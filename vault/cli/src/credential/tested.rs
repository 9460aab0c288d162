//! What a provider answered to a credential's test.
//!
//! Invariant: the provider's text reaches the terminal without control characters.

use serde_json::{Value, json};
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
                Err(Failure::new(Code::Rejected, what).next("strongroom doctor"))
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
