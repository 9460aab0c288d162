//! The frame of ask, errand and operator sockets: a 32-bit little-endian length, then one postcard value.
//!
//! Invariant: a frame is at most its socket's limit; a value ends at the frame's last byte.
//! Invariant: buffers that hold messages are wiped on drop.

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

/// Length of the length.
pub const PREFIX_BYTES: usize = 4;
/// Largest frame on `ask.sock`: a snapshot of every provider's paths is the longest message.
pub const MAX_ASK_BYTES: usize = 1024 * 1024;
/// Largest frame on `errand.sock`: a destination with its authorities and a key.
pub const MAX_ERRAND_BYTES: usize = 128 * 1024;
/// Largest frame on `operator.sock`: a list of all that a vault holds, of 20,000 rows.
pub const MAX_OPERATOR_BYTES: usize = 16 * 1024 * 1024;

/// Why bytes are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than the socket's limit.
    #[error("a frame of {length} bytes; the limit is {limit}")]
    TooLong {
        /// What was announced or would be sent.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// Not a value of the expected type, or bytes after it.
    #[error("the frame is no message of this socket")]
    Malformed,
}

/// Encodes a message with its length before it.
///
/// # Errors
/// When the message is longer than `limit`.
pub fn encode<M: Serialize>(message: &M, limit: usize) -> Result<Zeroizing<Vec<u8>>, FrameError> {
    let mut frame = Zeroizing::new(Vec::new());
    encode_into(&mut frame, message, limit)?;
    Ok(frame)
}

/// Appends a message with its length before it, so that several go out in one write.
///
/// # Errors
/// When the message is longer than `limit`; `out` is then as before.
pub fn encode_into<M: Serialize>(
    out: &mut Zeroizing<Vec<u8>>,
    message: &M,
    limit: usize,
) -> Result<(), FrameError> {
    let start = out.len();
    let body_start = start.saturating_add(PREFIX_BYTES);
    let mut frame = Frame { out, most: body_start.saturating_add(limit) };
    let encoded = frame
        .try_extend(&[0; PREFIX_BYTES])
        .and_then(|()| postcard::serialize_with_flavor(message, frame));
    let length = u32::try_from(out.len().saturating_sub(body_start));
    if let (Ok(()), Ok(length), Some(prefix)) = (encoded, length, out.get_mut(start..body_start)) {
        prefix.copy_from_slice(&length.to_le_bytes());
        return Ok(());
    }
    // Half a message may hold a secret.
    out.get_mut(start..).unwrap_or_default().fill(0);
    out.truncate(start);
    let length =
        postcard::experimental::serialized_size(message).map_err(|_| FrameError::Malformed)?;
    Err(if length > limit { FrameError::TooLong { length, limit } } else { FrameError::Malformed })
}

/// Where the codec writes: the end of a buffer that is wiped, up to a frame's limit.
struct Frame<'a> {
    out: &'a mut Zeroizing<Vec<u8>>,
    most: usize,
}

impl Flavor for Frame<'_> {
    type Output = ();

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        let length = self.out.len().saturating_add(bytes.len());
        if length > self.most {
            return Err(postcard::Error::SerializeBufferFull);
        }
        make_room(self.out, length);
        self.out.extend_from_slice(bytes);
        Ok(())
    }

    /// Ids come byte by byte, so the usual case is short.
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        if self.out.len() == self.out.capacity() || self.out.len() >= self.most {
            return self.try_extend(&[byte]);
        }
        self.out.push(byte);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// A `Vec` that grows in place leaves a copy behind: take a new one and wipe the old.
fn make_room(out: &mut Zeroizing<Vec<u8>>, length: usize) {
    if out.capacity() < length {
        let capacity = length.max(out.capacity().saturating_mul(2)).max(FIRST_BYTES);
        let mut larger = Zeroizing::new(Vec::with_capacity(capacity));
        larger.extend_from_slice(out);
        *out = larger;
    }
}

/// Most messages fit, and the allocator has blocks of this size at hand.
const FIRST_BYTES: usize = 512;

/// The length that a prefix announces.
///
/// # Errors
/// When it is over `limit`.
pub fn announced(prefix: [u8; PREFIX_BYTES], limit: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    if length > limit { Err(FrameError::TooLong { length, limit }) } else { Ok(length) }
}

/// Decodes the bytes after the prefix.
///
/// # Errors
/// When they are no message, or do not end with it.
pub fn decode<M: DeserializeOwned>(bytes: &[u8]) -> Result<M, FrameError> {
    match postcard::take_from_bytes::<M>(bytes) {
        Ok((message, [])) => Ok(message),
        Ok(_) | Err(_) => Err(FrameError::Malformed),
    }
}

/// The first whole frame in `bytes`, and how many bytes it takes with its prefix.
///
/// # Errors
/// When the announced length is over `limit`.
pub fn split_first(bytes: &[u8], limit: usize) -> Result<Option<(&[u8], usize)>, FrameError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return Ok(None);
    };
    let length = announced(*prefix, limit)?;
    Ok(rest.get(..length).map(|body| (body, length.saturating_add(PREFIX_BYTES))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, proptest};

    use zeroize::Zeroizing;

    use super::{FIRST_BYTES, FrameError, announced, decode, encode, encode_into, split_first};
    use crate::secret_bytes::{MAX_SECRET_BYTES, SecretBytes};

    #[test]
    fn a_message_reads_back_and_ends_at_its_last_byte() {
        let frame = encode(&(7_u32, SecretBytes::copy_from(b"key")), 64).unwrap();
        let (body, used) = split_first(&frame, 64).unwrap().unwrap();
        assert_eq!(used, frame.len());
        let (number, secret): (u32, SecretBytes) = decode(body).unwrap();
        assert_eq!(number, 7);
        assert!(secret.expose(|bytes| bytes == b"key"));
        let mut longer = body.to_vec();
        longer.push(0);
        assert_eq!(decode::<(u32, SecretBytes)>(&longer).unwrap_err(), FrameError::Malformed);
        for cut in 0..body.len() {
            assert!(decode::<(u32, SecretBytes)>(&body[..cut]).is_err());
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_neither_sent_nor_read() {
        assert!(encode(&vec![0_u8; 65], 64).is_err());
        assert!(announced([65, 0, 0, 0], 64).is_err());
        assert_eq!(announced([64, 0, 0, 0], 64), Ok(64));
        assert!(announced([255, 255, 255, 255], 64).is_err());
    }

    #[test]
    fn what_does_not_fit_leaves_the_frames_before_it_as_they_are() {
        let mut out = encode(&1_u8, 8).unwrap();
        let before = out.to_vec();
        let long = (7_u8, SecretBytes::copy_from(&[0xaa; 600]));
        let refused = encode_into(&mut out, &long, 600).unwrap_err();
        assert_eq!(refused, FrameError::TooLong { length: 603, limit: 600 });
        assert_eq!(*out, before);
        encode_into(&mut out, &long, 603).unwrap();
        assert_eq!(out.len(), before.len() + 4 + 603);
    }

    /// A `Vec` that grows by itself moves, and leaves its bytes where they were; by a byte at a time too. Its own growth
    /// is by as little as it can.
    #[test]
    fn a_buffer_that_is_too_small_is_replaced_and_never_grown() {
        for room in 0..8 {
            let mut out = Zeroizing::new(Vec::with_capacity(room));
            encode_into(&mut out, &(1_u8, 2_u8, 3_u8), 64).unwrap();
            assert_eq!(*out, [3, 0, 0, 0, 1, 2, 3]);
            let replaced = out.capacity() >= FIRST_BYTES;
            assert_eq!(replaced, room < 7, "{room}: {}", out.capacity());
        }
    }

    #[test]
    fn a_secret_tells_its_length_and_does_not_print() {
        let secret = SecretBytes::copy_from(b"key");
        assert_eq!(format!("{secret:?}"), "<secret>");
        assert_eq!((secret.len(), secret.is_empty()), (3, false));
        assert!(SecretBytes::copy_from(b"").is_empty());
    }

    #[test]
    fn a_secret_of_a_message_is_bounded() {
        let read = |length| {
            let frame = encode(&SecretBytes::copy_from(&vec![b'k'; length]), 64 * 1024).unwrap();
            decode::<SecretBytes>(&frame[4..]).map(|secret| secret.len())
        };
        assert_eq!(read(MAX_SECRET_BYTES), Ok(MAX_SECRET_BYTES));
        assert_eq!(read(MAX_SECRET_BYTES + 1), Err(FrameError::Malformed));
        assert_eq!(read(MAX_SECRET_BYTES + 2), Err(FrameError::Malformed));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in any::<Vec<u8>>()) {
            drop(decode::<crate::ask::FromGateway>(&bytes));
            drop(decode::<crate::ask::ToGateway>(&bytes));
            drop(decode::<crate::errand::FromCourier>(&bytes));
            drop(decode::<crate::errand::ToCourier>(&bytes));
            drop(decode::<crate::operator::Request>(&bytes));
            drop(decode::<crate::operator::Answer>(&bytes));
            drop(decode::<crate::tpm::ToTpm>(&bytes));
            drop(decode::<crate::tpm::FromTpm>(&bytes));
            prop_assert!(true);
        }
    }
}
