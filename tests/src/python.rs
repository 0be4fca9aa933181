//! Clients in Python: the scripts of `tests/clients/`, with qpid-proton underneath.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Deserialize;

use crate::process::Process;
use crate::tools;

/// A command that runs a script of `tests/clients/`, without its arguments.
pub fn script(name: &str) -> Result<Command> {
    let python = tools::ensure_python_proton()?;
    let mut command = Command::new(&python.interpreter);
    command.envs(python.environment.iter().map(|(name, value)| (name, value)));
    // Leaves no compiled files in the source tree.
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name));
    Ok(command)
}

/// Where a receiver connects, and as whom.
#[derive(Debug, Clone)]
pub struct ReceiverOptions<'a> {
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
    /// The AccessKey's ID.
    pub access_key_id: &'a str,
    /// The AccessKey's secret.
    pub access_key_secret: &'a str,
    /// How many messages to accept before leaving.
    pub count: usize,
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

/// A running `proton_receiver.py`. Dropping it ends it.
#[derive(Debug)]
pub struct Receiver(Process);

impl Receiver {
    /// Starts it.
    pub fn start(options: &ReceiverOptions<'_>) -> Result<Self> {
        let mut command = script("proton_receiver.py")?;
        command.args(["--host", "127.0.0.1", "--port", &options.port.to_string()]);
        command.arg("--ca").arg(options.authority);
        command.args(["--group", options.group, "--instance", options.instance, "--client-id", options.client_id]);
        command.args(["--access-key", options.access_key_id, "--secret", options.access_key_secret]);
        command.args(["--count", &options.count.to_string()]);
        Ok(Self(Process::spawn("the Python receiver", &mut command)?))
    }

    /// The next message it printed, waiting for at most `bound`.
    pub fn next(&mut self, bound: Duration) -> Result<Received> {
        let line = self.0.next_line(bound)?;
        serde_json::from_str(&line).with_context(|| format!("the Python receiver printed: {line}"))
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
