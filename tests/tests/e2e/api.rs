//! What the gRPC API promises beside deliveries and acks: addresses, health, reflection, flow control, a good end.

use std::time::Duration;

use sluice_proto::v1::Subscribe;
use sluice_tests::admin::NewMessage;
use sluice_tests::application::{Outcome, subscription};
use sluice_tests::emulator::{Emulator, GROUP};
use sluice_tests::sidecar::{Settings, Sidecar};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const BOUND: Duration = Duration::from_mins(1);

fn messages(sizes: &[usize]) -> Vec<NewMessage> {
    sizes.iter().map(|size| NewMessage::new("/a1TestProdct/meter-1/user/readings", &vec![b'x'; *size])).collect()
}

async fn channel(sidecar: &Sidecar) -> Channel {
    Endpoint::from_shared(sidecar.address()).unwrap().connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_served_on_loopback_tcp_too() {
    let emulator = Emulator::start().unwrap();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap().on_tcp()).unwrap();
    assert!(sidecar.address().starts_with("http://127.0.0.1:"), "{}", sidecar.address());
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    emulator.admin().publish(GROUP, &messages(&[10])).unwrap();
    let delivery = application.delivery(BOUND).await.unwrap();
    application.ack([delivery.delivery_id]).await.unwrap();
    assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_and_reflection_are_served() {
    let emulator = Emulator::start().unwrap();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    for service in ["", "sluice.v1.Consumer"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let health = HealthClient::new(channel(&sidecar).await).check(request).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving, "{service:?}");
    }

    let ask = |message_request| {
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
        tokio_stream::once(request)
    };
    let mut client = ServerReflectionClient::new(channel(&sidecar).await);
    let mut answers =
        client.server_reflection_info(ask(MessageRequest::ListServices(String::new()))).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"sluice.v1.Consumer") && names.contains(&"grpc.health.v1.Health"), "{names:?}");

    let symbol = MessageRequest::FileContainingSymbol("sluice.v1.Delivery".to_owned());
    let mut answers = client.server_reflection_info(ask(symbol)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    assert!(matches!(answer, MessageResponse::FileDescriptorResponse(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_has_no_more_in_flight_than_it_asked_for() {
    let emulator = Emulator::start().unwrap();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    let two = Subscribe { max_in_flight_messages: 2, ..subscription("messages") };
    let mut application = sidecar.attach(two).await.unwrap();
    emulator.admin().publish(GROUP, &messages(&[10; 6])).unwrap();
    for _ in 0..3 {
        let pair = application.deliveries(2, BOUND).await.unwrap();
        assert!(application.delivery(Duration::from_millis(300)).await.is_err(), "a third one came");
        application.ack(pair.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
    }
    emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == 6).unwrap();
    drop(application);

    let bytes = Subscribe { max_in_flight_bytes: 10_000, ..subscription("bytes") };
    let mut application = sidecar.attach(bytes).await.unwrap();
    // The first is larger than the bound, and comes alone; then as many as fit.
    emulator.admin().publish(GROUP, &messages(&[50_000, 4_000, 4_000, 4_000])).unwrap();
    let mut taken = Vec::new();
    while taken.len() < 4 {
        let first = application.delivery(BOUND).await.unwrap();
        let mut batch = vec![first];
        while let Ok(more) = application.delivery(Duration::from_millis(300)).await {
            batch.push(more);
        }
        let size: usize = batch.iter().map(|delivery| delivery.payload.len()).sum();
        assert!(batch.len() == 1 || size <= 10_000, "{size} bytes in flight");
        application.ack(batch.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
        taken.extend(batch);
    }
    emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == 10).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sidecar_that_is_asked_to_stop_waits_for_verdicts_and_hands_nothing_back_that_was_answered() {
    let emulator = Emulator::start().unwrap();
    let mut sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    emulator.admin().publish(GROUP, &messages(&[10; 20])).unwrap();
    let deliveries = application.deliveries(20, BOUND).await.unwrap();
    let answer = tokio::spawn(async move {
        application.draining(BOUND).await.unwrap();
        application.ack(deliveries.iter().map(|delivery| delivery.delivery_id)).await.unwrap();
        for delivery in &deliveries {
            assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
        }
        assert_eq!(application.ended(BOUND).await.unwrap().code(), Code::Unavailable);
    });
    let status = tokio::task::spawn_blocking(move || sidecar.process().terminate(BOUND).unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
    answer.await.unwrap();
    let counts =
        emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == 20 && counts.clients == 0).unwrap();
    assert_eq!((counts.released, counts.backlog, counts.unsettled), (0, 0, 0));
}
