//! `sluice-operator`: see the library for what it does.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use sluice_operator::config::{Arguments, Command, LogFormat, Options};
use sluice_operator::run;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let Command::Run(options) = Arguments::parse().command;
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter())
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match options.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().with_ansi(false).init(),
    }
    match start(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is logged: `SLUICE_LOG`, or `info`. Except what the Kubernetes client says of answers that it can't read: it shows
/// them whole, and one may be a Secret.
fn filter() -> EnvFilter {
    let filter = EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    match "kube_client::client=off".parse() {
        Ok(never) => filter.add_directive(never),
        Err(_) => EnvFilter::new("off"),
    }
}

fn start(options: Options) -> Result<()> {
    // One provider of cryptography for all of TLS, whoever asks for the default.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Two threads: one may be busy with a list of thousands of objects, and the Lease has to be renewed all the same.
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be awaited")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be awaited")?;
        let stop = async {
            let name = tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
            info!(signal = name, "asked to stop");
        };
        Box::pin(run::run(options, stop)).await
    })
}
