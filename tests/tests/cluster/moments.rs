//! An operator that dies at each step of a grant and of a slot's return, and a watch that loses what it should tell: a gate
//! between operator and API server makes the moment.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use sluice_operator::slots::PlatformGroup;
use sluice_tests::admin::NewMessage;
use sluice_tests::cluster::kubelet::Signal;
use sluice_tests::cluster::{Gate, Moment, until};
use sluice_tests::emulator::INSTANCE;
use sluice_tests::stage::{BOUND, Operator, Plant, SYSTEM, Stage};
use tokio::time::Instant;

const PLATFORM: &str = "
groups: [g-before, g-after, g-told, g-heard]
openApi: {figuresEvery: 0s, callsPerSecond: 100}
";

/// A group of the platform for each step at which the operator dies, named by it; ConsumerGroup and workload too.
const BEFORE: &str = "g-before";
const AFTER: &str = "g-after";
const TOLD: &str = "g-told";
const HEARD: &str = "g-heard";
const ALL: [&str; 4] = [BEFORE, AFTER, TOLD, HEARD];

/// What a sidecar logs that takes a grant up.
const HOLDS: &str = "client slots held";

/// The idle time-out of the links, and what the operator adds to it.
const LINGERS: Duration = Duration::from_secs(30 + 15);

/// The name of a group's slot table.
fn table(group: &str) -> String {
    PlatformGroup { instance: INSTANCE.to_owned(), group_id: group.to_owned() }.config_map_name()
}

/// Who holds the one slot of a group, and by which grant, as it is recorded.
async fn recorded(stage: &Stage, group: &str) -> Option<(String, u64)> {
    let table = stage.table(group).await.unwrap()?;
    let holders = table["holders"].as_array()?;
    assert!(holders.len() <= 1, "{table}");
    let holder = holders.first()?;
    Some((holder["pod"]["name"].as_str()?.to_owned(), holder["epoch"].as_u64()?))
}

async fn scale(plant: &Plant<'_>, workload: &str, replicas: i32) {
    let scale = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let deployments: Api<Deployment> = plant.namespace.api();
    deployments.patch_scale(workload, &PatchParams::default(), &scale).await.unwrap();
}

/// The one pod of a workload whose sidecar has logged this, and not one of those.
async fn pod_that_logs(plant: &Plant<'_>, workload: &str, words: &str, but: &[&str]) -> String {
    until(&format!("a pod of {workload} says: {words}"), BOUND, || async {
        let pods = plant.namespace.pods(&format!("app={workload}")).await?;
        let found = pods
            .iter()
            .map(kube::ResourceExt::name_any)
            .find(|pod| !but.contains(&pod.as_str()) && plant.kubelet.log(pod, "sluice").contains(words));
        Ok(found)
    })
    .await
    .unwrap()
}

/// Whether a pod's sidecar has ever been told of slots.
fn holds(plant: &Plant<'_>, pod: &str) -> bool {
    plant.kubelet.log(pod, "sluice").contains(HOLDS)
}

/// Another operator, which leads at once: whoever knows that the one before is dead need not wait for its Lease to run out.
async fn successor(stage: &Stage, gate: &Gate) -> Operator {
    let leases: Api<Lease> = Api::namespaced(stage.cluster.client().await.unwrap(), SYSTEM);
    leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    let operator = stage.operator_behind(gate, 0).await.unwrap();
    until("the operator leads", BOUND, || async {
        Ok((operator.metric("sluice_operator_leader", "")? > 0.0).then_some(()))
    })
    .await
    .unwrap();
    operator
}

/// The operator dies with grants unwritten, written and not told, told to a sidecar that has not read it, and just taken up.
async fn dies_while_it_grants(plant: &Plant<'_>, gate: &Gate, mut operator: Operator) -> Operator {
    let stage = plant.stage;
    let mut before = gate.stop(&table(BEFORE), Moment::Request);
    let mut after = gate.stop(&table(AFTER), Moment::Answer);
    let mut told = gate.stop(&table(TOLD), Moment::Request);
    let mut heard = gate.stop(&table(HEARD), Moment::Request);
    for group in ALL {
        plant.workers(group, group, 1, &["--journal", "-"]).await.unwrap();
    }
    for stop in [&mut before, &mut after, &mut told, &mut heard] {
        stop.caught(BOUND).await.unwrap();
    }
    // This one is told while its sidecar hears nothing.
    let deaf = plant.namespace.pods(&format!("app={TOLD}")).await.unwrap()[0].name_any();
    plant.kubelet.kill_container(&deaf, "sluice", Signal::STOP).unwrap();
    told.release();
    let granted = format!("group={}/{TOLD} epoch=", plant.namespace.name());
    operator.process().wait_for_log(&granted, BOUND).unwrap();
    assert!(!holds(plant, &deaf));
    heard.release();
    let holding = pod_that_logs(plant, HEARD, HOLDS, &[]).await;
    operator.process().kill().unwrap();

    assert_eq!(recorded(stage, BEFORE).await, None);
    for group in [BEFORE, AFTER] {
        let pods = plant.namespace.pods(&format!("app={group}")).await.unwrap();
        assert!(!holds(plant, &pods[0].name_any()), "{group} was told of a grant whose record was not confirmed");
    }
    let (_, untold) = recorded(stage, AFTER).await.unwrap();
    let (holder, unread) = recorded(stage, TOLD).await.unwrap();
    assert_eq!(holder, deaf);
    let taken_up = recorded(stage, HEARD).await;
    assert_eq!(taken_up.as_ref().map(|(pod, _)| pod), Some(&holding));
    plant.kubelet.kill_container(&deaf, "sluice", Signal::CONT).unwrap();
    gate.clear();

    let operator = successor(stage, gate).await;
    for group in ALL {
        pod_that_logs(plant, group, HOLDS, &[]).await;
    }
    until("the sidecars have found it", BOUND, || async {
        Ok((operator.metric("sluice_operator_control_streams", "")? >= 4.0).then_some(()))
    })
    .await
    .unwrap();
    // Who has never heard of a grant gets another one; who has keeps it. What was sent to the deaf one came with the end of
    // its stream, and it may have read the one or the other first.
    assert!(recorded(stage, AFTER).await.unwrap().1 > untold);
    assert_eq!(recorded(stage, HEARD).await, taken_up);
    let (holder, now) = recorded(stage, TOLD).await.unwrap();
    let read = plant.kubelet.log(&deaf, "sluice").contains(&format!("{HOLDS} epoch={unread} "));
    assert!(holder == deaf && (now == unread) == read, "epoch {now}, after {unread}, which was read: {read}");
    operator
}

/// The operator dies with a slot given back: not recorded yet, and recorded for the next pod, which has not been told.
async fn dies_while_it_frees(plant: &Plant<'_>, gate: &Gate, operator: Operator) -> Operator {
    let stage = plant.stage;
    let pods: Api<Pod> = plant.namespace.api();
    let mut first = Vec::new();
    for group in [BEFORE, AFTER, TOLD] {
        first.push(recorded(stage, group).await.unwrap().0);
        scale(plant, group, 2).await;
    }
    let mut next = Vec::new();
    for (group, first) in [BEFORE, AFTER, TOLD].into_iter().zip(&first) {
        next.push(pod_that_logs(plant, group, "client slots are held", &[first]).await);
    }
    let mut before = gate.stop(&table(BEFORE), Moment::Request);
    let mut after = gate.stop(&table(AFTER), Moment::Answer);
    for pod in &first[..2] {
        pods.delete(pod, &DeleteParams::default()).await.unwrap();
    }
    before.caught(BOUND).await.unwrap();
    after.caught(BOUND).await.unwrap();
    drop(operator);
    assert_eq!(recorded(stage, BEFORE).await.unwrap().0, first[0]);
    let (untold, epoch) = recorded(stage, AFTER).await.unwrap();
    assert_eq!(untold, next[1]);
    assert!(next[..2].iter().all(|pod| !holds(plant, pod)));
    for pod in &first[..2] {
        until("the pod is gone", BOUND, || async { Ok(pods.get_opt(pod).await?.is_none().then_some(())) })
            .await
            .unwrap();
    }
    gate.clear();

    let restarted = Instant::now();
    let operator = successor(stage, gate).await;
    pod_that_logs(plant, AFTER, HOLDS, &[&first[1]]).await;
    assert!(recorded(stage, AFTER).await.unwrap().1 > epoch);
    watch_is_deaf(plant, gate, &operator, &first[2], &next[2]).await;
    // Nobody is left who knows that the first slot was given back; that its pod is gone is known.
    pod_that_logs(plant, BEFORE, HOLDS, &[&first[0]]).await;
    assert!(restarted.elapsed() >= LINGERS);
    operator
}

/// The watch of pods tells nothing any more: what has become of a pod whose sidecar has fallen silent is asked for.
async fn watch_is_deaf(plant: &Plant<'_>, gate: &Gate, operator: &Operator, holder: &str, next: &str) {
    until("the sidecars have found it", BOUND, || async {
        Ok((operator.metric("sluice_operator_control_streams", "")? >= 7.0).then_some(()))
    })
    .await
    .unwrap();
    gate.mute("/api/v1/pods");
    let pods: Api<Pod> = plant.namespace.api();
    // It is killed without having given anything back.
    plant.kubelet.kill_container(holder, "sluice", Signal::STOP).unwrap();
    pods.delete(holder, &DeleteParams::default().grace_period(0)).await.unwrap();
    let deleted = Instant::now();
    until("the next pod has the slot", BOUND, || async {
        Ok(recorded(plant.stage, TOLD).await.filter(|(pod, _)| pod == next).map(drop))
    })
    .await
    .unwrap();
    assert!(deleted.elapsed() >= LINGERS);
}

/// Everybody who may consumes, and nobody ever did who might not.
async fn all_is_well(plant: &Plant<'_>) {
    let admin = plant.stage.emulator.admin();
    for group in ALL {
        plant.ready(group, 1).await.unwrap();
        let messages: Vec<_> = (0..50).map(|n| NewMessage::new("/a1/d1/user/data", n.to_string().as_bytes())).collect();
        admin.publish(group, &messages).unwrap();
        let counts = admin.wait_for(group, BOUND, |counts| counts.accepted == 50).unwrap();
        assert_eq!((counts.clients, counts.clients_peak), (1, 1), "{group}: {counts:?}");
        assert!(counts.connect_attempts_peak_per_minute <= 3, "{group}: {counts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_dies_at_any_step_of_a_grant_or_a_return_hands_no_slot_out_twice() {
    let stage = Stage::set(PLATFORM).await.unwrap();
    let gate = stage.cluster.gate().await.unwrap();
    let operator = stage.operator_behind(&gate, 0).await.unwrap();
    let plant = stage.plant("moments").await.unwrap();
    for group in ALL {
        let one_slot = |spec: &mut Value| {
            spec["limits"] = json!({"clientSlots": 1});
            spec["connection"] = json!({"idleTimeout": "30s"});
        };
        plant.group(group, group, one_slot).await.unwrap();
        plant.condition(group, "CredentialsValid", "True").await.unwrap();
    }
    let operator = dies_while_it_grants(&plant, &gate, operator).await;
    let _leader = dies_while_it_frees(&plant, &gate, operator).await;
    all_is_well(&plant).await;
    stage.nothing_was_refused().unwrap();
}
