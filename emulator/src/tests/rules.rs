//! The rules of a connection that is open: its link, its signs of life, its frames.

use bytes::{BufMut as _, BytesMut};
use fe2o3_amqp_types::definitions::{Handle, Role};
use fe2o3_amqp_types::performatives::{Close, Detach, Performative, Transfer};

use super::client::{Client, attach, begin, flow, open};
use super::{GROUP, draft, emulator, millis, patient};
use crate::Limits;
use crate::amqp::encode;
use crate::amqp::frame::Kind;

#[tokio::test]
async fn a_silent_connection_is_closed_when_its_time_has_come() {
    let emulator = emulator(Limits { link_deadline: millis(100), ..patient() }).await;
    let mut client = Client::authenticated(&emulator, "c").await;
    assert!(matches!(client.receive().await, Performative::Open(_)));
    assert_eq!(client.closed().await, "amqp:connection:forced");
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_closed_when_its_time_has_come() {
    let emulator = emulator(Limits { idle_time_out_min: millis(100), ..patient() }).await;
    let mut client = Client::authenticated(&emulator, "c").await;
    client.send(0, &open(100)).await;
    assert!(matches!(client.receive().await, Performative::Open(_)));
    assert_eq!(client.closed().await, "amqp:resource-limit-exceeded");
}

#[tokio::test]
async fn a_sender_link_is_refused_and_the_receiver_link_lives_on() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    client.send(0, &attach(1, Role::Sender)).await;
    let Performative::Attach(reply) = client.receive().await else { panic!("an attach") };
    assert_eq!((reply.role, reply.target), (Role::Receiver, None));
    assert_eq!(client.detached().await, "amqp:not-allowed");
    client.send(0, &Detach { handle: Handle(1), closed: true, error: None }).await;
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    client.transfer().await;
}

#[tokio::test]
async fn a_second_receiver_link_is_refused_wherever_it_comes() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    client.begin(1).await;
    for (channel, handle) in [(0, 1), (1, 0)] {
        client.send(channel, &attach(handle, Role::Receiver)).await;
        let Performative::Attach(reply) = client.receive().await else { panic!("an attach") };
        assert_eq!((reply.role, reply.source), (Role::Sender, None));
        assert_eq!(client.detached().await, "amqp:not-allowed");
        let mut late = flow(0, 10);
        late.handle = Some(Handle(handle));
        client.send(channel, &late).await;
        client.send(channel, &Detach { handle: Handle(handle), closed: true, error: None }).await;
    }
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    client.transfer().await;
}

#[tokio::test]
async fn after_a_detach_the_link_can_be_attached_again_and_delivery_ids_go_on() {
    let emulator = emulator(super::hasty()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    emulator.hub().publish(GROUP, &[draft(b"x"), draft(b"y")]).unwrap();
    for id in 0..2 {
        assert_eq!(client.transfer().await.0.delivery_id, Some(id));
    }
    client.send(0, &Detach { handle: Handle(0), closed: true, error: None }).await;
    assert!(matches!(client.receive().await, Performative::Detach(_)));
    client.attach(0).await;
    client.grant(0, 10).await;
    for id in 2..4 {
        assert_eq!(client.transfer().await.0.delivery_id, Some(id));
    }
    client.accept(2, 3).await;
    let hub = emulator.hub();
    super::eventually("both are accepted", || hub.counts(GROUP).unwrap().accepted == 2).await;
}

#[tokio::test]
async fn too_many_sessions_and_reused_handles_are_errors() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 0).await;
    client.send(0, &attach(0, Role::Receiver)).await;
    assert_eq!(client.closed().await, "amqp:session:handle-in-use");
    let mut client = Client::begun(&emulator, "c").await;
    client.send(5, &flow(0, 1)).await;
    assert_eq!(client.closed().await, "amqp:connection:framing-error");
    let mut client = Client::begun(&emulator, "c").await;
    client.send(0, &flow(0, 1)).await;
    assert_eq!(client.closed().await, "amqp:session:unattached-handle");
    let mut client = Client::begun(&emulator, "c").await;
    client.send(8, &begin(1)).await;
    assert_eq!(client.closed().await, "amqp:connection:framing-error", "eight sessions are numbered 0 to 7");
}

#[tokio::test]
async fn a_transfer_from_the_client_is_not_allowed() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 0).await;
    let transfer = Transfer {
        handle: Handle(0),
        delivery_id: Some(0),
        delivery_tag: Some(vec![0].into()),
        message_format: Some(0),
        settled: Some(true),
        more: false,
        rcv_settle_mode: None,
        state: None,
        resume: false,
        aborted: false,
        batchable: false,
    };
    client.send(0, &transfer).await;
    assert_eq!(client.closed().await, "amqp:not-allowed");
}

/// A frame with this body on channel 0.
fn framed(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(&[2, 0, 0, 0]);
    frame.extend_from_slice(body);
    frame
}

#[tokio::test]
async fn garbage_closes_its_own_connection_with_a_reason_and_no_other() {
    let emulator = emulator(patient()).await;
    let mut bystander = Client::attached(&emulator, "bystander", 100).await;
    let mut deep = BytesMut::from(&[0x00, 0x53, 0x10][..]);
    deep.put_bytes(0x00, 50_000);
    let framing = "amqp:connection:framing-error";
    let decode = "amqp:decode-error";
    let garbage: [(&str, Vec<u8>, &str); 9] = [
        ("a frame of 6 bytes", vec![0, 0, 0, 6, 2, 0, 0, 0], framing),
        ("a data offset of 1", vec![0, 0, 0, 8, 1, 0, 0, 0], framing),
        ("a frame of a gigabyte", vec![0x40, 0, 0, 0, 2, 0, 0, 0], framing),
        ("a SASL frame", vec![0, 0, 0, 8, 2, 1, 0, 0], framing),
        ("a body that is no performative", framed(&[0x40]), decode),
        ("an unknown performative", framed(&[0x00, 0x53, 0x7f, 0x45]), decode),
        ("a list that claims more than there is", framed(&[0x00, 0x53, 0x13, 0xc0, 0xff, 9]), decode),
        ("values nested without end", framed(&deep), decode),
        (
            "an array of two billion nulls",
            framed(b"\x00\x53\x10\xc0\x0b\x01\xf0\0\0\0\x05\x7f\xff\xff\xff\x40"),
            decode,
        ),
    ];
    for (what, bytes, condition) in garbage {
        let mut client = Client::attached(&emulator, "c", 0).await;
        client.write(&bytes).await;
        assert_eq!(client.closed().await, condition, "{what}");
        emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
        bystander.transfer().await;
    }
}

#[tokio::test]
async fn garbage_before_the_open_is_answered_with_open_and_close() {
    let emulator = emulator(patient()).await;
    let mut client = Client::authenticated(&emulator, "c").await;
    let mut bytes = BytesMut::new();
    encode::put(&mut bytes, Kind::Amqp, 0, &flow(0, 1)).unwrap();
    client.write(&bytes).await;
    assert!(matches!(client.receive().await, Performative::Open(_)));
    assert_eq!(client.closed().await, "amqp:illegal-state");
}

#[tokio::test]
async fn a_close_is_answered_with_a_close() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 0).await;
    client.send(0, &Close { error: None }).await;
    let Performative::Close(Close { error: None }) = client.receive().await else { panic!("a plain close") };
    client.ended().await;
    let hub = emulator.hub();
    super::eventually("its slot is free", || hub.counts(GROUP).unwrap().clients == 0).await;
}
