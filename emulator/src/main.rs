//! `sluice-emulator run`: reads the configuration, starts the emulator, says where it listens, and ends it on SIGTERM or
//! SIGINT. `sluice-emulator profile` prints a profile. Nothing else lives here.

use std::io::{IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use serde_json::json;
use sluice_emulator::{Config, Emulator, Profile};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The server-side subscription of Alibaba Cloud, on loopback.
#[derive(Parser)]
#[command(name = "sluice-emulator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the emulator until SIGTERM or SIGINT. Logs go to stderr (`SLUICE_LOG` sets the level); when it is ready it prints
    /// one JSON line to stdout: {"amqp":"HOST:PORT","http":"HOST:PORT","api":"HOST:PORT","ca":"FILE"}.
    Run(Run),
    /// Print a profile with every default, every other value, and what is not documented, to start one's own from.
    Profile,
}

#[derive(clap::Args)]
struct Run {
    /// A YAML or JSON file with groups, keys and limits; the platform's own limits without it.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A YAML or JSON file that says what to do where the platform's documents are silent; instead of `profile` in the
    /// configuration. See `sluice-emulator profile`.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Where to serve AMQP over TLS; port 0 picks one [default: 127.0.0.1:5671].
    #[arg(long, value_name = "ADDRESS:PORT")]
    amqp: Option<SocketAddr>,
    /// Where to serve the admin API; port 0 picks one [default: 127.0.0.1:5680].
    #[arg(long, value_name = "ADDRESS:PORT")]
    http: Option<SocketAddr>,
    /// Where to serve the OpenAPI and STS; port 0 picks one [default: 127.0.0.1:5681].
    #[arg(long, value_name = "ADDRESS:PORT")]
    api: Option<SocketAddr>,
    /// Where the CA lives: ca.pem for clients to trust, ca.key [default: .sluice-emulator].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

fn main() -> Result<()> {
    let run = match Arguments::parse().command {
        Command::Run(run) => run,
        Command::Profile => {
            std::io::stdout().write_all(Profile::commented().as_bytes())?;
            return Ok(());
        }
    };
    let filter = EnvFilter::try_from_env("SLUICE_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi).init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(run))
}

async fn serve(run: Run) -> Result<()> {
    let mut config = run.config.as_deref().map(Config::read).transpose()?.unwrap_or_default();
    config.profile = run.profile.as_deref().map(Profile::read).transpose()?.unwrap_or(config.profile);
    config.amqp = run.amqp.unwrap_or(config.amqp);
    config.http = run.http.unwrap_or(config.http);
    config.api = run.api.unwrap_or(config.api);
    let dir = run.dir.or(config.dir.take()).unwrap_or_else(|| PathBuf::from(".sluice-emulator"));
    config.dir = Some(dir.clone());
    // Before the ready line: a signal that comes right after it must not be missed.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let emulator = Emulator::start(config).await?;
    let ca = dir.join("ca.pem").canonicalize().context("the CA certificate is gone")?;
    let (amqp, http, api) = (emulator.amqp_addr(), emulator.http_addr(), emulator.api_addr());
    println!("{}", json!({"amqp": amqp, "http": http, "api": api, "ca": ca}));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    emulator.shutdown().await.context("the AMQP server failed")
}
