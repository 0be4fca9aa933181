//! The emulator's admin API, as far as the demo needs it.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use ureq::{Agent, Body, http::Response};

/// How many fates are read at once.
const PAGE: u32 = 5000;

/// What the emulator counts for a consumer group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Counts {
    pub(crate) published: u64,
    pub(crate) accepted: u64,
    pub(crate) released: u64,
    pub(crate) backlog: u64,
    /// Pushed, and not answered yet.
    pub(crate) unsettled: u64,
}

/// What became of a message on the platform.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Fate {
    /// Its place in the order of publication.
    pub(crate) seq: u64,
    pub(crate) id: String,
    /// When it was accepted, in microseconds since the Unix epoch.
    pub(crate) accepted_at_us: Option<u64>,
}

/// A client of the admin API, for one consumer group.
pub(crate) struct Emulator {
    agent: Agent,
    base: String,
    group: &'static str,
}

impl Emulator {
    /// `http` is the address that the emulator announced, with or without a scheme.
    pub(crate) fn new(http: &str, group: &'static str) -> Self {
        let config = Agent::config_builder().timeout_global(Some(Duration::from_secs(10))).http_status_as_error(false);
        let agent = config.build().new_agent();
        let base = if http.contains("://") { http.to_owned() } else { format!("http://{http}") };
        Self { agent, base, group }
    }

    /// Has `devices` devices publish `rate` messages a second together, until told to stop.
    pub(crate) fn start_devices(&self, rate: u32, devices: u32) -> Result<()> {
        #[derive(Serialize)]
        struct Start {
            group: &'static str,
            rate: u32,
            devices: u32,
        }
        self.post("/admin/devices", &Start { group: self.group, rate, devices })
    }

    /// Has the devices stop.
    pub(crate) fn stop_devices(&self) -> Result<()> {
        #[derive(Serialize)]
        struct Stop {
            stop: bool,
        }
        self.post("/admin/devices", &Stop { stop: true })
    }

    /// What the group's messages have come to.
    pub(crate) fn counts(&self) -> Result<Counts> {
        self.get(&format!("/admin/groups/{}", self.group))
    }

    /// The fates of all messages published after the one in place `after`.
    pub(crate) fn fates(&self, mut after: u64) -> Result<Vec<Fate>> {
        #[derive(Deserialize)]
        struct Page {
            messages: Vec<Fate>,
            next: u64,
        }
        let mut fates = Vec::new();
        loop {
            let page: Page = self.get(&format!("/admin/messages?group={}&after={after}&limit={PAGE}", self.group))?;
            if page.messages.is_empty() || page.next <= after {
                return Ok(fates);
            }
            fates.extend(page.messages);
            after = page.next;
        }
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.agent.get(format!("{}{path}", self.base)).call();
        let mut body = granted(answer).with_context(|| format!("GET {path}"))?;
        body.read_json().with_context(|| format!("the answer to GET {path}"))
    }

    fn post(&self, path: &str, body: &impl Serialize) -> Result<()> {
        let answer = self.agent.post(format!("{}{path}", self.base)).send_json(body);
        granted(answer).map(drop).with_context(|| format!("POST {path}"))
    }
}

/// The body of an answer; of a refusal, an error with what the emulator says.
fn granted(answer: Result<Response<Body>, ureq::Error>) -> Result<Body> {
    let (head, mut body) = answer?.into_parts();
    if !head.status.is_success() {
        bail!("{}: {}", head.status, body.read_to_string().unwrap_or_default().trim());
    }
    Ok(body)
}
