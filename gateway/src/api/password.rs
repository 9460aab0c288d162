//! A password as somebody typed it: how long it may be, and which are not taken.
//!
//! Invariant: the whole of it is hashed, in one form (NFC); no rule of composition, no hint, no end.
//! What a list of leaked passwords would add is not here yet: only words of this place and what is repeated or counted up.

use http::StatusCode;
use serde::{Deserialize, Deserializer};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use super::problem::Problem;

/// Fewest code points, where it is the only factor (NIST SP 800-63B-4, 3.1.1.2).
const MIN_CODE_POINTS: usize = 15;
/// Most code points, and most bytes: a bound on what is hashed.
const MAX_CODE_POINTS: usize = 128;
const MAX_BYTES: usize = 512;
/// Fewest code points that are left of it without known words and what repeats itself.
const MIN_REST: usize = 8;
/// Shortest name that is a word to look for.
const MIN_WORD: usize = 4;

/// A password, wiped when it is dropped.
pub(super) struct Password {
    typed: Zeroizing<String>,
    normal: Zeroizing<String>,
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let typed = Zeroizing::new(String::deserialize(deserializer)?);
        if typed.len() > MAX_BYTES {
            return Err(serde::de::Error::custom("a password of more than 512 bytes"));
        }
        let mut normal = Zeroizing::new(String::with_capacity(typed.len().saturating_mul(4)));
        normal.extend(typed.nfc());
        Ok(Self { typed, normal })
    }
}

impl Password {
    /// What is hashed.
    pub(super) fn normal(&self) -> &[u8] {
        self.normal.as_bytes()
    }

    /// What another system hashed: as it was typed.
    pub(super) fn typed(&self) -> &[u8] {
        self.typed.as_bytes()
    }

    /// Whether somebody of this name may set it.
    pub(super) fn check(&self, name: &str) -> Result<(), Problem> {
        let count = self.normal.chars().count();
        let long = MIN_CODE_POINTS..=MAX_CODE_POINTS;
        if !long.contains(&count) || self.normal.len() > MAX_BYTES {
            return Err(refused(
                "SR-PASSWORD-001",
                "a password has 15 to 128 characters, 512 bytes at most",
            ));
        }
        if self.rest(name) < MIN_REST {
            let what = "the password is little more than a name, well-known words, or something that repeats itself; take five random words";
            return Err(refused("SR-PASSWORD-002", what));
        }
        Ok(())
    }

    /// How many different steps are left without known words: of `aaaa` one, of `abcabc` three, of `12345` one.
    fn rest(&self, name: &str) -> usize {
        let mut text = Zeroizing::new(self.normal.to_lowercase());
        let name = name.to_lowercase();
        let own = name.split([' ', '@', '.', '_', '-', '+']).chain([name.as_str()]);
        for word in own.filter(|word| word.len() >= MIN_WORD).chain(WORDS) {
            text = Zeroizing::new(text.replace(word, ""));
        }
        let all = Zeroizing::new(text.chars().collect::<Vec<char>>());
        let mut seen = std::collections::BTreeSet::new();
        // Three in a row that came before are no news, and neither is a step of one that goes on.
        let news = all.windows(3).filter(|three| match three {
            [a, b, c] => {
                let step = |from: &char, to: &char| {
                    i64::from(u32::from(*to)) - i64::from(u32::from(*from))
                };
                let counted = step(a, b) == step(b, c) && step(a, b).abs() <= 1;
                seen.insert((*a, *b, *c)) && !counted
            }
            _ => false,
        });
        news.count().saturating_add(2)
    }
}

/// Words that stand in very many passwords, and in those of this place.
const WORDS: [&str; 18] = [
    "strongroom",
    "password",
    "passwort",
    "passphrase",
    "qwertyuiop",
    "qwerty",
    "asdfghjkl",
    "letmein",
    "welcome",
    "iloveyou",
    "changeme",
    "administrator",
    "admin",
    "secret",
    "correct horse",
    "correcthorse",
    "battery staple",
    "batterystaple",
];

fn refused(code: &'static str, what: &str) -> Problem {
    Problem::of(StatusCode::UNPROCESSABLE_ENTITY, code, what)
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::Password;

    fn password(text: &str) -> Password {
        from_value(json!(text)).unwrap()
    }

    // Red when words or repetitions count.
    #[test]
    fn a_password_is_long_and_more_than_words_that_everybody_knows() {
        for good in [
            "five random words of mine",
            "žluťoučký kůň úpěl",
            "7Wq)x2k8LmZ!v0p",
            "日本語のとても長い合言葉です、はい",
        ] {
            assert!(password(good).check("alice").is_ok(), "{good}");
        }
        for bad in [
            "14 characters!",
            "aaaaaaaaaaaaaaaaaaaa",
            "123123123123123123",
            "12345678901234567890",
            "abcdefghijklmnopqrstuvwxyz",
            "passwordpassword1",
            "Alice.Smith.Alice.1",
            "StrongroomQwerty12",
            "correct horse battery staple",
            "CorrectHorseBatteryStaple1",
            &"x".repeat(129),
        ] {
            assert!(password(bad).check("alice smith").is_err(), "{bad}");
        }
        assert!(from_value::<Password>(json!("x".repeat(513))).is_err());
    }

    #[test]
    fn two_spellings_of_one_text_are_one_password_and_every_byte_counts() {
        let (one, other) = (
            password("caf\u{e9} caf\u{e9} caf\u{e9}"),
            password("cafe\u{301} cafe\u{301} cafe\u{301}"),
        );
        assert_eq!(one.normal(), other.normal());
        assert_ne!(one.typed(), other.typed());
        let long = "a b".repeat(40);
        assert_eq!(password(&long).normal(), long.as_bytes());
    }
}
