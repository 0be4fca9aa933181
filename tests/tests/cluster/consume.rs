//! From `kubectl apply` to messages that are consumed: everything is real but the cloud.

use kube::api::DeleteParams;
use kube::{Api, ResourceExt as _};
use serde_json::json;
use sluice_crds::ConsumerGroup;
use sluice_tests::admin::NewMessage;
use sluice_tests::cluster::until;
use sluice_tests::stage::{BOUND, Plant, Stage, names};

/// Publishes so many messages, and waits until every message that was ever published is accepted.
async fn everything_is_accepted(plant: &Plant<'_>, group: &str, more: usize) {
    let admin = plant.stage.emulator.admin();
    let messages: Vec<_> = (0..more).map(|n| NewMessage::new("/a1/d1/user/data", n.to_string().as_bytes())).collect();
    admin.publish(group, &messages).unwrap();
    until("everything is accepted", BOUND, || async {
        let counts = admin.group(group)?;
        Ok((counts.accepted == counts.published && counts.unsettled == 0).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_and_a_label_are_all_that_it_takes() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("consume").await.unwrap();
    plant.group("telemetry", "g-consume", |_| {}).await.unwrap();
    plant.workers("worker", "telemetry", 2, &["--journal", "-"]).await.unwrap();
    plant.ready("worker", 2).await.unwrap();
    plant.condition("telemetry", "Ready", "True").await.unwrap();
    plant.condition("telemetry", "CredentialsValid", "True").await.unwrap();
    assert_eq!(plant.holders("g-consume").await.unwrap().len(), 2);
    everything_is_accepted(&plant, "g-consume", 500).await;
    let counts = stage.emulator.admin().group("g-consume").unwrap();
    assert_eq!((counts.clients, counts.clients_peak), (2, 2));
    stage.nothing_was_refused().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_group_reaches_its_sidecars_and_a_deleted_one_keeps_what_its_pods_hold() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("change").await.unwrap();
    plant.group("telemetry", "g-change", |_| {}).await.unwrap();
    plant.workers("worker", "telemetry", 1, &["--journal", "-"]).await.unwrap();
    let pods = plant.ready("worker", 1).await.unwrap();
    let pod = names(&pods).remove(0);
    let attempts = || stage.emulator.admin().group("g-change").unwrap().connect_attempts;
    let before = attempts();

    // A change is live: no link is made anew for it.
    plant.change("telemetry", &json!({"spec": {"delivery": {"maxInFlight": 7}}})).await.unwrap();
    until("the sidecar knows of it", BOUND, || async {
        Ok(plant.kubelet.log(&pod, "sluice").contains("max_in_flight=7").then_some(()))
    })
    .await
    .unwrap();
    everything_is_accepted(&plant, "g-change", 50).await;

    // Deleted: what is held stays held, and messages go on being consumed.
    let groups: Api<ConsumerGroup> = plant.namespace.api();
    groups.delete("telemetry", &DeleteParams::default()).await.unwrap();
    until("it is gone", BOUND, || async { Ok(groups.get_opt("telemetry").await?.is_none().then_some(())) })
        .await
        .unwrap();
    everything_is_accepted(&plant, "g-change", 50).await;
    assert_eq!(plant.holders("g-change").await.unwrap(), [pod.clone()].into());

    // Made anew: the same slot, the same link.
    plant.group("telemetry", "g-change", |_| {}).await.unwrap();
    plant.condition("telemetry", "Ready", "True").await.unwrap();
    everything_is_accepted(&plant, "g-change", 50).await;
    assert_eq!(plant.holders("g-change").await.unwrap(), [pod].into());
    assert_eq!(attempts(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_that_goes_gives_its_slot_back_and_loses_nothing() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("drain").await.unwrap();
    plant.group("telemetry", "g-drain", |_| {}).await.unwrap();
    plant.workers("worker", "telemetry", 2, &["--journal", "-", "--work-ms", "200"]).await.unwrap();
    let pods = plant.ready("worker", 2).await.unwrap();
    let admin = stage.emulator.admin();
    admin.devices("g-drain", 50).unwrap();
    for pod in &pods {
        plant
            .namespace
            .api::<k8s_openapi::api::core::v1::Pod>()
            .delete(&pod.name_any(), &DeleteParams::default())
            .await
            .unwrap();
    }
    until("others hold the slots", BOUND, || async {
        let holders = plant.holders("g-drain").await?;
        Ok((holders.len() == 2 && names(&pods).iter().all(|old| !holders.contains(old))).then_some(()))
    })
    .await
    .unwrap();
    admin.devices("g-drain", 0).unwrap();
    everything_is_accepted(&plant, "g-drain", 1).await;
    let counts = admin.group("g-drain").unwrap();
    assert_eq!(counts.expired, 0, "{counts:?}");
    assert!(counts.clients_peak <= 4, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_of_two_namespaces_share_the_slots_of_one_platform_group() {
    let stage = Stage::shared().await.unwrap();
    let (one, two) = (stage.plant("share-a").await.unwrap(), stage.plant("share-b").await.unwrap());
    one.group("telemetry", "g-shared", |spec| spec["limits"] = json!({"clientSlots": 3})).await.unwrap();
    two.group("telemetry", "g-shared", |spec| spec["limits"] = json!({"clientSlots": 5})).await.unwrap();
    one.workers("worker", "telemetry", 2, &["--journal", "-"]).await.unwrap();
    one.ready("worker", 2).await.unwrap();
    two.workers("worker", "telemetry", 2, &["--journal", "-"]).await.unwrap();
    two.ready("worker", 1).await.unwrap();
    let (reason, message) = two.condition("telemetry", "AtCapacity", "True").await.unwrap();
    assert!(message.contains('3'), "{reason}: {message}");
    assert_eq!(one.holders("g-shared").await.unwrap().len() + two.holders("g-shared").await.unwrap().len(), 3);
    // A slot that is given back in one namespace is taken in the other.
    let scale = kube::api::Patch::Merge(json!({"spec": {"replicas": 1}}));
    let deployments: Api<k8s_openapi::api::apps::v1::Deployment> = one.namespace.api();
    deployments.patch_scale("worker", &kube::api::PatchParams::default(), &scale).await.unwrap();
    two.ready("worker", 2).await.unwrap();
    assert_eq!(stage.emulator.admin().group("g-shared").unwrap().clients_peak, 3);
}
