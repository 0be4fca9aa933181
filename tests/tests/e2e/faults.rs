//! Nothing is lost and nothing is accepted without an ack when applications and connections go away in mid-flow.

use std::collections::HashSet;
use std::time::Duration;

use sluice_proto::v1::Delivery;
use sluice_tests::admin::{Admin, Fault, NewMessage};
use sluice_tests::application::{Application, Outcome, subscription};
use sluice_tests::emulator::{Emulator, GROUP};
use sluice_tests::sidecar::{Settings, Sidecar};

const BOUND: Duration = Duration::from_mins(1);

/// The platform's own limits, with shorter waits before a repeat. Longer than a reconnect takes.
const SOON_REPEATED: &str = "limits: {retryAfter: 2s, retryAfterLinkLoss: 2s, backlogPerGroup: 1000}";

fn publish(admin: &Admin, count: usize) -> Vec<String> {
    let message = NewMessage::new("/a1TestProdct/meter/user/readings", b"0123456789");
    admin.publish(GROUP, &vec![message; count]).unwrap()
}

/// How often a message was accepted on the platform.
fn accepted(admin: &Admin, message_id: &str) -> usize {
    admin.fate(message_id).unwrap().iter().filter(|event| event.event == "accepted").count()
}

fn ids(deliveries: &[Delivery]) -> HashSet<String> {
    deliveries.iter().map(|delivery| delivery.message_id.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_application_held_when_it_went_away_comes_to_another_one() {
    let emulator = Emulator::start_with(SOON_REPEATED).unwrap();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    let mut first = sidecar.attach(subscription("first")).await.unwrap();
    let published = publish(emulator.admin(), 20);
    let deliveries = first.deliveries(20, BOUND).await.unwrap();
    let (answered, held) = deliveries.split_at(5);
    first.ack(answered.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
    for delivery in answered {
        assert_eq!(first.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
    }
    drop(first);

    let mut second = sidecar.attach(subscription("second")).await.unwrap();
    let again = second.deliveries(held.len(), BOUND).await.unwrap();
    assert_eq!(ids(&again), ids(held), "what was held, and nothing that was answered");
    second.ack(again.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
    let counts = emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == 20).unwrap();
    assert_eq!((counts.backlog, counts.unsettled), (0, 0));
    assert!(published.iter().all(|id| accepted(emulator.admin(), id) == 1));
}

/// An application that remembers what it has acknowledged.
struct Consumer {
    application: Application,
    acknowledged: HashSet<String>,
}

impl Consumer {
    async fn ack(&mut self, deliveries: &[Delivery]) {
        self.acknowledged.extend(ids(deliveries));
        self.application.ack(deliveries.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
    }

    /// Acknowledges whatever comes until the platform has accepted `wanted` messages.
    async fn consume_until_accepted(&mut self, admin: &Admin, wanted: usize) {
        while admin.group(GROUP).unwrap().accepted < wanted as u64 {
            // The last acks may be on their way: nothing more comes then.
            if let Ok(delivery) = self.application.delivery(Duration::from_secs(1)).await {
                self.ack(&[delivery]).await;
            }
        }
    }

    /// What the platform has accepted, the application has acknowledged.
    fn check(&self, admin: &Admin, published: &[String]) {
        for id in published.iter().filter(|id| !self.acknowledged.contains(*id)) {
            assert_eq!(accepted(admin, id), 0, "accepted without an ack: {:?}", admin.fate(id));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_connections_are_closed_detached_and_dropped_in_mid_flow() {
    const LOT: usize = 100;

    let emulator = Emulator::start_with(SOON_REPEATED).unwrap();
    let admin = emulator.admin();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    let application = sidecar.attach(subscription("e2e")).await.unwrap();
    let mut consumer = Consumer { application, acknowledged: HashSet::new() };
    let mut published = Vec::new();
    for fault in [Fault::Close, Fault::Detach, Fault::Drop] {
        published.extend(publish(admin, LOT));
        let deliveries = consumer.application.deliveries(LOT / 2, BOUND).await.unwrap();
        let (answered, held) = deliveries.split_at(LOT / 4);
        consumer.ack(answered).await;

        // Some acks are on their way, some messages are at the application, some are not sent yet.
        let before = sidecar.status(BOUND, |status| status.link == "up").unwrap().epoch;
        assert_eq!(admin.inject(fault).unwrap(), 1, "{fault:?}");
        sidecar.status(BOUND, |status| status.epoch > before && status.link == "up").unwrap();
        consumer.check(admin, &published);
        consumer.ack(held).await;
    }
    let everything = consumer.consume_until_accepted(admin, published.len());
    tokio::time::timeout(BOUND * 2, everything).await.unwrap();

    assert_eq!(consumer.acknowledged, published.iter().cloned().collect());
    assert!(published.iter().all(|id| accepted(admin, id) == 1));
    let counts = admin.group(GROUP).unwrap();
    assert_eq!((counts.accepted, counts.backlog, counts.unsettled), (published.len() as u64, 0, 0));
}
