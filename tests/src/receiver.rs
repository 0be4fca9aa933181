//! Consumers written as strangers would write them: programs of `tests/clients/` in four languages, each on a library of its
//! own and with its own few lines of signing. All take the same arguments and print a line of JSON per message.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::process::Process;
use crate::{python, tools};

/// What a consumer is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Library {
    /// qpid-proton, in Python.
    Proton,
    /// rhea, on Node.
    Rhea,
    /// qpid-jms, in Java.
    Jms,
    /// Azure/go-amqp, in Go.
    GoAmqp,
}

impl Library {
    /// A command that runs the consumer, without its arguments.
    fn command(self) -> Result<Command> {
        Ok(match self {
            Self::Proton => python::script("proton_receiver.py")?,
            Self::Rhea => {
                let modules = tools::ensure_rhea()?;
                let mut node = Command::new("node");
                node.env("NODE_PATH", modules).arg(tools::client("rhea/receiver.js"));
                node
            }
            Self::Jms => {
                let class_path = tools::ensure_jms()?;
                let mut java = Command::new("java");
                // For a short life on few cores.
                java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"]).arg(class_path).arg("Receiver");
                java
            }
            Self::GoAmqp => Command::new(tools::ensure_go_amqp()?),
        })
    }
}

/// Where a receiver connects, as whom, and what it does there.
#[derive(Debug, Clone)]
pub struct ReceiverOptions<'a> {
    /// What it is written with.
    pub library: Library,
    /// Port on 127.0.0.1.
    pub port: u16,
    /// PEM file of the authority to trust.
    pub authority: &'a Path,
    /// The consumer group.
    pub group: &'a str,
    /// The instance.
    pub instance: &'a str,
    /// The client's ID.
    pub client_id: &'a str,
    /// The `AccessKey`'s ID.
    pub access_key_id: &'a str,
    /// The `AccessKey`'s secret.
    pub access_key_secret: &'a str,
    /// How many messages to accept before leaving.
    pub count: usize,
    /// After how many messages to close the connection and go on with another one ([`Library::Rhea`], [`Library::GoAmqp`]).
    pub reconnect_after: Option<usize>,
    /// How many messages to acknowledge at once ([`Library::Jms`]).
    pub acknowledge_every: Option<usize>,
}

/// A message as the receiver printed it. Properties are as they came: strings, numbers, or absent.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Received {
    /// Application property `messageId`.
    pub message_id: serde_json::Value,
    /// Application property `topic`.
    pub topic: serde_json::Value,
    /// Application property `generateTime`.
    pub generate_time: serde_json::Value,
    payload: String,
}

impl Received {
    /// The bytes of the body.
    pub fn payload(&self) -> Result<Vec<u8>> {
        Ok(BASE64.decode(&self.payload)?)
    }
}

/// A running receiver. Dropping it ends it.
#[derive(Debug)]
pub struct Receiver(Process);

impl Receiver {
    /// Starts it.
    pub fn start(options: &ReceiverOptions<'_>) -> Result<Self> {
        let mut command = options.library.command()?;
        command.args(["--host", "127.0.0.1", "--port", &options.port.to_string()]);
        command.arg("--ca").arg(options.authority);
        command.args(["--group", options.group, "--instance", options.instance, "--client-id", options.client_id]);
        command.args(["--access-key", options.access_key_id, "--secret", options.access_key_secret]);
        command.args(["--count", &options.count.to_string()]);
        for (name, value) in
            [("--reconnect-after", options.reconnect_after), ("--acknowledge-every", options.acknowledge_every)]
        {
            if let Some(value) = value {
                command.args([name, &value.to_string()]);
            }
        }
        Ok(Self(Process::spawn(format!("the {:?} receiver", options.library), &mut command)?))
    }

    /// The next message it printed, waiting for at most `bound`.
    pub fn next(&mut self, bound: Duration) -> Result<Received> {
        let line = self.0.next_line(bound)?;
        serde_json::from_str(&line).with_context(|| format!("the receiver printed: {line}"))
    }

    /// Waits for its end, for at most `bound`. An error is what it said went wrong.
    pub fn finish(mut self, bound: Duration) -> Result<(), ReceiverFailed> {
        match self.0.wait(bound) {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(ReceiverFailed(self.0.log())),
            Err(error) => Err(ReceiverFailed(format!("{error:#}"))),
        }
    }
}

/// What the receiver says went wrong.
#[derive(Debug)]
pub struct ReceiverFailed(pub String);

impl std::fmt::Display for ReceiverFailed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReceiverFailed {}
