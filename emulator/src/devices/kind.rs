//! The sixteen kinds of message (PLATFORM.md 3), how often each is said, and the topic that each goes under.

use rand::Rng as _;
use rand::rngs::SmallRng;
use serde::{Deserialize, Serialize};

use super::names::Name;

/// A kind of message, in the order of the table in PLATFORM.md 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Kind {
    Custom,
    Status,
    PropertyPost,
    EventPost,
    BatchPost,
    DownlinkReply,
    Lifecycle,
    Topology,
    SubDeviceFound,
    Tags,
    PropertyHistory,
    EventHistory,
    OtaResult,
    OtaProgress,
    OtaVersion,
    OtaJobStatus,
}

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Self; 16] = [
        Self::Custom,
        Self::Status,
        Self::PropertyPost,
        Self::EventPost,
        Self::BatchPost,
        Self::DownlinkReply,
        Self::Lifecycle,
        Self::Topology,
        Self::SubDeviceFound,
        Self::Tags,
        Self::PropertyHistory,
        Self::EventHistory,
        Self::OtaResult,
        Self::OtaProgress,
        Self::OtaVersion,
        Self::OtaJobStatus,
    ];

    /// Whether it is a gateway that such a message is about.
    pub(crate) fn needs_gateway(self) -> bool {
        matches!(self, Self::Topology | Self::SubDeviceFound)
    }

    /// Whether a device must be online to cause such a message. The others are the platform's own.
    pub(super) fn is_spoken(self) -> bool {
        !matches!(
            self,
            Self::Status | Self::Lifecycle | Self::Topology | Self::SubDeviceFound | Self::Tags | Self::OtaJobStatus
        )
    }
}

/// Which of the two batches it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Batch {
    Properties,
    Events,
}

/// A topic with what it takes besides the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic<'a> {
    /// By the vendor's convention a device publishes to `user/update` and `user/update/error`, and subscribes to `user/get`.
    Custom {
        error: bool,
    },
    Status,
    PropertyPost,
    EventPost(&'a str),
    BatchPost(Batch),
    DownlinkReply,
    Lifecycle,
    Topology,
    SubDeviceFound,
    Tags,
    PropertyHistory,
    EventHistory(&'a str),
    OtaResult,
    OtaProgress,
    OtaVersion,
    /// Names a package and a job, no device.
    OtaJobStatus {
        product: &'a str,
        package: &'a str,
        job: &'a str,
    },
}

impl Topic<'_> {
    /// The topic's text, of this device.
    pub(super) fn of(self, name: &Name) -> String {
        let own = |parts: &[&str]| joined(&name.prefix, parts);
        match self {
            Self::Status => name.status.clone(),
            Self::OtaJobStatus { product, package, job } => {
                joined("/", &[product, "/", package, "/", job, "/ota/job/status"])
            }
            Self::Custom { error: false } => own(&["user/update"]),
            Self::Custom { error: true } => own(&["user/update/error"]),
            Self::PropertyPost => own(&["thing/event/property/post"]),
            Self::EventPost(event) => own(&["thing/event/", event, "/post"]),
            Self::BatchPost(Batch::Properties) => own(&["thing/property/batch/post"]),
            Self::BatchPost(Batch::Events) => own(&["thing/event/batch/post"]),
            Self::DownlinkReply => own(&["thing/downlink/reply/message"]),
            Self::Lifecycle => own(&["thing/lifecycle"]),
            Self::Topology => own(&["thing/topo/lifecycle"]),
            Self::SubDeviceFound => own(&["thing/list/found"]),
            Self::Tags => own(&["thing/deviceinfo/update"]),
            Self::PropertyHistory => own(&["thing/event/property/history/post"]),
            Self::EventHistory(event) => own(&["thing/event/", event, "/history/post"]),
            Self::OtaResult => own(&["ota/upgrade"]),
            Self::OtaProgress => own(&["ota/progress/post"]),
            Self::OtaVersion => own(&["ota/version/post"]),
        }
    }
}

fn joined(prefix: &str, parts: &[&str]) -> String {
    let mut text = String::with_capacity(prefix.len() + parts.iter().map(|part| part.len()).sum::<usize>());
    text.push_str(prefix);
    for part in parts {
        text.push_str(part);
    }
    text
}

/// How often each kind is said, in relation to the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Weights([u32; Kind::ALL.len()]);

impl Default for Weights {
    /// Property posts for the most part.
    fn default() -> Self {
        Self::of([(Kind::PropertyPost, 90), (Kind::EventPost, 4), (Kind::Status, 4), (Kind::Custom, 2)])
    }
}

impl Weights {
    /// The most that one kind may weigh.
    pub(crate) const MAX: u32 = 1_000_000;

    /// These; what is not named is not said. A weight beyond [`Weights::MAX`] counts as that.
    pub(crate) fn of(weights: impl IntoIterator<Item = (Kind, u32)>) -> Self {
        let mut all = [0; Kind::ALL.len()];
        for (kind, weight) in weights {
            all[kind as usize] = weight.min(Self::MAX);
        }
        Self(all)
    }

    /// Every kind alike.
    #[cfg(test)]
    pub(crate) fn even() -> Self {
        Self([1; Kind::ALL.len()])
    }

    /// What a kind weighs.
    pub(crate) fn get(&self, kind: Kind) -> u32 {
        self.0[kind as usize]
    }

    /// What all weigh together.
    pub(crate) fn total(&self) -> u32 {
        self.0.iter().sum()
    }

    /// A kind, drawn by weight; a property post when nothing weighs anything.
    pub(super) fn draw(&self, total: u32, rng: &mut SmallRng) -> Kind {
        let mut left = rng.random_range(0..total.max(1));
        for kind in Kind::ALL {
            let weight = self.get(kind);
            if left < weight {
                return kind;
            }
            left -= weight;
        }
        Kind::PropertyPost
    }
}
