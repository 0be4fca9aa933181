//! Scaling on the real API server and controller-manager, with real sidecars.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use serde_json::{Value, json};
use sluice_crds::ConsumerGroup;
use sluice_tests::cluster::until;
use sluice_tests::stage::{BOUND, Plant, Stage};
use tokio::time::Instant;

fn scaled(spec: &mut Value, min: u32, max: u32) {
    spec["workload"] = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}});
    spec["scaling"] = json!({"minReplicas": min, "maxReplicas": max});
}

async fn replicas(plant: &Plant<'_>) -> i32 {
    let deployments: Api<Deployment> = plant.namespace.api();
    deployments.get("worker").await.unwrap().spec.and_then(|spec| spec.replicas).unwrap_or_default()
}

async fn plan(plant: &Plant<'_>) -> Option<(u32, String)> {
    let groups: Api<ConsumerGroup> = plant.namespace.api();
    let plan = groups.get_status("telemetry").await.unwrap().status?.plan?;
    Some((u32::try_from(plan.replicas).ok()?, plan.reason))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_answered_within_fifteen_seconds_and_never_beyond_the_bounds() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("burst").await.unwrap();
    plant.group("telemetry", "g-burst", |spec| scaled(spec, 1, 3)).await.unwrap();
    // One message at a time, 50 ms each: 20 a second are all that a pod can do.
    plant
        .workers("worker", "telemetry", 1, &["--journal", "-", "--work-ms", "50", "--concurrency", "1"])
        .await
        .unwrap();
    plant.ready("worker", 1).await.unwrap();
    assert_eq!(replicas(&plant).await, 1);

    stage.emulator.admin().devices("g-burst", 60).unwrap();
    let begun = Instant::now();
    until("pods are added", BOUND, || async { Ok((replicas(&plant).await > 1).then_some(())) }).await.unwrap();
    // The first figure above the target comes with the first report of a full interval: at most two of 5 s.
    let took = begun.elapsed();
    assert!(took <= Duration::from_secs(10 + 15), "{took:?}");
    until("all that are allowed", BOUND, || async { Ok((replicas(&plant).await == 3).then_some(())) }).await.unwrap();
    plant.ready("worker", 3).await.unwrap();
    let (replicas, reason) = plan(&plant).await.unwrap();
    assert_eq!(replicas, 3, "{reason}");
    stage.emulator.admin().devices("g-burst", 0).unwrap();
    stage.nothing_was_refused().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_pods_go_first_and_only_after_the_window() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("idle").await.unwrap();
    plant
        .group("telemetry", "g-idle", |spec| {
            scaled(spec, 1, 4);
            spec["scaling"]["behavior"] = json!({"scaleDown": {
                "stabilizationWindow": "15s", "membershipWindow": "15s", "period": "1s", "maxPods": 4, "maxPercent": 100,
            }});
        })
        .await
        .unwrap();
    plant.workers("worker", "telemetry", 3, &["--journal", "-"]).await.unwrap();
    let begun = Instant::now();
    plant.ready("worker", 3).await.unwrap();
    until("the idle ones go", BOUND, || async { Ok((replicas(&plant).await == 1).then_some(())) }).await.unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(15), "{:?}", begun.elapsed());
    plant.ready("worker", 1).await.unwrap();
    until("their slots are free", BOUND, || async { Ok((plant.holders("g-idle").await?.len() == 1).then_some(())) })
        .await
        .unwrap();
    until("the plan says why", BOUND, || async {
        Ok(plan(&plant).await.filter(|(replicas, reason)| *replicas == 1 && reason.contains("saturation")))
    })
    .await
    .unwrap();
}
