//! What a plan remembers of the ones before it, so that what lasts a moment is not told as news. Lost with the leader.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_crds::status::{ConditionType, Reason};

use super::{Truth, Verdict};
use crate::scaling::History;
use crate::time::Time;

/// What was known counts for so long when it is not any more: a sidecar that comes back has no figures in its first
/// seconds, and neither has a new leader.
const PATIENCE: Duration = Duration::from_secs(30);
/// So long the platform must count more clients than there are slots held: it learns late of connections that have ended.
const CROWDED: Duration = Duration::from_secs(300);

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Past {
    /// What concerns the replicas.
    pub(super) scaling: History,
    /// The generation of the object that the rest is of.
    generation: i64,
    /// Since when it has not been known whether a condition holds.
    unsure: BTreeMap<ConditionType, Time>,
    /// When capacity was last short, and what was said of it.
    short: Option<(Time, Verdict)>,
    /// Since when the platform has counted more clients than there are slots held.
    crowded: Option<Time>,
}

impl Past {
    /// Of which generation of the object what follows is.
    pub(super) fn of(&mut self, generation: i64) -> &mut Self {
        if self.generation != generation {
            self.generation = generation;
            self.unsure.clear();
            self.short = None;
        }
        self
    }

    /// What is not known for a moment is no news.
    pub(super) fn patient(&mut self, mut verdict: Verdict, at: Time) -> Verdict {
        if verdict.truth != Some(Truth::Unknown) {
            self.unsure.remove(&verdict.kind);
            return verdict;
        }
        let since = *self.unsure.entry(verdict.kind).or_insert(at);
        if at.since(since) < PATIENCE {
            verdict.truth = None;
        }
        verdict
    }

    /// Short of capacity is said at once, and taken back only after `window`: what is wanted rises and falls with the load.
    pub(super) fn steady(&mut self, verdict: Verdict, window: Duration, at: Time) -> Verdict {
        let lately = self.short.as_ref().filter(|(last, _)| at.since(*last) < window.max(PATIENCE));
        match (verdict.truth, lately) {
            // Pods that stand by are the more urgent matter.
            (Some(Truth::True), Some((_, said)))
                if said.reason == Reason::SlotsExhausted && verdict.reason != Reason::SlotsExhausted =>
            {
                said.clone()
            }
            (Some(Truth::True), _) => {
                self.short = Some((at, verdict.clone()));
                verdict
            }
            (Some(Truth::False), Some((_, said))) => said.clone(),
            _ => verdict,
        }
    }

    /// Whether the platform has been counting more clients than there are slots held for long enough to say so.
    pub(super) fn crowded(&mut self, more: bool, at: Time) -> bool {
        if !more {
            self.crowded = None;
            return false;
        }
        at.since(*self.crowded.get_or_insert(at)) >= CROWDED
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(seconds: u64) -> Time {
        Time(1_000_000) + Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_not_known_for_half_a_minute_is_told() {
        let mut past = Past::default();
        let mut look = |truth, seconds| {
            past.patient(Verdict::new(ConditionType::Scaling, truth, Reason::FiguresStale, ""), after(seconds)).truth
        };
        assert_eq!(look(Truth::Unknown, 0), None);
        assert_eq!(look(Truth::Unknown, 29), None);
        assert_eq!(look(Truth::Unknown, 30), Some(Truth::Unknown));
        assert_eq!(look(Truth::True, 31), Some(Truth::True));
        assert_eq!(look(Truth::Unknown, 32), None, "it begins anew");
        assert_eq!(look(Truth::False, 33), Some(Truth::False), "what is known is told at once");
    }

    #[test]
    fn short_of_capacity_is_said_at_once_and_taken_back_later() {
        let window = Duration::from_secs(300);
        let mut past = Past::default();
        let mut look = |truth, reason, seconds| {
            let verdict =
                past.steady(Verdict::new(ConditionType::AtCapacity, truth, reason, ""), window, after(seconds));
            (verdict.truth.unwrap(), verdict.reason)
        };
        let room = (Truth::False, Reason::WithinCapacity);
        let full = (Truth::True, Reason::ReplicasAtMaximum);
        let slots = (Truth::True, Reason::SlotsExhausted);
        assert_eq!(look(room.0, room.1, 0), room);
        assert_eq!(look(full.0, full.1, 5), full);
        for seconds in (10..300).step_by(10) {
            let raw = if seconds % 20 == 0 { room } else { full };
            assert_eq!(look(raw.0, raw.1, seconds), full, "whatever is wanted at {seconds} s");
        }
        assert_eq!(look(room.0, room.1, 590), room, "300 s after it was last short");
        assert_eq!(look(slots.0, slots.1, 600), slots);
        assert_eq!(look(full.0, full.1, 899), slots);
        assert_eq!(look(full.0, full.1, 900), full);
        past.of(2);
        assert_eq!(past.short, None, "whoever has raised the limits need not wait");
    }

    #[test]
    fn more_clients_than_slots_are_told_when_they_stay() {
        let mut past = Past::default();
        assert!(!past.crowded(true, after(0)) && !past.crowded(true, after(299)));
        assert!(past.crowded(true, after(300)));
        assert!(!past.crowded(false, after(301)) && !past.crowded(true, after(302)) && !past.crowded(true, after(601)));
        assert!(past.crowded(true, after(602)));
    }
}
