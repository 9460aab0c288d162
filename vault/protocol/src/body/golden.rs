//! Tests: bodies that two parsers read differently, and bodies that real clients send.

use strongroom_policy::claims::{Claims, Extent, Feature, Stream};
use strongroom_policy::dialect::Dialect;
use strongroom_policy::name::ModelName;
use strongroom_policy::target::Target;

use super::json::Scanner;
use super::{BodyError, Boundary, boundary_of, multipart};

/// Scans in one piece.
pub(super) fn scan(dialect: Dialect, path: &str, body: &[u8]) -> Result<Claims, BodyError> {
    scan_cut(dialect, path, body, body.len().max(1))
}

/// Scans in chunks; the path's model, if any, is `gemini-2`.
pub(super) fn scan_cut(
    dialect: Dialect,
    path: &str,
    body: &[u8],
    chunk_bytes: usize,
) -> Result<Claims, BodyError> {
    let target = Target::parse(path).unwrap();
    let path_model = path.contains("gemini-2").then(|| ModelName::parse("gemini-2").unwrap());
    let mut scanner = Scanner::new(dialect, &target, path_model);
    for chunk in body.chunks(chunk_bytes) {
        scanner.feed(chunk)?;
    }
    scanner.finish()
}

fn chat(body: &str) -> Result<Claims, BodyError> {
    scan(Dialect::OpenAi, "/v1/chat/completions", body.as_bytes())
}

fn refusal(body: &[u8]) -> String {
    scan(Dialect::OpenAi, "/v1/chat/completions", body).unwrap_err().to_string()
}

fn claims_of(model: &str) -> Claims {
    Claims::of_no_body(Some(ModelName::parse(model).unwrap()))
}

/// Body, and what the refusal says of it.
const DIFFERENTIALS: &[(&[u8], &str)] = &[
    (br#"{"model":"a","Model":"b"}"#, "'Model' must be spelled 'model'"),
    (br#"{"model":"a","model":"b"}"#, "'model' is given twice"),
    (br#"{"model":"a","\u006dodel":"b"}"#, "'model' is given twice"),
    (br#"{"MODEL":"a"}"#, "'MODEL' must be spelled 'model'"),
    (br#"{"mo\u0064el":"a","mod-el":"b"}"#, "'mod-el' must be spelled 'model'"),
    (br#"{"maxTokens":5}"#, "'maxTokens' must be spelled 'max_tokens'"),
    ("{\"\u{17f}tream\":true}".as_bytes(), "'?tream' must be spelled 'stream'"),
    (br#"{"\u017ftore":true}"#, "'?tore' must be spelled 'store'"),
    ("{\"max_to\u{212a}ens\":9}".as_bytes(), "'max_to?ens' must be spelled 'max_tokens'"),
    ("{\"\u{ff4d}odel\":\"x\"}".as_bytes(), "'?odel' must be spelled 'model'"),
    ("{\"mod\u{200b}el\":\"x\"}".as_bytes(), "'mod?el' must be spelled 'model'"),
    (b"\xef\xbb\xbf{}", "a byte order mark"),
    (b"\xff\xfe{\0}\0", "an unexpected byte"),
    (b"\0{\0}", "an unexpected byte"),
    (b"{\0\"\0", "an unexpected byte"),
    (br#"{"n":NaN}"#, "an unexpected byte"),
    (br#"{"n":Infinity}"#, "an unexpected byte"),
    (br#"{"n":-Infinity}"#, "a number"),
    (br#"{"n":+1}"#, "an unexpected byte"),
    (br#"{"n":01}"#, "a number"),
    (br#"{"n":1.}"#, "a number"),
    (br#"{"n":.1}"#, "an unexpected byte"),
    (br#"{"n":1e}"#, "a number"),
    (br#"{"x":1e999}"#, "a number"),
    (br#"{"n":0x1}"#, "an unexpected byte"),
    (
        br#"{"x":11111111111111111111111111111111111111111111111111111111111111111}"#,
        "too many digits",
    ),
    (br#"{"model":"a"}{"model":"b"}"#, "text after the object"),
    (br#"{"model":"a"} x"#, "text after the object"),
    (b"{}\0", "text after the object"),
    (br#"[{"model":"a"}]"#, "must be one object"),
    (br#""model""#, "must be one object"),
    (b"", "ends too early"),
    (b"  ", "ends too early"),
    (br#"{"model":"a""#, "ends too early"),
    (br#"{"model":"a",}"#, "an unexpected byte"),
    (br#"{"a":[1,]}"#, "an unexpected byte"),
    (br#"{"a":[1 2]}"#, "an unexpected byte"),
    (br#"{"a":[1}"#, "an unexpected byte"),
    (br"{,}", "an unexpected byte"),
    (br#"{"a" "b"}"#, "an unexpected byte"),
    (br#"{model:"a"}"#, "an unexpected byte"),
    (br"{'model':'a'}", "an unexpected byte"),
    (b"{/**/}", "an unexpected byte"),
    (b"{}//", "text after the object"),
    (br#"{"a":tru}"#, "an unexpected byte"),
    (br#"{"a":True}"#, "an unexpected byte"),
    (br#"{"a":nullx}"#, "an unexpected byte"),
    (b"{\"a\":\"\n\"}", "a control character"),
    (b"{\"a\":\"\n\n\"}", "a control character"),
    (b"{\"a\":\"\t\"}", "a control character"),
    (b"{\"a\":\"\0\"}", "a control character"),
    (br#"{"a":"\x41"}"#, "an escape"),
    (br#"{"a":"\u00g0"}"#, "an escape"),
    (br#"{"a":"\u{41}"}"#, "an escape"),
    (br#"{"a":"\ud800"}"#, "an unpaired surrogate"),
    (br#"{"a":"\udc00"}"#, "an unpaired surrogate"),
    (br#"{"a":"\ud800\ud800"}"#, "an unpaired surrogate"),
    (br#"{"a":"\ud800x"}"#, "an unpaired surrogate"),
    (br#"{"metadata":"\ud83dxude00"}"#, "an unpaired surrogate"),
    (br#"{"a":"\ud83d\n"}"#, "an unpaired surrogate"),
    (b"{\"a\":\"\xc0\xaf\"}", "not UTF-8"),
    (b"{\"a\":\"\xed\xa0\x80\"}", "not UTF-8"),
    (b"{\"a\":\"\xf4\x90\x80\x80\"}", "not UTF-8"),
    (b"{\"a\":\"\xe2\x82\"}", "not UTF-8"),
    (b"{\"a\":\"\x80\"}", "not UTF-8"),
    (b"{\"model\":\"a\",\xa0\"b\":1}", "an unexpected byte"),
    (br#"{"model\u0000":"a"}"#, "U+0000"),
    (br#"{"metadata":{"a\u0000b":"a"}}"#, "U+0000"),
    (br#"{"model":["a","b"]}"#, "'model' must be a model's name"),
    (br#"{"model":{"id":"a"}}"#, "'model' must be a model's name"),
    (br#"{"model":1}"#, "'model' must be a model's name"),
    (br#"{"model":null}"#, "'model' must be a model's name"),
    (br#"{"model":""}"#, "'model' must be a model's name"),
    (br#"{"model":"a b"}"#, "'model' must be a model's name"),
    (br#"{"model":"a\u0000"}"#, "'model' must be a model's name"),
    (br#"{"model":"a","models":["b"]}"#, "one call names one model"),
    (br#"{"stream":"true"}"#, "'stream' must be true or false"),
    (br#"{"stream":1}"#, "'stream' must be true or false"),
    (br#"{"n":"9"}"#, "'n' must be a whole number"),
    (br#"{"n":1.5}"#, "'n' must be a whole number"),
    (br#"{"n":-1}"#, "'n' must be a whole number"),
    (br#"{"n":1e1}"#, "'n' must be a whole number"),
    (br#"{"n":[9]}"#, "'n' must be a whole number"),
    (br#"{"max_tokens":99999999999999999999}"#, "'max_tokens' must be a whole number"),
    (br#"{"store":"true"}"#, "'store' must be true or false"),
    (br#"{"background":"true"}"#, "'background' must be true or false"),
    (br#"{"service_tier":["priority"]}"#, "'service_tier' must be a string"),
    (br#"{"tools":[{"type":"function","type":"mcp"}]}"#, "'type' is given twice"),
    (br#"{"tools":[{"type":"function","Type":"mcp"}]}"#, "'Type' must be spelled 'type'"),
    (br#"{"tools":[{"type":["mcp"]}]}"#, "'type' must be a string"),
    (br#"{"tools":[],"tools":[{"type":"mcp"}]}"#, "'tools' is given twice"),
    (br#"{"messages":[],"messages":[]}"#, "'messages' is given twice"),
    (br#"{"messages":[{"content":"a","content":[{"file_id":"x"}]}]}"#, "'content' is given twice"),
    (br#"{"messages":[{"content":[{"fileId":"x"}]}]}"#, "'fileId' must be spelled 'file_id'"),
    (br#"{"input":[],"Input":[]}"#, "'Input' must be spelled 'input'"),
];

#[test]
fn bodies_that_parsers_read_differently_are_refused() {
    for (body, says) in DIFFERENTIALS {
        let shown = String::from_utf8_lossy(body);
        let refused = refusal(body);
        assert!(refused.contains(says), "{shown}: {refused}");
        for chunk_bytes in [1, 2, 3, 7] {
            let cut = scan_cut(Dialect::OpenAi, "/v1/chat/completions", body, chunk_bytes);
            assert!(cut.unwrap_err().to_string().contains(says), "{shown}");
        }
    }
}

#[test]
fn depth_is_bounded() {
    let nested = |depth: usize| {
        let deep = depth - 1;
        format!("{{\"metadata\":{}{}}}", "[".repeat(deep), "]".repeat(deep))
    };
    assert!(chat(&nested(64)).is_ok());
    assert!(chat(&nested(65)).unwrap_err().to_string().contains("nesting deeper than 64"));
    let reached = format!("{{\"messages\":{}", "[{\"content\":".repeat(40));
    assert!(refusal(reached.as_bytes()).contains("nesting"));
}

#[test]
fn a_long_name_is_refused_where_names_matter_and_passed_where_they_do_not() {
    let long = "x".repeat(129);
    assert_eq!(chat(&format!("{{\"{long}\":1}}")), Err(BodyError::LongName));
    assert_eq!(chat(&format!("{{\"{}\":1}}", "x".repeat(9000))), Err(BodyError::LongName));
    assert!(chat(&format!("{{\"metadata\":{{\"{long}{long}{long}\":1}}}}")).is_ok());
}

#[test]
fn an_error_repeats_at_most_64_visible_bytes_of_a_name() {
    let body = format!("{{\"model{}\\u200b\":1}}", "_".repeat(90));
    let text = refusal(body.as_bytes());
    assert!(text.len() < 120 && text.is_ascii(), "{text}");
}

#[test]
fn after_an_error_the_scanner_stays_failed() {
    let target = Target::parse("/v1/chat/completions").unwrap();
    let mut scanner = Scanner::new(Dialect::OpenAi, &target, None);
    let first = scanner.feed(b"{,").unwrap_err();
    assert_eq!(scanner.feed(b"}"), Err(first.clone()));
    assert_eq!(scanner.finish(), Err(first));
}

#[test]
fn a_plain_body_claims_little() {
    let body = "\n { \"model\" : \"gpt-4o\" , \"messages\" : [ { \"role\" : \"user\", \"content\" : \"\\ud83d\\ude00 http://x\" } ] ,\
                \"max_tokens\":16, \"max_completion_tokens\": 32.0, \"stream\":true, \"n\":1 }\r\n";
    let claims = chat(body).unwrap();
    let expected = Claims { max_output: Some(32), stream: Stream::Streamed, ..claims_of("gpt-4o") };
    assert_eq!(claims, expected);
}

/// Null is the same as no value, and every escape of JSON is one.
#[test]
fn what_any_parser_takes_for_nothing_special_is_taken() {
    let body =
        r#"{"model":"m","models":null,"stream":null,"n":null,"user":"\"\\\/\b\f\n\r\t\u0041"}"#;
    for chunk_bytes in 1..9 {
        let read = scan_cut(Dialect::OpenAi, "/v1/chat/completions", body.as_bytes(), chunk_bytes);
        assert_eq!(read, Ok(claims_of("m")), "{chunk_bytes}");
    }
}

#[test]
fn an_error_says_at_which_byte_wherever_the_body_is_cut() {
    for chunk_bytes in 1..9 {
        let path = "/v1/chat/completions";
        let place = |body: &[u8]| scan_cut(Dialect::OpenAi, path, body, chunk_bytes).unwrap_err();
        assert!(place(b"{\"model\":\"m\",]").to_string().contains("at byte 14:"));
        assert!(place(b"{\"model\":\"m\"").to_string().contains("at byte 12:"));
    }
}

#[test]
fn text_of_the_user_is_never_looked_into() {
    let body = r#"{"model":"m","messages":[
        {"role":"user","name":"n","content":"{\"model\":\"x\",\"tools\":[{\"type\":\"mcp\"}]} https://x"},
        {"role":"assistant","tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"file_id\":1}"}}]}],
      "tools":[{"type":"function","function":{"name":"f","description":"fetch https://x","parameters":{"type":"object",
        "properties":{"file_id":{"type":"string"},"model":{"type":"string"},"Model":{"enum":["mcp"]},"server_url":{"type":"mcp"},
        "image_url":{"type":"string","default":"https://x"}}}}},
        {"type":"function","name":"g","parameters":{"properties":{"container":{},"Type":1,"type":2}},"strict":true}],
      "response_format":{"type":"json_schema","json_schema":{"schema":{"properties":{"file_id":{},"File_Id":{}}}}},
      "metadata":{"model":"x","Model":"y","file_id":"z"},"user":"https://x","stop":["https://x"],"tool_choice":{"type":"function"}}"#;
    assert_eq!(chat(body), Ok(claims_of("m")));
}

#[test]
fn a_body_as_claude_code_sends_it_is_plain() {
    let image = "iVBORw0KGgo".repeat(9000);
    let body = format!(
        r#"{{"model":"claude-opus-4-5","max_tokens":32000,"stream":true,"metadata":{{"user_id":"u_1"}},
        "system":[{{"type":"text","text":"You are\nhttps://x","cache_control":{{"type":"ephemeral","ttl":"1h"}}}}],
        "thinking":{{"type":"enabled","budget_tokens":31999}},"context_management":{{"edits":[{{"type":"clear_thinking_20251015"}}]}},
        "tools":[{{"name":"Bash","description":"run","input_schema":{{"type":"object","properties":{{"url":{{"type":"string"}},
          "type":{{"type":"string"}}}}}},"cache_control":{{"type":"ephemeral"}}}},{{"name":"WebFetch","input_schema":{{}}}},
          {{"type":"custom","name":"x","input_schema":{{}}}},{{"type":"text_editor_20250728","name":"str_replace_based_edit_tool"}},
          {{"type":"bash_20250124","name":"bash"}},{{"type":null,"name":"y","input_schema":{{}}}}],
        "messages":[{{"role":"user","content":"hi"}},
          {{"role":"assistant","content":[{{"type":"thinking","thinking":"…","signature":"EqQB"}},
            {{"type":"tool_use","id":"t1","name":"Bash","input":{{"file_id":"x","source":{{"type":"url"}},"content":1,"Content":2}}}}]}},
          {{"role":"user","content":[{{"type":"tool_result","tool_use_id":"t1","content":[
            {{"type":"text","text":"see https://y"}},
            {{"type":"image","source":{{"type":"base64","media_type":"image/png","data":"{image}"}}}}]}},
            {{"type":"search_result","source":"https://label","title":"t","content":[{{"type":"text","text":"x"}}]}}]}}]}}"#
    );
    let claims = scan(Dialect::Anthropic, "/v1/messages?beta=true", body.as_bytes()).unwrap();
    let expected = Claims {
        max_output: Some(32000),
        stream: Stream::Streamed,
        extent: Extent::Media,
        ..claims_of("claude-opus-4-5")
    };
    assert_eq!(claims, expected);
}

#[test]
fn a_body_as_codex_sends_it_is_plain() {
    let body = r#"{"model":"gpt-5-codex","instructions":"You are","input":[
        {"type":"message","role":"developer","content":[{"type":"input_text","text":"<permissions>"}]},
        {"type":"message","role":"user","content":[{"type":"input_text","text":"hi"},
          {"type":"input_image","image_url":"data:image/png;base64,AAAA"}]},
        {"type":"reasoning","summary":[],"content":null,"encrypted_content":"gAAA"},
        {"type":"function_call","name":"shell","arguments":"{\"url\":\"https://x\"}","call_id":"c1"},
        {"type":"function_call_output","call_id":"c1","output":"https://x"}],
      "tools":[{"type":"function","name":"shell","strict":false,"parameters":{}},{"type":"custom","name":"apply_patch",
        "format":{"type":"grammar"}},{"type":"local_shell"}],"tool_choice":"auto","parallel_tool_calls":false,
      "reasoning":{"effort":"medium","summary":"auto"},"store":false,"stream":true,"include":["reasoning.encrypted_content"],
      "prompt_cache_key":"k","text":{"verbosity":"medium"}}"#;
    let claims = scan(Dialect::OpenAi, "/v1/responses", body.as_bytes()).unwrap();
    let expected =
        Claims { stream: Stream::Streamed, extent: Extent::Media, ..claims_of("gpt-5-codex") };
    assert_eq!(claims, expected);
}

/// A form is sent for the files in it.
fn form_claims_of(model: &str) -> Claims {
    Claims { extent: Extent::Media, ..claims_of(model) }
}

fn form(text: &str) -> Result<Claims, BodyError> {
    form_cut(text.replace('\n', "\r\n").as_bytes(), usize::MAX)
}

fn boundary() -> Boundary {
    boundary_of("multipart/form-data; boundary=--ab--abc").unwrap()
}

pub(super) fn form_cut(body: &[u8], chunk_bytes: usize) -> Result<Claims, BodyError> {
    let mut scanner = multipart::Scanner::new(&boundary());
    for chunk in body.chunks(chunk_bytes) {
        scanner.feed(chunk)?;
    }
    scanner.finish()
}

const MODEL: &str = "----ab--abc\nContent-Disposition: form-data; name=\"model\"\n\nwhisper-1\n";
const STREAM: &str = "----ab--abc\nContent-Disposition: form-data; name=\"stream\"\n\ntrue\n";
const FILE: &str = "----ab--abc\nContent-Disposition: form-data; name=\"file\"; filename=\"a.mp3\"\n\
                    Content-Type: audio/mpeg\n\n----ab--ab\n-----ab--\n\n";
const END: &str = "----ab--abc--\n";

#[test]
fn a_form_is_read_however_it_is_cut() {
    let body = format!("{MODEL}{STREAM}{FILE}{END}").replace('\n', "\r\n");
    let expected = Claims { stream: Stream::Streamed, ..form_claims_of("whisper-1") };
    for chunk_bytes in 1..body.len() {
        assert_eq!(form_cut(body.as_bytes(), chunk_bytes).as_ref(), Ok(&expected), "{chunk_bytes}");
    }
    assert_eq!(
        form(&format!("{FILE}{END}")),
        Ok(Claims { extent: Extent::Media, ..Claims::of_no_body(None) })
    );
    assert_eq!(form(&format!("{MODEL}----ab--abc--")), Ok(form_claims_of("whisper-1")));
    assert_eq!(form(&format!("{FILE}{STREAM}{MODEL}{END}")), Ok(expected));
}

#[test]
fn the_claims_so_far_are_told_from_the_first_file_on() {
    let mut scanner = multipart::Scanner::new(&boundary());
    scanner.feed(MODEL.replace('\n', "\r\n").as_bytes()).unwrap();
    assert_eq!(scanner.at_file(), None);
    scanner.feed(FILE.replace('\n', "\r\n").as_bytes()).unwrap();
    assert_eq!(scanner.at_file(), Some(&form_claims_of("whisper-1")));
}

#[test]
fn forms_that_parsers_read_differently_are_refused() {
    let smuggled = FILE.replace("-----ab--\n", "\r----ab--abc\n");
    let upload = MODEL.replace("\"model\"", "\"model\"; filename=\"x\"");
    let typed = MODEL.replace("\n\n", "\nContent-Type: application/json\n\n");
    let long = MODEL.replace("whisper-1", &"w".repeat(201));
    let hidden = MODEL.replace("whisper-1", &format!("{}\nwhisper-1", "w".repeat(200)));
    let folded = MODEL.replace("\"model\"", "\"Model\"");
    let twice = STREAM.replace("true", "TRUE");
    for (bad, says) in [
        (format!("{FILE}{MODEL}{FILE}{MODEL}{END}"), "given twice"),
        (format!("{upload}{END}"), "'model' must be a plain part"),
        (format!("{FILE}{typed}{END}"), "'model' must be a plain part"),
        (format!("{MODEL}{MODEL}{END}"), "given twice"),
        (format!("{MODEL}{folded}{END}"), "must be spelled"),
        (format!("{long}{END}"), "'model' is not valid"),
        (format!("{hidden}{END}"), "'model' is not valid"),
        (format!("{twice}{END}"), "'stream' is not valid"),
        (format!("\n{MODEL}{END}"), "must begin with the boundary"),
        (format!("x\n{MODEL}{END}"), "must begin with the boundary"),
        (format!("{MODEL}{END}x"), "after the last boundary"),
        (format!("{MODEL}{END}\n"), "after the last boundary"),
        (format!("{MODEL}{END}{MODEL}{END}"), "after the last boundary"),
        (MODEL.to_owned(), "ends before"),
        (String::new(), "ends before"),
        (format!("{MODEL}----ab--abcd\n{END}"), "line of its own"),
        (format!("{MODEL}----ab--abc \n{END}"), "line of its own"),
        (format!("{smuggled}{END}"), "line of its own"),
        (format!("{}{END}", MODEL.replace("whisper-1", "x----ab--abc")), "line of its own"),
        (format!("----ab--abc\n\n{END}"), "exactly one"),
        (format!("----ab--abc\nX: {}\n\n{END}", "x".repeat(2000)), "too long"),
    ] {
        let refused = form(&bad).unwrap_err().to_string();
        assert!(refused.contains(says), "{bad:?}: {refused}");
    }
    let bare_lf = format!("{MODEL}{END}");
    assert!(form_cut(bare_lf.as_bytes(), 9).is_err());
}

/// Some clients say of a value that it is text, and write a choice that is the usual one.
#[test]
fn a_part_that_says_it_is_plain_text_is_one() {
    for media in ["text/plain", "Text/Plain; charset=UTF-8"] {
        let typed = MODEL.replace("\n\n", &format!("\nContent-Type: {media}\n\n"));
        let whole = STREAM.replace("true", "false");
        let claims = form(&format!("{typed}{whole}{END}"));
        assert_eq!(claims, Ok(form_claims_of("whisper-1")), "{media}");
    }
    for media in ["text/plain; charset=utf-16", "text/html", ""] {
        let typed = MODEL.replace("\n\n", &format!("\nContent-Type: {media}\n\n"));
        assert!(form(&format!("{typed}{END}")).is_err(), "{media}");
    }
}

#[test]
fn a_form_claims_answers_and_addresses() {
    let part = |name: &str, value: &str| {
        format!("----ab--abc\nContent-Disposition: form-data; name=\"{name}\"\n\n{value}\n")
    };
    let claims = form(&format!("{}{MODEL}{FILE}{END}", part("n", "3"))).unwrap();
    assert_eq!((claims.answers, claims.features.has(Feature::ManyAnswers)), (3, true));
    for few in ["0", "1"] {
        let claims = form(&format!("{}{MODEL}{END}", part("n", few)));
        assert_eq!(claims, Ok(form_claims_of("whisper-1")), "{few}");
    }
    let inline = part("input_reference[image_url]", "data:image/png;base64,AAAA");
    assert_eq!(form(&format!("{inline}{MODEL}{END}")), Ok(form_claims_of("whisper-1")));
    let address = part("input_reference[image_url]", "https://x");
    assert!(form(&format!("{address}{END}")).unwrap().features.has(Feature::RemoteUrls));
    let id = part("input_reference[file_id]", "file-1");
    assert!(form(&format!("{id}{END}")).unwrap().features.has(Feature::ObjectReferences));
}
