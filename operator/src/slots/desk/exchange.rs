//! Rollouts: who yields to whom.
//!
//! When pods of a new revision stand by and nothing is free, pods of the old one yield, a few slots at a time. Each such
//! exchange is followed until the new pod's link is up. If it does not come up in time, the new pod is told to yield in
//! turn, the slot goes back, and nobody yields to that revision any more until something about it changes.
//!
//! None of this is in the table: a new leader begins without exchanges. Pods that had yielded say so, and get what is
//! left when nobody else waits.

use super::super::names::{Epoch, GroupRef, PodUid, Revision};
use super::super::table::{Holder, Table};
use super::super::{UP_WITHIN, YIELDS};
use super::line::Line;
use super::{Desk, LinkPhase};
use crate::time::Time;

/// Slots on their way from one pod to another of the same ConsumerGroup.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Exchange {
    group: GroupRef,
    /// The revision that is yielded to.
    revision: Revision,
    /// How many slots.
    slots: usize,
    /// Who yields.
    pub(super) from: PodUid,
    /// Who is yielded to.
    to: PodUid,
    pub(super) stage: Stage,
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Stage {
    /// The old pod has been told to yield this grant.
    Yielding(Epoch),
    /// The new pod has this grant, and its link is not up yet.
    Trying(Epoch),
    /// The new pod has been told to yield this grant: it could not connect.
    Returning(Epoch),
}

impl Stage {
    fn epoch(self) -> Epoch {
        let (Self::Yielding(epoch) | Self::Trying(epoch) | Self::Returning(epoch)) = self;
        epoch
    }
}

impl Desk {
    /// Brings the exchanges up to what the record and the reports say.
    pub(super) fn settle_exchanges(&mut self) {
        let mut exchanges = std::mem::take(&mut self.exchanges);
        if let Some(table) = self.record.table() {
            exchanges.retain_mut(|exchange| {
                let stands = table.holders.iter().any(|holder| holder.epoch == exchange.stage.epoch());
                match exchange.stage {
                    Stage::Yielding(_) if stands => true,
                    // Given back and granted were one write. If somebody else got it, there is nothing to follow.
                    Stage::Yielding(given) => match table.of_pod(&exchange.to) {
                        Some(holder) if holder.epoch > given => {
                            exchange.stage = Stage::Trying(holder.epoch);
                            true
                        }
                        _ => false,
                    },
                    Stage::Trying(epoch) => stands && !self.is_up(&exchange.to, epoch),
                    Stage::Returning(_) => stands,
                }
            });
        }
        self.exchanges = exchanges;
    }

    /// Sees to new pods whose link has not come up in time.
    pub(super) fn follow_exchanges(&mut self, at: Time) {
        let overdue: Vec<usize> = (0..self.exchanges.len())
            .filter(|place| self.exchange_deadline(&self.exchanges[*place]).is_some_and(|due| at >= due))
            .collect();
        for place in overdue.into_iter().rev() {
            let Exchange { group, revision, from, stage, .. } = self.exchanges[place].clone();
            self.stuck.insert(group.clone(), revision);
            match self.yielder(&from, &group) {
                Some(from) => {
                    self.exchanges[place].from = from;
                    self.exchanges[place].stage = Stage::Returning(stage.epoch());
                }
                // Whoever yielded is gone: nobody has more use for the slot than the one who has it.
                None => {
                    self.exchanges.remove(place);
                }
            }
        }
    }

    /// When the new pod's link must be up.
    pub(super) fn exchange_deadline(&self, exchange: &Exchange) -> Option<Time> {
        match exchange.stage {
            Stage::Trying(epoch) => self.trying_since.get(&epoch).map(|since| self.up_by(*since)),
            Stage::Yielding(_) | Stage::Returning(_) => None,
        }
    }

    /// Passes on what was yielded and given back.
    pub(super) fn grant_yielded(&self, table: &mut Table) {
        for exchange in &self.exchanges {
            if table.holders.iter().any(|holder| holder.epoch == exchange.stage.epoch()) {
                continue;
            }
            match exchange.stage {
                Stage::Yielding(_) => {
                    let _ = (self.may_hold(&exchange.to) && self.grant_to(table, &exchange.to, None))
                        || self.in_turn(table).iter().any(|uid| {
                            self.is_of(uid, &exchange.group) && self.is_newest(uid) && self.grant_to(table, uid, None)
                        });
                }
                Stage::Returning(_) => {
                    if let Some(from) = self.yielder(&exchange.from, &exchange.group) {
                        self.grant_to(table, &from, None);
                    }
                }
                Stage::Trying(_) => {}
            }
        }
    }

    /// Has old pods yield, if new ones stand by for whom nothing is free. To be called when nothing is left to be granted.
    pub(super) fn start_exchanges(&mut self, at: Time) {
        let Some(table) = self.record.certain() else { return };
        if at < self.permits.open_from() {
            return; // No link could come up.
        }
        let mut moving = self.moving(at, table);
        let limit = usize::try_from(self.limits().slots).unwrap_or(usize::MAX);
        let mut leaving: Vec<GroupRef> = table
            .holders
            .iter()
            .filter(|holder| self.is_leaving(holder))
            .map(|holder| holder.consumer_group.clone())
            .collect();
        let mut begun: Vec<Exchange> = Vec::new();
        for to in self.in_turn(table) {
            let Some(stream) = self.lines.get(&to).and_then(Line::stream) else { continue };
            let group = &stream.consumer_group;
            let served = self.exchanges.iter().any(|exchange| exchange.to == to);
            if served || stream.report.yielded || !self.is_newest(&to) || !self.is_verified(group) {
                continue;
            }
            let (Some(member), Some(revision)) =
                (self.members.get(group), self.facts(&to).and_then(|facts| facts.revision.clone()))
            else {
                continue;
            };
            if let Some(place) = leaving.iter().position(|of| of == group) {
                leaving.remove(place); // That one's slot is coming.
                continue;
            }
            let chosen = table
                .holders
                .iter()
                .filter(|holder| holder.consumer_group == *group && self.can_yield(holder, &revision))
                .filter(|holder| begun.iter().all(|exchange| exchange.from != holder.pod.uid))
                .filter(|holder| table.held() - holder.slots.len() + member.slots_per_pod() <= limit)
                .min_by_key(|holder| (self.is_up(&holder.pod.uid, holder.epoch), holder.epoch));
            let Some(holder) = chosen else { continue };
            if moving > 0 && moving + holder.slots.len() > YIELDS {
                break;
            }
            moving += holder.slots.len();
            begun.push(Exchange {
                group: group.clone(),
                revision,
                slots: holder.slots.len(),
                from: holder.pod.uid.clone(),
                to,
                stage: Stage::Yielding(holder.epoch),
            });
        }
        self.exchanges.append(&mut begun);
    }

    /// Whether the pod has been told to yield this grant, or is to be told so.
    pub(super) fn must_yield(&self, epoch: Epoch) -> bool {
        self.exchanges.iter().any(|exchange| match exchange.stage {
            Stage::Yielding(given) | Stage::Returning(given) => given == epoch,
            Stage::Trying(_) => false,
        })
    }

    /// By when the link of a grant must be up that has been tried since then.
    fn up_by(&self, since: Time) -> Time {
        since.max(self.permits.open_from()) + UP_WITHIN
    }

    /// Slots that are on their way from one pod to another, so that nobody consumes through them.
    fn moving(&self, at: Time, table: &Table) -> usize {
        let exchanged: usize = self.exchanges.iter().map(|exchange| exchange.slots).sum();
        let others = table.holders.iter().filter(|holder| {
            let followed = self.exchanges.iter().any(|exchange| exchange.stage.epoch() == holder.epoch);
            let fresh = self.trying_since.get(&holder.epoch).is_some_and(|since| at < self.up_by(*since));
            !followed && (self.is_leaving(holder) || (fresh && !self.is_up(&holder.pod.uid, holder.epoch)))
        });
        exchanged + others.map(|holder| holder.slots.len()).sum::<usize>()
    }

    /// The holder is about to give its slots back of its own accord.
    fn is_leaving(&self, holder: &Holder) -> bool {
        let Some(stream) = self.lines.get(&holder.pod.uid).and_then(Line::stream) else { return false };
        stream.report.draining || self.facts(&holder.pod.uid).is_some_and(|facts| facts.deleting)
    }

    /// The holder is of an older revision, and would hear it if it was told to yield.
    fn can_yield(&self, holder: &Holder, newest: &Revision) -> bool {
        let uid = &holder.pod.uid;
        let listens =
            self.lines.get(uid).and_then(Line::stream).is_some_and(|stream| stream.report.held == holder.epoch);
        let older =
            self.facts(uid).and_then(|facts| facts.revision.as_ref()).is_some_and(|revision| revision != newest);
        let free = self.exchanges.iter().all(|exchange| exchange.from != *uid && exchange.to != *uid);
        listens && older && free && !self.is_leaving(holder)
    }

    /// Who gets a slot that goes back: the one who yielded it, else another who yielded.
    fn yielder(&self, from: &PodUid, group: &GroupRef) -> Option<PodUid> {
        let waits = |uid: &PodUid| {
            let stream = self.lines.get(uid).and_then(Line::stream);
            self.waiting.contains_key(uid)
                && self.may_hold(uid)
                && !self.is_newest(uid)
                && stream.is_some_and(|stream| stream.report.yielded && stream.consumer_group == *group)
        };
        if waits(from) {
            return Some(from.clone());
        }
        let taken = |uid: &PodUid| self.exchanges.iter().any(|exchange| exchange.from == *uid || exchange.to == *uid);
        let others = self.waiting.iter().filter(|(uid, _)| waits(uid) && !taken(uid));
        others.min_by_key(|(uid, since)| (**since, (*uid).clone())).map(|(uid, _)| uid.clone())
    }

    fn is_of(&self, uid: &PodUid, group: &GroupRef) -> bool {
        self.lines.get(uid).and_then(Line::stream).is_some_and(|stream| stream.consumer_group == *group)
    }

    /// The pod's links by this grant are up.
    pub(super) fn is_up(&self, uid: &PodUid, epoch: Epoch) -> bool {
        let stream = self.lines.get(uid).and_then(Line::stream);
        stream.is_some_and(|stream| stream.report.held == epoch && stream.report.link == LinkPhase::Up)
    }
}
