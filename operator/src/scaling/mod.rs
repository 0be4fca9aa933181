//! How many replicas a workload should have: a pure function of policy, figures and history. It reads nothing and writes
//! nothing; whoever calls it keeps the [`History`] and acts on the [`Decision`].
//!
//! More clients help only where consumers are the bottleneck. The platform pushes at most 1,000 real-time messages a second
//! down a connection, and drains a backlog at 200 a second *per group*, however many clients there are (`PLATFORM.md 1.8`).
//! So what is looked at is how busy the applications say they are, how near the connections are to their cap, and how
//! much of the backlog consumers could work off faster; a backlog that more clients can't drain is reported, not chased.

mod demand;
mod history;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::time::Time;

pub use self::demand::{BACKLOG_PER_SECOND, RETENTION};
pub use self::history::History;

use self::demand::Demand;

/// What the ConsumerGroup asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Never fewer, in pods. Zero only if it is asked for.
    pub min_replicas: u32,
    /// Never more, in pods.
    pub max_replicas: u32,
    /// The share of time, in per cent, that the applications' concurrency should be full.
    pub target_saturation: u32,
    /// A backlog up to this many messages is nobody's concern.
    pub backlog_activation: u64,
    /// How fast a larger one should be gone.
    pub drain_within: Duration,
    /// How fast the count may grow.
    pub scale_up: Behavior,
    /// How fast it may shrink.
    pub scale_down: Behavior,
    /// No scale-in for so long after any change of membership: the platform takes up to 10 minutes to spread messages
    /// evenly (`PLATFORM.md 1.7`).
    pub settle: Duration,
    /// Connections, so slots, of one pod.
    pub connections_per_pod: u32,
    /// What is not done, although the plan says it.
    pub pause: Pause,
}

/// How fast the count may change, as in a HorizontalPodAutoscaler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behavior {
    /// The most cautious wish of this span counts.
    pub stabilization: Duration,
    /// At most so many pods in any `period`…
    pub pods: u32,
    /// …or so many per cent of what there was at its start, whichever is more.
    pub percent: u32,
    /// The period of the two.
    pub period: Duration,
}

/// What a person has told the operator not to do for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pause {
    /// Nothing is held back.
    #[default]
    None,
    /// The count may grow, not shrink.
    ScaleDown,
    /// The count is left alone.
    All,
}

/// What the platform says of the group, of one poll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlatformFigures {
    /// When it said so.
    pub at: Time,
    /// From then on it is too old to decide by.
    pub stale_at: Time,
    /// Messages in the backlog.
    pub backlog: u64,
    /// Messages of the backlog consumed in a minute; `None` where the platform does not say.
    pub backlog_per_minute: Option<u64>,
}

/// What one pod's sidecar says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodFigures {
    /// When it said so.
    pub at: Time,
    /// All its links are up.
    pub up: bool,
    /// The share of time in which the application's concurrency was full, in thousandths.
    pub saturation_permille: u32,
    /// Messages settled as accepted, per second.
    pub accepted_per_second: u32,
    /// Messages received, per second.
    pub received_per_second: u32,
}

/// All that is known of the workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Situation {
    /// The replicas that the target asks for now.
    pub replicas: u32,
    /// Client slots that this group's pods hold or could be granted; `None` while that is not known: the count is held.
    pub slots: Option<u32>,
    /// One entry for each pod that should be consuming: its figures, or that its sidecar has fallen silent. A pod whose
    /// sidecar has not come yet is among them as one that is not up; one that stands by, or is about to end, is not.
    pub pods: Vec<Option<PodFigures>>,
    /// What the platform says; `None` if it was never asked or never answered.
    pub platform: Option<PlatformFigures>,
    /// What somebody else asks for, who decides instead of the figures.
    pub asked: Option<u32>,
}

/// What should be done, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent")]
pub struct Decision {
    /// The replicas that the target should have.
    pub replicas: u32,
    /// Whether to write them; not if nothing changes or a pause forbids it.
    pub write: bool,
    /// Why, in words.
    pub reason: String,
    /// Figures are missing or stale, and the count is held because of it.
    pub blind: bool,
    /// More are needed than `maxReplicas` or the slots allow.
    pub at_capacity: bool,
    /// How long the backlog takes to drain at the rate it drains now; `None` without one, or if it does not drain.
    pub drain_eta: Option<Duration>,
    /// Even at the platform's best, the backlog can't be drained within the day that it is kept. Says nothing unless the
    /// platform's figures are fresh.
    pub expiring: bool,
}

/// Figures of a sidecar older than this say nothing about now: it reports every 5 s.
pub const FRESH: Duration = Duration::from_secs(20);

/// Decides. `history` is of the same workload, and is brought up to date.
pub fn decide(now: Time, policy: &Policy, situation: &Situation, history: &mut History) -> Decision {
    let current = situation.replicas;
    let mut demand = Demand::of(now, policy, situation);
    history.observe(now, current, &demand);
    if let Some(asked) = situation.asked {
        demand.replicas = Some(asked);
        demand.reason = format!("spec.scaling.replicas is {asked}");
    }

    let bounds = Bounds::of(policy, situation);
    let mut reason = demand.reason.clone();
    let mut wanted = demand.replicas.unwrap_or(current);
    let by_figures = demand.replicas.is_some() && situation.asked.is_none();
    if by_figures
        && wanted > current
        && let Some(futile) = history.futile(now, &demand)
    {
        (wanted, reason) = (current, futile);
    }
    // The user's bounds count at once, whatever the figures are, and so does whoever decides instead of them. What the
    // slots don't allow is not added, and is taken away at leisure: they may be free again in a moment.
    let users = bounds.users(wanted);
    let goal = users.min(bounds.budget);
    let mut replicas = goal;
    if by_figures || goal < users.min(current) {
        let (paced, held) = history.pace(now, policy, current, goal);
        replicas = paced.min(if by_figures { bounds.max } else { users }).max(bounds.min.min(bounds.budget));
        if let Some(held) = held {
            reason = format!("{reason}; {held}");
        }
    } else if situation.asked.is_some() {
        history.wish(now, goal);
    }
    let demanded = demand.replicas.unwrap_or(0);
    let at_capacity = demanded > bounds.max || (demanded > bounds.budget && situation.slots.is_some());
    if goal != wanted || at_capacity {
        reason = format!("{reason}; {}", bounds.words(wanted.max(demanded), situation));
    }
    let write = match policy.pause {
        Pause::None => replicas != current,
        Pause::ScaleDown => replicas > current,
        Pause::All => false,
    };
    if replicas != current && !write {
        reason = format!("{reason}; paused");
    }
    if write {
        history.scaled(now, current, replicas, &demand);
    }
    Decision {
        replicas,
        write,
        reason,
        blind: demand.replicas.is_none(),
        at_capacity,
        drain_eta: demand.drain_eta,
        expiring: demand.expiring,
    }
}

/// Between what the count should stay.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// The user's.
    min: u32,
    /// The user's.
    max: u32,
    /// What the slots allow.
    budget: u32,
}

impl Bounds {
    fn of(policy: &Policy, situation: &Situation) -> Self {
        let pods = situation.slots.map(|slots| slots / policy.connections_per_pod.max(1));
        Self {
            min: policy.min_replicas.min(policy.max_replicas),
            max: policy.max_replicas,
            // A group whose slots others hold keeps one pod: it stands by, and consumes as soon as one is free. While it is
            // not known what there is, nothing more is taken.
            budget: pods.map_or(situation.replicas, |pods| pods.max(1)),
        }
    }

    fn users(self, replicas: u32) -> u32 {
        replicas.clamp(self.min, self.max)
    }

    fn words(self, wanted: u32, situation: &Situation) -> String {
        if self.users(wanted) <= self.budget {
            let (name, bound) = if wanted < self.min { ("min", self.min) } else { ("max", self.max) };
            format!("{name}Replicas is {bound} of {wanted}")
        } else if situation.slots.is_none() {
            format!("it is not known whether the client slots allow {wanted}")
        } else {
            format!("the client slots allow {} of {wanted}", self.budget)
        }
    }
}
