//! A kubelet that runs processes: a Node of the cluster whose pods are processes of this machine.
//!
//! It logs in as a real one does (`system:node:NAME`, so that the Node authorizer and `NodeRestriction` apply),
//! registers a Node, keeps its Lease, watches the pods that the scheduler binds to it, and does with each what the
//! kubelet does: volumes, init containers, native sidecars, containers, probes, hooks, restarts with back-off, status;
//! on deletion the preStop hooks of all containers at once, SIGTERM to the proper containers and then, one by one from
//! the last, to the sidecars, SIGKILL when the grace period is over, the final status, and only then the deletion of
//! the object.
//!
//! # What a container is
//! A process in a group of its own, started from [`Image`]s that the test gives, with exactly the environment of an
//! image and a pod, beside `PATH`, `HOSTNAME` and `HOME`. When the process ends, what it has left behind in its group
//! is killed.
//! - **Mounts.** There is no mount namespace: wherever the container's specification says `mountPath`, the folder of
//!   the volume is put in its place, in commands, arguments and the values of variables, also of hooks and probes.
//!   `mountPath: /run/sluice` and `--listen=unix:///run/sluice/sluice.sock` fit together; a path that the program has
//!   compiled in, or finds in a file, does not. [`Kubelet::path`] tells a test where something is. Volumes are emptyDir
//!   (on disk, also for `medium: Memory`), secret, configMap, downwardAPI, projected (with tokens bound to the pod) and
//!   hostPath.
//! - **Network.** Every pod has an address of its own in 127.0.0.0/8, so that fixed ports do not clash, as long as
//!   programs listen on the pod's address (`$(POD_IP)` from `status.podIP`).
//! - **Not there:** users and groups, resource limits, `workingDir`, ephemeral containers, changes of a running pod's
//!   images, gRPC probes, HTTPS probes. A pod that needs what this kubelet does not know does not start, and says why.
//!
//! # What can happen to the machine
//! [`Kubelet::partition`] cuts the kubelet off from the API server while its processes go on; [`Kubelet::power_off`]
//! ends the processes as well, and nobody is told; [`Kubelet::recover`] is the end of both. Kubernetes does the rest by
//! itself.

mod container;
mod images;
mod invocation;
mod journal;
mod node;
mod payload;
mod pod;
mod probes;
mod process;
mod sources;
mod status;
mod volumes;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::DeleteParams;
use kube::runtime::watcher;
use kube::runtime::watcher::Event;
use kube::{Api, Client, ResourceExt as _};
pub use rustix::process::Signal;
use rustix::process::kill_process;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

pub use self::images::{Image, Images};
use self::journal::Journal;
pub use self::journal::{Entry, Step};
use self::pod::{PodContext, Wanted};
use self::process::Groups;
use super::authority::Login;
use super::{Cluster, background, client, daemon};
use crate::janitor;

/// How long a new Node may take until pods can run on it.
const REGISTER_BOUND: Duration = Duration::from_mins(1);

/// How long to wait before the API server is asked again after a failure.
const RETRY: Duration = Duration::from_millis(200);

/// How quick a kubelet is.
#[derive(Debug, Clone)]
pub struct Options {
    /// The time between two heartbeats.
    pub heartbeat: Duration,
    /// The delay before a container's second restart (the first one is at once); it doubles with each further one.
    pub restart_delay: Duration,
    /// The longest delay before a restart. A container that ran twice as long starts anew with the first delay.
    pub restart_delay_limit: Duration,
    /// The time between two looks at Secrets, `ConfigMap`s, and tokens to renew.
    pub refresh: Duration,
    /// What a container gets between SIGTERM and SIGKILL even if the grace period is over.
    pub minimum_grace: Duration,
}

impl Default for Options {
    /// Quick ones, for tests.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_secs(2),
            restart_delay: Duration::from_millis(200),
            restart_delay_limit: Duration::from_secs(5),
            refresh: Duration::from_secs(2),
            minimum_grace: Duration::from_secs(2),
        }
    }
}

/// A running kubelet. Dropping it kills its processes and reports nothing.
#[derive(Debug)]
pub struct Kubelet {
    inner: Arc<Inner>,
    main: JoinHandle<()>,
    admin: Vec<u8>,
}

/// What the parts of a kubelet share.
#[derive(Debug)]
struct Inner {
    name: String,
    namespace: String,
    kubeconfig: Vec<u8>,
    options: Options,
    images: Images,
    directory: PathBuf,
    groups: Arc<Groups>,
    journal: Journal,
    contact: watch::Sender<Contact>,
    power: watch::Sender<bool>,
    pods: Mutex<BTreeMap<String, Arc<PodContext>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    logs: Mutex<Vec<Log>>,
    next: AtomicU32,
}

/// Whether the kubelet can talk to the API server, and how many times contact has been made.
#[derive(Debug, Clone, Copy)]
struct Contact {
    exists: bool,
    number: u64,
}

/// The log of one container.
#[derive(Debug, Clone)]
struct Log {
    pod: String,
    container: String,
    path: PathBuf,
}

impl Kubelet {
    /// Starts one for the pods of `namespace`, and waits until its Node is ready.
    pub(super) async fn start(cluster: &Cluster, namespace: &str, images: Images, options: Options) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);

        let name = format!("{namespace}-node-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let identity = cluster.authority.client(&format!("system:node:{name}"), Some("system:nodes"))?;
        let kubeconfig = cluster.authority.kubeconfig(&cluster.url(), &Login::Certificate(&identity), namespace);
        let inner = Arc::new(Inner {
            name,
            namespace: namespace.to_owned(),
            kubeconfig: serde_json::to_vec(&kubeconfig)?,
            options,
            images,
            directory: janitor::directory("k")?,
            groups: Arc::default(),
            journal: Journal::new(),
            contact: watch::Sender::new(Contact { exists: true, number: 1 }),
            power: watch::Sender::new(true),
            pods: Mutex::default(),
            tasks: Mutex::default(),
            logs: Mutex::default(),
            next: AtomicU32::new(0),
        });
        let main = background()?.spawn(run(Arc::clone(&inner)));
        let kubelet = Self { inner, main, admin: std::fs::read(cluster.kubeconfig())? };
        kubelet.wait_until_ready().await?;
        Ok(kubelet)
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let nodes: Api<Node> = Api::all(client(self.admin.clone()).await?);
        // Pods that tolerate nothing can run on it: the taint that a new Node begins with is gone.
        let usable = |node: &Node| {
            let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_ref());
            node::is_ready(node) && taints.is_none_or(Vec::is_empty)
        };
        super::until("the node is ready", REGISTER_BOUND, || async {
            Ok(nodes.get_opt(&self.inner.name).await?.filter(usable))
        })
        .await?;
        Ok(())
    }

    /// The name of its Node.
    pub fn node(&self) -> &str {
        &self.inner.name
    }

    /// What it has done, in order.
    pub fn journal(&self) -> Vec<Entry> {
        self.inner.journal.entries()
    }

    /// What the containers of that name have printed, over all restarts.
    pub fn log(&self, pod: &str, container: &str) -> String {
        let logs = self.inner.logs();
        let path = logs.iter().rev().find(|log| log.pod == pod && log.container == container).map(|log| &log.path);
        path.and_then(|path| std::fs::read(path).ok())
            .map(|log| String::from_utf8_lossy(&log).into_owned())
            .unwrap_or_default()
    }

    /// The logs of all containers, which outlive the kubelet.
    pub(super) fn logs(&self) -> Logs {
        Logs(Arc::clone(&self.inner))
    }

    /// Where a path of a running container really is.
    pub fn path(&self, pod: &str, container: &str, path: &str) -> Result<PathBuf> {
        let (pod, index) = self.find(pod, container)?;
        pod.containers[index].real_path(path).with_context(|| format!("{container} has not been started"))
    }

    /// The ID of a container's process.
    pub fn process_id(&self, pod: &str, container: &str) -> Result<u32> {
        let (pod, index) = self.find(pod, container)?;
        let process = pod.containers[index].process().with_context(|| format!("{container} does not run"))?;
        Ok(process.as_raw_nonzero().get().unsigned_abs())
    }

    /// Sends a signal to a container's process, behind the kubelet's back.
    pub fn kill_container(&self, pod: &str, container: &str, signal: Signal) -> Result<()> {
        let (pod, index) = self.find(pod, container)?;
        let process = pod.containers[index].process().with_context(|| format!("{container} does not run"))?;
        kill_process(process, signal).with_context(|| format!("cannot send a signal to {container}"))
    }

    fn find(&self, pod: &str, container: &str) -> Result<(Arc<PodContext>, usize)> {
        let pods = self.inner.pods();
        let found = pods.values().filter(|candidate| candidate.name == pod);
        let found = found.max_by_key(|candidate| candidate.wanted.borrow().object.creation_timestamp());
        let found = found.with_context(|| format!("no pod {pod} runs on {}", self.inner.name))?;
        let index = found.containers.iter().position(|candidate| candidate.spec.name == container);
        Ok((Arc::clone(found), index.with_context(|| format!("pod {pod} has no container {container}"))?))
    }

    /// Cuts the kubelet off from the API server: no heartbeats, no status, no news. Its processes go on.
    pub fn partition(&self) {
        self.inner.contact.send_modify(|contact| contact.exists = false);
    }

    /// Ends the machine: all its processes are killed at once, what was in memory is lost, and nobody is told.
    pub fn power_off(&self) {
        self.partition();
        self.inner.power.send_replace(false);
        self.inner.groups.kill_and_close();
        for pod in self.inner.pods().values() {
            volumes::forget_memory(&pod.directory.join("v"), &pod.object());
        }
    }

    /// Ends a partition, or starts the machine again: the Node is registered if need be, pods that are not wanted any
    /// more are ended, and the containers of the others are started again if they have ended.
    pub fn recover(&self) {
        self.inner.groups.open();
        self.inner.power.send_replace(true);
        self.inner.contact.send_modify(|contact| *contact = Contact { exists: true, number: contact.number + 1 });
    }

    /// Deletes the Node object, as an administrator does for a machine that will not come back.
    pub async fn delete_node(&self) -> Result<()> {
        let nodes: Api<Node> = Api::all(client(self.admin.clone()).await?);
        nodes.delete(&self.inner.name, &DeleteParams::default()).await?;
        Ok(())
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.inner.contact.send_modify(|contact| contact.exists = false);
        self.inner.power.send_replace(false);
        self.main.abort();
        self.inner.groups.kill_and_close();
        for task in self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            task.abort();
        }
        self.inner.pods().clear();
        // A machine that is no more is no node: nothing of other tests should be counted against it.
        let (admin, name) = (std::mem::take(&mut self.admin), self.inner.name.clone());
        if let Ok(runtime) = background() {
            runtime.spawn(async move {
                let nodes: Api<Node> = Api::all(client(admin).await?);
                nodes.delete(&name, &DeleteParams::default()).await?;
                anyhow::Ok(())
            });
        }
    }
}

/// What the containers of a kubelet have printed and what was done to them.
#[derive(Debug)]
pub(super) struct Logs(Arc<Inner>);

impl Logs {
    /// For the output of a test that has failed.
    pub(super) fn quote(&self) -> String {
        let mut text = format!("=== node {}\n", self.0.name);
        for entry in self.0.journal.entries() {
            let _ = writeln!(text, "{entry}");
        }
        for Log { pod, container, path } in self.0.logs().iter() {
            let _ = writeln!(text, "--- {pod}/{container}{}", daemon::quote("it", path));
        }
        text
    }
}

impl Inner {
    fn pods(&self) -> MutexGuard<'_, BTreeMap<String, Arc<PodContext>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn logs(&self) -> MutexGuard<'_, Vec<Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_log(&self, pod: &str, container: &str, path: PathBuf) {
        self.logs().push(Log { pod: pod.to_owned(), container: container.to_owned(), path });
    }

    /// A number and an address for a new pod.
    fn next_pod(&self) -> (u32, Ipv4Addr) {
        (self.next.fetch_add(1, Ordering::Relaxed), next_address())
    }

    /// Waits until the machine is on.
    async fn powered(&self) {
        // The sender is this kubelet.
        let _ = self.power.subscribe().wait_for(|&on| on).await;
    }

    fn contact_number(&self) -> u64 {
        self.contact.borrow().number
    }

    /// Waits until contact is made the next time.
    async fn contact_regained(&self) {
        let number = self.contact_number();
        // The sender is this kubelet.
        let _ = self.contact.subscribe().wait_for(|contact| contact.number != number).await;
    }

    /// Waits for contact and then for what needs it; none if contact is lost meanwhile, or made anew.
    async fn in_contact<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut contact = self.contact.subscribe();
        // The sender is this kubelet, which is not gone.
        let number = contact.wait_for(|contact| contact.exists).await.map_or(0, |contact| contact.number);
        tokio::select! {
            biased;
            _ = contact.wait_for(|contact| !contact.exists || contact.number != number) => None,
            done = work => Some(done),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        janitor::remove(&self.directory);
    }
}

/// The next address for a pod: 127.16.0.1 and up. Test processes with neighbouring IDs begin far apart.
fn next_address() -> Ipv4Addr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const FIRST: u32 = 16 << 16;
    const COUNT: u32 = 200 << 16;
    const STRIDE: u32 = 1021;

    let start = std::process::id().wrapping_mul(STRIDE);
    loop {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let [_, b, c, d] = (FIRST + offset).to_be_bytes();
        if d != 0 && d != 255 {
            return Ipv4Addr::new(127, b, c, d);
        }
    }
}

/// The kubelet's main loop: as long as there is contact, heartbeats and the watch of pods.
async fn run(kubelet: Arc<Inner>) {
    loop {
        let work = async {
            let client = client(kubelet.kubeconfig.clone()).await?;
            node::register(&client, &kubelet.name, &kubelet.namespace).await?;
            tokio::try_join!(
                node::keep_alive(&client, &kubelet.name, kubelet.options.heartbeat),
                watch_pods(&kubelet, &client),
            )?;
            anyhow::Ok(())
        };
        if let Some(Err(error)) = Box::pin(kubelet.in_contact(work)).await {
            kubelet.journal.push("", "", Step::Waits(format!("{error:#}")));
            sleep(RETRY).await;
        }
    }
}

/// Begins, changes and ends the pods that are bound to this node. Ends with an error of the API server's.
async fn watch_pods(kubelet: &Arc<Inner>, client: &Client) -> Result<()> {
    let config = watcher::Config::default().fields(&format!("spec.nodeName={}", kubelet.name));
    let mut events = std::pin::pin!(watcher::watcher(Api::<Pod>::all(client.clone()), config));
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event? {
            Event::Init => listed.clear(),
            Event::InitApply(pod) => {
                listed.extend(pod.uid());
                apply(kubelet, client, pod)?;
            }
            Event::InitDone => {
                for (uid, pod) in kubelet.pods().iter() {
                    if !listed.contains(uid) {
                        pod.wanted.send_modify(|wanted| wanted.gone = true);
                    }
                }
            }
            Event::Apply(pod) => apply(kubelet, client, pod)?,
            Event::Delete(pod) => {
                if let Some(context) = kubelet.pods().get(&pod.uid().unwrap_or_default()) {
                    context.wanted.send_replace(Wanted { object: Arc::new(pod), gone: true });
                }
            }
        }
    }
    Ok(())
}

/// Begins a pod, or tells it what has changed.
fn apply(kubelet: &Arc<Inner>, client: &Client, pod: Pod) -> Result<()> {
    let uid = pod.uid().unwrap_or_default();
    let mut pods = kubelet.pods();
    if let Some(context) = pods.get(&uid) {
        context.wanted.send_replace(Wanted { object: Arc::new(pod), gone: false });
        return Ok(());
    }
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    if matches!(phase, Some("Succeeded" | "Failed")) {
        return Ok(());
    }
    let context = Arc::new(PodContext::new(kubelet, client.clone(), pod)?);
    pods.insert(uid.clone(), Arc::clone(&context));
    drop(pods);
    let task = tokio::spawn({
        let kubelet = Arc::clone(kubelet);
        async move {
            let directory = context.directory.clone();
            context.run().await;
            kubelet.pods().remove(&uid);
            janitor::remove(&directory);
        }
    });
    kubelet.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
    Ok(())
}
