//! Who gets what is free: the pod whose own slot it was, then who was yielded to, then whoever has waited longest, and at
//! last those who have yielded.

use super::super::names::{GroupRef, PodUid};
use super::super::table::{Holder, Table};
use super::evidence::Returning;
use super::line::{Line, Stream};
use super::{Desk, StandByReason};
use crate::time::Time;

impl Desk {
    /// Notes who waits, and since when.
    pub(super) fn queue_up(&mut self, at: Time) {
        let waits: Vec<PodUid> = self
            .lines
            .iter()
            .filter(|(_, line)| line.stream().is_some_and(|stream| stream.report.wants_slot && !stream.report.draining))
            .map(|(uid, _)| uid.clone())
            .filter(|uid| self.record.table().is_none_or(|table| table.of_pod(uid).is_none()))
            .collect();
        // One that has lost its stream keeps its place until it calls again.
        let (waiting, lines) = (&mut self.waiting, &self.lines);
        waiting.retain(|uid, _| {
            waits.binary_search(uid).is_ok() || lines.get(uid).is_some_and(|line| line.stream().is_none())
        });
        for uid in waits {
            waiting.entry(uid).or_insert(at);
        }
    }

    /// Grants what is free in the table. `returning` are grants that have just ended, and whose pods want them back.
    pub(super) fn grant(&self, table: &mut Table, returning: &[Returning]) {
        for back in returning {
            self.grant_to(table, &back.former.pod.uid, Some(back));
        }
        self.grant_yielded(table);
        for uid in self.in_turn(table) {
            self.grant_to(table, &uid, None);
        }
    }

    /// Grants to the pod as many slots as it takes, all or none; those of its former grant if they still fit. Says whether
    /// it did.
    pub(super) fn grant_to(&self, table: &mut Table, uid: &PodUid, former: Option<&Returning>) -> bool {
        let limits = self.limits();
        let Some(stream) = self.lines.get(uid).and_then(Line::stream) else { return false };
        let Some(member) = self.members.get(&stream.consumer_group) else { return false };
        let count = member.slots_per_pod();
        let limit = usize::try_from(limits.slots).unwrap_or(usize::MAX);
        let holds_already = table.of_pod(uid).is_some();
        if holds_already || !self.may_probe(table, &stream.consumer_group) || table.held().saturating_add(count) > limit
        {
            return false;
        }
        let own = former.map(|back| &back.former.slots);
        let own = own.filter(|own| own.len() == count && own.iter().all(|slot| slot.0 < limits.slots));
        let Some(slots) = own.cloned().or_else(|| table.free(limits.slots, count)) else {
            return false;
        };
        let attempts_alone = limits.attempts_alone(member.connections_per_pod.max(1), table.attempts_alone());
        let linger_ms = u64::try_from(member.idle_timeout.as_millis()).unwrap_or(u64::MAX);
        let epoch = table.next_epoch;
        table.next_epoch = epoch.next();
        table.holders.push(Holder {
            slots,
            epoch,
            pod: self.lines[uid].pod().clone(),
            consumer_group: stream.consumer_group.clone(),
            told_on: stream.order,
            attempts_alone,
            linger_ms: linger_ms.max(former.map_or(0, |back| back.former.linger_ms)),
            after_restart: former.is_some_and(|back| back.after_restart),
        });
        true
    }

    /// Whoever waits and could be granted a slot, in order. A ConsumerGroup's turn comes when its longest waiting pod's
    /// does; which of its pods has the turn is for the rollout to say. One that needs more slots than are free does not
    /// keep back those that need fewer.
    pub(super) fn in_turn(&self, table: &Table) -> Vec<PodUid> {
        let mut turns: Vec<(Time, &PodUid, &GroupRef)> = Vec::new();
        let mut last: Vec<(Time, PodUid)> = Vec::new();
        for (uid, since) in &self.waiting {
            let Some(stream) = self.may_hold(uid).then(|| self.lines.get(uid).and_then(Line::stream)).flatten() else {
                continue;
            };
            if table.of_pod(uid).is_some() {
                continue;
            }
            if stream.report.yielded {
                last.push((*since, uid.clone()));
            } else {
                turns.push((*since, uid, &stream.consumer_group));
            }
        }
        turns.sort();
        last.sort();
        let mut order: Vec<PodUid> = Vec::with_capacity(turns.len() + last.len());
        let mut preferred: Vec<(bool, Time, &PodUid, &GroupRef)> =
            turns.iter().map(|(since, uid, group)| (!self.is_newest(uid), *since, *uid, *group)).collect();
        preferred.sort();
        for (_, _, group) in &turns {
            if let Some(place) = preferred.iter().position(|(_, _, _, of)| of == group) {
                order.push(preferred.remove(place).2.clone());
            }
        }
        order.extend(last.into_iter().map(|(_, uid)| uid));
        order
    }

    /// Whether the pod is one that a slot is of use to: its stream is open, it wants one, and it is there to stay.
    pub(super) fn may_hold(&self, uid: &PodUid) -> bool {
        let Some(stream) = self.lines.get(uid).and_then(Line::stream) else { return false };
        stream.report.wants_slot
            && !stream.report.draining
            && self.members.contains_key(&stream.consumer_group)
            && self.facts(uid).is_some_and(|facts| !facts.deleting && !facts.ended && !facts.node_lost)
    }

    /// Whether the pod can be granted the very slots again that it holds by a grant which has come to nothing.
    pub(super) fn may_have_again(&self, table: &Table, holder: &Holder) -> bool {
        let limits = self.limits();
        let fits = self.members.get(&holder.consumer_group).is_some_and(|member| {
            member.slots_per_pod() == holder.slots.len() && holder.slots.iter().all(|slot| slot.0 < limits.slots)
        });
        let others = |other: &Holder| other.consumer_group == holder.consumer_group && other.epoch != holder.epoch;
        fits && self.may_hold(&holder.pod.uid)
            && table.held() <= usize::try_from(limits.slots).unwrap_or(usize::MAX)
            && (self.is_verified(&holder.consumer_group) || !table.holders.iter().any(others))
    }

    /// Whether the pod is of its ConsumerGroup's newest revision, as far as that is known, and pods of it can connect.
    pub(super) fn is_newest(&self, uid: &PodUid) -> bool {
        let Some(stream) = self.lines.get(uid).and_then(Line::stream) else { return false };
        let Some(newest) = self.members.get(&stream.consumer_group).and_then(|member| member.newest.as_ref()) else {
            return false;
        };
        self.stuck.get(&stream.consumer_group) != Some(newest)
            && self.facts(uid).is_some_and(|facts| facts.revision.as_ref() == Some(newest))
    }

    /// Whether the ConsumerGroup's credentials have been seen to work.
    pub(super) fn is_verified(&self, group: &GroupRef) -> bool {
        self.seen_up.contains(group) || self.members.get(group).is_some_and(|member| member.verified)
    }

    /// Whether one more pod of the ConsumerGroup may hold slots, as far as its credentials go.
    fn may_probe(&self, table: &Table, group: &GroupRef) -> bool {
        self.is_verified(group) || table.holders.iter().all(|holder| holder.consumer_group != *group)
    }

    /// Why this sidecar, which wants a slot and has none, has none.
    pub(super) fn why_not(&self, uid: &PodUid, stream: &Stream) -> StandByReason {
        let Some(table) = self.record.certain() else { return StandByReason::NoTable(self.record.trouble()) };
        let Some(member) = self.members.get(&stream.consumer_group) else {
            return StandByReason::NoConsumerGroup(stream.consumer_group.clone());
        };
        if self.facts(uid).is_none() {
            return StandByReason::UnknownPod;
        }
        if !self.may_hold(uid) {
            return StandByReason::Leaving;
        }
        if !self.may_probe(table, &stream.consumer_group) {
            return StandByReason::Unverified;
        }
        let limit = self.limits().slots;
        let free = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(table.held());
        let needed = member.slots_per_pod();
        match free {
            0 if stream.report.yielded => StandByReason::Yielded,
            0 => StandByReason::AllHeld { limit },
            free if free < needed => StandByReason::TooFew { free, limit, needed },
            _ => StandByReason::Recording,
        }
    }
}
