//! `cargo xtask test`: all tests of the workspace, and what has to be there for them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{chart, crd, proto, rehearsal, workspace};

/// Runs one stage after the other until one fails, then says how long each took.
pub(crate) fn run() -> Result<()> {
    let mut stages = Stages::default();
    let result = stages.run_all();
    eprintln!();
    for (name, time) in stages.times {
        eprintln!("{name:<32} {:>7.1} s", time.as_secs_f64());
    }
    result
}

#[derive(Default)]
struct Stages {
    times: Vec<(&'static str, Duration)>,
}

impl Stages {
    fn run_all(&mut self) -> Result<()> {
        self.run("generated code is up to date", proto::check)?;
        // All targets at once, so that the binaries which the end-to-end tests start are built with what the tests are
        // built with, and nothing is built twice.
        let binaries = self.run("build", || workspace::build(["--workspace", "--all-targets"]))?;
        let printer = binaries.get(crd::PRINTER).context("the build made no binary that prints the definition")?;
        self.run("definition is up to date", || crd::check(printer))?;
        self.run("chart is up to date", chart::check)?;
        for (stage, tools) in [("cluster tools", "cluster-tools"), ("clients of strangers", "stranger-tools")] {
            let tools = binaries.get(tools).with_context(|| format!("the build made no binary `{tools}`"))?;
            self.run(stage, || succeed(&mut Command::new(tools)))?;
        }
        self.run("test", || succeed(workspace::cargo().args(["test", "--workspace"])))?;
        let xtask = binaries.get("xtask").context("the build made no binary `xtask`")?;
        self.run("demo: the sidecar is killed", || rehearsal::killed_sidecar(xtask))?;
        self.run("demo: Ctrl-C", || rehearsal::interrupt(xtask))?;
        self.run("demo: the terminal is closed", || rehearsal::hangup(xtask))
    }

    fn run<T>(&mut self, name: &'static str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("==> {name}");
        let start = Instant::now();
        let result = work();
        self.times.push((name, start.elapsed()));
        result
    }
}

/// Runs a command to its end, its output shown as it comes.
fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}
