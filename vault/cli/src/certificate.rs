//! How long a certificate is good: the one fact that is read from certificates of any origin.
//!
//! Walks the DER of RFC 5280, 4.1 down to `validity` and no further.
//!
//! Invariant: total; a certificate that is not understood has no date.

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use time::{Date, Month, PrimitiveDateTime, Time};

/// When the first certificate of a PEM text ends, seconds since 1970.
pub(crate) fn end_of(pem: &[u8]) -> Option<i64> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    not_after(&certificate)
}

fn not_after(der: &[u8]) -> Option<i64> {
    let (certificate, _) = element(der, SEQUENCE)?;
    let (to_be_signed, _) = element(certificate, SEQUENCE)?;
    // The version is tagged and may be absent.
    let rest = element(to_be_signed, VERSION).map_or(to_be_signed, |(_, rest)| rest);
    let (_, rest) = element(rest, INTEGER)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (_, rest) = element(rest, SEQUENCE)?;
    let (validity, _) = element(rest, SEQUENCE)?;
    let (_, rest) = any(validity)?;
    let (moment, _) = any(rest)?;
    let text = std::str::from_utf8(moment).ok()?.strip_suffix('Z')?;
    match *rest.first()? {
        // RFC 5280, 4.1.2.5.1: two digits from 50 on are of the last century.
        UTC_TIME => {
            let century = if text.get(..2)? < "50" { "20" } else { "19" };
            seconds(&format!("{century}{text}"))
        }
        GENERALIZED_TIME => seconds(text),
        _ => None,
    }
}

/// Reads `YYYYMMDDhhmmss`.
fn seconds(text: &str) -> Option<i64> {
    let number = |at: usize, length: usize| text.get(at..at + length)?.parse::<u8>().ok();
    let month = Month::try_from(number(4, 2)?).ok()?;
    let date = Date::from_calendar_date(text.get(..4)?.parse().ok()?, month, number(6, 2)?).ok()?;
    let time = Time::from_hms(number(8, 2)?, number(10, 2)?, number(12, 2)?).ok()?;
    (text.len() == 14).then(|| PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp())
}

/// The content of the first element if it has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    if *der.first()? == tag { any(der) } else { None }
}

fn any(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = der.get(1..)?.split_first()?;
    if length < 0x80 {
        return rest.split_at_checked(length.into());
    }
    let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
    if digits.len() > 4 {
        return None;
    }
    let length = digits.iter().fold(0, |sum, digit| (sum << 8) | usize::from(*digit));
    rest.split_at_checked(length)
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::{end_of, not_after};

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_notations() {
        for year in [2049, 2050, 2120] {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 2, 28);
            let end = params.not_after.unix_timestamp();
            let made = params.self_signed(&key).unwrap();
            assert_eq!(end_of(made.pem().as_bytes()), Some(end), "{year}");
            for cut in 0..100 {
                assert_eq!(not_after(&made.der()[..cut]), None);
            }
        }
    }

    #[test]
    fn nonsense_has_no_end() {
        assert_eq!(end_of(b""), None);
        assert_eq!(not_after(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(not_after(&[0x30, 0xff]), None);
    }
}
