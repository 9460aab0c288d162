//! Heads and bodies over HTTP, echoes of a key, URLs.

use crate::Seed;

const CUTS: &[&[u8]] = &[&[0], &[1, 1], &[3, 7, 0, 31]];

const HEADS: &[&str] = &[
    "POST /openai/v1/chat/completions HTTP/1.1\r\nHost: localhost:8443\r\nAuthorization: Bearer sr_00000000000000000000000000000000000000000002CZclj\r\nContent-Type: application/json\r\nContent-Length: 2\r\nUser-Agent: OpenAI/Python 1.0\r\nX-Stainless-Lang: python\r\n\r\n{}",
    "POST /anthropic/v1/messages?beta=true HTTP/1.1\r\nhost: a\r\nx-api-key: sr_00000000000000000000000000000000000000000002CZclj\r\nanthropic-beta: a-1, b-2\r\nanthropic-version: 2023-06-01\r\ntransfer-encoding: Chunked\r\nExpect: 100-continue\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "GET https://a/google/v1beta/models?key=sr_00000000000000000000000000000000000000000002CZclj&alt=sse HTTP/1.1\r\nhost: a\r\nconnection: x, close\r\n\r\n",
    "POST /openai/v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\nContent-Length: 2\r\n\r\n{}",
    "POST /openai/v1/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n{}",
    "POST /openai/v1/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
    "GET /p/demo-openai/v1/models HTTP/1.0\r\nHost: a\r\nX-Strongroom-Credential: team key\r\ncontent-length: 0\r\n\r\n",
];

const CHUNKED: &[&str] = &[
    "5\r\nhello\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\nA\r\n0123456789\r\n0\r\ntrailer: x\r\n\r\nnext",
    "000f;x\r\n0123456789abcde\r\n1\r\n\n\r\n0\r\n\r\n",
];

const ANSWERS: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\nX-Request-Id: req_1\r\nX-RateLimit-Remaining-Tokens: 9\r\nSet-Cookie: a=b\r\nOpenAI-Processing-MS: 12\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 5\r\ncontent-type: application/json\r\nconnection: keep-alive\r\nx-goog-upload-url: https://api.example.com/u?x=1\r\n\r\nhello",
    "HTTP/1.0 302 Found\r\nLocation: https://api.example.com/v1/x\r\nretry-after: 1\r\n\r\n",
    "HTTP/1.1 204 No Content\r\netag: \"x\"\r\n\r\n",
];

const URLS: &[&str] = &[
    "https://api.example.com/v1/x?a=b&key=sk-1#part",
    "/v1/x",
    "https://api.example.com:8443/base/v1/x",
    "HTTPS://API.example.com",
];

const BODIES: &[&str] = &[
    "{\"results_url\" : \"https://api.example.com/v1/r\",\"t\":\"\\\"results_url\\\":\"}",
    "{\"downloadUri\":\"https:\\/\\/api.example.com\\/f\",\"results_url\":null}",
];

pub(crate) fn all() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for cuts in CUTS {
        seeds.extend(HEADS.iter().map(|head| ("head", [*cuts, head.as_bytes()].concat())));
        let chunked =
            CHUNKED.iter().map(|body| ("framing", [&[3], *cuts, body.as_bytes()].concat()));
        seeds.extend(chunked);
        seeds.push(("framing", [&[2], *cuts, b"four"].concat()));
        seeds.push(("framing", [&[1], *cuts, b"until the end"].concat()));
        seeds.push(("framing", [&[0], *cuts].concat()));
        let answers =
            ANSWERS.iter().map(|head| ("answer", [&[0], *cuts, head.as_bytes()].concat()));
        seeds.extend(answers);
        seeds.extend(urls(cuts));
        seeds.extend(echoes(cuts));
    }
    seeds.extend(structured());
    seeds
}

fn urls(cuts: &[u8]) -> Vec<Seed> {
    let headers = (0..8_u8).step_by(2).flat_map(|kind| URLS.iter().map(move |url| (kind, *url)));
    let bodies = (1..8_u8).step_by(2).flat_map(|kind| BODIES.iter().map(move |body| (kind, *body)));
    headers
        .chain(bodies)
        .map(|(kind, text)| [&[kind], cuts, text.as_bytes()].concat())
        .filter(|input| {
            strongroom_fuzz::providers::url(input) == strongroom_fuzz::Verdict::Accepted
        })
        .map(|input| ("url", input))
        .collect()
}

/// Each form of two keys, whole and cut short.
fn echoes(cuts: &[u8]) -> Vec<Seed> {
    let mut seeds = Vec::new();
    // Behind more letters than are held back: the key's start is released before its end is there.
    for before in [200, 250, 300, 700] {
        let key = b"sk-proj-Zq8vT1xR4w7YbnL2";
        let text = [&vec![b'A'; before][..], key, &vec![b'B'; 400]].concat();
        let length = u8::try_from(key.len()).unwrap();
        seeds.push(("scrubber", [&[length], &key[..], cuts, &text].concat()));
    }
    for key in [
        &b"sk-proj-Zq8+vT/1x_R4w.7Yb=nL2"[..],
        b"pass \"phrase\" <x>/= & 'more'",
        b"abababababababababab",
    ] {
        for form in (0..24_u8).step_by(3) {
            let text = [
                b"data: {\"error\":\"bad key \xff".as_slice(),
                &[form, 255],
                b", sorry\xff",
                &[form, 9],
                b"\"}\n\n",
            ]
            .concat();
            let length = u8::try_from(key.len()).unwrap();
            seeds.push(("scrubber", [&[length], key, cuts, &text].concat()));
        }
    }
    seeds
}

/// Inputs that are taken apart by `arbitrary`: found by trying, since its coding is its own.
fn structured() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, run, length) in [
        ("sent", strongroom_fuzz::providers::sent as fn(&[u8]) -> strongroom_fuzz::Verdict, 48),
        ("refusal", strongroom_fuzz::callers::refusal, 64),
    ] {
        let mut state = 1_u32;
        let mut found = 0;
        for _ in 0..20_000 {
            let input: Vec<u8> = std::iter::repeat_with(|| next(&mut state)).take(length).collect();
            if found < 12 && run(&input) == strongroom_fuzz::Verdict::Accepted {
                found += 1;
                seeds.push((name, input));
            }
        }
    }
    seeds
}

/// Numerical Recipes' generator; half of its bytes are text.
fn next(state: &mut u32) -> u8 {
    *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let [_, _, low, high] = state.to_le_bytes();
    if high.is_multiple_of(2) { b'a' + low % 26 } else { low }
}
