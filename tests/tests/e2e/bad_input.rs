//! What is wrong with a document, a request or a message is said clearly, and nothing is lost over it.

use std::time::Duration;

use serde_json::json;
use sluice_proto::v1::consume_request::Request;
use sluice_proto::v1::link_state::State;
use sluice_tests::admin::{BodySection, MessageId, NewMessage};
use sluice_tests::application::{Application, Outcome, subscription};
use sluice_tests::certificates::Certificates;
use sluice_tests::emulator::{Emulator, GROUP};
use sluice_tests::sidecar::{Settings, Sidecar};
use tonic::Code;

const BOUND: Duration = Duration::from_mins(1);
const TOPIC: &str = "/a1TestProdct/meter/user/readings";

/// Settings for a peer that is never reached.
fn unreached() -> Settings {
    Settings::new(1, &Certificates::generate().unwrap().authority())
}

/// A platform, a sidecar and an application whose link is up.
async fn attached() -> (Emulator, Sidecar, Application) {
    attached_to(Emulator::start().unwrap()).await
}

async fn attached_to(emulator: Emulator) -> (Emulator, Sidecar, Application) {
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    application.link_state(State::Up, BOUND).await.unwrap();
    (emulator, sidecar, application)
}

#[test]
fn an_unknown_field_of_the_document_is_named() {
    let settings = unreached().with_delivery(json!({"maxInflight": 10}));
    let (status, log) = Sidecar::refused(&settings).unwrap();
    assert!(!status.success());
    assert!(log.contains("maxInflight"), "{log}");
    assert!(log.contains("maxInFlight"), "what was meant is listed: {log}");
}

#[test]
fn values_out_of_bounds_are_all_named_at_once() {
    let settings = unreached().with_delivery(json!({"maxInFlight": 0, "leaseDuration": "40s"}));
    let (status, log) = Sidecar::refused(&settings).unwrap();
    assert!(!status.success());
    assert!(log.contains("spec.delivery.maxInFlight") && log.contains("spec.delivery.leaseDuration"), "{log}");
}

#[test]
fn missing_credentials_are_named() {
    let settings = Settings { credentials: Vec::new(), ..unreached() };
    let (status, log) = Sidecar::refused(&settings).unwrap();
    assert!(!status.success());
    assert!(log.contains("ALIBABA_CLOUD_ACCESS_KEY_ID"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_for_an_unknown_delivery_is_answered_and_ends_nothing() {
    let (emulator, _sidecar, mut application) = attached().await;
    application.ack([4_711]).await.unwrap();
    assert_eq!(application.outcome(4_711, BOUND).await.unwrap(), Outcome::Unknown);

    emulator.admin().publish(GROUP, &[NewMessage::new(TOPIC, b"1")]).unwrap();
    let delivery = application.delivery(BOUND).await.unwrap();
    application.ack([delivery.delivery_id]).await.unwrap();
    assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
    application.ack([delivery.delivery_id]).await.unwrap();
    assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Unknown);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_subscribe_ends_the_stream_and_its_messages_come_on_the_next() {
    let (emulator, sidecar, mut application) = attached().await;
    let ids = emulator.admin().publish(GROUP, &[NewMessage::new(TOPIC, b"1")]).unwrap();
    application.delivery(BOUND).await.unwrap();
    application.send(Request::Subscribe(subscription("e2e"))).await.unwrap();
    let status = application.ended(BOUND).await.unwrap();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");

    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    let delivery = application.delivery(BOUND).await.unwrap();
    assert_eq!(delivery.message_id, ids[0]);
    application.ack([delivery.delivery_id]).await.unwrap();
    assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_without_a_body_goes_back_aloud_and_does_not_stop_the_ones_behind_it() {
    let (emulator, mut sidecar, mut application) = attached().await;
    let ids = emulator
        .admin()
        .publish(
            GROUP,
            &[
                NewMessage { body_section: BodySection::None, ..NewMessage::new(TOPIC, b"") },
                NewMessage { body_section: BodySection::Value, ..NewMessage::new(TOPIC, b"a value") },
                NewMessage::new(TOPIC, b"data"),
            ],
        )
        .unwrap();
    let deliveries = application.deliveries(2, BOUND).await.unwrap();
    let payload_of =
        |id: &String| deliveries.iter().find(|delivery| delivery.message_id == *id).unwrap().payload.clone();
    assert_eq!(payload_of(&ids[1]), "a value", "bytes are bytes, in whichever section");
    assert_eq!(payload_of(&ids[2]), "data");
    application.ack(deliveries.iter().map(|delivery| delivery.delivery_id)).await.unwrap();

    // Nothing is lost: the platform has the message back, and keeps it.
    let counts = emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == 2).unwrap();
    assert_eq!((counts.released, counts.backlog, counts.unsettled), (1, 1, 0));
    sidecar.process().wait_for_log("no Data section", BOUND).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_256_kb_arrives_whole() {
    let (emulator, _sidecar, mut application) = attached().await;
    let payload: Vec<u8> = (0..=255).cycle().take(256 * 1024).collect();
    emulator.admin().publish(GROUP, &[NewMessage::new(TOPIC, &payload)]).unwrap();
    let delivery = application.delivery(BOUND).await.unwrap();
    assert!(delivery.payload == payload, "{} bytes came", delivery.payload.len());
    application.ack([delivery.delivery_id]).await.unwrap();
    assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_900_kib_arrives_whole_and_one_that_no_link_takes_is_kept_aloud() {
    let emulator = Emulator::start_with("limits: {maxPayloadBytes: 2097152}").unwrap();
    let (emulator, mut sidecar, mut application) = attached_to(emulator).await;
    let large = vec![b'x'; 900 * 1024];
    emulator.admin().publish(GROUP, &[NewMessage::new(TOPIC, &large)]).unwrap();
    let delivery = application.delivery(BOUND).await.unwrap();
    assert!(delivery.payload == large, "{} bytes came", delivery.payload.len());
    application.ack([delivery.delivery_id]).await.unwrap();
    assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);

    // Above the link's max-message-size of 1 MiB: the emulator detaches instead of sending it, and says why.
    let before = sidecar.status(BOUND, |status| status.link == "up").unwrap().epoch;
    emulator.admin().publish(GROUP, &[NewMessage::new(TOPIC, &vec![b'x'; 1536 * 1024])]).unwrap();
    sidecar.process().wait_for_log("message-size-exceeded", BOUND).unwrap();
    sidecar.status(BOUND, |status| status.epoch > before && status.link == "up").unwrap();

    // It is not lost, and until the platform tries it again what is published after it comes.
    emulator.admin().publish(GROUP, &[NewMessage::new(TOPIC, b"small")]).unwrap();
    let delivery = application.delivery(BOUND).await.unwrap();
    assert_eq!(delivery.payload, "small");
    application.ack([delivery.delivery_id]).await.unwrap();
    let counts = emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == 2).unwrap();
    assert_eq!((counts.backlog, counts.unsettled), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_without_an_id_are_delivered_each() {
    let (emulator, _sidecar, mut application) = attached().await;
    let anonymous = NewMessage { message_id: MessageId::Hidden, ..NewMessage::new(TOPIC, b"the same") };
    emulator.admin().publish(GROUP, &[anonymous.clone(), anonymous]).unwrap();
    for delivery in application.deliveries(2, BOUND).await.unwrap() {
        assert_eq!(delivery.message_id, "");
        application.ack([delivery.delivery_id]).await.unwrap();
        assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
    }
    emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == 2).unwrap();
}
