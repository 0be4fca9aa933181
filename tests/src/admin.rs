//! A client of the emulator's admin API.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use ureq::Agent;

use crate::wait;

/// The admin API at one address.
#[derive(Debug, Clone)]
pub struct Admin {
    base: String,
    agent: Agent,
}

/// A message to publish.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMessage {
    /// The topic.
    pub topic: String,
    /// The payload in Base64.
    pub payload: String,
    /// Whether it has an ID that its receiver sees.
    #[serde(skip_serializing_if = "MessageId::is_assigned")]
    pub message_id: MessageId,
    /// The section that holds the payload.
    pub body_section: BodySection,
}

/// The ID of a message to publish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum MessageId {
    /// The emulator makes one.
    #[default]
    Assigned,
    /// The message is sent without one; `null` in JSON.
    Hidden,
}

impl MessageId {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
    fn is_assigned(&self) -> bool {
        *self == Self::Assigned
    }
}

/// The section of a message that holds its payload.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum BodySection {
    /// Data, as the platform sends.
    #[default]
    Data,
    /// An AMQP value.
    Value,
    /// No body at all.
    None,
}

/// What the emulator can be told to do to its connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fault {
    /// Close them, with an error.
    Close,
    /// Detach their links, with an error.
    Detach,
    /// Drop TCP without a word.
    Drop,
}

impl NewMessage {
    /// A message with an ID of the emulator's making.
    pub fn new(topic: &str, payload: &[u8]) -> Self {
        Self { topic: topic.to_owned(), payload: BASE64.encode(payload), ..Self::default() }
    }
}

/// What the emulator has counted for a group since its start, and what there is now.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Counts {
    /// Messages published.
    pub published: u64,
    /// Copies of messages that were pushed again because an admin wanted it.
    pub repeated: u64,
    /// Transfers sent, repeats included.
    pub pushed: u64,
    /// Settled as accepted.
    pub accepted: u64,
    /// Settled as released.
    pub released: u64,
    /// Settled as rejected.
    pub rejected: u64,
    /// Settled as modified.
    pub modified: u64,
    /// Not answered within the ACK timeout.
    pub expired: u64,
    /// Given up by the platform.
    pub dropped: u64,
    /// Real-time messages that wait for someone to take them, now.
    pub waiting: u64,
    /// In the backlog now.
    pub backlog: u64,
    /// Pushed and not settled, now.
    pub unsettled: u64,
    /// Clients connected now.
    pub clients: u64,
    /// The most clients that were ever connected at a time.
    pub clients_peak: u64,
    /// Connection attempts.
    pub connect_attempts: u64,
    /// The most connection attempts in any 60 s.
    pub connect_attempts_peak_per_minute: u64,
}

/// One event in a message's life.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct FateEvent {
    /// When, in Unix µs.
    pub at: u64,
    /// What happened.
    pub event: String,
    /// More about it.
    #[serde(default)]
    pub detail: Option<String>,
    /// The client it happened with.
    #[serde(default)]
    pub client: Option<String>,
}

/// What became of a message, in short.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Fate {
    /// Its place in the order of publication.
    pub seq: u64,
    /// Its ID. A copy that an admin wanted has that of the message, and a fate of its own.
    pub id: String,
    /// When it was accepted, in Unix µs.
    pub accepted_at_us: Option<u64>,
    /// Where it stands: `waiting`, `backlog`, `unsettled`, `accepted` or `dropped`.
    pub state: String,
}

/// An open connection.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Connection {
    /// The client ID.
    pub client: String,
    /// Names it in a fault.
    pub number: u64,
    /// Whether it is beyond the limit of its group.
    pub surplus: bool,
}

/// Whether the platform finds its own books in order.
#[derive(Debug, Clone, Deserialize)]
#[non_exhaustive]
pub struct Audit {
    /// It does.
    pub consistent: bool,
    /// What is wrong.
    pub violations: Vec<String>,
}

impl Admin {
    /// The API at `address` (`HOST:PORT`).
    pub fn new(address: &str) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(30)))
            // The body of a refusal says what is wrong.
            .http_status_as_error(false)
            .build();
        Self { base: format!("http://{address}/admin"), agent: config.into() }
    }

    /// Publishes messages to `group`, and returns their IDs in order.
    pub fn publish(&self, group: &str, messages: &[NewMessage]) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            message_ids: Vec<String>,
        }
        let answer: Answer = self.post("publish", &json!({"group": group, "messages": messages}))?;
        Ok(answer.message_ids)
    }

    /// The counts of a group.
    pub fn group(&self, group: &str) -> Result<Counts> {
        self.get(&format!("groups/{group}"))
    }

    /// Waits until the counts of a group are as wanted, for at most `bound`; the last counts seen are in the error.
    pub fn wait_for(&self, group: &str, bound: Duration, wanted: impl Fn(&Counts) -> bool) -> Result<Counts> {
        let mut last = None;
        let found = wait::until(bound, || {
            let counts = self.group(group);
            let found = counts.as_ref().ok().filter(|counts| wanted(counts)).cloned();
            last = Some(counts);
            found
        });
        match (found, last) {
            (Some(counts), _) => Ok(counts),
            (None, Some(Err(error))) => Err(error),
            (None, counts) => bail!("the counts of {group} are not as wanted after {bound:?}: {counts:?}"),
        }
    }

    /// What became of a message.
    pub fn fate(&self, message_id: &str) -> Result<Vec<FateEvent>> {
        self.get(&format!("messages/{message_id}"))
    }

    /// What became of every message of a group, in the order of publication.
    pub fn fates(&self, group: &str) -> Result<Vec<Fate>> {
        #[derive(Deserialize)]
        struct Page {
            messages: Vec<Fate>,
            next: u64,
        }
        let (mut fates, mut after) = (Vec::new(), 0);
        loop {
            let page: Page = self.get(&format!("messages?group={group}&after={after}"))?;
            if page.messages.is_empty() {
                return Ok(fates);
            }
            fates.extend(page.messages);
            after = page.next;
        }
    }

    /// The open connections of a group, in the order in which they came.
    pub fn connections(&self, group: &str) -> Result<Vec<Connection>> {
        #[derive(Deserialize)]
        struct Answer {
            connections: Vec<Connection>,
        }
        let mut answer: Answer = self.get(&format!("connections?group={group}"))?;
        answer.connections.sort_unstable_by_key(|connection| connection.number);
        Ok(answer.connections)
    }

    /// Whether the platform finds its own books in order.
    pub fn audit(&self) -> Result<Audit> {
        self.get("audit")
    }

    /// Makes an access key, or gives it another secret; or disables it.
    pub fn key(&self, id: &str, secret: Option<&str>, enabled: bool) -> Result<()> {
        let mut body = json!({"id": id, "enabled": enabled});
        if let Some(secret) = secret {
            body["secret"] = json!(secret);
        }
        self.post::<Value>("keys", &body).map(drop)
    }

    /// What was asked of the OpenAPI, by account, product and action.
    pub fn api(&self) -> Result<Value> {
        self.get("api")
    }

    /// Has devices publish so many messages a second to a group, until this is said again; 0 stops them.
    pub fn devices(&self, group: &str, rate: u32) -> Result<()> {
        let body = if rate == 0 { json!({"stop": true}) } else { json!({"group": group, "rate": rate}) };
        self.post::<Value>("devices", &body).map(drop)
    }

    /// Injects a fault, and returns how many connections it met.
    pub fn inject(&self, fault: Fault) -> Result<usize> {
        self.fault(&json!({"action": fault}))
    }

    /// The same for the connections of one group.
    pub fn inject_into(&self, group: &str, fault: Fault) -> Result<usize> {
        self.fault(&json!({"action": fault, "group": group}))
    }

    /// Injects whatever `POST /admin/faults` takes, and returns how many connections or messages it met.
    pub fn fault(&self, body: &Value) -> Result<usize> {
        #[derive(Deserialize)]
        struct Answer {
            affected: usize,
        }
        let answer: Answer = self.post("faults", body)?;
        Ok(answer.affected)
    }

    fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        let response = self.agent.post(format!("{}/{path}", self.base)).send_json(body);
        read(path, response)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let response = self.agent.get(format!("{}/{path}", self.base)).call();
        read(path, response)
    }
}

fn read<T: DeserializeOwned>(path: &str, response: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<T> {
    let mut response = response.with_context(|| format!("the emulator does not answer {path}"))?;
    let body = response.body_mut().read_to_string()?;
    if !response.status().is_success() {
        bail!("the emulator answered {path} with {}: {body}", response.status());
    }
    serde_json::from_str(&body).with_context(|| format!("the emulator answered {path} with: {body}"))
}
