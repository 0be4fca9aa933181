//! Nodes that are lost, and what Kubernetes makes of it.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use sluice_tests::cluster::kubelet::Kubelet;
use sluice_tests::cluster::{Cluster, Namespace, Options, until};

use super::workload::{
    BOUND, OBEDIENT, container, deployment, images, is_ready, node, pod_gone, pod_until, ready_pods, runs, shell,
};

/// A control plane that gives nodes up quickly.
async fn impatient() -> Cluster {
    let options = Options { node_grace: Duration::from_secs(6), toleration: Duration::from_secs(1) };
    Cluster::start(options).await.unwrap()
}

/// Two nodes, and one pod; the node that it is on comes first.
async fn two_nodes(namespace: &Namespace<'_>) -> (Kubelet, Kubelet, Pod) {
    let (one, other) = (namespace.kubelet(images()).await.unwrap(), namespace.kubelet(images()).await.unwrap());
    let spec = json!({"containers": [shell("app", OBEDIENT)]});
    namespace.create::<Deployment>(deployment("app", 1, &spec)).await.unwrap();
    let pod = ready_pods(namespace, "app", 1).await.unwrap().remove(0);
    if node(&pod) == one.node() { (one, other, pod) } else { (other, one, pod) }
}

async fn node_until(namespace: &Namespace<'_>, name: &str, ready: &str) {
    let nodes: Api<Node> = Api::all(namespace.client());
    let status = |node: Node| {
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions.into_iter().find(|condition| condition.type_ == "Ready").map(|condition| condition.status)
    };
    until(&format!("{name} is {ready}"), BOUND, || async {
        Ok((status(nodes.get(name).await?).as_deref() == Some(ready)).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn the_pods_of_a_node_that_is_cut_off_are_replaced_while_they_run_and_end_when_it_is_back() {
    let cluster = impatient().await;
    let namespace = cluster.namespace("partition").await.unwrap();
    let (lost, other, pod) = two_nodes(&namespace).await;
    let name = pod.name_any();
    let process = lost.process_id(&name, "app").unwrap();

    lost.partition();
    node_until(&namespace, lost.node(), "Unknown").await;
    let unready = pod_until(&namespace, &name, "is given up", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    assert!(!is_ready(&unready.unwrap()));
    let replaced = until("the pod is replaced", BOUND, || async {
        let pods = namespace.pods("app=app").await?;
        Ok(pods.into_iter().find(|pod| pod.name_any() != name && is_ready(pod)))
    })
    .await
    .unwrap();
    assert_eq!(node(&replaced), other.node());
    assert!(runs(process), "nobody could tell it to end");
    assert!(namespace.api::<Pod>().get_opt(&name).await.unwrap().is_some());

    lost.recover();
    pod_gone(&namespace, &name).await.unwrap();
    assert!(!runs(process));
    node_until(&namespace, lost.node(), "True").await;
}

#[tokio::test]
async fn the_pods_of_a_machine_that_is_off_stay_until_the_node_is_declared_out_of_service() {
    let cluster = impatient().await;
    let namespace = cluster.namespace("off").await.unwrap();
    let (lost, _other, pod) = two_nodes(&namespace).await;
    let name = pod.name_any();
    let process = lost.process_id(&name, "app").unwrap();

    lost.power_off();
    until("the process is gone", BOUND, || async { Ok((!runs(process)).then_some(())) }).await.unwrap();
    node_until(&namespace, lost.node(), "Unknown").await;
    let given_up = pod_until(&namespace, &name, "is given up", |pod| pod.metadata.deletion_timestamp.is_some()).await;
    let reported = container(&given_up.unwrap(), "app").unwrap();
    assert!(reported.state.unwrap().running.is_some(), "nobody was there to report the end");

    let nodes: Api<Node> = Api::all(namespace.client());
    let taint = json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"});
    let mut taints =
        nodes.get(lost.node()).await.unwrap().spec.unwrap().taints.map_or(json!([]), |taints| json!(taints));
    taints.as_array_mut().unwrap().push(taint);
    let patch = Patch::Merge(json!({"spec": {"taints": taints}}));
    nodes.patch(lost.node(), &PatchParams::default(), &patch).await.unwrap();
    pod_gone(&namespace, &name).await.unwrap();
}

#[tokio::test]
async fn a_machine_that_is_on_again_starts_its_containers_again() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("reboot").await.unwrap();
    let (lost, _other, pod) = two_nodes(&namespace).await;
    let name = pod.name_any();
    let process = lost.process_id(&name, "app").unwrap();
    lost.power_off();
    until("the process is gone", BOUND, || async { Ok((!runs(process)).then_some(())) }).await.unwrap();
    lost.recover();
    let again = |pod: &Pod| is_ready(pod) && container(pod, "app").is_some_and(|app| app.restart_count == 1);
    let back = pod_until(&namespace, &name, "is ready again", again).await.unwrap();
    assert_eq!(container(&back, "app").unwrap().last_state.unwrap().terminated.unwrap().exit_code, 137);

    lost.delete_node().await.unwrap();
    let nodes: Api<Node> = Api::all(namespace.client());
    assert!(nodes.get_opt(lost.node()).await.unwrap().is_none());
    lost.recover();
    node_until_registered(&nodes, lost.node()).await;
}

async fn node_until_registered(nodes: &Api<Node>, name: &str) {
    until(&format!("{name} is registered"), BOUND, || async { Ok(nodes.get_opt(name).await?) }).await.unwrap();
}
