//! `cargo xtask test`: all tests of the workspace, and what has to be there for them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{proto, workspace};

/// Runs one stage after the other until one fails, then says how long each took.
pub(crate) fn run() -> Result<()> {
    let mut times = Vec::new();
    let result = stages(&mut times);
    eprintln!();
    for (name, time) in times {
        eprintln!("{name:<32} {:>7.1} s", time.as_secs_f64());
    }
    result
}

fn stages(times: &mut Vec<(&'static str, Duration)>) -> Result<()> {
    let mut stage = |name, work: &dyn Fn() -> Result<()>| {
        eprintln!("==> {name}");
        let start = Instant::now();
        let result = work();
        times.push((name, start.elapsed()));
        result
    };
    stage("generated code is up to date", &proto::check)?;
    // All targets at once, so that the binaries which the end-to-end tests start are built with what the tests are built
    // with, and nothing is built twice.
    stage("build", &|| succeed(workspace::cargo().args(["build", "--workspace", "--all-targets"])))?;
    stage("test", &|| succeed(workspace::cargo().args(["test", "--workspace"])))
}

/// Runs a command to its end, its output shown as it comes.
fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} failed ({status})");
    Ok(())
}
