//! The fields of `spec`. Their comments are written for who writes the document: they are what `kubectl explain` shows.
//! What their values may be is in [`crate::rules`], once for the API server and for this process.

mod credentials;
pub mod defaults;
mod delivery;
mod instance;
mod scaling;
mod subscriptions;

use serde::Deserialize;

pub use credentials::{
    ApiCredentials, AssumeRole, CredentialSource, Credentials, SecretReference, SignMethod, WorkloadIdentity,
};
pub use delivery::{Deduplication, Delivery, HandBack, Readiness, Retry};
pub use instance::{CaBundle, ConfigMapKey, Connection, Instance, Settlement};
pub use scaling::{
    Backlog, Behavior, Limits, Pause, ScaleDown, ScaleUp, Scaling, ScalingMode, TargetReference, Workload,
};
pub use subscriptions::{Manage, MessageType, ProductSubscription, Subscriptions};

/// What is wanted of a consumer group: where it is, who consumes it, and how.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema, kube::CustomResource))]
#[cfg_attr(feature = "kube", expect(clippy::duplicated_attributes, reason = "columns of the same type"))]
#[cfg_attr(
    feature = "kube",
    kube(
        group = "sluice.dev",
        version = "v1alpha1",
        kind = "ConsumerGroup",
        plural = "consumergroups",
        shortname = "cg",
        category = "sluice",
        namespaced,
        status = "crate::ConsumerGroupStatus",
        derive = "PartialEq",
        doc = "A consumer group of the IoT platform, the workload that consumes it, and how messages reach it.",
        scale(
            spec_replicas_path = ".spec.scaling.replicas",
            status_replicas_path = ".status.replicas",
            label_selector_path = ".status.selector"
        ),
        printcolumn(
            name = "Ready",
            type_ = "string",
            description = "Whether messages are consumed, or can be",
            json_path = r#".status.conditions[?(@.type=="Ready")].status"#
        ),
        printcolumn(
            name = "Group",
            type_ = "string",
            description = "The platform's consumer group",
            json_path = ".spec.groupId"
        ),
        printcolumn(
            name = "Replicas",
            type_ = "integer",
            description = "Pods of the workload",
            json_path = ".status.replicas"
        ),
        printcolumn(
            name = "Slots",
            type_ = "string",
            description = "Client slots that are held, of those that there are",
            json_path = ".status.slots.summary"
        ),
        printcolumn(
            name = "Backlog",
            type_ = "integer",
            description = "Messages that wait on the platform",
            json_path = ".status.backlog.messages"
        ),
        printcolumn(
            name = "Rate",
            type_ = "integer",
            description = "Messages per second that applications acknowledge",
            json_path = ".status.rate"
        ),
        printcolumn(
            name = "Reason",
            type_ = "string",
            description = "Why it is ready or not",
            json_path = r#".status.conditions[?(@.type=="Ready")].reason"#,
            priority = "1"
        ),
        printcolumn(
            name = "Age",
            type_ = "date",
            description = "Time since it was created",
            json_path = ".metadata.creationTimestamp"
        )
    )
)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerGroupSpec {
    /// The ID of the platform's consumer group, as the console shows it, or `DEFAULT_GROUP`. It can't be changed: make a
    /// new ConsumerGroup for another group. Required.
    pub group_id: String,
    /// The platform's instance that the group belongs to. Required.
    pub instance: Instance,
    /// How the connection to the platform is kept.
    #[serde(default)]
    pub connection: Connection,
    /// Who the connections are made as. The keys themselves are never in this document. In a cluster exactly one of
    /// `secretRef`, `assumeRole` and `workloadIdentity` is required; a sidecar that runs from a file has its keys from
    /// its environment or a directory, and looks at none of the three.
    #[serde(default)]
    pub credentials: Credentials,
    /// Who the platform's OpenAPI is called as, which tells of backlog, clients and subscriptions. Exactly one of
    /// `secretRef`, `assumeRole` and `workloadIdentity`. Default: as `credentials` says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_credentials: Option<ApiCredentials>,
    /// The workload whose pods consume the group. Default: none, and nothing is scaled; pods consume by their label
    /// `sluice.dev/consumer-group` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload: Option<Workload>,
    /// What the platform allows the group.
    #[serde(default)]
    pub limits: Limits,
    /// How many pods the workload has.
    #[serde(default)]
    pub scaling: Scaling,
    /// How messages are handed to the application.
    #[serde(default)]
    pub delivery: Delivery,
    /// When a pod counts as ready. `Connected`: once its link to the platform has been up for the first time; a link that
    /// is lost later does not take the pod out of its Services. `Link`: as long as its link is up. `Process`: as soon as
    /// the sidecar runs, for applications that attach their stream only once they are ready themselves. Default:
    /// `Connected`.
    #[serde(default)]
    pub readiness: Readiness,
    /// Which messages of which products the group is to receive. Default: that is left to the console, and not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscriptions: Option<Subscriptions>,
}

#[cfg(test)]
mod tests;
