use super::*;

const KEY: &[u8] = b"sk-test-0123456789abcdef";

fn request<'a>(injection: &'a Injection, headers: &'a [(&'a str, Cow<'a, [u8]>)]) -> Request<'a> {
    Request {
        method: "POST",
        target: "/v1/messages?beta=true",
        host: "api.example.com",
        port: 443,
        injection,
        secret: KEY,
        fixed: &[],
        headers,
        subject: b"subject",
        body: BodyLength::Known(12),
    }
}

fn header<'a>(name: &'a str, value: &'a str) -> (&'a str, Cow<'a, [u8]>) {
    (name, Cow::Borrowed(value.as_bytes()))
}

fn written(request: &Request<'_>) -> String {
    String::from_utf8(write_head(request).unwrap().to_vec()).unwrap()
}

#[test]
fn the_head_is_what_it_is_to_the_byte() {
    let headers = [
        header("Content-Type", "application/json"),
        header("authorization", "Bearer sr_caller"),
        header("X-Api-Key", "sr_caller"),
        header("anthropic-beta", "a"),
        header("connection", "close"),
        header("anthropic-beta", "b"),
        header("accept-encoding", "gzip"),
    ];
    let fixed = [("openai-project".to_owned(), "proj_1".to_owned())];
    let injection = Injection::Header("x-api-key".to_owned());
    let request = Request { fixed: &fixed, port: 8443, ..request(&injection, &headers) };
    assert_eq!(
        written(&request),
        "POST /v1/messages?beta=true HTTP/1.1\r\nhost: api.example.com:8443\r\naccept-encoding: identity\r\n\
         x-api-key: sk-test-0123456789abcdef\r\nopenai-project: proj_1\r\ncontent-type: application/json\r\n\
         anthropic-beta: a\r\nanthropic-beta: b\r\ncontent-length: 12\r\n\r\n"
    );
}

#[test]
fn the_buffer_never_grows() {
    let texts: Vec<_> = (0..40).map(|n| (format!("x-stainless-{n}"), "v".repeat(n))).collect();
    let mut all: Vec<_> = texts.iter().map(|(name, value)| header(name, value)).collect();
    all.push(header("idempotency-key", "k"));
    for injection in [Injection::Bearer, Injection::Header("x-goog-api-key".to_owned())] {
        let request = Request {
            port: 65_535,
            body: BodyLength::Known(u64::MAX),
            ..request(&injection, &all)
        };
        let head = write_head(&request).unwrap();
        assert_eq!(head.capacity(), longest(&request).unwrap());
        assert!(head.len() <= head.capacity());
    }
}

#[test]
fn bodies_are_framed_one_way() {
    let framed = |body| written(&Request { body, ..request(&Injection::Bearer, &[]) });
    assert!(framed(BodyLength::Chunked).ends_with("transfer-encoding: chunked\r\n\r\n"));
    assert!(framed(BodyLength::Known(0)).ends_with("content-length: 0\r\n\r\n"));
    let none = framed(BodyLength::None);
    assert!(!none.contains("content-length") && !none.contains("transfer-encoding"));
    assert!(none.ends_with("authorization: Bearer sk-test-0123456789abcdef\r\n\r\n"));
}

#[test]
fn nothing_can_add_a_line() {
    for evil in ["a\r\nx: y", "a\nx", "a\rx", "a\0", "a\x7f", "a\x1b"] {
        let headers = [header("user-agent", evil)];
        let injection = Injection::Bearer;
        assert_eq!(write_head(&request(&injection, &headers)).err(), Some(Unwritable::Header));
        let with_secret = Request { secret: evil.as_bytes(), ..request(&injection, &[]) };
        assert_eq!(write_head(&with_secret).err(), Some(Unwritable::Secret));
        let target = format!("/v1/{evil}");
        let with_target = Request { target: &target, ..request(&injection, &[]) };
        assert_eq!(write_head(&with_target).err(), Some(Unwritable::Target));
        let with_host = Request { host: evil, ..request(&injection, &[]) };
        assert_eq!(write_head(&with_host).err(), Some(Unwritable::Host));
        let with_method = Request { method: evil, ..request(&injection, &[]) };
        assert_eq!(write_head(&with_method).err(), Some(Unwritable::Method));
        let fixed = [("x-fixed".to_owned(), evil.to_owned())];
        let with_fixed = Request { fixed: &fixed, ..request(&injection, &[]) };
        assert_eq!(write_head(&with_fixed).err(), Some(Unwritable::Header));
        let named = Injection::Header(evil.to_owned());
        assert_eq!(write_head(&request(&named, &[])).err(), Some(Unwritable::Header));
    }
}

#[test]
fn odd_targets_hosts_and_secrets_are_refused() {
    let injection = Injection::Bearer;
    for target in ["", "v1", "http://a/b", "*", "/a b", "/a#b", "/a\\b", "/é"] {
        let request = Request { target, ..request(&injection, &[]) };
        assert_eq!(write_head(&request).err(), Some(Unwritable::Target), "{target}");
    }
    for host in ["", "a/b", "user@a", "[::1]", "a b", "a?b", "a#b"] {
        let request = Request { host, ..request(&injection, &[]) };
        assert_eq!(write_head(&request).err(), Some(Unwritable::Host), "{host}");
    }
    for secret in ["", " key", "key ", "\tkey"] {
        let request = Request { secret: secret.as_bytes(), ..request(&injection, &[]) };
        assert_eq!(write_head(&request).err(), Some(Unwritable::Secret), "{secret:?}");
    }
    let fixed = [("content-length".to_owned(), "1".to_owned())];
    let request = Request { fixed: &fixed, ..request(&injection, &[]) };
    assert_eq!(write_head(&request).err(), Some(Unwritable::Header));
}

#[test]
fn an_ipv6_literal_stands_in_brackets() {
    let request = Request { host: "2001:db8::1", ..request(&Injection::Bearer, &[]) };
    assert!(written(&request).contains("\r\nhost: [2001:db8::1]\r\n"));
}

#[test]
fn a_header_that_must_be_single_is_not_sent_twice() {
    let headers = [header("content-type", "a/b"), header("Content-Type", "c/d")];
    assert_eq!(
        write_head(&request(&Injection::Bearer, &headers)).err(),
        Some(Unwritable::Repeated)
    );
}

#[test]
fn a_fixed_header_wins_over_the_callers() {
    let headers = [header("anthropic-version", "1999-01-01")];
    let fixed = [("anthropic-version".to_owned(), "2023-06-01".to_owned())];
    let text = written(&Request { fixed: &fixed, ..request(&Injection::Bearer, &headers) });
    assert!(text.contains("2023-06-01") && !text.contains("1999"));
}

#[test]
fn idempotency_keys_of_two_subjects_never_meet() {
    let headers = [header("idempotency-key", "retry-1")];
    let of = |subject| written(&Request { subject, ..request(&Injection::Bearer, &headers) });
    assert_eq!(of(b"ada"), of(b"ada"));
    assert_ne!(of(b"ada"), of(b"bob"));
    assert!(!of(b"ada").contains("retry-1"));
}

#[test]
fn a_head_over_the_limit_is_refused() {
    let long = "a".repeat(MAX_HEAD_BYTES);
    let headers = [header("user-agent", &long)];
    assert_eq!(
        write_head(&request(&Injection::Bearer, &headers)).err(),
        Some(Unwritable::TooLarge)
    );
}
