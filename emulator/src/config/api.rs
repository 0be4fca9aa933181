//! The rules of the OpenAPI and of STS (PLATFORM.md 4, 4.3).

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::ConfigError;
use crate::duration;

/// What the calls per second are counted over. The reference says "per account", the vendor's pages say it once for every
/// action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum ThrottleScope {
    /// All actions of an account together.
    #[default]
    Account,
    /// Each action of an account by itself.
    Action,
}

/// What `QuerySubscribeRelation` says of a product that has no subscription. Undocumented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum Unsubscribed {
    /// That it has none: `Success: false`.
    #[default]
    Failure,
    /// A subscription to nothing, for nobody.
    Empty,
}

/// The OpenAPI's rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct OpenApi {
    /// How many calls there may be in any second. 5.
    pub calls_per_second: u32,
    /// Of what.
    pub throttle: ThrottleScope,
    /// How far a call's timestamp may be off, both ways. 15 min.
    #[serde(with = "duration")]
    pub timestamp_window: Duration,
    /// How often the figures of `QueryConsumerGroupStatus` are made; in between they stay as they are. Undocumented; 5 s.
    /// `0s` shows the figures of the moment.
    #[serde(with = "duration")]
    pub figures_every: Duration,
    /// Whether client IDs and addresses in it are masked, as they are in the vendor's examples. Not by default.
    pub mask_clients: bool,
    /// What is said of a product that has no subscription.
    pub unsubscribed: Unsubscribed,
    /// Consumer groups per product. 10.
    pub groups_per_product: usize,
    /// Products per consumer group. 1,000.
    pub products_per_group: usize,
    /// Consumer groups per account. 1,000.
    pub groups_per_account: usize,
    /// The largest request body. The emulator's own; 256 KiB.
    pub max_body_bytes: usize,
}

impl Default for OpenApi {
    fn default() -> Self {
        Self {
            calls_per_second: 5,
            throttle: ThrottleScope::Account,
            timestamp_window: Duration::from_mins(15),
            figures_every: Duration::from_secs(5),
            mask_clients: false,
            unsubscribed: Unsubscribed::Failure,
            groups_per_product: 10,
            products_per_group: 1_000,
            groups_per_account: 1_000,
            max_body_bytes: 256 * 1024,
        }
    }
}

impl OpenApi {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.calls_per_second == 0 {
            let reason = "must be 1 or more".to_owned();
            return Err(ConfigError::Value { field: "openApi.callsPerSecond", reason });
        }
        Ok(())
    }
}

/// The token service's rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sts {
    /// How many calls of an account there may be in any second. 100.
    pub calls_per_second: u32,
    /// The shortest session. 15 min.
    #[serde(with = "duration")]
    pub min_duration: Duration,
    /// The session of those who ask for no other, as far as the role allows. 1 h.
    #[serde(with = "duration")]
    pub default_duration: Duration,
    /// How long a session really lasts, whatever was asked for. A test aid, for clients that ask for 15 min at least.
    #[serde(deserialize_with = "some_duration")]
    pub sessions_last: Option<Duration>,
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(deserializer).map(Some)
}

impl Default for Sts {
    fn default() -> Self {
        Self {
            calls_per_second: 100,
            min_duration: Duration::from_mins(15),
            default_duration: Duration::from_hours(1),
            sessions_last: None,
        }
    }
}

impl Sts {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |field, reason: &str| Err(ConfigError::Value { field, reason: reason.to_owned() });
        if self.calls_per_second == 0 {
            return wrong("sts.callsPerSecond", "must be 1 or more");
        }
        if self.default_duration < self.min_duration {
            return wrong("sts.defaultDuration", "must not be less than sts.minDuration");
        }
        Ok(())
    }
}
