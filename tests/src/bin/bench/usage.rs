//! What a process has used, from Linux's own accounts.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// CPU time and memory of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Time on a CPU, all threads together, user and system.
    pub(crate) cpu: Duration,
    /// The most memory it ever had resident.
    pub(crate) peak_rss_mib: f64,
}

impl Usage {
    /// As it is now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let mut nanoseconds = 0;
        let tasks = format!("/proc/{pid}/task");
        for task in std::fs::read_dir(&tasks).with_context(|| format!("{tasks} can't be read"))? {
            let path = task?.path().join("schedstat");
            let text = std::fs::read_to_string(&path).with_context(|| format!("{} can't be read", path.display()))?;
            let on_cpu = text.split_whitespace().next().context("schedstat is empty")?;
            nanoseconds += on_cpu.parse::<u64>()?;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next())
            .context("no VmHWM in the process's status")?;
        Ok(Self { cpu: Duration::from_nanos(nanoseconds), peak_rss_mib: kib.parse::<f64>()? / 1024.0 })
    }
}

/// A count of messages, to reckon with.
#[allow(clippy::cast_precision_loss, reason = "message counts are far below 2^52")]
pub(crate) fn to_f64(count: u64) -> f64 {
    count as f64
}
