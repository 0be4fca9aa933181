//! `cargo xtask bench`: what a message costs the sidecar, how many come out of the emulator, and what many groups and streams
//! cost the operator.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

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
    /// Seconds that each run is measured for, 5 when left out. Not for the operator.
    #[arg(long, global = true)]
    seconds: Option<u64>,
    /// Runs of each case, 3 when left out; the median is reported. Not for the operator.
    #[arg(long, global = true)]
    runs: Option<usize>,
    /// Only cases whose name begins so. Not for the operator.
    #[arg(long, global = true)]
    only: Option<String>,
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
        /// One of its two cases; both in turn when left out.
        case: Option<Case>,
        /// What the case takes (`groups --help`).
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        options: Vec<String>,
    },
}

/// A case of the operator.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Case {
    /// Many ConsumerGroups.
    Groups,
    /// Many control streams.
    Streams,
}

impl Case {
    const ALL: [Self; 2] = [Self::Groups, Self::Streams];

    /// What it is called by the program `scale`.
    fn name(self) -> &'static str {
        match self {
            Self::Groups => "groups",
            Self::Streams => "streams",
        }
    }
}

/// Builds for release and runs the benchmark.
pub(crate) fn run(args: &Args) -> Result<()> {
    match &args.what {
        None => bench(args, "sidecar", &[]),
        Some(What::Emulator { messages, rate }) => {
            let of_its_own = ["--messages".to_owned(), messages.to_string(), "--rate".to_owned(), rate.to_string()];
            bench(args, "emulator", &of_its_own)
        }
        Some(What::Operator { case, options }) => {
            args.refuse_for_the_operator()?;
            match case {
                Some(case) => operator(args, *case, options),
                None => Case::ALL.into_iter().try_for_each(|case| operator(args, case, &[])),
            }
        }
    }
}

impl Args {
    /// Its cases last as long as what they look at, and each is one run.
    fn refuse_for_the_operator(&self) -> Result<()> {
        let given = [("seconds", self.seconds.is_some()), ("runs", self.runs.is_some()), ("only", self.only.is_some())];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            Some((option, _)) => bail!(
                "`bench operator` has no --{option}: name a case, `groups` or `streams`, and see what it takes with \
                 `bench operator groups --help`"
            ),
            None => Ok(()),
        }
    }
}

fn operator(args: &Args, case: Case, options: &[String]) -> Result<()> {
    let packages = ["sluice-operator", "sluice-emulator", "sluice-tests"];
    let packages = packages.iter().flat_map(|package| ["--package", package]);
    let binaries = workspace::build(["--release", "--bins"].into_iter().chain(packages))?;
    let mut scale = Command::new(binaries.get("scale").context("the build made no binary `scale`")?);
    scale.arg(case.name()).args(options);
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
    bench.arg(what).arg(format!("--{what}")).arg(find(&package)?);
    let asked = [
        ("--seconds", args.seconds.map(|seconds| seconds.to_string())),
        ("--runs", args.runs.map(|runs| runs.to_string())),
        ("--only", args.only.clone()),
    ];
    for (option, value) in asked {
        bench.args(value.map(|value| format!("{option}={value}")));
    }
    if args.json {
        bench.arg("--json");
    }
    let status = bench.args(options).status().context("starting the benchmark")?;
    ensure!(status.success(), "the benchmark failed ({status})");
    Ok(())
}
