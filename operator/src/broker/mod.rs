//! The broker: the operator's side of every sidecar's control stream. [`crate::slots`] decides; here its decisions become
//! messages, table writes and look-ups, and what comes back becomes its inputs.
//!
//! Every platform group has a clerk, the one task that owns its desk. Streams find it by their ConsumerGroup, which the
//! pipeline registers once it is valid. All of it exists only while this replica leads, and is made anew in each term.

mod clerk;
pub mod identity;
mod listen;
pub mod nodes;
mod outlet;
mod registration;
mod service;
mod tables;
mod view;
mod views;
mod wire;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::api::Api;
use kube::runtime::watcher;
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tonic::Status;
use tonic::metadata::MetadataValue;

pub use self::listen::serve;

use self::clerk::{Clerk, Inbox, Input, Office};
use self::identity::PodIdentity;
use self::nodes::Nodes;
use self::registration::Registration;
use self::views::Views;
use crate::group::controller::follow;
use crate::group::directory::{Directory, Entry};
use crate::group::pods::Pods;
use crate::group::view::{self as seam, Nudge, Platform, Sidecars};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::slots::{GroupRef, PlatformGroup, StreamId};
use crate::time::Clock;

/// Token reviews under way at a time: after a restart, all sidecars come at once.
const REVIEWS: usize = 32;

/// The trailer that names the leader.
const LEADER: &str = "sluice-leader";

/// See the module. Clones are the same broker.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

struct Shared {
    client: kube::Client,
    namespace: String,
    clock: Clock,
    leadership: watch::Receiver<Leadership>,
    platform: Arc<dyn Platform>,
    views: Views,
    metrics: Metrics,
    registry: Mutex<Registry>,
    /// Changes with every registration, for streams that wait for one.
    news: watch::Sender<u64>,
    streams: AtomicU64,
    open: AtomicUsize,
    reviews: Semaphore,
}

#[derive(Default)]
struct Registry {
    /// What clerks of the present term work with; none before the term is begun.
    office: Option<Office>,
    groups: HashMap<GroupRef, Arc<Registration>>,
    /// Which platform group each ConsumerGroup of this term was about at last.
    last: HashMap<GroupRef, PlatformGroup>,
    clerks: HashMap<PlatformGroup, Inbox>,
}

impl Broker {
    /// A broker that nobody has called yet. `nudge` tells the pipeline when there is something new.
    pub fn new(
        client: kube::Client,
        namespace: String,
        clock: Clock,
        leadership: watch::Receiver<Leadership>,
        (platform, nudge): (Arc<dyn Platform>, Nudge),
        metrics: Metrics,
    ) -> Self {
        Self(Arc::new(Shared {
            client,
            namespace,
            clock,
            leadership,
            platform,
            views: Views::new(nudge),
            metrics,
            registry: Mutex::default(),
            news: watch::Sender::new(0),
            streams: AtomicU64::new(0),
            open: AtomicUsize::new(0),
            reviews: Semaphore::new(REVIEWS),
        }))
    }

    /// Serves one term, for as long as it is polled: carries what the pipeline has found valid, and what Kubernetes tells of
    /// pods and nodes, to the clerks that it concerns.
    pub async fn run(&self, term: u64, directory: &Directory, pods: Pods) {
        let nodes = Nodes::default();
        let (known, metrics) = (nodes.clone(), self.0.metrics.clone());
        let api = Api::<nodes::RawNode>::all_with(self.0.client.clone(), &nodes::resource());
        let any = watcher::Config::default();
        let watching = follow(api, any, "nodes", metrics, move |event| known.take(&event));
        let (_, mut pod_changes) = pods.subscribe();
        let mut node_changes = nodes.subscribe();
        let mut groups = directory.subscribe();
        groups.mark_changed();
        {
            let mut registry = self.registry();
            *registry = Registry { office: Some(self.office(term, pods, nodes)), ..Registry::default() };
        }
        let carrying = async {
            loop {
                tokio::select! {
                    Ok(()) = groups.changed() => {
                        let groups = Arc::clone(&groups.borrow_and_update());
                        self.take(&groups);
                    }
                    Some(change) = pod_changes.recv() => {
                        let registry = self.registry();
                        let platform = registry.groups.get(&change.pod().group).map(|group| group.platform());
                        if let Some(clerk) = platform.and_then(|platform| registry.clerks.get(platform)) {
                            let _ = clerk.send(Input::Pod(change));
                        }
                    }
                    Some(node) = node_changes.recv() => {
                        for clerk in self.registry().clerks.values() {
                            let _ = clerk.send(Input::Node(node.clone()));
                        }
                    }
                    else => return,
                }
            }
        };
        tokio::join!(watching, carrying);
    }

    fn office(&self, term: u64, pods: Pods, nodes: Nodes) -> Office {
        let Shared { client, namespace, clock, leadership, platform, views, metrics, .. } = &*self.0;
        Office {
            term,
            begun: clock.now(),
            client: client.clone(),
            namespace: namespace.clone(),
            clock: *clock,
            leadership: leadership.clone(),
            pods,
            nodes,
            views: views.clone(),
            platform: Arc::clone(platform),
            metrics: metrics.clone(),
        }
    }

    /// Takes over what the pipeline has found valid.
    fn take(&self, groups: &BTreeMap<GroupRef, Entry>) {
        let mut registry = self.registry();
        let mut concerned = HashSet::new();
        registry.groups.retain(|name, registration| {
            let stays = groups.contains_key(name);
            if !stays {
                concerned.insert(registration.platform().clone());
            }
            stays
        });
        for (name, entry) in groups {
            let known = registry.groups.get(name);
            if known.is_some_and(|known| known.is_of(entry)) {
                continue;
            }
            concerned.extend(known.map(|known| known.platform().clone()));
            concerned.insert(entry.group.platform.clone());
            registry.groups.insert(name.clone(), Arc::new(Registration::of(entry)));
            let platform = &entry.group.platform;
            let last = registry.last.insert(name.clone(), platform.clone()).filter(|last| last != platform);
            if let Some(clerk) = last.and_then(|last| registry.clerks.get(&last)) {
                let _ = clerk.send(Input::Moved(name.clone()));
            }
        }
        if concerned.is_empty() {
            return;
        }
        for platform in &concerned {
            Self::brief(&mut registry, platform);
        }
        drop(registry);
        self.0.news.send_modify(|news| *news += 1);
    }

    /// Tells a clerk who speaks of its group, and starts it if there is none.
    fn brief(registry: &mut Registry, platform: &PlatformGroup) {
        let Some(office) = &registry.office else { return };
        let members: HashMap<_, _> = registry
            .groups
            .iter()
            .filter(|(_, registration)| registration.platform() == platform)
            .map(|(name, registration)| (name.clone(), Arc::clone(registration)))
            .collect();
        let clerk = match registry.clerks.get(platform) {
            Some(clerk) if !clerk.is_closed() => clerk.clone(),
            // The one before it may have issued permits until now.
            Some(_) => Clerk::start(office.clone(), platform.clone(), office.clock.now()),
            None => Clerk::start(office.clone(), platform.clone(), office.begun),
        };
        // A clerk that closes this very moment is found closed by the next stream, and another is started then.
        let _ = clerk.send(Input::Members(members));
        registry.clerks.insert(platform.clone(), clerk);
    }

    /// The clerk of a ConsumerGroup; `None` if the ConsumerGroup is not valid. Fails if the term is over.
    fn clerk(&self, name: &GroupRef, term: u64) -> Result<Option<Inbox>, Status> {
        let mut registry = self.registry();
        let begun = registry.office.as_ref().is_some_and(|office| office.term == term);
        if !begun || self.term() != Some(term) {
            return Err(self.not_leading());
        }
        let Some(platform) = registry.groups.get(name).map(|group| group.platform().clone()) else {
            return Ok(None);
        };
        if registry.clerks.get(&platform).is_none_or(Inbox::is_closed) {
            Self::brief(&mut registry, &platform);
        }
        Ok(registry.clerks.get(&platform).cloned())
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.0.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The present term, if this replica leads.
    fn term(&self) -> Option<u64> {
        let leadership = self.0.leadership.borrow();
        leadership.leads(self.0.clock.now()).then_some(leadership.term)
    }

    fn not_leading(&self) -> Status {
        let leader = self.0.leadership.borrow().leader.clone();
        let words = match &leader {
            Some(leader) => format!("this replica does not lead; {leader} does. Connect again, with backoff"),
            None => "no replica leads yet. Connect again, with backoff".to_owned(),
        };
        let mut status = Status::unavailable(words);
        if let Some(leader) = leader.and_then(|leader| MetadataValue::try_from(leader).ok()) {
            status.metadata_mut().insert(LEADER, leader);
        }
        status
    }

    fn client(&self) -> kube::Client {
        self.0.client.clone()
    }

    /// Counts a stream for as long as what is returned lives.
    fn count_stream(&self) -> Counted {
        self.0.metrics.control_streams(self.0.open.fetch_add(1, Ordering::Relaxed) + 1);
        Counted(self.clone())
    }

    /// The ConsumerGroup that a pod's label names, if the watch has told of the pod.
    fn label_of(&self, pod: &PodIdentity) -> Option<GroupRef> {
        self.registry().office.as_ref()?.pods.get(&pod.uid).map(|pod| pod.group.clone())
    }

    fn news(&self) -> watch::Receiver<u64> {
        self.0.news.subscribe()
    }

    fn next_stream(&self) -> StreamId {
        StreamId(self.0.streams.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// A place among the reviews under way.
    async fn review_place(&self) -> Option<SemaphorePermit<'_>> {
        self.0.reviews.acquire().await.ok()
    }
}

/// A stream that is open.
struct Counted(Broker);

impl Drop for Counted {
    fn drop(&mut self) {
        let Shared { metrics, open, .. } = &*self.0.0;
        metrics.control_streams(open.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}

impl seam::Broker for Broker {
    fn sidecars(&self, group: &GroupRef) -> Option<Sidecars> {
        self.0.views.get(group, self.term()?)
    }
}
