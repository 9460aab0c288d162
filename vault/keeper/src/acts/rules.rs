//! The tenant's own rules: shown, replaced as a whole, and asked about.
//!
//! Invariant: a set replaces exactly the version that whoever wrote it had seen.
//! Invariant: what a rule gave and none gives any more is stopped at once, calls under way included.

use std::collections::BTreeSet;

use strongroom_policy::id::{CredentialId, TokenId};
use strongroom_policy::rules::Subject;
use strongroom_policy::tenant_rules::{Rule, RuleSet};
use strongroom_protocol::SecretBytes;
use strongroom_protocol::ask::CallAsk;
use strongroom_protocol::operator::rules::{Explained, Question, Rules, RulesAnswer, RulesRequest};
use strongroom_protocol::operator::{Answer, Fault};

use super::people::gone;
use super::{Act, fault, picked, write};
use crate::clock;
use crate::pipeline;
use crate::records::{RecordName, RulesRecord};
use crate::vault::Vault;

impl Act<'_> {
    pub(super) async fn rules(&self, request: RulesRequest) -> Result<Answer, Fault> {
        match request {
            RulesRequest::Show => self.rules_show(),
            RulesRequest::Replace { version, rules } => self.rules_replace(version, rules).await,
            RulesRequest::Explain(question) => self.rules_explain(*question),
        }
    }

    fn rules_show(&self) -> Result<Answer, Fault> {
        self.vault(|vault| {
            let held = &vault.tables.rules;
            let rules = Rules {
                version: held.version,
                changed: held.changed,
                rules: held.set.rules().to_vec(),
            };
            Ok(Answer::Rules(RulesAnswer::Rules(Box::new(rules))))
        })
    }

    async fn rules_replace(&self, version: u64, rules: Vec<Rule>) -> Result<Answer, Fault> {
        let set = RuleSet::new(rules).map_err(|error| {
            fault(
                "SR-RULES-001",
                error.to_string(),
                "correct it; the rules in force are as they were",
            )
        })?;
        let found = self.vault(|vault| Ok(vault.tables.rules.version))?;
        if found != version {
            return Err(fault(
                "SR-RULES-002",
                format!(
                    "the rules are of version {found} now, and these were made from version {version}"
                ),
                "somebody changed them meanwhile: see 'strongroom policy show', and make the change there",
            ));
        }
        let next = version.saturating_add(1);
        let record =
            RulesRecord { version: next, changed: clock::now(), rules: set.rules().to_vec() };
        let kept = record.clone();
        let mut lost = BTreeSet::new();
        self.commit(
            ("rules.replace", format!("version {next}")),
            |vault, changes| write(vault, changes, &RecordName::Rules, &record),
            |vault| {
                let before = given(vault);
                if vault.tables.put_rules(kept).is_err() {
                    // Checked above: what was kept is what was checked.
                    tracing::error!("rules that were checked are none");
                }
                lost = before.difference(&given(vault)).copied().collect();
            },
        )
        .await?;
        self.stop(|party| lost.contains(&(party.token, party.credential)));
        Ok(Answer::Done)
    }

    fn rules_explain(&self, question: Question) -> Result<Answer, Fault> {
        let Question { token, provider, choice, method, target, betas, claims, length } = question;
        let proof = SecretBytes::copy_from(&[]);
        let ask = CallAsk { proof, provider, choice, method, target, betas, claims, length };
        self.vault(|vault| {
            let token = picked(vault.tables.pick_token(&token))?;
            let subject = vault.tables.subject(token).ok_or_else(|| gone("token"))?;
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

/// Which tokens may use which credentials by a rule alone.
fn given(vault: &Vault) -> BTreeSet<(TokenId, CredentialId)> {
    let subjects = vault.tables.tokens.keys().filter_map(|token| vault.tables.subject(*token));
    let of = |subject: Subject| {
        let given = vault.tables.given(&subject);
        given.into_iter().map(move |credential| (subject.token, credential))
    };
    subjects.flat_map(of).collect()
}
