//! How many pods there are, and what bounds their number.

use serde::Deserialize;

use super::defaults;
use crate::Duration;

/// The workload whose pods consume the group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// The object to scale, in the ConsumerGroup's namespace. Required.
    pub target_ref: TargetReference,
}

/// An object in the ConsumerGroup's namespace that has a `/scale`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TargetReference {
    /// The API group and version of the object, such as `apps/v1`. Required.
    pub api_version: String,
    /// The kind of the object, such as `Deployment`: anything with a `/scale`. Required.
    pub kind: String,
    /// The name of the object. Required.
    pub name: String,
}

/// What the platform allows the group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Limits {
    /// The client slots: the most connections to the group at any time, 1 to 128. The platform's documents name 64 and
    /// 128. Give a cluster less if others consume the same group. If several ConsumerGroups share a group, the smallest
    /// counts, of those whose credentials have been seen to work. A sidecar that runs from a file has one connection, and
    /// does not look at it. Default: 64.
    pub client_slots: u32,
    /// The most attempts to connect in any minute, 1 to 100. The platform allows 100 for the whole group: leave room for
    /// clients that Sluice does not know of. Default: 95.
    pub connect_attempts_per_minute: u32,
}

/// How many pods the workload has. A sidecar that runs from a file looks at none of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Scaling {
    /// Who decides. `Operator`: Sluice does. `External`: whoever writes this ConsumerGroup's `/scale`, such as an HPA;
    /// Sluice carries it out within `minReplicas`, `maxReplicas` and the client slots. Default: `Operator`.
    pub mode: ScalingMode,
    /// The number of pods that is wanted, in mode `External`, where it is required, and only there. `/scale` writes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The fewest pods, 0 to 128. With 0, the workload is taken to zero when there is nothing to do, and woken by its
    /// backlog, which takes minutes. Default: 1.
    pub min_replicas: u32,
    /// The most pods, 1 to 128. The client slots bound them too: pods that find none stand by. Default: 64.
    pub max_replicas: u32,
    /// How busy the applications shall be: the percentage of time in which all their declared concurrency is in use,
    /// 1 to 100. Above it pods are added. Default: 70.
    pub target_saturation: u32,
    /// What is done about messages that wait on the platform.
    pub backlog: Backlog,
    /// How fast the number of pods may change.
    pub behavior: Behavior,
    /// What is held back. `None`: nothing. `ScaleDown`: pods are added, never taken away. `All`: the number of pods is not
    /// touched. `status.plan` says what would be done. Default: `None`.
    pub pause: Pause,
}

/// Who decides on the number of pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
pub enum ScalingMode {
    /// The operator.
    Operator,
    /// Whoever writes `/scale`.
    External,
}

/// What is done about messages that wait on the platform.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Backlog {
    /// A backlog of up to so many messages is left alone: no pods are added for it, and none are woken. 0 to 100000000,
    /// the most that the platform keeps. Default: 0.
    pub activation: u32,
    /// A backlog shall be drained within so long, as far as the platform's 200 messages per second and group allow it:
    /// 1m to 24h, the platform's retention. Default: 30m.
    pub drain_within: Duration,
}

/// How fast the number of pods may change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Behavior {
    /// How pods are added.
    pub scale_up: ScaleUp,
    /// How pods are taken away.
    pub scale_down: ScaleDown,
}

/// How pods are added: in any `period` at most `maxPods` or `maxPercent`, whichever is more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleUp {
    /// Pods are added only if more were wanted for so long, 0s to 1h. Default: 0s.
    pub stabilization_window: Duration,
    /// The most pods that are added in any `period`, 1 to 128; more if `maxPercent` allows more. Default: 4.
    pub max_pods: u32,
    /// The most that is added in any `period`, in percent of the pods that there are, 1 to 1000; more if `maxPods` allows
    /// more. Default: 100.
    pub max_percent: u32,
    /// The time that `maxPods` and `maxPercent` are for, 1s to 30m. Default: 15s.
    pub period: Duration,
}

/// How pods are taken away: in any `period` at most `maxPods` or `maxPercent`, whichever is more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct ScaleDown {
    /// Pods are taken away only if fewer were wanted for so long, 0s to 1h. Default: 5m.
    pub stabilization_window: Duration,
    /// No pods are taken away for so long after any client came or went, 0s to 1h: the platform needs up to 10 minutes to
    /// spread messages evenly again. Default: 10m.
    pub membership_window: Duration,
    /// The most pods that are taken away in any `period`, 1 to 128; more if `maxPercent` allows more. Default: 4.
    pub max_pods: u32,
    /// The most that is taken away in any `period`, in percent of the pods that there are, 1 to 100; more if `maxPods`
    /// allows more. Default: 50.
    pub max_percent: u32,
    /// The time that `maxPods` and `maxPercent` are for, 1s to 30m. Default: 1m.
    pub period: Duration,
}

/// What is held back of the scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
pub enum Pause {
    /// Nothing.
    None,
    /// Taking pods away.
    ScaleDown,
    /// Everything.
    All,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            client_slots: defaults::CLIENT_SLOTS,
            connect_attempts_per_minute: defaults::CONNECT_ATTEMPTS_PER_MINUTE,
        }
    }
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            mode: defaults::SCALING_MODE,
            replicas: None,
            min_replicas: defaults::MIN_REPLICAS,
            max_replicas: defaults::MAX_REPLICAS,
            target_saturation: defaults::TARGET_SATURATION,
            backlog: Backlog::default(),
            behavior: Behavior::default(),
            pause: defaults::PAUSE,
        }
    }
}

impl Default for Backlog {
    fn default() -> Self {
        Self { activation: defaults::BACKLOG_ACTIVATION, drain_within: defaults::BACKLOG_DRAIN_WITHIN }
    }
}

impl Default for ScaleUp {
    fn default() -> Self {
        Self {
            stabilization_window: defaults::SCALE_UP_STABILIZATION_WINDOW,
            max_pods: defaults::SCALE_UP_MAX_PODS,
            max_percent: defaults::SCALE_UP_MAX_PERCENT,
            period: defaults::SCALE_UP_PERIOD,
        }
    }
}

impl Default for ScaleDown {
    fn default() -> Self {
        Self {
            stabilization_window: defaults::SCALE_DOWN_STABILIZATION_WINDOW,
            membership_window: defaults::SCALE_DOWN_MEMBERSHIP_WINDOW,
            max_pods: defaults::SCALE_DOWN_MAX_PODS,
            max_percent: defaults::SCALE_DOWN_MAX_PERCENT,
            period: defaults::SCALE_DOWN_PERIOD,
        }
    }
}
