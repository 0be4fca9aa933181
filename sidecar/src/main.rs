//! `sluice-sidecar`: see the library for what it does.

#![allow(clippy::doc_markdown, reason = "clap shows the comments of arguments to users as they are")]

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use sluice_sidecar::config;
use sluice_sidecar::credentials::Credentials;
use sluice_sidecar::run::{self, Listen, Options};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};
use tracing_subscriber::EnvFilter;

/// Serves the messages of an Alibaba Cloud IoT Platform consumer group to an application, over a local gRPC stream.
#[derive(Debug, Parser)]
#[command(name = "sluice-sidecar", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Consumes until SIGTERM or SIGINT, then drains. Prints one JSON line with its addresses when it is listening.
    Run {
        /// The ConsumerGroup document, YAML or JSON.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Where applications connect: unix:///PATH, or tcp://127.0.0.1:PORT (port 0 picks one).
        #[arg(long, default_value = "unix:///run/sluice/sluice.sock", value_name = "ADDRESS")]
        listen: Listen,
        /// Where /healthz, /readyz, /metrics and /status are served (port 0 picks one).
        #[arg(long, default_value = "127.0.0.1:9464", value_name = "ADDRESS")]
        admin: SocketAddr,
        /// Folder with the files accessKeyId, accessKeySecret and, if need be, securityToken; read anew for every attempt
        /// to connect. Without it the keys come from ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET and
        /// ALIBABA_CLOUD_SECURITY_TOKEN.
        #[arg(long, value_name = "DIR")]
        credentials_dir: Option<PathBuf>,
        /// How many seconds what is in hand may still be answered after a signal to stop; a second signal ends it.
        #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86_400))]
        drain_timeout: u64,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| EnvFilter::new("info")))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    match start(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(command: Command) -> Result<()> {
    let Command::Run { config, listen, admin, credentials_dir, drain_timeout } = command;
    let options = Options {
        group: config::load(&config)?,
        credentials: credentials_dir.map_or(Credentials::Environment, Credentials::Directory),
        listen,
        admin,
        drain: Duration::from_secs(drain_timeout),
    };
    // One thread: a link brings at most 1,000 messages a second, and one core is worth hundreds of thousands.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).context("SIGTERM can't be awaited")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT can't be awaited")?;
        let (first, second) = tokio::sync::oneshot::channel();
        let impatient = async move {
            let name = tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
            info!(signal = name, "asked to stop");
            let _ = first.send(());
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        let stop = async {
            let _ = second.await;
        };
        tokio::select! {
            result = run::run(options, stop) => result,
            () = impatient => anyhow::bail!("stopped by a second signal before everything was answered"),
        }
    })
}
