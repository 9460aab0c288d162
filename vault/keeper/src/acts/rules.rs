//! The tenant's own rules: shown, replaced as a whole, and asked about.
//!
//! Invariant: a set replaces exactly the version that whoever wrote it had seen.
//! Invariant: what can be kept is asked before the journal is told of it. What the rules do not allow any more ends with the act
//! (`acts.rs`): calls under way are judged again.

use strongroom_policy::tenant_rules::{Rule, RuleSet};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::CallAsk;
use strongroom_protocol::operator::rules::{
    Explained, MAX_RULES_BYTES, Question, Rules, RulesAnswer, RulesRequest, check_length,
};
use strongroom_protocol::operator::{Answer, Fault};

use super::people::gone;
use super::{Act, fault, picked, random_fault, write};
use crate::books::MAX_RECORD_BYTES;
use crate::clock;
use crate::pipeline;
use crate::records::{RecordName, RulesRecord};
use crate::tables::HeldRules;

impl Act<'_> {
    pub(super) async fn rules(&self, request: RulesRequest) -> Result<Answer, Fault> {
        match request {
            RulesRequest::Show => self.rules_show(),
            RulesRequest::Replace { version, rules } => self.rules_replace(version, rules).await,
            RulesRequest::Explain(question) => self.rules_explain(*question),
        }
    }

    fn rules_show(&self) -> Result<Answer, Fault> {
        self.in_tenant(|_, tenant| {
            let held = &tenant.rules;
            let rules = Rules {
                version: held.version,
                changed: held.changed,
                rules: held.set.rules().to_vec(),
            };
            Ok(Answer::Rules(RulesAnswer::Rules(Box::new(rules))))
        })
    }

    async fn rules_replace(&self, version: u64, rules: Vec<Rule>) -> Result<Answer, Fault> {
        check_length(&rules).map_err(|error| unfit(&error))?;
        let set = RuleSet::new(rules).map_err(|error| unfit(&error))?;
        let found = self.in_tenant(|_, tenant| Ok(tenant.rules.version))?;
        if found != version {
            return Err(fault(
                "SR-RULES-002",
                format!(
                    "the rules are of version {found} now, and these were made from version {version}"
                ),
                "somebody changed them meanwhile: see 'strongroom policy show', and make the change there",
            ));
        }
        let next = draw_version().map_err(random_fault)?;
        let record =
            RulesRecord { version: next, changed: clock::now(), rules: set.rules().to_vec() };
        let place = self.place(RecordName::Rules)?;
        self.commit_in(
            ("rules.replace", format!("version {next}")),
            |vault, changes| write(vault, changes, &place, &record),
            |tenant| tenant.rules = HeldRules::of(&record, set),
        )
        .await?;
        Ok(Answer::Rules(RulesAnswer::Replaced(next)))
    }

    fn rules_explain(&self, question: Question) -> Result<Answer, Fault> {
        let Question { token, provider, choice, method, target, betas, claims, length } = question;
        let proof = SecretBytes::copy_from(&[]);
        let ask = CallAsk { proof, provider, choice, method, target, betas, claims, length };
        self.in_tenant(|vault, tenant| {
            let token = picked(tenant.pick_token(&token))?;
            let subject = tenant.subject(token).ok_or_else(|| gone("token"))?;
            let (decided, credential, considered) =
                pipeline::explain(vault, &subject, ask, clock::now());
            let (refusal, rule, about) = match decided {
                Ok(permit) => (None, permit.rule().to_owned(), None),
                Err(denial) => {
                    (Some(denial.refusal.code().to_owned()), denial.rule.into_owned(), denial.about)
                }
            };
            let explained = Explained { refusal, rule, about, credential, considered };
            Ok(Answer::Rules(RulesAnswer::Explained(Box::new(explained))))
        })
    }
}

fn unfit(error: &dyn std::error::Error) -> Fault {
    fault("SR-RULES-001", error.to_string(), "correct it; the rules in force are as they were")
}

/// A version that no set had, in this life of the vault or in one that a restore has undone: 52 bits, which every reader of numbers holds.
fn draw_version() -> Result<u64, getrandom::Error> {
    Ok((getrandom::u64()? >> 13) | (1 << 51))
}

/// What is kept of a version and a moment, at most.
const OTHER_FIELDS_BYTES: usize = 20;
const _: () = assert!(MAX_RULES_BYTES + OTHER_FIELDS_BYTES <= MAX_RECORD_BYTES);
