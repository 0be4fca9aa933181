//! The pods that carry a ConsumerGroup's label: what Sluice needs to know of each, and nothing else of it, indexed by
//! ConsumerGroup. [`Pods`] is fed by a watch and read by the pipeline and the broker; it knows no network itself.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::core::v1::{ContainerState, ContainerStatus, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ApiResource, ObjectMeta};
use kube::core::Object;
use kube::runtime::watcher::Event;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use crate::inject::names::{CONTAINER, GROUP_LABEL, INJECT};
use crate::slots::GroupRef;

/// What Kubernetes goes by when it chooses which pod of a ReplicaSet to end.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// As much of a pod as is read from the API server.
pub type RawPod = Object<RawSpec, RawStatus>;

/// As much of a pod's spec as is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawSpec {
    node_name: Option<String>,
    termination_grace_period_seconds: Option<i64>,
    containers: Vec<RawContainer>,
    init_containers: Vec<RawContainer>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct RawContainer {
    name: String,
}

/// As much of a pod's status as is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawStatus {
    phase: Option<String>,
    conditions: Vec<RawCondition>,
    container_statuses: Vec<ContainerStatus>,
    init_container_statuses: Vec<ContainerStatus>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct RawCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

/// The kind that [`RawPod`] is read as.
pub fn resource() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::Pod>(&())
}

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pod {
    /// Its ConsumerGroup, by its label.
    pub group: GroupRef,
    /// Its name.
    pub name: String,
    /// Its UID: another pod of the same name has another one.
    pub uid: String,
    /// The node that it is bound to.
    pub node: Option<String>,
    /// Which version of its workload it is of: the hash that its controller labels it with.
    pub revision: Option<String>,
    /// The object that controls it.
    pub owner: Option<Owner>,
    /// It is being deleted.
    pub deleting: bool,
    /// It has ended, well or not: none of its containers runs again.
    pub ended: bool,
    /// Kubernetes counts it as ready.
    pub ready: bool,
    /// Its sidecar; `None` if it has none.
    pub sidecar: Option<SidecarContainer>,
    /// How long it may take to end, in seconds.
    pub grace_seconds: i64,
    /// Its deletion cost, if it has one.
    pub deletion_cost: Option<i32>,
}

/// What controls a pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Its kind, such as `ReplicaSet`.
    pub kind: String,
    /// Its name, in the pod's namespace.
    pub name: String,
}

impl Owner {
    fn read(owner: &OwnerReference) -> Self {
        Self { kind: owner.kind.clone(), name: owner.name.clone() }
    }
}

/// The sidecar's container, as the kubelet reports it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SidecarContainer {
    /// It has not started, runs, or has ended.
    pub state: SidecarState,
    /// How often it was restarted.
    pub restarts: i32,
}

/// What the sidecar's container does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum SidecarState {
    /// The kubelet has not said anything of it, or it waits to be started.
    #[default]
    Waiting,
    /// This container runs.
    Running(String),
    /// This container has ended. Another may be started in its place.
    Terminated(String),
}

impl Pod {
    /// Reads one; `None` if it carries no label, or has no sidecar and is not meant to have one: what is left out on purpose
    /// consumes nothing, and nothing is wrong with it.
    pub fn read(raw: &RawPod) -> Option<Self> {
        let notes = raw.metadata.annotations.as_ref();
        let left_out = notes.and_then(|notes| notes.get(INJECT)).is_some_and(|inject| inject == "false");
        Self::read_any(raw).filter(|pod| !pod.group.name.is_empty() && (pod.sidecar.is_some() || !left_out))
    }

    /// Reads one, whether it carries a label or not. The name of its ConsumerGroup is empty if it does not.
    pub fn read_any(raw: &RawPod) -> Option<Self> {
        let meta = &raw.metadata;
        let group = label(meta, GROUP_LABEL).unwrap_or_default();
        let status = raw.status.clone().unwrap_or_default();
        let has_sidecar = raw.spec.init_containers.iter().chain(&raw.spec.containers).any(|c| c.name == CONTAINER);
        let mut statuses = status.init_container_statuses.iter().chain(&status.container_statuses);
        let sidecar = statuses.find(|container| container.name == CONTAINER);
        let cost = meta.annotations.as_ref().and_then(|notes| notes.get(DELETION_COST));
        Some(Self {
            group: GroupRef::new(meta.namespace.as_deref()?, &group),
            name: meta.name.clone()?,
            uid: meta.uid.clone()?,
            node: raw.spec.node_name.clone(),
            revision: label(meta, "pod-template-hash").or_else(|| label(meta, "controller-revision-hash")),
            owner: meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true)).map(Owner::read),
            deleting: meta.deletion_timestamp.is_some(),
            ended: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            ready: status.conditions.iter().any(|c| c.kind == "Ready" && c.status == "True"),
            sidecar: has_sidecar.then(|| sidecar.map(SidecarContainer::read).unwrap_or_default()),
            grace_seconds: raw.spec.termination_grace_period_seconds.unwrap_or(30),
            deletion_cost: cost.and_then(|cost| cost.parse().ok()),
        })
    }

    /// How events name it.
    pub fn reference(&self) -> ObjectReference {
        ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Pod".to_owned()),
            name: Some(self.name.clone()),
            namespace: Some(self.group.namespace.to_string()),
            uid: Some(self.uid.clone()),
            ..ObjectReference::default()
        }
    }

    /// Whether it counts as one of the workload's replicas: it neither ends nor has ended.
    pub fn counts(&self) -> bool {
        !self.deleting && !self.ended
    }
}

impl SidecarContainer {
    /// The kubelet says that it has ended.
    pub fn has_ended(&self) -> bool {
        matches!(self.state, SidecarState::Terminated(_))
    }

    fn read(status: &ContainerStatus) -> Self {
        let id = status.container_id.clone().unwrap_or_default();
        let state = match &status.state {
            Some(ContainerState { running: Some(_), .. }) => SidecarState::Running(id),
            Some(ContainerState { terminated: Some(ended), .. }) => {
                SidecarState::Terminated(ended.container_id.clone().unwrap_or(id))
            }
            _ => SidecarState::Waiting,
        };
        Self { state, restarts: status.restart_count }
    }
}

fn label(meta: &ObjectMeta, name: &str) -> Option<String> {
    meta.labels.as_ref()?.get(name).filter(|value| !value.is_empty()).cloned()
}

/// What has become of a pod. Nothing is left out: a pod that vanished while the watch was broken is `Gone` when the list
/// comes anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is there, and as said.
    Seen(Arc<Pod>),
    /// The object is gone, *or only its label is*: a watch by label does not tell the two apart, and the container of the
    /// latter still runs. Who takes the first for granted must ask the API server for the object first.
    Gone(Arc<Pod>),
}

impl Change {
    /// The pod, as it is or last was.
    pub fn pod(&self) -> &Arc<Pod> {
        match self {
            Self::Seen(pod) | Self::Gone(pod) => pod,
        }
    }
}

/// The index. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Pods(Arc<Mutex<Index>>);

#[derive(Debug, Default)]
struct Index {
    by_uid: HashMap<String, Arc<Pod>>,
    by_group: HashMap<GroupRef, BTreeMap<String, Arc<Pod>>>,
    /// What a list that has begun has brought so far.
    listing: Option<HashMap<String, Arc<Pod>>>,
    listeners: Vec<mpsc::UnboundedSender<Change>>,
    synced: bool,
}

impl Pods {
    /// The pods of a ConsumerGroup, by UID.
    pub fn of(&self, group: &GroupRef) -> Vec<Arc<Pod>> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        index.by_group.get(group).map(|pods| pods.values().cloned().collect()).unwrap_or_default()
    }

    /// Every ConsumerGroup that pods name, with one of those pods and their number.
    pub fn groups(&self) -> Vec<(GroupRef, Arc<Pod>, usize)> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let named = index.by_group.iter();
        named.filter_map(|(name, pods)| Some((name.clone(), pods.values().next()?.clone(), pods.len()))).collect()
    }

    /// The pod of this UID.
    pub fn get(&self, uid: &str) -> Option<Arc<Pod>> {
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        index.by_uid.get(uid).cloned()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).by_uid.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a whole list has come: only then does a missing pod mean something.
    pub fn synced(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).synced
    }

    /// All pods as they are now, and every change from now on.
    pub fn subscribe(&self) -> (Vec<Arc<Pod>>, mpsc::UnboundedReceiver<Change>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        index.listeners.push(sender);
        (index.by_uid.values().cloned().collect(), receiver)
    }

    /// Takes an event of the watch in.
    pub fn take(&self, event: &Event<RawPod>) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let changes = index.take(event);
        for change in &changes {
            index.listeners.retain(|listener| listener.send(change.clone()).is_ok());
        }
    }
}

impl Index {
    fn take(&mut self, event: &Event<RawPod>) -> Vec<Change> {
        match event {
            Event::Init => {
                self.listing = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(raw) => {
                if let (Some(listing), Some(pod)) = (&mut self.listing, Pod::read(raw)) {
                    listing.insert(pod.uid.clone(), Arc::new(pod));
                }
                Vec::new()
            }
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                self.synced = true;
                let missing: Vec<_> = self.by_uid.keys().filter(|uid| !listed.contains_key(*uid)).cloned().collect();
                let gone: Vec<_> = missing.iter().filter_map(|uid| self.remove(uid)).collect();
                gone.into_iter().chain(listed.into_values().flat_map(|pod| self.insert(pod))).collect()
            }
            Event::Apply(raw) => match (Pod::read(raw), raw.metadata.uid.as_deref()) {
                (Some(pod), _) => self.insert(Arc::new(pod)).collect(),
                (None, Some(uid)) => self.remove(uid).into_iter().collect(),
                (None, None) => Vec::new(),
            },
            Event::Delete(raw) => raw.metadata.uid.as_deref().and_then(|uid| self.remove(uid)).into_iter().collect(),
        }
    }

    /// At most two changes: a label that was changed takes the pod out of one ConsumerGroup and into another.
    fn insert(&mut self, pod: Arc<Pod>) -> impl Iterator<Item = Change> + use<> {
        let known = self.by_uid.get(&pod.uid);
        let same = known.is_some_and(|known| *known == pod);
        let left = match known {
            Some(known) if known.group != pod.group => self.remove(&pod.uid),
            _ => None,
        };
        if !same {
            self.by_uid.insert(pod.uid.clone(), pod.clone());
            self.by_group.entry(pod.group.clone()).or_default().insert(pod.uid.clone(), pod.clone());
        }
        left.into_iter().chain((!same).then_some(Change::Seen(pod)))
    }

    fn remove(&mut self, uid: &str) -> Option<Change> {
        let last = self.by_uid.remove(uid)?;
        if let Some(pods) = self.by_group.get_mut(&last.group) {
            pods.remove(uid);
            if pods.is_empty() {
                self.by_group.remove(&last.group);
            }
        }
        Some(Change::Gone(last))
    }
}

#[cfg(test)]
mod tests;
