//! The fields of `status`, and the words that its conditions and events are made of. The operator alone writes them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde::{Deserialize, Serialize};

use crate::Duration;

/// What the operator has found and done. Figures are rounded, and are at most 30 s behind what they were then.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerGroupStatus {
    /// The generation of the object that the rest of the status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// What is true of the group: `Ready`, `CredentialsValid`, `SubscriptionsSynced`, `Scaling`, `AtCapacity`,
    /// `BacklogExpiring`. The message of each says what to do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "crate::schema::conditions")]
    pub conditions: Vec<Condition>,
    /// The pods that the workload has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// The label selector of the workload's pods, for who scales by `/scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// The client slots of the platform's group. Other ConsumerGroups of the same group draw on them too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<SlotsStatus>,
    /// The messages that wait on the platform. Missing while the platform does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backlog: Option<BacklogStatus>,
    /// The messages per second that applications acknowledge, rounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<i64>,
    /// How many pods there should be, and why; also while scaling is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// The sidecars in the workload's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sidecars: Option<SidecarsStatus>,
}

/// The client slots of the platform's group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SlotsStatus {
    /// The slots that there are: the smallest `limits.clientSlots` of all ConsumerGroups of the group.
    pub limit: i32,
    /// The slots that are held, by pods of any ConsumerGroup of the group.
    pub held: i32,
    /// The slots that are free.
    pub free: i32,
    /// `held/limit`, for the table that `kubectl get` shows.
    pub summary: String,
}

impl SlotsStatus {
    /// So many held, of so many. More can be held than there are, if the limit was lowered: then none is free.
    pub fn new(held: i32, limit: i32) -> Self {
        Self { limit, held, free: limit.saturating_sub(held).max(0), summary: format!("{held}/{limit}") }
    }
}

/// The messages that wait on the platform.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BacklogStatus {
    /// Their number, rounded.
    pub messages: i64,
    /// How long it takes to drain them as things are, rounded. Missing if they do not become fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_eta: Option<Duration>,
}

/// How many pods there should be, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// The number of pods.
    pub replicas: i32,
    /// Why so many, in words.
    pub reason: String,
}

/// The sidecars in the workload's pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SidecarsStatus {
    /// Those that hold a client slot and have their link up.
    pub connected: i32,
    /// Those that wait for a client slot.
    pub standby: i32,
    /// Those of another version than the operator would inject.
    pub outdated: i32,
}

/// A vocabulary of the API: fixed words, in one place.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$word_doc:meta])* $word:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$word_doc])* $word),* }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$word),*];

            /// The word as it stands in the status.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$word => stringify!($word)),* }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// The types of conditions. A type that is not about an object (such as `SubscriptionsSynced` without
    /// `spec.subscriptions`) is not in its status.
    ConditionType {
        /// Messages are consumed, or would be if a pod of the workload ran.
        Ready,
        /// The platform takes the credentials.
        CredentialsValid,
        /// The platform's subscriptions are as `spec.subscriptions` wants them.
        SubscriptionsSynced,
        /// The number of pods is decided and written.
        Scaling,
        /// More pods are wanted than there are client slots or `maxReplicas` for.
        AtCapacity,
        /// Messages will expire on the platform before they can be drained.
        BacklogExpiring,
    }
}

words! {
    /// The reasons of conditions.
    Reason {
        /// `Ready`: at least one link is up.
        Consuming,
        /// `Ready`: all is in place, and no pod of the workload runs.
        NoPods,
        /// `Ready`: pods run, and none has a link yet.
        Connecting,
        /// `Ready`: pods run, and no link comes up.
        NotConnected,
        /// `Ready`: what the object wants can't be.
        Invalid,
        /// `Ready`: pods carry the label, and have no sidecar.
        SidecarMissing,
        /// `CredentialsValid`: a link came up or the OpenAPI answered.
        Verified,
        /// `CredentialsValid`: nothing has shown yet whether they are taken.
        Unverified,
        /// `CredentialsValid`: the platform refuses them.
        Refused,
        /// `CredentialsValid`: the operator may not read the Secret, or ask for a token of the ServiceAccount.
        /// `SubscriptionsSynced`: the credentials are known, and not allowed to make the change.
        PermissionDenied,
        /// `CredentialsValid`: the Secret is not there.
        SecretNotFound,
        /// `CredentialsValid`: the Secret lacks a key, or has one that can't be.
        SecretIncomplete,
        /// `CredentialsValid`: the ServiceAccount is not there.
        ServiceAccountNotFound,
        /// `CredentialsValid`: STS does not give keys for the role.
        RoleRefused,
        /// `CredentialsValid`: they have expired and could not be renewed.
        Expired,
        /// The endpoint is none that the operator may send credentials to.
        EndpointNotAllowed,
        /// The ConfigMap with the certificates is not there, or holds none.
        CaBundleInvalid,
        /// The platform did not answer, or not in time.
        PlatformUnreachable,
        /// `SubscriptionsSynced`: all is as it is wanted.
        InSync,
        /// `SubscriptionsSynced`: something is missing that `manage` does not allow to add.
        Missing,
        /// `SubscriptionsSynced`: there is no such product.
        ProductNotFound,
        /// `SubscriptionsSynced`: the platform refuses the change.
        ChangeRefused,
        /// `Scaling`: the number of pods follows the plan.
        Active,
        /// `Scaling`: `spec.scaling.pause` holds it back.
        Paused,
        /// `Scaling`: there is no `spec.workload`.
        NoWorkload,
        /// `Scaling`: others decide, by `/scale`.
        External,
        /// `Scaling`: the workload is not there.
        TargetNotFound,
        /// `Scaling`: the workload has no `/scale`.
        TargetNotScalable,
        /// `Scaling`: an HPA, a ScaledObject or an older ConsumerGroup drives the workload too.
        TargetContested,
        /// `Scaling`: figures are missing or stale, and the number of pods is held.
        FiguresStale,
        /// `AtCapacity`: pods stand by for a client slot.
        SlotsExhausted,
        /// `AtCapacity`: `maxReplicas` is reached, and more pods are wanted.
        ReplicasAtMaximum,
        /// `AtCapacity`: there is room.
        WithinCapacity,
        /// `BacklogExpiring`: the backlog can't be drained within the platform's retention.
        DrainsTooSlowly,
        /// `BacklogExpiring`: the backlog is drained in time, or there is none.
        DrainsInTime,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lowered_limit_leaves_no_slot_free() {
        assert_eq!(SlotsStatus::new(12, 64).summary, "12/64");
        assert_eq!(SlotsStatus::new(12, 64).free, 52);
        assert_eq!(SlotsStatus::new(12, 8).free, 0);
    }

    #[test]
    fn words_are_what_the_api_server_takes_for_types_and_reasons() {
        let types = ConditionType::ALL.iter().map(|word| word.as_str());
        for word in types.chain(Reason::ALL.iter().map(|word| word.as_str())) {
            assert!(word.len() <= 1024 && word.bytes().all(|b| b.is_ascii_alphabetic()), "{word}");
        }
    }
}
