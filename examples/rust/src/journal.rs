//! A journal of what happened to each message, in JSON lines, for measuring. Not needed to consume messages.
//!
//! Times (`atUs`, `sentAtUs`) are microseconds since the Unix epoch, so they compare with those of other processes on
//! this machine.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sluice_proto::v1::Delivery;

/// What the sidecar made of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Outcome {
    Settled,
    RetryScheduled,
    HandedBack,
    Expired,
    LinkLost,
    Unknown,
}

#[derive(Serialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Event<'a> {
    Delivered { id: &'a str, attempt: u32, sent_at_us: Option<u64>, at_us: u64 },
    Acked { id: &'a str, at_us: u64 },
    LinkUp { at_us: u64 },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResultEvent<'a> {
    event: Outcome,
    id: &'a str,
    at_us: u64,
}

/// Writes events to a file. Measuring must not disturb consuming: when writing fails, it says so and stops.
pub(crate) struct Journal {
    out: Option<BufWriter<Box<dyn Write + Send>>>,
}

impl Journal {
    /// Opens the file `path`, emptying it, or standard output for `-`.
    pub(crate) fn open(path: &str) -> Result<Self> {
        let out: Box<dyn Write + Send> = match path {
            "-" => Box::new(io::stdout()),
            path => Box::new(File::create(path).with_context(|| format!("creating the journal {path}"))?),
        };
        Ok(Self { out: Some(BufWriter::new(out)) })
    }

    /// A delivery has arrived.
    pub(crate) fn delivered(&mut self, delivery: &Delivery) {
        let at_us = now_us();
        let sent_at_us = sent_at_us(&delivery.payload);
        self.write(&Event::Delivered { id: &delivery.message_id, attempt: delivery.attempt, sent_at_us, at_us });
    }

    /// The ack of a message is about to be sent.
    pub(crate) fn acked(&mut self, message_id: &str) {
        self.write(&Event::Acked { id: message_id, at_us: now_us() });
    }

    /// The sidecar has said that its link is up: messages can flow from here on.
    pub(crate) fn link_up(&mut self) {
        self.write(&Event::LinkUp { at_us: now_us() });
    }

    /// The sidecar has answered a verdict.
    pub(crate) fn result(&mut self, event: Outcome, message_id: &str) {
        self.write(&ResultEvent { event, id: message_id, at_us: now_us() });
    }

    /// Hands everything written so far to the reader.
    pub(crate) fn flush(&mut self) {
        self.attempt(Write::flush);
    }

    fn write(&mut self, event: &impl Serialize) {
        self.attempt(|out| {
            serde_json::to_writer(&mut *out, event)?;
            out.write_all(b"\n")
        });
    }

    fn attempt(&mut self, write: impl FnOnce(&mut BufWriter<Box<dyn Write + Send>>) -> io::Result<()>) {
        let Some(out) = &mut self.out else { return };
        if let Err(error) = write(out) {
            eprintln!("no journal from here on: {error}");
            self.out = None;
        }
    }
}

fn now_us() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}

/// When the device sent the message, if its payload says so: the property `sentAtUs` of a property post, or the field
/// of that name at the top.
fn sent_at_us(payload: &[u8]) -> Option<u64> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload {
        sent_at_us: Option<u64>,
        items: Option<Items>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Items {
        sent_at_us: Option<Property>,
    }
    #[derive(Deserialize)]
    struct Property {
        value: u64,
    }

    let payload: Payload = serde_json::from_slice(payload).ok()?;
    payload.sent_at_us.or_else(|| Some(payload.items?.sent_at_us?.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_sending_is_found_in_a_property_post() {
        let payload = br#"{"productKey":"a1","items":{"Power":{"value":"on"},"sentAtUs":{"value":17,"time":1}}}"#;
        assert_eq!(sent_at_us(payload), Some(17));
    }

    #[test]
    fn the_time_of_sending_is_found_at_the_top() {
        assert_eq!(sent_at_us(br#"{"status":"online","sentAtUs":18}"#), Some(18));
    }

    #[test]
    fn a_payload_without_a_time_of_sending_has_none() {
        for payload in [&b"\xff\x00"[..], b"", b"[]", b"{}", br#"{"items":{}}"#, br#"{"items":[1]}"#] {
            assert_eq!(sent_at_us(payload), None, "{payload:?}");
        }
    }

    #[test]
    fn an_event_is_one_line_of_json() {
        let delivered = Event::Delivered { id: "m1", attempt: 2, sent_at_us: None, at_us: 5 };
        let json = serde_json::to_string(&delivered).unwrap();
        assert_eq!(json, r#"{"event":"delivered","id":"m1","attempt":2,"sentAtUs":null,"atUs":5}"#);
        let settled = ResultEvent { event: Outcome::Settled, id: "m1", at_us: 6 };
        assert_eq!(serde_json::to_string(&settled).unwrap(), r#"{"event":"settled","id":"m1","atUs":6}"#);
    }
}
