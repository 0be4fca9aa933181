//! Deliveries: credit, windows, frames, outcomes, and what comes again.

use bytes::Bytes;
use fe2o3_amqp_types::definitions::{Handle, Role};
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState, Received, Rejected, Released};
use fe2o3_amqp_types::performatives::{Attach, Detach, Performative};

use super::client::{Client, attach, disposition, flow, open};
use super::{GROUP, draft, emulator, eventually, hasty, millis, patient};
use crate::{Draft, Limits};

#[tokio::test]
async fn a_message_arrives_unsettled_and_is_forgotten_when_accepted() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    let ids = emulator.hub().publish(GROUP, &[draft(b"payload")]).unwrap();
    assert_eq!(ids[0].len(), 19);
    let (transfer, payload) = client.transfer().await;
    assert_eq!((transfer.delivery_id, transfer.settled, transfer.more), (Some(0), Some(false), false));
    assert!(payload.ends_with(b"payload") && payload.windows(19).any(|window| window == ids[0].as_bytes()));
    client.accept(0, 0).await;
    let hub = emulator.hub();
    eventually("it is accepted", || hub.counts(GROUP).unwrap().accepted == 1).await;
    let fate = hub.fate(&ids[0]).unwrap();
    assert_eq!(fate.iter().map(|line| line.event).collect::<Vec<_>>(), ["published", "pushed", "accepted"]);
    assert_eq!(fate[2].client.as_deref(), Some("c"));
}

#[tokio::test]
async fn no_more_comes_than_there_is_credit_for() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 3).await;
    emulator.hub().publish(GROUP, &vec![draft(b"x"); 10]).unwrap();
    for _ in 0..3 {
        client.transfer().await;
    }
    client.hears_nothing().await;
    // Two more than the client has seen when it says so; and again from a view that is behind.
    client.grant(3, 2).await;
    client.transfer().await;
    client.transfer().await;
    client.grant(3, 3).await;
    client.transfer().await;
    client.hears_nothing().await;
    client.accept(0, 5).await;
    client.hears_nothing().await;
}

#[tokio::test]
async fn a_drain_is_answered_when_what_is_there_has_come() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 0).await;
    emulator.hub().publish(GROUP, &vec![draft(b"x"); 2]).unwrap();
    let mut drain = flow(0, 5);
    drain.drain = true;
    client.send(0, &drain).await;
    client.transfer().await;
    client.transfer().await;
    let Performative::Flow(reply) = client.receive().await else { panic!("a flow") };
    assert_eq!((reply.delivery_count, reply.link_credit, reply.drain), (Some(5), Some(0), true));
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    client.hears_nothing().await;
    // Five of the link's count are gone, but only two transfers have come.
    let mut more = flow(5, 1);
    more.next_incoming_id = Some(2);
    client.send(0, &more).await;
    client.transfer().await;
}

#[tokio::test]
async fn an_echo_tells_where_link_and_session_stand() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 4).await;
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    client.transfer().await;
    let mut echo = flow(0, 4);
    echo.echo = true;
    client.send(0, &echo).await;
    let Performative::Flow(reply) = client.receive().await else { panic!("a flow") };
    assert_eq!((reply.handle, reply.delivery_count, reply.link_credit), (Some(Handle(0)), Some(1), Some(3)));
    echo.handle = None;
    client.send(0, &echo).await;
    let Performative::Flow(reply) = client.receive().await else { panic!("a flow") };
    assert_eq!((reply.handle, reply.next_outgoing_id), (None, 1));
}

#[tokio::test]
async fn the_sessions_window_holds_frames_back() {
    let emulator = emulator(patient()).await;
    let mut client = Client::authenticated(&emulator, "c").await;
    client.send(0, &open(60_000)).await;
    client.receive().await;
    client.begin_with_window(0, 2).await;
    client.attach(0).await;
    let mut credit = flow(0, 10);
    credit.incoming_window = 2;
    client.send(0, &credit).await;
    emulator.hub().publish(GROUP, &vec![draft(b"x"); 5]).unwrap();
    client.transfer().await;
    client.transfer().await;
    client.hears_nothing_within(2).await;
    let mut window = flow(2, 8);
    window.incoming_window = 1;
    client.send(0, &window).await;
    client.transfer().await;
    client.hears_nothing_within(3).await;
}

#[tokio::test]
async fn a_message_larger_than_the_clients_frames_comes_in_several() {
    let emulator = emulator(patient()).await;
    let mut client = Client::authenticated(&emulator, "c").await;
    let mut small = open(60_000);
    small.max_frame_size = 512.into();
    client.send(0, &small).await;
    client.receive().await;
    client.begin(0).await;
    client.attach(0).await;
    client.grant(0, 10).await;
    let payload: Bytes = (0..262_144_u32).map(|index| u8::try_from(index % 251).unwrap()).collect();
    let large = Draft { payload: payload.clone(), ..draft(b"") };
    emulator.hub().publish(GROUP, &[large, draft(b"next")]).unwrap();
    let mut sections = Vec::new();
    loop {
        let (transfer, part) = client.transfer().await;
        assert!(part.len() <= 512);
        sections.extend_from_slice(&part);
        if !transfer.more {
            break;
        }
    }
    assert!(sections.ends_with(&payload));
    assert_eq!(client.transfer().await.0.delivery_id, Some(1));
}

#[tokio::test]
async fn a_message_larger_than_the_client_takes_costs_it_the_link() {
    let emulator = emulator(patient()).await;
    let mut client = Client::begun(&emulator, "c").await;
    client.send(0, &Attach { max_message_size: Some(1_000), ..attach(0, Role::Receiver) }).await;
    assert!(matches!(client.receive().await, Performative::Attach(_)));
    client.grant(0, 10).await;
    let large = Draft { payload: vec![0; 1_000].into(), ..draft(b"") };
    emulator.hub().publish(GROUP, &[draft(b"x"), large]).unwrap();
    client.transfer().await;
    assert_eq!(client.detached().await, "amqp:link:message-size-exceeded");
    assert_eq!(emulator.hub().counts(GROUP).unwrap().backlog, 2);
}

#[tokio::test]
async fn what_is_not_answered_in_time_comes_again() {
    let emulator = emulator(Limits { ack_timeout: millis(200), ..hasty() }).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    let ids = emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    let (_, first) = client.transfer().await;
    let (transfer, second) = client.transfer().await;
    assert_eq!((transfer.delivery_id, &first), (Some(1), &second));
    let fate: Vec<_> = emulator.hub().fate(&ids[0]).unwrap().iter().map(|line| line.event).collect();
    assert!(fate.starts_with(&["published", "pushed", "expired", "backlog", "pushed"]), "{fate:?}");
}

#[tokio::test]
async fn what_came_while_nobody_was_there_is_delivered_from_the_backlog() {
    let emulator = emulator(patient()).await;
    emulator.hub().publish(GROUP, &vec![draft(b"x"); 30]).unwrap();
    assert_eq!(emulator.hub().counts(GROUP).unwrap().backlog, 30);
    let mut client = Client::attached(&emulator, "c", 100).await;
    for _ in 0..30 {
        client.transfer().await;
    }
}

#[tokio::test]
async fn what_a_lost_connection_held_comes_to_another_client() {
    let emulator = emulator(hasty()).await;
    let mut first = Client::attached(&emulator, "a", 10).await;
    emulator.hub().publish(GROUP, &vec![draft(b"x"); 3]).unwrap();
    first.transfer().await;
    drop(first);
    let mut second = Client::attached(&emulator, "b", 10).await;
    for _ in 0..3 {
        second.transfer().await;
    }
    second.accept(0, 2).await;
    let hub = emulator.hub();
    eventually("all are accepted", || hub.counts(GROUP).unwrap().accepted == 3).await;
}

#[tokio::test]
async fn outcomes_are_counted_by_name_and_ranges_count_in_full() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    emulator.hub().publish(GROUP, &vec![draft(b"x"); 8]).unwrap();
    for _ in 0..8 {
        client.transfer().await;
    }
    client.accept(0, 2).await;
    client.send(0, &disposition(3, 4, Some(DeliveryState::Released(Released {})))).await;
    client.send(0, &disposition(5, 5, Some(DeliveryState::Rejected(Rejected { error: None })))).await;
    client.send(0, &disposition(6, 6, None)).await;
    let received = DeliveryState::Received(Received { section_number: 0, section_offset: 0 });
    let mut progress = disposition(7, 7, Some(received));
    progress.settled = false;
    client.send(0, &progress).await;
    let hub = emulator.hub();
    eventually("the outcomes have arrived", || hub.counts(GROUP).unwrap().released == 3).await;
    let counts = hub.counts(GROUP).unwrap();
    assert_eq!((counts.accepted, counts.rejected, counts.unsettled, counts.backlog), (3, 1, 1, 4));
}

#[tokio::test]
async fn an_outcome_that_is_not_settled_is_settled_by_the_emulator() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    client.transfer().await;
    let mut unsettled = disposition(0, 0, Some(DeliveryState::Accepted(Accepted {})));
    unsettled.settled = false;
    client.send(0, &unsettled).await;
    let Performative::Disposition(reply) = client.receive().await else { panic!("a disposition") };
    assert_eq!((reply.role, reply.settled, reply.first), (Role::Sender, true, 0));
    assert_eq!(emulator.hub().counts(GROUP).unwrap().accepted, 1);
}

#[tokio::test]
async fn an_inverted_range_is_an_error_and_a_wide_one_is_not() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    client.transfer().await;
    client.accept(0, i32::MAX.cast_unsigned()).await;
    let hub = emulator.hub();
    eventually("it is accepted", || hub.counts(GROUP).unwrap().accepted == 1).await;
    client.accept(5, 4).await;
    assert_eq!(client.closed().await, "amqp:invalid-field");
}

#[tokio::test]
async fn an_answer_for_a_link_that_is_gone_counts_for_nothing() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    client.transfer().await;
    client.send(0, &Detach { handle: Handle(0), closed: true, error: None }).await;
    assert!(matches!(client.receive().await, Performative::Detach(_)));
    client.accept(0, 0).await;
    client.attach(0).await;
    client.accept(0, 0).await;
    client.grant(0, 0).await;
    client.hears_nothing().await;
    let counts = emulator.hub().counts(GROUP).unwrap();
    assert_eq!((counts.accepted, counts.backlog), (0, 1));
}
