//! Whether the time of a refusal tells who there is: unknown, wrong, resting and disabled, side by side.
//!
//! `SR_SOAK=1` takes 2,000 of each. What is told are figures: a machine that others use makes any bound on them a guess.

use std::time::Instant;

use strongroom_protocol::operator::{Answer as Told, Pick, Request};
use strongroom_protocol::person::{NotSignedIn, PersonAnswer};

use crate::keeper::Door;
use crate::label;
use crate::people::{WRONG, at_number, invite, redeem, refused, sign_in, stage};

/// Tries that an account has without a rest.
const FREE: usize = 3;
const CLASSES: [&str; 4] = ["unknown", "wrong", "resting", "disabled"];

#[test]
fn a_refusal_takes_as_long_for_nobody_as_for_somebody() {
    let count: usize = strongroom_soak::size(24, 2000);
    let (_keeper, mut operator, mut gateway) = stage();
    let person = |operator: &mut Door, gateway: &mut Door, name: &str| {
        let create = Request::UserCreate(label(name));
        assert!(matches!(operator.request(&create), Told::User(_)));
        let ticket = invite(operator, name);
        assert!(matches!(redeem(gateway, &ticket, [7; 32]), PersonAnswer::Done));
    };
    for number in 0..count.div_ceil(FREE) {
        person(&mut operator, &mut gateway, &format!("wrong {number}"));
    }
    person(&mut operator, &mut gateway, "resting");
    person(&mut operator, &mut gateway, "disabled");
    let disable = Request::UserDisable(Pick(label("disabled")));
    assert!(matches!(operator.request(&disable), Told::Done));
    let mut number = 0;
    let mut timed = |gateway: &mut Door, name: &str| {
        number += 1;
        let begun = Instant::now();
        let answer = sign_in(gateway, name, WRONG, at_number(number));
        let took = begun.elapsed();
        assert_eq!(refused(answer), NotSignedIn::SignIn);
        took.as_secs_f64() * 1e6
    };
    for _ in 0..=FREE {
        timed(&mut gateway, "resting");
    }
    let mut times = CLASSES.map(|_| Vec::with_capacity(count));
    for turn in 0..count {
        let wrong = format!("wrong {}", turn / FREE);
        let names = [format!("nobody {turn}"), wrong, "resting".to_owned(), "disabled".to_owned()];
        // Each turn in another order, so that no class always comes after the same one.
        for step in 0..CLASSES.len() {
            let class = (turn + step) % CLASSES.len();
            times[class].push(timed(&mut gateway, &names[class]));
        }
    }
    let unknown = &times[0];
    for (class, sample) in CLASSES.iter().zip(&times) {
        assert_eq!(sample.len(), count);
        let (mean, t) = (moments(sample).0, welch(unknown, sample));
        let value = format!("mean {mean:.0} us, Welch's t {t:+.2} against unknown");
        strongroom_soak::tell("equal answers", &format!("{class} of {count}"), value);
    }
}

/// Mean and variance.
fn moments(sample: &[f64]) -> (f64, f64) {
    let count = f64::from(u32::try_from(sample.len()).unwrap());
    let mean = sample.iter().sum::<f64>() / count;
    let spread = sample.iter().map(|one| (one - mean).powi(2)).sum::<f64>();
    (mean, spread / (count - 1.0))
}

/// Welch's t of two samples.
fn welch(one: &[f64], other: &[f64]) -> f64 {
    let count = |sample: &[f64]| f64::from(u32::try_from(sample.len()).unwrap());
    let ((a, va), (b, vb)) = (moments(one), moments(other));
    (b - a) / (va / count(one) + vb / count(other)).sqrt()
}
