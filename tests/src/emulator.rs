//! The emulator as a process: the platform, on loopback.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use tempfile::TempDir;

use crate::admin::Admin;
use crate::binaries;
use crate::process::Process;

/// The emulator's access key.
pub const ACCESS_KEY_ID: &str = "testid";
/// Its secret.
pub const ACCESS_KEY_SECRET: &str = "testsecret";
/// The emulator's own consumer group.
pub const GROUP: &str = "DEFAULT_GROUP";
/// The emulator's instance.
pub const INSTANCE: &str = "iot-emulator";

/// A running emulator. Dropping it ends it.
#[derive(Debug)]
pub struct Emulator {
    process: Process,
    ready: Ready,
    admin: Admin,
    _directory: TempDir,
}

/// The line that the emulator prints when it listens.
#[derive(Debug, Deserialize)]
struct Ready {
    amqp: String,
    http: String,
    api: String,
    ca: PathBuf,
}

impl Emulator {
    /// Starts one with the platform's own limits and times.
    pub fn start() -> Result<Self> {
        Self::start_with("")
    }

    /// Starts one with a configuration (YAML; empty for none).
    pub fn start_with(configuration: &str) -> Result<Self> {
        Self::start_as(configuration, "")
    }

    /// The same with a profile besides (YAML; empty for none), in a file of its own.
    pub fn start_as(configuration: &str, profile: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let mut command = Command::new(binaries::emulator()?);
        command.args(["run", "--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
        command.arg("--dir").arg(directory.path());
        for (option, text) in [("--config", configuration), ("--profile", profile)] {
            if !text.is_empty() {
                let file = directory.path().join(format!("emulator{option}.yaml"));
                fs::write(&file, text)?;
                command.arg(option).arg(file);
            }
        }
        let mut process = Process::spawn("the emulator", &mut command)?;
        let line = process.next_line(Duration::from_secs(30))?;
        let ready: Ready = serde_json::from_str(&line).with_context(|| format!("the emulator printed: {line}"))?;
        let admin = Admin::new(&ready.http);
        Ok(Self { process, ready, admin, _directory: directory })
    }

    /// The process ID.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Fails if it has ended.
    pub fn check_alive(&mut self) -> Result<()> {
        self.process.check_alive()
    }

    /// The AMQP port, on 127.0.0.1.
    pub fn port(&self) -> Result<u16> {
        let port = self.ready.amqp.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        port.with_context(|| format!("no port in {}", self.ready.amqp))
    }

    /// Where the OpenAPI and STS are, over TLS and without: `127.0.0.1:PORT`.
    pub fn api(&self) -> &str {
        &self.ready.api
    }

    /// PEM file of the certificate to trust.
    pub fn authority(&self) -> &Path {
        &self.ready.ca
    }

    /// The admin API.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }
}
