//! The world that the model is of: API server, operators, pods with their sidecars, streams, the platform. The decisions
//! in it are taken by production code: [`Desk`] for the operators, [`Seat`], [`Alone`] and [`Requests`] for the sidecars.
//! What is the model's own is the glue that the edges have in production, and everything that can go wrong between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use sluice_operator::slots::{
    Desk, Epoch, GroupRef, LinkPhase, Member, PlatformGroup, PodFacts, PodRef, Precondition, Report, Revision, Say,
    SlotIndex, StreamId, Table,
};
use sluice_operator::time::Time;
use sluice_sidecar::control::alone::Alone;
use sluice_sidecar::control::requests::Requests;
use sluice_sidecar::control::seat::{Order, Seat};
use sluice_sidecar::control::time::Time as Local;

use super::attempts::{OnTheWay, Trying};
use super::sabotage::Sabotage;

/// The platform closes a connection on which it has heard nothing for so long.
pub(crate) const IDLE: Duration = Duration::from_secs(30);

/// How long a Lease lasts, and how long its holder takes it to last.
pub(crate) const LEASE_MS: u64 = 15_000;
pub(crate) const RENEWED_WITHIN_MS: u64 = 10_000;

/// What does not change in a run.
#[derive(Debug, Clone)]
pub(crate) struct Scene {
    /// Client slots of the platform group.
    pub(crate) slots: u32,
    /// Connect attempts a minute.
    pub(crate) attempts: u32,
    /// Pods that there are at a time.
    pub(crate) pods: usize,
    /// Pods that there can be in all: others take the place of those that go, until then.
    pub(crate) most_pods: usize,
    /// `connectionsPerPod` of the ConsumerGroup of this number.
    pub(crate) per_pod: [u32; 2],
    /// Attempts are made one by one, and need permits. Else a link is up as soon as its slot is held.
    pub(crate) permits: bool,
    /// Watches of pods may fall silent, and lists be old.
    pub(crate) watches: bool,
    /// Operators take what has come in together, instead of one by one.
    pub(crate) batched: bool,
    /// The rule that is switched off.
    pub(crate) sabotage: Option<Sabotage>,
}

impl Scene {
    pub(crate) fn without(&self, rule: Sabotage) -> bool {
        self.sabotage == Some(rule)
    }
}

/// All there is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// Milliseconds. Nobody in the world sees it but through a clock of its own.
    pub(crate) now: u64,
    /// Limits, as the ConsumerGroups say them now.
    pub(crate) slots: u32,
    /// The greatest that `slots` has been while what is held now was granted.
    pub(crate) slots_before: u32,
    /// The stored table, and its version.
    pub(crate) stored: Option<(Table, u64)>,
    pub(crate) version: u64,
    /// Who has the Lease, and when it can be taken from it.
    pub(crate) lease: Option<(usize, u64)>,
    pub(crate) operators: Vec<Operator>,
    pub(crate) calls: Vec<Call>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) streams: Vec<Stream>,
    pub(crate) connections: Vec<Connection>,
    /// Attempts that have not reached the platform.
    pub(crate) on_the_way: Vec<OnTheWay>,
    /// When the platform has seen attempts; those of the last minute.
    pub(crate) attempts: VecDeque<u64>,
    pub(crate) next_attempt: u64,
    pub(crate) next_stream: u64,
    /// The platform refuses everybody.
    pub(crate) refuses: bool,
    /// The newest revision of each ConsumerGroup's workload.
    pub(crate) newest: [u64; 2],
    /// What has gone wrong that must not.
    pub(crate) broken: Option<String>,
}

/// An operator process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Operator {
    pub(crate) term: Option<Term>,
    /// It does not hear the API server, nor is it heard.
    pub(crate) deaf: bool,
    /// Its watch of pods is silent.
    pub(crate) blind: bool,
    /// The pods, as its watch has told of them.
    pub(crate) pods: BTreeMap<usize, PodFacts>,
}

/// A time of leading.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Term {
    pub(crate) number: u64,
    pub(crate) desk: Desk,
    /// On its own clock.
    pub(crate) valid_until: u64,
}

/// A call to the API server about the table.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Call {
    pub(crate) operator: usize,
    pub(crate) term: u64,
    pub(crate) what: What,
    /// What it has come to, once the API server has carried it out.
    pub(crate) outcome: Option<Outcome>,
    /// It is on its way for a long time.
    pub(crate) held: bool,
    /// Its caller has given it up.
    pub(crate) given_up: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Read,
    Write { table: Table, precondition: Precondition },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Outcome {
    Read(Option<(Table, u64)>),
    Written(u64),
    Conflict,
}

/// A pod, from its creation until nothing is left of it.
#[expect(clippy::struct_excessive_bools, clippy::struct_field_names, reason = "each is true or not by itself")]
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pod {
    pub(crate) pod: PodRef,
    /// Which ConsumerGroup it is of: 0 or 1.
    pub(crate) group: usize,
    pub(crate) revision: u64,
    /// The API server has an object of it.
    pub(crate) exists: bool,
    pub(crate) deleting: bool,
    pub(crate) ended: bool,
    pub(crate) node_lost: bool,
    pub(crate) process: Option<Process>,
    pub(crate) processes: u64,
    /// What its volume remembers of attempts made alone.
    pub(crate) remembered: Vec<u32>,
    /// When the kubelet, or whoever vouches for it, has killed the process.
    pub(crate) dies_by: Option<u64>,
    /// An application is attached.
    pub(crate) attended: bool,
    /// It does not reach the platform.
    pub(crate) cut_off: bool,
    /// It can't connect, whatever it tries.
    pub(crate) unable: bool,
    /// It does not reach the operators: what is sent stays on the way.
    pub(crate) apart: bool,
}

/// A sidecar's process.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Process {
    pub(crate) number: u64,
    pub(crate) seat: Seat,
    pub(crate) alone: Alone,
    pub(crate) requests: Requests,
    pub(crate) stream: Option<u64>,
    /// A permit for a slot, and until when it is of use.
    pub(crate) permitted: BTreeMap<u32, u64>,
    /// Slots for which a permit has been asked for.
    pub(crate) asked: BTreeSet<u32>,
    /// The attempts under way, by their slots.
    pub(crate) trying: BTreeMap<u32, Trying>,
    /// Not before this is a permit asked for again.
    pub(crate) ask_again: u64,
    /// When the last byte went out on connections whose end the platform has not confirmed, and the idle time-out after it.
    pub(crate) lingers_until: u64,
    /// The grant whose links it has closed.
    pub(crate) left: u64,
    pub(crate) was_up: bool,
}

/// A connection, as the platform sees it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Connection {
    pub(crate) pod: usize,
    pub(crate) slot: u32,
    /// There is nobody at the other end; it is counted until then.
    pub(crate) until: Option<u64>,
    /// The attempt that has opened it, and whose sidecar does not know yet that it stands.
    pub(crate) unheard: Option<u64>,
}

/// A control stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Stream {
    pub(crate) id: u64,
    pub(crate) operator: usize,
    pub(crate) term: u64,
    pub(crate) pod: usize,
    pub(crate) process: u64,
    /// Its number in its process.
    pub(crate) number: u64,
    pub(crate) up: VecDeque<Up>,
    pub(crate) down: VecDeque<Down>,
    /// Its operator has it open.
    pub(crate) served: bool,
    /// Its sidecar has it open.
    pub(crate) open: bool,
    pub(crate) last: Option<Report>,
    /// What is sent stays on the way for a long time.
    pub(crate) held: bool,
    /// Since when nothing has come through.
    pub(crate) stuck_since: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Up {
    Hello { attempted_alone: bool, report: Report },
    Report(Report),
    Pong(u64),
    Request { id: u64, epoch: u64, slot: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Down {
    Welcome,
    Say(Say),
}

/// The ConsumerGroups: one in each of two namespaces, on one group of the platform.
pub(crate) fn group_ref(group: usize) -> GroupRef {
    GroupRef::new(["plant-a", "plant-b"][group], "telemetry")
}

pub(crate) fn platform_group() -> PlatformGroup {
    PlatformGroup { instance: "iot-1".into(), group_id: "G".into() }
}

impl World {
    /// Pods with applications, half of each ConsumerGroup, and operators of which none leads yet.
    pub(crate) fn new(scene: &Scene) -> Self {
        let mut world = Self {
            now: 1_000_000,
            slots: scene.slots,
            slots_before: scene.slots,
            stored: None,
            version: 0,
            lease: None,
            operators: vec![Operator::default(), Operator::default()],
            calls: Vec::new(),
            pods: Vec::new(),
            streams: Vec::new(),
            connections: Vec::new(),
            on_the_way: Vec::new(),
            attempts: VecDeque::new(),
            next_attempt: 1,
            next_stream: 1,
            refuses: false,
            newest: [0, 0],
            broken: None,
        };
        for number in 0..scene.pods {
            world.create_pod(number % 2);
        }
        for number in 0..world.operators.len() {
            world.list(scene, number);
        }
        world
    }

    pub(crate) fn create_pod(&mut self, group: usize) {
        let name = format!("p{}", self.pods.len());
        let namespace = group_ref(group).namespace;
        self.pods.push(Pod {
            pod: PodRef::new(&name, &namespace, &name),
            group,
            revision: self.newest[group],
            exists: true,
            deleting: false,
            ended: false,
            node_lost: false,
            process: None,
            processes: 0,
            remembered: Vec::new(),
            dies_by: None,
            attended: true,
            cut_off: false,
            unable: false,
            apart: false,
        });
        let place = self.pods.len() - 1;
        self.start_process(place);
    }

    pub(crate) fn start_process(&mut self, place: usize) {
        let local = self.local();
        let pod = &mut self.pods[place];
        pod.processes += 1;
        let mut seat = Seat::new();
        seat.application(local, pod.attended);
        pod.process = Some(Process {
            number: pod.processes,
            seat,
            alone: Alone::new(local, &pod.remembered),
            requests: Requests::new(),
            stream: None,
            permitted: BTreeMap::new(),
            asked: BTreeSet::new(),
            trying: BTreeMap::new(),
            ask_again: 0,
            lingers_until: 0,
            left: 0,
            was_up: false,
        });
    }

    /// The time by the clocks of the sidecars.
    pub(crate) fn local(&self) -> Local {
        Local(self.now)
    }

    /// The time by the operators' clocks.
    pub(crate) fn time(&self) -> Time {
        Time(self.now + 7_777)
    }

    pub(crate) fn time_of(at: u64) -> Time {
        Time(at + 7_777)
    }

    /// What the ConsumerGroups say.
    pub(crate) fn members(&self, scene: &Scene) -> BTreeMap<GroupRef, Member> {
        let idle_timeout = if scene.without(Sabotage::IdleWait) { Duration::ZERO } else { IDLE };
        let member = |group: usize| Member {
            // The one that allows more does not count.
            client_slots: self.slots + u32::try_from(group).unwrap(),
            connect_attempts_per_minute: scene.attempts,
            connections_per_pod: scene.per_pod[group],
            idle_timeout,
            drain: Duration::from_secs(10),
            newest: Some(revision(self.newest[group])),
            verified: true,
        };
        (0..2).map(|group| (group_ref(group), member(group))).collect()
    }

    pub(crate) fn facts(&self, place: usize) -> PodFacts {
        let pod = &self.pods[place];
        PodFacts {
            revision: Some(revision(pod.revision)),
            deleting: pod.deleting,
            ended: pod.ended,
            node_lost: pod.node_lost,
        }
    }

    /// What the sidecar says of itself.
    pub(crate) fn report(&self, place: usize) -> Report {
        let Some(process) = &self.pods[place].process else { return Report::default() };
        let standing = process.seat.standing(self.local());
        let link = match process.seat.order() {
            Order::Use(grant) if grant.slots.iter().all(|slot| self.is_up(place, *slot)) => LinkPhase::Up,
            Order::Use(_) => LinkPhase::Connecting,
            Order::Stay | Order::Leave { .. } => LinkPhase::Idle,
        };
        Report {
            wants_slot: standing.wants_slot,
            held: Epoch(standing.held_epoch),
            seen: Epoch(standing.seen_epoch),
            yielded: standing.yielded,
            draining: standing.draining,
            link,
            was_up: process.was_up,
        }
    }

    pub(crate) fn is_up(&self, place: usize, slot: u32) -> bool {
        self.connections
            .iter()
            .any(|held| held.pod == place && held.slot == slot && held.until.is_none() && held.unheard.is_none())
    }

    pub(crate) fn stream_mut(&mut self, id: u64) -> Option<&mut Stream> {
        self.streams.iter_mut().find(|stream| stream.id == id)
    }

    /// The term that leads, as far as its Lease goes.
    pub(crate) fn leader(&self) -> Option<(usize, u64)> {
        let (holder, _) = self.lease?;
        self.operators[holder].term.as_ref().map(|term| (holder, term.number))
    }
}

pub(crate) fn revision(number: u64) -> Revision {
    Revision::from(["r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7"][usize::try_from(number).unwrap() % 8])
}

pub(crate) fn stream_id(id: u64) -> StreamId {
    StreamId(id)
}

pub(crate) fn slot(index: u32) -> SlotIndex {
    SlotIndex(index)
}
