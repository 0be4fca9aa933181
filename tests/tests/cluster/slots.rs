//! Slots as ConsumerGroups come, go and change.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use sluice_crds::ConsumerGroup;
use sluice_tests::admin::{Fault, NewMessage};
use sluice_tests::cluster::kubelet::Signal;
use sluice_tests::cluster::until;
use sluice_tests::stage::{BOUND, Plant, Stage, names};

/// Publishes some messages, and waits until all of this group's are accepted.
fn is_consumed(plant: &Plant<'_>, group: &str) {
    let admin = plant.stage.emulator.admin();
    let messages: Vec<_> = (0..50).map(|n| NewMessage::new("/a1/d1/user/data", n.to_string().as_bytes())).collect();
    admin.publish(group, &messages).unwrap();
    admin.wait_for(group, BOUND, |counts| counts.accepted == counts.published && counts.unsettled == 0).unwrap();
}

async fn delete_group(plant: &Plant<'_>, name: &str) {
    let groups: Api<ConsumerGroup> = plant.namespace.api();
    groups.delete(name, &DeleteParams::default()).await.unwrap();
    until("it is gone", BOUND, || async { Ok(groups.get_opt(name).await?.is_none().then_some(())) }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_follow_their_group_to_another_group_of_the_platform() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("moved").await.unwrap();
    let admin = stage.emulator.admin();
    let two_slots = |spec: &mut serde_json::Value| spec["limits"] = json!({"clientSlots": 2});
    plant.group("telemetry", "g-moved-from", two_slots).await.unwrap();
    plant.workers("worker", "telemetry", 3, &["--journal", "-"]).await.unwrap();
    plant.ready("worker", 2).await.unwrap();
    is_consumed(&plant, "g-moved-from");

    // The identity of a ConsumerGroup can't be changed, but another one may come by its name.
    delete_group(&plant, "telemetry").await;
    plant.group("telemetry", "g-moved-to", two_slots).await.unwrap();
    until("slots are held of the new group only", BOUND, || async {
        let (old, new) = (plant.holders("g-moved-from").await?, plant.holders("g-moved-to").await?);
        Ok((old.is_empty() && new.len() == 2).then_some(()))
    })
    .await
    .unwrap();
    plant.condition("telemetry", "Ready", "True").await.unwrap();
    is_consumed(&plant, "g-moved-to");
    until("all links are those of the new group", BOUND, || async {
        Ok((admin.group("g-moved-from")?.clients == 0 && admin.group("g-moved-to")?.clients == 2).then_some(()))
    })
    .await
    .unwrap();
    for group in ["g-moved-from", "g-moved-to"] {
        let counts = admin.group(group).unwrap();
        assert_eq!((counts.clients_peak, counts.expired, counts.released), (2, 0, 0), "{group}: {counts:?}");
    }
    stage.nothing_was_refused().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_a_deleted_group_leaves_go_to_whoever_waits_in_another_namespace() {
    let stage = Stage::shared().await.unwrap();
    let (former, stays) = (stage.plant("left-gone").await.unwrap(), stage.plant("left-stays").await.unwrap());
    for plant in [&former, &stays] {
        let short = |spec: &mut serde_json::Value| {
            spec["limits"] = json!({"clientSlots": 2});
            spec["connection"] = json!({"idleTimeout": "30s"});
        };
        plant.group("telemetry", "g-left", short).await.unwrap();
    }
    former.workers("worker", "telemetry", 2, &["--journal", "-"]).await.unwrap();
    let held = names(&former.ready("worker", 2).await.unwrap());
    stays.workers("worker", "telemetry", 2, &["--journal", "-"]).await.unwrap();
    stays.condition("telemetry", "AtCapacity", "True").await.unwrap();

    // What is held stays held, even now that nobody speaks for it.
    delete_group(&former, "telemetry").await;
    assert_eq!(former.holders("g-left").await.unwrap(), held.iter().cloned().collect());
    // One of its pods drains, the other one is killed without having given anything back. Others come in their places, and
    // wait for a ConsumerGroup.
    former.kubelet.kill_container(&held[1], "sluice", Signal::STOP).unwrap();
    let pods: Api<Pod> = former.namespace.api();
    pods.delete(&held[0], &DeleteParams::default()).await.unwrap();
    pods.delete(&held[1], &DeleteParams::default().grace_period(0)).await.unwrap();
    stays.ready("worker", 2).await.unwrap();
    assert_eq!((former.holders("g-left").await.unwrap().len(), stays.holders("g-left").await.unwrap().len()), (0, 2));
    is_consumed(&stays, "g-left");
    let counts = stage.emulator.admin().group("g-left").unwrap();
    assert_eq!((counts.clients, counts.clients_peak), (2, 2), "{counts:?}");
    let waiting = until("others wait", BOUND, || async {
        let pods = former.namespace.pods("app=worker").await?;
        let told = |pod: &Pod| former.kubelet.log(&pod.name_any(), "sluice").contains("no valid ConsumerGroup");
        Ok((pods.len() == 2 && pods.iter().all(told)).then_some(pods))
    });
    assert!(names(&waiting.await.unwrap()).iter().all(|name| !held.contains(name)));
    stage.nothing_was_refused().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_breaks_while_links_are_down_stops_its_own_group_and_no_other() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("broken").await.unwrap();
    let admin = stage.emulator.admin();
    let key = |secret: &str| json!({"accessKeyId": "testid", "accessKeySecret": secret});
    plant
        .namespace
        .create::<Secret>(json!({"metadata": {"name": "own"}, "stringData": key("testsecret")}))
        .await
        .unwrap();
    plant
        .group("broken", "g-broken", |spec| spec["credentials"] = json!({"secretRef": {"name": "own"}}))
        .await
        .unwrap();
    plant.group("whole", "g-whole", |_| {}).await.unwrap();
    plant.workers("broken-worker", "broken", 2, &["--journal", "-"]).await.unwrap();
    plant.workers("whole-worker", "whole", 2, &["--journal", "-"]).await.unwrap();
    plant.ready("broken-worker", 2).await.unwrap();
    plant.ready("whole-worker", 2).await.unwrap();

    let secrets: Api<Secret> = plant.namespace.api();
    let write = async |secret: &str| {
        let change = Patch::Merge(json!({"stringData": key(secret)}));
        secrets.patch("own", &PatchParams::default(), &change).await.unwrap();
    };
    write("not-the-secret").await;
    plant.condition("broken", "CredentialsValid", "False").await.unwrap();
    let before = ["g-broken", "g-whole"].map(|group| admin.group(group).unwrap().connect_attempts);
    for group in ["g-broken", "g-whole"] {
        assert_eq!(admin.inject_into(group, Fault::Drop).unwrap(), 2);
    }
    until("the other group's links are back", BOUND, || async {
        let counts = admin.group("g-whole")?;
        Ok((counts.clients == 2 && counts.connect_attempts >= before[1] + 2).then_some(()))
    })
    .await
    .unwrap();
    is_consumed(&plant, "g-whole");
    plant.condition("whole", "CredentialsValid", "True").await.unwrap();
    let deployments: Api<Deployment> = plant.namespace.api();
    let scale = Patch::Merge(json!({"spec": {"replicas": 3}}));
    deployments.patch_scale("whole-worker", &PatchParams::default(), &scale).await.unwrap();
    plant.ready("whole-worker", 3).await.unwrap();

    // What can't connect says why, as the link or the OpenAPI has it, and tries no oftener than once or twice a pod.
    let (_, message) = plant.condition("broken", "Ready", "False").await.unwrap();
    let said = ["the platform refused the credentials", "SignatureDoesNotMatch"];
    assert!(said.iter().any(|words| message.contains(words)), "{message}");
    let counts = admin.group("g-broken").unwrap();
    assert_eq!(counts.clients, 0, "{counts:?}");
    assert!(counts.connect_attempts - before[0] <= 4, "{counts:?}");
    assert!(admin.group("g-whole").unwrap().connect_attempts - before[1] <= 4);

    // Mended, everybody is back without waiting for the next probe, by the slots that are held still.
    assert_eq!(plant.holders("g-broken").await.unwrap().len(), 2);
    write("testsecret").await;
    plant.condition("broken", "CredentialsValid", "True").await.unwrap();
    until("the links are back", BOUND, || async { Ok((admin.group("g-broken")?.clients == 2).then_some(())) })
        .await
        .unwrap();
    is_consumed(&plant, "g-broken");
    stage.nothing_was_refused().unwrap();
}
