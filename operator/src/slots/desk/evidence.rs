//! Which grants have ended. What is taken for evidence is all here; see the module of slots for what it rests on.

use std::time::Duration;

use super::super::MARGIN;
use super::super::names::{Epoch, PodUid};
use super::super::table::{Holder, Table};
use super::line::{Line, Stream};
use super::{Desk, Lapse, Pod};
use crate::time::Time;

/// What is known of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be held: its sidecar says so, or nobody says otherwise.
    Stands,
    /// The sidecar has it no more, and no connection by it.
    GivenBack,
    /// The sidecar never acted upon it, and never will; it may not even have been told.
    NeverTaken,
    /// The process that held it is dead, and a later one of the same pod has called.
    Restarted,
    /// The process that held it is dead, or will be within the margin, and nobody has called since.
    Dead,
}

/// When the slots of a grant whose holder has been dead since then go to another pod.
pub(super) fn free_at(since: Time, holder: &Holder) -> Time {
    since + Duration::from_millis(holder.linger_ms) + MARGIN
}

/// A grant that has ended against its pod's wish.
#[derive(Debug, Clone)]
pub(super) struct Returning {
    pub(super) former: Holder,
    /// Connections of an earlier process may linger.
    pub(super) after_restart: bool,
}

impl Desk {
    /// What is known of this grant.
    pub(super) fn verdict(&self, holder: &Holder) -> Verdict {
        match self.lines.get(&holder.pod.uid).and_then(Line::stream) {
            Some(stream) => said(stream, holder),
            None if self.lapses.get(&holder.epoch).is_some_and(|lapse| lapse.certain) => Verdict::Restarted,
            None if self.is_dead(&holder.pod.uid) => Verdict::Dead,
            None => Verdict::Stands,
        }
    }

    /// Starts and stops the clocks of grants whose holders are dead.
    pub(super) fn judge(&mut self, at: Time) {
        let Some(table) = self.record.table() else { return };
        let verdicts: Vec<(Epoch, Verdict)> =
            table.holders.iter().map(|holder| (holder.epoch, self.verdict(holder))).collect();
        self.lapses.retain(|epoch, _| verdicts.iter().any(|(held, _)| held == epoch));
        for (epoch, verdict) in verdicts {
            match verdict {
                Verdict::Restarted | Verdict::Dead => {
                    let certain = verdict == Verdict::Restarted;
                    let lapse = self.lapses.entry(epoch).or_insert(Lapse { since: at, certain });
                    lapse.certain |= certain;
                }
                Verdict::Stands => {
                    self.lapses.remove(&epoch);
                }
                Verdict::GivenBack | Verdict::NeverTaken => {}
            }
        }
    }

    /// Takes the grants that have ended out of the table. Returns those of them whose pods have called since and lost them
    /// through no wish of their own: they come first.
    pub(super) fn free_ended(&self, at: Time, table: &mut Table) -> Vec<Returning> {
        let mut returning = Vec::new();
        let recorded = table.clone();
        table.holders.retain_mut(|holder| {
            let verdict = self.verdict(holder);
            let haunted = self.haunted(at, holder);
            // Its own pod can have it back at once: under the same client ID there is one client more at no time.
            let lost = matches!(verdict, Verdict::NeverTaken | Verdict::Restarted);
            if lost && self.may_have_again(&recorded, holder) {
                let after_restart = verdict == Verdict::Restarted || haunted;
                returning.push(Returning { former: holder.clone(), after_restart });
                return false;
            }
            let ended = match verdict {
                Verdict::Stands => false,
                Verdict::GivenBack | Verdict::NeverTaken => !haunted,
                Verdict::Restarted | Verdict::Dead => {
                    self.lapses.get(&holder.epoch).is_some_and(|lapse| at >= free_at(lapse.since, holder))
                }
            };
            if !ended && let Some(member) = self.members.get(&holder.consumer_group) {
                let idle = u64::try_from(member.idle_timeout.as_millis()).unwrap_or(u64::MAX);
                holder.linger_ms = holder.linger_ms.max(idle);
            }
            !ended
        });
        returning
    }

    /// Connections of an earlier process of the pod may linger on these slots. A leader that did not see the restart counts
    /// from when it learnt of the grant.
    fn haunted(&self, at: Time, holder: &Holder) -> bool {
        holder.after_restart && self.known_since.get(&holder.epoch).is_none_or(|since| at < free_at(*since, holder))
    }

    fn is_dead(&self, pod: &PodUid) -> bool {
        match self.pods.get(pod) {
            Some(Pod::Gone) => true,
            Some(Pod::There(facts)) => facts.ended || facts.node_lost,
            None => false,
        }
    }
}

/// What the newest stream of the pod says of its grant.
fn said(stream: &Stream, holder: &Holder) -> Verdict {
    if stream.order < holder.told_on || stream.report.held == holder.epoch {
        return Verdict::Stands;
    }
    if stream.order == holder.told_on && stream.report.seen < holder.epoch {
        return Verdict::Stands; // It is under way.
    }
    if stream.order.process != holder.told_on.process {
        return Verdict::Restarted;
    }
    if stream.report.seen < holder.epoch { Verdict::NeverTaken } else { Verdict::GivenBack }
}
