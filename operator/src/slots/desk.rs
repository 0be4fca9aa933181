//! The desk of one platform group: the leader's view of its slot table, its pods and its streams, and what follows from
//! them. Inputs are told to it as they come; [`Desk::turn`] says what is to be done now.
//!
//! A desk lives for one term of one leader. A leader that has lost its Lease throws its desks away, and makes new ones
//! when it leads again: what it remembers is worth nothing then.
//!
//! The turn works on three things, in this order: *evidence* (which grants of the table have ended), *the queue* (who gets
//! what is free), *exchanges* (who yields to whom in a rollout). They change a copy of the table; if it differs from the
//! record, it is written; and only what the record says is told to anybody.

mod evidence;
mod exchange;
mod figures;
mod line;
mod queue;
mod record;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::names::{Epoch, GroupRef, PodRef, PodUid, Revision, SlotIndex, StreamId, StreamOrder};
use super::policy::{Limits, Member};
use super::table::{PlatformGroup, Table, TableError};
use crate::permits;
use crate::time::Time;

use exchange::Exchange;
pub use figures::{Figures, GroupFigures, PodFigures, PodState};
use line::Line;
use record::Record;
pub use record::{Precondition, ReadResult, TableVersion, WriteResult};

/// The least time between two look-ups of a pod that Kubernetes has not told of.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);

/// The same of one that is said to be there, and whose sidecar is silent: that it is gone may not have been heard.
const RECHECK_EVERY: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Desk {
    members: BTreeMap<GroupRef, Member>,
    /// Members of which a link has been up.
    seen_up: BTreeSet<GroupRef>,
    record: Record,
    /// What there is to each pod that has ever opened a stream in this term.
    lines: BTreeMap<PodUid, Line>,
    /// The pods whose newest stream this is.
    streams: BTreeMap<StreamId, PodUid>,
    pods: BTreeMap<PodUid, Pod>,
    /// When pods that Kubernetes has not told of were last looked up.
    looked_up: BTreeMap<PodUid, Time>,
    /// Since when pods have been waiting for slots.
    waiting: BTreeMap<PodUid, Time>,
    /// Grants whose holder is dead, as far as is known.
    lapses: BTreeMap<Epoch, Lapse>,
    /// When the grants of this term were recorded, or when its pod was last refused a permit.
    trying_since: BTreeMap<Epoch, Time>,
    /// Since when the grants of the record have been known in this term.
    known_since: BTreeMap<Epoch, Time>,
    exchanges: Vec<Exchange>,
    /// Revisions whose pods can't connect: nobody yields to them.
    stuck: BTreeMap<GroupRef, Revision>,
    requests: Vec<Request>,
    permits: permits::Log,
    permits_issued: u64,
    permits_refused: u64,
}

/// What Kubernetes says of a pod.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Pod {
    /// It is there.
    There(PodFacts),
    /// It is not there any more, and never will be again.
    Gone,
}

/// What Kubernetes says of a pod that it knows.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodFacts {
    /// The revision of the workload that it is of, by its label.
    pub revision: Option<Revision>,
    /// It has a deletion timestamp.
    pub deleting: bool,
    /// Its phase is `Succeeded` or `Failed`, *and* its status says that the sidecar's container has terminated: no process
    /// runs in it any more, and none ever will. A container that will be started again is nothing of the kind.
    pub ended: bool,
    /// Its Node does not exist, or is tainted `node.kubernetes.io/out-of-service`. Never for one that is not ready.
    pub node_lost: bool,
}

/// Since when a grant's holder has been dead.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Lapse {
    since: Time,
    /// Nothing that is learnt later can change it: a later process of the pod holds nothing of it.
    certain: bool,
}

/// Who opens a stream, and how things stand there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hello {
    /// The pod, from its token.
    pub pod: PodRef,
    /// The ConsumerGroup: the one that the pod's label names.
    pub consumer_group: GroupRef,
    /// `Hello.process` and `Hello.stream`.
    pub order: StreamOrder,
    /// `Hello.attempted_alone`.
    pub attempted_alone: bool,
    /// `Hello.report`.
    pub report: Report,
}

/// How things stand at a sidecar, as far as slots go: see `sluice.control.v1.Report`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[allow(clippy::struct_excessive_bools, reason = "as in the protocol")]
pub struct Report {
    /// A slot is of use.
    pub wants_slot: bool,
    /// The grant that is held.
    pub held: Epoch,
    /// The greatest grant ever acted upon.
    pub seen: Epoch,
    /// The slot was yielded.
    pub yielded: bool,
    /// It is about to end.
    pub draining: bool,
    /// Where the links stand.
    pub link: LinkPhase,
    /// A link has been up in this process.
    pub was_up: bool,
}

/// Where the links of a sidecar stand: see `sluice.control.v1.Link.Phase`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum LinkPhase {
    /// No slot is held, or none is wanted.
    #[default]
    Idle,
    /// An attempt is under way, or follows soon.
    Connecting,
    /// All links are up.
    Up,
    /// Refused in a way that a person has to mend.
    Down,
}

/// A `Hello` that was overtaken by a later one of the same pod, or is as old as a grant: end its stream with `ABORTED`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a newer stream of this pod has come")]
pub struct StaleHello;

/// A sidecar asks for an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Request {
    stream: StreamId,
    id: u64,
    epoch: Epoch,
    slot: SlotIndex,
}

/// What is to be done. All of it holds only while the Lease is valid: the broker asks its clock once more before each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read the table, consistently (no `resourceVersion`, no cache), and tell [`Desk::read`].
    Read,
    /// Write this table, if its record is still the one that is named, and tell [`Desk::written`].
    Write {
        /// The table.
        table: Table,
        /// What must be there.
        precondition: Precondition,
    },
    /// Get the pod by its name, consistently. If there is none, or one of another UID, tell [`Desk::pod_gone`], else
    /// [`Desk::pod_seen`].
    LookUp(PodRef),
    /// Send this on this stream.
    Tell(StreamId, Say),
}

/// What is said to a sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Say {
    /// `SlotGranted`.
    Grant {
        /// Which grant.
        epoch: Epoch,
        /// The slots.
        slots: Vec<SlotIndex>,
        /// `SlotGranted.attempts_alone`.
        attempts_alone: u32,
    },
    /// `StandBy`.
    StandBy(StandByReason),
    /// `Yield`.
    Yield {
        /// The grant meant.
        epoch: Epoch,
        /// How long it may take to drain.
        drain: Duration,
    },
    /// `Permit`: sign for this slot, now.
    Permit {
        /// The request's number.
        id: u64,
        /// What the connection is for: [`client_id`](super::client_id) names it.
        slot: SlotIndex,
    },
    /// `PermitRefused`.
    RefusePermit {
        /// The request's number.
        id: u64,
        /// Why.
        because: RefusedBecause,
        /// When to ask again.
        retry_after: Duration,
    },
    /// `Ping`.
    Ping {
        /// Its number.
        number: u64,
    },
}

/// Why there is no slot now.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StandByReason {
    /// All are taken.
    #[error("all {limit} client slots are held")]
    AllHeld {
        /// How many there are.
        limit: u32,
    },
    /// Some are free, but not as many as a pod takes.
    #[error("{free} of {limit} client slots are free, and connectionsPerPod asks for {needed}")]
    TooFew {
        /// How many are free.
        free: usize,
        /// How many there are.
        limit: u32,
        /// How many are needed.
        needed: usize,
    },
    /// The probe is under way.
    #[error("the credentials have not been seen to work yet; one pod is trying them")]
    Unverified,
    /// The document is not there.
    #[error("there is no valid ConsumerGroup {0}")]
    NoConsumerGroup(GroupRef),
    /// The slot went to a newer pod.
    #[error("the slot was yielded to a pod of a newer revision")]
    Yielded,
    /// The pod has been deleted, or has ended, or its Node is lost.
    #[error("the pod is being deleted, or its node is lost")]
    Leaving,
    /// Kubernetes has not told of the pod yet.
    #[error("the pod is not known yet")]
    UnknownPod,
    /// The table can't be worked with, or not now.
    #[error("the slot table can't be read or written at present: {0}")]
    NoTable(String),
    /// A free slot is being recorded.
    #[error("the grant is being recorded")]
    Recording,
}

/// Why there is no permit now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum RefusedBecause {
    /// The pod does not hold that slot by that grant.
    #[error("the slot is not granted to this pod")]
    NotHeld,
    /// Who holds it is not known just now.
    #[error("the slot table can't be read at present")]
    NoTable,
    /// There are none left.
    #[error(transparent)]
    Full(permits::Full),
}

impl Desk {
    /// The desk of a leader that came at this moment.
    pub fn new(group: PlatformGroup, at: Time) -> Self {
        Self {
            members: BTreeMap::new(),
            seen_up: BTreeSet::new(),
            record: Record::new(group),
            lines: BTreeMap::new(),
            streams: BTreeMap::new(),
            pods: BTreeMap::new(),
            looked_up: BTreeMap::new(),
            waiting: BTreeMap::new(),
            lapses: BTreeMap::new(),
            trying_since: BTreeMap::new(),
            known_since: BTreeMap::new(),
            exchanges: Vec::new(),
            stuck: BTreeMap::new(),
            requests: Vec::new(),
            permits: permits::Log::new(at),
            permits_issued: 0,
            permits_refused: 0,
        }
    }

    /// The platform group.
    pub fn group(&self) -> &PlatformGroup {
        self.record.group()
    }

    /// These ConsumerGroups speak of the group now. One that is not among them any more is retired: its pods are granted
    /// nothing, and what they hold stays held until there is evidence.
    pub fn set_members(&mut self, members: BTreeMap<GroupRef, Member>) {
        // Whatever has changed may be the cure of a revision that could not connect.
        self.stuck.retain(|group, _| self.members.get(group) == members.get(group));
        self.seen_up.retain(|group| members.contains_key(group));
        self.members = members;
    }

    /// A stream was opened. Says which stream it takes the place of: end that with `ABORTED`.
    pub fn hello(&mut self, at: Time, stream: StreamId, hello: Hello) -> Result<Option<StreamId>, StaleHello> {
        let uid = hello.pod.uid.clone();
        let granted_on = self.record.table().and_then(|table| table.of_pod(&uid)).map(|holder| holder.told_on);
        if granted_on.is_some_and(|order| hello.order < order) {
            return Err(StaleHello);
        }
        let former = if let Some(line) = self.lines.get_mut(&uid) {
            line.reopen(at, stream, hello)?
        } else {
            self.lines.insert(uid.clone(), Line::open(at, stream, hello));
            None
        };
        if let Some(former) = former {
            self.streams.remove(&former);
        }
        self.streams.insert(stream, uid.clone());
        self.note_report(&uid);
        Ok(former)
    }

    /// A report came on a stream. One that is not its pod's newest says nothing.
    pub fn report(&mut self, stream: StreamId, report: Report) {
        let Some(uid) = self.streams.get(&stream).cloned() else { return };
        if let Some(open) = self.lines.get_mut(&uid).and_then(Line::stream_mut) {
            open.report = report;
        }
        self.note_report(&uid);
    }

    /// A ping was answered.
    pub fn pong(&mut self, stream: StreamId, number: u64) {
        if let Some(line) = self.streams.get(&stream).and_then(|uid| self.lines.get_mut(uid)) {
            line.pong(number);
        }
    }

    /// A permit is asked for. The next turn answers.
    pub fn permit_request(&mut self, stream: StreamId, id: u64, epoch: Epoch, slot: SlotIndex) {
        self.requests.push(Request { stream, id, epoch, slot });
    }

    /// A stream has ended: there is nobody at its other end any more.
    pub fn stream_gone(&mut self, stream: StreamId) {
        if let Some(line) = self.streams.remove(&stream).and_then(|uid| self.lines.get_mut(&uid)) {
            line.close();
        }
    }

    /// Kubernetes tells of a pod.
    pub fn pod_seen(&mut self, uid: &PodUid, facts: PodFacts) {
        if self.pods.get(uid) != Some(&Pod::Gone) {
            self.pods.insert(uid.clone(), Pod::There(facts));
        }
    }

    /// The pod is deleted: the watch has said so, or a consistent read has not found it. Being absent from a list is no
    /// reason to say this; see [`Desk::pod_absent`].
    pub fn pod_gone(&mut self, uid: &PodUid) {
        self.looked_up.remove(uid);
        self.pods.insert(uid.clone(), Pod::Gone);
    }

    /// The pod was absent from a list, which may be old: it will be looked up if it matters.
    pub fn pod_absent(&mut self, uid: &PodUid) {
        if matches!(self.pods.get(uid), Some(Pod::There(_))) {
            self.pods.remove(uid);
        }
    }

    /// What an [`Action::Read`] came to.
    pub fn read(&mut self, at: Time, result: ReadResult) {
        let before = self.record.table().cloned();
        self.record.read(at, result);
        self.note_grants(at, before.as_ref());
    }

    /// What an [`Action::Write`] came to.
    pub fn written(&mut self, at: Time, result: WriteResult) {
        let before = self.record.table().cloned();
        self.record.written(at, result);
        self.note_grants(at, before.as_ref());
    }

    /// What is to be done now, by a leader whose Lease is valid until the moment given, on its own clock. A leader whose
    /// Lease is not does nothing.
    pub fn turn(&mut self, at: Time, lease_valid_until: Time) -> Vec<Action> {
        if at >= lease_valid_until {
            return Vec::new();
        }
        self.judge(at);
        self.queue_up(at);
        self.follow_exchanges(at);
        let mut actions = Vec::new();
        if self.record.wants_reading(at) {
            self.record.reading();
            actions.push(Action::Read);
        } else if self.record.wants_writing(at) {
            match self.wanted(at) {
                None => self.start_exchanges(at),
                Some(table) => {
                    let precondition = self.record.writing(&table);
                    actions.extend(precondition.map(|precondition| Action::Write { table, precondition }));
                }
            }
        }
        self.look_up(at, &mut actions);
        self.tell(at, &mut actions);
        self.answer(at, &mut actions);
        self.sweep();
        actions
    }

    /// The next moment at which a turn may have something to do although nothing was told.
    pub fn wake_at(&self, at: Time) -> Option<Time> {
        let holders = self.record.table().into_iter().flat_map(|table| &table.holders);
        let lapses = holders.flat_map(|holder| {
            let lapse = self.lapses.get(&holder.epoch).map(|lapse| lapse.since);
            let known = self.known_since.get(&holder.epoch).copied().filter(|_| holder.after_restart);
            lapse.into_iter().chain(known).map(|since| evidence::free_at(since, holder))
        });
        let pings = self.lines.values().filter_map(Line::next_ping_at);
        let look_ups = self
            .concerned()
            .into_iter()
            .filter_map(|pod| Some(*self.looked_up.get(&pod.uid)? + self.look_up_every(&pod.uid)?));
        let exchanges = self.exchanges.iter().filter_map(|exchange| self.exchange_deadline(exchange));
        let record = self.record.wake_at();
        // What was due already, and is still there, waits for something else than time.
        lapses.chain(pings).chain(look_ups).chain(exchanges).chain(record).filter(|when| *when > at).min()
    }

    /// Nobody speaks of the group, and nobody holds anything of it: the desk can be closed.
    pub fn is_idle(&self) -> bool {
        self.members.is_empty()
            && self.streams.is_empty()
            && !self.record.is_busy()
            && self.record.table().is_some_and(|table| table.holders.is_empty())
    }

    /// The record, as last read or written.
    pub fn table(&self) -> Option<&Table> {
        self.record.table()
    }

    /// Why the table can't be worked with, if it can't.
    pub fn table_error(&self) -> Option<&TableError> {
        self.record.error()
    }

    /// The table as it should be: the record, less what has ended, and with new grants. `None`: as it is.
    fn wanted(&self, at: Time) -> Option<Table> {
        let recorded = self.record.table()?;
        let mut table = recorded.clone();
        let returning = self.free_ended(at, &mut table);
        self.grant(&mut table, &returning);
        (table != *recorded || self.record.was_deleted()).then_some(table)
    }

    /// The record may have changed: notes the grants that are new, and sees to those that are over.
    fn note_grants(&mut self, at: Time, before: Option<&Table>) {
        let Some(table) = self.record.table() else { return };
        let stands = |epoch: &Epoch| table.holders.iter().any(|holder| holder.epoch == *epoch);
        for holder in before.into_iter().flat_map(|table| &table.holders).filter(|holder| !stands(&holder.epoch)) {
            // It may have been alone, and attempting, until this moment.
            if self.may_be_alone(at, &holder.pod.uid) {
                self.permits.keep(at, holder.attempts_alone);
            }
        }
        self.lapses.retain(|epoch, _| stands(epoch));
        self.trying_since.retain(|epoch, _| stands(epoch));
        self.known_since.retain(|epoch, _| stands(epoch));
        for holder in &table.holders {
            self.known_since.entry(holder.epoch).or_insert(at);
            if before.is_some_and(|table| table.next_epoch <= holder.epoch) {
                self.trying_since.entry(holder.epoch).or_insert(at);
            }
            self.waiting.remove(&holder.pod.uid);
        }
        self.settle_exchanges();
    }

    /// What counts for the group as a whole. Whoever has not shown that its credentials work has no say in what others may
    /// do: a document in any namespace could name the group.
    fn limits(&self) -> Limits {
        let proven = self.members.iter().filter(|(group, _)| self.is_verified(group)).map(|(_, member)| member);
        Limits::of(proven).or_else(|| Limits::of(self.members.values())).unwrap_or_default()
    }

    fn facts(&self, uid: &PodUid) -> Option<&PodFacts> {
        match self.pods.get(uid)? {
            Pod::There(facts) => Some(facts),
            Pod::Gone => None,
        }
    }

    /// A link that is up proves that its group's credentials are right, and that its revision can connect.
    fn note_report(&mut self, uid: &PodUid) {
        let Some(stream) = self.lines.get(uid).and_then(Line::stream) else { return };
        self.record.spoken_of(stream.report.held.max(stream.report.seen));
        if stream.report.was_up || stream.report.link == LinkPhase::Up {
            self.seen_up.insert(stream.consumer_group.clone());
        }
        if stream.report.link == LinkPhase::Up && stream.report.held != Epoch::NONE {
            let group = stream.consumer_group.clone();
            let revision = self.facts(uid).and_then(|facts| facts.revision.clone());
            if revision.is_some() && self.stuck.get(&group) == revision.as_ref() {
                self.stuck.remove(&group);
            }
        }
        self.settle_exchanges();
    }

    /// The pods that matter: that hold something, or have ever called.
    fn concerned(&self) -> BTreeSet<&PodRef> {
        let holders = self.record.table().into_iter().flat_map(|table| &table.holders).map(|holder| &holder.pod);
        holders.chain(self.lines.values().map(Line::pod)).collect()
    }

    /// How often to ask for a pod; `None`: what is known of it is enough.
    fn look_up_every(&self, uid: &PodUid) -> Option<Duration> {
        match self.pods.get(uid) {
            None => Some(LOOK_UP_EVERY),
            Some(Pod::There(_)) if self.lines.get(uid).and_then(Line::stream).is_none() => Some(RECHECK_EVERY),
            Some(Pod::There(_) | Pod::Gone) => None,
        }
    }

    /// Asks for the pods that matter and of which Kubernetes has not told enough. One that has just fallen silent is not
    /// asked for at once: most likely the watch will tell.
    fn look_up(&mut self, at: Time, actions: &mut Vec<Action>) {
        let concerned: Vec<PodRef> = self.concerned().into_iter().cloned().collect();
        for pod in concerned {
            let Some(every) = self.look_up_every(&pod.uid) else {
                self.looked_up.remove(&pod.uid);
                continue;
            };
            match self.looked_up.get(&pod.uid) {
                Some(asked) if at.since(*asked) < every => {}
                None if every == RECHECK_EVERY => {
                    self.looked_up.insert(pod.uid.clone(), at);
                }
                _ => {
                    self.looked_up.insert(pod.uid.clone(), at);
                    actions.push(Action::LookUp(pod));
                }
            }
        }
    }

    /// Forgets pods that are gone, hold nothing, and have nobody on the line.
    fn sweep(&mut self) {
        let held = |uid: &PodUid| self.record.knows(uid);
        self.lines.retain(|uid, line| line.stream().is_some() || held(uid) || self.pods.get(uid) != Some(&Pod::Gone));
        self.pods.retain(|uid, pod| *pod != Pod::Gone || held(uid) || self.lines.contains_key(uid));
        self.looked_up.retain(|uid, _| held(uid) || self.lines.contains_key(uid));
    }
}

#[cfg(test)]
mod tests;
