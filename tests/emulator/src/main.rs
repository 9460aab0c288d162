//! `strongroom-emulator`: serves the four providers' APIs on loopback until it is told to stop.
//!
//! Invariant: the addresses are printed and `--ready-fd` is written only once both listen.
#![forbid(unsafe_code)]

use std::{fs::OpenOptions, io::Write as _, net::SocketAddr, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Parser;
use strongroom_emulator::{Api, Emulator, Keys, Options};

/// A local stand-in for the OpenAI, Anthropic, Gemini and xAI APIs.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Where the four APIs are served over TLS.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Where `/__emulator/log` is served in plain HTTP.
    #[arg(long, default_value = "127.0.0.1:0")]
    control: SocketAddr,
    /// Where ca.pem and addr.json are written.
    #[arg(long)]
    dir: PathBuf,
    /// A key to accept, as openai=…, anthropic=…, gemini=… or xai=…; may be repeated.
    #[arg(long = "key", value_name = "API=KEY")]
    keys: Vec<String>,
    /// A file descriptor that gets one line once both sides listen.
    #[arg(long, value_name = "N")]
    ready_fd: Option<u32>,
    /// Serve the bench-* models without recording them.
    #[arg(long)]
    bench: bool,
    /// Answer in friendly sentences; accept the demo keys unless others are given.
    #[arg(long)]
    demo: bool,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let mut options = Options::new(arguments.dir);
    (options.listen, options.control) = (arguments.listen, arguments.control);
    (options.bench, options.demo) = (arguments.bench, arguments.demo);
    let mut keys = Keys::default();
    for key in &arguments.keys {
        keys.accept_text(key)?;
    }
    options.keys = keys;
    let demo = options.demo;
    let emulator = Emulator::start(options).await?;

    let mut out = std::io::stdout().lock();
    writeln!(out, "listen https://{}", emulator.address())?;
    writeln!(out, "control http://{}/__emulator/log", emulator.control_address())?;
    writeln!(out, "ca {}", emulator.ca_path().display())?;
    if demo {
        for api in Api::ALL {
            for key in emulator.keys().of(api) {
                writeln!(out, "key {}={key}", api.name())?;
            }
        }
    }
    out.flush()?;
    if let Some(number) = arguments.ready_fd {
        // Through /proc, since owning a bare descriptor number would take unsafe code.
        let path = format!("/proc/self/fd/{number}");
        let mut ready = OpenOptions::new().write(true).open(&path).context("--ready-fd")?;
        // One write: whoever waits stops reading after the first.
        ready.write_all(format!("ready {}\n", emulator.address()).as_bytes())?;
    }
    stop_signal().await
}

async fn stop_signal() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
