//! A consumer application: takes messages from the Sluice sidecar beside it, handles each, and acknowledges it.
//!
//! To build your own, keep `consumer.rs` and put your work into `handler.rs`; `journal.rs` only serves measurements.

mod consumer;
mod handler;
mod journal;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::{consumer::Consumer, handler::Handler, journal::Journal};

/// Consumes messages from a Sluice sidecar. Ctrl-C or SIGTERM: finishes what is in hand, then ends.
#[derive(Parser)]
#[command(version)]
struct Args {
    /// Where the sidecar listens: `unix:///PATH`, `http://127.0.0.1:PORT` or `tcp://127.0.0.1:PORT`. The environment
    /// variable `SLUICE_ADDR`, which Sluice sets in its pods, serves as the default.
    #[arg(long)]
    address: Option<String>,

    /// Name of this consumer, its own among the streams of the sidecar.
    #[arg(long, default_value = "example-rust")]
    client_id: String,

    /// The most messages to handle at the same time.
    #[arg(long, default_value_t = 256)]
    concurrency: u32,

    /// Pretend that handling a message takes this many milliseconds.
    #[arg(long, default_value_t = 0)]
    work_ms: u64,

    /// Fail the first attempt of every Nth message, to see it come again; 0 fails none.
    #[arg(long, default_value_t = 0)]
    fail_every: u64,

    /// Write one line of JSON per event to this file (`-`: standard output) instead of a line of text per message.
    #[arg(long, value_name = "FILE")]
    journal: Option<String>,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let args = Args::parse();
    let address = args
        .address
        .or_else(|| std::env::var("SLUICE_ADDR").ok())
        .context("no sidecar to talk to: set SLUICE_ADDR or --address, for example unix:///run/sluice/sluice.sock")?;
    let journal = args.journal.as_deref().map(Journal::open).transpose()?;
    let handler =
        Handler { work: Duration::from_millis(args.work_ms), fail_every: args.fail_every, print: journal.is_none() };

    let totals =
        Consumer::new(&address, args.client_id, args.concurrency, handler, journal)?.run(stop_signal()?).await?;
    eprintln!("{totals}");
    Ok(())
}

/// Completes on the first Ctrl-C or SIGTERM. The handlers are in place when this returns.
fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
