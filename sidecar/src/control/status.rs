//! How things stand with the broker, for `/status`.

use serde::Serialize;

/// What is being done to hear a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ControlPhase {
    /// None has been found: the next attempt follows soon.
    #[default]
    Away,
    /// An attempt is under way.
    Connecting,
    /// A broker has welcomed this sidecar.
    Connected,
}

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::struct_excessive_bools, reason = "they are independent")]
pub struct ControlStatus {
    /// What is being done to hear a broker.
    pub phase: ControlPhase,
    /// The replica that was spoken with last.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub broker: String,
    /// Its operator's version.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub operator_version: String,
    /// Why the last stream ended or none could be opened; empty while there is one.
    pub reason: String,
    /// Nothing has been heard for so long that connect attempts are made without permits.
    pub alone: bool,
    /// The grant that is held; 0 for none.
    pub epoch: u64,
    /// Its slots.
    pub slots: Vec<u32>,
    /// Why there is no slot, in the broker's words.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub standing_by: String,
    /// The slot was given to another pod.
    pub yielded: bool,
    /// Permits that were asked for and have not come.
    pub permits_awaited: usize,
    /// What was wrong with the broker's last policy.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bad_policy: String,
}
