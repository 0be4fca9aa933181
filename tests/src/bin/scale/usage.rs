//! What a process uses, from Linux's own accounts.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// In `/proc`, times are in hundredths of a second, whatever the kernel counts in.
const TICK: Duration = Duration::from_millis(10);

/// CPU time and memory of one process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// Time on a CPU, of all threads that there are or were, user and system.
    pub(crate) cpu: Duration,
    /// The memory that it has resident.
    pub(crate) rss_mib: f64,
    /// The most that it ever had.
    pub(crate) peak_rss_mib: f64,
}

impl Usage {
    /// As it is now.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("the process has ended")?;
        // After the name, which may contain anything: state is field 3, utime 14, stime 15.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<u32>().ok());
        let ticks =
            field(14).zip(field(15)).map(|(user, system)| user + system).context("no times in /proc/PID/stat")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mib = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.split_whitespace().next()).with_context(|| format!("no {name}"))?;
            Ok(kib.parse::<f64>()? / 1024.0)
        };
        Ok(Self { cpu: TICK * ticks, rss_mib: mib("VmRSS:")?, peak_rss_mib: mib("VmHWM:")? })
    }

    /// The share of a core that it has used since `before`, which was `span` ago.
    pub(crate) fn core_since(self, before: Self, span: Duration) -> f64 {
        (self.cpu.saturating_sub(before.cpu)).as_secs_f64() / span.as_secs_f64()
    }
}
