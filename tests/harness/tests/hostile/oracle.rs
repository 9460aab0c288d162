//! The scrubber as an oracle (attack row 1): does what is held back tell whether a guess was right?
//!
//! Invariant: right and wrong guesses of one length and alphabet look the same on the wire.

use strongroom_emulator::Api;
use strongroom_tests::speak::{Shape, say};
use strongroom_tests::{Appliance, Gate, canary};

/// Answers to each guess.
const ROUNDS: usize = 12;

#[test]
fn where_an_answer_may_be_cut_does_not_depend_on_the_key() {
    let (appliance, token) = Appliance::stocked();
    let gate = appliance.gate();
    let key = canary::key(Api::OpenAi);
    for length in [4, 12, 30, key.len() - 1] {
        let right = &key[..length];
        let wrong: String = right.bytes().map(other).collect();
        for (model, shape) in [
            ("emu-reflect", Shape::Plain),
            ("emu-reflect", Shape::Streamed),
            ("emu-raw", Shape::Plain),
            ("emu-raw-split-7", Shape::Plain),
        ] {
            for guess in [right, wrong.as_str()] {
                check_pieces(&gate, &token, model, guess, shape);
            }
        }
    }
    // The whole key is masked, with its length kept.
    let answer = gate.call(&say(Api::OpenAi, &token, "emu-raw", key, Shape::Plain)).is(200);
    assert_eq!(answer.text(), "*".repeat(key.len()));
}

/// Another character of the same kind.
fn other(byte: u8) -> char {
    char::from(match byte {
        b'z' | b'Z' | b'9' => byte - 1,
        b'0'..=b'8' | b'a'..=b'y' | b'A'..=b'Y' => byte + 1,
        _ => byte,
    })
}

/// Which pieces go out together depends on a machine's business, where one may end does not: a stream's at an event's
/// end, and a text of token characters, which may be the beginning of anything, at its own end only.
fn check_pieces(gate: &Gate, token: &str, model: &str, guess: &str, shape: Shape) {
    for _ in 0..ROUNDS {
        let answer = gate.call(&say(Api::OpenAi, token, model, guess, shape)).is(200);
        assert!(answer.text().contains(guess), "{}", answer.story());
        let mut end = 0;
        for size in &answer.chunks {
            end += size;
            let fits = match shape {
                Shape::Plain => end == answer.body.len(),
                Shape::Streamed => answer.body[..end].ends_with(b"\n\n"),
            };
            assert!(fits, "{model} {guess}: a piece ends at {end} of {:?}", answer.chunks);
        }
    }
}
