//! A child process that ends with the value that owns it, and whose output is at hand when a test fails.
//!
//! A child is only ever addressed by its handle, never by its name.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use crate::janitor::{self, Registered};
use crate::wait;

/// How many lines of its log a process that fails is quoted with.
const QUOTED_LINES: usize = 40;

/// A running child: its standard output as lines to be read, its standard error kept.
///
/// Dropping it kills and reaps the child.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Locked only to be shared between threads with the rest: reading takes the process exclusively.
    stdout: Mutex<Receiver<String>>,
    log: Log,
    log_reader: Option<JoinHandle<()>>,
    /// It does not outlive this process, even if nothing is dropped.
    _registered: Registered,
}

impl Process {
    /// Starts `command`, with nothing on its standard input. `name` is what errors call it.
    pub fn spawn(name: impl Into<String>, command: &mut Command) -> Result<Self> {
        let name = name.into();
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
        let registered = janitor::register(child.id())?;
        let (lines, stdout) = mpsc::channel();
        if let Some(out) = child.stdout.take() {
            for_each_line(out, move |line| drop(lines.send(line)));
        }
        let log = Log::default();
        let log_reader = child.stderr.take().map(|err| {
            let log = log.clone();
            for_each_line(err, move |line| log.push(line))
        });
        Ok(Self { name, child, stdout: Mutex::new(stdout), log, log_reader, _registered: registered })
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of standard output, waiting for at most `bound`.
    pub fn next_line(&mut self, bound: Duration) -> Result<String> {
        match self.stdout.get_mut().unwrap_or_else(PoisonError::into_inner).recv_timeout(bound) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} printed nothing for {bound:?}{}", self.name, self.log.quote())
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = self.wait(Duration::from_secs(5))?;
                bail!("{} ended with {status}{}", self.name, self.log.quote())
            }
        }
    }

    /// Everything that the process has printed on standard error so far.
    pub fn log(&self) -> String {
        self.log.lines().join("\n")
    }

    /// Waits until a line of standard error contains `text`, for at most `bound`.
    pub fn wait_for_log(&mut self, text: &str, bound: Duration) -> Result<String> {
        let log = self.log.clone();
        let found = wait::until(bound, || log.lines().into_iter().find(|line| line.contains(text)));
        found.with_context(|| format!("{} did not log `{text}` within {bound:?}{}", self.name, self.log.quote()))
    }

    /// Fails if the process has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                self.finish_log();
                bail!("{} ended with {status}{}", self.name, self.log.quote())
            }
        }
    }

    /// Waits for the process to end by itself, for at most `bound`.
    pub fn wait(&mut self, bound: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + bound;
        loop {
            if let Some(status) = self.child.try_wait()? {
                self.finish_log();
                return Ok(status);
            }
            if Instant::now() >= end {
                bail!("{} still runs after {bound:?}{}", self.name, self.log.quote());
            }
            thread::sleep(wait::PAUSE);
        }
    }

    /// Asks the process to end (SIGTERM) and waits for it, for at most `bound`.
    pub fn terminate(&mut self, bound: Duration) -> Result<ExitStatus> {
        // One that was reaped has no ID any more that could be trusted.
        self.check_alive()?;
        kill_process(Pid::from_child(&self.child), Signal::TERM)
            .with_context(|| format!("cannot send SIGTERM to {}", self.name))?;
        self.wait(bound)
    }

    /// Kills the process (SIGKILL) and reaps it.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait().with_context(|| format!("cannot reap {}", self.name))?;
        self.finish_log();
        Ok(())
    }

    /// Waits until all that an ended process has logged is read. A child of its own may still hold its standard error
    /// open, so this is not waited for without end.
    fn finish_log(&self) {
        let finished = || self.log_reader.as_ref().is_none_or(JoinHandle::is_finished).then_some(());
        wait::until(Duration::from_secs(2), finished);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing left to do about any other failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `command` to its end and returns what it printed. Fails if its exit status does; `name` is what the error
/// calls it.
pub fn output_of(name: &str, command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {name} ({})", command.get_program().display()))?;
    if !output.status.success() {
        // Some programs say on standard output what is wrong.
        let said = if output.stderr.trim_ascii().is_empty() { &output.stdout } else { &output.stderr };
        bail!("{name} ended with {}: {}", output.status, String::from_utf8_lossy(said));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The lines of a standard error, shared with the thread that reads it.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    fn push(&self, line: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last lines, to be appended to an error.
    fn quote(&self) -> String {
        let lines = self.lines();
        let tail = &lines[lines.len().saturating_sub(QUOTED_LINES)..];
        if tail.is_empty() { "; it logged nothing".to_owned() } else { format!("; it logged:\n{}", tail.join("\n")) }
    }
}

/// Reads `input` line by line on a thread of its own, until it ends. Bytes that are not UTF-8 are replaced.
fn for_each_line(input: impl Read + Send + 'static, mut take: impl FnMut(String) + Send + 'static) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut input = BufReader::new(input);
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            take(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn shell(script: &str) -> Process {
        Process::spawn("a shell", Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn lines_of_standard_output_come_in_order() {
        let mut process = shell("echo one; echo two");
        assert_eq!(process.next_line(SOON).unwrap(), "one");
        assert_eq!(process.next_line(SOON).unwrap(), "two");
    }

    #[test]
    fn a_process_that_ends_early_is_quoted_with_its_log() {
        let mut process = shell("echo oh dear >&2; exit 3");
        process.wait_for_log("oh dear", SOON).unwrap();
        let error = process.next_line(SOON).unwrap_err().to_string();
        assert!(error.contains("exit status: 3") && error.contains("oh dear"), "{error}");
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let process = shell("exec sleep 600");
        let stat = format!("/proc/{}/stat", process.id());
        assert!(std::fs::exists(&stat).unwrap());
        drop(process);
        assert!(!std::fs::exists(&stat).unwrap());
    }

    #[test]
    fn a_process_can_be_asked_to_end() {
        let mut process = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
        process.next_line(SOON).unwrap();
        assert_eq!(process.terminate(SOON).unwrap().code(), Some(7));
    }
}
