//! What a kubelet has done, in order: for tests that ask in which order, and for people who ask why.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// One thing done to one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Since the kubelet started.
    pub at: Duration,
    /// The pod's name.
    pub pod: String,
    /// The container's name.
    pub container: String,
    /// What was done.
    pub step: Step,
}

/// What was done to a container, or happened to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Its process was started, with this ID.
    Started(u32),
    /// Its startup probe passed, or it has none.
    StartedUp,
    /// Its readiness changed.
    Ready(bool),
    /// A probe failed as often as is allowed: the container is killed.
    Unhealthy(String),
    /// Its preStop hook was called.
    PreStop,
    /// Its preStop hook is through; the text is what went wrong, if anything did.
    PreStopped(Option<String>),
    /// It was sent SIGTERM.
    Terminate,
    /// It was sent SIGKILL.
    Kill,
    /// Its process has ended, with this exit code (128 + the signal's number).
    Ended(i32),
    /// It can't be started now, for this reason. Without a container, what the pod or the node waits for.
    Waits(String),
}

impl fmt::Display for Entry {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, pod, container, step } = self;
        write!(formatter, "{:9.3} s {pod}/{container}: {step:?}", at.as_secs_f64())
    }
}

#[derive(Debug)]
pub(super) struct Journal {
    start: Instant,
    entries: Mutex<Vec<Entry>>,
}

impl Journal {
    pub(super) fn new() -> Self {
        Self { start: Instant::now(), entries: Mutex::default() }
    }

    pub(super) fn push(&self, pod: &str, container: &str, step: Step) {
        let at = self.start.elapsed();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let last = entries.iter().rev().find(|entry| entry.pod == pod && entry.container == container);
        // What is tried again and again, in vain, is noted once.
        if matches!(step, Step::Waits(_)) && last.is_some_and(|entry| entry.step == step) {
            return;
        }
        entries.push(Entry { at, pod: pod.to_owned(), container: container.to_owned(), step });
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
