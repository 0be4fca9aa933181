//! How a connection ends: by the peer, by us, by garbage. The first fault is the one that is kept.

use fe2o3_amqp_types::definitions::{AmqpError, ConnectionError, ErrorCondition, SessionError};

use super::*;
use crate::amqp::reader;

fn because(condition: impl Into<ErrorCondition>, description: &str) -> Error {
    Error::new(condition, description.to_owned(), None)
}

fn ended(level: Renew, condition: &str, description: Option<&str>) -> Fault {
    Fault::Ended { level, condition: condition.to_owned(), description: description.map(str::to_owned) }
}

fn our_detach() -> Sent {
    Sent::Detach(Detach { handle: Handle(0), closed: true, error: None })
}

fn our_end() -> Sent {
    Sent::End(End { error: None })
}

fn our_close() -> Sent {
    Sent::Close(Close { error: None })
}

/// What the peer says up to each point at which a connection may stand, by name.
fn stages() -> Vec<(&'static str, Vec<u8>)> {
    let pieces = [
        ("SASL header", SASL.to_vec()),
        ("SASL mechanisms", sasl(&mechanisms(&["PLAIN"]))),
        ("SASL outcome", sasl(&outcome(SaslCode::Ok))),
        ("AMQP header", AMQP.to_vec()),
        ("Open", frame(0, &peer_open())),
        ("Begin", frame(PEER_CHANNEL, &peer_begin())),
        ("Attach", frame(PEER_CHANNEL, &peer_attach())),
    ];
    let mut said = Vec::new();
    let mut stages = Vec::new();
    for (waited_for, bytes) in pieces {
        stages.push((waited_for, said.clone()));
        said.extend(bytes);
    }
    stages.push(("a transfer", said));
    stages
}

#[test]
fn a_detach_is_answered_and_names_the_link() {
    for (error, fault) in [
        (None, ended(Renew::Link, "no reason given", None)),
        (
            Some(because(AmqpError::InternalError, "node restarts")),
            ended(Renew::Link, "amqp:internal-error", Some("node restarts")),
        ),
        (
            Some(because(ErrorCondition::Custom(Symbol::from("aliyun:9602")), "load balancing")),
            ended(Renew::Link, "aliyun:9602", Some("load balancing")),
        ),
    ] {
        let mut link = Link::granted(1);
        let detach = Detach { handle: Handle(PEER_HANDLE), closed: true, error };
        assert_eq!(link.hears(&frame(PEER_CHANNEL, &detach)), Err(fault.clone()));
        assert_eq!(link.engine.fault(), Some(&fault));
        assert_eq!(fault.renew(), Renew::Link);
        assert_eq!(link.says(), [our_detach(), our_close()]);
        assert!(!link.engine.is_attached());
    }
}

#[test]
fn an_end_is_answered_and_names_the_session() {
    for (error, fault) in [
        (None, ended(Renew::Session, "no reason given", None)),
        (
            Some(because(SessionError::WindowViolation, "")),
            ended(Renew::Session, "amqp:session:window-violation", Some("")),
        ),
    ] {
        let mut link = Link::granted(1);
        assert_eq!(link.hears(&frame(PEER_CHANNEL, &End { error })), Err(fault.clone()));
        assert_eq!(fault.renew(), Renew::Session);
        assert_eq!(link.says(), [our_end(), our_close()]);
    }
}

#[test]
fn a_close_is_answered_and_names_the_connection() {
    for (error, fault) in [
        (None, ended(Renew::Connection, "no reason given", None)),
        (
            Some(because(ConnectionError::ConnectionForced, "shutting down")),
            ended(Renew::Connection, "amqp:connection:forced", Some("shutting down")),
        ),
    ] {
        let mut link = Link::granted(1);
        assert_eq!(link.hears(&frame(0, &Close { error })), Err(fault.clone()));
        assert_eq!(fault.renew(), Renew::Connection);
        assert_eq!(link.says(), [our_close()]);
    }
}

#[test]
fn the_first_fault_is_kept_whatever_follows() {
    let mut link = Link::granted(1);
    let detach =
        Detach { handle: Handle(PEER_HANDLE), closed: true, error: Some(because(AmqpError::NotFound, "gone")) };
    let both = [frame(PEER_CHANNEL, &detach), frame(0, &Close { error: Some(because(AmqpError::InternalError, "")) })]
        .concat();
    let first = ended(Renew::Link, "amqp:not-found", Some("gone"));
    assert_eq!(link.engine.input(link.now, &both, &mut link.deliveries), Err(first.clone()));
    assert_eq!(link.engine.input(link.now, &both, &mut link.deliveries), Ok(0), "nothing is read after the end");
    link.waits(STEP * 100).unwrap();
    link.engine.close(link.now);
    assert_eq!(link.engine.fault(), Some(&first));
}

#[test]
fn deliveries_before_a_fault_in_the_same_read_are_given() {
    let mut link = Link::granted(2);
    let bytes = [delivery(0, b"a"), delivery(1, b"b"), frame(0, &Close { error: None })].concat();
    link.hears(&bytes).unwrap_err();
    assert_eq!(link.payloads(), [(0, b"a".to_vec()), (1, b"b".to_vec())]);
}

#[test]
fn the_peer_may_end_the_connection_at_every_step_of_the_opening() {
    let close = frame(0, &Close { error: Some(because(AmqpError::UnauthorizedAccess, "no iot:sub")) });
    for (waited_for, before) in stages().split_off(4) {
        let mut link = Link::new(params());
        link.hears(&before).unwrap();
        link.says();
        let fault = link.hears(&close).unwrap_err();
        assert_eq!(fault, ended(Renew::Connection, "amqp:unauthorized-access", Some("no iot:sub")), "{waited_for}");
        assert_eq!(fault.renew(), Renew::Credentials);
        assert_eq!(link.says(), [our_close()], "{waited_for}");
    }
}

#[test]
fn closing_is_in_good_order_wherever_the_connection_stands() {
    for (waited_for, before) in stages() {
        let mut link = Link::new(params());
        link.hears(&before).unwrap();
        link.says();
        link.engine.close(link.now);
        link.engine.close(link.now);
        assert!(!link.engine.is_attached());
        match waited_for {
            "SASL header" | "SASL mechanisms" | "SASL outcome" | "AMQP header" => {
                assert_eq!(link.says(), [], "{waited_for}: there is nothing to take leave of");
                assert!(link.engine.is_closed(), "{waited_for}");
                continue;
            }
            "a transfer" => assert_eq!(link.says(), [our_detach(), our_end(), our_close()]),
            _ => assert_eq!(link.says(), [our_close()], "{waited_for}"),
        }
        assert!(!link.engine.is_closed(), "{waited_for}: the peer has not agreed yet");
        link.hears(&frame(0, &Close { error: None })).unwrap();
        assert!(link.engine.is_closed(), "{waited_for}");
        assert_eq!(link.engine.fault(), None, "{waited_for}");
        assert_eq!(link.says(), [], "{waited_for}: a Close is answered once");
    }
}

#[test]
fn what_is_on_its_way_when_we_close_is_left_unsettled() {
    let mut link = Link::granted(5);
    link.engine.close(link.now);
    link.says();
    let detach = Detach { handle: Handle(PEER_HANDLE), closed: true, error: None };
    link.hears(&[delivery(0, b"x"), frame(PEER_CHANNEL, &peer_flow(1)), frame(PEER_CHANNEL, &detach)].concat())
        .unwrap();
    link.hears(&[frame(PEER_CHANNEL, &End { error: None }), frame::HEARTBEAT.to_vec()].concat()).unwrap();
    assert_eq!(link.deliveries, []);
    assert_eq!(link.says(), []);
    link.hears(&frame(0, &Close { error: None })).unwrap();
    assert!(link.engine.is_closed());
}

#[test]
fn a_close_that_crosses_ours_with_an_error_is_kept() {
    let mut link = Link::attached();
    link.engine.close(link.now);
    link.hears(&frame(0, &Close { error: Some(because(ConnectionError::ConnectionForced, "kicked")) })).unwrap();
    assert!(link.engine.is_closed());
    assert_eq!(link.engine.fault(), Some(&ended(Renew::Connection, "amqp:connection:forced", Some("kicked"))));
}

#[test]
fn garbage_is_a_fault_at_every_step() {
    for (waited_for, before) in stages() {
        for garbage in [&[0xff; 64][..], &[0x00; 64], b"GET / HTTP/1.1\r\n\r\n", &[0, 0, 0, 6, 2, 0, 0, 0]] {
            let mut link = Link::new(params());
            link.hears(&before).unwrap();
            link.says();
            let fault = link.engine.input(link.now, garbage, &mut link.deliveries).unwrap_err();
            assert!(matches!(fault, Fault::NotAmqp { .. } | Fault::Frame(_)), "{waited_for}: {fault:?}");
            assert_eq!(fault.renew(), Renew::Connection);
            assert!(link.engine.is_closed());
        }
    }
}

#[test]
fn a_frame_whose_body_is_garbage_is_a_fault_at_every_step() {
    for (waited_for, before) in stages().into_iter().filter(|(waited_for, _)| !waited_for.ends_with("header")) {
        for body in
            [&[0xff; 40][..], &[0x00; 40], b"\x00\x53\x14\xc0\xff\x01", b"\x00\xa3\x01x\x45", b"\x00\x53\x99\x45"]
        {
            let mut link = Link::new(params());
            link.hears(&before).unwrap();
            link.says();
            let kind = u8::from(waited_for.starts_with("SASL"));
            let fault = link.hears(&framed(kind, PEER_CHANNEL, body)).unwrap_err();
            assert!(matches!(fault, Fault::Malformed { .. } | Fault::Protocol(_)), "{waited_for}: {fault:?}");
        }
    }
}

#[test]
fn a_broken_frame_is_answered_with_its_reason() {
    for (bytes, condition) in [
        (vec![0, 0, 0, 6, 2, 0, 0, 0], "amqp:connection:framing-error"),
        (framed(0, PEER_CHANNEL, b"\x00\x53\x14\xc0\x03\x01\xa1\x00"), "amqp:decode-error"),
    ] {
        let mut link = Link::granted(1);
        let fault = link.engine.input(link.now, &bytes, &mut link.deliveries).unwrap_err();
        let sent = link.says();
        let [Sent::Close(close)] = &sent[..] else { panic!("expected a Close, found {sent:?}") };
        assert_eq!(accusation(close.error.as_ref()), Some((condition.to_owned(), fault.to_string())));
    }
}

#[test]
fn a_frame_above_the_limit_is_refused_before_it_has_come() {
    let mut link = Link::granted(1);
    let header = [0, 1, 0, 1, 2, 0, 0, 0];
    let fault = link.engine.input(link.now, &header, &mut link.deliveries).unwrap_err();
    assert_eq!(fault, Fault::Frame(frame::BadFrame::TooLarge { size: 65_537, limit: 65_536 }));
}

#[test]
fn an_open_nested_without_end_is_refused() {
    let mut nested = vec![0x45];
    for _ in 0..7_000 {
        let size = u32::try_from(nested.len() + 4).unwrap().to_be_bytes();
        nested = [&[0xd0], &size[..], &1_u32.to_be_bytes(), &nested].concat();
    }
    // Where a decoder that recurses would follow: nine fields, then the properties.
    let size = u32::try_from(nested.len() + 4 + 3).unwrap().to_be_bytes();
    let properties = [&[0xd1], &size[..], &2_u32.to_be_bytes(), b"\xa3\x01p", &nested].concat();
    let fields = [b"\xa1\x01c", &[0x40; 8][..], &properties].concat();
    let size = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    let open = [b"\x00\x53\x10\xd0", &size[..], &10_u32.to_be_bytes(), &fields].concat();
    let mut link = Link::new(Params { max_frame_size: 1 << 20, ..params() });
    link.hears(&[login(), AMQP.to_vec()].concat()).unwrap();
    let error = reader::Malformed::TooDeep.to_string();
    assert_eq!(link.hears(&framed(0, 0, &open)), Err(Fault::Malformed { performative: "Open", error }));
}

#[test]
fn garbage_after_our_close_ends_the_wait_without_another_close() {
    let mut link = Link::attached();
    link.engine.close(link.now);
    link.says();
    link.engine.input(link.now, &[0xff; 8], &mut link.deliveries).unwrap_err();
    assert!(link.engine.is_closed());
    assert_eq!(link.says(), []);
}
