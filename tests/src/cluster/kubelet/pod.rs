//! The life of one pod on its node, from the moment at which it is bound there until its object is gone.

use std::fmt;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container as ContainerSpec, Pod, Volume};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Inner;
use super::container::{Container, Role, all_ended};
use super::invocation::Mounts;
use super::journal::Step;
use super::sources::{Facts, Sources};
use super::status::{self, Since, View};
use super::volumes::Volumes;

/// How long to wait before the API server is asked again after a failure.
const RETRY: Duration = Duration::from_millis(200);

/// The grace period of a pod that does not say.
const GRACE: Duration = Duration::from_secs(30);

/// What the API server wants of a pod.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) object: Arc<Pod>,
    /// The object is gone, though this kubelet has not deleted it.
    pub(super) gone: bool,
}

/// What the parts of one pod share.
pub(super) struct PodContext {
    pub(super) kubelet: Arc<Inner>,
    pub(super) client: Client,
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) ip: Ipv4Addr,
    pub(super) directory: PathBuf,
    pub(super) wanted: watch::Sender<Wanted>,
    pub(super) containers: Vec<Arc<Container>>,
    /// Something is to be reported.
    pub(super) changed: Notify,
    begun: Timestamp,
    volumes: tokio::sync::Mutex<Volumes>,
    report: tokio::sync::Mutex<Report>,
    terminal: Mutex<bool>,
}

impl fmt::Debug for PodContext {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("PodContext").field("name", &self.name).field("uid", &self.uid).finish_non_exhaustive()
    }
}

/// What has been reported.
#[derive(Debug, Default)]
struct Report {
    since: Since,
    last: Option<(u64, Value)>,
}

impl PodContext {
    pub(super) fn new(kubelet: &Arc<Inner>, client: Client, object: Pod) -> Result<Self> {
        let (number, ip) = kubelet.next_pod();
        let directory = kubelet.directory.join(format!("p{number}"));
        std::fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let name = object.name_any();
        let spec = object.spec.clone().unwrap_or_default();
        let inits = spec.init_containers.unwrap_or_default();
        let waits_for = if inits.is_empty() { "ContainerCreating" } else { "PodInitializing" };
        let inits = inits.into_iter().map(|init| {
            let always = init.restart_policy.as_deref() == Some("Always");
            (if always { Role::Sidecar } else { Role::Init }, init)
        });
        let apps = spec.containers.into_iter().map(|app| (Role::App, app));
        let containers: Vec<_> = inits
            .chain(apps)
            .map(|(role, spec)| {
                let log = kubelet.directory.join(format!("p{number}.{}.log", spec.name));
                kubelet.add_log(&name, &spec.name, log.clone());
                Arc::new(Container::new(spec, role, waits_for, log))
            })
            .collect();
        for (index, container) in containers.iter().enumerate().filter(|(_, container)| container.role != Role::App) {
            // Sidecars are stopped when the proper containers have ended, the last one first.
            container.set_turn(containers[index + 1..].iter().map(|other| other.ended()).collect());
        }
        Ok(Self {
            kubelet: Arc::clone(kubelet),
            client,
            uid: object.uid().unwrap_or_default(),
            name,
            ip,
            volumes: tokio::sync::Mutex::new(Volumes::new(directory.join("v"))),
            directory,
            wanted: watch::Sender::new(Wanted { object: Arc::new(object), gone: false }),
            containers,
            changed: Notify::new(),
            begun: Timestamp::now(),
            report: tokio::sync::Mutex::default(),
            terminal: Mutex::new(false),
        })
    }

    /// The pod's object, as it was last seen.
    pub(super) fn object(&self) -> Arc<Pod> {
        Arc::clone(&self.wanted.borrow().object)
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &self.object().namespace().unwrap_or_default())
    }

    pub(super) fn restart_policy(&self) -> String {
        let object = self.object();
        let policy = object.spec.as_ref().and_then(|spec| spec.restart_policy.clone());
        policy.unwrap_or_else(|| "Always".to_owned())
    }

    /// The time between the wish that the pod end and SIGKILL.
    pub(super) fn grace(&self) -> Duration {
        let object = self.object();
        let seconds = object.metadata.deletion_grace_period_seconds;
        let seconds = seconds.or_else(|| object.spec.as_ref()?.termination_grace_period_seconds);
        // A pod that is deleted by force gets a second.
        seconds.map_or(GRACE, |seconds| Duration::from_secs(seconds.unsigned_abs().max(1)))
    }

    pub(super) fn note(&self, container: &str, step: Step) {
        self.kubelet.journal.push(&self.name, container, step);
    }

    /// The Secrets and `ConfigMap`s that the pod refers to, as they are now.
    pub(super) async fn sources(&self) -> Result<Sources> {
        Sources::fetch(&self.client, &self.object()).await
    }

    /// The folder of a volume.
    pub(super) fn volume(&self, volume: &Volume) -> PathBuf {
        let host = volume.host_path.as_ref().map(|host| PathBuf::from(&host.path));
        host.unwrap_or_else(|| self.directory.join("v").join(&volume.name))
    }

    /// Where a container's mounts are.
    pub(super) fn mounts(&self, container: &ContainerSpec) -> Result<Mounts, String> {
        let object = self.object();
        let volumes = object.spec.as_ref().and_then(|spec| spec.volumes.as_ref());
        let mut mounts = Vec::new();
        for mount in container.volume_mounts.iter().flatten() {
            let volume = volumes.into_iter().flatten().find(|volume| volume.name == mount.name);
            let volume = volume.ok_or_else(|| format!("there is no volume {}", mount.name))?;
            if mount.sub_path_expr.is_some() {
                return Err("this kubelet does not know subPathExpr".to_owned());
            }
            let mut folder = self.volume(volume);
            if let Some(sub_path) = &mount.sub_path {
                folder.push(sub_path);
                if volume.empty_dir.is_some() {
                    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
                }
            }
            mounts.push((mount.mount_path.clone(), folder));
        }
        Ok(Mounts::new(mounts))
    }

    /// Runs the pod until its object is gone.
    pub(super) async fn run(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&self).keep_reporting());
        let mut running = JoinSet::new();
        tokio::select! {
            () = self.start_up(&mut running) => {}
            () = self.unwanted() => {}
        }
        self.stop_all().await;
        while running.join_next().await.is_some() {}
        tasks.abort_all();
        *self.terminal.lock().unwrap_or_else(PoisonError::into_inner) = true;
        if !self.report_until_it_is_known().await {
            return;
        }
        self.unwanted().await;
        if !self.wanted.borrow().gone {
            self.delete_object().await;
        }
    }

    /// Volumes, then init containers and sidecars one after the other, then the containers. Ends when these have ended
    /// for good, or can't be started.
    async fn start_up(self: &Arc<Self>, running: &mut JoinSet<()>) {
        while let Err(error) = self.update_volumes().await {
            self.note("", Step::Waits(format!("{error:#}")));
            sleep(RETRY).await;
        }
        running.spawn({
            let pod = Arc::clone(self);
            async move { pod.keep_volumes().await }
        });
        for container in self.containers.iter().filter(|container| container.role != Role::App) {
            self.begin(container, running);
            if container.role == Role::Sidecar {
                // The sender is the container.
                let _ = container.state.subscribe().wait_for(|state| state.started).await;
            } else {
                all_ended(vec![container.ended()]).await;
                if !container.succeeded() {
                    return;
                }
            }
        }
        let apps: Vec<_> = self.containers.iter().filter(|container| container.role == Role::App).collect();
        for app in &apps {
            self.begin(app, running);
        }
        all_ended(apps.iter().map(|app| app.ended()).collect()).await;
    }

    fn begin(self: &Arc<Self>, container: &Arc<Container>, running: &mut JoinSet<()>) {
        container.begin();
        running.spawn(Arc::clone(container).run(Arc::clone(self)));
    }

    /// Waits until the pod is to end.
    async fn unwanted(&self) {
        let is_unwanted = |wanted: &Wanted| wanted.gone || wanted.object.metadata.deletion_timestamp.is_some();
        // The sender is this pod.
        let _ = self.wanted.subscribe().wait_for(is_unwanted).await;
    }

    /// Stops every container in the kubelet's order: preStop hooks of all of them at once, SIGTERM in turn.
    async fn stop_all(&self) {
        let mut wanted = self.wanted.subscribe();
        let order = || {
            let deadline = Instant::now() + self.grace();
            self.containers.iter().for_each(|container| container.stop_by(deadline));
        };
        order();
        self.containers.iter().for_each(|container| container.forgo_unless_begun());
        let all = all_ended(self.containers.iter().map(|container| container.ended()).collect());
        let shorten = async {
            // A second deletion may leave less time.
            while wanted.changed().await.is_ok() {
                order();
            }
        };
        tokio::select! {
            () = all => {}
            () = shorten => {}
        }
    }

    async fn update_volumes(&self) -> Result<()> {
        let object = self.object();
        let sources = Sources::fetch(&self.client, &object).await?;
        let facts = Facts { pod: &object, ip: self.ip };
        self.volumes.lock().await.update(&self.client, facts, &sources).await
    }

    /// Keeps the volumes up to date until all containers have ended.
    async fn keep_volumes(&self) {
        let refresh = async {
            loop {
                sleep(self.kubelet.options.refresh).await;
                if let Some(Err(error)) = self.kubelet.in_contact(self.update_volumes()).await {
                    self.note("", Step::Waits(format!("{error:#}")));
                }
            }
        };
        tokio::select! {
            () = refresh => {}
            () = all_ended(self.containers.iter().map(|container| container.ended()).collect()) => {}
        }
    }

    /// Reports every change, as long as the node is in contact.
    async fn keep_reporting(self: Arc<Self>) {
        loop {
            if !matches!(self.kubelet.in_contact(self.report()).await, Some(Ok(_))) {
                sleep(RETRY).await;
                self.changed.notify_one();
            }
            tokio::select! {
                () = self.changed.notified() => {}
                () = self.kubelet.contact_regained() => {}
            }
        }
    }

    /// Reports the end. Whether the pod's object is still there.
    async fn report_until_it_is_known(&self) -> bool {
        loop {
            match self.kubelet.in_contact(self.report()).await {
                Some(Ok(exists)) => return exists && !self.wanted.borrow().gone,
                _ => sleep(RETRY).await,
            }
        }
    }

    /// Writes the status if it is not what was written last. Whether the pod's object exists.
    async fn report(&self) -> Result<bool> {
        let mut report = self.report.lock().await;
        let contact = self.kubelet.contact_number();
        let views: Vec<_> = self.containers.iter().map(|container| view(container)).collect();
        let terminal = *self.terminal.lock().unwrap_or_else(PoisonError::into_inner);
        let object = self.object();
        let now = Timestamp::now();
        let status = status::pod_status(&object, &views, self.ip, self.begun, terminal, &mut report.since, now);
        let current = (contact, status::patch(&status)?);
        if report.last.as_ref() == Some(&current) {
            return Ok(true);
        }
        let patch = json!({"metadata": {"uid": self.uid}, "status": current.1});
        match self.api().patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
            Ok(_) => {
                report.last = Some(current);
                Ok(true)
            }
            // Gone, or another pod of that name.
            Err(kube::Error::Api(error)) if error.code == 404 || error.code == 409 => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes the pod's object: nothing of it runs any more.
    async fn delete_object(&self) {
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: Some(self.uid.clone()), ..Preconditions::default() }),
            ..DeleteParams::default()
        };
        loop {
            match self.kubelet.in_contact(self.api().delete(&self.name, &params)).await {
                Some(Ok(_)) => return,
                Some(Err(kube::Error::Api(error))) if error.code == 404 || error.code == 409 => return,
                _ => sleep(RETRY).await,
            }
        }
    }
}

fn view(container: &Container) -> View {
    View {
        name: container.spec.name.clone(),
        image: container.spec.image.clone().unwrap_or_default(),
        role: container.role,
        state: container.state.borrow().clone(),
    }
}
