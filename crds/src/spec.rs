//! The fields of `spec`. Their comments are written for who writes the document.

pub mod defaults;

use std::path::PathBuf;

use serde::Deserialize;

use crate::{ByteQuantity, Duration};

/// What a `ConsumerGroup` wants.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsumerGroupSpec {
    /// The ID of the platform's consumer group, as the console shows it, or `DEFAULT_GROUP`. Required.
    pub group_id: String,
    /// The platform's instance that the group belongs to. Required.
    pub instance: Instance,
    /// How the connection to it is kept.
    #[serde(default)]
    pub connection: Connection,
    /// How the connection proves who it is. The keys themselves are never in this document.
    #[serde(default)]
    pub credentials: Credentials,
    /// What the platform allows the group.
    #[serde(default)]
    pub limits: Limits,
    /// How messages are handed to the application.
    #[serde(default)]
    pub delivery: Delivery,
}

/// An instance of the platform, and where to reach it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// The instance's ID, such as `iot-06z00abcd`. A legacy public instance has none: leave it out.
    pub id: Option<String>,
    /// The region of the instance, such as `cn-shanghai`. The AMQP connection goes by `amqpHost` alone.
    pub region: Option<String>,
    /// The AMQP endpoint: a host name or an IP address, without scheme and port. The console names it under "View
    /// Development Configurations". Required.
    pub amqp_host: String,
    /// The port of the AMQP endpoint, 1 to 65535. The connection is always TLS. Default: 5671.
    #[serde(default = "amqp_port")]
    pub amqp_port: u16,
    /// The source address that the link attaches to, 1 to 255 characters. The platform ignores it, another broker may
    /// not. Default: `default`.
    #[serde(default = "source_address")]
    pub source_address: String,
    /// The certificates of the authorities that the endpoint's certificate may come from, in place of the well-known
    /// ones. Default: the well-known ones.
    pub ca_bundle: Option<CaBundle>,
}

/// Certificates of authorities, in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CaBundle {
    /// A file that holds them. A relative path counts from the directory of this document.
    File(PathBuf),
    /// The text itself.
    Pem(String),
}

/// How the connection to the platform is kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Connection {
    /// How long either side may be silent before the connection counts as dead: 30s to 300s, the platform's bounds.
    /// Default: 60s.
    pub idle_timeout: Duration,
    /// How outcomes are told to the platform. `Ranges` tells those of neighbouring messages in one frame; `Single` tells
    /// each one alone, for a peer that heeds only the first of a range. Default: `Ranges`.
    pub settlement: Settlement,
}

/// How outcomes are told to the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Settlement {
    /// Those of neighbouring messages in one frame.
    Ranges,
    /// Each one in a frame of its own.
    Single,
}

/// How the connection proves who it is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Credentials {
    /// The HMAC that signs: `HmacSha256`, `HmacSha1` or `HmacMd5`. Default: `HmacSha256`.
    pub sign_method: SignMethod,
}

/// The HMACs that the platform takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum SignMethod {
    /// HMAC with SHA-256.
    HmacSha256,
    /// HMAC with SHA-1.
    HmacSha1,
    /// HMAC with MD5.
    HmacMd5,
}

/// What the platform allows the group.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// The most attempts to connect in any minute, 1 to 100. The platform allows 100 for the whole group: leave room for
    /// clients that Sluice does not know of. Default: 95.
    pub connect_attempts_per_minute: u32,
}

/// How messages are handed to the application.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Delivery {
    /// The most messages that are received and not settled yet, 1 to 100000. Default: 1000.
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
pub enum HandBack {
    /// The platform is told that it is released.
    Release,
    /// The platform is told nothing; its own time-out runs out.
    Expire,
}

/// How long acknowledged messages are remembered. The memory is the process's own, and bounded both ways.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Deduplication {
    /// For so long, 1s to 24h. Default: 10m.
    pub window: Duration,
    /// And so many at most, 1 to 1000000; the oldest are forgotten first. Default: 100000.
    pub max_entries: u32,
}

/// When a message that failed is given to the application again. The wait grows from `minBackoff` to `maxBackoff`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Retry {
    /// The wait after the first failure, 1ms to 28s. Default: 200ms.
    pub min_backoff: Duration,
    /// The longest wait, `minBackoff` to 28s. Default: 5s.
    pub max_backoff: Duration,
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

impl Default for Credentials {
    fn default() -> Self {
        Self { sign_method: defaults::SIGN_METHOD }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect_attempts_per_minute: defaults::CONNECT_ATTEMPTS_PER_MINUTE }
    }
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
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

#[cfg(test)]
mod tests;
