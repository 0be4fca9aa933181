//! What ConsumerGroups say about their platform group, and what follows when several speak of the same one.

use std::time::Duration;

use super::names::Revision;

/// The least permits that a grant gets in a span.
const SHARE: u32 = 3;

/// What one ConsumerGroup says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// `limits.clientSlots`. The smallest of all members that are verified counts.
    pub client_slots: u32,
    /// `limits.connectAttemptsPerMinute`. The smallest of all members that are verified counts.
    pub connect_attempts_per_minute: u32,
    /// `delivery.connectionsPerPod`: how many slots a pod takes, all or none. At least 1.
    pub connections_per_pod: u32,
    /// `connection.idleTimeout`.
    pub idle_timeout: Duration,
    /// How long a sidecar may take to drain when it is told to yield.
    pub drain: Duration,
    /// The revision of the workload that is being rolled out, or has been. `None`: it has no revisions, or they are not
    /// known; then no pod is preferred, and none has to yield.
    pub newest: Option<Revision>,
    /// The credentials have been seen to work. Until then one pod gets slots, as a probe. That a link came up is seen
    /// here as well; a success of the OpenAPI is for the caller to tell.
    pub verified: bool,
}

/// What counts for the platform group as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Limits {
    /// Slots `0..slots` may be granted.
    pub(super) slots: u32,
    /// Connect attempts in a minute.
    pub(super) attempts: u32,
}

impl Limits {
    /// The smallest of what these members say; `None` where there is none.
    pub(super) fn of<'a>(members: impl Iterator<Item = &'a Member>) -> Option<Self> {
        let said =
            members.map(|member| Self { slots: member.client_slots, attempts: member.connect_attempts_per_minute });
        said.reduce(|one, other| Self { slots: one.slots.min(other.slots), attempts: one.attempts.min(other.attempts) })
    }

    /// How many permits a grant of so many slots gets in a span when others want theirs too: twice what an even share is.
    pub(super) fn share(self, slots: u32) -> u32 {
        let even = u64::from(self.attempts) * u64::from(slots) / u64::from(self.slots.max(1));
        u32::try_from(even.saturating_mul(2)).unwrap_or(u32::MAX).max(SHARE)
    }

    /// How many attempts a minute a new grant of `count` slots may make on its own, where all others together may make
    /// `promised`. The sum stays inside the limit, whatever the limits were when the others were promised theirs.
    pub(super) fn attempts_alone(self, count: u32, promised: u32) -> u32 {
        let share = self.attempts.checked_div(self.slots).unwrap_or(0).max(1);
        share.saturating_mul(count).min(self.attempts.saturating_sub(promised))
    }
}

impl Member {
    /// How many slots a pod takes.
    pub(super) fn slots_per_pod(&self) -> usize {
        usize::try_from(self.connections_per_pod.max(1)).unwrap_or(usize::MAX)
    }
}
