//! Injection: what becomes of a pod that asks for a sidecar by its label. A pure function of the pod and the operator's
//! settings, which answers with a patch, or with words for whoever created the pod. No ConsumerGroup needs to exist yet.
//!
//! The sidecar is a *native* one (an init container that goes on running; Kubernetes ≥ 1.29) and comes **last** of the
//! init containers, their order kept. So what it may need itself (a service mesh's proxy, say) runs before it and ends
//! after it, long preparations of the application hold no slot, and the application's containers start when the socket is
//! there. Init containers get no socket: they have nothing to consume.
//!
//! A pod that has a container named `sluice` has its sidecar, by injection or by hand, and is left as it is; so injection
//! is idempotent, and containers that other webhooks add later are not taken for the application's.
//!
//! What is here never weakens a pod: no rights, no group, no change to another container but for one variable and one
//! read-only mount, and the pod stays in its class of service and its Pod Security level.

pub mod names;
mod qos;
mod quantity;
mod sidecar;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, Patch, PatchOperation};
use k8s_openapi::api::core::v1::{Container, EnvVar, Pod, PodSpec, VolumeMount};
use serde::Serialize;
use serde_json::{Value, json};

use names::{CONTAINER, GROUP_LABEL};
use quantity::Amount;

/// What an operator puts into pods.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The sidecar's image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; Kubernetes' own default if it is not given.
    pub image_pull_policy: Option<String>,
    /// Where the broker is: `HOST:PORT`, at least one.
    pub brokers: Vec<String>,
    /// The certificates that vouch for it, PEM.
    pub broker_ca: String,
    /// Where the sidecar serves health, metrics and status. If a container of the pod declares this port, the next one
    /// that is free.
    pub admin_port: u16,
    /// What the sidecar asks for.
    pub resources: Resources,
}

/// What the sidecar asks for, as Kubernetes quantities. Nothing in a pod that asks for nothing: it stays `BestEffort`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resources {
    /// CPU that is asked for in a Burstable pod; there is no limit.
    pub cpu_request: String,
    /// CPU that is asked for in a Guaranteed pod, and the limit.
    pub cpu_guaranteed: String,
    /// Memory that is asked for in a Burstable pod.
    pub memory_request: String,
    /// The limit of memory, and what is asked for in a Guaranteed pod. Must hold `delivery.maxInFlightBytes` (64Mi by
    /// default) and the process itself.
    pub memory_limit: String,
}

impl Default for Resources {
    fn default() -> Self {
        Self {
            cpu_request: "25m".into(),
            cpu_guaranteed: "250m".into(),
            memory_request: "32Mi".into(),
            memory_limit: "128Mi".into(),
        }
    }
}

/// The admin port by default. Not 9464: that is where applications with OpenTelemetry serve their metrics.
pub const ADMIN_PORT: u16 = 9465;

/// The time that is kept of a pod's grace period for handing back, closing and freeing the slot, in seconds.
pub const RESERVE_SECONDS: i64 = 5;

/// What a message in hand may take by default (`delivery.leaseDuration`), and that reserve, in seconds.
const NEEDED_GRACE_SECONDS: i64 = 25 + RESERVE_SECONDS;

/// What Kubernetes grants a pod that says nothing, in seconds.
const DEFAULT_GRACE_SECONDS: i64 = 30;

/// What is to be done with a pod.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Injection {
    /// What to change; nothing if there is nothing to do.
    pub patch: Option<Patch>,
    /// What its creator should know.
    pub warnings: Vec<String>,
}

/// Why a pod can't have a sidecar. The text goes to whoever creates it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No ConsumerGroup can be called that.
    #[error(
        "the label {GROUP_LABEL} is {0:?}, which can't be the name of a ConsumerGroup: use the name of one in this \
         namespace (lower-case letters, digits, '-' and '.', a letter or digit first and last)"
    )]
    GroupName(String),
    /// The sidecar runs on Linux.
    #[error(
        "the sidecar runs on Linux only and this pod wants a Windows node: remove the label {GROUP_LABEL}, or os and \
         nodeSelector that ask for Windows"
    )]
    Windows,
    /// An init container that is not a sidecar has the sidecar's name.
    #[error(
        "the init container {CONTAINER:?} does not have restartPolicy: Always, so it is no sidecar: rename it to have one \
         injected, or set restartPolicy: Always if it is the sidecar written by hand"
    )]
    NotASidecar,
    /// An annotation holds what it can't.
    #[error("the annotation {name} is {value:?}: {expected} is expected")]
    Annotation {
        /// Which one.
        name: &'static str,
        /// What it holds.
        value: String,
        /// What it should hold.
        expected: &'static str,
    },
}

/// Decides what becomes of a pod that is about to be created.
pub fn inject(pod: &Pod, settings: &Settings) -> Result<Injection, Refusal> {
    let Some(spec) = &pod.spec else { return Ok(Injection::default()) };
    let Some(group) = pod.metadata.labels.as_ref().and_then(|labels| labels.get(GROUP_LABEL)) else {
        return Ok(Injection::default());
    };
    let annotations = Annotations(pod);
    if !annotations.inject()? || has_sidecar(spec)? {
        return Ok(Injection::default());
    }
    if annotations.of("kubernetes.io/config.mirror").is_some() {
        let warning = "a static pod can't have a sidecar: its node knows nothing of changes".to_owned();
        return Ok(Injection { patch: None, warnings: vec![warning] });
    }
    if !names::is_group_name(group) {
        return Err(Refusal::GroupName(group.clone()));
    }
    if is_for_windows(spec) {
        return Err(Refusal::Windows);
    }

    let place = Place {
        group,
        socket_volume: free_volume(spec, names::SOCKET_VOLUME),
        identity_volume: free_volume(spec, names::IDENTITY_VOLUME),
        admin_port: annotations.admin_port()?.unwrap_or_else(|| free_port(spec, settings.admin_port)),
        grace_seconds: spec.termination_grace_period_seconds.unwrap_or(DEFAULT_GRACE_SECONDS),
        resources: sidecar::resources(
            qos::class(spec),
            &settings.resources,
            annotations.amount(names::SIDECAR_CPU)?,
            annotations.amount(names::SIDECAR_MEMORY)?,
        ),
        user: sidecar::user(spec),
    };
    let mut warnings = warnings(spec, &place);
    let mut changes = Changes::default();
    changes.annotate(pod, names::BROKER_CA, &settings.broker_ca);
    changes.append("volumes", spec.volumes.is_some(), vec![place.socket_volume(), place.identity_volume()]);
    changes.append("initContainers", spec.init_containers.is_some(), vec![place.sidecar(settings)]);
    for (index, container) in spec.containers.iter().enumerate() {
        changes.connect(index, container, &place, &mut warnings);
    }
    Ok(Injection { patch: Some(Patch(changes.0)), warnings })
}

/// Where in this pod the sidecar goes, and how.
struct Place<'a> {
    group: &'a str,
    socket_volume: String,
    identity_volume: String,
    admin_port: u16,
    grace_seconds: i64,
    resources: Option<k8s_openapi::api::core::v1::ResourceRequirements>,
    /// The user and group to run as, if those of pod or image won't do.
    user: Option<i64>,
}

fn has_sidecar(spec: &PodSpec) -> Result<bool, Refusal> {
    let init = spec.init_containers.iter().flatten().find(|container| container.name == CONTAINER);
    match init {
        Some(container) if container.restart_policy.as_deref() == Some("Always") => Ok(true),
        Some(_) => Err(Refusal::NotASidecar),
        None => Ok(spec.containers.iter().any(|container| container.name == CONTAINER)),
    }
}

fn is_for_windows(spec: &PodSpec) -> bool {
    let selected = spec.node_selector.as_ref().and_then(|selector| selector.get("kubernetes.io/os"));
    spec.os.as_ref().is_some_and(|os| os.name == "windows") || selected.is_some_and(|os| os == "windows")
}

fn free_volume(spec: &PodSpec, wanted: &str) -> String {
    names::free(wanted, |name| spec.volumes.iter().flatten().any(|volume| volume.name == name))
}

fn free_port(spec: &PodSpec, wanted: u16) -> u16 {
    let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    let taken: Vec<i32> = containers.flat_map(|it| it.ports.iter().flatten()).map(|port| port.container_port).collect();
    (wanted..=u16::MAX).find(|port| !taken.contains(&i32::from(*port))).unwrap_or(wanted)
}

/// Kubernetes asks that a warning has at most 120 characters.
fn warnings(spec: &PodSpec, place: &Place<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    if place.grace_seconds < NEEDED_GRACE_SECONDS {
        warnings.push(format!(
            "terminationGracePeriodSeconds {} is short: with less than {NEEDED_GRACE_SECONDS}, messages in hand are given to \
             others",
            place.grace_seconds
        ));
    }
    if spec.host_network == Some(true) {
        warnings.push(format!(
            "hostNetwork: port {} of the node is taken by the sidecar, so each node has room for one such pod",
            place.admin_port
        ));
        if spec.dns_policy.as_deref().unwrap_or("ClusterFirst") == "ClusterFirst" {
            warnings.push(
                "hostNetwork: set dnsPolicy: ClusterFirstWithHostNet, or the sidecar can't find the broker by its name"
                    .into(),
            );
        }
    }
    warnings
}

/// A pod's annotations, read as what they mean.
struct Annotations<'a>(&'a Pod);

impl<'a> Annotations<'a> {
    fn of(&self, name: &str) -> Option<&'a str> {
        self.0.metadata.annotations.as_ref()?.get(name).map(String::as_str)
    }

    fn inject(&self) -> Result<bool, Refusal> {
        match self.of(names::INJECT) {
            None | Some("true") => Ok(true),
            Some("false") => Ok(false),
            Some(other) => Err(refuse(names::INJECT, other, "\"true\" or \"false\"")),
        }
    }

    fn admin_port(&self) -> Result<Option<u16>, Refusal> {
        let Some(text) = self.of(names::SIDECAR_ADMIN_PORT) else { return Ok(None) };
        match text.parse::<u16>() {
            Ok(port) if port >= 1024 => Ok(Some(port)),
            _ => Err(refuse(names::SIDECAR_ADMIN_PORT, text, "a port of 1024 to 65535")),
        }
    }

    fn amount(&self, name: &'static str) -> Result<Option<&'a str>, Refusal> {
        let Some(text) = self.of(name) else { return Ok(None) };
        match text.parse::<Amount>() {
            Ok(amount) if !amount.is_zero() => Ok(Some(text)),
            _ => Err(refuse(name, text, "a quantity above zero, such as 100m of CPU or 64Mi of memory,")),
        }
    }
}

fn refuse(name: &'static str, value: &str, expected: &'static str) -> Refusal {
    Refusal::Annotation { name, value: value.to_owned(), expected }
}

/// The operations of the patch. Fields that this program does not know are never touched, since nothing is written back
/// that was read.
#[derive(Default)]
struct Changes(Vec<PatchOperation>);

impl Changes {
    fn add(&mut self, path: &[&str], value: Value) {
        self.0.push(PatchOperation::Add(AddOperation { path: PointerBuf::from_tokens(path.iter().copied()), value }));
    }

    fn annotate(&mut self, pod: &Pod, name: &str, value: &str) {
        if pod.metadata.annotations.is_some() {
            self.add(&["metadata", "annotations", name], json!(value));
        } else {
            self.add(&["metadata", "annotations"], json!({ name: value }));
        }
    }

    /// Appends to a list of the spec, which may not be there yet.
    fn append<T: Serialize>(&mut self, list: &str, exists: bool, items: Vec<T>) {
        if exists {
            for item in items {
                self.add(&["spec", list, "-"], json!(item));
            }
        } else {
            self.add(&["spec", list], json!(items));
        }
    }

    /// Gives one of the application's containers the socket and its address.
    fn connect(&mut self, index: usize, container: &Container, place: &Place<'_>, warnings: &mut Vec<String>) {
        let index = index.to_string();
        let mounts = || container.volume_mounts.iter().flatten();
        let folder = names::free(names::SOCKET_FOLDER, |path| {
            mounts().any(|mount| mount.mount_path.trim_end_matches('/') == path)
        });
        let mount = VolumeMount {
            name: place.socket_volume.clone(),
            mount_path: folder.clone(),
            // One can connect to a socket on a read-only mount; this keeps the folder the sidecar's own.
            read_only: Some(true),
            ..VolumeMount::default()
        };
        if container.volume_mounts.is_some() {
            self.add(&["spec", "containers", &index, "volumeMounts", "-"], json!(mount));
        } else {
            self.add(&["spec", "containers", &index, "volumeMounts"], json!([mount]));
        }

        let name = names::ADDRESS_VARIABLE;
        if container.env.iter().flatten().any(|variable| variable.name == name) {
            warnings.push(format!("container {:?} sets {name} itself: the sidecar is at {folder}", container.name));
            return;
        }
        let address = format!("unix://{folder}/{}", names::SOCKET);
        let variable = EnvVar { name: name.to_owned(), value: Some(address), value_from: None };
        if container.env.is_some() {
            // First, so that the container's own variables can refer to it.
            self.add(&["spec", "containers", &index, "env", "0"], json!(variable));
        } else {
            self.add(&["spec", "containers", &index, "env"], json!([variable]));
        }
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
