//! What the platform does where its documents are silent or contradict each other: each question is a field, each answer that
//! the platform might give is a value. The defaults are the safest reading: what a client survives under them is what the
//! documents promise, and no more. A run under other values shows whether a client relies on more than that.
//!
//! [`FIELDS`] says of each field which values it has and what is not known; the committed file is made from it, and the tests
//! hold it against the types.

mod cover;
mod fields;
#[cfg(test)]
mod tests;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::cover::Variation;
pub use self::fields::{FIELDS, Field};
use crate::config::ConfigError;

/// When a message that came back unaccepted is pushed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Redelivery {
    /// After [`Limits::retry_after`](crate::Limits::retry_after), by way of the backlog.
    #[default]
    AfterRetry,
    /// At once, by way of the backlog.
    AtOnce,
    /// Never: the platform has done with it.
    Never,
}

/// What an answer means that comes after the ACK timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LateAnswer {
    /// Nothing: the message comes again.
    #[default]
    Ignored,
    /// What it says, if the message has not been pushed again meanwhile.
    Counts,
}

/// What becomes of a client beyond the group's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SurplusClient {
    /// Its Open is answered with a Close.
    #[default]
    Open,
    /// SASL refuses it as it refuses wrong credentials.
    Sasl,
    /// SASL refuses it for the time being.
    SaslTemporary,
    /// Its link is refused.
    Attach,
    /// It attaches, and is never given a message.
    Starved,
    /// It comes in, and the oldest client of the group is closed.
    EvictsOldest,
}

/// Where an attempt to connect beyond the rate is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SurplusAttempt {
    /// Its Open is answered with a Close.
    #[default]
    Open,
    /// SASL refuses it as it refuses wrong credentials.
    Sasl,
}

/// What is counted against the limit of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ClientsCounted {
    /// Connections.
    #[default]
    Connections,
    /// Client IDs: several connections of one are one client.
    ClientIds,
}

/// What happens when a client ID comes that is connected already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SameClientId {
    /// Both connections stay.
    #[default]
    BothStay,
    /// The older connection is closed.
    ClosesOlder,
}

/// What becomes of a real-time message that nobody can be given at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Overflow {
    /// It waits for [`Limits::real_time_wait`](crate::Limits::real_time_wait), then goes to the backlog.
    #[default]
    Wait,
    /// It goes to the backlog at once.
    Backlog,
}

/// What the rate of real-time pushes is a rate of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum PushRate {
    /// Each connection has it.
    #[default]
    PerConnection,
    /// All connections of the group share it.
    PerGroup,
}

/// Among which clients the one is drawn that a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ChosenClient {
    /// Among those that have credit and are within their rate.
    #[default]
    Able,
    /// Among all that have a link; one that can't take it has the message overflow.
    Any,
}

/// What a message that keeps failing does to the backlog behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum BacklogOrder {
    /// It waits for its next try, and others pass it.
    #[default]
    FailedPass,
    /// It stays where it is, and what came after it waits for it.
    FailedBlock,
}

/// How much of a disposition's range is heeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum DispositionRanges {
    /// All of it, as AMQP has it.
    #[default]
    All,
    /// Its first delivery.
    FirstOnly,
}

/// What the expiry of a security token does to the connection that was made with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TokenExpiry {
    /// Nothing.
    #[default]
    LivesOn,
    /// It is closed.
    Closes,
}

/// Which key a connection with a security token names and signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum StsKey {
    /// The temporary one that came with the token.
    #[default]
    Temporary,
    /// That of the user who assumed the role.
    Owner,
}

/// How strictly the timestamp in a user name is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Timestamp {
    /// Any will do, as long as it is the one that was signed.
    #[default]
    Any,
    /// It must be within [`Limits::timestamp_window`](crate::Limits::timestamp_window) of the platform's clock.
    Fresh,
}

/// How large a SASL frame may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SaslFrame {
    /// As large as any other: a security token fits.
    #[default]
    AnySize,
    /// 512 bytes, as AMQP 1.0, 5.3.1, has it.
    Within512,
}

/// The idle-time-out in the platform's Open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OpenIdleTimeOut {
    /// Half of the client's, as AMQP 1.0, 2.4.5, recommends.
    #[default]
    Half,
    /// None.
    Absent,
    /// The client's own.
    Equal,
}

/// The properties in the platform's Open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OpenProperties {
    /// A few bytes.
    #[default]
    Small,
    /// Some 4 KiB.
    Large,
}

/// Which versions of TLS there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum TlsVersions {
    /// 1.2 and 1.3.
    #[default]
    Both,
    /// 1.2 alone.
    Only12,
}

/// What `generateTime` is among a message's application properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum GenerateTime {
    /// A long.
    #[default]
    Long,
    /// A string of digits.
    String,
}

/// Whether `message-id` is among a message's standard properties.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum MessageId {
    /// It is not.
    #[default]
    Absent,
    /// It is, and equals the application property `messageId`.
    Present,
}

/// What a Close or Detach of the platform's says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ClosingWords {
    /// A condition of AMQP's, and a description.
    #[default]
    Standard,
    /// A condition that no standard knows, and a description.
    Vendor,
    /// No error at all.
    Bare,
}

/// See the module. Which values mean what, and what the documents leave open, is in [`FIELDS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(missing_docs, reason = "`FIELDS` documents them, for people who write profiles as well")]
pub struct Profile {
    pub released: Redelivery,
    pub rejected: Redelivery,
    pub modified: Redelivery,
    pub late_answer: LateAnswer,
    pub surplus_client: SurplusClient,
    pub surplus_attempt: SurplusAttempt,
    pub clients_counted: ClientsCounted,
    pub same_client_id: SameClientId,
    pub without_credit: Overflow,
    pub throttled: Overflow,
    pub push_rate: PushRate,
    pub chosen_client: ChosenClient,
    pub backlog_order: BacklogOrder,
    pub disposition_ranges: DispositionRanges,
    pub token_expiry: TokenExpiry,
    pub sts_key: StsKey,
    pub timestamp: Timestamp,
    pub sasl_frame: SaslFrame,
    pub open_idle_time_out: OpenIdleTimeOut,
    pub open_properties: OpenProperties,
    pub tls_versions: TlsVersions,
    pub generate_time: GenerateTime,
    pub message_id: MessageId,
    pub closing_words: ClosingWords,
}

/// There is no such field, or it has no such value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {value}: {reason}")]
pub struct UnknownValue {
    field: String,
    value: String,
    reason: String,
}

impl Profile {
    /// Reads a YAML (or JSON) file. What it leaves out has its default.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        // A file of nothing but comments says nothing.
        if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
            return Ok(Self::default());
        }
        serde_saphyr::from_str(&text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            what: "a profile",
            reason: error.to_string(),
        })
    }

    /// The same with another value in one field.
    pub fn with(&self, field: &str, value: &str) -> Result<Self, UnknownValue> {
        let changed = serde_json::to_value(self).and_then(|mut object| {
            object[field] = Value::String(value.to_owned());
            serde_json::from_value(object)
        });
        changed.map_err(|error| UnknownValue {
            field: field.to_owned(),
            value: value.to_owned(),
            reason: error.to_string(),
        })
    }

    /// The defaults as a YAML file: each field with its other values, and what the documents leave open.
    #[must_use]
    pub fn commented() -> String {
        fields::commented()
    }

    /// Every value that is not a default, each alone.
    #[must_use]
    pub fn alone() -> Vec<Variation> {
        cover::alone()
    }

    /// So few profiles that every two values of any two fields come together in one of them.
    #[must_use]
    pub fn pairs() -> Vec<Variation> {
        cover::pairs()
    }
}
