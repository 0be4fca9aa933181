//! Nodes that are lost: whoever was on them keeps its slot until somebody vouches for its being dead.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;
use sluice_tests::cluster::kubelet::Kubelet;
use sluice_tests::cluster::until;
use sluice_tests::stage::{BOUND, Plant, Stage, is_ready};
use tokio::time::{Instant, sleep};

/// The platform's groups, of one client slot each, named by what is said of the machine at last.
const GROUPS: [&str; 3] = ["g-fenced-node", "g-deleted-node", "g-deleted-pod"];

/// The idle time-out of the links, and what the operator adds to it.
const LINGERS: Duration = Duration::from_secs(30 + 15);

/// A pod with a sidecar on a Node of the test's choice, that is not evicted early.
async fn pod(plant: &Plant<'_>, name: &str, group: &str, kubelet: &Kubelet) {
    let pod = json!({
        "metadata": {"name": name, "labels": {"app": name, "sluice.dev/consumer-group": group}},
        "spec": {
            "nodeName": kubelet.node(),
            "containers": [{"name": "app", "image": "application:1", "args": ["--journal", "-"]}],
        },
    });
    plant.namespace.create::<Pod>(pod).await.unwrap();
}

/// Whether the API server holds a Node for ready.
async fn readiness(nodes: &Api<Node>, name: &str) -> Option<String> {
    let conditions = nodes.get(name).await.unwrap().status?.conditions?;
    conditions.into_iter().find(|condition| condition.type_ == "Ready").map(|condition| condition.status)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_slot_of_a_pod_on_a_lost_node_is_free_when_somebody_vouches_for_its_end_and_not_before() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("nodes").await.unwrap();
    let pods: Api<Pod> = plant.namespace.api();
    let nodes: Api<Node> = Api::all(plant.client());
    let mut lost = Vec::new();
    for group in GROUPS {
        let short = |spec: &mut serde_json::Value| {
            spec["limits"] = json!({"clientSlots": 1});
            spec["connection"] = json!({"idleTimeout": "30s"});
        };
        plant.group(group, group, short).await.unwrap();
        let kubelet = plant.another_kubelet().await.unwrap();
        pod(&plant, &format!("first-{group}"), group, &kubelet).await;
        lost.push(kubelet);
    }
    for group in GROUPS {
        plant.ready(&format!("first-{group}"), 1).await.unwrap();
        pod(&plant, &format!("next-{group}"), group, &plant.kubelet).await;
        plant.condition(group, "AtCapacity", "True").await.unwrap();
    }

    // The machines are off, and everything is done that does not vouch for it: the Nodes are given up as lost, and a pod
    // is deleted as one deletes pods, which waits for a kubelet.
    for kubelet in &lost {
        kubelet.power_off();
    }
    pods.delete(&format!("first-{}", GROUPS[2]), &DeleteParams::default()).await.unwrap();
    for kubelet in &lost {
        until("the Node is given up", BOUND, || async {
            Ok((readiness(&nodes, kubelet.node()).await.as_deref() == Some("Unknown")).then_some(()))
        })
        .await
        .unwrap();
    }
    sleep(LINGERS + Duration::from_secs(10)).await;
    for group in GROUPS {
        assert!(pods.get_opt(&format!("first-{group}")).await.unwrap().is_some());
        assert_eq!(plant.holders(group).await.unwrap(), [format!("first-{group}")].into(), "{group}");
        assert!(!is_ready(&pods.get(&format!("next-{group}")).await.unwrap()));
    }

    // Somebody vouches, in each of the three ways. The platform may count the old link for so long.
    let vouched = Instant::now();
    let taint = json!({"key": "node.kubernetes.io/out-of-service", "value": "nodeshutdown", "effect": "NoExecute"});
    let mut taints =
        json!(nodes.get(lost[0].node()).await.unwrap().spec.and_then(|spec| spec.taints).unwrap_or_default());
    taints.as_array_mut().unwrap().push(taint);
    let patch = Patch::Merge(json!({"spec": {"taints": taints}}));
    nodes.patch(lost[0].node(), &PatchParams::default(), &patch).await.unwrap();
    lost[1].delete_node().await.unwrap();
    let by_force = DeleteParams::default().grace_period(0);
    pods.delete(&format!("first-{}", GROUPS[2]), &by_force).await.unwrap();
    for group in GROUPS {
        until(&format!("the waiting pod of {group} has the slot"), BOUND, || async {
            Ok((plant.holders(group).await? == [format!("next-{group}")].into()).then_some(()))
        })
        .await
        .unwrap();
        let took = vouched.elapsed();
        assert!(took >= LINGERS, "{group}: {took:?}");
        plant.ready(&format!("next-{group}"), 1).await.unwrap();
        let counts = stage.emulator.admin().group(group).unwrap();
        assert_eq!((counts.clients, counts.clients_peak), (1, 1), "{group}: {counts:?}");
    }
    stage.nothing_was_refused().unwrap();
}
