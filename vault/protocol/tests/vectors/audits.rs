//! What is said about the journal.

use strongroom_policy::moment::Moment;
use strongroom_protocol::frame::MAX_OPERATOR_BYTES;
use strongroom_protocol::operator::audit::{AuditAnswer, AuditFilter, AuditPart, AuditRequest};
use strongroom_protocol::operator::listing::JournalRow;
use strongroom_protocol::operator::{Answer, Request};

use crate::things::{id, label, pick, provider};
use crate::{Vector, of_enum};

pub(crate) fn vectors() -> Vec<Vector> {
    [
        of_enum(requests(), request_name, Request::Audit, MAX_OPERATOR_BYTES),
        of_enum(answers(), answer_name, Answer::Audit, MAX_OPERATOR_BYTES),
    ]
    .concat()
}

fn request_name(request: &AuditRequest) -> &'static str {
    match request {
        AuditRequest::Search { .. } => "operator.audit.search",
        AuditRequest::Span => "operator.audit.span",
        AuditRequest::Read { .. } => "operator.audit.read",
        AuditRequest::Archive { .. } => "operator.audit.archive",
    }
}

fn requests() -> Vec<AuditRequest> {
    let filter = AuditFilter {
        since: Some(Moment::from_unix_millis(1_700_000_000_000)),
        until: None,
        user: Some(pick("alice")),
        token: None,
        credential: None,
        provider: Some(provider()),
        call: Some(id(7)),
        outcome: Some(label("SR-POLICY-003")),
        act: Some(label("token.create")),
        operator: Some(1000),
    };
    vec![
        AuditRequest::Search { filter: Box::new(filter), after: 300, limit: 100 },
        AuditRequest::Span,
        AuditRequest::Read { part: AuditPart::Entries(3), offset: 1024 },
        AuditRequest::Read { part: AuditPart::Hashes { level: 1, index: 2 }, offset: 0 },
        AuditRequest::Archive { bundle: 3 },
    ]
}

fn answer_name(answer: &AuditAnswer) -> &'static str {
    match answer {
        AuditAnswer::Found { .. } => "operator.answer.audit.found",
        AuditAnswer::Span { .. } => "operator.answer.audit.span",
        AuditAnswer::Part(_) => "operator.answer.audit.part",
        AuditAnswer::Archived(_) => "operator.answer.audit.archived",
    }
}

fn answers() -> Vec<AuditAnswer> {
    let line = "{\"n\":8}".to_owned();
    vec![
        AuditAnswer::Found { rows: vec![JournalRow { number: 8, line }], looked: 300, end: false },
        AuditAnswer::Span { first_bundle: 1, entries: 700, checkpoint: "note\n".to_owned() },
        AuditAnswer::Part(vec![1, 2, 3]),
        AuditAnswer::Archived(768),
    ]
}
