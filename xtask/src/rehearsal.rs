//! The demo as `cargo xtask test` runs it: as a program, through what people do to it. It is ended by time, by Ctrl-C and
//! by the closing of its terminal, its sidecar dies on the way; every time it has to account for every message.

use std::{
    io::{BufRead, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde::Deserialize;

use crate::demo;

/// Messages per second: what an unoptimised sidecar manages on a busy machine.
const RATE: &str = "300";

/// The sidecar is killed in the middle of a run that has an end.
pub(crate) fn killed_sidecar(xtask: &Path) -> Result<()> {
    let mut demo = Demo::start(xtask, &["--seconds", "5"])?;
    let sidecar = demo.sidecar()?;
    demo.wait_for_figures(3)?;
    kill_process(sidecar, Signal::KILL).context("killing the sidecar")?;
    demo.wait_for(&format!("sidecar {} has ended", sidecar.as_raw_nonzero()))?;
    demo.wait_for("lost 0")?;
    demo.conclude()
}

/// Ctrl-C ends a run that has no end.
pub(crate) fn interrupt(xtask: &Path) -> Result<()> {
    let mut demo = Demo::start(xtask, &[])?;
    demo.wait_for_figures(2)?;
    demo.signal(Signal::INT)?;
    demo.wait_for("lost 0")?;
    demo.conclude()
}

/// The terminal is closed: nobody reads any more, and the demo gets SIGHUP.
pub(crate) fn hangup(xtask: &Path) -> Result<()> {
    let mut demo = Demo::start(xtask, &[])?;
    let sidecar = demo.sidecar()?;
    demo.wait_for_figures(2)?;
    demo.screen = None;
    demo.signal(Signal::HUP)?;
    demo.conclude()?;
    ensure!(test_kill_process(sidecar).is_err(), "the sidecar has outlived the demo");
    Ok(())
}

/// A demo under way, which is not to outlive a rehearsal that has failed.
struct Demo {
    child: Child,
    /// What it shows; `None` once nobody reads it.
    screen: Option<BufReader<ChildStderr>>,
    /// All that was read of that.
    shown: String,
}

impl Demo {
    /// Starts it with the binaries beside `xtask`.
    fn start(xtask: &Path, arguments: &[&str]) -> Result<Self> {
        let directory = xtask.parent().context("a directory with the binaries")?;
        let mut command = Command::new(xtask);
        command.args(["demo", "--json", "--rate", RATE, "--binaries"]).arg(directory).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("starting the demo")?;
        let screen = child.stderr.take().map(BufReader::new);
        Ok(Self { child, screen, shown: String::new() })
    }

    /// Reads on until a line contains `text`, and returns what comes after it in that line.
    fn wait_for(&mut self, text: &str) -> Result<String> {
        let screen = self.screen.as_mut().context("nobody reads what the demo shows")?;
        loop {
            let begun = self.shown.len();
            let read = screen.read_line(&mut self.shown).context("reading what the demo shows")?;
            ensure!(read > 0, "the demo has ended without a line that contains {text:?}:\n{}", self.shown);
            if let Some((_, rest)) = self.shown[begun..].split_once(text) {
                return Ok(rest.to_owned());
            }
        }
    }

    /// Reads on until the figures have come `times` times; they come once a second, the first as the devices start.
    fn wait_for_figures(&mut self, times: usize) -> Result<()> {
        (0..times).try_for_each(|_| self.wait_for(": published ").map(drop))
    }

    /// The sidecar's PID, out of the line that asks to kill it.
    fn sidecar(&mut self) -> Result<Pid> {
        let line = self.wait_for(demo::TRY)?;
        let pid = line.split('`').next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        pid.with_context(|| format!("no PID in {line:?}"))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal).context("sending the demo a signal")
    }

    /// Waits for its end, which has to be a success with nothing lost.
    fn conclude(mut self) -> Result<()> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Result {
            published: u64,
            lost: u64,
            accepted_before_ack: u64,
        }
        if let Some(screen) = &mut self.screen {
            screen.read_to_string(&mut self.shown).context("reading what the demo shows")?;
        }
        let mut printed = String::new();
        if let Some(stdout) = &mut self.child.stdout {
            stdout.read_to_string(&mut printed).context("reading the demo's result")?;
        }
        let status = self.child.wait().context("waiting for the demo")?;
        ensure!(status.success(), "the demo has failed ({status}): {printed}\n{}", self.shown);
        let result: Result = serde_json::from_str(&printed).with_context(|| format!("the demo printed {printed:?}"))?;
        ensure!(
            result.published > 0 && result.lost == 0 && result.accepted_before_ack == 0,
            "the demo has not accounted for every message: {printed}\n{}",
            self.shown
        );
        Ok(())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Both fail only if it has ended already. Its children end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
