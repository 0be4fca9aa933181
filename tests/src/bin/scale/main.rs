//! What many ConsumerGroups and many sidecars cost the operator; `cargo xtask bench operator` builds and runs it.
//!
//! The operator runs as a process with the rights of the chart's ServiceAccount, against a real API server and the
//! emulator. Only its own CPU time and memory are counted ([`usage`]).

mod groups;
mod sidecar;
mod streams;
mod usage;

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use sluice_tests::binaries;
use sluice_tests::crowd::Size;
use sluice_tests::stage::{Operator, Stage};

/// What the operator logs unless it is asked for more.
const LOG: &str = "info";

#[derive(Debug, Parser)]
#[command(name = "scale", about = "Measures the operator with many ConsumerGroups, and with many control streams")]
struct Arguments {
    #[command(subcommand)]
    case: Case,
    /// One JSON line at the end, and nothing else on standard output.
    #[arg(long, global = true)]
    json: bool,
    /// Where the binaries are; beside this one unless given.
    #[arg(long, global = true)]
    binaries: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Case {
    /// Many ConsumerGroups: how soon all are settled, what is written when nothing happens, how soon a change is seen.
    Groups(groups::Arguments),
    /// Many sidecars: what their streams cost.
    Streams(streams::Arguments),
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let own = std::env::current_exe().context("cannot tell where this program is")?;
    let directory = arguments.binaries.or_else(|| own.parent().map(ToOwned::to_owned));
    binaries::use_those_in(&directory.context("this program is nowhere")?)?;
    match arguments.case {
        Case::Groups(case) => groups::run(&case, arguments.json).await,
        Case::Streams(case) => streams::run(&case, arguments.json).await,
    }
}

/// A stage for such a crowd, with one operator.
async fn set(size: Size) -> Result<(Stage, Operator)> {
    let stage = Stage::set(&size.platform()).await?;
    let operator = stage.operator_that_logs(0, LOG).await?;
    Ok((stage, operator))
}

/// Says how far it is.
fn tell(words: &str) {
    eprintln!("  {words}");
}
