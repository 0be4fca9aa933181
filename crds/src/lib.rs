//! The `ConsumerGroup` of `sluice.dev/v1alpha1`: the document that says which consumer group of the platform is consumed,
//! and how. Here are its fields, their defaults, and what makes a document valid; this crate knows no network, no files
//! and no credentials.
//!
//! There is one set of fields ([`ConsumerGroupSpec`]) and one list of rules for their values, and two ways in:
//! - A [`Document`] is a file that a sidecar runs from. Fields that it must not have are refused, so that a misspelt one
//!   is not silently ignored; [`Document::validate`] checks the values, and reports everything it finds at once.
//! - With the feature `kube`, `ConsumerGroup` is the resource in a cluster, with its status, and `schema::crd` is its
//!   definition. There the API server fills in the defaults and applies the same rules.

mod document;
mod duration;
#[cfg(any(feature = "fixtures", all(test, feature = "kube")))]
pub mod fixtures;
mod quantity;
mod rules;
#[cfg(feature = "kube")]
pub mod schema;
mod spec;
#[cfg(feature = "kube")]
pub mod status;
mod strict;
mod validate;
#[cfg(feature = "kube")]
pub mod yaml;

pub use document::{ApiVersion, Document, Kind, Metadata};
pub use duration::{Duration, DurationError};
pub use quantity::{ByteQuantity, ByteQuantityError};
#[cfg(feature = "kube")]
pub use spec::ConsumerGroup;
pub use spec::defaults;
pub use spec::{
    ApiCredentials, AssumeRole, Backlog, Behavior, CaBundle, ConfigMapKey, Connection, ConsumerGroupSpec,
    CredentialSource, Credentials, Deduplication, Delivery, HandBack, Instance, Limits, Manage, MessageType, Pause,
    ProductSubscription, Readiness, Retry, ScaleDown, ScaleUp, Scaling, ScalingMode, SecretReference, Settlement,
    SignMethod, Subscriptions, TargetReference, Workload, WorkloadIdentity,
};
#[cfg(feature = "kube")]
pub use status::ConsumerGroupStatus;
pub use validate::{Mode, Violation, Violations};
