use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use proptest::prelude::*;

use super::*;

const KEY: &str = "sk-proj-Zq8+vT/1x_R4w.7Yb=nL2mK9cDfGhJ0p";
const OTHER: &str = "sk-proj-short_Other.0";

fn whole(secret: &[u8], text: &[u8]) -> Vec<u8> {
    let mut scrubber = Scrubber::new(secret).unwrap();
    let mut out = scrubber.feed(Bytes::copy_from_slice(text)).to_vec();
    out.extend_from_slice(&scrubber.finish());
    out
}

fn in_pieces(secret: &[u8], text: &[u8], cuts: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let mut scrubber = Scrubber::new(secret).unwrap();
    let mut out = Vec::new();
    let mut lengths = Vec::new();
    let mut from = 0;
    for &cut in cuts.iter().chain([&text.len()]) {
        let released = scrubber.feed(Bytes::copy_from_slice(&text[from..cut]));
        lengths.push(released.len());
        out.extend_from_slice(&released);
        from = cut;
    }
    let rest = scrubber.finish();
    lengths.push(rest.len());
    out.extend_from_slice(&rest);
    (out, lengths)
}

/// Twenty-six ways to write a key, made with other code than the needles.
fn echoes(key: &str) -> Vec<(String, String)> {
    let bytes = key.as_bytes();
    let each = |write: &dyn Fn(u8) -> String| bytes.iter().map(|&b| write(b)).collect::<String>();
    let reserved = |upper: bool| {
        each(&|b| match b {
            b'+' | b'/' | b'=' if upper => format!("%{b:02X}"),
            b'+' | b'/' | b'=' => format!("%{b:02x}"),
            _ => char::from(b).to_string(),
        })
    };
    let mut list = vec![
        ("raw".to_owned(), key.to_owned()),
        ("upper case".to_owned(), key.to_uppercase()),
        ("lower case".to_owned(), key.to_lowercase()),
        ("hex lower".to_owned(), hex::encode(key)),
        ("hex upper".to_owned(), hex::encode_upper(key)),
        ("percent all upper".to_owned(), each(&|b| format!("%{b:02X}"))),
        ("percent all lower".to_owned(), each(&|b| format!("%{b:02x}"))),
        ("percent reserved upper".to_owned(), reserved(true)),
        ("percent reserved lower".to_owned(), reserved(false)),
        ("json all lower".to_owned(), each(&|b| format!("\\u{b:04x}"))),
        ("json all upper".to_owned(), each(&|b| format!("\\u{b:04X}"))),
        ("json slash".to_owned(), key.replace('/', "\\/")),
        ("json equals".to_owned(), key.replace('=', "\\u003d")),
        ("encodeURI".to_owned(), key.to_owned()),
    ];
    for before in 0..3 {
        for after in 0..2 {
            let text = format!("{}{key}{}", &"abc"[..before], &"xyz"[..after]);
            list.push((format!("base64 {before}/{after}"), STANDARD.encode(&text)));
            list.push((format!("base64url {before}/{after}"), URL_SAFE.encode(&text)));
        }
    }
    list
}

/// What must not survive: the middle of the echo, whose characters do not depend on the neighbours.
fn core(echo: &str) -> &[u8] {
    &echo.as_bytes()[5..echo.len() - 5]
}

#[test]
fn no_encoding_of_the_key_passes_at_any_split() {
    for (name, echo) in echoes(KEY) {
        let text = format!("data: {{\"error\":\"bad key {echo}, sorry\"}}\n\n");
        let expected = whole(KEY.as_bytes(), text.as_bytes());
        assert!(memchr::memmem::find(&expected, core(&echo)).is_none(), "{name} passed whole");
        assert_eq!(expected.len(), text.len(), "{name} changed the length");
        for cut in 0..=text.len() {
            let (out, _) = in_pieces(KEY.as_bytes(), text.as_bytes(), &[cut]);
            assert_eq!(out, expected, "{name} cut at {cut}");
        }
    }
}

#[test]
fn byte_by_byte_delivery_changes_nothing() {
    for (name, echo) in echoes(KEY) {
        let text = format!("x{echo}y{echo}\n");
        let cuts: Vec<usize> = (0..text.len()).collect();
        let (out, _) = in_pieces(KEY.as_bytes(), text.as_bytes(), &cuts);
        assert_eq!(out, whole(KEY.as_bytes(), text.as_bytes()), "{name}");
    }
}

/// `right` with another letter at `place`.
fn wrong_at(right: &str, place: usize) -> String {
    let letter = if right.as_bytes()[place].eq_ignore_ascii_case(&b'x') { "y" } else { "x" };
    format!("{}{letter}{}", &right[..place], &right[place + 1..])
}

#[test]
fn right_and_wrong_guesses_give_identical_frame_lengths() {
    for (name, echo) in echoes(KEY) {
        for shown in 1..=echo.len() {
            let right = &echo[..shown];
            let guesses = [
                wrong_at(right, shown - 1),
                wrong_at(right, 0),
                wrong_at(right, shown / 2),
                "B".repeat(shown),
            ];
            for (guess, end) in guesses.iter().zip(["", "\n", "tail\"", ""]) {
                let cuts = [shown / 3, shown / 2, shown];
                let lengths = |text: &str| {
                    in_pieces(KEY.as_bytes(), format!("{text}{end}").as_bytes(), &cuts).1
                };
                assert_eq!(
                    lengths(right),
                    lengths(guess),
                    "{name}, {shown} characters, then {end:?}"
                );
            }
        }
    }
}

#[test]
fn an_event_that_ends_in_a_newline_is_released_whole_and_uncopied() {
    let mut scrubber = Scrubber::new(KEY.as_bytes()).unwrap();
    let event = Bytes::from_static(b"data: {\"delta\":\"hello\"}\n\n");
    let released = scrubber.feed(event.clone());
    assert_eq!(released.as_ptr(), event.as_ptr());
    assert_eq!(released.len(), event.len());
    assert!(scrubber.finish().is_empty());
}

#[test]
fn a_long_token_run_keeps_exactly_the_cap() {
    let mut scrubber = Scrubber::new(KEY.as_bytes()).unwrap();
    let released = scrubber.feed(Bytes::from(vec![b'A'; 10_000]));
    assert_eq!(released.len(), 10_000 - scrubber.cap);
    assert_eq!(scrubber.feed(Bytes::from_static(b"AAA")).len(), 3);
    assert_eq!(scrubber.finish().len(), scrubber.cap);
}

#[test]
fn a_hit_at_the_edge_of_a_full_hold_stays_masked_to_its_end() {
    for before in 0..1200 {
        let text = format!("{}{KEY}{}", "A".repeat(before), "B".repeat(1200 - before));
        let expected = whole(KEY.as_bytes(), text.as_bytes());
        assert!(memchr::memmem::find(&expected, &KEY.as_bytes()[20..]).is_none());
        let cuts: Vec<usize> = (0..text.len()).step_by(97).collect();
        let (out, _) = in_pieces(KEY.as_bytes(), text.as_bytes(), &cuts);
        assert_eq!(out, expected, "{before} before");
    }
}

#[test]
fn a_key_with_blanks_quotes_and_letters_beyond_ascii_is_found_too() {
    let key = "pass \"phrase\" <ü>/= & 'more'";
    let escaped = key.replace('"', "\\\"").replace('ü', "\\u00fc");
    let gson = escaped
        .replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('=', "\\u003d")
        .replace('&', "\\u0026")
        .replace('\'', "\\u0027");
    let form = "pass+%22phrase%22+%3C%C3%BC%3E%2F%3D+%26+%27more%27";
    for echo in [key, &escaped, &gson, form] {
        let text = format!("error: {echo}.\n");
        for cut in 0..text.len() {
            let (out, _) = in_pieces(key.as_bytes(), text.as_bytes(), &[cut]);
            assert!(out.ends_with(b"*.\n") && out.starts_with(b"error: **"), "{echo} at {cut}");
        }
    }
}

#[test]
fn header_values_are_scrubbed_and_clean_ones_are_left_alone() {
    let mut scrubber = Scrubber::new(KEY.as_bytes()).unwrap();
    assert_eq!(scrubber.scrub_header_value(b"req_0123456789abcdef"), None);
    let value = format!("https://host/x?key={KEY}&a=1");
    let clean = scrubber.scrub_header_value(value.as_bytes()).unwrap();
    assert_eq!(clean.len(), value.len());
    assert!(clean.ends_with(b"***&a=1"));
    assert_eq!(scrubber.hits(), 1);
}

#[test]
fn secrets_that_cannot_be_matched_are_refused() {
    assert_eq!(Scrubber::new(b"short").err(), Some(Unscrubbable::Length));
    assert_eq!(Scrubber::new(&vec![b'a'; MAX_SECRET_BYTES + 1]).err(), Some(Unscrubbable::Length));
    assert_eq!(Scrubber::new(b"a key with\na line end").err(), Some(Unscrubbable::Control));
}

/// Masks with no skipping, no state and no splits.
fn reference(secret: &[u8], text: &[u8]) -> Vec<u8> {
    let mut made = encodings::Encodings::default();
    made.derive(secret);
    let mut out = text.to_vec();
    for needle in made.iter() {
        for (start, window) in text.windows(needle.len()).enumerate() {
            if window.eq_ignore_ascii_case(needle) {
                out[start..start + needle.len()].fill(MASK);
            }
        }
    }
    out
}

fn secret() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[A-Za-z0-9_.-]{16,80}",
        1 => "[A-Za-z0-9+/=~%\\\\_.-]{16,40}",
        1 => "[ -~äé]{16,40}".prop_filter("long enough", |text| text.len() >= 16),
        1 => "a{16,40}",
        1 => "(ab){8,20}",
    ]
}

#[test]
fn a_scrubber_that_served_one_key_knows_only_the_next_one() {
    let text = format!("{KEY} {OTHER} {KEY}\n");
    let mut scrubber = Scrubber::new(KEY.as_bytes()).unwrap();
    scrubber.feed(Bytes::from_static(b"held"));
    let mut scrubber = scrubber.forget().learn(OTHER.as_bytes()).unwrap();
    let out = scrubber.feed(Bytes::from(text.clone()));
    assert_eq!(out, text.replace(OTHER, &"*".repeat(OTHER.len())));
    assert_eq!(scrubber.hits(), 1);
}

proptest! {
    #[test]
    fn the_output_is_the_reference_for_any_text_and_split(
        key in secret(),
        parts in prop::collection::vec((0..40_usize, 0..200_usize, "[ -~\n]{0,30}"), 0..8),
        cuts in prop::collection::vec(0..4000_usize, 0..12),
    ) {
        let mut forms = encodings::Encodings::default();
        forms.derive(key.as_bytes());
        let mut text = Vec::new();
        for (which, length, filler) in parts {
            let which = which % (forms.ends.len() * 2);
            let end = forms.ends[which / 2];
            let start = if which < 2 { 0 } else { forms.ends[which / 2 - 1] };
            let form = &forms.bytes[start..end];
            // Half of the echoes are cut short.
            let shown = if which.is_multiple_of(2) { form.len() } else { length.min(form.len()) };
            text.extend_from_slice(&form[..shown]);
            text.extend_from_slice(filler.as_bytes());
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
        cuts.sort_unstable();
        let (out, _) = in_pieces(key.as_bytes(), &text, &cuts);
        prop_assert_eq!(out, reference(key.as_bytes(), &text));
    }
}
