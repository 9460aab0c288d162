//! Reads multipart/form-data bodies (RFC 7578).
//!
//! Invariant: a body that does not follow its own boundary has no parts.

use bytes::Bytes;
use memchr::memmem;

const MAX_PARTS: usize = 64;

/// One field of a form.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) filename: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) content: Bytes,
}

/// The parts of `body`, which says by `content_type` how it is divided.
pub(crate) fn parse(content_type: &str, body: &Bytes) -> Vec<Part> {
    let Some(boundary) = attribute(content_type, "boundary") else { return Vec::new() };
    let delimiter = format!("--{boundary}");
    let starts: Vec<usize> =
        memmem::find_iter(body, delimiter.as_bytes()).take(MAX_PARTS + 1).collect();
    let spans = starts.windows(2).map(|pair| (pair[0] + delimiter.len(), pair[1]));
    spans.filter_map(|(from, to)| part(&body.slice(from..to))).collect()
}

fn part(bytes: &Bytes) -> Option<Part> {
    let split = memmem::find(bytes, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..split]).into_owned();
    let content = bytes.slice(split + 4..bytes.len().checked_sub(2)?);
    let line = |wanted: &str| {
        head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_owned())
        })
    };
    let disposition = line("content-disposition")?;
    Some(Part {
        name: attribute(&disposition, "name")?,
        filename: attribute(&disposition, "filename"),
        content_type: line("content-type"),
        content,
    })
}

fn attribute(value: &str, wanted: &str) -> Option<String> {
    value.split(';').skip(1).find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim().trim_matches('"').to_owned())
    })
}
