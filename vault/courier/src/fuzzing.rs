//! Ways to the decoders and writers of this crate that are private, for `fuzz/`; nothing in the product calls them.
//!
//! Invariant: each takes bytes and answers with bytes: no connection, no key of a call.

use bytes::Bytes;
use strongroom_policy::destination::Destination;

use crate::errands::errand::{Message, Reader};
use crate::lanes::heads::Opening;
use crate::relay::origin::Origin;
use crate::relay::rewrite::Rewriter;
use crate::request::{Request, Unwritable, write_head};
use crate::scrub::encodings::Encodings;

/// What the courier understands of a message of the keeper, in words.
pub fn errand(body: &[u8]) -> Option<String> {
    Some(match Reader::default().read(body).ok()? {
        Message::Errand { ticket: _, errand } | Message::Probe(errand) => format!("{errand:?}"),
        Message::Refused { ticket: _, refusal } => format!("{refusal:?}"),
        Message::Recall(recall) => format!("{recall:?}"),
    })
}

/// What the courier understands of the head of a call.
pub fn opening(payload: &[u8]) -> Option<Vec<(&str, &str)>> {
    Opening::parse(payload).ok().map(|opening| opening.headers)
}

/// The head of a request as it would be sent.
///
/// # Errors
/// When nothing would be sent.
pub fn request_head(request: &Request<'_>) -> Result<Vec<u8>, Unwritable> {
    write_head(request).map(|head| head.to_vec())
}

/// The forms in which a secret is masked.
pub fn encodings(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = Encodings::default();
    forms.derive(secret);
    forms.iter().map(<[u8]>::to_vec).collect()
}

/// A JSON body with the destination's URLs turned into ours where SDKs follow them.
pub fn rewrite(
    (destination, public_prefix): (&Destination, &str),
    pieces: impl Iterator<Item = Bytes>,
) -> Vec<u8> {
    let mut rewriter = Rewriter::new(&Origin::new(destination, public_prefix));
    let mut out: Vec<u8> = Vec::new();
    for piece in pieces {
        out.extend_from_slice(&rewriter.feed(piece));
    }
    out.extend_from_slice(&rewriter.finish());
    out
}

/// Where a redirect leads within the destination, and our URL for it.
pub fn urls(
    (destination, public_prefix): (&Destination, &str),
    location: &[u8],
) -> (Option<String>, Option<String>) {
    let origin = Origin::new(destination, public_prefix);
    (origin.target_of(location), origin.public_url(location))
}
