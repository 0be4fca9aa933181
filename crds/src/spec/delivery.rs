//! How messages are handed to the application.

use serde::Deserialize;

use super::defaults;
use crate::{ByteQuantity, Duration};

/// How messages are handed to the application.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Delivery {
    /// The connections that each pod keeps, 1 to 64. Each takes a client slot, and a pod gets all of them or none. The
    /// platform pushes up to 1000 messages per second over one. A sidecar that runs from a file has one. Default: 1.
    pub connections_per_pod: u32,
    /// The most messages that a pod has received and not settled yet, 1 to 100000. Default: 1000.
    pub max_in_flight: u32,
    /// The most bytes that these messages take together, 256Ki to 4Gi; one message is let through whatever its size.
    /// Default: 64Mi.
    pub max_in_flight_bytes: ByteQuantity,
    /// How long an application has to answer for a message, 1s to 28s. The platform takes an unanswered message back
    /// after 30 s. Default: 25s.
    pub lease_duration: Duration,
    /// What becomes of a message that the application did not acknowledge. `Release` tells the platform so; `Expire` lets
    /// the platform's 30 s run out. Default: `Release`.
    pub hand_back: HandBack,
    /// How long acknowledged messages are remembered, so that the platform's repeats of them are not delivered again.
    pub deduplication: Deduplication,
    /// When a message that failed is given to the application again.
    pub retry: Retry,
}

/// What becomes of a message that the application did not acknowledge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
pub enum HandBack {
    /// The platform is told that it is released.
    Release,
    /// The platform is told nothing; its own time-out runs out.
    Expire,
}

/// How long acknowledged messages are remembered. The memory is the pod's own, and bounded both ways.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Deduplication {
    /// For so long, 1s to 24h. Default: 10m.
    pub window: Duration,
    /// And so many at most, 1 to 1000000; the oldest are forgotten first. Default: 100000.
    pub max_entries: u32,
}

/// When a message that failed is given to the application again. The wait grows from `minBackoff` to `maxBackoff`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// The wait after the first failure, 1ms to 28s. Default: 200ms.
    pub min_backoff: Duration,
    /// The longest wait, `minBackoff` to 28s. Default: 5s.
    pub max_backoff: Duration,
}

/// When a pod counts as ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
pub enum Readiness {
    /// Once its link has been up for the first time.
    #[default]
    Connected,
    /// As long as its link is up.
    Link,
    /// As soon as the sidecar runs.
    Process,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            connections_per_pod: defaults::CONNECTIONS_PER_POD,
            max_in_flight: defaults::MAX_IN_FLIGHT,
            max_in_flight_bytes: defaults::MAX_IN_FLIGHT_BYTES,
            lease_duration: defaults::LEASE_DURATION,
            hand_back: defaults::HAND_BACK,
            deduplication: Deduplication::default(),
            retry: Retry::default(),
        }
    }
}

impl Default for Deduplication {
    fn default() -> Self {
        Self { window: defaults::DEDUPLICATION_WINDOW, max_entries: defaults::DEDUPLICATION_MAX_ENTRIES }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self { min_backoff: defaults::RETRY_MIN_BACKOFF, max_backoff: defaults::RETRY_MAX_BACKOFF }
    }
}
