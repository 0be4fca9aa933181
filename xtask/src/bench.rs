//! `cargo xtask bench`: what a message costs the sidecar, how many come out of the emulator, and what many groups and streams
//! cost the operator.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace;

/// Measure the sidecar's CPU time per message, the emulator's messages per second, or the operator.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What is measured instead of the sidecar.
    #[command(subcommand)]
    what: Option<What>,
    /// Print one JSON line per case, and nothing else.
    #[arg(long, global = true)]
    json: bool,
    /// Seconds that each run is measured for.
    #[arg(long, global = true, default_value_t = 5)]
    seconds: u64,
    /// Runs of each case; the median is reported.
    #[arg(long, global = true, default_value_t = 3)]
    runs: usize,
    /// Only cases whose name begins so.
    #[arg(long, global = true, default_value = "")]
    only: String,
}

#[derive(clap::Subcommand)]
enum What {
    /// One emulator's messages per second, to one client and to 64, with 1,000 groups defined.
    Emulator {
        /// Messages of each run of the case `backlog`, which are published before clients may have any.
        #[arg(long, default_value_t = 500_000)]
        messages: usize,
        /// Messages a second that devices publish in the case `live`, while clients accept.
        #[arg(long, default_value_t = 100_000)]
        rate: u32,
    },
    /// The operator with 1,000 ConsumerGroups and with 2,000 control streams.
    Operator {
        /// `groups` or `streams`, with what it takes (`groups --help`); both in turn when left out.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        case: Vec<String>,
    },
}

/// Builds for release and runs the benchmark.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        None => bench(args, "sidecar", &[]),
        Some(What::Emulator { messages, rate }) => {
            let of_its_own = ["--messages".to_owned(), messages.to_string(), "--rate".to_owned(), rate.to_string()];
            bench(args, "emulator", &of_its_own)
        }
        Some(What::Operator { case }) if case.is_empty() => {
            operator(args, &["groups".to_owned()])?;
            operator(args, &["streams".to_owned()])
        }
        Some(What::Operator { case }) => operator(args, case),
    }
}

fn operator(args: &Args, case: &[String]) -> Result<()> {
    let packages = ["sluice-operator", "sluice-emulator", "sluice-tests"];
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    let binaries = workspace::build(["--release", "--bins"].into_iter().chain(packages))?;
    let mut scale = Command::new(binaries.get("scale").context("the build made no binary `scale`")?);
    scale.args(case);
    if args.json {
        scale.arg("--json");
    }
    let status = scale.status().context("starting the benchmark")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}

/// Has the program `bench` measure `sluice-WHAT`.
fn bench(args: &Args, what: &str, options: &[String]) -> Result<()> {
    let package = format!("sluice-{what}");
    let binaries = workspace::build(["--release", "--bins", "--package", &package, "--package", "sluice-tests"])?;
    let find = |name: &str| binaries.get(name).with_context(|| format!("the build made no binary `{name}`"));
    let mut bench = Command::new(find("bench")?);
    bench.arg(what).arg(format!("--{what}")).arg(find(&package)?).args(["--only", &args.only]);
    bench.args(["--seconds", &args.seconds.to_string(), "--runs", &args.runs.to_string()]);
    if args.json {
        bench.arg("--json");
    }
    let status = bench.args(options).status().context("starting the benchmark")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}
