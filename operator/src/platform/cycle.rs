//! When a group is polled again, and until when its figures say something about now. Pure.
//!
//! How often a group is really polled follows from how many share its account's calls and from what the platform throttles,
//! so that is what staleness is measured by: figures are stale when they are three times as old as they get when all goes
//! as it does now.

use std::time::Duration;

use sluice_cloud::answer::ErrorClass;

use super::Timing;
use crate::time::Time;

/// Figures may be so many times as old as they usually get.
const SLACK: u32 = 3;

/// The polls of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cycle {
    due: Time,
    /// The last answer, if no poll has failed since: what is between two answers then is how often the group is polled.
    answered: Option<Time>,
    interval: Option<Duration>,
    /// Failures in a row.
    failures: u32,
}

impl Cycle {
    /// A group that is due now.
    pub(super) fn new(now: Time) -> Self {
        Self { due: now, answered: None, interval: None, failures: 0 }
    }

    /// When to poll. Then comes waiting for one's turn.
    pub(super) fn due(&self) -> Time {
        self.due
    }

    /// Failures in a row.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// What was between the last two answers.
    pub(super) fn interval(&self) -> Option<Duration> {
        self.interval
    }

    /// The platform has answered.
    pub(super) fn answered(&mut self, at: Time, timing: &Timing) {
        self.interval = self.answered.map(|last| at.since(last)).or(self.interval);
        self.answered = Some(at);
        self.failures = 0;
        self.due = at + timing.every;
    }

    /// The platform has throttled the call. It is due still; when it can be made, the account's pace says.
    pub(super) fn throttled(&mut self, at: Time) {
        self.due = at;
    }

    /// The call has failed otherwise. `chance` is between 0 and 1, another one each time.
    pub(super) fn failed(&mut self, at: Time, class: ErrorClass, timing: &Timing, chance: f64) {
        self.answered = None;
        self.failures = self.failures.saturating_add(1);
        self.due = at + pause(class, self.failures, timing, chance);
    }

    /// The group is polled as if for the first time: something has changed that the last failure may have come from.
    pub(super) fn now(&mut self, at: Time) {
        self.answered = None;
        self.failures = 0;
        self.due = self.due.min(at);
    }
}

/// How long to wait after a failure, the `failures`-th in a row.
pub(super) fn pause(class: ErrorClass, failures: u32, timing: &Timing, chance: f64) -> Duration {
    let whole = match class {
        ErrorClass::Throttled | ErrorClass::Unavailable => {
            let doubled = 1u32 << failures.saturating_sub(1).min(16);
            timing.retry.saturating_mul(doubled).min(timing.retry_at_most)
        }
        ErrorClass::Credentials | ErrorClass::PermissionDenied | ErrorClass::NotFound | ErrorClass::Invalid => {
            timing.probe
        }
    };
    jittered(whole, chance)
}

/// Between four fifths of it and all of it, so that many do not stay in step.
pub(super) fn jittered(whole: Duration, chance: f64) -> Duration {
    whole.mul_f64(0.8 + 0.2 * chance.clamp(0.0, 1.0))
}

/// How long it takes from one answer about a group to the next, as things stand: `waiting` calls of its account are in
/// line, and `pace` is between two of them.
pub(super) fn expected(timing: &Timing, waiting: usize, pace: Duration) -> Duration {
    let line = u32::try_from(waiting).unwrap_or(u32::MAX).saturating_add(1);
    timing.every.saturating_add(pace.saturating_mul(line))
}

/// When figures of the moment `at` are too old to decide by. `intervals`: how often the group is polled, by all that
/// tells something about it; the longest counts.
pub(super) fn stale_at(timing: &Timing, at: Time, intervals: impl IntoIterator<Item = Duration>) -> Time {
    let longest = intervals.into_iter().max().unwrap_or_default();
    at + longest.saturating_mul(SLACK).max(timing.fresh)
}

#[cfg(test)]
mod tests;
