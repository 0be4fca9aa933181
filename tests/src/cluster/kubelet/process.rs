//! The processes of one kubelet: each in a process group of its own, which ends as a whole.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::{Child, Command};

use super::invocation::Invocation;
use crate::janitor::{self, Registered};

/// The groups that live, and whether new ones may.
#[derive(Debug, Default)]
pub(super) struct Groups(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    live: BTreeSet<i32>,
    closed: bool,
}

impl Groups {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills every process, and lets none start until [`Self::open`].
    pub(super) fn kill_and_close(&self) {
        let mut state = self.state();
        state.closed = true;
        for group in state.live.iter().filter_map(|&group| Pid::from_raw(group)) {
            kill_group(group);
        }
    }

    pub(super) fn open(&self) {
        self.state().closed = false;
    }
}

fn kill_group(group: Pid) {
    // Nothing is left of it, at worst.
    let _ = kill_process_group(group, Signal::KILL);
}

/// A running process. Dropping it kills its group.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    id: Pid,
    groups: Arc<Groups>,
    _registered: Registered,
}

impl Process {
    /// Starts one in `directory`; what it prints is appended to `log`.
    pub(super) fn spawn(groups: &Arc<Groups>, call: &Invocation, directory: &Path, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = Command::new(&call.program);
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path))).env("HOME", directory);
        command.envs(&call.environment).args(&call.arguments).current_dir(directory);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        let mut state = groups.state();
        if state.closed {
            return Err(io::Error::other("the machine is off"));
        }
        let child =
            command.spawn().map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", call.program)))?;
        let id = child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        let id = id.ok_or_else(|| io::Error::other("a process without an ID"))?;
        state.live.insert(id.as_raw_nonzero().get());
        drop(state);
        let registered = janitor::register(id.as_raw_nonzero().get().unsigned_abs()).map_err(io::Error::other)?;
        Ok(Self { child, id, groups: Arc::clone(groups), _registered: registered })
    }

    pub(super) fn id(&self) -> Pid {
        self.id
    }

    /// Sends SIGTERM to the process itself, as a container runtime does.
    pub(super) fn terminate(&self) {
        // It may just have ended.
        let _ = kill_process(self.id, Signal::TERM);
    }

    /// Sends SIGKILL to all of its group.
    pub(super) fn kill(&self) {
        kill_group(self.id);
    }

    /// Waits for its end, and ends what it leaves behind. Its exit code, or 128 and the signal's number.
    pub(super) async fn exit(&mut self) -> i32 {
        let status = self.child.wait().await;
        self.kill();
        self.groups.state().live.remove(&self.id.as_raw_nonzero().get());
        status.map_or(255, exit_code)
    }
}

fn exit_code(status: ExitStatus) -> i32 {
    status.code().or_else(|| Some(128 + status.signal()?)).unwrap_or(255)
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.groups.state().live.remove(&self.id.as_raw_nonzero().get()) {
            self.kill();
        }
    }
}
