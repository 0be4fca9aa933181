//! The sidecar as a process, from a `ConsumerGroup` document and credentials in its environment or in a directory, as it
//! runs without Kubernetes.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_proto::v1::Subscribe;
use tempfile::TempDir;
use ureq::Agent;

use crate::application::Application;
use crate::binaries;
use crate::emulator::{self, Emulator};
use crate::process::Process;
use crate::rabbitmq::{self, RabbitMq};
use crate::wait;

/// How long a sidecar may take to print that it listens.
const START_BOUND: Duration = Duration::from_secs(30);

/// What a sidecar is started with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `ConsumerGroup` document; a test changes what it is about.
    pub document: Value,
    /// `ALIBABA_CLOUD_…` variables. The sidecar sees no others than these.
    pub credentials: Vec<(&'static str, String)>,
    /// `--credentials-dir`, if it is to be given.
    pub credentials_dir: Option<PathBuf>,
    /// Listen on loopback TCP instead of a Unix socket.
    pub tcp: bool,
}

impl Settings {
    /// For a peer on loopback, with an authority of its own.
    pub fn new(port: u16, authority: &Path) -> Self {
        let document = json!({
            "apiVersion": "sluice.dev/v1alpha1",
            "kind": "ConsumerGroup",
            "metadata": {"name": "e2e"},
            "spec": {
                "groupId": emulator::GROUP,
                "instance": {
                    "id": emulator::INSTANCE,
                    "amqpHost": "127.0.0.1",
                    "amqpPort": port,
                    "caBundle": {"file": authority},
                },
                "delivery": {},
            },
        });
        Self { document, credentials: Vec::new(), credentials_dir: None, tcp: false }
            .with_access_key(emulator::ACCESS_KEY_ID, emulator::ACCESS_KEY_SECRET)
    }

    /// For the emulator, with the credentials that it takes.
    pub fn for_emulator(emulator: &Emulator) -> Result<Self> {
        Ok(Self::new(emulator.port()?, emulator.authority()))
    }

    /// For a queue of `RabbitMQ`, with the credentials that it takes.
    pub fn for_rabbitmq(broker: &RabbitMq, queue: &str) -> Self {
        let mut settings = Self::new(broker.port(), &broker.authority())
            .with_access_key(rabbitmq::ACCESS_KEY_ID, rabbitmq::ACCESS_KEY_SECRET);
        settings.document["spec"]["instance"]["sourceAddress"] = json!(RabbitMq::address(queue));
        settings
    }

    /// With this AccessKey instead.
    #[must_use]
    pub fn with_access_key(mut self, id: &str, secret: &str) -> Self {
        self.credentials = vec![
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", id.to_owned()),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", secret.to_owned()),
        ];
        self
    }

    /// With this security token besides.
    #[must_use]
    pub fn with_security_token(mut self, token: &str) -> Self {
        self.credentials.push(("ALIBABA_CLOUD_SECURITY_TOKEN", token.to_owned()));
        self
    }

    /// With the AccessKey in this directory, and none in the environment.
    #[must_use]
    pub fn with_credentials_dir(mut self, directory: &Path) -> Self {
        self.credentials = Vec::new();
        self.credentials_dir = Some(directory.to_owned());
        self
    }

    /// Listening on loopback TCP.
    #[must_use]
    pub fn on_tcp(mut self) -> Self {
        self.tcp = true;
        self
    }

    /// With these fields of `spec.delivery`.
    #[must_use]
    pub fn with_delivery(mut self, delivery: Value) -> Self {
        self.document["spec"]["delivery"] = delivery;
        self
    }
}

/// A running sidecar, listening on a Unix socket. Dropping it ends it.
#[derive(Debug)]
pub struct Sidecar {
    process: Process,
    ready: Ready,
    home: TempDir,
    settings: Settings,
}

/// The line that the sidecar prints when it listens.
#[derive(Debug, Deserialize)]
struct Ready {
    grpc: String,
    admin: SocketAddr,
}

/// What `/status` shows.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Status {
    /// `idle`, `connecting`, `up` or `down`.
    pub link: String,
    /// Why the link is not up.
    pub reason: String,
    /// The number of the last attempt to connect.
    pub epoch: u64,
    /// Whether the link has ever been up.
    pub was_up: bool,
    /// Messages in hand.
    pub held: usize,
    /// Their bytes.
    pub held_bytes: u64,
    /// Of them, at applications.
    pub leased: usize,
    /// Messages that the platform may still send.
    pub credit: u32,
    /// Streams attached.
    pub streams: usize,
    /// Whether it is about to stop.
    pub draining: bool,
}

impl Sidecar {
    /// Starts one, and waits until it listens.
    pub fn start(settings: Settings) -> Result<Self> {
        let home = tempfile::tempdir()?;
        let (process, ready) = spawn(&settings, &home)?;
        Ok(Self { process, ready, home, settings })
    }

    /// Starts one that should refuse to run; returns how it ended and what it said.
    pub fn refused(settings: &Settings) -> Result<(ExitStatus, String)> {
        let home = tempfile::tempdir()?;
        let mut process = Process::spawn("the sidecar", &mut command(settings, &home)?)?;
        let status = process.wait(START_BOUND)?;
        Ok((status, process.log()))
    }

    /// Kills it (SIGKILL), and starts another one in its place.
    pub fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill()?;
        (self.process, self.ready) = spawn(&self.settings, &self.home)?;
        Ok(())
    }

    /// Asks it to end (SIGTERM), waits for that for at most `bound`, and starts another one in its place. Returns how the
    /// first one ended.
    pub fn stop_and_restart(&mut self, bound: Duration) -> Result<ExitStatus> {
        let status = self.process.terminate(bound)?;
        (self.process, self.ready) = spawn(&self.settings, &self.home)?;
        Ok(status)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The address for applications, as a gRPC client takes it.
    pub fn address(&self) -> String {
        self.ready.grpc.replacen("tcp://", "http://", 1)
    }

    /// What the admin address answers to a GET of `path`: the HTTP status and the body.
    pub fn get(&self, path: &str) -> Result<(u16, String)> {
        let agent: Agent = Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(10)))
            .http_status_as_error(false)
            .build()
            .into();
        let url = format!("http://{}{path}", self.ready.admin);
        let mut response = agent.get(&url).call().with_context(|| format!("the sidecar does not answer {url}"))?;
        Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
    }

    /// `/status`, once it is as wanted, for at most `bound`; the last one seen is in the error. Its figures lag by a
    /// fraction of a second.
    pub fn status(&self, bound: Duration, wanted: impl Fn(&Status) -> bool) -> Result<Status> {
        let mut last = String::new();
        let found = wait::until(bound, || {
            last = self.get("/status").map_or_else(|error| format!("{error:#}"), |(_, body)| body);
            serde_json::from_str(&last).ok().filter(&wanted)
        });
        found.with_context(|| format!("the sidecar's status is not as wanted after {bound:?}: {last}"))
    }

    /// Attaches an application.
    pub async fn attach(&self, subscribe: Subscribe) -> Result<Application> {
        Application::attach(&self.address(), subscribe).await
    }
}

fn spawn(settings: &Settings, home: &TempDir) -> Result<(Process, Ready)> {
    let mut process = Process::spawn("the sidecar", &mut command(settings, home)?)?;
    let line = process.next_line(START_BOUND)?;
    let ready = serde_json::from_str(&line).with_context(|| format!("the sidecar printed: {line}"))?;
    Ok((process, ready))
}

fn command(settings: &Settings, home: &TempDir) -> Result<Command> {
    // JSON is YAML.
    let document = home.path().join("consumer-group.yaml");
    fs::write(&document, serde_json::to_vec_pretty(&settings.document)?)?;
    let mut command = Command::new(binaries::sidecar()?);
    command.env_clear().envs(settings.credentials.iter().map(|(name, value)| (name, value)));
    command.arg("run").arg("--config").arg(document);
    let socket = || format!("unix://{}", home.path().join("sluice.sock").display());
    command.arg("--listen").arg(if settings.tcp { "tcp://127.0.0.1:0".to_owned() } else { socket() });
    command.args(["--admin", "127.0.0.1:0"]);
    if let Some(directory) = &settings.credentials_dir {
        command.arg("--credentials-dir").arg(directory);
    }
    Ok(command)
}
