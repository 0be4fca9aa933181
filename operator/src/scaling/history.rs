//! What was wished and done before, as far as it bears on what may be done now.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::time::Duration;

use super::demand::Demand;
use super::{Behavior, Policy};
use crate::time::Time;

/// How long pods that were added have to come up and to show what they are worth.
const PROBATION: Duration = Duration::from_secs(120);

/// How long a scale-up that gained nothing keeps others back.
const FUTILITY: Duration = Duration::from_secs(600);

/// What a scale-up must have gained in messages a second, in per cent, to count as a gain.
const GAIN: u64 = 5;

/// Nothing older than this is of use: the longest stabilisation window.
const KEPT: Duration = Duration::from_secs(3600);

/// The past of one workload. Lost with the leader, which is why a new one waits a full window before it scales in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// Since when this is kept.
    since: Option<Time>,
    /// What was wished for, oldest first.
    wishes: VecDeque<(Time, u32)>,
    /// The counts that were seen, when they were first seen.
    counts: VecDeque<(Time, u32)>,
    /// When the number of connected pods last changed, and to what.
    membership: Option<(Time, u32)>,
    trial: Option<Trial>,
}

/// A scale-up, and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Trial {
    at: Time,
    from: u32,
    to: u32,
    accepted_before: u64,
    /// Since when all of them have been up.
    complete: Option<Time>,
}

impl History {
    /// Takes note of what is.
    pub(super) fn observe(&mut self, now: Time, current: u32, demand: &Demand) {
        self.since.get_or_insert(now);
        if self.counts.back().is_none_or(|(_, count)| *count != current) {
            self.counts.push_back((now, current));
        }
        while self.counts.len() > 1 && self.counts.get(1).is_some_and(|(at, _)| now.since(*at) > KEPT) {
            self.counts.pop_front();
        }
        if self.membership.is_none_or(|(_, up)| up != demand.up) {
            self.membership = Some((now, demand.up));
        }
        if let Some(trial) = &mut self.trial {
            if demand.up < trial.to {
                trial.complete = None;
            } else {
                trial.complete.get_or_insert(now);
            }
            if now.since(trial.at) > KEPT || current < trial.to {
                self.trial = None;
            }
        }
    }

    /// Why no pods are added now: the last ones have not shown yet, or have shown not, that they are of use.
    pub(super) fn futile(&self, now: Time, demand: &Demand) -> Option<String> {
        let trial = self.trial?;
        let words = format!("the last scale-up (from {} to {} pods)", trial.from, trial.to);
        let Some(complete) = trial.complete else {
            // Some may never come up, for want of nodes: the others go on without them.
            return (now.since(trial.at) < PROBATION).then(|| format!("held: {words} is not complete yet"));
        };
        let gained = demand.accepted * 100 > trial.accepted_before * (100 + GAIN);
        let age = now.since(complete);
        if gained || age >= PROBATION + FUTILITY {
            return None;
        }
        let figures = format!("{} messages/s before, {} now", trial.accepted_before, demand.accepted);
        Some(if age < PROBATION {
            format!("held: {words} has not shown yet what it gains ({figures})")
        } else {
            format!("held: {words} gained nothing ({figures}), so something behind the consumers is the bottleneck")
        })
    }

    /// Takes note of a wish.
    pub(super) fn wish(&mut self, now: Time, wish: u32) {
        self.wishes.push_back((now, wish));
        while self.wishes.front().is_some_and(|(at, _)| now.since(*at) > KEPT) {
            self.wishes.pop_front();
        }
    }

    /// What may be done of a wish, now; and in words why not all of it.
    pub(super) fn pace(&mut self, now: Time, policy: &Policy, current: u32, wish: u32) -> (u32, Option<String>) {
        self.wish(now, wish);
        match wish.cmp(&current) {
            Ordering::Greater => {
                let calm = self.calmest(now, policy.scale_up, current, wish, u32::min).max(current);
                let (start, step) = self.step(now, policy.scale_up, current);
                let limit = start.saturating_add(step);
                let allowed = calm.min(limit.max(current));
                (allowed, (allowed < wish).then(|| format!("{wish} wanted, {allowed} for now")))
            }
            Ordering::Less => {
                let settled = self.membership.is_some_and(|(at, _)| now.since(at) >= policy.settle);
                let watched = self.since.is_some_and(|since| now.since(since) >= policy.scale_down.stabilization);
                if !settled || !watched {
                    return (
                        current,
                        Some(format!(
                            "{wish} would do; none goes until membership has been stable for {} s",
                            policy.settle.as_secs()
                        )),
                    );
                }
                let calm = self.calmest(now, policy.scale_down, current, wish, u32::max).min(current);
                let (start, step) = self.step(now, policy.scale_down, current);
                let limit = start.saturating_sub(step);
                let allowed = calm.max(limit.min(current));
                (allowed, (allowed > wish).then(|| format!("{wish} would do, {allowed} for now")))
            }
            Ordering::Equal => (current, None),
        }
    }

    /// A change is made.
    pub(super) fn scaled(&mut self, now: Time, from: u32, to: u32, demand: &Demand) {
        let trial = Trial { at: now, from, to, accepted_before: demand.accepted, complete: None };
        // Without traffic there is nothing to gain, and nothing to judge by.
        self.trial = (to > from && demand.accepted > 0).then_some(trial);
    }

    /// The most cautious wish of the stabilisation window, `wish` among them.
    fn calmest(&self, now: Time, behavior: Behavior, current: u32, wish: u32, choose: fn(u32, u32) -> u32) -> u32 {
        let within = self.wishes.iter().filter(|(at, _)| now.since(*at) < behavior.stabilization);
        let calmest = within.map(|(_, wish)| *wish).fold(wish, choose);
        // A window that is not full yet: what was wished before is not known, so what is counts as wished.
        let full = self.since.is_some_and(|since| now.since(since) >= behavior.stabilization);
        if full { calmest } else { choose(calmest, current) }
    }

    /// The count at the start of the period, and by how many it may have changed since: by one at least.
    fn step(&self, now: Time, behavior: Behavior, current: u32) -> (u32, u32) {
        let start = self
            .counts
            .iter()
            .rev()
            .find(|(at, _)| now.since(*at) >= behavior.period)
            .or(self.counts.front())
            .map_or(current, |(_, count)| *count);
        let share = u64::from(start) * u64::from(behavior.percent) / 100;
        (start, behavior.pods.max(u32::try_from(share).unwrap_or(u32::MAX)).max(1))
    }
}
