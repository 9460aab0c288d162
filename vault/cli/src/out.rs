//! The one place that prints: data on standard output, talk on standard error.
//!
//! Invariant: what others wrote (labels, providers' texts) reaches the terminal without control characters.

use std::io::{self, IsTerminal, Write};

use serde_json::{Value, json};

use crate::failure::Failure;

/// How data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The version of every JSON shape.
const JSON_VERSION: u32 = 1;

/// Prints a line of data. A reader that went away (`| head`) is no error.
pub(crate) fn data(line: &str) {
    let mut out = io::stdout().lock();
    // Nothing useful can be done about a closed standard output.
    let _closed = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// Prints text as data, as it is.
pub(crate) fn raw(bytes: &[u8]) {
    let mut out = io::stdout().lock();
    let _closed = out.write_all(bytes).and_then(|()| out.flush());
}

/// Prints an object with its version.
pub(crate) fn object(value: Value) {
    data(&versioned(value).to_string());
}

/// Says something to whoever sits at the terminal.
pub(crate) fn say(line: &str) {
    let mut err = io::stderr().lock();
    let _closed = writeln!(err, "{line}");
}

/// Says something without ending the line.
pub(crate) fn ask(text: &str) {
    let mut err = io::stderr().lock();
    let _closed = write!(err, "{text}").and_then(|()| err.flush());
}

/// Says what must not be overlooked.
pub(crate) fn warn(line: &str) {
    say(&format!("{} {line}", paint(Colour::Yellow, "warning:")));
}

/// Tells a failure in the form that was asked for.
pub(crate) fn failure(form: Form, failure: &Failure) {
    match form {
        Form::Text => say(&format!("{} {failure}", paint(Colour::Red, "error:"))),
        Form::Json => {
            let Failure { code, message, next, exit } = failure;
            let told = json!({"code": code, "message": message, "next": next, "exit": exit});
            say(&versioned(json!({"error": told})).to_string());
        }
    }
}

/// A colour that helps and that nothing depends on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colour {
    Red,
    Yellow,
    Green,
}

/// Colours a word if standard error is a terminal and `NO_COLOR` is unset (no-color.org).
pub(crate) fn paint(colour: Colour, word: &str) -> String {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if !wanted || !io::stderr().is_terminal() {
        return word.to_owned();
    }
    let number = match colour {
        Colour::Red => 31,
        Colour::Yellow => 33,
        Colour::Green => 32,
    };
    format!("\u{1b}[{number}m{word}\u{1b}[0m")
}

/// Text of others without what a terminal would obey.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn versioned(value: Value) -> Value {
    let mut object = json!({"version": JSON_VERSION});
    if let (Value::Object(all), Value::Object(fields)) = (&mut object, value) {
        all.extend(fields);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::{plain, versioned};
    use serde_json::json;

    #[test]
    fn what_others_wrote_cannot_move_the_cursor() {
        assert_eq!(plain("a\u{1b}[2Jb\r\nc"), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c");
    }

    #[test]
    fn every_object_says_its_version() {
        assert_eq!(versioned(json!({"a": 2})), json!({"version": 1, "a": 2}));
    }
}
