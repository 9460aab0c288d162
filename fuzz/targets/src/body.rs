//! Request bodies, as gateway and courier read them for what they ask for.
//!
//! Claims: the same bytes give the same claims however they are cut; a JSON body that is accepted means the same to another
//! parser; a form's boundary is read from its `content-type` as written.

use serde_json::Value;
use strongroom_policy::claims::{Claims, Stream};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::ModelName;
use strongroom_policy::target::Target;
use strongroom_protocol::body::{BodyError, boundary_of, check_json_type, json, multipart};

use crate::Verdict;
use crate::cut::Cut;

/// Where bodies go: what the path says changes what they claim.
const PLACES: [(Dialect, &str, Option<&str>); 8] = [
    (Dialect::OpenAi, "/v1/chat/completions", None),
    (Dialect::OpenAi, "/v1/responses", None),
    (Dialect::OpenAi, "/v1/images/generations", None),
    (Dialect::Anthropic, "/v1/messages", None),
    (Dialect::Anthropic, "/v1/messages/batches", None),
    (Dialect::Gemini, "/v1beta/models/gemini-2:generateContent", Some("gemini-2")),
    (Dialect::Gemini, "/v1beta/models/gemini-2:streamGenerateContent", Some("gemini-2")),
    (Dialect::Xai, "/v1/chat/completions", None),
];

/// `place 1 ‖ cuts ‖ body`: a JSON body.
pub fn claims(input: &[u8]) -> Verdict {
    let Some((place, rest)) = input.split_first() else { return Verdict::Refused };
    let (dialect, path, model) = PLACES[usize::from(*place) % PLACES.len()];
    let model = model.map(|name| ModelName::parse(name).expect("a name"));
    let target = Target::parse(path).expect("a target");
    let cut = Cut::of(rest);
    let scanner = || json::Scanner::new(dialect, &target, model.clone());
    let whole = scan(scanner(), std::iter::once(cut.text));
    let pieces = scan(scanner(), cut.pieces());
    assert_eq!(whole.as_ref().map_err(without_place), pieces.as_ref().map_err(without_place));
    if let Ok(claims) = &whole {
        let read: Value = serde_json::from_slice(cut.text).expect("strict JSON is JSON");
        assert!(read.is_object());
        if dialect != Dialect::Gemini {
            agree(claims, &read);
        }
    }
    Verdict::of(&whole)
}

/// What another parser makes of an accepted body.
fn agree(claims: &Claims, read: &Value) {
    if let Some(model) = read.get("model") {
        assert_eq!(claims.model.as_ref().map(AsRef::as_ref), model.as_str());
    }
    let streams = read.get("stream").and_then(Value::as_bool) == Some(true);
    if streams {
        assert_eq!(claims.stream, Stream::Streamed);
    }
}

fn scan<'a>(
    mut scanner: json::Scanner,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<Claims, BodyError> {
    for piece in pieces {
        if let Err(error) = scanner.feed(piece) {
            // An error stays.
            assert_eq!(scanner.feed(b" ").as_ref(), Err(&error));
            return Err(error);
        }
    }
    scanner.finish()
}

/// Which of two flaws in one text is noticed, and where, depends on the cut; that one is noticed does not.
fn without_place(error: &BodyError) -> String {
    match error {
        BodyError::Json { .. } => "not JSON".to_owned(),
        other => other.to_string(),
    }
}

/// `content-type \n cuts ‖ body`: a form.
pub fn form(input: &[u8]) -> Verdict {
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return Verdict::Refused };
    let Ok(content_type) = std::str::from_utf8(&input[..end]) else { return Verdict::Refused };
    let is_json = check_json_type(content_type);
    let Ok(boundary) = boundary_of(content_type) else { return Verdict::of(&is_json) };
    assert!(is_json.is_err(), "read as two types");
    let again = format!("multipart/form-data; boundary=\"{}\"", boundary.as_str());
    assert_eq!(boundary_of(&again).as_ref(), Ok(&boundary));
    let cut = Cut::of(&input[end + 1..]);
    let whole = read_form(multipart::Scanner::new(&boundary), std::iter::once(cut.text));
    let pieces = read_form(multipart::Scanner::new(&boundary), cut.pieces());
    assert_eq!(whole, pieces);
    Verdict::of(&whole)
}

fn read_form<'a>(
    mut scanner: multipart::Scanner,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<Claims, BodyError> {
    for piece in pieces {
        if let Err(error) = scanner.feed(piece) {
            assert_eq!(scanner.feed(b"-").as_ref(), Err(&error));
            assert!(scanner.at_file().is_none(), "a broken form told its claims");
            return Err(error);
        }
    }
    let so_far = scanner.so_far().clone();
    let read = scanner.finish();
    if let Ok(claims) = &read {
        assert_eq!(*claims, so_far);
    }
    read
}
