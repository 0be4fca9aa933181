//! A program of the control plane: a process group of its own, its log in a file.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::janitor::{self, Registered};
use crate::wait;

/// How many lines of its log a program that fails is quoted with.
const QUOTED_LINES: usize = 30;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Daemon {
    name: &'static str,
    child: Child,
    log: PathBuf,
    // After the child: it is killed first.
    _registered: Registered,
}

impl Daemon {
    /// Starts `command`; what it prints is appended to the file `log`. It gets no environment but `PATH`.
    pub(super) fn spawn(name: &'static str, command: &mut Command, log: PathBuf) -> Result<Self> {
        let file = File::options().create(true).append(true).open(&log)?;
        let child = command
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        let registered = janitor::register(child.id())?;
        Ok(Self { name, child, log, _registered: registered })
    }

    /// Fails if it has ended.
    pub(super) fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("{} ended with {status}{}", self.name, self.quote()),
        }
    }

    /// Sends a signal.
    pub(super) fn signal(&mut self, signal: Signal) -> Result<()> {
        self.check_alive()?;
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot send a signal to {}", self.name))
    }

    /// Asks it to end (SIGTERM), and kills it if it has not after `bound`.
    pub(super) async fn terminate(mut self, bound: Duration) -> Result<()> {
        self.signal(Signal::TERM)?;
        let end = Instant::now() + bound;
        while self.child.try_wait()?.is_none() && Instant::now() < end {
            tokio::time::sleep(wait::PAUSE).await;
        }
        Ok(())
    }

    /// The end of its log, to be appended to an error.
    pub(super) fn quote(&self) -> String {
        quote(self.name, &self.log)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing left to do about any other failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The end of the log at `path`.
pub(super) fn quote(name: &str, path: &Path) -> String {
    let log = fs::read(path).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<_> = log.lines().collect();
    if lines.is_empty() {
        return format!("; {name} logged nothing");
    }
    format!("; {name} logged:\n{}", lines[lines.len().saturating_sub(QUOTED_LINES)..].join("\n"))
}
