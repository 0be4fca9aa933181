//! The document in a file. It is the resource of a cluster, as far as somebody writes it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{ConsumerGroupSpec, strict};

/// A `ConsumerGroup` in a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Document {
    /// The version of the schema that this document follows.
    pub api_version: ApiVersion,
    /// The kind of document.
    pub kind: Kind,
    /// The name of the document, and where it belongs.
    pub metadata: Metadata,
    /// What is wanted.
    #[serde(deserialize_with = "strict::deserialize")]
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
    /// The document's name: a DNS subdomain of at most 63 characters, since pods name it in a label. Required.
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
