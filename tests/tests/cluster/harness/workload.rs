//! Pods for the tests of the harness: small shell programs.

use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use serde_json::{Value, json};
use sluice_tests::cluster::kubelet::{Image, Images, Kubelet, Step};
use sluice_tests::cluster::{Namespace, until};

/// For everything that Kubernetes does in seconds.
pub(super) const BOUND: Duration = Duration::from_mins(2);

/// A program that ends at SIGTERM, at once and well.
pub(super) const OBEDIENT: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

/// The images of all of these tests.
pub(super) fn images() -> Images {
    Images::new().with("shell", Image::shell())
}

/// A container that runs a script.
pub(super) fn shell(name: &str, script: &str) -> Value {
    json!({"name": name, "image": "localhost/shell:1", "command": ["sh", "-c", script]})
}

/// As [`shell`], with further fields.
pub(super) fn shell_with(name: &str, script: &str, fields: Value) -> Value {
    let mut container = shell(name, script);
    let Value::Object(fields) = fields else { panic!("fields are an object") };
    container.as_object_mut().unwrap().extend(fields);
    container
}

/// A pod with this specification.
pub(super) fn pod(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec})
}

/// A Deployment of pods with this specification.
pub(super) fn deployment(name: &str, replicas: u32, spec: &Value) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": spec},
        },
    })
}

/// Whether the pod's condition `Ready` is true.
pub(super) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").as_deref() == Some("True")
}

/// The status of a condition.
pub(super) fn condition(pod: &Pod, type_: &str) -> Option<String> {
    let mut conditions = pod.status.as_ref()?.conditions.iter().flatten();
    Some(conditions.find(|condition| condition.type_ == type_)?.status.clone())
}

/// The status of a container, an init container or not.
pub(super) fn container(pod: &Pod, name: &str) -> Option<ContainerStatus> {
    let status = pod.status.as_ref()?;
    let all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    all.into_iter().find(|container| container.name == name).cloned()
}

/// Waits until the pod is as wanted.
pub(super) async fn pod_until(
    namespace: &Namespace<'_>,
    name: &str,
    what: &str,
    wanted: impl Fn(&Pod) -> bool,
) -> Result<Pod> {
    let pods = namespace.api::<Pod>();
    until(&format!("{name} {what}"), BOUND, || async { Ok(pods.get_opt(name).await?.filter(&wanted)) }).await
}

/// Waits until the pod's object is gone.
pub(super) async fn pod_gone(namespace: &Namespace<'_>, name: &str) -> Result<()> {
    let pods = namespace.api::<Pod>();
    until(&format!("{name} is gone"), BOUND, || async { Ok(pods.get_opt(name).await?.is_none().then_some(())) }).await
}

/// Waits until exactly `count` pods with the label `app` exist and are ready, none of them about to end.
pub(super) async fn ready_pods(namespace: &Namespace<'_>, app: &str, count: usize) -> Result<Vec<Pod>> {
    until(&format!("{count} pods of {app} are ready"), BOUND, || async {
        let pods = namespace.pods(&format!("app={app}")).await?;
        let good = |pod: &Pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none();
        Ok((pods.len() == count && pods.iter().all(good)).then_some(pods))
    })
    .await
}

/// The steps of one pod: `CONTAINER STEP`, without process IDs and without what went wrong with a hook.
pub(super) fn steps(kubelet: &Kubelet, pod: &str) -> Vec<String> {
    let journal = kubelet.journal().into_iter().filter(|entry| entry.pod == pod && !entry.container.is_empty());
    journal
        .map(|entry| match entry.step {
            Step::Started(_) => format!("{} started", entry.container),
            Step::PreStopped(_) => format!("{} preStopped", entry.container),
            step => format!("{} {step:?}", entry.container),
        })
        .collect()
}

/// The place of a step in [`steps`].
#[track_caller]
pub(super) fn place(steps: &[String], step: &str) -> usize {
    steps.iter().position(|found| found == step).unwrap_or_else(|| panic!("{step} is not in {steps:#?}"))
}

/// The names of pods.
pub(super) fn names(pods: &[Pod]) -> Vec<String> {
    pods.iter().map(kube::ResourceExt::name_any).collect()
}

/// Whether a process of this machine runs.
pub(super) fn runs(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

/// The node that a pod is bound to.
pub(super) fn node(pod: &Pod) -> String {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.clone())
        .unwrap_or_else(|| panic!("{} has no node", pod.name_any()))
}
