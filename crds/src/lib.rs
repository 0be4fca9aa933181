//! The `ConsumerGroup` of `sluice.dev/v1alpha1`: the document that says which consumer group of the platform is consumed,
//! and how. Here are its fields, their defaults, and what makes a document valid; this crate knows no network, no files
//! and no credentials.
//!
//! Fields that a document must not have are refused, so that a misspelt one is not silently ignored. A document that can
//! be read is not valid yet: [`ConsumerGroup::validate`] checks the values, and reports everything it finds at once.

mod duration;
mod quantity;
mod spec;
mod validate;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use duration::{Duration, DurationError};
pub use quantity::{ByteQuantity, ByteQuantityError};
pub use spec::defaults;
pub use spec::{
    CaBundle, Connection, ConsumerGroupSpec, Credentials, Deduplication, Delivery, HandBack, Instance, Limits, Retry,
    Settlement, SignMethod,
};
pub use validate::{Violation, Violations};

/// A consumer group of the platform, and how it is consumed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsumerGroup {
    /// The version of the schema that this document follows.
    pub api_version: ApiVersion,
    /// The kind of document.
    pub kind: Kind,
    /// The name of the document, and where it belongs.
    pub metadata: Metadata,
    /// What is wanted.
    pub spec: ConsumerGroupSpec,
}

/// The versions of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum ApiVersion {
    /// `sluice.dev/v1alpha1`
    #[serde(rename = "sluice.dev/v1alpha1")]
    V1Alpha1,
}

/// The kinds of document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Kind {
    /// `ConsumerGroup`
    ConsumerGroup,
}

/// The part of Kubernetes' object metadata that a document of one's own writing has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Metadata {
    /// The document's name: a DNS subdomain of at most 253 characters. Required.
    pub name: String,
    /// The namespace it belongs to: a DNS label of at most 63 characters.
    pub namespace: Option<String>,
    /// Labels, for others to find it by. They mean nothing here.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Annotations, for others to leave notes in. They mean nothing here.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}
