//! The Node object and its Lease: what tells Kubernetes that the machine is alive.

use std::time::Duration;

use anyhow::Result;
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::sources::HOST_IP;
use crate::cluster::namespace::NODE_LABEL;

/// Where the Leases of nodes are.
const LEASES: &str = "kube-node-lease";

/// Registers the node, or takes up what is there of it.
pub(super) async fn register(client: &Client, name: &str, namespace: &str) -> Result<()> {
    let version = client.apiserver_version().await?.git_version;
    let node: Node = serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", NODE_LABEL: namespace},
        },
        "status": status(&version),
    }))?;
    let nodes: Api<Node> = Api::all(client.clone());
    match nodes.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(error)) if error.code == 409 => report(&nodes, name, &version).await?,
        Err(error) => return Err(error.into()),
    }
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": micro_time()},
    }))?;
    match Api::<Lease>::namespaced(client.clone(), LEASES).create(&PostParams::default(), &lease).await {
        Err(kube::Error::Api(error)) if error.code == 409 => Ok(()),
        other => Ok(other.map(drop)?),
    }
}

/// Renews the Lease every `period`, and says again that the node is ready if someone has said otherwise. Ends with an
/// error of the API server's.
pub(super) async fn keep_alive(client: &Client, name: &str, period: Duration) -> Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    let leases: Api<Lease> = Api::namespaced(client.clone(), LEASES);
    loop {
        let renewal = json!({"spec": {"renewTime": micro_time()}});
        leases.patch(name, &PatchParams::default(), &Patch::Merge(renewal)).await?;
        // A node that was deleted stays so until it is registered anew, as with a real kubelet.
        if let Some(node) = nodes.get_opt(name).await?
            && !is_ready(&node)
        {
            let version = node.status.and_then(|status| status.node_info).map(|info| info.kubelet_version);
            report(&nodes, name, &version.unwrap_or_default()).await?;
        }
        sleep(period).await;
    }
}

async fn report(nodes: &Api<Node>, name: &str, version: &str) -> Result<()> {
    let patch = json!({"status": status(version)});
    nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(patch)).await?;
    Ok(())
}

/// Whether the node's condition `Ready` is true.
pub(super) fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

fn micro_time() -> String {
    format!("{:.6}", Timestamp::now())
}

fn status(version: &str) -> Value {
    let now = format!("{:.0}", Timestamp::now());
    let condition = |type_: &str, status: &str, reason: &str| json!({"type": type_, "status": status, "reason": reason, "lastHeartbeatTime": now, "lastTransitionTime": now});
    // Enough for every test: what pods ask for is not set aside on this machine.
    let resources = json!({"cpu": "1000", "memory": "4Ti", "ephemeral-storage": "4Ti", "pods": "1000"});
    json!({
        "capacity": resources,
        "allocatable": resources,
        "addresses": [{"type": "InternalIP", "address": HOST_IP.to_string()}],
        "conditions": [
            condition("Ready", "True", "KubeletReady"),
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        ],
        "nodeInfo": {
            "kubeletVersion": version,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
            "containerRuntimeVersion": "process://1",
            "osImage": "",
            "kernelVersion": "",
            "bootID": "",
            "machineID": "",
            "systemUUID": "",
        },
    })
}
