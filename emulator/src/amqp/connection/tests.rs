//! The rules of a connection that go by the clock, what the platform can have it do, and what it does to a peer that does not
//! read: at times that are made up.

use bytes::BytesMut;
use fe2o3_amqp_types::definitions::{Handle, Role};
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState};
use fe2o3_amqp_types::performatives::{Attach, Close, Detach, End, Flow, Open, Performative};

use super::*;
use crate::amqp::{Hindrance, Order};
use crate::platform::{Door, Outcome, Refusal};
use crate::profile::Profile;
use crate::tests::client::{attach, begin, disposition, flow, open};
use crate::tests::peer::{Peer, START, at, just_before};

const FORCED: &str = "close amqp:connection:forced";

fn authenticated() -> Peer {
    Peer::authenticated(Terms::default())
}

fn attached() -> Peer {
    Peer::attached(Terms::default())
}

fn failure(condition: &str) -> Failure {
    Failure::named(condition, "as ordered")
}

#[test]
fn a_connection_that_never_opens_is_closed_after_15_s() {
    let mut peer = authenticated();
    assert!(peer.until(just_before(15)).is_empty());
    assert_eq!(peer.until(at(15)), ["open", FORCED]);
    assert_eq!(peer.book().notes[0].0, Code::Closed);
    assert!(peer.book().left);
}

#[test]
fn a_connection_without_a_receiver_link_is_closed_after_15_s() {
    let mut peer = Peer::begun(Terms::default());
    assert!(peer.until(just_before(15)).is_empty());
    assert_eq!(peer.until(at(15)), [FORCED]);
}

#[test]
fn a_connection_with_a_receiver_link_is_not() {
    let mut peer = attached();
    assert_eq!(peer.until(at(50)), ["beat"; 2]);
    peer.hears_a_beat();
    assert_eq!(peer.until(just_before(100)), ["beat"; 2]);
}

#[test]
fn after_a_detach_there_are_15_s_to_attach_again() {
    let mut peer = attached();
    peer.until(at(10));
    peer.hears(&Detach { handle: Handle(0), closed: true, error: None });
    assert_eq!(peer.said(), ["detach"]);
    assert_eq!(peer.until(just_before(25)), ["beat"]);
    assert_eq!(peer.until(at(25)), [FORCED]);
}

#[test]
fn a_beat_goes_out_every_third_of_the_clients_idle_time_out() {
    let mut peer = attached();
    for third in 1..10 {
        assert!(peer.until(just_before(20 * third)).is_empty());
        assert_eq!(peer.until(at(20 * third)), ["beat"]);
        peer.hears_a_beat();
    }
}

#[test]
fn a_client_that_is_silent_for_its_own_idle_time_out_is_closed() {
    let mut peer = attached();
    peer.until(at(45));
    peer.hears_a_beat();
    assert!(peer.until(just_before(105)).iter().all(|frame| frame == "beat"));
    assert_eq!(peer.until(at(105)), ["close amqp:resource-limit-exceeded"]);
}

#[test]
fn bytes_that_never_become_a_frame_are_no_sign_of_life() {
    let mut frame = BytesMut::new();
    encode::put(&mut frame, Kind::Amqp, 0, &open(60_000)).unwrap();
    let mut loris = authenticated();
    let mut input = BytesMut::new();
    for (second, byte) in (0..15).zip(frame.iter()) {
        loris.until(at(second));
        input.extend_from_slice(&[*byte]);
        loris.hears_bytes(&mut input);
    }
    assert_eq!(loris.until(at(15)), ["open", FORCED]);
    let mut loris = attached();
    let mut input = BytesMut::new();
    for (second, byte) in (0..60).zip(frame.iter().cycle()) {
        loris.until(at(second));
        // Never the last one.
        if input.len() < frame.len() - 1 {
            input.extend_from_slice(&[*byte]);
        }
        loris.hears_bytes(&mut input);
    }
    assert_eq!(loris.until(at(60)), ["close amqp:resource-limit-exceeded"]);
}

#[test]
fn a_close_that_is_not_answered_is_the_end_after_2_s() {
    let mut peer = authenticated();
    peer.until(at(15));
    peer.until(just_before(17));
    assert!(!peer.connection.is_over());
    peer.until(at(17));
    assert!(peer.connection.is_over());
}

#[test]
fn every_door_is_come_to_and_each_refuses_in_its_own_way() {
    let surplus = Refusal::TooManyClients { limit: 64 };
    let mut peer = authenticated();
    peer.book_mut().refuses = Some((Door::Open, surplus));
    peer.hears(&open(60_000));
    assert_eq!(peer.said(), ["open", "close amqp:resource-limit-exceeded"]);
    assert!(peer.book().notes.is_empty(), "who refused it has written it down");
    let mut peer = Peer::begun(Terms::default());
    peer.book_mut().refuses = Some((Door::Attach, surplus));
    peer.hears(&attach(0, Role::Receiver));
    assert_eq!(peer.said(), ["attach without terminus", "detach amqp:resource-limit-exceeded"]);
    assert_eq!(peer.book().passed, [Door::Open, Door::Attach]);
    assert!(!peer.book().attached);
    peer.book_mut().refuses = None;
    peer.hears(&Detach { handle: Handle(0), closed: true, error: None });
    peer.hears(&attach(0, Role::Receiver));
    assert_eq!(peer.said(), ["attach"], "it may try again");
    assert!(peer.book().attached);
}

#[test]
fn a_heartbeat_that_is_not_acceptable_has_a_line_of_its_own() {
    let mut peer = authenticated();
    peer.hears(&open(29_999));
    assert_eq!(peer.said(), ["open", "close amqp:invalid-field"]);
    assert_eq!(peer.book().notes.iter().map(|(code, _)| *code).collect::<Vec<_>>(), [Code::Heartbeat]);
}

#[test]
fn a_close_can_be_ordered_with_a_reason_and_without() {
    for (reason, heard) in [(Some(failure("vendor:x")), "close vendor:x"), (None, "close")] {
        let mut peer = attached();
        peer.ordered(Order::Close(reason));
        assert_eq!(peer.said(), [heard]);
        assert_eq!(peer.book().notes.len(), 1);
        peer.hears(&Close { error: None });
        assert!(peer.connection.is_over() && !peer.connection.is_dropped());
    }
}

#[test]
fn a_link_can_be_detached_for_good_or_not() {
    for closed in [true, false] {
        let mut peer = attached();
        peer.ordered(Order::Detach { failure: Some(failure("amqp:link:detach-forced")), closed });
        let heard = peer.performatives();
        let [Performative::Detach(detach)] = &heard[..] else { panic!("a detach, not {heard:?}") };
        assert_eq!((detach.closed, detach.error.is_some()), (closed, true));
        assert!(!peer.book().attached);
        peer.hears(&Detach { handle: Handle(0), closed, error: None });
        peer.hears(&attach(0, Role::Receiver));
        assert_eq!(peer.said(), ["attach"]);
    }
}

#[test]
fn a_session_that_is_ended_can_be_begun_again_when_the_client_has_ended_it_too() {
    let mut peer = attached();
    peer.ordered(Order::End(Some(failure("amqp:session:x"))));
    assert_eq!(peer.said(), ["end amqp:session:x"]);
    assert!(!peer.book().attached);
    // What was under way.
    peer.hears(&flow(0, 10));
    peer.hears(&disposition(0, 0, Some(DeliveryState::Accepted(Accepted {}))));
    peer.hears(&attach(1, Role::Receiver));
    peer.hears(&Detach { handle: Handle(0), closed: true, error: None });
    peer.hears(&End { error: None });
    assert!(peer.said().is_empty());
    assert!(peer.book().settled.is_empty());
    peer.hears(&begin(10));
    peer.hears(&attach(0, Role::Receiver));
    assert_eq!(peer.said(), ["begin", "attach"]);
    let mut peer = attached();
    peer.ordered(Order::End(None));
    assert_eq!(peer.said(), ["end"]);
    assert_eq!(peer.until(at(15)), [FORCED], "there must be a link again");
}

#[test]
fn a_token_that_expires_ends_a_connection_where_the_profile_says_so() {
    let closes =
        Terms { profile: Profile { token_expiry: TokenExpiry::Closes, ..Profile::default() }, ..Terms::default() };
    for (terms, heard) in [(closes, &["close amqp:unauthorized-access"][..]), (Terms::default(), &[])] {
        let mut by_order = Peer::attached(terms.clone());
        by_order.ordered(Order::Expire);
        assert_eq!(by_order.said(), heard);
        let mut by_time = Peer::attached(terms);
        by_time.connection.token_ends(at(5));
        assert!(by_time.until(just_before(5)).is_empty());
        assert_eq!(by_time.until(at(5)), heard);
    }
}

#[test]
fn a_connection_that_does_not_read_hears_nothing_and_holds_nobody_silent() {
    let mut peer = attached();
    peer.ordered(Order::Hinder { what: Hindrance::NoReading, lasts: Duration::from_secs(100) });
    assert!(!peer.connection.may_read());
    let mut late = BytesMut::new();
    encode::put(&mut late, Kind::Amqp, 0, &Flow { echo: true, ..flow(0, 10) }).unwrap();
    peer.hears_bytes(&mut late);
    assert_eq!(peer.until(just_before(100)), ["beat"; 4], "no answer, no close, and its own signs of life go on");
    peer.until(at(100));
    assert!(peer.connection.may_read());
    peer.hears_bytes(&mut late);
    assert_eq!(peer.said(), ["flow"]);
    assert!(peer.until(just_before(160)).iter().all(|frame| frame == "beat"));
    assert_eq!(peer.until(at(160)), ["close amqp:resource-limit-exceeded"]);
}

#[test]
fn a_connection_that_does_not_write_says_everything_later() {
    let mut peer = attached();
    peer.ordered(Order::Hinder { what: Hindrance::NoWriting, lasts: Duration::from_secs(30) });
    peer.pushes(1, b"x");
    peer.hears(&Flow { echo: true, ..flow(0, 10) });
    assert!(peer.until(just_before(30)).is_empty());
    assert!(peer.connection.is_dropped(), "should it end now, then without a word");
    assert_eq!(peer.until(at(30)), ["transfer", "flow", "beat"]);
    assert!(!peer.connection.is_dropped());
}

#[test]
fn a_delay_holds_every_byte_for_as_long() {
    let mut peer = attached();
    let delay = Hindrance::Delay(Duration::from_secs(2));
    peer.ordered(Order::Hinder { what: delay, lasts: Duration::from_secs(10) });
    peer.pushes(1, b"x");
    assert!(peer.said().is_empty());
    peer.until(at(1));
    peer.hears(&Flow { echo: true, ..flow(0, 10) });
    assert!(peer.said().is_empty());
    assert!(peer.until(just_before(2)).is_empty());
    assert_eq!(peer.until(at(2)), ["transfer"]);
    assert_eq!(peer.until(at(3)), ["flow"]);
    peer.until(at(9));
    peer.pushes(1, b"y");
    assert!(peer.said().is_empty());
    assert_eq!(peer.until(at(10)), ["transfer"], "the delay is over");
}

#[test]
fn the_next_frame_is_spoilt_and_no_other() {
    for (corruption, heard) in [
        (Corruption::Size, "no frame: a frame of 4 bytes, which is less than its header"),
        (Corruption::DataOffset, "no frame: a data offset of 1 words in a frame of 8 bytes"),
    ] {
        let mut peer = attached();
        peer.ordered(Order::Corrupt(corruption));
        assert_eq!(peer.until(at(20)), [heard]);
        assert_eq!(peer.until(at(40)), ["beat"]);
    }
    for corruption in [Corruption::FormatCode, Corruption::Truncate] {
        let mut peer = attached();
        peer.ordered(Order::Corrupt(corruption));
        assert_eq!(peer.until(at(20)), ["beat"], "it has nothing to spoil");
        peer.pushes(2, b"x");
        assert_eq!(peer.said(), ["undecodable", "transfer"]);
    }
    let mut peer = attached();
    peer.ordered(Order::Corrupt(Corruption::FormatCode));
    peer.hears(&Flow { echo: true, ..flow(0, 10) });
    assert_eq!(peer.said(), ["undecodable"]);
}

#[test]
fn who_does_not_read_what_it_causes_is_read_from_no_more_and_closed_in_the_end() {
    let mut echo = BytesMut::new();
    encode::put(&mut echo, Kind::Amqp, 0, &Flow { echo: true, ..flow(0, 10) }).unwrap();
    let mut peer = attached();
    let mut input = echo.repeat(100_000).as_slice().into();
    peer.connection.on_bytes(&mut input, START);
    assert!(!input.is_empty() && !peer.connection.may_read());
    assert!(peer.connection.unsent().len() < OUT_BOUND + 1_000);
    let left = input.len();
    peer.connection.on_bytes(&mut input, START);
    assert_eq!(input.len(), left);
    // It reads, and is read from again.
    peer.said();
    assert!(peer.connection.may_read());
    peer.connection.on_bytes(&mut input, START);
    assert!(input.len() < left);
    // It does not.
    while peer.connection.deadline() <= at(60) {
        peer.connection.on_time(peer.connection.deadline());
    }
    assert!(peer.book().left, "its time is up");
    assert!(peer.connection.unsent().len() < OUT_BOUND + 1_000);
}

#[test]
fn the_widest_ranges_cost_nothing_and_inverted_ones_the_connection() {
    let mut peer = attached();
    for _ in 0..10_000 {
        peer.hears(&disposition(0, i32::MAX.cast_unsigned(), Some(DeliveryState::Accepted(Accepted {}))));
    }
    assert!(peer.said().is_empty());
    assert_eq!(peer.book().settled.len(), 10_000);
    assert_eq!(peer.book().settled[0], (0, i32::MAX.cast_unsigned(), Outcome::Accepted));
    peer.hears(&disposition(0, u32::MAX, Some(DeliveryState::Accepted(Accepted {}))));
    assert_eq!(peer.said(), ["close amqp:invalid-field"]);
}

#[test]
fn a_map_with_an_odd_number_of_elements_is_an_error_to_decode() {
    for map in [&b"\xc1\x02\x01\x40"[..], b"\xd1\0\0\0\x05\0\0\0\x01\x40"] {
        // An open, with this for properties.
        let fields = [&b"\xa1\x01c"[..], &[0x40; 8], map].concat();
        let size = u8::try_from(fields.len() + 1).unwrap();
        let body = [&[0x00, 0x53, 0x10, 0xc0, size, 10], &fields[..]].concat();
        let frame = [&u32::try_from(body.len() + 8).unwrap().to_be_bytes()[..], &[2, 0, 0, 0], &body].concat();
        let mut peer = authenticated();
        peer.hears_bytes(&mut frame.as_slice().into());
        assert_eq!(peer.said(), ["open", "close amqp:decode-error"]);
    }
}

#[test]
fn a_client_that_takes_smaller_messages_is_told_which_one_is_too_large() {
    let mut peer = Peer::begun(Terms::default());
    peer.hears(&Attach { max_message_size: Some(3), ..attach(0, Role::Receiver) });
    peer.said();
    peer.pushes(1, b"four");
    assert_eq!(peer.said(), ["detach amqp:link:message-size-exceeded"]);
}

#[test]
fn nothing_is_written_that_is_larger_than_the_client_takes() {
    let small = Open { max_frame_size: 512.into(), ..open(60_000) };
    let mut peer = authenticated();
    peer.hears(&small);
    peer.hears(&begin(100));
    assert_eq!(peer.said(), ["open", "begin"]);
    peer.hears(&Attach { name: "n".repeat(3_000), ..attach(0, Role::Receiver) });
    assert_eq!(peer.said(), ["close amqp:frame-size-too-small"]);

    let mut peer = authenticated();
    peer.hears(&small);
    peer.said();
    peer.ordered(Order::Close(Some(Failure::named(&"c".repeat(100), "\u{fc}".repeat(1_000)))));
    let frames = peer.frames();
    assert!(matches!(&frames[..], [Ok((0, body))] if body.len() <= 512 - 8), "{frames:?}");
}
