//! `cargo xtask bench`: what a message costs the sidecar.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Measure the sidecar's CPU time per message.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Print one JSON line per case, and nothing else.
    #[arg(long)]
    json: bool,
    /// Seconds that each run is measured for.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Runs of each case; the median is reported.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Only cases whose name begins so.
    #[arg(long, default_value = "")]
    only: String,
}

/// Builds for release and runs the benchmark.
pub(crate) fn run(args: &Args) -> Result<()> {
    let binaries =
        workspace::build(["--release", "--bins", "--package", "sluice-sidecar", "--package", "sluice-tests"])?;
    let find = |name: &str| binaries.get(name).with_context(|| format!("the build made no binary `{name}`"));
    let mut bench = Command::new(find("bench")?);
    bench.arg("--sidecar").arg(find("sluice-sidecar")?).args(["--only", &args.only]);
    bench.args(["--seconds", &args.seconds.to_string(), "--runs", &args.runs.to_string()]);
    if args.json {
        bench.arg("--json");
    }
    let status = bench.status().context("starting the benchmark")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}
