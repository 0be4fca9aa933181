//! `cargo xtask fuzz`: gives what Sluice reads from its peers to libFuzzer. It is built with the compiler that builds the
//! rest: coverage needs no nightly one, only sanitizers do, and there is no unsafe code of ours for those to look into.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::workspace;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to fuzz; everything when left out.
    targets: Vec<Target>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Play this one input, such as a run has left in fuzz/artifacts, and nothing else.
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

/// What is fuzzed: see fuzz/README.md.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Target {
    Codec,
    Engine,
    EmulatorEntry,
    EmulatorFrames,
    EmulatorCalls,
}

impl Target {
    const fn name(self) -> &'static str {
        match self {
            Self::Codec => "codec",
            Self::Engine => "engine",
            Self::EmulatorEntry => "emulator_entry",
            Self::EmulatorFrames => "emulator_frames",
            Self::EmulatorCalls => "emulator_calls",
        }
    }

    /// The largest input that is tried, in bytes.
    const fn longest(self) -> u32 {
        match self {
            Self::Codec | Self::Engine => 1024,
            Self::EmulatorEntry | Self::EmulatorFrames | Self::EmulatorCalls => 4096,
        }
    }
}

/// What makes the compiler count which branches are taken and what is compared, for libFuzzer to see.
const INSTRUMENTS: [&str; 7] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-simplifycfg-branch-fold-threshold=0",
    "--cfg=fuzzing",
];

pub(crate) fn run(args: &Args) -> Result<()> {
    let targets = if args.targets.is_empty() { Target::value_variants() } else { &args.targets };
    let fuzzers = build(targets)?;
    if let Some(input) = &args.input {
        ensure!(input.is_file(), "{} is no file", input.display());
        return fuzzers.iter().try_for_each(|fuzzer| fuzzer.play(input));
    }
    let at_once = thread::available_parallelism().map_or(1, usize::from);
    let mut found = Vec::new();
    for fuzzers in fuzzers.chunks(at_once) {
        thread::scope(|scope| {
            let running: Vec<_> = fuzzers.iter().map(|fuzzer| scope.spawn(|| fuzzer.run(args.seconds))).collect();
            let ended = running.into_iter().map(|it| it.join().unwrap_or_else(|_| bail!("a thread panicked")));
            found.extend(ended.filter_map(Result::err));
        });
    }
    for error in &found {
        eprintln!("{error:#}");
    }
    ensure!(found.is_empty(), "{} of {} targets have found something", found.len(), fuzzers.len());
    Ok(())
}

struct Fuzzer {
    target: Target,
    binary: PathBuf,
    /// The folder of the fuzz targets.
    home: PathBuf,
}

fn build(targets: &[Target]) -> Result<Vec<Fuzzer>> {
    let compiler = std::env::var_os("CXX").unwrap_or_else(|| "c++".into());
    let found = Command::new(&compiler).arg("--version").output();
    let is_there = found.is_ok_and(|output| output.status.success());
    ensure!(
        is_there,
        "libFuzzer is built with a C++ compiler, and there is no {}: apt-get install g++",
        compiler.display()
    );

    let host = host()?;
    let home = workspace::root().join("fuzz");
    let manifest = home.join("Cargo.toml");
    // With a target that is named, build scripts and macros are spared the instruments.
    let mut cargo = workspace::cargo();
    cargo.env("CARGO_ENCODED_RUSTFLAGS", INSTRUMENTS.join("\x1f"));
    cargo.args(["build", "--locked", "--release", "--target", &host, "--manifest-path"]).arg(manifest);
    cargo.args(targets.iter().flat_map(|target| ["--bin", target.name()]));
    let binaries = workspace::built_by(cargo)?;
    let fuzzer = |target: &Target| {
        let binary = binaries.get(target.name()).with_context(|| format!("the build made no {}", target.name()))?;
        Ok(Fuzzer { target: *target, binary: binary.clone(), home: home.clone() })
    };
    targets.iter().map(fuzzer).collect()
}

/// The triple of this machine.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("asking rustc for its host")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = said.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    Ok(host.to_owned())
}

impl Fuzzer {
    fn run(&self, seconds: u32) -> Result<()> {
        let name = self.target.name();
        let corpus = self.home.join("corpus").join(name);
        let artifacts = self.home.join("artifacts").join(name);
        for folder in [&corpus, &artifacts] {
            fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        }
        eprintln!("{name}: {seconds} s");
        let mut command = Command::new(&self.binary);
        command.current_dir(&self.home).arg(corpus).arg(self.home.join("seeds").join(name));
        command.args([
            format!("-max_total_time={seconds}"),
            format!("-max_len={}", self.target.longest()),
            format!("-artifact_prefix={}/", artifacts.display()),
            "-timeout=20".to_owned(),
            "-verbosity=0".to_owned(),
            "-print_final_stats=1".to_owned(),
        ]);
        let output = command.output().with_context(|| format!("starting {command:?}"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() {
            bail!(
                "{said}\n{name} has found something ({}). To see it again: cargo xtask fuzz {name} --input FILE, with \
                 the newest file in {}",
                output.status,
                artifacts.display()
            );
        }
        let runs = said.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
        eprintln!("{name}: {} inputs, nothing found", runs.map_or("?", str::trim));
        Ok(())
    }

    fn play(&self, input: &Path) -> Result<()> {
        let status = Command::new(&self.binary).arg(input).status().context("starting the fuzzer")?;
        ensure!(status.success(), "{} fails with {} ({status})", self.target.name(), input.display());
        Ok(())
    }
}
