//! Tests: the scanner against an independent parser, and against itself on every cut.

use proptest::prelude::*;
use serde_json::Value;
use strongroom_policy::dialect::Dialect;

use super::golden::{scan, scan_cut};
use super::name::is_alike;
use super::tree::Shape;
use super::{anthropic, gemini, openai};

const DIALECTS: [Dialect; 3] = [Dialect::OpenAi, Dialect::Anthropic, Dialect::Gemini];
const PATH: &str = "/v1/chat/completions";

/// Names and words of which bodies are made, near misses among them.
const WORDS: [&str; 24] = [
    "model",
    "Model",
    "stream",
    "tools",
    "type",
    "messages",
    "content",
    "input",
    "requests",
    "params",
    "n",
    "image_url",
    "url",
    "https://x",
    "data:x",
    "function",
    "mcp",
    "file_id",
    "fileData",
    "fileUri",
    "m\u{e4}",
    "\u{1f600}\"\\/\n",
    "store",
    "source",
];

fn word() -> impl Strategy<Value = String> {
    prop_oneof![prop::sample::select(&WORDS[..]).prop_map(str::to_owned), "\\PC{0,12}"]
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word().prop_map(Value::String),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((word(), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn body() -> impl Strategy<Value = String> {
    let model = prop::option::of("[a-z0-9]{1,9}".prop_map(Value::String));
    (prop::collection::vec((word(), value()), 0..5), model).prop_map(|(pairs, model)| {
        let named = model.map(|model| ("model".to_owned(), model));
        Value::Object(pairs.into_iter().chain(named).collect()).to_string()
    })
}

/// A body with some bytes replaced, cut out or put in.
fn broken_body() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), edit()), 0..4);
    (body(), edits).prop_map(|(body, edits)| {
        let mut bytes = body.into_bytes();
        for (at, edit) in edits {
            let at = at.index(bytes.len().max(1)).min(bytes.len());
            bytes.splice(at..at.saturating_add(1).min(bytes.len()), edit);
        }
        bytes
    })
}

fn edit() -> impl Strategy<Value = Vec<u8>> {
    let pieces: [&[u8]; 20] = [
        b"", b"\"", b"\\", b"\\u", b"\\ud83d", b"{", b"}", b"[", b"]", b",", b":", b"1e9", b"-",
        b"0", b".", b"\xc3", b"\x80", b" ", b"\0", b"null",
    ];
    prop::sample::select(pieces.to_vec()).prop_map(<[u8]>::to_vec)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_another_parser_reads_the_same(bytes in broken_body()) {
        if let Ok(claims) = scan(Dialect::OpenAi, PATH, &bytes) {
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            let model = claims.model.map(String::from);
            prop_assert_eq!(model.as_deref(), value.get("model").and_then(Value::as_str));
            let stream = value.get("stream").and_then(Value::as_bool).unwrap_or(false);
            prop_assert_eq!(claims.stream == strongroom_policy::claims::Stream::Streamed, stream);
        }
    }

    #[test]
    fn what_another_parser_reads_is_refused_for_its_meaning_alone(body in body()) {
        for dialect in DIALECTS {
            let read = scan(dialect, PATH, body.as_bytes());
            prop_assert!(!matches!(read, Err(super::BodyError::Json { .. })), "{}: {:?}", body, read);
        }
    }

    #[test]
    fn the_cut_does_not_matter(bytes in broken_body(), chunk_bytes in 1_usize..9) {
        for dialect in DIALECTS {
            let whole = scan(dialect, PATH, &bytes);
            let cut = scan_cut(dialect, PATH, &bytes, chunk_bytes);
            prop_assert_eq!(
                whole.map_err(|e| without_place(&e)),
                cut.map_err(|e| without_place(&e))
            );
        }
    }

    #[test]
    fn random_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(scan(Dialect::Gemini, PATH, &bytes));
        drop(super::golden::form_cut(&bytes, 7));
    }
}

/// Where in a run of text a flaw is noticed depends on the cut, that it is noticed does not.
fn without_place(error: &super::BodyError) -> String {
    if let super::BodyError::Json { .. } = error {
        "not JSON".to_owned()
    } else {
        error.to_string()
    }
}

#[test]
fn tables_are_small_and_free_of_collisions() {
    let mut todo = vec![&openai::BODY, &anthropic::BODY, &gemini::BODY];
    let mut done: Vec<*const Shape> = Vec::new();
    while let Some(shape) = todo.pop() {
        if done.contains(&std::ptr::from_ref(shape)) {
            continue;
        }
        done.push(shape);
        assert!(shape.members.len() <= 64);
        let names = || shape.members.iter().map(|member| member.name);
        for (at, name) in names().enumerate() {
            assert!(names().skip(at + 1).all(|other| !is_alike(name, other)), "{name}");
            assert!(!shape.harmless.iter().any(|other| is_alike(name, other)), "{name}");
        }
        for lacking in shape.lacking {
            assert!(lacking.without.iter().all(|name| shape.bit(name) != 0));
        }
        todo.extend(shape.members.iter().filter_map(|member| member.inside));
        todo.extend(shape.rest.inside);
    }
    assert!(done.len() > 20);
}
