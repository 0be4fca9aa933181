//! What an admin makes go wrong: to whom, what, and when. [`schedule`] is a pure plan of what is due when; [`injector`]
//! carries it out on the platform, the keys and the gateway.

mod connection;
mod injector;
mod schedule;
#[cfg(test)]
mod tests;

use std::time::Duration;

use serde::{Serialize, Serializer};

pub use self::connection::{Fault, FramePart, Reason};
pub(crate) use self::injector::{Injector, Unable};
pub(crate) use self::schedule::{FaultId, SHORTEST, Schedule, Scheduled, When};

use crate::openapi::Product;

/// Whose connections are meant: all that fit everything that is said here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Target {
    /// A group, by its address.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) group: Option<String>,
    /// A client ID.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
    /// One connection, by its number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) connection: Option<u64>,
}

/// What is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub(crate) enum Action {
    /// A temporary key expires: this one, or those that the connections were made with. Its connections learn of it.
    ExpireToken {
        /// The key's ID.
        #[serde(skip_serializing_if = "Option::is_none")]
        key: Option<String>,
    },
    /// A message is pushed once more, under the same ID.
    Repeat {
        /// The ID.
        message: String,
    },
    /// The next attempts to connect are refused.
    RefuseNext {
        /// So many.
        attempts: u32,
    },
    /// Calls of the API hang for a time.
    FreezeApi(Outage),
    /// Calls of the API are too many for a time, each of them.
    ThrottleApi(Outage),
    /// The API does not work for a time.
    UnavailableApi(Outage),
    /// Something happens to connections.
    #[serde(untagged)]
    Connections(Fault),
}

/// For whom the API misbehaves, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Outage {
    /// Both products when left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) product: Option<Product>,
    /// How long; nothing ends what is under way.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub(crate) lasts: Duration,
}

/// A fault and whom it hits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Injection {
    #[serde(flatten)]
    pub(crate) action: Action,
    #[serde(flatten)]
    pub(crate) target: Target,
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
