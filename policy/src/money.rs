//! Money as whole millionths of a US dollar.
//!
//! Invariant: no floating point; what does not fit is the most there is, never a small number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An amount of money, millionths of a US dollar.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Money(u64);

/// Millionths in a US dollar.
const DOLLAR: u64 = 1_000_000;
/// Digits of a millionth.
const PLACES: usize = 6;

/// The text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an amount is US dollars with at most six decimals, as 50 or 0.25")]
pub struct NotMoney;

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From millionths of a US dollar.
    pub const fn from_micros(micros: u64) -> Self {
        Self(micros)
    }

    /// Millionths of a US dollar.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Both together; the most there is when that does not fit.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = self.0.checked_div(DOLLAR).unwrap_or(0);
        let rest = self.0.checked_rem(DOLLAR).unwrap_or(0);
        let digits = format!("{rest:06}");
        let long = digits.trim_end_matches('0');
        let shown = if long.len() < 2 { digits.get(..2).unwrap_or("00") } else { long };
        write!(f, "{whole}.{shown}")
    }
}

impl FromStr for Money {
    type Err = NotMoney;

    fn from_str(text: &str) -> Result<Self, NotMoney> {
        let (whole, places) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(places) || places.len() > PLACES {
            return Err(NotMoney);
        }
        let micros: u64 = format!("{places:0<6}").parse().map_err(|_| NotMoney)?;
        let whole: u64 = whole.parse().map_err(|_| NotMoney)?;
        let dollars = whole.checked_mul(DOLLAR).ok_or(NotMoney)?;
        dollars.checked_add(micros).map(Self).ok_or(NotMoney)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::{Money, NotMoney};

    proptest! {
        #[test]
        fn what_is_shown_is_read_back(micros in any::<u64>()) {
            let money = Money::from_micros(micros);
            prop_assert_eq!(money.to_string().parse(), Ok(money));
        }
    }

    #[test]
    fn amounts_are_read_as_people_write_them() {
        for (text, micros) in [
            ("50", 50_000_000),
            ("0.25", 250_000),
            ("1.000001", 1_000_001),
            ("0", 0),
            ("007.5", 7_500_000),
        ] {
            assert_eq!(text.parse(), Ok(Money::from_micros(micros)), "{text}");
        }
        for bad in [
            "",
            ".",
            "1.",
            ".5",
            "-1",
            "+1",
            "1e3",
            "1,5",
            "0.0000001",
            "99999999999999999999",
            "1 ",
        ] {
            assert_eq!(bad.parse::<Money>(), Err(NotMoney), "{bad}");
        }
        assert_eq!(Money::from_micros(12_340_000).to_string(), "12.34");
        assert_eq!(Money::from_micros(500_001).to_string(), "0.500001");
        assert_eq!(Money::ZERO.to_string(), "0.00");
    }
}
