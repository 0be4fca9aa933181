//! Deliveries: in one frame or in several, aborted, too large, pre-settled, out of order.

use fe2o3_amqp_types::messaging::{Batch, Data};

use super::*;

/// The first frame of a delivery of which more is to come.
fn first(id: u32) -> Transfer {
    Transfer { more: true, ..transfer(id) }
}

fn in_frames(id: u32, message: &[u8], frames: usize) -> Vec<u8> {
    let mut parts = message.chunks(message.len().div_ceil(frames)).peekable();
    let mut bytes = transfer_frame(&first(id), parts.next().unwrap());
    while let Some(part) = parts.next() {
        bytes.extend(transfer_frame(&continuation(parts.peek().is_some()), part));
    }
    bytes
}

#[test]
fn a_delivery_in_one_frame_is_given_whole() {
    let mut link = Link::granted(1);
    link.hears(&delivery(0, b"{\"t\":21}")).unwrap();
    let incoming = link.deliveries.pop().unwrap();
    let message = incoming.message.unwrap();
    assert_eq!(incoming.delivery_id, 0);
    assert_eq!((message.topic(), message.id(), message.payload()), ("/pk/dn/user/up", "1", &b"{\"t\":21}"[..]));
}

#[test]
fn a_delivery_in_many_frames_is_one_delivery_and_takes_one_credit() {
    let payload: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    for frames in [2, 3, 50] {
        let mut link = Link::granted(3);
        link.hears(&in_frames(0, &message(&payload), frames)).unwrap();
        link.hears(&delivery(1, b"next")).unwrap();
        assert_eq!(link.payloads(), [(0, payload.clone()), (1, b"next".to_vec())]);
        assert_eq!(link.engine.outstanding_credit(), 1);
    }
}

#[test]
fn nothing_is_given_before_the_last_frame() {
    let mut link = Link::granted(1);
    let bytes = message(b"whole");
    link.hears(&transfer_frame(&first(0), &bytes)).unwrap();
    assert_eq!(link.deliveries, []);
    link.hears(&transfer_frame(&Transfer { delivery_id: Some(0), ..continuation(false) }, b"")).unwrap();
    assert_eq!(link.payloads(), [(0, b"whole".to_vec())]);
}

#[test]
fn several_data_sections_are_one_payload_however_the_frames_cut_them() {
    let batch: Batch<Data> = [&b"one-"[..], b"two-", b"three"].map(Data::from).into_iter().collect();
    let bytes = serde_amqp::to_vec(&Serializable(PeerMessage::builder().data_batch(batch).build())).unwrap();
    for cut in 0..=bytes.len() {
        let mut link = Link::granted(1);
        link.hears(&transfer_frame(&first(0), &bytes[..cut])).unwrap();
        link.hears(&transfer_frame(&continuation(false), &bytes[cut..])).unwrap();
        assert_eq!(link.payloads(), [(0, b"one-two-three".to_vec())], "cut at {cut}");
    }
}

#[test]
fn an_aborted_delivery_is_forgotten_and_keeps_its_credit() {
    let abort = Transfer { aborted: true, ..continuation(false) };
    let settled_abort = Transfer { settled: Some(true), ..abort.clone() };
    let insisting_abort = Transfer { more: true, ..abort.clone() };
    for abort in [abort, settled_abort, insisting_abort] {
        let mut link = Link::granted(3);
        link.hears(&transfer_frame(&first(0), &message(b"never")[..9])).unwrap();
        link.hears(&transfer_frame(&abort, b"to be ignored")).unwrap();
        assert_eq!(link.deliveries, []);
        assert_eq!(link.engine.outstanding_credit(), 2, "it was begun, so it counts");
        link.hears(&delivery(1, b"next")).unwrap();
        assert_eq!(link.payloads(), [(1, b"next".to_vec())]);
        link.engine.grant(3);
        assert_eq!(flows(&link.says()), [(2, 3, false)], "its credit comes back with the next grant");
    }
}

#[test]
fn a_delivery_aborted_by_its_only_frame_is_forgotten() {
    let mut link = Link::granted(2);
    link.hears(&transfer_frame(&Transfer { aborted: true, settled: Some(true), ..transfer(0) }, b"rubbish")).unwrap();
    assert_eq!(link.deliveries, []);
    assert_eq!(link.engine.outstanding_credit(), 1);
    link.hears(&delivery(1, b"next")).unwrap();
    assert_eq!(link.payloads(), [(1, b"next".to_vec())]);
}

#[test]
fn another_delivery_before_the_last_frame_is_refused() {
    let mut link = Link::granted(5);
    link.hears(&transfer_frame(&first(0), b"")).unwrap();
    let fault = link.hears(&delivery(1, b"x")).unwrap_err();
    assert!(matches!(fault, Fault::Protocol(_)), "{fault:?}");
    assert_eq!(link.deliveries, []);
}

#[test]
fn a_delivery_that_is_settled_already_is_a_fault_said_aloud() {
    let mut link = Link::granted(5);
    let fault =
        link.hears(&transfer_frame(&Transfer { settled: Some(true), ..transfer(7) }, &message(b"x"))).unwrap_err();
    assert_eq!(fault, Fault::PreSettled(7));
    assert_eq!(link.deliveries, []);
    let sent = link.says();
    let [Sent::Close(close)] = &sent[..] else { panic!("expected a Close, found {sent:?}") };
    assert_eq!(accusation(close.error.as_ref()), Some(("amqp:not-allowed".to_owned(), fault.to_string())));

    let mut link = Link::granted(5);
    link.hears(&transfer_frame(&first(7), b"")).unwrap();
    let settled = Transfer { settled: Some(true), ..continuation(false) };
    assert_eq!(link.hears(&transfer_frame(&settled, b"")), Err(Fault::PreSettled(7)), "in its last frame as well");
}

#[test]
fn a_message_that_is_too_large_is_a_delivery_like_any_other_but_for_its_bytes() {
    let params = Params { max_message_size: 100, ..params() };
    let too_large = Err(Unreadable::TooLarge { limit: 100 });
    let bytes = message(&[0; 200]);
    for sent in [transfer_frame(&transfer(0), &bytes), in_frames(0, &bytes, 2), in_frames(0, &bytes, 40)] {
        let mut link = Link::attached_with(params.clone(), &peer_begin(), &peer_attach());
        link.engine.grant(2);
        link.says();
        link.hears(&sent).unwrap();
        assert_eq!(link.deliveries.pop(), Some(Incoming { delivery_id: 0, message: too_large.clone() }));
        link.engine.settle(0, 0, Outcome::Released);
        assert!(matches!(settled(&link.says())[..], [(0, 0, DeliveryState::Released(_))]));
        link.hears(&delivery(1, b"small")).unwrap();
        assert_eq!(link.payloads(), [(1, b"small".to_vec())]);
    }
}

#[test]
fn a_message_of_exactly_the_limit_is_taken() {
    let bytes = message(&[7; 40]);
    let params = Params { max_message_size: bytes.len() as u64, ..params() };
    for sent in [transfer_frame(&transfer(0), &bytes), in_frames(0, &bytes, 7)] {
        let mut link = Link::attached_with(params.clone(), &peer_begin(), &peer_attach());
        link.engine.grant(1);
        link.hears(&sent).unwrap();
        assert_eq!(link.payloads(), [(0, vec![7; 40])]);
    }
}

#[test]
fn a_message_that_cannot_be_read_is_given_with_the_reason() {
    let no_body = serde_amqp::to_vec(&ApplicationProperties::builder().insert("topic", "/a/b").build()).unwrap();
    let mut link = Link::granted(5);
    link.hears(&transfer_frame(&transfer(0), &[0xff; 10])).unwrap();
    link.hears(&transfer_frame(&transfer(1), &no_body)).unwrap();
    link.hears(&transfer_frame(&transfer(2), b"")).unwrap();
    link.hears(&transfer_frame(&Transfer { message_format: Some(1), ..transfer(3) }, &message(b"x"))).unwrap();
    let reasons: Vec<_> = link.deliveries.drain(..).map(|incoming| incoming.message.unwrap_err()).collect();
    assert!(matches!(
        reasons[..],
        [Unreadable::Malformed(_), Unreadable::NoData, Unreadable::NoData, Unreadable::Format(1)]
    ));
    link.hears(&delivery(4, b"fine")).unwrap();
    assert_eq!(link.payloads(), [(4, b"fine".to_vec())], "the link goes on");
}

#[test]
fn transfers_that_contradict_what_came_before_are_refused() {
    let nameless = Transfer { delivery_id: None, ..transfer(0) };
    let elsewhere = Transfer { handle: Handle(0), ..transfer(1) };
    let whole = serde_amqp::to_vec(&transfer(1)).unwrap();
    for (name, bytes) in [
        ("no delivery-id", transfer_frame(&nameless, b"")),
        ("another handle", transfer_frame(&elsewhere, b"")),
        ("another channel", framed(0, PEER_CHANNEL + 1, &whole)),
        ("the same delivery-id again", delivery(0, b"x")),
        ("an earlier delivery-id", delivery(u32::MAX, b"x")),
    ] {
        let mut link = Link::granted(5);
        link.hears(&delivery(0, b"x")).unwrap();
        let fault = link.hears(&bytes).unwrap_err();
        assert!(matches!(fault, Fault::Protocol(_)), "{name}: {fault:?}");
        assert_eq!(link.deliveries.len(), 1, "{name}");
    }
}

#[test]
fn delivery_ids_may_skip() {
    let mut link = Link::granted(3);
    link.hears(&[delivery(10, b"a"), delivery(12, b"b"), delivery(1_000_000, b"c")].concat()).unwrap();
    assert_eq!(link.payloads().len(), 3);
}

#[test]
fn an_extended_header_before_a_transfer_is_read_over() {
    let mut link = Link::granted(1);
    let plain = delivery(0, b"x");
    let size = u32::try_from(plain.len() + 4).unwrap();
    let extended = [&size.to_be_bytes()[..], &[3], &plain[5..8], b"more", &plain[8..]].concat();
    link.hears(&extended).unwrap();
    assert_eq!(link.payloads(), [(0, b"x".to_vec())]);
}
