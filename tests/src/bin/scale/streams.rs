//! Many sidecars, each with a connection and a stream of its own to the broker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, ResourceExt as _};
use serde::Serialize;
use sluice_tests::cluster::Namespace;
use sluice_tests::crowd::{Crowd, Seen, Size};
use sluice_tests::stage::{SYSTEM, Stage};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::sidecar::{Sidecar, Tally};
use crate::usage::Usage;
use crate::{set, tell};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Streams.
    #[arg(long, default_value_t = 2_000)]
    streams: usize,
    /// Platform groups that share them.
    #[arg(long, default_value_t = 32)]
    groups: usize,
    /// Seconds between two reports of a sidecar.
    #[arg(long, default_value_t = 5)]
    every: u64,
    /// Seconds that are measured, once all links are up.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

/// The figures.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    case: &'static str,
    streams: usize,
    groups: usize,
    /// From the first stream until all have been let in.
    open_s: f64,
    /// From then until all links are up.
    up_s: f64,
    seconds: u64,
    reports_per_s: f64,
    pongs_per_s: f64,
    /// The share of a core.
    core: f64,
    rss_mi_b: f64,
    peak_rss_mi_b: f64,
    /// What was written meanwhile, but for Leases.
    writes: BTreeMap<String, usize>,
}

pub(crate) async fn run(arguments: &Arguments, json: bool) -> Result<()> {
    let pods = arguments.streams.div_ceil(arguments.groups.max(1));
    ensure!(
        arguments.groups > 0 && (1..=64).contains(&pods),
        "a group has 1 to 64 pods: {pods} are too many or too few"
    );
    let size = Size { teams: 1, groups: arguments.groups, pods };
    let (stage, mut operator) = set(size).await?;
    let pid = operator.process().id();
    tell(&format!("{} Deployments of {pods} pods …", size.all()));
    let crowd = Crowd::gather(&stage, size).await?;
    crowd.declare().await?;
    crowd.all("all are settled", Duration::from_mins(10), Seen::is_settled).await?;
    tell("all are settled; the platform is asked about two of them a second …");
    crowd.all("all credentials are seen to work", Duration::from_mins(30), |seen| seen.verified).await?;
    let idle = Usage::of(pid)?;
    tell(&format!("without streams the operator has {:.1} MiB resident; tokens …", idle.rss_mib));
    let all = crowd.pods().await?;
    let tokens: Vec<(String, String)> = stream::iter(all.into_iter().take(arguments.streams))
        .map(|(namespace, pod)| async move { token(namespace, &pod).await })
        .buffer_unordered(16)
        .try_collect()
        .await?;

    tell("streams …");
    let endpoint = endpoint(&stage).await?;
    let tally = Arc::new(Tally::default());
    let begun = Instant::now();
    let mut running = JoinSet::new();
    for (number, (group, token)) in tokens.into_iter().enumerate() {
        let every = Duration::from_secs(arguments.every);
        running.spawn(
            Sidecar { endpoint: endpoint.clone(), token, group, every, number, tally: Arc::clone(&tally) }.run(),
        );
        // As a rollout would at its worst; not all in one instant.
        sleep(Duration::from_millis(5)).await;
    }
    count(&mut running, || tally.open.load(Ordering::Relaxed) == arguments.streams).await?;
    let open = begun.elapsed();
    tell(&format!("all let in after {:.1} s", open.as_secs_f64()));
    let begun = Instant::now();
    count(&mut running, || tally.up.load(Ordering::Relaxed) == arguments.streams).await?;
    let up = begun.elapsed();
    tell(&format!("all links up after another {:.1} s", up.as_secs_f64()));
    // Until what was learnt of it is written.
    quiet(&mut running, Duration::from_secs(35)).await?;

    tell(&format!("{} s are measured …", arguments.seconds));
    let mark = stage.cluster.audit().mark(&stage.cluster.client().await?).await?;
    let counted = || (tally.reports.load(Ordering::Relaxed), tally.pongs.load(Ordering::Relaxed));
    let (before, begun, (reports, pongs)) = (Usage::of(pid)?, Instant::now(), counted());
    quiet(&mut running, Duration::from_secs(arguments.seconds)).await?;
    let (after, span, counted) = (Usage::of(pid)?, begun.elapsed(), counted());
    let per_second = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / span.as_secs_f64();
    stage.nothing_was_refused()?;

    let figures = Figures {
        case: "streams",
        streams: arguments.streams,
        groups: size.all(),
        open_s: open.as_secs_f64(),
        up_s: up.as_secs_f64(),
        seconds: arguments.seconds,
        reports_per_s: per_second(counted.0 - reports),
        pongs_per_s: per_second(counted.1 - pongs),
        core: after.core_since(before, span),
        rss_mi_b: after.rss_mib,
        peak_rss_mi_b: after.peak_rss_mib,
        writes: crowd.writes(mark).await?.into_iter().collect(),
    };
    if json {
        println!("{}", serde_json::to_string(&figures)?);
    } else {
        println!("{figures:#?}");
    }
    Ok(())
}

/// A ConsumerGroup's name, and a token of one of its pods.
async fn token(namespace: &Namespace<'_>, pod: &Pod) -> Result<(String, String)> {
    let accounts: Api<ServiceAccount> = namespace.api();
    let bound = BoundObjectReference {
        api_version: Some("v1".into()),
        kind: Some("Pod".into()),
        name: Some(pod.name_any()),
        uid: pod.uid(),
    };
    let spec = TokenRequestSpec {
        audiences: vec!["sluice.dev".into()],
        bound_object_ref: Some(bound),
        expiration_seconds: Some(3600),
    };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer: TokenRequest =
        accounts.create_subresource("token", "default", &PostParams::default(), &request).await?;
    let group = pod.labels().get("sluice.dev/consumer-group").context("a pod without its label")?;
    Ok((group.clone(), answer.status.context("no token")?.token))
}

async fn endpoint(stage: &Stage) -> Result<Endpoint> {
    let secrets: Api<Secret> = Api::namespaced(stage.cluster.client().await?, SYSTEM);
    let stored = secrets.get("sluice-ca").await?.data.unwrap_or_default();
    let bundle = stored.get("ca.crt").context("no certificate is stored")?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&bundle.0)).domain_name("127.0.0.1");
    Ok(Endpoint::from_shared(format!("https://{}", stage.broker(0)))?.tls_config(tls)?)
}

/// Waits until it is so. No stream may end.
async fn count(running: &mut JoinSet<Result<()>>, reached: impl Fn() -> bool) -> Result<()> {
    let end = Instant::now() + Duration::from_mins(10);
    while !reached() {
        ensure!(Instant::now() < end, "not all of them got that far within 10 min");
        quiet(running, Duration::from_millis(100)).await?;
    }
    Ok(())
}

/// Waits for this long. No stream may end.
async fn quiet(running: &mut JoinSet<Result<()>>, span: Duration) -> Result<()> {
    match timeout(span, running.join_next()).await {
        Err(_) => Ok(()),
        Ok(Some(Ok(Err(error)))) => Err(error.context("a stream has ended")),
        Ok(_) => bail!("a sidecar has ended"),
    }
}
