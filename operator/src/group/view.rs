//! What the pipeline sees of the broker and of the platform: the seams between rooms that know nothing else of each other.
//! Whoever implements one of them answers from memory, at once; a change that matters is told through [`Nudge`].

use std::collections::BTreeMap;

use sluice_crds::status::Reason;
use tokio::sync::mpsc;

use crate::scaling::{PlatformFigures, PodFigures};
use crate::slots::GroupRef;

/// What the broker knows of the sidecars of one ConsumerGroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sidecars {
    /// Client slots of the platform's group that may be held, by all its ConsumerGroups together.
    pub limit: u32,
    /// Slots that are held, by pods of any ConsumerGroup.
    pub held: u32,
    /// Slots that pods of this ConsumerGroup hold.
    pub held_here: u32,
    /// Slots that nobody holds.
    pub free: u32,
    /// A link has come up with the credentials that are signed with now.
    pub verified: bool,
    /// What the platform said when it last refused a link, if none has come up since.
    pub refusal: Option<Refusal>,
    /// Why no slots can be granted at all, if that is so: the table can't be read, say.
    pub fault: Option<String>,
    /// Pods of the newest revision could not connect, so the rollout has stopped.
    pub stuck: bool,
    /// The pods that have a sidecar at the broker, or a slot in the table, by UID.
    pub pods: BTreeMap<String, Sidecar>,
}

/// A refused link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The platform's words.
    pub words: String,
    /// It is the credentials that were refused.
    pub credentials: bool,
}

/// One pod's sidecar.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sidecar {
    /// Where it stands.
    pub seat: Seat,
    /// Its version is not the operator's.
    pub outdated: bool,
    /// All links of its slots are up.
    pub up: bool,
    /// No message is in hand, and none has come for a while.
    pub idle: bool,
    /// What it last reported; `None` if it has not, or not lately.
    pub figures: Option<PodFigures>,
}

/// Where a sidecar stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Seat {
    /// It wants no slot.
    #[default]
    Away,
    /// It waits for a slot.
    StandBy,
    /// It holds its slots.
    Holding,
    /// It has given its slot to a pod of a newer revision, or is about to.
    Yielded,
}

/// The broker, as the pipeline sees it.
pub trait Broker: Send + Sync {
    /// What it knows of a ConsumerGroup's sidecars; `None` while it knows nothing, as when it has just begun to lead.
    fn sidecars(&self, group: &GroupRef) -> Option<Sidecars>;
}

/// What the platform's OpenAPI has said of one ConsumerGroup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PlatformGroup {
    /// The figures of the last poll that gave some.
    pub figures: Option<PlatformFigures>,
    /// How calls with the present credentials go.
    pub api: Evidence,
    /// The subscriptions, if the ConsumerGroup names some and they have been looked at.
    pub subscriptions: Option<Synced>,
    /// Clients that the platform counts. More than the slots held: somebody else consumes this group.
    pub clients: Option<u32>,
}

/// Whether credentials work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Evidence {
    /// They have not been tried.
    #[default]
    Untried,
    /// They work.
    Works,
    /// They are refused, in these words.
    Refused(String),
    /// It could not be found out, for this reason.
    Unreachable(String),
}

/// Whether the platform's subscriptions are as the ConsumerGroup wants them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Synced {
    /// They are.
    Yes,
    /// They are not.
    No {
        /// Why, in a word.
        reason: Reason,
        /// What differs, and what to do.
        words: String,
    },
    /// It could not be found out, for this reason.
    Unknown(String),
}

/// The platform's poller, as the pipeline sees it.
pub trait Platform: Send + Sync {
    /// What is known of a ConsumerGroup; `None` if it is not polled (yet).
    fn group(&self, group: &GroupRef) -> Option<PlatformGroup>;
}

/// Tells the pipeline that something about a ConsumerGroup has changed. Clones tell the same pipeline.
#[derive(Debug, Clone)]
pub struct Nudge(mpsc::UnboundedSender<GroupRef>);

impl Nudge {
    /// A nudge and where it is felt.
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<GroupRef>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Has the ConsumerGroup looked at soon. Does nothing if no pipeline runs.
    pub fn group(&self, group: &GroupRef) {
        let _ = self.0.send(group.clone());
    }
}
