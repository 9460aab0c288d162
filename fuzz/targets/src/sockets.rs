//! What the processes say to each other, and the texts and blobs that travel in it.
//!
//! Claims: a message that is read is written again in at most as many bytes, and reads back as the same; a stream of frames is
//! taken apart alike wherever it is cut.

use serde::Serialize;
use serde::de::DeserializeOwned;
use strongroom_courier::fuzzing as in_place;
use strongroom_policy::id::{CredentialId, Id, TenantId, UploadId, UserId};
use strongroom_policy::provider::builtin::definitions;
use strongroom_policy::rules::Home;
use strongroom_protocol::call::{self, Abort, AnswerHead, CallHead, FrameHeader, FrameKind};
use strongroom_protocol::errand::ToCourier;
use strongroom_protocol::frame::{
    self, MAX_ASK_BYTES, MAX_ERRAND_BYTES, MAX_OPERATOR_BYTES, PREFIX_BYTES,
};
use strongroom_protocol::token::{TOKEN_BYTES, TOKEN_RANDOM_BYTES, check_token, write_token};
use strongroom_protocol::tpm::MAX_TPM_BYTES;
use strongroom_protocol::upload::{
    MAX_BLOB_BYTES, UploadAct, UploadBinding, UploadError, digest_destination, open_upload,
};
use strongroom_protocol::{ask, errand, operator, tpm};

use crate::Verdict;

/// Frames of `ask.sock`, of the gateway and of the keeper.
pub fn ask(input: &[u8]) -> Verdict {
    frames(input, MAX_ASK_BYTES, [message::<ask::FromGateway>, message::<ask::ToGateway>])
}

/// Frames of `errand.sock`, of the courier and of the keeper.
pub fn errand(input: &[u8]) -> Verdict {
    frames(input, MAX_ERRAND_BYTES, [message::<errand::FromCourier>, to_courier])
}

/// The courier reads it in place, by code of its own: as the message says, or not at all.
fn to_courier(body: &[u8], limit: usize) -> Verdict {
    let read = frame::decode::<ToCourier>(body).ok().map(|message| match message {
        ToCourier::Errand { ticket: _, errand } | ToCourier::Probe(errand) => format!("{errand:?}"),
        ToCourier::Refused { ticket: _, refusal } => format!("{refusal:?}"),
        ToCourier::Recall(recall) => format!("{recall:?}"),
    });
    assert_eq!(in_place::errand(body), read, "the courier reads another message");
    message::<ToCourier>(body, limit)
}

/// Frames of `operator.sock`, of the operator's tool and of the keeper.
pub fn operator(input: &[u8]) -> Verdict {
    frames(input, MAX_OPERATOR_BYTES, [message::<operator::Request>, message::<operator::Answer>])
}

/// Datagrams between keeper and TPM helper, of both.
pub fn tpm(input: &[u8]) -> Verdict {
    let Some((side, datagram)) = input.split_first() else { return Verdict::Refused };
    match side % 2 {
        0 => message::<tpm::ToTpm>(datagram, MAX_TPM_BYTES),
        _ => message::<tpm::FromTpm>(datagram, MAX_TPM_BYTES),
    }
}

/// A reader of one direction.
type Read = fn(&[u8], usize) -> Verdict;

/// `side 1 ‖ frames`: the first byte says who speaks.
fn frames(input: &[u8], limit: usize, [first, second]: [Read; 2]) -> Verdict {
    let Some((side, mut stream)) = input.split_first() else { return Verdict::Refused };
    let read = if side % 2 == 0 { first } else { second };
    let mut verdict = Verdict::Refused;
    loop {
        match frame::split_first(stream, limit) {
            Ok(Some((body, used))) => {
                assert!(used == body.len() + PREFIX_BYTES && used <= stream.len());
                // However little less there is, it is no whole frame yet.
                assert_eq!(frame::split_first(&stream[..used - 1], limit), Ok(None));
                verdict = read(body, limit);
                stream = &stream[used..];
            }
            Ok(None) | Err(_) => return verdict,
        }
        if verdict == Verdict::Refused {
            return verdict;
        }
    }
}

fn message<M: Serialize + DeserializeOwned>(body: &[u8], limit: usize) -> Verdict {
    let Ok(message) = frame::decode::<M>(body) else { return Verdict::Refused };
    let once = frame::encode(&message, limit).expect("what was read can be written");
    assert!(once.len() <= body.len() + PREFIX_BYTES, "it grew");
    let (body, used) = frame::split_first(&once, limit).expect("in bounds").expect("whole");
    assert_eq!(used, once.len());
    let again = frame::decode::<M>(body).expect("what was written can be read");
    assert_eq!(*frame::encode(&again, limit).expect("as before"), *once);
    Verdict::Accepted
}

/// Frames of a lane of `call.sock`, of both sides, with the heads in them.
pub fn call(input: &[u8]) -> Verdict {
    let mut stream = input;
    let mut verdict = Verdict::Refused;
    while let Some((header, rest)) = stream.split_first_chunk() {
        let Ok(FrameHeader { kind, length }) = FrameHeader::parse(*header) else {
            return Verdict::Refused;
        };
        assert_eq!(FrameHeader::bytes(kind, length), Ok(*header));
        let Some((payload, rest)) = rest.split_at_checked(length) else { return Verdict::Refused };
        verdict = match kind {
            FrameKind::Head => {
                let head = call::decode::<CallHead>(payload).ok();
                let headers = in_place::opening(payload).map(owned);
                assert_eq!(headers, head.map(|head| head.headers), "the courier reads others");
                self::head::<CallHead>(kind, payload)
            }
            FrameKind::Answer => head::<AnswerHead>(kind, payload),
            FrameKind::Abort => head::<Abort>(kind, payload),
            FrameKind::Body
            | FrameKind::BodyEnd
            | FrameKind::Cancel
            | FrameKind::Chunk
            | FrameKind::End => Verdict::Accepted,
        };
        if verdict == Verdict::Refused {
            return verdict;
        }
        stream = rest;
    }
    verdict
}

fn head<M: Serialize + DeserializeOwned>(kind: FrameKind, payload: &[u8]) -> Verdict {
    let Ok(message) = call::decode::<M>(payload) else { return Verdict::Refused };
    let once = call::encode(kind, &message).expect("what was read can be written");
    let (header, payload) = once.split_first_chunk().expect("a header");
    assert_eq!(FrameHeader::parse(*header), Ok(FrameHeader { kind, length: payload.len() }));
    let again = call::decode::<M>(payload).expect("what was written can be read");
    assert_eq!(call::encode(kind, &again).expect("as before"), once);
    Verdict::Accepted
}

fn owned(headers: Vec<(&str, &str)>) -> Vec<(String, String)> {
    headers.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// An API token. What passes is the one text that its number is written as.
pub fn token(input: &[u8]) -> Verdict {
    if let Some(random) = input.first_chunk::<TOKEN_RANDOM_BYTES>() {
        let written = write_token(random);
        written.expose(|text| {
            assert_eq!(text.len(), TOKEN_BYTES);
            assert!(check_token(text).is_ok());
            // One byte changed, at a place and to a value that the input chooses, is no token.
            if let [place, value, ..] = input[TOKEN_RANDOM_BYTES..] {
                let mut wrong = text.to_vec();
                let place = usize::from(place) % wrong.len();
                if wrong[place] != value {
                    wrong[place] = value;
                    assert!(check_token(&wrong).is_err());
                }
            }
        });
    }
    let read = check_token(input);
    if read.is_ok() {
        assert!(input.len() == TOKEN_BYTES && input.iter().all(u8::is_ascii_graphic));
    }
    Verdict::of(&read)
}

/// The vault's secret for sealed uploads here.
pub const UPLOAD_SECRET: [u8; 32] = [7; 32];

/// What uploads are bound to here.
pub fn upload_binding() -> UploadBinding {
    let destination = &definitions().expect("they are ours")[0].destination;
    UploadBinding {
        vault: [1; 16],
        upload: UploadId::from_random([2; 16]),
        tenant: TenantId::from_random([3; 16]),
        home: Home::Personal(UserId::from_random([4; 16])),
        act: UploadAct::Add,
        destination_digest: digest_destination(destination),
    }
}

/// A sealed upload. What opens is a key, and opens for nothing else.
pub fn upload(input: &[u8]) -> Verdict {
    let binding = upload_binding();
    let opened = open_upload(&UPLOAD_SECRET, &binding, input);
    if let Ok(key) = &opened {
        assert!(input.len() <= MAX_BLOB_BYTES);
        assert!(key.expose(|key| strongroom_protocol::upload::check_key(key).is_ok()));
        let act = UploadAct::Rotate(CredentialId::from_random([5; 16]));
        for other in [
            UploadBinding { act, ..binding.clone() },
            UploadBinding { upload: Id::from_random([9; 16]), ..binding.clone() },
            UploadBinding { destination_digest: [0; 32], ..binding },
        ] {
            assert_eq!(open_upload(&UPLOAD_SECRET, &other, input).err(), Some(UploadError::Blob));
        }
    }
    Verdict::of(&opened)
}
