//! A rolling update of a workload that holds every slot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sluice_tests::cluster::until;
use sluice_tests::stage::{BOUND, Stage};

const SLOTS: u32 = 8;
/// Old pods that may be on their way out at a time.
const YIELDS: u64 = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_slots_roll_without_one_too_many_and_with_all_but_four_consuming() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("roll").await.unwrap();
    plant.group("telemetry", "g-roll", |spec| spec["limits"] = json!({"clientSlots": SLOTS})).await.unwrap();
    plant.workers("worker", "telemetry", SLOTS.cast_signed(), &["--journal", "-"]).await.unwrap();
    plant.ready("worker", SLOTS as usize).await.unwrap();
    let deployments: Api<Deployment> = plant.namespace.api();
    let admin = stage.emulator.admin();
    admin.devices("g-roll", 200).unwrap();

    let change = Patch::Merge(json!({"spec": {
        "strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 2}},
        "template": {"metadata": {"annotations": {"version": "2"}}},
    }}));
    deployments.patch("worker", &PatchParams::default(), &change).await.unwrap();
    let fewest = AtomicU64::new(u64::from(SLOTS));
    until("the new revision has taken over", BOUND * 3, || async {
        fewest.fetch_min(admin.group("g-roll")?.clients, Ordering::Relaxed);
        let status = deployments.get_status("worker").await?.status.unwrap_or_default();
        let desired = Some(SLOTS.cast_signed());
        let done = status.updated_replicas == desired && status.ready_replicas == desired && status.replicas == desired;
        Ok(done.then_some(()))
    })
    .await
    .unwrap();
    admin.devices("g-roll", 0).unwrap();
    let counts =
        admin.wait_for("g-roll", Duration::from_secs(60), |counts| counts.accepted == counts.published).unwrap();
    assert!(counts.clients_peak <= u64::from(SLOTS), "{counts:?}");
    let fewest = fewest.into_inner();
    assert!(fewest >= u64::from(SLOTS) - YIELDS, "only {fewest} consumed");
    assert!(counts.connect_attempts_peak_per_minute <= 95, "{counts:?}");
}
