//! What ConsumerGroups say about their platform group, and what follows when several speak of the same one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::names::{GroupRef, Revision};

/// What one ConsumerGroup says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    /// `limits.clientSlots`. The smallest of all members counts.
    pub client_slots: u32,
    /// `limits.connectAttemptsPerMinute`. The smallest of all members counts.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Slots `0..slots` may be granted.
    pub(super) slots: u32,
    /// Connect attempts in a minute.
    pub(super) attempts: u32,
}

impl Limits {
    /// The smallest of what the members say; nothing at all where there is none.
    pub(super) fn of(members: &BTreeMap<GroupRef, Member>) -> Self {
        Self {
            slots: members.values().map(|member| member.client_slots).min().unwrap_or(0),
            attempts: members.values().map(|member| member.connect_attempts_per_minute).min().unwrap_or(0),
        }
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
