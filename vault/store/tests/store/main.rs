//! The promises of every store, then the faults that the embedded one must survive.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "a skipped test says why, a random one says its seed")]

mod check;
mod child;
mod conformance;
mod cost;
mod embedded;
mod faults;
mod kill;
mod mount;
mod own;
mod postgres;
mod power;
mod server;
mod space;

use strongroom_store::{Batch, Key, Value};

/// What a database calls these stores.
const NAME: [u8; 16] = [7; 16];

fn key(name: &str) -> Key {
    Key::new(name.as_bytes()).unwrap()
}

fn value(text: &str) -> Value {
    Value::new(text.as_bytes()).unwrap()
}

fn put(name: &str, text: &str) -> Batch {
    Batch::new().put(key(name), value(text))
}
