//! The processes of the demo: the emulator as the platform, the sidecar, and an application on its socket.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result};
use serde::Deserialize;
use tempfile::TempDir;

use super::{emulator::Emulator, process::Process};
use crate::leash;

/// The packages that have to be built, and the names of their binaries.
pub(crate) const PACKAGES: [&str; 3] = [EMULATOR, SIDECAR, APPLICATION];
const EMULATOR: &str = "sluice-emulator";
const SIDECAR: &str = "sluice-sidecar";
const APPLICATION: &str = "sluice-example-rust";

/// The emulator's own default group, access key and secret.
pub(crate) const GROUP: &str = "DEFAULT_GROUP";
const ACCESS_KEY: [(&str, &str); 2] =
    [("ALIBABA_CLOUD_ACCESS_KEY_ID", "testid"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "testsecret")];

/// When the emulator pushes a message again that was not settled. The platform takes a minute; a demo whose sidecar gets
/// killed would then end before its messages came again.
pub(crate) const RETRY_SECONDS: u64 = 5;

/// How long a process may take to be ready, and to end when asked to.
const READY: Duration = Duration::from_secs(15);
const END: Duration = Duration::from_secs(15);

/// The running processes. They are declared in the order in which they are to be ended, should it come to that.
pub(crate) struct Stack {
    pub(crate) application: Process,
    pub(crate) sidecar: Process,
    pub(crate) emulator_process: Process,
    pub(crate) emulator: Emulator,
    binaries: HashMap<String, PathBuf>,
    directory: TempDir,
}

impl Stack {
    /// Starts one after the other, and returns when each has said that it is ready.
    pub(crate) fn start(binaries: HashMap<String, PathBuf>) -> Result<Self> {
        #[derive(Deserialize)]
        struct Ready {
            amqp: String,
            http: String,
            ca: PathBuf,
        }
        let directory = tempfile::Builder::new().prefix("sluice-demo-").tempdir().context("a temporary directory")?;
        let path = directory.path();

        let config = path.join("emulator.yaml");
        write(&config, &format!("limits:\n  retryAfter: {RETRY_SECONDS}s\n  retryAfterLinkLoss: {RETRY_SECONDS}s\n"))?;
        let mut emulator = command(&binaries, EMULATOR)?;
        emulator.arg("run").arg("--config").arg(config).arg("--dir").arg(path);
        emulator.args(["--amqp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
        let mut emulator_process = Process::start("emulator", &mut emulator, path)?;
        let ready: Ready = emulator_process.announcement(READY)?;

        write(&path.join("consumer-group.yaml"), &consumer_group(&ready.amqp, &ready.ca)?)?;
        let sidecar = start_sidecar(&binaries, path)?;

        let mut application = command(&binaries, APPLICATION)?;
        application.args(["--client-id", "demo", "--journal", "-"]).env("SLUICE_ADDR", socket(path));
        let application = Process::start("application", &mut application, path)?;

        let emulator = Emulator::new(&ready.http, GROUP);
        Ok(Self { application, sidecar, emulator_process, emulator, binaries, directory })
    }

    /// Fails if the emulator or the application has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        for process in [&mut self.emulator_process, &mut self.application] {
            if let Some(status) = process.exited()? {
                return Err(process.failure(&format!("has ended ({status})")));
            }
        }
        Ok(())
    }

    /// Starts another sidecar in the place of one that has ended.
    pub(crate) fn restart_sidecar(&mut self) -> Result<()> {
        self.sidecar = start_sidecar(&self.binaries, self.directory.path())?;
        Ok(())
    }

    /// Has the application finish and end, and returns the last of its journal.
    pub(crate) fn stop_application(&mut self) -> Result<Vec<String>> {
        self.application.stop(END)
    }

    /// Has the sidecar hand back what it holds, and end.
    pub(crate) fn stop_sidecar(&mut self) -> Result<()> {
        self.sidecar.stop(END).map(drop)
    }
}

fn start_sidecar(binaries: &HashMap<String, PathBuf>, directory: &Path) -> Result<Process> {
    let mut sidecar = command(binaries, SIDECAR)?;
    sidecar.arg("run").arg("--config").arg(directory.join("consumer-group.yaml"));
    sidecar.args(["--listen", &socket(directory), "--admin", "127.0.0.1:0"]).envs(ACCESS_KEY);
    let mut process = Process::start("sidecar", &mut sidecar, directory)?;
    process.announcement::<serde_json::Value>(READY)?;
    Ok(process)
}

fn socket(directory: &Path) -> String {
    format!("unix://{}", directory.join("sluice.sock").display())
}

/// The document that tells the sidecar where to connect.
fn consumer_group(amqp: &str, ca: &Path) -> Result<String> {
    let (host, port) = amqp.rsplit_once(':').with_context(|| format!("no port in the emulator's address {amqp:?}"))?;
    Ok(format!(
        "apiVersion: sluice.dev/v1alpha1
kind: ConsumerGroup
metadata:
  name: demo
spec:
  groupId: {GROUP}
  instance:
    id: iot-emulator
    amqpHost: {host}
    amqpPort: {port}
    caBundle:
      file: \"{}\"
",
        ca.display()
    ))
}

fn command(binaries: &HashMap<String, PathBuf>, name: &str) -> Result<Command> {
    Ok(leash::command(binaries.get(name).with_context(|| format!("there is no binary {name}"))?))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
