//! A child process, held by its handle: it never outlives the demo, and what it says on standard error is kept.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use rustix::process::{Pid, Signal, kill_process};
use serde::de::DeserializeOwned;

/// How many lines of a log are shown when its process has failed.
const LOG_TAIL: usize = 15;

/// A running child. Dropping it kills it.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// The lines of its standard output. They are read from it whether or not anyone receives them.
    lines: Receiver<String>,
}

impl Process {
    /// Starts `command` in a process group of its own, so that Ctrl-C reaches the demo alone. Its standard error is
    /// appended to `name.log` in `logs`.
    pub(crate) fn start(name: &'static str, command: &mut Command, logs: &Path) -> Result<Self> {
        let log = logs.join(format!("{name}.log"));
        let stderr = File::options().create(true).append(true).open(&log);
        let stderr = stderr.with_context(|| format!("opening {}", log.display()))?;
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
        let mut child = command.spawn().with_context(|| format!("starting the {name}"))?;

        let (sender, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Ok(Self { name, child, log, lines })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its next line of output, and reads it as JSON.
    pub(crate) fn announcement<T: DeserializeOwned>(&mut self, patience: Duration) -> Result<T> {
        match self.lines.recv_timeout(patience) {
            Ok(line) => {
                serde_json::from_str(&line).with_context(|| format!("the {} printed {line:?} as it started", self.name))
            }
            Err(RecvTimeoutError::Timeout) => {
                Err(self.failure(&format!("is not ready after {} s", patience.as_secs_f64())))
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().context("waiting for a child")?;
                Err(self.failure(&format!("ended as it started ({status})")))
            }
        }
    }

    /// Takes the lines of output that have come since the last call, without waiting.
    pub(crate) fn output(&self) -> impl Iterator<Item = String> {
        self.lines.try_iter()
    }

    /// The exit status, if it has ended.
    pub(crate) fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("looking after the {}", self.name))
    }

    /// Asks it to end, waits for that, and returns its last output. One that does not end in time, or ends with a
    /// failure, is an error.
    pub(crate) fn stop(&mut self, patience: Duration) -> Result<Vec<String>> {
        if self.exited()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)
                .with_context(|| format!("ending the {}", self.name))?;
        }
        let deadline = Instant::now() + patience;
        let status = loop {
            match self.exited()? {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    return Err(self.failure(&format!("has not ended {} s after SIGTERM", patience.as_secs_f64())));
                }
                None => thread::sleep(Duration::from_millis(10)),
            }
        };
        if !status.success() {
            return Err(self.failure(&format!("ended with a failure ({status})")));
        }
        // The child's end of the pipe is closed, so the reader comes to an end as well.
        Ok(self.lines.iter().collect())
    }

    /// An error that says what is wrong with this process, and shows the end of its log.
    pub(crate) fn failure(&self, what: &str) -> anyhow::Error {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL)..].join("\n  ");
        anyhow!("the {} {what}; the end of its log:\n  {tail}", self.name)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn shell(script: &str, logs: &Path) -> Process {
        Process::start("child", Command::new("sh").args(["-c", script]), logs).unwrap()
    }

    #[test]
    fn a_child_announces_itself_and_ends_when_asked_to() {
        let logs = tempfile::tempdir().unwrap();
        let mut child =
            shell("trap 'echo last; exit 0' TERM; echo '{\"n\":7}'; while :; do sleep 0.01; done", logs.path());
        let said: serde_json::Value = child.announcement(PATIENCE).unwrap();
        assert_eq!(said["n"], 7);
        assert!(child.exited().unwrap().is_none());
        assert_eq!(child.stop(PATIENCE).unwrap(), ["last"]);
    }

    #[test]
    fn a_child_that_fails_as_it_starts_shows_the_end_of_its_log() {
        let logs = tempfile::tempdir().unwrap();
        let mut child = shell("echo 'no such group' >&2; exit 3", logs.path());
        let error = child.announcement::<serde_json::Value>(PATIENCE).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("no such group"), "{error}");
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let logs = tempfile::tempdir().unwrap();
        let child = shell("exec sleep 600", logs.path());
        let pid = Pid::from_child(&child.child);
        drop(child);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
