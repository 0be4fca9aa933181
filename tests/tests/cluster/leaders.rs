//! Operators that come and go, and an API server that is away: nobody but new pods notices, and no limit is ever broken.

use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sluice_operator::slots::{ALONE_AFTER, PING_EVERY};
use sluice_tests::admin::{Fault, NewMessage};
use sluice_tests::cluster::until;
use sluice_tests::stage::{BOUND, Plant, Stage};
use tokio::time::{Instant, sleep};

const GROUP: &str = "DEFAULT_GROUP";
const PLATFORM: &str = "openApi: {figuresEvery: 0s, callsPerSecond: 100}";

async fn scale(plant: &Plant<'_>, replicas: i32) {
    let scale = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let deployments: Api<Deployment> = plant.namespace.api();
    deployments.patch_scale("worker", &PatchParams::default(), &scale).await.unwrap();
}

fn publish(plant: &Plant<'_>, count: usize) {
    let messages: Vec<_> = (0..count).map(|n| NewMessage::new("/a1/d1/user/data", n.to_string().as_bytes())).collect();
    plant.stage.emulator.admin().publish(GROUP, &messages).unwrap();
}

async fn all_accepted(plant: &Plant<'_>) {
    let admin = plant.stage.emulator.admin();
    until("everything is accepted", BOUND, || async {
        let counts = admin.group(GROUP)?;
        Ok((counts.accepted == counts.published && counts.unsettled == 0).then_some(()))
    })
    .await
    .unwrap();
}

/// Waits until both links are up, after so many attempts in all.
async fn links_are_back(plant: &Plant<'_>, attempts: u64) {
    let admin = plant.stage.emulator.admin();
    until("the links are back", BOUND, || async {
        let counts = admin.group(GROUP)?;
        Ok((counts.clients == 2 && counts.connect_attempts >= attempts).then_some(()))
    })
    .await
    .unwrap();
}

/// The operator is killed again and again while pods come and go, so that it dies before, in and after the writing of
/// grants.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_that_is_killed_while_it_grants_hands_no_slot_out_twice() {
    let stage = Stage::set(PLATFORM).await.unwrap();
    let mut operator = Some(stage.operator(0).await.unwrap());
    let plant = stage.plant("killed").await.unwrap();
    plant.group("telemetry", GROUP, |spec| spec["limits"] = json!({"clientSlots": 4})).await.unwrap();
    plant.workers("worker", "telemetry", 2, &["--journal", "-"]).await.unwrap();
    plant.ready("worker", 2).await.unwrap();
    for (round, replicas) in [6, 3, 6].into_iter().enumerate() {
        scale(&plant, replicas).await;
        // Somewhere in the middle of it.
        sleep(Duration::from_millis(400 * (round as u64 + 1))).await;
        drop(operator.take());
        publish(&plant, 20);
        all_accepted(&plant).await;
        operator = Some(stage.operator(0).await.unwrap());
    }
    plant.ready("worker", 4).await.unwrap();
    assert_eq!(plant.holders(GROUP).await.unwrap().len(), 4);
    let counts = stage.emulator.admin().group(GROUP).unwrap();
    assert!(counts.clients_peak <= 4 && counts.connect_attempts_peak_per_minute <= 95, "{counts:?}");
    stage.nothing_was_refused().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_operators_one_leads_the_other_takes_over_and_without_both_sidecars_go_on() {
    let stage = Stage::set(PLATFORM).await.unwrap();
    let first = stage.operator(0).await.unwrap();
    let second = stage.operator(1).await.unwrap();
    let plant = stage.plant("two").await.unwrap();
    plant.group("telemetry", GROUP, |_| {}).await.unwrap();
    plant.workers("worker", "telemetry", 2, &["--journal", "-"]).await.unwrap();
    plant.ready("worker", 2).await.unwrap();
    let leads = |operator: &sluice_tests::stage::Operator| operator.metric("sluice_operator_leader", "").unwrap() > 0.0;
    assert!(leads(&first) != leads(&second));
    let attempts = stage.emulator.admin().group(GROUP).unwrap().connect_attempts;

    // The leader dies without a word. Links stay, and the other leads when the Lease has run out.
    let (dead, alive) = if leads(&first) { (first, second) } else { (second, first) };
    drop(dead);
    publish(&plant, 100);
    all_accepted(&plant).await;
    until("the other one leads", BOUND, || async { Ok(leads(&alive).then_some(())) }).await.unwrap();
    until("the sidecars have found it", BOUND, || async {
        Ok((alive.metric("sluice_operator_control_streams", "")? >= 2.0).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(stage.emulator.admin().group(GROUP).unwrap().connect_attempts, attempts, "no link was made anew");
    assert_eq!(plant.holders(GROUP).await.unwrap().len(), 2);

    // The other one dies as well, and then the links are lost: nobody is there to permit new ones.
    drop(alive);
    let died = Instant::now();
    let admin = stage.emulator.admin();
    assert_eq!(admin.inject(Fault::Drop).unwrap(), 2);
    publish(&plant, 100);
    links_are_back(&plant, attempts + 2).await;
    // They have last heard of it at most one ping before its death.
    assert!(died.elapsed() + PING_EVERY >= ALONE_AFTER, "{:?}", died.elapsed());
    all_accepted(&plant).await;
    assert_eq!(admin.group(GROUP).unwrap().connect_attempts, attempts + 2);
    // Each has its share of the attempts, one a minute, and has used it.
    assert_eq!(admin.inject(Fault::Drop).unwrap(), 2);
    let lost = Instant::now();
    let _back = stage.operator(0).await.unwrap();
    links_are_back(&plant, attempts + 4).await;
    assert!(lost.elapsed() >= Duration::from_secs(50), "{:?}", lost.elapsed());
    publish(&plant, 10);
    all_accepted(&plant).await;
    let counts = admin.group(GROUP).unwrap();
    assert_eq!(counts.clients_peak, 2, "{counts:?}");
    assert!(counts.connect_attempts_peak_per_minute <= 4, "{counts:?}");
    assert_eq!(plant.holders(GROUP).await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumption_goes_on_while_the_api_server_is_away_for_two_minutes() {
    let stage = Stage::set(PLATFORM).await.unwrap();
    let mut operator = stage.operator(0).await.unwrap();
    let plant = stage.plant("away").await.unwrap();
    plant.group("telemetry", GROUP, |_| {}).await.unwrap();
    plant.workers("worker", "telemetry", 2, &["--journal", "-"]).await.unwrap();
    plant.ready("worker", 2).await.unwrap();
    let attempts = stage.emulator.admin().group(GROUP).unwrap().connect_attempts;

    stage.cluster.stop_api_server().await.unwrap();
    let back = Instant::now() + Duration::from_secs(120);
    while Instant::now() < back {
        publish(&plant, 10);
        all_accepted(&plant).await;
        sleep(Duration::from_secs(2)).await;
    }
    stage.cluster.start_api_server().await.unwrap();

    operator.process().check_alive().unwrap();
    let counts = stage.emulator.admin().group(GROUP).unwrap();
    assert_eq!((counts.clients, counts.connect_attempts), (2, attempts), "no link was lost");
    // And everything works again: another pod gets a slot.
    scale(&plant, 3).await;
    plant.ready("worker", 3).await.unwrap();
    assert_eq!(plant.holders(GROUP).await.unwrap().len(), 3);
    publish(&plant, 10);
    all_accepted(&plant).await;
}
