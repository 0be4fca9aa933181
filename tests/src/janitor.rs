//! Nothing outlives a test process, not even one that is killed.
//!
//! A shell of our own waits at the end of a pipe. When this process is gone, whatever ended it, the pipe closes: the
//! shell then kills every process group that is still registered and removes this process's directory. A process group
//! is only ever registered by the value that started it, and struck off before its ID can be anybody else's.

use std::fs;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Context as _, Result, anyhow};

/// What the shell does. `$1` is the directory to remove. Processes that are being killed may still write there, so it
/// is tried until the directory is gone.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
groups=' '
while read -r verb group; do
    case $verb in
        kill) groups="$groups$group " ;;
        spare) groups="${groups%% $group *} ${groups#* $group }" ;;
    esac
done
for group in $groups; do
    kill -KILL "-$group" 2>/dev/null
done
for try in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf "$1" 2>/dev/null && break
    sleep 0.1
done
"#;

/// The shell, and the directory that goes with this process.
#[derive(Debug)]
struct Janitor {
    pipe: Mutex<ChildStdin>,
    directory: PathBuf,
    // Never waited for: it outlives this process.
    _shell: Child,
}

impl Janitor {
    fn start() -> Result<Self> {
        // Kept short: paths of Unix sockets, of which some are below this, have at most 107 bytes.
        let directory = tempfile::Builder::new().prefix("sluice-").rand_bytes(4).tempdir()?.keep();
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "janitor"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Out of reach of a Ctrl-C in the terminal.
            .process_group(0)
            .spawn()
            .context("cannot start sh")?;
        let pipe = shell.stdin.take().context("sh has no standard input")?;
        Ok(Self { pipe: Mutex::new(pipe), directory, _shell: shell })
    }

    fn shared() -> Result<&'static Self> {
        static JANITOR: OnceLock<Result<Janitor, String>> = OnceLock::new();
        let janitor = JANITOR.get_or_init(|| Self::start().map_err(|error| format!("{error:#}")));
        janitor.as_ref().map_err(|error| anyhow!("cannot see to it that nothing outlives the tests: {error}"))
    }

    fn tell(&self, verb: &str, group: u32) -> Result<()> {
        let mut pipe = self.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        writeln!(pipe, "{verb} {group}").context("the shell that ends processes has gone")
    }
}

/// A new directory, with a short path. It is removed after the end of this process, if not before.
pub fn directory(name: &str) -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let path = Janitor::shared()?.directory.join(format!("{name}{}", NEXT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
    Ok(path)
}

/// A process group that ends with this process. Dropping the value strikes it off the list; kill the group before.
#[derive(Debug)]
pub struct Registered(u32);

/// Puts the process group with this ID on the list.
pub fn register(group: u32) -> Result<Registered> {
    Janitor::shared()?.tell("kill", group)?;
    Ok(Registered(group))
}

impl Drop for Registered {
    fn drop(&mut self) {
        // A shell that is gone ends nothing.
        let _ = Janitor::shared().and_then(|janitor| janitor.tell("spare", self.0));
    }
}

/// Removes a directory of [`directory`]. What can't be removed now is when this process ends.
pub fn remove(directory: &Path) {
    let _ = fs::remove_dir_all(directory);
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader};
    use std::time::Duration;

    use super::*;
    use crate::wait;

    /// Runs the script as a janitor of its own would.
    fn script(directory: &Path) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "janitor"]).arg(directory).stdin(Stdio::piped());
        command.spawn().unwrap()
    }

    /// A process group of two: a shell and the `sleep` that it started.
    fn family() -> (Child, u32) {
        let mut command = Command::new("sh");
        command.args(["-c", "sleep 600 & echo $!; wait"]).stdout(Stdio::piped()).process_group(0);
        let mut shell = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (shell, line.trim().parse().unwrap())
    }

    /// Whether a process runs; one that waits to be reaped does not.
    fn runs(id: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    }

    #[test]
    fn when_the_pipe_closes_groups_are_killed_but_for_those_struck_off_and_the_directory_is_gone() {
        let directory = tempfile::tempdir().unwrap().keep();
        let mut janitor = script(&directory);
        let families: Vec<_> = (0..3).map(|_| family()).collect();
        let mut pipe = janitor.stdin.take().unwrap();
        for (shell, _) in &families {
            writeln!(pipe, "kill {}", shell.id()).unwrap();
        }
        writeln!(pipe, "spare {}", families[1].0.id()).unwrap();
        drop(pipe);
        assert!(janitor.wait().unwrap().success());
        assert!(!directory.exists());
        for (index, (mut shell, grandchild)) in families.into_iter().enumerate() {
            let gone = || (!runs(shell.id()) && !runs(grandchild)).then_some(());
            if index == 1 {
                assert!(runs(shell.id()) && runs(grandchild));
                let group = rustix::process::Pid::from_child(&shell);
                rustix::process::kill_process_group(group, rustix::process::Signal::KILL).unwrap();
            } else {
                assert!(wait::until(Duration::from_secs(10), gone).is_some());
            }
            shell.wait().unwrap();
        }
    }
}
