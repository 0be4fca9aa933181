//! What is to go wrong later, and how often: a pure plan. Time comes in with every call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::Serialize;

use super::Injection;
use crate::clock::Micros;

/// How much can be planned at a time.
const MOST: usize = 10_000;

/// Names a planned fault. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct FaultId(pub(crate) u64);

/// When a fault happens, and how often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct When {
    /// The first time, from now.
    pub(crate) after: Duration,
    /// Again each time that so much has passed, if at all.
    pub(crate) every: Option<Duration>,
    /// How often altogether; until it is cancelled when `None`. Once, in any case, where it does not come again.
    pub(crate) times: Option<u32>,
}

impl When {
    /// At once, and once.
    pub(crate) const NOW: Self = Self { after: Duration::ZERO, every: None, times: Some(1) };
}

/// A planned fault, as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Scheduled {
    pub(crate) id: FaultId,
    #[serde(flatten)]
    pub(crate) injection: Injection,
    /// From now to the next time.
    pub(crate) in_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) every_seconds: Option<f64>,
    /// How often it has happened.
    pub(crate) happened: u32,
    /// How often it still will; `null` until it is cancelled.
    pub(crate) left: Option<u32>,
}

/// There is no room for another fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{MOST} faults are planned already; cancel some, with DELETE /admin/faults")]
pub(crate) struct Full;

#[derive(Debug)]
struct Planned {
    injection: Injection,
    at: Micros,
    every: Option<Duration>,
    happened: u32,
    left: Option<u32>,
}

/// The plan. See the module.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    planned: BTreeMap<FaultId, Planned>,
    order: BTreeSet<(Micros, FaultId)>,
    last_id: u64,
}

impl Schedule {
    /// Plans a fault.
    /// `happened` says how often it has already.
    pub(crate) fn add(
        &mut self,
        injection: Injection,
        when: When,
        happened: u32,
        now: Micros,
    ) -> Result<FaultId, Full> {
        if self.planned.len() >= MOST {
            return Err(Full);
        }
        self.last_id += 1;
        let (id, at) = (FaultId(self.last_id), now.after(when.after));
        let left = if when.every.is_some() { when.times } else { Some(1) };
        self.planned.insert(id, Planned { injection, at, every: when.every, happened, left });
        self.order.insert((at, id));
        Ok(id)
    }

    /// What happens now, in its order. What comes again is planned for its next time; times that have passed meanwhile
    /// are left out.
    pub(crate) fn due(&mut self, now: Micros) -> Vec<(FaultId, Injection)> {
        let mut due = Vec::new();
        while let Some(&(at, id)) = self.order.first()
            && at <= now
        {
            self.order.pop_first();
            let Some(planned) = self.planned.get_mut(&id) else { continue };
            let left = planned.left.map(|left| left.saturating_sub(1));
            match planned.every.filter(|_| left != Some(0)) {
                Some(every) => {
                    due.push((id, planned.injection.clone()));
                    let next = at.after(every);
                    planned.at = if next > now { next } else { now.after(every.max(SHORTEST)) };
                    planned.left = left;
                    planned.happened = planned.happened.saturating_add(1);
                    self.order.insert((planned.at, id));
                }
                None => due.extend(self.planned.remove(&id).map(|planned| (id, planned.injection))),
            }
        }
        due
    }

    /// Takes a fault out of the plan. Says whether it was there.
    pub(crate) fn cancel(&mut self, id: FaultId) -> bool {
        let Some(planned) = self.planned.remove(&id) else { return false };
        self.order.remove(&(planned.at, id))
    }

    /// Takes everything out of the plan, and says how much that was.
    pub(crate) fn clear(&mut self) -> usize {
        self.order.clear();
        std::mem::take(&mut self.planned).len()
    }

    /// When something is due.
    pub(crate) fn alarm(&self) -> Micros {
        self.order.first().map_or(Micros::NEVER, |(at, _)| *at)
    }

    /// What is planned, the next one first.
    pub(crate) fn list(&self, now: Micros) -> Vec<Scheduled> {
        let planned = self.order.iter().filter_map(|(at, id)| Some((at, id, self.planned.get(id)?)));
        planned
            .map(|(at, id, planned)| Scheduled {
                id: *id,
                injection: planned.injection.clone(),
                in_seconds: Duration::from_micros(at.since(now)).as_secs_f64(),
                every_seconds: planned.every.map(|every| every.as_secs_f64()),
                happened: planned.happened,
                left: planned.left,
            })
            .collect()
    }
}

/// No fault comes again faster than this.
pub(crate) const SHORTEST: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Action, Target};
    use super::*;

    fn injection(attempts: u32) -> Injection {
        Injection { action: Action::RefuseNext { attempts }, target: Target::default() }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(seconds: u64) -> Micros {
        Micros::new(seconds * 1_000_000)
    }

    #[test]
    fn a_fault_happens_when_and_as_often_as_it_was_said() {
        let mut schedule = Schedule::default();
        let when = When { after: seconds(3), every: Some(seconds(2)), times: Some(2) };
        let id = schedule.add(injection(1), when, 0, at(10)).unwrap();
        assert_eq!(schedule.alarm(), at(13));
        assert!(schedule.due(at(12)).is_empty());
        assert_eq!(schedule.due(at(13)), [(id, injection(1))]);
        let shown = &schedule.list(at(14))[0];
        assert_eq!((shown.happened, shown.left, shown.every_seconds), (1, Some(1), Some(2.0)));
        assert!((shown.in_seconds - 1.0).abs() < 1e-9);
        assert_eq!(schedule.due(at(15)), [(id, injection(1))]);
        assert_eq!((schedule.alarm(), schedule.list(at(15)).len()), (Micros::NEVER, 0));
    }

    #[test]
    fn what_was_missed_is_not_made_up_for() {
        let mut schedule = Schedule::default();
        let when = When { after: seconds(1), every: Some(seconds(1)), times: None };
        schedule.add(injection(1), when, 0, at(0)).unwrap();
        assert_eq!(schedule.due(at(100)).len(), 1);
        assert_eq!(schedule.alarm(), at(101));
    }

    #[test]
    fn there_is_room_for_so_much() {
        let mut schedule = Schedule::default();
        for _ in 0..MOST {
            schedule.add(injection(1), When { after: seconds(1), ..When::NOW }, 0, at(0)).unwrap();
        }
        assert_eq!(schedule.add(injection(1), When::NOW, 0, at(0)), Err(Full));
        assert!(schedule.cancel(FaultId(1)) && !schedule.cancel(FaultId(1)));
        assert!(schedule.add(injection(1), When::NOW, 0, at(0)).is_ok());
        assert_eq!((schedule.clear(), schedule.alarm()), (MOST, Micros::NEVER));
    }

    /// What is done to a schedule.
    #[derive(Debug, Clone)]
    enum Step {
        Add { after: u64, every: Option<u64>, times: Option<u32> },
        Cancel(u64),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let add = (0..20_u64, prop::option::of(1..10_u64), prop::option::of(1..4_u32));
        prop_oneof![
            add.prop_map(|(after, every, times)| Step::Add { after, every, times }),
            (1..20_u64).prop_map(Step::Cancel),
            (0..8_u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// A clock that stops at every alarm sees every fault at its times, and a cancelled one never again.
        #[test]
        fn every_fault_happens_at_its_times_and_at_no_others(steps in prop::collection::vec(step(), 0..60)) {
            let (mut schedule, mut now, mut expected) = (Schedule::default(), 0, BTreeMap::new());
            for step in steps {
                match step {
                    Step::Add { after, every, times } => {
                        let when = When { after: seconds(after), every: every.map(seconds), times };
                        let id = schedule.add(injection(1), when, 0, at(now)).unwrap();
                        let times = if every.is_some() { times.unwrap_or(1_000) } else { 1 };
                        let all = (0..u64::from(times)).map(|n| now + after + n * every.unwrap_or(0));
                        expected.insert(id, all.collect::<Vec<_>>());
                    }
                    Step::Cancel(id) => {
                        let planned = expected.remove(&FaultId(id)).is_some_and(|times| !times.is_empty());
                        prop_assert_eq!(schedule.cancel(FaultId(id)), planned);
                    }
                    Step::Pass(by) => {
                        let until = now + by;
                        loop {
                            let next = expected.values().filter_map(|times| times.first().copied()).min();
                            prop_assert_eq!(schedule.alarm(), next.map_or(Micros::NEVER, at));
                            let Some(next) = next.filter(|next| *next <= until) else { break };
                            prop_assert!(next == 0 || schedule.due(Micros::new(at(next).get() - 1)).is_empty());
                            for (id, _) in schedule.due(at(next)) {
                                prop_assert_eq!(expected.get_mut(&id).unwrap().remove(0), next);
                            }
                            prop_assert!(expected.values().all(|times| times.first() != Some(&next)));
                        }
                        now = until;
                    }
                }
                let planned = expected.values().filter(|times| !times.is_empty()).count();
                prop_assert_eq!((schedule.planned.len(), schedule.order.len()), (planned, planned));
            }
        }
    }
}
