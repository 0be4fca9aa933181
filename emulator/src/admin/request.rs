//! What the admin API is asked: its JSON bodies and queries, and the checks that their types can't make.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer};

use crate::instances::DEFAULT_GROUP;
use crate::message::{BodySection, Draft, DraftId};
use crate::platform::{GroupLimits, Seq};

/// How many fates one page has, by default and at most.
const PAGE: usize = 1_000;
/// Nothing else is done meanwhile.
const MAX_PAGE: usize = 10_000;
/// Data sections per message, at most.
const MAX_DATA_SECTIONS: u16 = 1_000;

/// `POST /admin/publish`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PublishRequest {
    group: Option<String>,
    messages: Vec<PublishedMessage>,
}

/// One message. `topic` and `payload` (Base64) are what a test needs as a rule; `bodySection`, `dataSections` and a
/// `messageId` of `null` make messages that the platform would not send, to see what a client does with them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PublishedMessage {
    topic: String,
    payload: String,
    /// Left out: the platform's own. `null`: the message carries none.
    #[serde(default, deserialize_with = "message_id")]
    message_id: DraftId,
    generate_time: Option<i64>,
    body_section: Option<Section>,
    data_sections: Option<u16>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Section {
    Data,
    Value,
    None,
}

/// Reads a message ID that is there, be it `null`.
fn message_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<DraftId, D::Error> {
    Option::deserialize(deserializer).map(|id| id.map_or(DraftId::Hidden, DraftId::Given))
}

impl PublishRequest {
    /// The group that is meant; without one, messages go where their topics' subscriptions say.
    pub(super) fn group(&self) -> Option<&str> {
        self.group.as_deref()
    }

    /// The messages, or what is wrong with the first bad one.
    pub(super) fn into_drafts(self, max_payload_bytes: usize) -> Result<Vec<Draft>, String> {
        let drafts = self.messages.into_iter().enumerate();
        drafts
            .map(|(index, message)| {
                message.into_draft(max_payload_bytes).map_err(|reason| format!("messages[{index}]: {reason}"))
            })
            .collect()
    }
}

impl PublishedMessage {
    fn into_draft(self, max_payload_bytes: usize) -> Result<Draft, String> {
        if self.topic.is_empty() {
            return Err("topic is empty".to_owned());
        }
        let payload = STANDARD.decode(&self.payload).map_err(|error| format!("payload is not Base64: {error}"))?;
        if payload.len() > max_payload_bytes {
            return Err(format!("payload has {} bytes, the limit is {max_payload_bytes}", payload.len()));
        }
        if self.message_id == DraftId::Given(String::new()) {
            return Err("messageId is empty".to_owned());
        }
        let data_sections = self.data_sections.unwrap_or(1);
        if !(1..=MAX_DATA_SECTIONS).contains(&data_sections) {
            return Err(format!("dataSections is {data_sections}, must be 1 to {MAX_DATA_SECTIONS}"));
        }
        let body = match self.body_section.unwrap_or(Section::Data) {
            Section::Data => BodySection::Data,
            Section::Value => BodySection::Value,
            Section::None => BodySection::None,
        };
        let (topic, payload) = (self.topic, Bytes::from(payload));
        Ok(Draft { topic, payload, id: self.message_id, generate_time_ms: self.generate_time, body, data_sections })
    }
}

/// `POST /admin/groups/GROUP`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct LimitsRequest {
    clients_per_group: Option<u32>,
    connect_attempts_per_minute: Option<u32>,
}

impl LimitsRequest {
    /// The limits that are meant, where these are the present ones.
    pub(super) fn over(&self, limits: GroupLimits) -> GroupLimits {
        GroupLimits {
            clients_per_group: self.clients_per_group.unwrap_or(limits.clients_per_group),
            connect_attempts_per_minute: self.connect_attempts_per_minute.unwrap_or(limits.connect_attempts_per_minute),
        }
    }
}

/// `GET /admin/messages`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FatesQuery {
    group: Option<String>,
    after: Option<Seq>,
    limit: Option<usize>,
}

impl FatesQuery {
    pub(super) fn group(&self) -> &str {
        self.group.as_deref().unwrap_or(DEFAULT_GROUP)
    }

    pub(super) fn after(&self) -> Seq {
        self.after.unwrap_or(0)
    }

    pub(super) fn limit(&self) -> Result<usize, String> {
        match self.limit.unwrap_or(PAGE) {
            limit @ 1..=MAX_PAGE => Ok(limit),
            limit => Err(format!("limit is {limit}, must be 1 to {MAX_PAGE}")),
        }
    }
}
