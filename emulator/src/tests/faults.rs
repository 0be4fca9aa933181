//! What an admin does to connections, and the emulator's own end.

use super::client::Client;
use super::{GROUP, draft, emulator, eventually, hasty, patient};
use crate::Fault;

#[tokio::test]
async fn a_close_carries_the_condition_that_was_asked_for() {
    let emulator = emulator(patient()).await;
    let mut one = Client::attached(&emulator, "one", 1).await;
    let mut two = Client::attached(&emulator, "two", 1).await;
    let fault = Fault::Close { condition: "vendor:9602".into(), description: "load balancing".into() };
    assert_eq!(emulator.hub().inject(Some(GROUP), Some("one"), &fault), Ok(1));
    assert_eq!(one.closed().await, "vendor:9602");
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    two.transfer().await;
    assert!(emulator.hub().inject(Some("other"), None, &fault).is_err());
}

#[tokio::test]
async fn a_detached_link_can_be_attached_again_on_the_same_connection() {
    let emulator = emulator(hasty()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    client.transfer().await;
    let fault = Fault::Detach { condition: "amqp:link:detach-forced".into(), description: "test".into() };
    assert_eq!(emulator.hub().inject(None, None, &fault), Ok(1));
    assert_eq!(client.detached().await, "amqp:link:detach-forced");
    // What was on its way when the detach came is passed over.
    client.grant(1, 20).await;
    client.accept(0, 0).await;
    let handle = fe2o3_amqp_types::definitions::Handle(0);
    client.send(0, &fe2o3_amqp_types::performatives::Detach { handle, closed: true, error: None }).await;
    client.attach(0).await;
    client.grant(0, 10).await;
    assert_eq!(client.transfer().await.0.delivery_id, Some(1));
    assert_eq!(emulator.hub().counts(GROUP).unwrap().accepted, 0);
}

#[tokio::test]
async fn a_dropped_connection_ends_without_a_word() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    assert_eq!(emulator.hub().inject(None, None, &Fault::Drop), Ok(1));
    client.ended().await;
    let hub = emulator.hub();
    eventually("its slot is free", || hub.counts(GROUP).unwrap().clients == 0).await;
}

#[tokio::test]
async fn a_shutdown_closes_every_connection_in_good_order() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    let _not_open = Client::dial(&emulator).await;
    let address = emulator.amqp_addr();
    let ended = tokio::spawn(emulator.shutdown());
    assert_eq!(client.closed().await, "amqp:connection:forced");
    ended.await.unwrap().unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
