//! Compares a name from a body with the names that matter, in every spelling that some parser reads as the same.
//!
//! Invariant: two names that a case-folding, camel/snake-converting or width-folding parser takes for one are alike.

/// How an API spells its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As listed and in no other way.
    AsListed,
    /// As listed in `camelCase`, or the same in `snake_case` (protobuf's JSON mapping accepts both).
    CamelOrSnake,
}

/// Whether some lenient parser may take one name for the other.
pub(super) fn is_alike(found: &str, listed: &str) -> bool {
    found.chars().filter_map(fold).eq(listed.chars().filter_map(fold))
}

/// Whether the API itself takes the name for the listed one.
pub(super) fn is_spelled(found: &str, listed: &str, spelling: Spelling) -> bool {
    found == listed
        || match spelling {
            Spelling::AsListed => false,
            Spelling::CamelOrSnake => snake(listed).eq(found.chars()),
        }
}

/// What is left of a character when case, width and word breaks are ignored.
///
/// Besides ASCII these are the characters that fold to ASCII: Go's `encoding/json` folds U+017F and U+212A, Turkish
/// case rules U+0130 and U+0131, NFKC the full-width forms, and some readers drop what has no width.
fn fold(c: char) -> Option<char> {
    match c {
        '_'
        | '-'
        | '\u{ff3f}'
        | '\u{ff0d}'
        | '\u{ad}'
        | '\u{307}'
        | '\u{2060}'
        | '\u{feff}'
        | '\u{200b}'..='\u{200f}' => None,
        '\u{17f}' => Some('s'),
        '\u{212a}' => Some('k'),
        '\u{130}' | '\u{131}' => Some('i'),
        '\u{ff10}'..='\u{ff5a}' => u32::from(c)
            .checked_sub(0xfee0)
            .and_then(char::from_u32)
            .map(|narrow| narrow.to_ascii_lowercase()),
        other => Some(other.to_ascii_lowercase()),
    }
}

fn snake(camel: &str) -> impl Iterator<Item = char> {
    camel.chars().flat_map(|c| {
        let (first, second) =
            if c.is_ascii_uppercase() { (Some('_'), c.to_ascii_lowercase()) } else { (None, c) };
        first.into_iter().chain([second])
    })
}

#[cfg(test)]
mod tests {
    use super::{Spelling, is_alike, is_spelled};

    #[test]
    fn names_that_a_lenient_parser_confuses_are_alike() {
        for name in [
            "max_tokens",
            "maxTokens",
            "MAX-TOKENS",
            "max__tokens",
            "ma\u{ff58}Tokens",
            "maxTo\u{212a}ens",
            "maxtoken\u{17f}",
            "max\u{200b}tokens",
        ] {
            assert!(is_alike(name, "max_tokens"), "{name}");
        }
        for name in ["max_token", "max tokens", "mäx_tokens", ""] {
            assert!(!is_alike(name, "max_tokens"), "{name}");
        }
    }

    #[test]
    fn only_protobuf_has_two_spellings() {
        assert!(is_spelled("max_output_tokens", "maxOutputTokens", Spelling::CamelOrSnake));
        assert!(is_spelled("maxOutputTokens", "maxOutputTokens", Spelling::CamelOrSnake));
        assert!(!is_spelled("max_outputTokens", "maxOutputTokens", Spelling::CamelOrSnake));
        assert!(!is_spelled("maxOutputTokens", "max_output_tokens", Spelling::AsListed));
    }
}
