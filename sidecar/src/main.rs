//! `sluice-sidecar`: see the library for what it does.

#![allow(clippy::doc_markdown, reason = "clap shows the comments of arguments to users as they are")]

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand};
use sluice_sidecar::admin::AdminAddress;
use sluice_sidecar::control::dial::Broker;
use sluice_sidecar::credentials::Credentials;
use sluice_sidecar::listen::Listen;
use sluice_sidecar::run::{self, Mode, Options};
use sluice_sidecar::{config, drain};
use tokio::runtime::Runtime;
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
    ///
    /// What it consumes is said either by a file (--config) or by the operator (--broker, --broker-ca, --token-file and
    /// --group).
    Run(RunArguments),
    /// Has the running sidecar drain: no more messages, verdicts on what is in hand are waited for, links are closed.
    /// Returns once that is done. Asking again changes nothing, but that a shorter time counts.
    Drain {
        /// Where the sidecar listens: its own --listen.
        #[arg(long, default_value = "unix:///run/sluice/sluice.sock", value_name = "ADDRESS")]
        listen: Listen,
        /// How many seconds what is in hand may still be answered.
        #[arg(long, default_value_t = 25, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86_400))]
        timeout: u64,
    },
}

#[derive(Debug, Args)]
struct RunArguments {
    /// The ConsumerGroup document, YAML or JSON.
    #[arg(long, value_name = "FILE", conflicts_with = "broker", required_unless_present = "broker")]
    config: Option<PathBuf>,
    /// An address of the operator's broker; every address that the name has is tried. May be given several times.
    #[arg(long, value_name = "HOST:PORT", requires_all = ["broker_ca", "token_file", "group"])]
    broker: Vec<Broker>,
    /// PEM file of the authorities that vouch for the broker.
    #[arg(long, value_name = "FILE", requires = "broker")]
    broker_ca: Option<PathBuf>,
    /// File with the pod's token for the broker; read anew for every stream.
    #[arg(long, value_name = "FILE", requires = "broker")]
    token_file: Option<PathBuf>,
    /// The ConsumerGroup in the pod's namespace.
    #[arg(long, value_name = "NAME", requires = "broker")]
    group: Option<String>,
    /// Where applications connect: unix:///PATH, or tcp://127.0.0.1:PORT (port 0 picks one).
    #[arg(long, default_value = "unix:///run/sluice/sluice.sock", value_name = "ADDRESS")]
    listen: Listen,
    /// Where /healthz, /readyz, /metrics and /status are served (port 0 picks one). An IPv6 address may come without
    /// brackets.
    #[arg(long, default_value = "127.0.0.1:9464", value_name = "ADDRESS")]
    admin: AdminAddress,
    /// Folder with the files accessKeyId, accessKeySecret and, if need be, securityToken; read anew for every attempt
    /// to connect. Without it the keys come from ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET and
    /// ALIBABA_CLOUD_SECURITY_TOKEN. With --broker no keys are needed.
    #[arg(long, value_name = "DIR", conflicts_with = "broker")]
    credentials_dir: Option<PathBuf>,
    /// Folder in which connect attempts are remembered over restarts, so that these don't exceed the platform's limit.
    /// Default: with --broker the folder of the socket, with --config none.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How many seconds what is in hand may still be answered after a signal to stop; a second signal ends it.
    #[arg(long, default_value_t = 20, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=86_400))]
    drain_timeout: u64,
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
    match command {
        Command::Run(arguments) => consume(arguments),
        Command::Drain { listen, timeout } => {
            let runtime = runtime()?;
            let handed_back = runtime.block_on(drain::request(&listen, Duration::from_secs(timeout)))?;
            if handed_back == 0 {
                println!("drained: everything in hand was answered");
            } else {
                println!("drained: {handed_back} messages were not answered in time and are handed back");
            }
            Ok(())
        }
    }
}

fn runtime() -> Result<Runtime> {
    // One thread: a link brings at most 1,000 messages a second, and one core is worth hundreds of thousands.
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("no runtime")
}

fn consume(arguments: RunArguments) -> Result<()> {
    let RunArguments { config, broker, broker_ca, token_file, group, listen, admin, credentials_dir, .. } = arguments;
    let mode = match (config, broker_ca, token_file, group) {
        (Some(config), ..) => Mode::File {
            group: Box::new(config::load(&config)?),
            credentials: credentials_dir.map_or(Credentials::Environment, Credentials::Directory),
        },
        (None, Some(authority), Some(token), Some(group)) => Mode::Cluster { brokers: broker, authority, token, group },
        _ => anyhow::bail!("either --config, or --broker with --broker-ca, --token-file and --group must be given"),
    };
    let drain = Duration::from_secs(arguments.drain_timeout);
    let options = Options { mode, listen, admin: admin.0, drain, state_dir: arguments.state_dir };
    runtime()?.block_on(async {
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
