//! What is said about backups.

use strongroom_policy::moment::Moment;
use strongroom_protocol::frame::MAX_OPERATOR_BYTES;
use strongroom_protocol::operator::backup::{
    BackupAnswer, BackupRequest, BroughtFile, Care, Content, Covered, DoneAgain, JournalPath,
    KeptTokens, LeftOpen, Made, Restored, TransferId,
};
use strongroom_protocol::operator::{Answer, Request};

use crate::things::pick;
use crate::{Vector, of_enum};

const TRANSFER: TransferId = TransferId([7; 16]);
const WHEN: Moment = Moment::from_unix_millis(1_700_000_000_000);

pub(crate) fn vectors() -> Vec<Vector> {
    [
        of_enum(requests(), request_name, Request::Backup, MAX_OPERATOR_BYTES),
        of_enum(answers(), answer_name, Answer::Backup, MAX_OPERATOR_BYTES),
    ]
    .concat()
}

fn request_name(request: &BackupRequest) -> &'static str {
    match request {
        BackupRequest::Create(_) => "operator.backup.create",
        BackupRequest::Next(_) => "operator.backup.next",
        BackupRequest::Bring => "operator.backup.bring",
        BackupRequest::Put { .. } => "operator.backup.put",
        BackupRequest::Verify(_) => "operator.backup.verify",
        BackupRequest::Restore(_) => "operator.backup.restore",
        BackupRequest::Standing => "operator.backup.standing",
        BackupRequest::Confirm(_) => "operator.backup.confirm",
    }
}

fn requests() -> Vec<BackupRequest> {
    let journal =
        BroughtFile::Journal { directory: 0, path: JournalPath::parse("journal.jsonl").unwrap() };
    let put = |file| BackupRequest::Put { transfer: TRANSFER, file, bytes: vec![1, 2, 3] };
    vec![
        BackupRequest::Create(Care::Written),
        BackupRequest::Create(Care::Proved),
        BackupRequest::Next(TRANSFER),
        BackupRequest::Bring,
        put(BroughtFile::Backup),
        put(journal),
        BackupRequest::Verify(TRANSFER),
        BackupRequest::Restore(TRANSFER),
        BackupRequest::Standing,
        BackupRequest::Confirm(KeptTokens::Known),
        BackupRequest::Confirm(KeptTokens::All),
        BackupRequest::Confirm(KeptTokens::Only(vec![pick("laptop")])),
    ]
}

fn answer_name(answer: &BackupAnswer) -> &'static str {
    match answer {
        BackupAnswer::Made(_) => "operator.answer.backup.made",
        BackupAnswer::Part(_) => "operator.answer.backup.part",
        BackupAnswer::Bring(_) => "operator.answer.backup.bring",
        BackupAnswer::Verified(_) => "operator.answer.backup.verified",
        BackupAnswer::Standing(_) => "operator.answer.backup.standing",
    }
}

fn answers() -> Vec<BackupAnswer> {
    let content = Content {
        commit: 41,
        when: WHEN,
        records: 7,
        users: 1,
        workspaces: 1,
        tokens: 2,
        credentials: 1,
        providers: 1,
        journal_entries: 300,
    };
    let made = Made {
        transfer: TRANSFER,
        bytes: 4096,
        commit: 41,
        when: WHEN,
        records: 7,
        proved: Some(content.clone()),
    };
    let restored = Restored {
        commit: 41,
        backup: WHEN,
        restored: WHEN,
        journal: Some(Covered { entries: 400, until: "2026-01-02T03:04:05.678Z".to_owned() }),
        sleeping_tokens: 0,
        done_again: DoneAgain { credentials: 1, tokens: 2, ..DoneAgain::default() },
        left_open: vec![LeftOpen {
            act: "credential.rotate".to_owned(),
            target: "crd_07".to_owned(),
        }],
        left_open_count: 1,
    };
    vec![
        BackupAnswer::Made(made),
        BackupAnswer::Part(vec![1, 2, 3]),
        BackupAnswer::Bring(TRANSFER),
        BackupAnswer::Verified(content),
        BackupAnswer::Standing(None),
        BackupAnswer::Standing(Some(Box::new(restored))),
    ]
}
