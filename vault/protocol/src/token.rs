//! The text form of API tokens: `sr_`, 43 base-62 digits of 32 random bytes, 6 base-62 digits of those digits' CRC-32.
//!
//! The checksum lets secret scanners recognise a leaked token, and us refuse a typing error, without any look-up.
//!
//! An invitation's ticket has the same form behind `sri_`.
//!
//! Invariant: reading a token says that it is well formed, never that it is valid.

use zeroize::Zeroizing;

use crate::SecretBytes;

/// Length of a token's text.
pub const TOKEN_BYTES: usize = 52;
/// Random bytes in a token.
pub const TOKEN_RANDOM_BYTES: usize = 32;

/// Length of an invitation's text.
pub const INVITATION_BYTES: usize = 53;

const PREFIX: &[u8] = b"sr_";
const INVITATION_PREFIX: &[u8] = b"sri_";
const BODY_DIGITS: usize = 43;
const CHECK_DIGITS: usize = 6;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The text is not a token of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a Strongroom token")]
pub struct NotAToken;

/// Writes the token of 32 random bytes.
pub fn write_token(random: &[u8; TOKEN_RANDOM_BYTES]) -> SecretBytes {
    write(PREFIX, random)
}

/// Whether a text is well formed: prefix, alphabet, length and checksum.
///
/// # Errors
/// When it is not.
pub fn check_token(text: &[u8]) -> Result<(), NotAToken> {
    check(PREFIX, text)
}

/// Writes the invitation of 32 random bytes.
pub fn write_invitation(random: &[u8; TOKEN_RANDOM_BYTES]) -> SecretBytes {
    write(INVITATION_PREFIX, random)
}

/// Whether a text has the form of an invitation.
///
/// # Errors
/// When it has not.
pub fn check_invitation(text: &[u8]) -> Result<(), NotAToken> {
    check(INVITATION_PREFIX, text)
}

fn write(prefix: &[u8], random: &[u8; TOKEN_RANDOM_BYTES]) -> SecretBytes {
    let mut text = Zeroizing::new(Vec::with_capacity(INVITATION_BYTES));
    text.extend_from_slice(prefix);
    push_digits(&mut text, random, BODY_DIGITS);
    let check = crc32fast::hash(text.get(prefix.len()..).unwrap_or_default()).to_be_bytes();
    push_digits(&mut text, &check, CHECK_DIGITS);
    SecretBytes::take(text)
}

fn check(prefix: &[u8], text: &[u8]) -> Result<(), NotAToken> {
    let digits = text.strip_prefix(prefix).ok_or(NotAToken)?;
    if digits.len() != BODY_DIGITS.saturating_add(CHECK_DIGITS) {
        return Err(NotAToken);
    }
    let (body, check) = digits.split_at_checked(BODY_DIGITS).ok_or(NotAToken)?;
    let sum = check.iter().try_fold(0_u64, |sum, digit| {
        let value = ALPHABET.iter().position(|known| known == digit)?;
        sum.checked_mul(62)?.checked_add(u64::try_from(value).ok()?)
    });
    let good =
        body.iter().all(u8::is_ascii_alphanumeric) && sum == Some(u64::from(crc32fast::hash(body)));
    if good { Ok(()) } else { Err(NotAToken) }
}

/// Big-endian base 62 by repeated division; the number of digits is fixed, so the length says nothing.
fn push_digits(text: &mut Vec<u8>, number: &[u8], digits: usize) {
    let mut number = Zeroizing::new(number.to_vec());
    let mut reversed = Zeroizing::new(Vec::with_capacity(digits));
    for _ in 0..digits {
        let mut remainder = 0_u16;
        for byte in number.iter_mut() {
            let value = (remainder << 8) | u16::from(*byte);
            *byte = u8::try_from(value / 62).unwrap_or(u8::MAX);
            remainder = value % 62;
        }
        reversed.push(ALPHABET.get(usize::from(remainder)).copied().unwrap_or(b'0'));
    }
    text.extend(reversed.iter().rev());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::{INVITATION_BYTES, TOKEN_BYTES, check_invitation, check_token};
    use super::{write_invitation, write_token};

    #[test]
    fn an_invitation_is_no_token_and_no_token_an_invitation() {
        let invitation = write_invitation(&[7; 32]);
        invitation.expose(|text| {
            assert_eq!(text.len(), INVITATION_BYTES);
            assert!(text.starts_with(b"sri_"));
            assert!(check_invitation(text).is_ok());
            assert!(check_token(text).is_err());
        });
        write_token(&[7; 32]).expose(|text| assert!(check_invitation(text).is_err()));
    }

    #[test]
    fn the_form_is_final() {
        let zero = write_token(&[0; 32]);
        let zero = zero.expose(|text| String::from_utf8(text.to_vec()).unwrap());
        assert_eq!(zero, "sr_00000000000000000000000000000000000000000002CZclj");
        let high = write_token(&[0xff; 32]);
        assert!(high.expose(check_token).is_ok());
    }

    #[test]
    fn a_key_of_a_provider_is_not_a_token() {
        for foreign in ["", "sr_", "sk-proj-abc", "sk-ant-api03-abc", "AIzaSy", "xai-abc"] {
            assert!(check_token(foreign.as_bytes()).is_err());
        }
    }

    proptest! {
        #[test]
        fn every_token_reads_back_and_no_typing_error_does(random in any::<[u8; 32]>(), at in 3..TOKEN_BYTES) {
            let token = write_token(&random);
            token.expose(|text| {
                prop_assert_eq!(text.len(), TOKEN_BYTES);
                prop_assert!(check_token(text).is_ok());
                let mut wrong = text.to_vec();
                wrong[at] = if wrong[at] == b'a' { b'b' } else { b'a' };
                prop_assert!(check_token(&wrong).is_err());
                Ok(())
            })?;
        }
    }
}
