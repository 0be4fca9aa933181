//! The programs of a control plane, and what they are started with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;

use super::Options;
use super::audit;
use super::authority::{Authority, Login};
use super::daemon::Daemon;
use crate::ports;
use crate::tools::KubernetesFiles;

/// Who signs service account tokens: what in-cluster clients of a real cluster see, too.
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// A running control plane.
#[derive(Debug)]
pub(super) struct ControlPlane {
    scheduler: Mutex<Option<Daemon>>,
    controller_manager: Mutex<Option<Daemon>>,
    api_server: Mutex<Option<Daemon>>,
    etcd: Mutex<Option<Daemon>>,
    settings: Settings,
}

/// What the API server is started with, each time.
#[derive(Debug)]
struct Settings {
    program: &'static Path,
    directory: PathBuf,
    port: u16,
    etcd_port: u16,
    /// Whole seconds.
    toleration: u64,
}

impl ControlPlane {
    /// Starts etcd and the API server.
    pub(super) fn start(files: &'static KubernetesFiles, authority: &Authority, options: &Options) -> Result<Self> {
        authority.write_server("server")?;
        authority.write_signing_key("accounts")?;
        fs::write(authority.file("audit-policy.json"), audit::POLICY)?;
        let settings = Settings {
            program: &files.api_server,
            port: ports::free()?,
            etcd_port: ports::free()?,
            toleration: options.toleration.as_secs(),
            directory: authority.file(""),
        };
        Ok(Self {
            scheduler: Mutex::default(),
            controller_manager: Mutex::default(),
            etcd: Mutex::new(Some(settings.spawn_etcd(&files.etcd)?)),
            api_server: Mutex::new(Some(settings.spawn_api_server()?)),
            settings,
        })
    }

    /// Starts controller-manager and scheduler. The API server must be ready: they wait for it, but on a busy machine not
    /// for long enough.
    pub(super) fn start_controllers(
        &self,
        files: &KubernetesFiles,
        authority: &Authority,
        options: &Options,
    ) -> Result<()> {
        let login = |user: &str| -> Result<String> {
            let identity = authority.client(user, None)?;
            let kubeconfig = authority.kubeconfig(&self.url(), &Login::Certificate(&identity), "default");
            let path = authority.file(&format!("{}.kubeconfig", user.trim_start_matches("system:")));
            fs::write(&path, serde_json::to_vec(&kubeconfig)?)?;
            Ok(format!("--kubeconfig={}", path.display()))
        };
        let manager = login("system:kube-controller-manager")?;
        let manager = self.settings.spawn_controller_manager(&files.controller_manager, &manager, options)?;
        *lock(&self.controller_manager) = Some(manager);
        let scheduler = self.settings.spawn_scheduler(&files.scheduler, &login("system:kube-scheduler")?)?;
        *lock(&self.scheduler) = Some(scheduler);
        Ok(())
    }

    pub(super) fn url(&self) -> String {
        self.settings.url()
    }

    pub(super) fn audit_log(&self) -> PathBuf {
        self.settings.directory.join("audit.log")
    }

    /// The API server, if it has not been stopped.
    pub(super) fn api_server(&self) -> MutexGuard<'_, Option<Daemon>> {
        lock(&self.api_server)
    }

    pub(super) fn start_api_server(&self) -> Result<()> {
        *self.api_server() = Some(self.settings.spawn_api_server()?);
        Ok(())
    }

    fn programs(&self) -> [MutexGuard<'_, Option<Daemon>>; 4] {
        [&self.etcd, &self.api_server, &self.controller_manager, &self.scheduler].map(lock)
    }

    /// Fails if one of the programs has ended by itself.
    pub(super) fn check_alive(&self) -> Result<()> {
        self.programs().iter_mut().filter_map(|program| program.as_mut()).try_for_each(Daemon::check_alive)
    }

    /// The end of every log.
    pub(super) fn quote(&self) -> String {
        self.programs().iter().filter_map(|program| program.as_ref()).map(Daemon::quote).collect::<Vec<_>>().join("\n")
    }

    /// Kills everything, etcd last.
    pub(super) fn end(&self) {
        for mut program in self.programs().into_iter().rev() {
            *program = None;
        }
    }
}

fn lock(program: &Mutex<Option<Daemon>>) -> MutexGuard<'_, Option<Daemon>> {
    program.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Settings {
    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.log"))
    }

    fn spawn_etcd(&self, program: &Path) -> Result<Daemon> {
        let client = format!("http://127.0.0.1:{}", self.etcd_port);
        let peer = format!("http://127.0.0.1:{}", ports::free()?);
        let mut command = Command::new(program);
        command.args(["--name=test", "--unsafe-no-fsync", "--log-level=warn", "--logger=zap"]);
        command.arg(format!("--data-dir={}", self.file("etcd")));
        command.arg(format!("--listen-client-urls={client}")).arg(format!("--advertise-client-urls={client}"));
        command.arg(format!("--listen-peer-urls={peer}")).arg(format!("--initial-advertise-peer-urls={peer}"));
        command.arg(format!("--initial-cluster=test={peer}"));
        Daemon::spawn("etcd", &mut command, self.log("etcd"))
    }

    fn spawn_api_server(&self) -> Result<Daemon> {
        let mut command = Command::new(self.program);
        command.args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--allow-privileged=true",
            "--authorization-mode=Node,RBAC",
            // The namespace of a test says which nodes its pods run on.
            "--enable-admission-plugins=NodeRestriction,PodNodeSelector",
            "--profiling=false",
            // Rotation would cut the log under its reader.
            "--audit-log-maxsize=100000",
        ]);
        command.arg(format!("--secure-port={}", self.port));
        command.arg(format!("--etcd-servers=http://127.0.0.1:{}", self.etcd_port));
        command.arg(format!("--service-account-issuer={ISSUER}"));
        command.arg(format!("--default-not-ready-toleration-seconds={}", self.toleration));
        command.arg(format!("--default-unreachable-toleration-seconds={}", self.toleration));
        for (flag, file) in [
            ("tls-cert-file", "server.pem"),
            ("tls-private-key-file", "server.key"),
            ("client-ca-file", "ca.pem"),
            ("service-account-key-file", "accounts.pub"),
            ("service-account-signing-key-file", "accounts.key"),
            ("audit-policy-file", "audit-policy.json"),
            ("audit-log-path", "audit.log"),
            ("cert-dir", "api-server"),
        ] {
            command.arg(format!("--{flag}={}", self.file(file)));
        }
        Daemon::spawn("kube-apiserver", &mut command, self.log("api-server"))
    }

    fn spawn_controller_manager(&self, program: &Path, kubeconfig: &str, options: &Options) -> Result<Daemon> {
        let grace = options.node_grace;
        let mut command = Command::new(program);
        command.arg(kubeconfig).args([
            "--secure-port=0",
            "--leader-elect=false",
            "--use-service-account-credentials=true",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
            // One lost node after the other, not one in ten seconds.
            "--node-eviction-rate=10",
        ]);
        command.arg(format!("--node-monitor-grace-period={}ms", grace.as_millis()));
        command.arg(format!("--node-monitor-period={}ms", (grace / 10).as_millis().clamp(200, 5000)));
        for (flag, file) in [
            ("service-account-private-key-file", "accounts.key"),
            ("root-ca-file", "ca.pem"),
            ("cluster-signing-cert-file", "ca.pem"),
            ("cluster-signing-key-file", "ca.key"),
        ] {
            command.arg(format!("--{flag}={}", self.file(file)));
        }
        Daemon::spawn("kube-controller-manager", &mut command, self.log("controller-manager"))
    }

    fn spawn_scheduler(&self, program: &Path, kubeconfig: &str) -> Result<Daemon> {
        let mut command = Command::new(program);
        command.arg(kubeconfig).args([
            "--secure-port=0",
            "--leader-elect=false",
            "--kube-api-qps=500",
            "--kube-api-burst=1000",
        ]);
        Daemon::spawn("kube-scheduler", &mut command, self.log("scheduler"))
    }
}
