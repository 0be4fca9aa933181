//! A real Kubernetes on loopback: etcd, API server, controller-manager and scheduler as processes, and
//! [kubelets](kubelet) that run pods as processes of this machine. No container, no image, no network but loopback;
//! nobody needs to be root.
//!
//! ```no_run
//! # async fn test() -> anyhow::Result<()> {
//! use sluice_tests::cluster::Cluster;
//! use sluice_tests::cluster::kubelet::{Image, Images};
//!
//! let cluster = Cluster::shared().await?;
//! let namespace = cluster.namespace("rollout").await?;
//! let kubelet = namespace.kubelet(Images::new().with("app", Image::program("/bin/sleep").with_arguments(["600"]))).await?;
//! // … create a Deployment in namespace.name() through namespace.client() …
//! # Ok(()) }
//! ```
//!
//! # Who shares what
//! Tests of one process share [one control plane](Cluster::shared), each in [a namespace of its own](Namespace): pods
//! of a namespace run only on the kubelets of that namespace (the API server's `PodNodeSelector` sees to it), and what
//! needs rights has [an account of its own](Account), so that the [audit log](audit::Audit) tells its requests apart. A
//! test that stops the API server, or needs other times than Kubernetes' own, [starts one for itself](Cluster::start):
//! 3 to 4 s. What goes on between one client and the API server is in the hands of a test that puts a [`Gate`] there.
//! Another test process has another control plane; what they share are the programs (see [`crate::tools`]).
//!
//! # What is left out
//! No kube-proxy and no DNS: what a Service selects is not reachable by its name or address. Pods have addresses of
//! 127.0.0.0/8, which Kubernetes refuses in `EndpointSlice`s, so that those of Services stay empty. Webhooks are called
//! by URL. `kubectl logs` and `exec` find no server at the kubelet; [`kubelet::Kubelet::log`] has the logs.
//!
//! # When a test fails
//! A [`Namespace`] that is dropped by a panic prints its pods, its events and the logs of its containers; an error of
//! the control plane quotes the log of the program it comes from. Everything ends with the test process, even if that
//! is killed (see [`crate::janitor`]).

mod account;
pub mod audit;
mod authority;
mod control_plane;
mod daemon;
mod gate;
pub mod kubelet;
mod namespace;

use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rustix::process::Signal;
use serde_json::Value;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::OnceCell;
use tokio::time::Instant;

pub use self::account::Account;
use self::audit::Audit;
use self::authority::{Authority, Login};
use self::control_plane::ControlPlane;
use self::daemon::Daemon;
pub use self::gate::{Gate, Moment, Stopped};
pub use self::namespace::Namespace;
use crate::tools::{self, KubernetesFiles};
use crate::{janitor, wait};

/// The user of [`Cluster::client`], who may do everything.
pub const ADMIN: &str = "sluice-test-admin";

/// How long the control plane may take to be ready: some 3 s on two idle cores.
const START_BOUND: Duration = Duration::from_mins(3);

/// How long the API server may take to end when asked to. By itself it waits a minute for watches to end.
const STOP_BOUND: Duration = Duration::from_secs(3);

/// What a cluster of one's own differs in.
#[derive(Debug, Clone)]
pub struct Options {
    /// How long a kubelet may be silent until its Node's `Ready` becomes `Unknown` (`--node-monitor-grace-period`).
    pub node_grace: Duration,
    /// How long a pod stays on a Node that is not ready or not reachable, if the pod does not say (`tolerationSeconds`;
    /// whole seconds). Kubernetes evicts nothing as long as *all* Nodes are lost.
    pub toleration: Duration,
}

impl Default for Options {
    /// Kubernetes' own.
    fn default() -> Self {
        Self { node_grace: Duration::from_secs(50), toleration: Duration::from_mins(5) }
    }
}

/// A running control plane. Dropping it ends it.
#[derive(Debug)]
pub struct Cluster {
    plane: ControlPlane,
    authority: Authority,
    audit: Audit,
    directory: PathBuf,
    kubeconfig: PathBuf,
    files: &'static KubernetesFiles,
    is_shared: bool,
}

impl Cluster {
    /// The control plane that the tests of this process share, with Kubernetes' own times. It ends with the process.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        let start = async || {
            let mut cluster = Self::start(Options::default()).await?;
            cluster.is_shared = true;
            anyhow::Ok(cluster)
        };
        SHARED.get_or_try_init(start).await
    }

    /// Starts one, and waits until it takes pods.
    pub async fn start(options: Options) -> Result<Self> {
        let files = tokio::task::spawn_blocking(tools::ensure_kubernetes).await??;
        let directory = janitor::directory("c")?;
        let authority = Authority::new(&directory)?;
        let plane = ControlPlane::start(files, &authority, &options)?;
        let admin = authority.client(ADMIN, Some("system:masters"))?;
        let kubeconfig = directory.join("admin.kubeconfig");
        let content = authority.kubeconfig(&plane.url(), &Login::Certificate(&admin), "default");
        fs::write(&kubeconfig, serde_json::to_vec_pretty(&content)?)?;
        let audit = Audit::new(plane.audit_log());
        let cluster = Self { plane, authority, audit, directory, kubeconfig, files, is_shared: false };
        let client = cluster.client().await?;
        cluster.wait_for_api_server(&client).await?;
        cluster.plane.start_controllers(files, &cluster.authority, &options)?;
        // Pods are refused before it is there.
        let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
        cluster.wait_for("the controller-manager", || async { Ok(accounts.get("default").await.map(drop)?) }).await?;
        Ok(cluster)
    }

    /// A client of the administrator's. It belongs to the runtime in which it is made: every test makes its own.
    pub async fn client(&self) -> Result<Client> {
        client(fs::read(&self.kubeconfig)?).await
    }

    /// The administrator's kubeconfig, a file.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The API server's URL.
    pub fn url(&self) -> String {
        self.plane.url()
    }

    /// The certificate of the cluster's authority, in PEM.
    pub fn authority(&self) -> &str {
        self.authority.certificate()
    }

    /// `kubectl` as the administrator, without its arguments.
    pub fn kubectl(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.files.kubectl);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.directory);
        command
    }

    /// `helm` as the administrator, without its arguments; built on the first call.
    pub fn helm(&self) -> Result<std::process::Command> {
        let mut command = std::process::Command::new(tools::ensure_helm()?);
        command.env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.directory);
        Ok(command)
    }

    /// Who signs the tokens of ServiceAccounts, as the tokens name it.
    pub fn issuer(&self) -> &'static str {
        control_plane::ISSUER
    }

    /// PEM file of the keys that they are signed with.
    pub fn account_keys(&self) -> PathBuf {
        self.directory.join("accounts.pub")
    }

    /// The audit log.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// A new namespace, whose name begins with `prefix`.
    pub async fn namespace(&self, prefix: &str) -> Result<Namespace<'_>> {
        Namespace::make(self, prefix).await
    }

    /// An account of a ServiceAccount that exists, with its rights and no others.
    pub async fn account(&self, namespace: &str, name: &str) -> Result<Account> {
        Account::of(self, namespace, name).await
    }

    /// A gate between one client and the API server.
    pub async fn gate(&self) -> Result<Gate> {
        Gate::open(self).await
    }

    /// Ends the API server as a restart does: SIGTERM, upon which it takes no new connections, and SIGKILL 3 s later if
    /// watches are still open. The shared control plane refuses this, as all that follows here.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.take_api_server()?.terminate(STOP_BOUND).await
    }

    /// Kills the API server (SIGKILL).
    pub fn kill_api_server(&self) -> Result<()> {
        self.take_api_server().map(drop)
    }

    fn take_api_server(&self) -> Result<Daemon> {
        self.check_own()?;
        self.plane.api_server().take().context("the API server is stopped already")
    }

    /// Starts the API server again, on the same port, with what etcd holds; waits until it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        self.check_own()?;
        if self.plane.api_server().is_some() {
            bail!("the API server runs already");
        }
        self.plane.start_api_server()?;
        self.wait_for_api_server(&self.client().await?).await
    }

    /// Stops the API server's process in its tracks (SIGSTOP): connections stay open and nothing is answered.
    pub fn pause_api_server(&self) -> Result<()> {
        self.signal_api_server(Signal::STOP)
    }

    /// Lets a paused API server go on (SIGCONT).
    pub fn resume_api_server(&self) -> Result<()> {
        self.signal_api_server(Signal::CONT)
    }

    fn signal_api_server(&self, signal: Signal) -> Result<()> {
        self.check_own()?;
        self.plane.api_server().as_mut().context("the API server is stopped")?.signal(signal)
    }

    fn check_own(&self) -> Result<()> {
        if self.is_shared {
            bail!("other tests use the shared control plane; start one with Cluster::start");
        }
        Ok(())
    }

    /// The end of the logs of the control plane's programs, for the error of a test that they explain.
    pub fn logs(&self) -> String {
        self.plane.quote()
    }

    /// Waits until the API server says that it is ready.
    async fn wait_for_api_server(&self, client: &Client) -> Result<()> {
        self.wait_for("the API server", || async {
            let ready = http::Request::get("/readyz").body(Vec::new())?;
            Ok(client.request_text(ready).await.map(drop)?)
        })
        .await
    }

    /// Waits until something succeeds, as long as the programs run.
    async fn wait_for<F: Future<Output = Result<()>>>(&self, what: &str, attempt: impl Fn() -> F) -> Result<()> {
        let end = Instant::now() + START_BOUND;
        loop {
            self.plane.check_alive()?;
            let last = match tokio::time::timeout_at(end, attempt()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "no answer".to_owned(),
            };
            if Instant::now() >= end {
                bail!("{what} is not ready after {START_BOUND:?}: {last}{}", self.plane.quote());
            }
            tokio::time::sleep(wait::PAUSE).await;
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.plane.end();
        janitor::remove(&self.directory);
    }
}

/// A client with the content of a kubeconfig.
async fn client(kubeconfig: Vec<u8>) -> Result<Client> {
    let kubeconfig: Value = serde_json::from_slice(&kubeconfig)?;
    let kubeconfig: Kubeconfig = serde_json::from_value(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Waits until `condition` yields a value, for at most `bound`; `what` is in the error.
///
/// The condition may ask the API server: errors end the waiting.
pub async fn until<T, F>(what: &str, bound: Duration, mut condition: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let end = Instant::now() + bound;
    loop {
        let late = Instant::now() >= end;
        if let Some(value) = condition().await.with_context(|| format!("waiting until {what}"))? {
            return Ok(value);
        }
        if late {
            bail!("after {bound:?} it is not so that {what}");
        }
        tokio::time::sleep(wait::PAUSE).await;
    }
}

/// The runtime of what goes on beside the tests, whose own runtimes come and go with them.
fn background() -> Result<&'static Handle> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let start = || tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().ok();
    RUNTIME.get_or_init(start).as_ref().map(Runtime::handle).context("cannot start a runtime beside the tests")
}
