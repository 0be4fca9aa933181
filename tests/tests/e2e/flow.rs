//! Platform → sidecar → application, and its ack all the way back; also when the sidecar is killed in between.

use std::collections::HashSet;
use std::time::Duration;

use sluice_proto::v1::link_state::State;
use sluice_tests::admin::{Admin, NewMessage};
use sluice_tests::application::{Application, Outcome, subscription};
use sluice_tests::emulator::{Emulator, GROUP};
use sluice_tests::proxy::Proxy;
use sluice_tests::sidecar::{Settings, Sidecar};

const BOUND: Duration = Duration::from_mins(1);

/// Publishes `count` messages whose payloads are their numbers, from `first` on.
fn publish(admin: &Admin, first: usize, count: usize) -> Vec<String> {
    let messages: Vec<_> = (first..first + count)
        .map(|n| NewMessage::new(&format!("/a1TestProdct/meter-{n}/user/readings"), n.to_string().as_bytes()))
        .collect();
    admin.publish(GROUP, &messages).unwrap()
}

/// How often a message was accepted on the platform.
fn accepted(admin: &Admin, message_id: &str) -> usize {
    admin.fate(message_id).unwrap().iter().filter(|event| event.event == "accepted").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_accepted_on_the_platform_once_the_application_has_acknowledged_it() {
    /// Fits into the window that an application has before its rate is known.
    const COUNT: usize = 50;

    let emulator = Emulator::start().unwrap();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    application.link_state(State::Up, BOUND).await.unwrap();

    let ids: HashSet<_> = publish(emulator.admin(), 0, COUNT).into_iter().collect();
    let deliveries = application.deliveries(COUNT, BOUND).await.unwrap();
    assert_eq!(deliveries.iter().map(|delivery| delivery.message_id.clone()).collect::<HashSet<_>>(), ids);
    let counts = emulator.admin().group(GROUP).unwrap();
    assert_eq!((counts.accepted, counts.unsettled), (0, COUNT as u64), "nothing is accepted before its ack");

    application.ack(deliveries.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
    for delivery in &deliveries {
        assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
    }
    let counts = emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == COUNT as u64).unwrap();
    assert_eq!((counts.pushed, counts.unsettled, counts.released, counts.expired), (COUNT as u64, 0, 0, 0));
    assert!(ids.iter().all(|id| accepted(emulator.admin(), id) == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retry_comes_again_from_the_sidecar_without_the_platform_knowing() {
    let emulator = Emulator::start().unwrap();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    publish(emulator.admin(), 0, 1);
    let first = application.delivery(BOUND).await.unwrap();
    application.retry(first.delivery_id, Some(Duration::from_millis(50))).await.unwrap();
    assert_eq!(application.outcome(first.delivery_id, BOUND).await.unwrap(), Outcome::RetryScheduled);
    let second = application.delivery(BOUND).await.unwrap();
    assert_eq!((second.message_id, second.attempt), (first.message_id, 2));
    application.ack([second.delivery_id]).await.unwrap();
    let counts = emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == 1).unwrap();
    assert_eq!((counts.pushed, counts.released), (1, 0));
}

/// Acknowledges whatever comes until the platform has accepted `wanted` messages.
async fn consume_until_accepted(application: &mut Application, admin: &Admin, wanted: u64) -> HashSet<String> {
    let mut acknowledged = HashSet::new();
    while admin.group(GROUP).unwrap().accepted < wanted {
        // The last acks may be on their way: nothing more comes then.
        if let Ok(delivery) = application.delivery(Duration::from_secs(1)).await {
            application.ack([delivery.delivery_id]).await.unwrap();
            acknowledged.insert(delivery.message_id);
        }
    }
    acknowledged
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_sidecar_is_killed_in_mid_flow() {
    const COUNT: usize = 1_000;

    let emulator =
        Emulator::start_with("limits: {retryAfter: 1s, retryAfterLinkLoss: 1s, backlogPerGroup: 1000}").unwrap();
    let mut sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    let ids = publish(emulator.admin(), 0, COUNT);
    let mut acknowledged = HashSet::new();
    for _ in 0..COUNT / 3 {
        let delivery = application.delivery(BOUND).await.unwrap();
        application.ack([delivery.delivery_id]).await.unwrap();
        acknowledged.insert(delivery.message_id);
    }

    sidecar.kill_and_restart().unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    let consume = consume_until_accepted(&mut application, emulator.admin(), COUNT as u64);
    acknowledged.extend(tokio::time::timeout(BOUND * 2, consume).await.unwrap());

    assert_eq!(acknowledged.len(), COUNT, "the application saw every message");
    for id in &ids {
        assert!(acknowledged.contains(id));
        assert_eq!(accepted(emulator.admin(), id), 1, "accepted once: {id}");
    }
    let counts = emulator.admin().group(GROUP).unwrap();
    assert_eq!((counts.accepted, counts.backlog, counts.unsettled), (COUNT as u64, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_frame_is_garbage_in_mid_flow() {
    const COUNT: usize = 50;

    // The platform repeats later than the application acknowledges: its acks find the link lost, and nothing else.
    let emulator = Emulator::start_with("limits: {retryAfter: 5s, retryAfterLinkLoss: 5s}").unwrap();
    let proxy = Proxy::start(emulator.port().unwrap(), emulator.authority()).unwrap();
    let sidecar = Sidecar::start(Settings::new(proxy.port(), &proxy.authority())).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    let ids = publish(emulator.admin(), 0, COUNT);
    let deliveries = application.deliveries(COUNT, BOUND).await.unwrap();

    // A transfer whose fields are beyond the end of its frame.
    proxy.inject(&[0, 0, 0, 16, 2, 0, 0, 0, 0x00, 0x53, 0x14, 0xd0, 0xff, 0xff, 0xff, 0xff]).unwrap();
    let (_, reason) = application.link_trouble(BOUND).await.unwrap();
    assert!(reason.contains("malformed") || reason.contains("frame"), "{reason}");
    application.ack(deliveries.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
    for delivery in &deliveries {
        assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::LinkLost);
    }

    // The platform repeats them all; the sidecar knows what was acknowledged, and accepts the repeats itself.
    application.link_state(State::Up, BOUND).await.unwrap();
    let counts = emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == COUNT as u64).unwrap();
    assert_eq!((counts.backlog, counts.unsettled), (0, 0));
    assert!(ids.iter().all(|id| accepted(emulator.admin(), id) == 1));
    let nothing = application.delivery(Duration::from_millis(200)).await;
    assert!(nothing.is_err(), "an acknowledged message came again: {nothing:?}");
}
