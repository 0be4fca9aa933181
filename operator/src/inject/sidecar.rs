//! The sidecar's container and its volumes, as they go into a pod.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, DownwardAPIProjection, DownwardAPIVolumeFile, EmptyDirVolumeSource, EnvVar,
    EnvVarSource, ExecAction, HTTPGetAction, Lifecycle, LifecycleHandler, ObjectFieldSelector, PodSpec, Probe,
    ProjectedVolumeSource, ResourceRequirements, SeccompProfile, SecurityContext, ServiceAccountTokenProjection,
    Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::qos::Class;
use super::{Place, RESERVE_SECONDS, Resources, Settings, names};

/// The user and group to run as where the pod's own is root: those of the sidecar's image.
const NOBODY: i64 = 65532;

/// How long a token is valid; the kubelet renews it long before.
const TOKEN_SECONDS: i64 = 3600;

/// Room for the socket and for the few numbers that outlive a restart of the container.
const SOCKET_VOLUME_SIZE: &str = "1Mi";

/// What the sidecar asks for in a pod of this class, so that it stays in it. `cpu` and `memory` are what the pod's
/// annotations want, which counts for more.
pub(super) fn resources(
    class: Class,
    defaults: &Resources,
    cpu: Option<&str>,
    memory: Option<&str>,
) -> Option<ResourceRequirements> {
    let (cpu_request, cpu_limit, memory_request, memory_limit) = match class {
        Class::Guaranteed => {
            let cpu = cpu.unwrap_or(&defaults.cpu_guaranteed);
            let memory = memory.unwrap_or(&defaults.memory_limit);
            (Some(cpu), Some(cpu), Some(memory), Some(memory))
        }
        Class::Burstable => (
            Some(cpu.unwrap_or(&defaults.cpu_request)),
            None,
            Some(memory.unwrap_or(&defaults.memory_request)),
            Some(memory.unwrap_or(&defaults.memory_limit)),
        ),
        Class::BestEffort | Class::PodLevel => (cpu, None, memory, memory),
    };
    let list = |cpu: Option<&str>, memory: Option<&str>| {
        let entries = [("cpu", cpu), ("memory", memory)].into_iter();
        let list: BTreeMap<_, _> =
            entries.filter_map(|(name, value)| Some((name.to_owned(), Quantity(value?.to_owned())))).collect();
        (!list.is_empty()).then_some(list)
    };
    let requests = list(cpu_request, memory_request);
    let limits = list(cpu_limit, memory_limit);
    (requests.is_some() || limits.is_some()).then_some(ResourceRequirements { claims: None, limits, requests })
}

/// The user to run as: the pod's or the image's own, which is not root, unless the pod says root for all its containers.
pub(super) fn user(spec: &PodSpec) -> Option<i64> {
    let pod = spec.security_context.as_ref()?;
    (pod.run_as_user == Some(0)).then_some(NOBODY)
}

impl Place<'_> {
    /// The socket's folder, in memory: nothing of it outlives the pod.
    pub(super) fn socket_volume(&self) -> Volume {
        Volume {
            name: self.socket_volume.clone(),
            empty_dir: Some(EmptyDirVolumeSource {
                medium: Some("Memory".into()),
                size_limit: Some(Quantity(SOCKET_VOLUME_SIZE.into())),
            }),
            ..Volume::default()
        }
    }

    /// Who the sidecar is, and whom it trusts.
    pub(super) fn identity_volume(&self) -> Volume {
        let token = ServiceAccountTokenProjection {
            audience: Some(names::AUDIENCE.into()),
            expiration_seconds: Some(TOKEN_SECONDS),
            path: names::TOKEN_FILE.into(),
        };
        let certificates = DownwardAPIVolumeFile {
            path: names::CA_FILE.into(),
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: format!("metadata.annotations['{}']", names::BROKER_CA),
            }),
            ..DownwardAPIVolumeFile::default()
        };
        let sources = vec![
            VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
            VolumeProjection {
                downward_api: Some(DownwardAPIProjection { items: Some(vec![certificates]) }),
                ..VolumeProjection::default()
            },
        ];
        Volume {
            name: self.identity_volume.clone(),
            projected: Some(ProjectedVolumeSource { default_mode: None, sources: Some(sources) }),
            ..Volume::default()
        }
    }

    /// The container.
    pub(super) fn sidecar(&self, settings: &Settings) -> Container {
        Container {
            name: names::CONTAINER.into(),
            image: Some(settings.image.clone()),
            image_pull_policy: settings.image_pull_policy.clone(),
            args: Some(self.arguments(settings)),
            env: Some(vec![pod_ip()]),
            ports: Some(vec![ContainerPort {
                name: Some(names::ADMIN_PORT.into()),
                container_port: i32::from(self.admin_port),
                protocol: Some("TCP".into()),
                ..ContainerPort::default()
            }]),
            resources: self.resources.clone(),
            restart_policy: Some("Always".into()),
            security_context: Some(self.security()),
            // Started: the socket listens, so the application may be started.
            startup_probe: Some(Probe {
                period_seconds: Some(1),
                failure_threshold: Some(60),
                ..self.probe("/healthz")
            }),
            // Every other second, for the sake of rollouts: a pod of 64 that turns ready late holds up the next.
            readiness_probe: Some(Probe {
                period_seconds: Some(2),
                failure_threshold: Some(2),
                ..self.probe("/readyz")
            }),
            // The kubelet ends a native sidecar only after the application: this hook is what lets it drain before.
            lifecycle: Some(Lifecycle {
                pre_stop: Some(LifecycleHandler {
                    exec: Some(ExecAction { command: Some(self.drain()) }),
                    ..LifecycleHandler::default()
                }),
                ..Lifecycle::default()
            }),
            termination_message_policy: Some("FallbackToLogsOnError".into()),
            volume_mounts: Some(vec![
                mount(&self.socket_volume, names::SOCKET_FOLDER, None),
                mount(&self.identity_volume, names::IDENTITY_FOLDER, Some(true)),
                // In place of a token that could do what the application may: the sidecar has no use for any.
                mount(&self.identity_volume, names::ACCOUNT_FOLDER, Some(true)),
            ]),
            ..Container::default()
        }
    }

    fn arguments(&self, settings: &Settings) -> Vec<String> {
        let mut arguments = vec!["run".to_owned()];
        let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        add("--group", self.group.to_owned());
        for broker in &settings.brokers {
            add("--broker", broker.clone());
        }
        add("--broker-ca", format!("{}/{}", names::IDENTITY_FOLDER, names::CA_FILE));
        add("--token-file", format!("{}/{}", names::IDENTITY_FOLDER, names::TOKEN_FILE));
        add("--listen", socket_address());
        // The pod's address, for the kubelet's probes; what is served there can only be read.
        add("--admin", format!("$({POD_IP}):{}", self.admin_port));
        arguments
    }

    fn drain(&self) -> Vec<String> {
        // The hook is part of the grace period.
        let seconds = (self.grace_seconds - RESERVE_SECONDS).max(1);
        ["/sluice-sidecar", "drain", "--listen", &socket_address(), "--timeout", &seconds.to_string()]
            .map(str::to_owned)
            .into()
    }

    fn probe(&self, path: &str) -> Probe {
        Probe {
            http_get: Some(HTTPGetAction {
                path: Some(path.to_owned()),
                port: IntOrString::Int(i32::from(self.admin_port)),
                ..HTTPGetAction::default()
            }),
            timeout_seconds: Some(2),
            ..Probe::default()
        }
    }

    /// All that the Pod Security Standard *restricted* wants, said on the container itself: the pod may say less.
    fn security(&self) -> SecurityContext {
        SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".into()]) }),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            run_as_user: self.user,
            run_as_group: self.user,
            seccomp_profile: Some(SeccompProfile { localhost_profile: None, type_: "RuntimeDefault".into() }),
            ..SecurityContext::default()
        }
    }
}

/// The variable that holds the pod's address.
const POD_IP: &str = "POD_IP";

fn pod_ip() -> EnvVar {
    EnvVar {
        name: POD_IP.into(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector { api_version: Some("v1".into()), field_path: "status.podIP".into() }),
            ..EnvVarSource::default()
        }),
    }
}

fn socket_address() -> String {
    format!("unix://{}/{}", names::SOCKET_FOLDER, names::SOCKET)
}

fn mount(volume: &str, path: &str, read_only: Option<bool>) -> VolumeMount {
    VolumeMount { name: volume.to_owned(), mount_path: path.to_owned(), read_only, ..VolumeMount::default() }
}
