use super::*;

const OPENAI_CHAT: &str = "data: {\"id\":\"c\",\"choices\":[{\"delta\":{\"content\":\"say \\\"usage\\\":{\\\"prompt_tokens\\\":1}\"}}],\"usage\":null}\n\n\
data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":10,\"total_tokens\":29,\
\"prompt_tokens_details\":{\"cached_tokens\":4,\"audio_tokens\":0},\"completion_tokens_details\":{\"reasoning_tokens\":3}}}\n\n\
data: [DONE]\n\n";

const RESPONSES: &str = "event: response.created\ndata: {\"type\":\"response.created\",\"sequence_number\":0,\"response\":{\"id\":\"r\",\"usage\":null}}\n\n\
event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"\\\"usage\\\"\"}\n\n\
event: response.completed\ndata: {\"type\":\"response.completed\",\"sequence_number\":9,\"response\":{\"id\":\"r\",\"output\":[{\"usage\":{\"input_tokens\":1}}],\
\"usage\":{\"input_tokens\":36,\"input_tokens_details\":{\"cached_tokens\":5},\"output_tokens\":87,\"output_tokens_details\":{\"reasoning_tokens\":7},\"total_tokens\":123},\"metadata\":{}}}\n\n";

const ANTHROPIC: &str = "event: message_start\r\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"content\":[],\"usage\":{\"input_tokens\":25,\
\"cache_creation_input_tokens\":7,\"cache_read_input_tokens\":100,\"cache_creation\":{\"ephemeral_5m_input_tokens\":7},\"output_tokens\":1}}}\r\n\r\n\
event: ping\r\ndata: {\"type\":\"ping\"}\r\n\r\n\
event: content_block_delta\r\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"\\\"message_stop\\\" \\\"usage\\\"\"}}\r\n\r\n\
event: message_delta\r\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":null},\"usage\":{\"output_tokens\":9}}\r\n\r\n\
event: message_delta\r\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":15}}\r\n\r\n\
event: message_stop\r\ndata: {\"type\":\"message_stop\"}\r\n\r\n";

const GEMINI_EVENTS: &str = "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"a\"}]}}],\"usageMetadata\":{\"promptTokenCount\":8,\"totalTokenCount\":8}}\n\n\
data: {\"candidates\":[{\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":8,\"candidatesTokenCount\":20,\"thoughtsTokenCount\":30,\
\"toolUsePromptTokenCount\":5,\"cachedContentTokenCount\":2,\"totalTokenCount\":63,\"promptTokensDetails\":[{\"modality\":\"TEXT\",\"tokenCount\":8}]}}\n\n";

const GEMINI_ARRAY: &str = "[{\n  \"candidates\": [{\"content\": {}}],\n  \"usageMetadata\": {\"promptTokenCount\": 8, \"candidatesTokenCount\": 1}\n}\n,\r\n\
{\n  \"candidates\": [],\n  \"usageMetadata\": {\n \"promptTokenCount\": 8,\n \"candidatesTokenCount\": 20,\n \"thoughtsTokenCount\": 30,\n \"toolUsePromptTokenCount\": 5,\n \"cachedContentTokenCount\": 2,\n \"totalTokenCount\": 63\n }\n}\n]";

const XAI: &str = "data: {\"object\":\"chat.completion.chunk\",\"choices\":[{\"delta\":{\"reasoning_content\":\"hm\"}}],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":0,\"total_tokens\":15,\"completion_tokens_details\":{\"reasoning_tokens\":5}}}\n\n\
data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":4,\"total_tokens\":114,\"prompt_tokens_details\":{\"text_tokens\":10,\"cached_tokens\":6},\
\"completion_tokens_details\":{\"reasoning_tokens\":100,\"audio_tokens\":0},\"num_sources_used\":0,\"cost_in_usd_ticks\":123456}}\n\n\
data: [DONE]\n\n";

const NONE: Usage = Usage {
    input: None,
    cached_input: None,
    cache_write: None,
    output: None,
    reasoning: None,
    total: None,
    cost_ticks: None,
    completeness: Completeness::Missing,
};

struct Stream {
    name: &'static str,
    dialect: Dialect,
    layout: Layout,
    text: &'static str,
    expected: Usage,
}

/// Input, cached input, output, reasoning, total.
fn exact([input, cached, output, reasoning, total]: [u64; 5]) -> Usage {
    Usage {
        input: Some(input),
        cached_input: Some(cached),
        output: Some(output),
        reasoning: Some(reasoning),
        total: Some(total),
        completeness: Completeness::Exact,
        ..NONE
    }
}

fn streams() -> [Stream; 6] {
    let stream = |name, dialect, text, expected| Stream {
        name,
        dialect,
        layout: Layout::Events,
        text,
        expected,
    };
    let anthropic =
        Usage { reasoning: None, total: None, cache_write: Some(7), ..exact([132, 100, 15, 0, 0]) };
    let gemini = exact([8, 2, 55, 30, 63]);
    let xai = Usage { cost_ticks: Some(123_456), ..exact([10, 6, 104, 100, 114]) };
    [
        stream("openai chat", Dialect::OpenAi, OPENAI_CHAT, exact([19, 4, 10, 3, 29])),
        stream("openai responses", Dialect::OpenAi, RESPONSES, exact([36, 5, 87, 7, 123])),
        stream("anthropic", Dialect::Anthropic, ANTHROPIC, anthropic),
        stream("gemini events", Dialect::Gemini, GEMINI_EVENTS, gemini),
        Stream {
            layout: Layout::Json,
            ..stream("gemini array", Dialect::Gemini, GEMINI_ARRAY, gemini)
        },
        stream("xai", Dialect::Xai, XAI, xai),
    ]
}

fn metered(dialect: Dialect, layout: Layout, pieces: &[&str], ending: Ending) -> Usage {
    let mut meter = Meter::new(dialect, layout);
    for piece in pieces {
        meter.see(piece.as_bytes());
    }
    meter.finish(ending)
}

#[test]
fn each_api_is_counted_whole_and_at_every_split() {
    for Stream { name, dialect, layout, text, expected } in streams() {
        assert_eq!(metered(dialect, layout, &[text], Ending::Whole), expected, "{name}");
        for cut in 0..text.len() {
            let pieces = [&text[..cut], &text[cut..]];
            assert_eq!(
                metered(dialect, layout, &pieces, Ending::Whole),
                expected,
                "{name} cut at {cut}"
            );
        }
        let single: Vec<&str> = text.split_inclusive(|_| true).collect();
        assert_eq!(
            metered(dialect, layout, &single, Ending::Whole),
            expected,
            "{name} byte by byte"
        );
    }
}

#[test]
fn a_cut_stream_is_never_exact() {
    for Stream { name, dialect, layout, text, .. } in streams() {
        for cut in 0..text.len() {
            let usage = metered(dialect, layout, &[&text[..cut]], Ending::Cut);
            assert_ne!(usage.completeness, Completeness::Exact, "{name} cut at {cut}");
        }
    }
}

#[test]
fn a_stream_without_its_end_mark_is_partial_even_when_the_connection_ended_well() {
    for (dialect, text) in
        [(Dialect::OpenAi, OPENAI_CHAT), (Dialect::Anthropic, ANTHROPIC), (Dialect::Xai, XAI)]
    {
        let marks = ["data: [DONE]", "event: message_stop"];
        let end = marks.iter().find_map(|mark| text.find(mark)).unwrap();
        let usage = metered(dialect, Layout::Events, &[&text[..end]], Ending::Whole);
        assert_eq!(usage.completeness, Completeness::Partial);
    }
}

#[test]
fn a_cut_anthropic_stream_keeps_its_input_and_the_last_output() {
    let cut = ANTHROPIC.find("\"stop_reason\":\"end_turn\"").unwrap();
    let usage = metered(Dialect::Anthropic, Layout::Events, &[&ANTHROPIC[..cut]], Ending::Cut);
    assert_eq!((usage.input, usage.output), (Some(132), Some(9)));
    assert_eq!(usage.completeness, Completeness::Partial);
}

#[test]
fn text_that_looks_like_usage_is_not_usage() {
    for text in [
        r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":1}","usage":{"prompt_tokens":2}}}]}"#,
        r#"{"metadata":{"usage":{"prompt_tokens":3}},"output":[{"response":{"usage":{"input_tokens":4}}}]}"#,
        r#"{"usage":[{"prompt_tokens":5}],"usage":"{\"prompt_tokens\":6}"}"#,
        r#"{"message":{"usage":{"prompt_tokens":7}},"\u0075sage":{"prompt_tokens":8}}"#,
        r#"[{"usage":{"prompt_tokens":9}}]"#,
        r#"{"usage":{"nested":{"prompt_tokens":10},"prompt_tokens":-1,"completion_tokens":1.5,"total_tokens":1e9}}"#,
        r#"{"usage":{"prompt_tokens":99999999999999999999999,"completion_tokens":"12"}}"#,
        r#""usage":{"prompt_tokens":11}"#,
        r#"{"us\"age":{"prompt_tokens":12},"usage":{"prompt\"_tokens":13}}"#,
    ] {
        let usage = metered(Dialect::OpenAi, Layout::Json, &[text], Ending::Whole);
        assert_eq!(usage.input, None, "{text}");
        assert_eq!(usage.output, None, "{text}");
    }
}

#[test]
fn numbers_below_the_usage_object_are_not_its_own() {
    let message = r#"{"usage":{"input_tokens":3,"cache_creation":{"input_tokens":9},"output_tokens":4,"x":[{"output_tokens":8}]}}"#;
    let usage = metered(Dialect::Anthropic, Layout::Json, &[message], Ending::Whole);
    assert_eq!((usage.input, usage.output), (Some(3), Some(4)));
    let answer = r#"{"usageMetadata":{"promptTokenCount":3,"promptTokensDetails":{"promptTokenCount":9}},"usage":{"promptTokenCount":8}}"#;
    let usage = metered(Dialect::Gemini, Layout::Json, &[answer], Ending::Whole);
    assert_eq!(usage.input, Some(3));
}

#[test]
fn plain_answers_are_counted() {
    let chat = r#"{"id":"c","choices":[{"message":{"content":"hi {[\"\\"}}],"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12},"service_tier":"default"}"#;
    let usage = metered(Dialect::OpenAi, Layout::Json, &[chat], Ending::Whole);
    assert_eq!(
        (usage.input, usage.output, usage.completeness),
        (Some(5), Some(7), Completeness::Exact)
    );
    let message = r#"{"type":"message","content":[{"type":"tool_use","input":{"usage":{"input_tokens":0}}}],"usage":{"input_tokens":3,"output_tokens":4}}"#;
    let usage = metered(Dialect::Anthropic, Layout::Json, &[message], Ending::Whole);
    assert_eq!((usage.input, usage.output), (Some(3), Some(4)));
    assert_eq!(metered(Dialect::OpenAi, Layout::Json, &["{\"error\":{}}"], Ending::Whole), NONE);
    assert_eq!(metered(Dialect::OpenAi, Layout::Opaque, &[chat], Ending::Whole), NONE);
}

#[test]
fn reasoning_inside_the_output_is_not_counted_twice_at_xai() {
    let text = r#"{"usage":{"input_tokens":10,"output_tokens":110,"total_tokens":120,"output_tokens_details":{"reasoning_tokens":100}}}"#;
    let usage = metered(Dialect::Xai, Layout::Json, &[text], Ending::Whole);
    assert_eq!((usage.output, usage.reasoning), (Some(110), Some(100)));
}

#[test]
fn a_terminal_event_of_megabytes_is_read_without_being_kept() {
    let head = "data: {\"type\":\"response.completed\",\"response\":{\"output\":\"";
    let filler = "a \\\"usage\\\" ".repeat(200_000);
    let tail = "\",\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n";
    let mut meter = Meter::new(Dialect::OpenAi, Layout::Events);
    meter.see(head.as_bytes());
    filler.as_bytes().chunks(997).for_each(|chunk| meter.see(chunk));
    meter.see(tail.as_bytes());
    let usage = meter.finish(Ending::Whole);
    assert_eq!(
        (usage.input, usage.output, usage.completeness),
        (Some(1), Some(2), Completeness::Exact)
    );
}

#[test]
fn a_text_over_several_data_lines_is_one_text() {
    let text = "data: {\"usage\":\ndata: {\"prompt_tokens\":3,\ndata: \"completion_tokens\":4}}\n\ndata: [DONE]\n\n";
    let usage = metered(Dialect::OpenAi, Layout::Events, &[text], Ending::Whole);
    assert_eq!(
        (usage.input, usage.output, usage.completeness),
        (Some(3), Some(4), Completeness::Exact)
    );
}

/// Found by fuzzing: lines that were skipped in one piece were read in many.
#[test]
fn a_malformed_stream_is_counted_alike_however_it_is_cut() {
    let counted = "data: {\"usage\":{\"prompt_tokens\":3,\"input_tokens\":3}}\n\n";
    for odd in [
        "data: {\"an\":\"unfinished text\n",
        "data: [[[\n",
        "data: {\"type\":\"response.completed\",\"x\":\n\n",
        "data: {\"us\ndata:age\":{\"prompt_tokens\":4}}\n\n",
        "data: {\"type\":\"message\ndata:_stop\"}\n\n",
        "data: x\n\rdata: {\"usage\":{\"prompt_tokens\":5}}\n\n",
        "\r\r\n\rx\r\n",
        ": a comment\ndata: {\"n\":1}\nevent: x\n",
    ] {
        let text = format!("{odd}{counted}{odd}");
        let single: Vec<&str> = text.split_inclusive(|_| true).collect();
        for dialect in Dialect::ALL {
            let whole = metered(dialect, Layout::Events, &[&text], Ending::Whole);
            let bytes = metered(dialect, Layout::Events, &single, Ending::Whole);
            assert_eq!(whole, bytes, "{odd:?} byte by byte");
            for cut in 0..text.len() {
                let pieces = [&text[..cut], &text[cut..]];
                let usage = metered(dialect, Layout::Events, &pieces, Ending::Whole);
                assert_eq!(usage, whole, "{odd:?} cut at {cut}");
            }
        }
    }
}

#[test]
fn an_unfinished_event_does_not_swallow_the_next() {
    let text = format!("data: {{\"broken\":[\"\n\n{OPENAI_CHAT}");
    let usage = metered(Dialect::OpenAi, Layout::Events, &[&text], Ending::Whole);
    assert_eq!(usage.input, Some(19));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "[\\[\\]{}\",:a-z0-9\\\\ \n-]{0,200}", layout in 0..2_usize) {
        let layout = [Layout::Events, Layout::Json][layout];
        for dialect in Dialect::ALL {
            let _usage = metered(dialect, layout, &["data: {\"usage\":{\"input_tokens\":", &text], Ending::Cut);
        }
    }
}
