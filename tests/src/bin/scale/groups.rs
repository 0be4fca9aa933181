//! Many ConsumerGroups, none of which has a sidecar.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;
use sluice_tests::crowd::{Crowd, Seen, Size};
use tokio::time::{Instant, sleep};

use crate::usage::Usage;
use crate::{set, tell};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Accounts of the platform, which share the ConsumerGroups. Each is asked twice a second for figures.
    #[arg(long, default_value_t = 20)]
    teams: usize,
    /// ConsumerGroups of each.
    #[arg(long, default_value_t = 50)]
    each: usize,
    /// Seconds in which nothing is to be written.
    #[arg(long, default_value_t = 300)]
    idle: u64,
    /// How many ConsumerGroups are changed, one after the other.
    #[arg(long, default_value_t = 200)]
    changes: usize,
}

/// The figures.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    case: &'static str,
    groups: usize,
    teams: usize,
    /// From the first request to create one until each has a status of its present generation.
    settle_s: f64,
    /// From then until the platform has been seen to take the credentials of each.
    verify_s: f64,
    settle_cpu_s: f64,
    idle_s: u64,
    /// What was written meanwhile, but for Leases.
    idle_writes: BTreeMap<String, usize>,
    idle_core: f64,
    idle_rss_mi_b: f64,
    changes: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
    peak_rss_mi_b: f64,
}

pub(crate) async fn run(arguments: &Arguments, json: bool) -> Result<()> {
    ensure!(arguments.changes > 0, "--changes must be at least 1");
    let size = Size { teams: arguments.teams, groups: arguments.each, pods: 1 };
    let (stage, mut operator) = set(size).await?;
    let pid = operator.process().id();
    tell(&format!("{} Deployments of one pod …", size.all()));
    let crowd = Crowd::gather(&stage, size).await?;
    let before = Usage::of(pid)?;

    tell(&format!("{} ConsumerGroups …", size.all()));
    let begun = Instant::now();
    crowd.declare().await?;
    tell(&format!("created after {:.1} s", begun.elapsed().as_secs_f64()));
    crowd.all("all are settled", Duration::from_mins(10), Seen::is_settled).await?;
    let settle = begun.elapsed();
    let settle_cpu = Usage::of(pid)?.cpu.saturating_sub(before.cpu);
    tell(&format!("settled after {:.1} s", settle.as_secs_f64()));
    let begun = Instant::now();
    crowd.all("all credentials are seen to work", Duration::from_mins(30), |seen| seen.verified).await?;
    let verify = begun.elapsed();
    // What was noticed last may be written for another half minute: figures are written no oftener.
    sleep(Duration::from_secs(35)).await;

    tell(&format!("{} s of nothing …", arguments.idle));
    let mark = stage.cluster.audit().mark(&stage.cluster.client().await?).await?;
    let (before, begun) = (Usage::of(pid)?, Instant::now());
    sleep(Duration::from_secs(arguments.idle)).await;
    let after = Usage::of(pid)?;
    let idle_core = after.core_since(before, begun.elapsed());
    let idle_writes = crowd.writes(mark).await?.into_iter().collect();

    tell(&format!("{} changes …", arguments.changes));
    let mut took = Vec::new();
    for number in 0..arguments.changes {
        // All over the crowd, and never the same value twice.
        took.push(crowd.change(number * 37, 500 + u32::try_from(number)?).await?.as_secs_f64() * 1e3);
    }
    took.sort_by(f64::total_cmp);
    let quantile = |percent: usize| took[(took.len() * percent).div_ceil(100).max(1) - 1];
    stage.nothing_was_refused()?;

    let figures = Figures {
        case: "groups",
        groups: size.all(),
        teams: size.teams,
        settle_s: settle.as_secs_f64(),
        verify_s: verify.as_secs_f64(),
        settle_cpu_s: settle_cpu.as_secs_f64(),
        idle_s: arguments.idle,
        idle_writes,
        idle_core,
        idle_rss_mi_b: after.rss_mib,
        changes: arguments.changes,
        p50_ms: quantile(50),
        p99_ms: quantile(99),
        max_ms: quantile(100),
        peak_rss_mi_b: Usage::of(pid)?.peak_rss_mib,
    };
    if json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{figures:#?}");
    }
    Ok(())
}
