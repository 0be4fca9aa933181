//! Every limit and every time of the platform, as a parameter. The defaults are the platform's own values (PLATFORM.md
//! 1.1 to 1.8); tests shorten them, none is ever skipped.

use std::time::Duration;

use serde::Deserialize;

use crate::duration;

/// The limits. Durations are written with a unit: `500ms`, `15s`, `5m`, `24h`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// From the TCP connection to a successful SASL outcome. 15 s.
    #[serde(with = "duration")]
    pub auth_deadline: Duration,
    /// From the Open, or from the loss of a link, to a receiver link. 15 s.
    #[serde(with = "duration")]
    pub link_deadline: Duration,
    /// The smallest idle-time-out a client's Open may carry. 30 s.
    #[serde(with = "duration")]
    pub idle_time_out_min: Duration,
    /// The largest. 300 s.
    #[serde(with = "duration")]
    pub idle_time_out_max: Duration,
    /// Connections per group. 64.
    pub clients_per_group: u32,
    /// Attempts to connect per group in any 60 s. 100.
    pub connect_attempts_per_minute: u32,
    /// Real-time messages pushed per second and connection. 1,000.
    pub real_time_per_connection: u32,
    /// Backlog messages pushed per second and group. 200.
    pub backlog_per_group: u32,
    /// How long a client may take to answer for a delivery. 30 s.
    #[serde(with = "duration")]
    pub ack_timeout: Duration,
    /// From a failed push to the next try. 1 min.
    #[serde(with = "duration")]
    pub retry_after: Duration,
    /// The same for what was unsettled on a link that was lost. Undocumented; 1 min.
    #[serde(with = "duration")]
    pub retry_after_link_loss: Duration,
    /// How long a real-time message waits for someone to take it. Undocumented; 1 s.
    #[serde(with = "duration")]
    pub real_time_wait: Duration,
    /// How long the backlog keeps a message. 1 day.
    #[serde(with = "duration")]
    pub retention: Duration,
    /// How many messages the backlog of a group holds. 100 million.
    pub backlog_capacity: u64,
    /// The largest payload. 256 KiB, as for MQTT devices. A larger one is dropped when it is published.
    pub max_payload_bytes: usize,
    /// How far the timestamp of a user name may be from the platform's clock, where a profile has it matter. Undocumented;
    /// 15 min.
    #[serde(with = "duration")]
    pub timestamp_window: Duration,
    /// For how long messages go to the clients of a group unevenly after its membership has changed. 10 min.
    #[serde(with = "duration")]
    pub uneven_for: Duration,
    /// How many settled messages the fate log keeps; with 0 it keeps counts alone. The emulator's own; 1 million, at some
    /// 200 bytes each.
    pub fate_log_messages: usize,
    /// How many bytes messages may take that are not settled, over all groups. Beyond that devices wait, and the admin API
    /// publishes nothing. The emulator's own; 4 GiB.
    pub held_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            auth_deadline: Duration::from_secs(15),
            link_deadline: Duration::from_secs(15),
            idle_time_out_min: Duration::from_secs(30),
            idle_time_out_max: Duration::from_mins(5),
            clients_per_group: 64,
            connect_attempts_per_minute: 100,
            real_time_per_connection: 1_000,
            backlog_per_group: 200,
            ack_timeout: Duration::from_secs(30),
            retry_after: Duration::from_mins(1),
            retry_after_link_loss: Duration::from_mins(1),
            real_time_wait: Duration::from_secs(1),
            retention: Duration::from_hours(24),
            backlog_capacity: 100_000_000,
            max_payload_bytes: 256 * 1024,
            timestamp_window: Duration::from_mins(15),
            uneven_for: Duration::from_mins(10),
            fate_log_messages: 1_000_000,
            held_bytes: 4 * 1024 * 1024 * 1024,
        }
    }
}
