//! The clerk of one platform group: the task that owns its [`Desk`], feeds it with what streams and Kubernetes say, and
//! carries out what it decides. One per group and term of leadership; it ends with the term.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Node as KubeNode};
use kube::api::Api;
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::sign::{ConnectIdentity, SaslCredentials};
use sluice_proto::control::v1;
use sluice_proto::control::v1::link::Phase;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, sleep_until, timeout};
use tonic::Status;
use tracing::{debug, error, info, warn};

use super::nodes::{Node, Nodes};
use super::outlet::Outlet;
use super::registration::Registration;
use super::views::Views;
use super::{tables, view, wire};
use crate::credentials::Credential;
use crate::fault::{Class, Fault};
use crate::group::pods::{self, Change, Pod, Pods, RawPod};
use crate::group::view::{Evidence, Platform};
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::slots::{
    Action, Desk, Epoch, GroupRef, Hello, PlatformGroup, PodFacts, PodRef, PodUid, ReadResult, Revision, Say,
    SlotIndex, StreamId, TableVersion, WriteResult, client_id,
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
    /// The policy that it was told.
    policy: Option<Arc<v1::Policy>>,
    /// What its last permit was signed with.
    signed: Option<Signed>,
    /// The grant that it was told to leave.
    told_to_leave: Epoch,
}

/// A key that a permit was signed with.
struct Signed {
    key: AccessKey,
    /// Which of the keys that the ConsumerGroup has had.
    version: u64,
}

/// What links have shown of a ConsumerGroup's keys.
#[derive(Default)]
struct Proof {
    /// A link came up that was signed with this one.
    taken: Option<u64>,
    /// A link that was signed with this one was refused, in these words.
    refused: Option<(u64, String)>,
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

    fn tell(&mut self, id: StreamId, say: Say) {
        let Some(stream) = self.streams.get(&id) else { return };
        let message = match say {
            Say::Grant { epoch, slots, attempts_alone } => {
                info!(pod = %stream.pod, group = %stream.group, epoch = epoch.0, ?slots, "slots granted");
                wire::granted(epoch, &slots, attempts_alone)
            }
            Say::StandBy(reason) => {
                info!(pod = %stream.pod, group = %stream.group, %reason, "standing by");
                wire::stand_by(&reason)
            }
            Say::Yield { epoch, drain } => {
                info!(pod = %stream.pod, group = %stream.group, epoch = epoch.0, "told to yield");
                wire::yields(epoch, drain)
            }
            Say::Permit { id: request, slot } => match self.sign(stream, slot) {
                Ok((credentials, Credential { key, usable, version })) => {
                    self.office.metrics.permit("issued");
                    let message = wire::permit(request, &credentials, usable);
                    if let Some(stream) = self.streams.get_mut(&id) {
                        stream.signed = Some(Signed { key, version });
                    }
                    message
                }
                Err(reason) => {
                    self.office.metrics.permit("unsigned");
                    wire::unsigned(request, reason, UNSIGNED)
                }
            },
            Say::RefusePermit { id: request, because, retry_after } => {
                self.office.metrics.permit("refused");
                wire::refused(request, because, retry_after)
            }
            Say::Ping { number } => wire::ping(number),
        };
        if self.streams.get(&id).is_some_and(|stream| !stream.outlet.send(message)) {
            self.drop_stream(id);
        }
    }

    /// What has become of the last permit of a stream, as far as it proves something about the key. Whoever keeps a key
    /// that was refused should look for another.
    fn note_proof(&mut self, id: StreamId) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(link) = &stream.report.link else { return };
        let up = link.phase() == Phase::Up;
        if !up && !link.credentials_refused {
            return;
        }
        let Some(Signed { key, version }) = stream.signed.take() else { return };
        let proof = self.proofs.entry(stream.group.clone()).or_default();
        if up {
            proof.taken = proof.taken.max(Some(version));
        } else {
            proof.refused = Some((version, wire::words(&link.reason)));
            if let Some(registration) = self.members.get(&stream.group) {
                registration.group().link_keys.refused(&key);
            }
        }
    }

    /// The platform's words, for ConsumerGroups whose present keys it refuses, whatever older links are still up.
    fn refusals(&self) -> HashMap<GroupRef, String> {
        let refused = self.proofs.iter().filter_map(|(name, proof)| {
            let (version, words) = proof.refused.as_ref()?;
            let present = self.members.get(name)?.group().link_keys.current().ok()?.version;
            (*version == present && proof.taken != Some(present)).then(|| (name.clone(), words.clone()))
        });
        refused.collect()
    }

    /// A permit that could not be signed is not asked for: it would be one less for everybody else.
    fn asked_for_permit(&mut self, id: StreamId, request: &v1::PermitRequest) {
        let Some(stream) = self.streams.get(&id) else { return };
        let slot = SlotIndex(request.slot);
        match self.sign(stream, slot) {
            Ok(_) => self.desk.permit_request(id, request.id, Epoch(request.epoch), slot),
            Err(reason) => {
                self.office.metrics.permit("unsigned");
                if !stream.outlet.send(wire::unsigned(request.id, reason, UNSIGNED)) {
                    self.drop_stream(id);
                }
            }
        }
    }

    fn sign(&self, stream: &Stream, slot: SlotIndex) -> Result<(SaslCredentials, Credential), String> {
        let Some(registration) = self.members.get(&stream.group) else {
            return Err(format!("there is no valid ConsumerGroup {}", stream.group));
        };
        let credential = registration.group().link_keys.current().map_err(|fault| fault.words)?;
        let pod = &stream.pod;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let identity = ConnectIdentity {
            client_id: client_id(pod, slot).map_err(|error| error.to_string())?,
            iot_instance_id: registration.instance_id(),
            consumer_group_id: self.desk.group().group_id.clone(),
            sign_method: registration.sign_method(),
            timestamp_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            access_key_id: credential.key.id().to_owned(),
            security_token: credential.key.security_token().cloned(),
        };
        let credentials = identity.sign(credential.key.secret()).map_err(|error| error.to_string())?;
        Ok((credentials, credential))
    }

    /// The sidecar does not read what it is told: it has to come again.
    fn drop_stream(&mut self, id: StreamId) {
        if let Some(stream) = self.streams.remove(&id) {
            warn!(pod = %stream.pod, group = %stream.group, "the sidecar does not read its stream: ended");
            stream.outlet.end(Status::resource_exhausted("too much is unread on this stream"));
            self.desk.stream_gone(id);
        }
    }

    /// Sidecars whose ConsumerGroup has moved give back what they hold here, and then call again elsewhere.
    fn see_off(&mut self) {
        if self.moved.is_empty() {
            return;
        }
        let moved: Vec<StreamId> =
            self.streams.iter().filter(|(_, stream)| self.moved.contains(&stream.group)).map(|(id, _)| *id).collect();
        for id in moved {
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            match self.desk.table().and_then(|table| table.of_pod(&stream.pod.uid)) {
                Some(holder) if stream.told_to_leave == holder.epoch => {}
                Some(holder) => {
                    stream.told_to_leave = holder.epoch;
                    let _ = stream.outlet.send(wire::yields(holder.epoch, LEAVING));
                }
                None => {
                    let words = "the ConsumerGroup is about another group of the platform now; connect again";
                    stream.outlet.end(Status::unavailable(words));
                    self.streams.remove(&id);
                    self.desk.stream_gone(id);
                }
            }
        }
    }

    /// Every stream knows its ConsumerGroup's policy, as it is now.
    fn tell_policies(&mut self) {
        let mut deaf = Vec::new();
        for (id, stream) in &mut self.streams {
            let Some(registration) = self.members.get(&stream.group) else { continue };
            if stream
                .policy
                .as_ref()
                .is_some_and(|told| Arc::ptr_eq(told, &registration.policy) || *told == registration.policy)
            {
                continue;
            }
            let policy = v1::Policy::clone(&registration.policy);
            if stream.outlet.send(wire::message(v1::broker_message::Message::Policy(policy))) {
                stream.policy = Some(Arc::clone(&registration.policy));
            } else {
                deaf.push(*id);
            }
        }
        for id in deaf {
            self.drop_stream(id);
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
