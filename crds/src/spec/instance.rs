//! Where the group is, and how the connection to it is kept.

use std::path::PathBuf;

use serde::Deserialize;

use super::defaults;
use crate::Duration;

/// An instance of the platform, and where to reach it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// The instance's ID, such as `iot-06z00abcd`. A legacy public instance has none: leave it out, and give `accountId`.
    /// It can't be changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// The region of the instance, such as `cn-shanghai`. The OpenAPI's endpoint follows from it; the AMQP connection
    /// goes by `amqpHost` alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// The number of the account that the instance belongs to. Required in a cluster if the instance has no ID: client
    /// slots are counted per instance and group. It can be added, but not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account_id: Option<String>,
    /// The AMQP endpoint: a host name or an IP address, without scheme and port. The console names it under "View
    /// Development Configurations". It may be changed, say from the public to the VPC name. Required.
    pub amqp_host: String,
    /// The port of the AMQP endpoint, 1 to 65535. The connection is always TLS. Default: 5671.
    #[serde(default = "amqp_port")]
    pub amqp_port: u16,
    /// The source address that the link attaches to, 1 to 255 characters. The platform ignores it, another broker may
    /// not. Default: `default`.
    #[serde(default = "source_address")]
    pub source_address: String,
    /// The OpenAPI's endpoint: a host name, with `:port` if it is not 443, without scheme. Always HTTPS. Default:
    /// `iot.REGION.aliyuncs.com`, with the region above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_endpoint: Option<String>,
    /// The endpoint that gives temporary keys (STS): a host name, with `:port` if it is not 443, without scheme. Always
    /// HTTPS. Default: `sts.REGION.aliyuncs.com` with the region above, `sts.aliyuncs.com` without one. Others than these
    /// and `sts-vpc.REGION.aliyuncs.com` have to be allowed where the operator is installed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts_endpoint: Option<String>,
    /// The certificates of the authorities that the endpoints' certificates may come from, in place of the well-known
    /// ones. Exactly one of `configMapKeyRef` (in a cluster), `file` (for a sidecar that runs from a file) and `pem`
    /// (for both). Default: the well-known ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
}

/// Certificates of authorities, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum CaBundle {
    /// A key of a ConfigMap in the ConsumerGroup's namespace. Only in a cluster.
    ConfigMapKeyRef(ConfigMapKey),
    /// A file that holds them. A relative path counts from the directory of this document. Only for a sidecar that runs
    /// from a file.
    File(PathBuf),
    /// The text itself, up to 64Ki characters.
    Pem(String),
}

/// A key of a ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKey {
    /// The name of the ConfigMap. Required.
    pub name: String,
    /// The key whose value holds the certificates, such as `ca.crt`. Required.
    pub key: String,
}

/// How the connection to the platform is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
#[serde(rename_all = "camelCase", default)]
pub struct Connection {
    /// How long either side may be silent before the connection counts as dead: 30s to 5m, the platform's bounds. A pod
    /// that vanished without a word keeps its client slot for about so long. Default: 1m.
    pub idle_timeout: Duration,
    /// How outcomes are told to the platform. `Ranges` tells those of neighbouring messages in one frame; `Single` tells
    /// each one alone, for a peer that heeds only the first of a range. Default: `Ranges`.
    pub settlement: Settlement,
}

/// How outcomes are told to the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[cfg_attr(feature = "kube", derive(serde::Serialize, schemars::JsonSchema))]
pub enum Settlement {
    /// Those of neighbouring messages in one frame.
    Ranges,
    /// Each one in a frame of its own.
    Single,
}

fn amqp_port() -> u16 {
    defaults::AMQP_PORT
}

fn source_address() -> String {
    defaults::SOURCE_ADDRESS.to_owned()
}

impl Default for Connection {
    fn default() -> Self {
        Self { idle_timeout: defaults::IDLE_TIMEOUT, settlement: defaults::SETTLEMENT }
    }
}
