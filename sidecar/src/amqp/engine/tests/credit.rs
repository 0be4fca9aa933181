//! Credit is exact: what is outstanding is what was granted and not used, across the wrap of every counter.

use super::*;

#[test]
fn credit_counts_down_with_each_delivery_and_is_granted_anew() {
    let mut link = Link::attached();
    assert_eq!(link.engine.outstanding_credit(), 0);
    link.engine.grant(3);
    assert_eq!(flows(&link.says()), [(0, 3, false)]);
    link.hears(&[delivery(0, b"a"), delivery(1, b"b")].concat()).unwrap();
    assert_eq!(link.engine.outstanding_credit(), 1);
    link.engine.grant(2);
    assert_eq!(flows(&link.says()), [(2, 2, false)]);
}

#[test]
fn what_was_granted_is_never_taken_back() {
    let mut link = Link::granted(10);
    for less in [9, 1, 0, 10] {
        link.engine.grant(less);
        assert_eq!(link.engine.outstanding_credit(), 10);
        assert_eq!(link.says(), [], "there is nothing to tell");
    }
    link.hears(&delivery(0, b"x")).unwrap();
    link.engine.grant(9);
    assert_eq!((link.engine.outstanding_credit(), link.says()), (9, vec![]));
}

#[test]
fn a_delivery_beyond_the_credit_is_a_fault() {
    let mut link = Link::granted(2);
    link.hears(&[delivery(0, b"a"), delivery(1, b"b")].concat()).unwrap();
    let fault = link.hears(&delivery(2, b"c")).unwrap_err();
    assert_eq!(fault, Fault::CreditExceeded(2));
    assert_eq!(fault.renew(), Renew::Link);
    assert_eq!(link.payloads().len(), 2);
}

#[test]
fn the_smallest_and_the_largest_credit_are_understood() {
    let mut link = Link::attached();
    link.engine.grant(0);
    assert_eq!((link.engine.outstanding_credit(), link.says()), (0, vec![]));
    link.engine.grant(u32::MAX);
    assert_eq!(link.engine.outstanding_credit(), 0x7fff_ffff, "numbers further apart have no order");
    link.engine.grant(u32::MAX);
    assert_eq!(link.engine.outstanding_credit(), 0x7fff_ffff);
}

#[test]
fn a_delivery_under_way_is_one_of_those_that_are_granted() {
    let mut link = Link::granted(1);
    let first = Transfer { more: true, ..transfer(0) };
    link.hears(&transfer_frame(&first, &message(b"x")[..5])).unwrap();
    assert_eq!(link.engine.outstanding_credit(), 0);
    link.engine.grant(1);
    assert_eq!(link.engine.outstanding_credit(), 0, "one may come to its end, and that one is on its way");
    link.engine.grant(3);
    assert_eq!(flows(&link.says()), [(1, 2, false)]);
    link.hears(&transfer_frame(&continuation(false), &message(b"x")[5..])).unwrap();
    assert_eq!(link.engine.outstanding_credit(), 2);
}

#[test]
fn credit_before_the_link_stands_and_after_its_end_is_not_given() {
    let mut link = Link::new(params());
    link.engine.grant(5);
    link.engine.drain();
    assert_eq!(link.says(), [Sent::Header(SASL)]);
    let mut link = Link::attached();
    link.engine.close(link.now);
    link.says();
    link.engine.grant(5);
    assert_eq!(link.says(), []);
    assert_eq!(link.engine.outstanding_credit(), 0);
}

#[test]
fn a_flow_that_asks_for_an_echo_gets_one() {
    let mut link = Link::granted(4);
    link.hears(&delivery(0, b"x")).unwrap();
    link.hears(&frame(PEER_CHANNEL, &peer_flow(1))).unwrap();
    assert_eq!(link.says(), [], "no echo was asked for");
    link.hears(&frame(PEER_CHANNEL, &Flow { echo: true, ..peer_flow(1) })).unwrap();
    assert_eq!(flows(&link.says()), [(1, 3, false)]);
    let session_only = Flow { handle: None, delivery_count: None, link_credit: None, echo: true, ..peer_flow(0) };
    link.hears(&frame(PEER_CHANNEL, &session_only)).unwrap();
    assert_eq!(flows(&link.says()), [(1, 3, false)]);
}

#[test]
fn each_flow_names_the_next_transfer_that_is_expected() {
    let begin = Begin { next_outgoing_id: u32::MAX, ..peer_begin() };
    let mut link = Link::attached_with(params(), &begin, &peer_attach());
    link.engine.grant(2);
    let first = Transfer { more: true, ..transfer(0) };
    let bytes = message(b"x");
    link.hears(&[transfer_frame(&first, &bytes[..9]), transfer_frame(&continuation(false), &bytes[9..])].concat())
        .unwrap();
    link.engine.grant(2);
    let sent = link.says();
    let [Sent::Flow(before), Sent::Flow(after)] = &sent[..] else { panic!("expected two flows, found {sent:?}") };
    assert_eq!(before.next_incoming_id, Some(u32::MAX));
    assert_eq!(after.next_incoming_id, Some(1), "both frames of a delivery are counted, across the wrap");
}

#[test]
fn draining_uses_the_credit_up_or_forfeits_it() {
    let mut link = Link::granted(10);
    link.engine.drain();
    assert_eq!(flows(&link.says()), [(0, 10, true)]);
    assert!(link.engine.is_draining());
    link.hears(&delivery(0, b"x")).unwrap();
    assert!(link.engine.is_draining());
    link.hears(&frame(PEER_CHANNEL, &Flow { drain: true, ..peer_flow(10) })).unwrap();
    assert!(!link.engine.is_draining());
    assert_eq!(link.engine.outstanding_credit(), 0);
    assert_eq!(link.hears(&delivery(1, b"y")), Err(Fault::CreditExceeded(1)), "forfeited credit is gone");
}

#[test]
fn a_drain_ends_when_the_last_credit_is_used_even_if_no_flow_says_so() {
    let mut link = Link::granted(1);
    link.engine.drain();
    link.hears(&delivery(0, b"x")).unwrap();
    assert!(!link.engine.is_draining());
    link.says();
    link.hears(&frame(PEER_CHANNEL, &Flow { echo: true, ..peer_flow(1) })).unwrap();
    assert_eq!(flows(&link.says()), [(1, 0, false)]);
}

#[test]
fn after_a_drain_credit_is_granted_as_before() {
    let mut link = Link::granted(2);
    link.engine.drain();
    link.hears(&frame(PEER_CHANNEL, &Flow { drain: true, ..peer_flow(2) })).unwrap();
    link.says();
    link.engine.grant(3);
    assert_eq!(flows(&link.says()), [(2, 3, false)]);
}

#[test]
fn there_is_nothing_to_drain_without_credit() {
    let mut link = Link::attached();
    link.engine.drain();
    assert!(!link.engine.is_draining());
    assert_eq!(link.says(), []);
}

#[test]
fn a_peer_that_claims_more_than_it_was_granted_is_refused() {
    let mut link = Link::granted(3);
    let fault = link.hears(&frame(PEER_CHANNEL, &peer_flow(4))).unwrap_err();
    assert!(matches!(fault, Fault::Protocol(_)), "{fault:?}");
}

#[test]
fn a_peer_that_counts_a_delivery_by_its_last_frame_gives_no_credit_back() {
    let mut link = Link::granted(3);
    link.hears(&transfer_frame(&Transfer { more: true, ..transfer(0) }, b"")).unwrap();
    link.hears(&frame(PEER_CHANNEL, &peer_flow(0))).unwrap();
    assert_eq!(link.engine.outstanding_credit(), 2);
}

#[test]
fn flows_for_another_link_change_nothing() {
    let mut link = Link::granted(3);
    link.hears(&frame(PEER_CHANNEL, &Flow { handle: Some(Handle(77)), ..peer_flow(1_000) })).unwrap();
    assert_eq!(link.engine.outstanding_credit(), 3);
}

#[test]
fn all_counters_go_on_beyond_their_wrap() {
    let begin = Begin { next_outgoing_id: u32::MAX, ..peer_begin() };
    let attach = Attach { initial_delivery_count: Some(u32::MAX - 2), ..peer_attach() };
    let mut link = Link::attached_with(params(), &begin, &attach);
    link.engine.grant(6);
    assert_eq!(flows(&link.says()), [(u32::MAX - 2, 6, false)]);
    let ids = [u32::MAX - 1, u32::MAX, 0, 1, 2];
    for (done, id) in (1..).zip(ids) {
        link.hears(&delivery(id, b"x")).unwrap();
        assert_eq!(link.engine.outstanding_credit(), 5);
        link.engine.grant(6);
        assert_eq!(flows(&link.says()), [((u32::MAX - 2).wrapping_add(done), 6, false)]);
    }
    assert_eq!(link.deliveries.iter().map(|incoming| incoming.delivery_id).collect::<Vec<_>>(), ids);

    link.engine.drain();
    link.says();
    link.hears(&frame(PEER_CHANNEL, &Flow { drain: true, ..peer_flow(8) })).unwrap();
    assert_eq!(link.engine.outstanding_credit(), 0, "the count u32::MAX - 2 + 5 + 6 is 8");
    assert_eq!(link.hears(&delivery(3, b"x")), Err(Fault::CreditExceeded(3)));
}

#[test]
fn a_range_across_the_wrap_is_settled_as_one() {
    let mut link = Link::attached();
    link.engine.settle(u32::MAX - 1, 1, Outcome::Accepted);
    link.engine.settle(2, 2, Outcome::Released);
    let sent = settled(&link.says());
    assert!(matches!(&sent[0], (4_294_967_294, 1, DeliveryState::Accepted(_))), "{sent:?}");
    assert!(matches!(&sent[1], (2, 2, DeliveryState::Released(_))), "{sent:?}");
    assert_eq!(sent.len(), 2);
}

#[test]
fn a_range_across_the_wrap_is_settled_singly_for_a_peer_that_wants_that() {
    let params = Params { settle_singly: true, ..params() };
    let mut link = Link::attached_with(params, &peer_begin(), &peer_attach());
    link.engine.settle(u32::MAX - 1, 1, Outcome::Accepted);
    let numbers: Vec<_> = settled(&link.says()).into_iter().map(|(first, last, _)| (first, last)).collect();
    assert_eq!(numbers, [(u32::MAX - 1, u32::MAX - 1), (u32::MAX, u32::MAX), (0, 0), (1, 1)]);
}

#[test]
fn nothing_is_settled_on_a_link_that_does_not_stand() {
    let mut link = Link::new(params());
    link.engine.settle(0, 5, Outcome::Accepted);
    assert_eq!(link.says(), [Sent::Header(SASL)]);
    let mut link = Link::attached();
    link.hears(&frame(0, &Close { error: None })).unwrap_err();
    link.says();
    link.engine.settle(0, 5, Outcome::Accepted);
    assert_eq!(link.says(), []);
}

#[test]
fn a_disposition_of_the_peer_costs_nothing_whatever_its_range() {
    let mut link = Link::granted(5);
    let all = Disposition { role: Role::Sender, first: 1, last: Some(0), settled: true, state: None, batchable: false };
    let bytes = frame(PEER_CHANNEL, &all);
    // Walked id by id, a single one would take seconds.
    for _ in 0..1_000 {
        link.hears(&bytes).unwrap();
    }
    assert_eq!(link.says(), []);
    assert_eq!(link.engine.outstanding_credit(), 5);
    let fault = link.hears(&frame(PEER_CHANNEL, &Disposition { role: Role::Receiver, ..all })).unwrap_err();
    assert!(matches!(fault, Fault::Protocol(_)), "{fault:?}");
}
