//! The figures of a consumer group. They lag behind, and some of them are newer than others: all are optional.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::Instance;
use crate::answer::{Action, Unreadable, parse};
use crate::rpc::{Call, parse_timestamp};

/// Asks for the figures of a group.
#[derive(Clone, Debug)]
pub struct QueryConsumerGroupStatus {
    /// Where.
    pub instance: Instance,
    /// Which group.
    pub group_id: String,
}

/// The figures of a group (PLATFORM.md 4). `None` is unknown, never zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupStatus {
    /// The backlog, in messages (`AccumulationCount`).
    pub backlog: Option<u64>,
    /// What is consumed, in messages per minute (`ConsumerSpeed`).
    pub consumed_per_minute: Option<u64>,
    /// Of it, from the backlog (`AccumulatedConsumeCountPerMinute`).
    pub backlog_per_minute: Option<u64>,
    /// Of it, in real time (`RealTimeConsumeCountPerMinute`).
    pub real_time_per_minute: Option<u64>,
    /// When a message was last consumed, by the platform's clock.
    pub last_consumed: Option<Timestamp>,
    /// The clients that are connected.
    pub clients: Vec<ConnectedClient>,
}

/// A client of a group, as the platform sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectedClient {
    /// Its name, perhaps masked.
    pub id: Option<MaskedId>,
    /// When it came, by the platform's clock.
    pub online_since: Option<Timestamp>,
    /// Its address and port, perhaps masked.
    pub address: Option<String>,
    /// What it consumes from the backlog, in messages per minute.
    pub backlog_per_minute: Option<u64>,
    /// What it consumes in real time, in messages per minute.
    pub real_time_per_minute: Option<u64>,
}

/// A client's ID of which the platform may show a part only: `868575026******`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaskedId(String);

impl MaskedId {
    /// As the platform wrote it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it may stand for `id`: what is shown of it is the same. How many characters a mask hides is not known, so
    /// a run of `*` stands for any number of them.
    pub fn may_be(&self, id: &str) -> bool {
        match (self.0.split_once('*'), self.0.rsplit_once('*')) {
            (Some((head, _)), Some((_, tail))) => {
                id.len() >= head.len() + tail.len() && id.starts_with(head) && id.ends_with(tail)
            }
            _ => self.0 == id,
        }
    }
}

impl Action for QueryConsumerGroupStatus {
    const NAME: &'static str = "QueryConsumerGroupStatus";
    type Answer = GroupStatus;

    fn call(&self) -> Call {
        self.instance.call(Self::NAME, [("GroupId", self.group_id.clone())])
    }

    fn read(&self, body: &[u8]) -> Result<GroupStatus, Unreadable> {
        let wire: StatusWire = parse(body)?;
        Ok(GroupStatus {
            backlog: wire.accumulation_count,
            consumed_per_minute: wire.consumer_speed,
            backlog_per_minute: wire.accumulated_consume_count_per_minute,
            real_time_per_minute: wire.real_time_consume_count_per_minute,
            last_consumed: wire.last_consumer_time,
            clients: wire.client_connection_status_list.into_iter().map(Into::into).collect(),
        })
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct StatusWire {
    #[serde(deserialize_with = "count")]
    accumulation_count: Option<u64>,
    #[serde(deserialize_with = "count")]
    consumer_speed: Option<u64>,
    #[serde(deserialize_with = "count")]
    accumulated_consume_count_per_minute: Option<u64>,
    #[serde(deserialize_with = "count")]
    real_time_consume_count_per_minute: Option<u64>,
    #[serde(deserialize_with = "time")]
    last_consumer_time: Option<Timestamp>,
    #[serde(deserialize_with = "clients")]
    client_connection_status_list: Vec<ClientWire>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct ClientWire {
    #[serde(deserialize_with = "text")]
    client_id: Option<String>,
    #[serde(deserialize_with = "time")]
    online_time: Option<Timestamp>,
    #[serde(deserialize_with = "text")]
    client_ip_port: Option<String>,
    #[serde(deserialize_with = "count")]
    accumulated_consume_count_per_minute: Option<u64>,
    #[serde(deserialize_with = "count")]
    real_time_consume_count_per_minute: Option<u64>,
}

impl From<ClientWire> for ConnectedClient {
    fn from(wire: ClientWire) -> Self {
        Self {
            id: wire.client_id.map(MaskedId),
            online_since: wire.online_time,
            address: wire.client_ip_port,
            backlog_per_minute: wire.accumulated_consume_count_per_minute,
            real_time_per_minute: wire.real_time_consume_count_per_minute,
        }
    }
}

/// A whole number, also if it is written as text.
fn count<'de, D: Deserializer<'de>>(input: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(input)?;
    Ok(value.as_u64().or_else(|| value.as_str()?.parse().ok()))
}

fn text<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::String(text) if !text.is_empty() => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// A point in time: Unix milliseconds, or text.
fn time<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Timestamp>, D::Error> {
    Ok(match Value::deserialize(input)? {
        Value::Number(number) => number.as_i64().and_then(|ms| Timestamp::from_millisecond(ms).ok()),
        Value::String(text) => parse_timestamp(&text).or_else(|| Timestamp::from_millisecond(text.parse().ok()?).ok()),
        _ => None,
    })
}

/// `{"ConsumerGroupClientConnectionInfo": […]}`; no list is an empty one.
fn clients<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<ClientWire>, D::Error> {
    let list = match Value::deserialize(input)? {
        Value::Object(mut object) => object.remove("ConsumerGroupClientConnectionInfo").unwrap_or_default(),
        other => other,
    };
    let Value::Array(list) = list else { return Ok(Vec::new()) };
    Ok(list.into_iter().filter_map(|client| serde_json::from_value(client).ok()).collect())
}
