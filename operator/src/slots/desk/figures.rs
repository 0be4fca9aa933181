//! What the desk tells of itself: for the status, for metrics, and for those who choose which pod goes next.

use std::collections::BTreeMap;

use super::super::names::{GroupRef, PodRef};
use super::line::Line;
use super::{Desk, LinkPhase};
use crate::time::Time;

/// How things stand in a platform group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// How many slots may be held.
    pub limit: u32,
    /// How many are.
    pub held: u32,
    /// How many can be granted.
    pub free: u32,
    /// Connect attempts that may be permitted in a minute.
    pub attempts_limit: u32,
    /// Permits issued in the last 65 s.
    pub permits_recent: usize,
    /// Permits kept back for sidecars that may be alone.
    pub permits_reserved: u32,
    /// Permits issued in this term.
    pub permits_issued: u64,
    /// Permits refused in this term.
    pub permits_refused: u64,
    /// Exchanges of a rollout under way.
    pub exchanges: usize,
    /// The record is known.
    pub ready: bool,
    /// What there is to each ConsumerGroup, members and retired ones.
    pub groups: BTreeMap<GroupRef, GroupFigures>,
    /// Pods that hold a slot, or have a stream open.
    pub pods: Vec<PodFigures>,
}

/// How things stand with one ConsumerGroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupFigures {
    /// Slots that its pods hold.
    pub held: u32,
    /// Its sidecars with a stream open.
    pub connected: u32,
    /// Its sidecars that want slots and have none.
    pub standby: u32,
    /// Its credentials have been seen to work.
    pub verified: bool,
    /// Pods of its newest revision could not connect: the rollout has stopped.
    pub stuck: bool,
}

/// How things stand with one pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFigures {
    /// The pod.
    pub pod: PodRef,
    /// Its ConsumerGroup.
    pub consumer_group: GroupRef,
    /// Whether it is of use.
    pub state: PodState,
    /// Where its links stand, as it says; `None` without a stream.
    pub link: Option<LinkPhase>,
}

/// Whether a pod is of use, the least useful first: in this order pods should go when some must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PodState {
    /// It has yielded its slot, or has been told to.
    Yielded,
    /// It wants a slot, and there is none.
    StandBy,
    /// It wants none: no application is attached.
    Idle,
    /// It holds one, but its links are not up.
    Connecting,
    /// It consumes.
    Consuming,
}

impl Desk {
    /// How things stand.
    pub fn figures(&self, at: Time) -> Figures {
        let limits = self.limits();
        let held = self.record.table().map_or(0, |table| u32::try_from(table.held()).unwrap_or(u32::MAX));
        let pods = self.pod_figures();
        let mut groups: BTreeMap<GroupRef, GroupFigures> =
            self.members.keys().map(|group| (group.clone(), GroupFigures::default())).collect();
        for figures in &pods {
            let of = groups.entry(figures.consumer_group.clone()).or_default();
            of.connected += u32::from(figures.link.is_some());
            of.standby += u32::from(self.waiting.contains_key(&figures.pod.uid));
        }
        for holder in self.record.table().into_iter().flat_map(|table| &table.holders) {
            let of = groups.entry(holder.consumer_group.clone()).or_default();
            of.held += u32::try_from(holder.slots.len()).unwrap_or(u32::MAX);
        }
        for (group, of) in &mut groups {
            of.verified = self.is_verified(group);
            of.stuck = self.stuck.contains_key(group);
        }
        Figures {
            limit: limits.slots,
            held,
            free: limits.slots.saturating_sub(held),
            attempts_limit: limits.attempts,
            permits_recent: self.permits.issued(at),
            permits_reserved: self.reserved(at).saturating_add(self.permits.leftovers(at)),
            permits_issued: self.permits_issued,
            permits_refused: self.permits_refused,
            exchanges: self.exchanges.len(),
            ready: self.record.certain().is_some(),
            groups,
            pods,
        }
    }

    fn pod_figures(&self) -> Vec<PodFigures> {
        let table = self.record.table();
        let calling = self.lines.values().filter_map(|line| {
            let stream = line.stream()?;
            let holder = table.and_then(|table| table.of_pod(&line.pod().uid));
            let state = match holder {
                Some(holder) if self.must_yield(holder.epoch) => PodState::Yielded,
                Some(holder) if self.is_up(&line.pod().uid, holder.epoch) => PodState::Consuming,
                Some(_) => PodState::Connecting,
                None if stream.report.yielded => PodState::Yielded,
                None if stream.report.wants_slot => PodState::StandBy,
                None => PodState::Idle,
            };
            let (pod, consumer_group) = (line.pod().clone(), stream.consumer_group.clone());
            Some(PodFigures { pod, consumer_group, state, link: Some(stream.report.link) })
        });
        let silent = table.into_iter().flat_map(|table| &table.holders);
        let silent = silent.filter(|holder| self.lines.get(&holder.pod.uid).and_then(Line::stream).is_none());
        // Nobody knows; it goes on consuming if it can.
        let silent = silent.map(|holder| PodFigures {
            pod: holder.pod.clone(),
            consumer_group: holder.consumer_group.clone(),
            state: PodState::Consuming,
            link: None,
        });
        calling.chain(silent).collect()
    }
}
