//! What an admin does to connections, and the emulator's own end.

use fe2o3_amqp_types::performatives::{Close, Detach, End, Performative};
use serde_json::json;

use super::admin::post;
use super::client::Client;
use super::{GROUP, draft, emulator, eventually, hasty, patient};
use crate::{Fault, Reason};

fn reason(condition: &str) -> Reason {
    Reason { condition: condition.into(), description: "test".into() }
}

#[tokio::test]
async fn a_close_carries_the_condition_that_was_asked_for() {
    let emulator = emulator(patient()).await;
    let mut one = Client::attached(&emulator, "one", 1).await;
    let mut two = Client::attached(&emulator, "two", 1).await;
    let fault = Fault::Close { reason: Some(reason("vendor:9602")) };
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
    let fault = Fault::Detach { reason: Some(reason("amqp:link:detach-forced")), closed: true };
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
async fn a_bare_close_says_no_reason_and_a_link_need_not_be_closed() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    let detach = json!({"action": "detach", "closed": false, "bare": true});
    assert_eq!(post(&emulator, "/admin/faults", &detach).await.1["affected"], 1);
    let detached = client.receive().await;
    assert!(matches!(detached, Performative::Detach(Detach { closed: false, error: None, .. })), "{detached:?}");
    assert_eq!(post(&emulator, "/admin/faults", &json!({"action": "close", "bare": true})).await.1["affected"], 1);
    let closed = client.receive().await;
    assert!(matches!(closed, Performative::Close(Close { error: None })), "{closed:?}");
}

#[tokio::test]
async fn a_session_can_be_ended() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    let end = json!({"action": "endSession", "condition": "vendor:x"});
    assert_eq!(post(&emulator, "/admin/faults", &end).await.1["affected"], 1);
    let ended = client.receive().await;
    assert!(matches!(ended, Performative::End(End { error: Some(_) })), "{ended:?}");
}

#[tokio::test]
async fn a_message_can_be_repeated_under_its_id() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    let id = emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap().remove(0);
    let (first, payload) = client.transfer().await;
    client.accept(0, 0).await;
    let hub = emulator.hub();
    eventually("it is accepted", || hub.counts(GROUP).unwrap().accepted == 1).await;
    let repeat = json!({"action": "repeat", "message": id});
    assert_eq!(post(&emulator, "/admin/faults", &repeat).await, (200, json!({"affected": 1})));
    let (second, again) = client.transfer().await;
    assert_eq!(again, payload);
    assert_ne!(first.delivery_id, second.delivery_id);
}

#[tokio::test]
async fn the_next_attempts_to_connect_can_be_refused() {
    let emulator = emulator(patient()).await;
    let refuse = json!({"action": "refuseNext", "group": GROUP, "attempts": 2});
    assert_eq!(post(&emulator, "/admin/faults", &refuse).await, (200, json!({"affected": 0})));
    for _ in 0..2 {
        let mut client = Client::authenticated(&emulator, "c").await;
        client.send(0, &super::client::open(60_000)).await;
        assert!(matches!(client.receive().await, Performative::Open(_)));
        assert_eq!(client.closed().await, "amqp:resource-limit-exceeded");
    }
    Client::attached(&emulator, "c", 10).await;
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
