//! The clerk of one platform group: the task that owns its [`Desk`], feeds it with what streams and Kubernetes say, and
//! carries out what it decides. One per group and term of leadership; it ends with the term.

mod keys;
mod telling;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node as KubeNode};
use kube::api::Api;
use sluice_proto::control::v1;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tonic::Status;
use tracing::{debug, error, info, warn};

use self::keys::{Proof, Signed};
use super::nodes::{Node, Nodes};
use super::outlet::Outlet;
use super::registration::Registration;
use super::views::Views;
use super::{tables, view, wire};
use crate::fault::{Class, Fault};
use crate::group::pods::{self, Change, Pod, Pods, RawPod};
use crate::group::view::{Evidence, Platform};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::slots::{
    Action, Desk, Epoch, GroupRef, Hello, PlatformGroup, PodFacts, PodRef, PodUid, ReadResult, Revision, StreamId,
    TableVersion, WriteResult,
};
use crate::time::{Clock, Time};

/// How long a request about a pod or a node may take.
const REQUEST: Duration = Duration::from_secs(5);

/// How long a sidecar may take to drain whose ConsumerGroup has moved.
const LEAVING: Duration = Duration::from_secs(30);

/// How long to wait before a node is asked for again.
const AGAIN: Duration = Duration::from_secs(10);

/// When a sidecar may ask again for a permit that could not be signed.
const UNSIGNED: Duration = Duration::from_secs(10);

/// A desk that nobody speaks of and that holds nothing is closed after this.
const CLOSED_AFTER: Duration = Duration::from_secs(60);

/// What is due at some moment is done up to this much later, together with what else is due by then: pings of many
/// streams are sent in a few turns, since a turn costs as much as the group is large.
const TOGETHER: Duration = Duration::from_millis(250);

/// Figures are shown to the pipeline no later than this after the turn before.
const SHOWN: Duration = Duration::from_secs(1);

/// So long a new leader waits for the sidecars of those that hold slots, before it tells of those that did not come: right
/// after a change of leadership, their silence means nothing.
const RETURN: Duration = Duration::from_secs(45);

/// What is told to a clerk.
pub(super) enum Input {
    /// These ConsumerGroups speak of the group now.
    Members(HashMap<GroupRef, Arc<Registration>>),
    /// A stream was opened.
    Hello {
        stream: StreamId,
        hello: Box<Hello>,
        version: String,
        detail: v1::Report,
        outlet: Outlet,
    },
    /// A message of a stream.
    Report(StreamId, v1::Report),
    Pong(StreamId, u64),
    Permit(StreamId, v1::PermitRequest),
    /// A stream has ended.
    Gone(StreamId),
    /// The ConsumerGroup speaks of another platform group now.
    Moved(GroupRef),
    /// Kubernetes tells of a pod.
    Pod(Change),
    /// Kubernetes tells of a node.
    Node(String),
    /// The outcome of what the clerk asked for.
    Read(ReadResult),
    Written(WriteResult),
    LookedUp(PodRef, Result<Option<Pod>, Fault>),
    NodeGone(String, bool),
}

/// When an input calls for a turn of the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// At once.
    Now,
    /// Within [`SHOWN`] of the last one: only figures are new.
    Soon,
    /// When there is another reason for one: what was heard only counts in what is asked later.
    Whenever,
}

/// Where a clerk is reached. It is not bounded: each stream is, by how much it may say a second.
pub(super) type Inbox = mpsc::UnboundedSender<Input>;

/// What a clerk works with.
#[derive(Clone)]
pub(super) struct Office {
    /// The term of leadership that it is of.
    pub(super) term: u64,
    /// Since when it has been leading.
    pub(super) begun: Time,
    pub(super) client: kube::Client,
    pub(super) namespace: String,
    pub(super) clock: Clock,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) pods: Pods,
    pub(super) nodes: Nodes,
    pub(super) views: Views,
    pub(super) platform: Arc<dyn Platform>,
    pub(super) metrics: Metrics,
}

/// A stream, as the clerk keeps it beside the desk.
pub(super) struct Stream {
    pub(super) pod: PodRef,
    pub(super) group: GroupRef,
    pub(super) version: String,
    pub(super) report: v1::Report,
    /// When it last had something to report about load.
    pub(super) figures: Option<crate::scaling::PodFigures>,
    outlet: Outlet,
    /// The policy that it was told, but for the credentials' version, and that.
    policy: Option<(Arc<v1::Policy>, u64)>,
    /// What its last permit was signed with.
    signed: Option<Signed>,
    /// The grant that it was told to leave.
    told_to_leave: Epoch,
}

pub(super) struct Clerk {
    office: Office,
    desk: Desk,
    members: HashMap<GroupRef, Arc<Registration>>,
    /// Members whose credentials the OpenAPI has taken.
    verified: HashSet<GroupRef>,
    proofs: HashMap<GroupRef, Proof>,
    /// ConsumerGroups whose sidecars have to go to another clerk.
    moved: HashSet<GroupRef>,
    streams: HashMap<StreamId, Stream>,
    /// The pods of this group that Kubernetes tells of.
    pods: HashMap<String, Arc<Pod>>,
    /// Nodes that the API server has said not to exist, and those that it was asked about.
    nodes_gone: HashSet<String>,
    nodes_asked: HashSet<String>,
    inbox: mpsc::UnboundedReceiver<Input>,
    own: mpsc::WeakUnboundedSender<Input>,
    begun: Time,
    idle_since: Option<Time>,
}

impl Clerk {
    /// Starts the clerk of a platform group; it is reached by what is returned. Since `begun`, nobody else has issued
    /// permits for the group.
    pub(super) fn start(office: Office, group: PlatformGroup, begun: Time) -> Inbox {
        let (sender, inbox) = mpsc::unbounded_channel();
        let desk = Desk::new(group, begun);
        let clerk = Self {
            office,
            desk,
            members: HashMap::new(),
            verified: HashSet::new(),
            proofs: HashMap::new(),
            moved: HashSet::new(),
            streams: HashMap::new(),
            pods: HashMap::new(),
            nodes_gone: HashSet::new(),
            nodes_asked: HashSet::new(),
            inbox,
            own: sender.downgrade(),
            begun,
            idle_since: None,
        };
        tokio::spawn(clerk.run());
        sender
    }

    async fn run(mut self) {
        let mut inputs = Vec::new();
        'term: loop {
            let now = self.office.clock.now();
            let valid_until = {
                let leadership = self.office.leadership.borrow_and_update();
                if leadership.term == self.office.term { leadership.valid_until } else { Time::default() }
            };
            if now >= valid_until {
                break;
            }
            self.look_at_evidence();
            for action in self.desk.turn(now, valid_until) {
                self.act(action);
            }
            self.see_off();
            self.tell_policies();
            self.publish(now);
            if self.is_closed(now) {
                break;
            }
            let wake = self.desk.wake_at(now).unwrap_or(valid_until).max(now + TOGETHER);
            let mut wake = wake.min(valid_until);
            let mut due = false;
            while !due {
                tokio::select! {
                    received = self.inbox.recv_many(&mut inputs, 256) => if received == 0 { break 'term },
                    () = sleep_until(self.office.clock.instant(wake).into()) => due = true,
                    changed = self.office.leadership.changed() => if changed.is_err() { break 'term } else { due = true },
                }
                for input in inputs.drain(..) {
                    match self.take(input) {
                        Turn::Now => due = true,
                        Turn::Soon => wake = wake.min(now + SHOWN),
                        Turn::Whenever => {}
                    }
                }
            }
        }
        for stream in self.streams.values() {
            stream.outlet.end(Status::unavailable("this replica no longer leads; connect again, with backoff"));
        }
        for name in self.members.keys() {
            self.office.views.clear(name, self.office.term);
        }
        debug!(group = self.desk.group().group_id, term = self.office.term, "clerk gone");
    }

    fn take(&mut self, input: Input) -> Turn {
        let now = self.office.clock.now();
        match input {
            Input::Members(members) => self.set_members(members),
            Input::Hello { stream, hello, version, detail, outlet } => {
                self.hello(now, stream, *hello, version, detail, outlet);
            }
            Input::Report(stream, message) => {
                let report = wire::report(&message);
                self.desk.report(stream, report);
                let Some(known) = self.streams.get_mut(&stream) else { return Turn::Whenever };
                let same = wire::report(&known.report) == report && known.report.link == message.link;
                known.figures = wire::figures(now, &message).or(known.figures);
                known.report = message;
                self.note_proof(stream);
                if same {
                    return Turn::Soon;
                }
            }
            Input::Pong(stream, number) => {
                self.desk.pong(stream, number);
                return Turn::Whenever;
            }
            Input::Permit(stream, request) => {
                self.asked_for_permit(stream, &request);
            }
            Input::Gone(stream) => {
                if self.streams.remove(&stream).is_some() {
                    self.desk.stream_gone(stream);
                }
            }
            Input::Moved(group) => drop(self.moved.insert(group)),
            Input::Pod(Change::Seen(pod)) => self.pod_seen(pod),
            Input::Pod(Change::Gone(pod)) => {
                // Gone from the watch: perhaps only its label is. The desk has it looked up if it matters.
                self.pods.remove(&pod.uid);
                self.desk.pod_absent(&PodUid(pod.uid.as_str().into()));
            }
            Input::Node(name) => {
                self.nodes_gone.remove(&name);
                self.nodes_asked.remove(&name);
                let there = self.pods.values().filter(|pod| pod.node.as_deref() == Some(name.as_str())).cloned();
                for pod in there.collect::<Vec<_>>() {
                    self.pod_seen(pod);
                }
            }
            Input::NodeGone(name, gone) => {
                self.nodes_asked.remove(&name);
                if gone {
                    self.nodes_gone.insert(name.clone());
                    let there = self.pods.values().filter(|pod| pod.node.as_deref() == Some(name.as_str())).cloned();
                    for pod in there.collect::<Vec<_>>() {
                        self.pod_seen(pod);
                    }
                }
            }
            Input::Read(result) => {
                if let ReadResult::Unusable(error) = &result {
                    error!(group = self.desk.group().group_id, %error, "the slot table can't be worked with");
                }
                self.desk.read(now, result);
            }
            Input::Written(result) => {
                let outcome = match &result {
                    WriteResult::Written(TableVersion(_)) => "written",
                    WriteResult::Conflict => "conflict",
                    WriteResult::Refused(_) => "refused",
                    WriteResult::Unknown(_) => "unknown",
                };
                if let WriteResult::Refused(why) | WriteResult::Unknown(why) = &result {
                    warn!(group = self.desk.group().group_id, why, outcome, "the slot table could not be written");
                }
                self.office.metrics.table_written(outcome);
                self.desk.written(now, result);
            }
            Input::LookedUp(pod, Ok(Some(found))) if found.uid == *pod.uid.0 => self.pod_seen(Arc::new(found)),
            Input::LookedUp(pod, Ok(_)) => {
                self.pods.remove(&*pod.uid.0);
                self.desk.pod_gone(&pod.uid);
            }
            Input::LookedUp(pod, Err(fault)) => warn!(%pod, %fault, "the pod could not be looked up"),
        }
        Turn::Now
    }

    fn set_members(&mut self, members: HashMap<GroupRef, Arc<Registration>>) {
        for name in self.members.keys().filter(|name| !members.contains_key(*name)) {
            self.office.views.clear(name, self.office.term);
        }
        let new = members.keys().filter(|name| !self.members.contains_key(*name));
        let pods: Vec<_> = new.flat_map(|name| self.office.pods.of(name)).collect();
        for pod in pods {
            self.pod_seen(pod);
        }
        self.moved.retain(|name| !members.contains_key(name));
        self.members = members;
        self.verified.retain(|name| self.members.contains_key(name));
        self.proofs.retain(|name, _| self.members.contains_key(name));
        self.tell_desk();
    }

    /// An answer of the OpenAPI proves credentials as well as a link does.
    fn look_at_evidence(&mut self) {
        let unproven = self.members.keys().filter(|name| !self.verified.contains(*name));
        let works = |name: &&GroupRef| self.office.platform.group(name).is_some_and(|seen| seen.api == Evidence::Works);
        let proven: Vec<GroupRef> = unproven.filter(works).cloned().collect();
        if !proven.is_empty() {
            self.verified.extend(proven);
            self.tell_desk();
        }
    }

    fn tell_desk(&mut self) {
        let said =
            self.members.iter().map(|(name, member)| (name.clone(), member.member(self.verified.contains(name))));
        self.desk.set_members(said.collect());
    }

    fn hello(
        &mut self,
        now: Time,
        stream: StreamId,
        hello: Hello,
        version: String,
        detail: v1::Report,
        outlet: Outlet,
    ) {
        let pod = hello.pod.clone();
        let group = hello.consumer_group.clone();
        info!(pod = %hello.pod, %group, stream = stream.0, version, held = hello.report.held.0, "sidecar connected");
        match self.desk.hello(now, stream, hello) {
            Err(stale) => outlet.end(Status::aborted(stale.to_string())),
            Ok(former) => {
                if let Some(former) = former.and_then(|former| self.streams.remove(&former)) {
                    former.outlet.end(Status::aborted("a newer stream of this pod has come"));
                }
                let figures = wire::figures(now, &detail);
                let entry = Stream {
                    pod,
                    group,
                    version,
                    report: detail,
                    figures,
                    outlet,
                    policy: None,
                    signed: None,
                    told_to_leave: Epoch::NONE,
                };
                self.streams.insert(stream, entry);
            }
        }
    }

    /// A pod is there: what the desk needs to know of it.
    fn pod_seen(&mut self, pod: Arc<Pod>) {
        let node_lost = match &pod.node {
            None => false,
            Some(name) => match self.office.nodes.get(name) {
                Node::There => false,
                Node::OutOfService => true,
                Node::Unknown => {
                    self.ask_for_node(name);
                    self.nodes_gone.contains(name)
                }
            },
        };
        let facts = PodFacts {
            revision: pod.revision.as_deref().map(|revision| Revision(revision.into())),
            deleting: pod.deleting,
            ended: pod.ended && pod.sidecar.as_ref().is_some_and(pods::SidecarContainer::has_ended),
            node_lost,
        };
        let uid = PodUid(pod.uid.as_str().into());
        self.desk.pod_seen(&uid, facts);
        let strangers = self.streams.iter().filter(|(_, stream)| stream.pod.uid == uid && stream.group != pod.group);
        for id in strangers.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.turn_away(id, &pod);
        }
        self.pods.insert(pod.uid.clone(), pod);
    }

    /// A pod speaks for the ConsumerGroup that its label names, and for no other.
    fn turn_away(&mut self, id: StreamId, pod: &Pod) {
        let Some(stream) = self.streams.remove(&id) else { return };
        warn!(pod = %stream.pod, claims = %stream.group, label = %pod.group.name, "turned away: not the pod's ConsumerGroup");
        let words =
            format!("the pod's label names {:?}, not {:?}: they must be the same", pod.group.name, stream.group.name);
        stream.outlet.end(Status::permission_denied(words));
        self.desk.stream_gone(id);
    }

    fn ask_for_node(&mut self, name: &str) {
        if self.nodes_gone.contains(name) || !self.nodes_asked.insert(name.to_owned()) {
            return;
        }
        let nodes: Api<KubeNode> = Api::all(self.office.client.clone());
        let name = name.to_owned();
        self.ask(async move {
            loop {
                if let Ok(Ok(found)) = timeout(REQUEST, nodes.get_metadata_opt(&name)).await {
                    return Input::NodeGone(name, found.is_none());
                }
                sleep(AGAIN).await;
            }
        });
    }

    /// Has something done whose outcome comes back as an input.
    fn ask(&self, work: impl Future<Output = Input> + Send + 'static) {
        let own = self.own.clone();
        tokio::spawn(async move {
            let outcome = work.await;
            if let Some(own) = own.upgrade() {
                let _ = own.send(outcome);
            }
        });
    }

    /// Carries one decision out. The Lease is looked at once more: a decision may have waited.
    fn act(&mut self, action: Action) {
        let leads = {
            let leadership = self.office.leadership.borrow();
            leadership.term == self.office.term && leadership.leads(self.office.clock.now())
        };
        let tables: Api<ConfigMap> = Api::namespaced(self.office.client.clone(), &self.office.namespace);
        match action {
            Action::Read => {
                let group = self.desk.group().clone();
                self.ask(async move { Input::Read(tables::read(&tables, &group).await) });
            }
            Action::Write { table, precondition } if leads => {
                self.ask(async move { Input::Written(tables::write(&tables, &table, precondition).await) });
            }
            Action::Write { .. } => {
                self.ask(async { Input::Written(WriteResult::Refused("no longer the leader".to_owned())) });
            }
            Action::LookUp(pod) => {
                let pods: Api<RawPod> =
                    Api::namespaced_with(self.office.client.clone(), &pod.namespace, &pods::resource());
                self.ask(async move {
                    let found = match timeout(REQUEST, pods.get_opt(&pod.name)).await {
                        Ok(found) => found.map_err(Fault::from).map(|found| found.as_ref().and_then(Pod::read_any)),
                        Err(_) => Err(Fault::new(Class::Unavailable, "no answer in time")),
                    };
                    Input::LookedUp(pod, found)
                });
            }
            Action::Tell(stream, say) if leads => self.tell(stream, say),
            Action::Tell(..) => {}
        }
    }

    /// Tells the pipeline how things stand.
    fn publish(&self, now: Time) {
        if now.since(self.begun) < RETURN && self.awaits_somebody() {
            return;
        }
        let seen = view::of(now, &self.desk, self.members.keys(), &self.streams, &self.refusals());
        for (name, sidecars) in seen {
            self.office.views.set(name, self.office.term, sidecars, now);
        }
    }

    /// Somebody holds slots and has not come back yet.
    fn awaits_somebody(&self) -> bool {
        let here: HashSet<&PodUid> = self.streams.values().map(|stream| &stream.pod.uid).collect();
        let holders = self.desk.table().into_iter().flat_map(|table| &table.holders);
        holders.into_iter().any(|holder| !here.contains(&holder.pod.uid))
    }

    /// Nothing is left to do here, and has not been for a while.
    fn is_closed(&mut self, now: Time) -> bool {
        if self.desk.is_idle() && self.streams.is_empty() {
            let since = *self.idle_since.get_or_insert(now);
            return now.since(since) >= CLOSED_AFTER;
        }
        self.idle_since = None;
        false
    }
}
