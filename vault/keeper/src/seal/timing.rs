//! Whether the time of combining shares tells of them: dudect's test (Reparaz, Balasch, Verbauwhede, 2017).
//!
//! Two kinds of shares, the same ones always and new ones always, in an order that is drawn; Welch's t over their times.
//! The authors take |t| > 10 for a leak. The slowest tenth, interrupted or unlucky, is left out of both.

use std::hint::black_box;
use std::time::Instant;

use super::field::oracle::Tables;
use super::shares::tests::bare_shares;
use super::shares::{Share, interpolate};
use strongroom_soak::tell;

const SAMPLES: usize = 400_000;
const LEAK: f64 = 10.0;

#[test]
#[ignore = "a measurement, for release builds: deploy/test --soak timing"]
fn the_time_of_combining_shares_does_not_depend_on_them() {
    let t = welch(|shares| {
        black_box(interpolate(black_box(shares)).unwrap());
    });
    tell("timing", "combining 3 shares, Welch's t, 10 is a leak", format!("{t:.1}"));
    assert!(t.abs() < LEAK, "t = {t}");

    // The same over tables, with a branch for zero, as others have it: seen, or the measurement is blind.
    let tables = Tables::make();
    let t = welch(|shares| {
        let sum = shares.iter().fold(0, |sum, share| {
            share.body(|body| {
                body.iter().fold(sum, |sum, y| sum ^ tables.multiply(*y, share.index()))
            })
        });
        black_box(sum);
    });
    tell("timing", "the same over tables", format!("{t:.1}"));
    assert!(t.abs() > LEAK, "a planted leak is not seen: t = {t}");
}

fn welch(mut combine: impl FnMut(&[Share])) -> f64 {
    let same = bare_shares(&[0; 32]);
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..SAMPLES {
        let mut drawn = [0; 33];
        getrandom::fill(&mut drawn).unwrap();
        let [coin, point @ ..] = drawn;
        let other = bare_shares(&point);
        let kind = usize::from(coin & 1);
        let shares = [&same, &other][kind];
        let begun = Instant::now();
        combine(shares);
        times[kind].push(begun.elapsed().as_nanos());
    }
    let mut all: Vec<_> = times.iter().flatten().copied().collect();
    all.sort_unstable();
    let most = all[all.len() * 9 / 10];
    let [one, other] = times.map(|times| spread(times.into_iter().filter(|time| *time <= most)));
    (one.0 - other.0) / (one.1 + other.1).sqrt()
}

/// Their mean, and the variance of the mean.
fn spread(times: impl Iterator<Item = u128>) -> (f64, f64) {
    let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
    for time in times {
        let time = f64::from(u32::try_from(time).unwrap());
        count += 1.0;
        let off = time - mean;
        mean += off / count;
        squares += off * (time - mean);
    }
    (mean, squares / (count - 1.0) / count)
}
