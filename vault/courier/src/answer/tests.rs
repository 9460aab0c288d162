use super::*;

fn read(text: &str) -> Result<Option<Head>, Broken> {
    Reader::new(Asked::Body).read(&mut BytesMut::from(text))
}

fn head(text: &str) -> Head {
    read(text).unwrap().unwrap()
}

#[test]
fn a_plain_answer_is_read_and_filtered() {
    let mut buffer = BytesMut::from(
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nSet-Cookie: a=b\r\nServer: x\r\n\
         X-Request-Id: req_1\r\nTransfer-Encoding: chunked\r\nX-Api-Key: sk\r\n\r\n5\r\n",
    );
    let head = Reader::new(Asked::Body).read(&mut buffer).unwrap().unwrap();
    assert_eq!((head.status, head.framing, head.media), (200, Framing::Chunked, Media::Events));
    assert_eq!(head.keep_alive, KeepAlive::Reusable);
    let names: Vec<&str> = head.headers.iter().map(|(name, _)| name.as_ref()).collect();
    assert_eq!(names, ["content-type", "x-request-id"]);
    assert_eq!(&buffer[..], b"5\r\n");
}

#[test]
fn a_head_is_read_however_it_is_cut() {
    let text = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 201 \r\ncontent-length: 2\r\n\r\nok";
    for cut in 0..text.len() {
        let mut reader = Reader::new(Asked::Body);
        let mut buffer = BytesMut::from(&text[..cut]);
        let early = reader.read(&mut buffer).unwrap();
        buffer.extend_from_slice(&text[cut..]);
        let head = early.or_else(|| reader.read(&mut buffer).unwrap()).unwrap();
        assert_eq!((head.status, head.framing), (201, Framing::Length(2)), "cut at {cut}");
        assert_eq!(&buffer[..], b"ok");
    }
}

#[test]
fn ambiguous_lengths_are_refused() {
    for lines in [
        "content-length: 1\r\ncontent-length: 2",
        "content-length: 1, 1",
        "content-length: +1",
        "content-length: -1",
        "content-length: 0x1",
        "content-length:",
        "content-length: 99999999999999999999",
        "content-length: 1\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 1",
        "transfer-encoding: gzip, chunked",
        "transfer-encoding: chunked, chunked",
        "transfer-encoding: chunked\r\ntransfer-encoding: chunked",
        "transfer-encoding: identity",
        "transfer-encoding: xchunked",
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n");
        assert_eq!(read(&text).err(), Some(Broken::Ambiguous), "{lines}");
    }
    let old = "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    assert_eq!(read(old).err(), Some(Broken::Ambiguous));
}

#[test]
fn malformed_heads_are_refused() {
    for text in [
        "HTTP/1.1 200 OK\na: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\n\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r c\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\r\n folded\r\n\r\n",
        "HTTP/1.1 200 OK\r\na: b\0\r\n\r\n",
        "HTTP/1.1 200 OK\r\na : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 999 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "\r\n\r\n",
    ] {
        assert_eq!(read(text).err(), Some(Broken::Malformed), "{text:?}");
    }
}

#[test]
fn switching_protocols_and_endless_interim_answers_are_refused() {
    assert_eq!(read("HTTP/1.1 101 Switching Protocols\r\n\r\n").err(), Some(Broken::Interim));
    let endless = "HTTP/1.1 100 Continue\r\n\r\n".repeat(4000);
    assert_eq!(read(&endless).err(), Some(Broken::Interim));
}

#[test]
fn an_encoded_body_is_refused_since_it_could_hide_an_echo() {
    for encoding in ["gzip", "br", "identity, gzip", "deflate", "zstd", "GZIP"] {
        let text = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\n\r\n");
        assert_eq!(read(&text).err(), Some(Broken::Encoded));
    }
    assert!(
        read("HTTP/1.1 200 OK\r\ncontent-encoding: identity\r\ncontent-length: 0\r\n\r\n").is_ok()
    );
}

#[test]
fn heads_over_the_limits_are_refused() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(MAX_HEADERS + 1));
    assert_eq!(read(&many).err(), Some(Broken::TooLarge));
    let large = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "b".repeat(MAX_HEAD_BYTES));
    assert_eq!(read(&large).err(), Some(Broken::TooLarge));
    assert_eq!(read(&large[..=MAX_HEAD_BYTES]).err(), Some(Broken::TooLarge));
    assert!(read(&large[..MAX_HEAD_BYTES - 1]).unwrap().is_none());
}

#[test]
fn bodiless_answers_have_no_body_whatever_they_say() {
    assert_eq!(head("HTTP/1.1 204 No Content\r\n\r\n").framing, Framing::Empty);
    assert_eq!(
        head("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n").framing,
        Framing::Empty
    );
    let text = BytesMut::from("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
    let to_head = Reader::new(Asked::Head).read(&mut text.clone()).unwrap().unwrap();
    assert_eq!(to_head.framing, Framing::Empty);
}

#[test]
fn a_connection_is_reusable_only_when_the_provider_keeps_it() {
    let reusable = |lines: &str| head(&format!("{lines}\r\n\r\n")).keep_alive;
    assert_eq!(reusable("HTTP/1.1 200 OK\r\ncontent-length: 1"), KeepAlive::Reusable);
    assert_eq!(
        reusable("HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: x, Close"),
        KeepAlive::Closing
    );
    assert_eq!(reusable("HTTP/1.0 200 OK\r\ncontent-length: 1"), KeepAlive::Closing);
    assert_eq!(reusable("HTTP/1.1 200 OK"), KeepAlive::Closing);
    assert_eq!(head("HTTP/1.1 200 OK\r\n\r\n").framing, Framing::UntilClose);
}

#[test]
fn urls_that_name_the_provider_are_kept_apart() {
    let head = head(
        "HTTP/1.1 302 Found\r\nlocation: https://a/b?key=sk\r\nx-goog-upload-url: https://c/d\r\ncontent-length: 0\r\n\r\n",
    );
    assert!(head.headers.is_empty());
    assert_eq!(head.location.as_deref(), Some(&b"https://a/b?key=sk"[..]));
    assert_eq!(head.upload_url.as_deref(), Some(&b"https://c/d"[..]));
}

#[test]
fn json_is_known_by_its_essence() {
    for (text, expected) in [
        ("application/json; charset=utf-8", Media::Json),
        ("Application/JSON", Media::Json),
        ("application/problem+json", Media::Json),
        ("audio/mpeg", Media::Other),
        ("", Media::Other),
    ] {
        assert_eq!(media(text.as_bytes()), expected, "{text}");
    }
}
