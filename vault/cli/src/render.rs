//! Tables, moments and durations as people read and write them.
//!
//! Invariant: a column is as wide as its longest cell; nothing is cut.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use strongroom_policy::moment::Moment;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::failure::{Failure, Outcome};
use crate::out;

/// Prints rows under their headings; says so when there are none.
pub(crate) fn table<const COLUMNS: usize>(
    headings: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
    nothing: &str,
) {
    if rows.is_empty() {
        out::say(nothing);
        return;
    }
    for line in lay_out(headings, rows) {
        out::data(&line);
    }
}

fn lay_out<const COLUMNS: usize>(
    headings: [&str; COLUMNS],
    rows: &[[String; COLUMNS]],
) -> Vec<String> {
    let headings = headings.map(ToOwned::to_owned);
    let all: Vec<[String; COLUMNS]> = std::iter::once(&headings)
        .chain(rows)
        .map(|row| row.each_ref().map(|cell| out::plain(cell)))
        .collect();
    let mut widths = [0; COLUMNS];
    for row in &all {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    all.iter().map(line).collect()
}

/// Now.
pub(crate) fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment::from_unix_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A moment in the text form of RFC 3339, UTC, without fractions.
pub(crate) fn moment(moment: Moment) -> String {
    let seconds = i64::try_from(moment.unix_millis() / 1000).unwrap_or(i64::MAX);
    let date = OffsetDateTime::from_unix_timestamp(seconds).ok();
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| "beyond dates".to_owned())
}

/// Reads a moment in RFC 3339.
pub(crate) fn parse_moment(text: &str) -> Option<Moment> {
    let millis = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos() / 1_000_000;
    u64::try_from(millis).ok().map(Moment::from_unix_millis)
}

/// A moment that may be missing.
pub(crate) fn until(end: Option<Moment>) -> String {
    end.map_or_else(|| "never".to_owned(), moment)
}

/// Reads `90s`, `15m`, `24h`, `30d`, `2w`.
pub(crate) fn duration(text: &str) -> Outcome<Duration> {
    let bad =
        || Failure::argument(format!("`{text}` is not a time; write 90s, 15m, 24h, 30d or 2w"));
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text.strip_prefix(digits).unwrap_or_default();
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return Err(bad()),
    };
    let count: u64 = digits.parse().map_err(|_| bad())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(bad)
}

/// A duration as people say it.
pub(crate) fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{:.1} s", duration.as_secs_f64()),
        60..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `1 token`, `2 tokens`.
pub(crate) fn count(number: usize, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use strongroom_policy::moment::Moment;

    use super::{duration, lay_out, moment};

    #[test]
    fn columns_line_up_and_lines_do_not_trail() {
        let rows = [["a".to_owned(), "long".to_owned()], ["bbb".to_owned(), String::new()]];
        assert_eq!(lay_out(["ID", "X"], &rows), ["ID   X", "a    long", "bbb"]);
    }

    #[test]
    fn a_duration_needs_a_unit_and_does_not_overflow() {
        assert_eq!(duration("30d").unwrap(), Duration::from_hours(30 * 24));
        for bad in
            ["", "30", "d", "1y", "-1d", "1.5h", "99999999999999999999d", "9999999999999999999w"]
        {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_reads_in_utc() {
        assert_eq!(moment(Moment::from_unix_millis(1_700_000_000_999)), "2023-11-14T22:13:20Z");
    }
}
