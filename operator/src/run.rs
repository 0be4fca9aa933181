//! From a command line to a running operator: what every replica does, and what only the leader does, term by term.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use kube::Client;
use serde::Serialize;
use sluice_cloud::endpoint::EndpointPolicy;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::{info, warn};

use crate::admin::{self, Admin, Readiness};
use crate::broker::{self, Broker};
use crate::certificates::{self, Certificates, Listener, trust};
use crate::config::Options;
use crate::credentials::{Clients, Keeper};
use crate::group::apply::Writer;
use crate::group::contest::Contests;
use crate::group::controller::Controller;
use crate::group::dereference::{Kinds, Sources};
use crate::group::directory::{Directory, Groups};
use crate::group::objects::Objects;
use crate::group::pods::Pods;
use crate::group::status;
use crate::group::view::Nudge;
use crate::inject;
use crate::leader::{self, Leadership};
use crate::metrics::Metrics;
use crate::platform::{Poller, Target, Timing};
use crate::slots::GroupRef;
use crate::time::Clock;
use crate::webhook::{self, Webhook};

/// How long the API server may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the Lease may take to be released.
const RELEASE: Duration = Duration::from_secs(5);

/// What is printed when it is listening.
#[derive(Debug, Serialize)]
struct Addresses {
    admin: SocketAddr,
    broker: SocketAddr,
    /// Not there if nothing is injected.
    #[serde(skip_serializing_if = "Option::is_none")]
    webhook: Option<SocketAddr>,
}

/// What all terms share.
struct Operator {
    client: Client,
    clients: Clients,
    identity: String,
    clock: Clock,
    metrics: Metrics,
    leadership: watch::Receiver<Leadership>,
    directory: Directory,
    broker: Broker,
    platform: Poller,
}

/// Runs until `stop` completes, and then ends what is in hand and releases the Lease.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<()> {
    let clock = Clock::start();
    let variable = |name: &str| std::env::var(name).ok();
    let namespace = options.namespace(variable)?;
    let identity = options.identity(variable)?;
    let allowed = options.allow_endpoint.iter().map(String::as_str);
    let policy = EndpointPolicy::with(allowed).context("--allow-endpoint")?;
    let client = client().await?;
    let metrics = Metrics::default();
    let readiness = Readiness::default();
    readiness.set("leader election", Err("the Lease has not been read yet".to_owned()));

    let keeper = certificates::Keeper::open(client.clone(), &namespace, certificate_names(&options)).await?;
    let certificates = keeper.certificates();
    let mut serving: JoinSet<Result<()>> = JoinSet::new();
    serving.spawn(async move { match keeper.run().await {} });

    let admin = bind("--admin", options.admin).await?;
    let broker_listener = bind("--broker", options.broker).await?;
    let broker_listener = Listener::new(broker_listener, certificates.server_config(&[b"h2"])?)?;
    let webhook_listener = serve_webhook(&options, &certificates, &metrics, &mut serving).await?;
    if let Some(name) = options.webhook_name.clone() {
        let (client, certificates) = (client.clone(), certificates.clone());
        let tell = bundle_readiness(readiness.clone());
        serving.spawn(async move { match trust::keep(client, name, certificates, tell).await {} });
    }
    let addresses =
        Addresses { admin: admin.local_addr()?, broker: broker_listener.address(), webhook: webhook_listener };
    let router = admin::router(Admin { readiness: readiness.clone(), registry: metrics.registry() });
    serving.spawn(async move { Ok(axum::serve(admin, router).await?) });

    let (leads, leadership) = watch::channel(Leadership::default());
    let (release, released) = watch::channel(false);
    let election = leader::run(client.clone(), namespace.clone(), identity.clone(), clock, leads, released);
    let mut election = tokio::spawn(election);

    // Whoever is seen through `view` keeps the other end, and tells of changes.
    let (nudge, nudges) = Nudge::channel();
    let clients = Clients::new(Arc::new(policy));
    let platform =
        Poller::new(clients.clone(), clock, leadership.clone(), nudge.clone(), metrics.clone(), Timing::default());
    let seen = (Arc::new(platform.clone()) as Arc<_>, nudge);
    let broker = Broker::new(client.clone(), namespace, clock, leadership.clone(), seen, metrics.clone());
    {
        let broker = broker.clone();
        serving.spawn(async move { Ok(broker::serve(broker, broker_listener, std::future::pending()).await?) });
    }

    println!("{}", serde_json::to_string(&addresses)?);
    info!(admin = %addresses.admin, broker = %addresses.broker, "serving");

    let directory = Directory::default();
    let operator = Operator { client, clients, identity, clock, metrics, leadership, directory, broker, platform };
    let (end, ending) = watch::channel(false);
    let mut terms = std::pin::pin!(operator.terms(nudges, ending, readiness));
    let result = tokio::select! {
        () = &mut terms => Ok(()),
        Some(ended) = serving.join_next() => match ended {
            Ok(Err(error)) => Err(error.context("a part of the operator has ended")),
            ended => Err(anyhow::anyhow!("a part of the operator has ended: {ended:?}")),
        },
        ended = &mut election => Err(anyhow::anyhow!("the leader election has ended: {ended:?}")),
        () = stop => {
            let _ = end.send(true);
            terms.await;
            Ok(())
        }
    };
    let _ = release.send(true);
    if !election.is_finished() && tokio::time::timeout(RELEASE, &mut election).await.is_err() {
        warn!("the lease could not be released in time");
    }
    result
}

async fn bind(option: &str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.with_context(|| format!("{option} {address} can't be bound"))
}

/// The names that certificates are made out to: those that are given, or else the hosts at which sidecars are told to find
/// the broker.
fn certificate_names(options: &Options) -> Vec<String> {
    if !options.certificate_name.is_empty() {
        return options.certificate_name.clone();
    }
    let host = |address: &String| address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host).to_owned();
    let mut names: Vec<String> = options.broker_address.iter().map(host).collect();
    names.push("localhost".to_owned());
    names.dedup();
    names
}

/// Has the webhook's part of the readiness follow what becomes of its CA bundle: a replica is not ready before the API
/// server trusts its webhook. Later trouble is in the log and leaves it ready, since it serves the broker as well: no
/// sidecar may lose that over a pod that can't be created.
fn bundle_readiness(readiness: Readiness) -> impl Fn(Result<(), String>) + Send + 'static {
    const PART: &str = "webhook's CA bundle";
    readiness.set(PART, Err("the API server has not been told yet whom to trust".to_owned()));
    let right = AtomicBool::new(false);
    move |state| {
        let was_right = right.fetch_or(state.is_ok(), Ordering::Relaxed);
        if !was_right {
            readiness.set(PART, state);
        }
    }
}

/// Serves injection, if it is known what is to be injected; says where.
async fn serve_webhook(
    options: &Options,
    certificates: &Certificates,
    metrics: &Metrics,
    serving: &mut JoinSet<Result<()>>,
) -> Result<Option<SocketAddr>> {
    let (Some(image), false) = (options.sidecar_image.clone(), options.broker_address.is_empty()) else {
        warn!("no webhook is served: injection takes --sidecar-image and --broker-address");
        return Ok(None);
    };
    let settings = inject::Settings {
        image,
        image_pull_policy: None,
        brokers: options.broker_address.clone(),
        broker_ca: String::new(),
        admin_port: inject::ADMIN_PORT,
        resources: inject::Resources::default(),
    };
    let counter = metrics.clone();
    let count = Arc::new(move |answer: webhook::Answer| counter.admission(answer.label()));
    let router = webhook::router(Webhook { settings, certificates: certificates.clone(), count });
    let listener = bind("--webhook", options.webhook).await?;
    let listener = Listener::new(listener, certificates.server_config(&[b"http/1.1"])?)?;
    let address = listener.address();
    serving.spawn(async move { Ok(axum::serve(listener, router).await?) });
    Ok(Some(address))
}

async fn client() -> Result<Client> {
    let mut config = kube::Config::infer().await.context("no cluster: run in one, or set KUBECONFIG")?;
    config.connect_timeout = Some(CONNECT);
    let server = config.cluster_url.clone();
    Client::try_from(config).with_context(|| format!("no client for the API server {server}"))
}

impl Operator {
    /// Leads whenever it is this replica's turn, until `ending`.
    async fn terms(
        &self,
        mut nudges: mpsc::UnboundedReceiver<GroupRef>,
        mut ending: watch::Receiver<bool>,
        readiness: Readiness,
    ) {
        let mut leadership = self.leadership.clone();
        loop {
            let turn = async {
                let _ = leadership.wait_for(|now| now.leader.is_some()).await;
                readiness.set("leader election", Ok(()));
                let _ = leadership.wait_for(|now| now.leads(self.clock.now())).await;
            };
            tokio::select! {
                () = turn => {}
                _ = ending.wait_for(|ending| *ending) => return,
            }
            let term = self.leadership.borrow().term;
            info!(term, "leading");
            self.metrics.leads(true);
            let ended = tokio::select! {
                // Dropped, everything that only a leader does stops where it stands.
                () = self.lead(&mut nudges, ending.clone()) => true,
                () = self.loss(term) => false,
            };
            self.metrics.leads(false);
            self.metrics.forget_all();
            self.directory.clear();
            if ended {
                return;
            }
            warn!(term, "not leading any more");
        }
    }

    /// One term. Completes only when `ending` is set and what was in hand is done.
    async fn lead(&self, nudges: &mut mpsc::UnboundedReceiver<GroupRef>, mut ending: watch::Receiver<bool>) {
        while nudges.try_recv().is_ok() {}
        let kinds = Kinds::default();
        let pods = Pods::default();
        let (keeper, keys) = Keeper::new(self.client.clone(), self.clients.clone(), self.clock, self.metrics.clone());
        let controller = Controller {
            sources: Sources {
                client: self.client.clone(),
                keeper,
                pods: pods.clone(),
                contests: Contests::default(),
                broker: Some(Arc::new(self.broker.clone())),
                platform: Some(Arc::new(self.platform.clone())),
                metrics: self.metrics.clone(),
                kinds: kinds.clone(),
            },
            writer: Writer {
                client: self.client.clone(),
                recorder: status::recorder(self.client.clone(), self.identity.clone()),
                leadership: self.leadership.clone(),
                clock: self.clock,
                metrics: self.metrics.clone(),
                kinds,
            },
            endpoints: self.clients.policy().clone(),
            directory: self.directory.clone(),
            objects: Objects::default(),
            clock: self.clock,
            metrics: self.metrics.clone(),
        };
        let stop = async {
            let _ = ending.wait_for(|ending| *ending).await;
        };
        let term = self.leadership.borrow().term;
        tokio::select! {
            () = controller.run(nudges, keys, stop) => {}
            // These have no end of their own.
            () = self.broker.run(term, &self.directory, pods) => {}
            () = self.poll() => {}
        }
    }

    /// Has the poller ask for what the pipeline has found valid.
    async fn poll(&self) {
        let mut groups = self.directory.subscribe();
        groups.mark_changed();
        let mut known = Groups::default();
        while groups.changed().await.is_ok() {
            let now = Arc::clone(&groups.borrow_and_update());
            for name in known.keys().filter(|name| !now.contains_key(*name)) {
                self.platform.register(name, None);
            }
            for (name, entry) in &*now {
                if known.get(name) != Some(entry) {
                    self.platform.register(name, Target::of(&entry.group));
                }
            }
            known = now;
        }
    }

    /// Completes when this replica's right to lead in `term` is over.
    async fn loss(&self, term: u64) {
        let mut leadership = self.leadership.clone();
        loop {
            let now = leadership.borrow_and_update().clone();
            if now.term != term || !now.leads(self.clock.now()) {
                return;
            }
            let over = tokio::time::sleep_until(self.clock.instant(now.valid_until).into());
            tokio::select! {
                () = over => {}
                changed = leadership.changed() => if changed.is_err() { return },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replica_is_not_ready_before_its_webhook_is_trusted_and_stays_so_afterwards() {
        let readiness = Readiness::default();
        let tell = bundle_readiness(readiness.clone());
        assert_eq!(readiness.lacking().len(), 1);
        tell(Err("forbidden".into()));
        assert_eq!(readiness.lacking(), ["webhook's CA bundle: forbidden"]);
        tell(Ok(()));
        assert!(readiness.lacking().is_empty());
        tell(Err("forbidden".into()));
        assert!(readiness.lacking().is_empty());
    }
}
