//! From the first byte until the link stands: SASL, the opening, what the peer may answer.

use fe2o3_amqp_types::definitions::{AmqpError, LinkError};
use serde_amqp::Value;
use serde_amqp::primitives::OrderedMap;

use super::*;

/// What the engine says of its own accord once it is let in.
fn opening(sent: &[Sent]) -> (&Open, &Begin, &Attach) {
    let [Sent::Header(AMQP), Sent::Open(open), Sent::Begin(begin), Sent::Attach(attach)] = sent else {
        panic!("expected header, Open, Begin and Attach, found {sent:?}");
    };
    (open, begin, attach)
}

#[test]
fn a_security_token_of_2000_characters_goes_out_whole() {
    let user_name = format!("client|authMode=ststoken,securityToken={},authId=a|", "t".repeat(2_000));
    let secret = SaslCredentials { user_name: SecretString::new(user_name.clone()), password: SecretString::new("pw") };
    let mut link = Link::with_credentials(params(), secret);
    assert_eq!(link.says(), [Sent::Header(SASL)]);
    link.hears(&[SASL.to_vec(), sasl(&mechanisms(&["PLAIN"]))].concat()).unwrap();
    let expected = Sent::SaslInit {
        mechanism: "PLAIN".to_owned(),
        hostname: Some("amqp.example".to_owned()),
        response: format!("\0{user_name}\0pw").into_bytes(),
    };
    assert_eq!(link.says(), [expected]);
}

#[test]
fn a_single_mechanism_may_come_without_an_array_around_it() {
    let mut link = Link::new(params());
    let single = framed(1, 0, b"\x00\x53\x40\xc0\x08\x01\xa3\x05PLAIN");
    link.hears(&[SASL.to_vec(), single].concat()).unwrap();
    assert!(matches!(&link.says()[..], [Sent::Header(SASL), Sent::SaslInit { .. }]));
}

#[test]
fn a_peer_without_plain_is_told_apart_and_gets_no_credentials() {
    for offered in [&["SCRAM-SHA-256", "ANONYMOUS"][..], &["plain"]] {
        let mut link = Link::new(params());
        link.says();
        let fault = link.hears(&[SASL.to_vec(), sasl(&mechanisms(offered))].concat()).unwrap_err();
        assert_eq!(fault, Fault::NoPlain { offered: offered.join(", ") });
        assert_eq!(fault.renew(), Renew::Credentials);
        assert_eq!(link.says(), []);
    }
}

#[test]
fn wrong_credentials_are_told_apart_from_a_peer_that_cannot_tell() {
    for (code, fault, renew) in [
        (SaslCode::Auth, Fault::Refused { code: 1 }, Renew::Credentials),
        (SaslCode::Sys, Fault::AuthenticationFailed { code: 2 }, Renew::Connection),
        (SaslCode::SysPerm, Fault::AuthenticationFailed { code: 3 }, Renew::Connection),
        (SaslCode::SysTemp, Fault::AuthenticationFailed { code: 4 }, Renew::Connection),
    ] {
        let mut link = Link::new(params());
        let said = [SASL.to_vec(), sasl(&mechanisms(&["PLAIN"])), sasl(&outcome(code))].concat();
        assert_eq!(link.hears(&said), Err(fault.clone()));
        assert_eq!(link.engine.fault(), Some(&fault));
        assert_eq!(fault.renew(), renew);
        assert!(link.engine.is_closed());
    }
}

#[test]
fn the_credentials_are_shown_nowhere() {
    let mut link = Link::new(params());
    link.hears(&[SASL.to_vec(), sasl(&mechanisms(&["PLAIN"]))].concat()).unwrap();
    let as_text = "open sesame";
    let as_numbers = format!("{:?}", as_text.as_bytes());
    let as_numbers = as_numbers.trim_matches(['[', ']']);
    assert!(format!("{:?}", link.engine.output()).contains(as_numbers), "they are about to be written");
    let shown = format!("{:?}", link.engine);
    assert!(!shown.contains(as_text) && !shown.contains(as_numbers), "{shown}");
}

#[test]
fn a_peer_that_speaks_http_is_named_as_such() {
    let mut link = Link::new(params());
    let fault = link.hears(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap_err();
    assert_eq!(fault, Fault::NotAmqp { found: *b"HTTP/1.1" });
    assert!(fault.to_string().contains("\"HTTP/1.1\""), "{fault}");
    assert_eq!(link.says(), [Sent::Header(SASL)], "nothing but the header is said to a stranger");
}

#[test]
fn a_peer_of_another_protocol_version_is_refused() {
    for header in [*b"AMQP\x00\x00\x09\x01", *b"AMQP\x03\x01\x00\x01", AMQP] {
        assert_eq!(Link::new(params()).hears(&header), Err(Fault::NotAmqp { found: header }));
    }
    let after_login = [login(), b"AMQP\x00\x01\x01\x00".to_vec()].concat();
    let fault = Link::new(params()).hears(&after_login).unwrap_err();
    assert_eq!(fault, Fault::NotAmqp { found: *b"AMQP\x00\x01\x01\x00" });
}

#[test]
fn open_begin_and_attach_go_out_in_one_write_without_waiting() {
    let mut link = Link::new(params());
    link.says();
    link.hears(&login()).unwrap();
    let sent = link.says();
    assert!(matches!(sent[0], Sent::SaslInit { .. }));
    let (open, begin, attach) = opening(&sent[1..]);
    assert_eq!(open.container_id, "sidecar-0");
    assert_eq!(open.hostname.as_deref(), Some("amqp.example"));
    assert_eq!(open.idle_time_out, Some(60_000), "the whole time-out: the platform enforces the client's value");
    assert_eq!(open.max_frame_size.0, 65_536);
    assert_eq!(begin.remote_channel, None);
    assert_eq!(attach.role, Role::Receiver);
    assert_eq!(attach.snd_settle_mode, SenderSettleMode::Unsettled);
    assert_eq!(attach.rcv_settle_mode, ReceiverSettleMode::First);
    assert_eq!(attach.max_message_size, Some(256 * 1024));
    assert_eq!(attach.source.as_ref().unwrap().address.as_deref(), Some("default"));
}

#[test]
fn a_large_open_of_the_peer_is_taken_and_kept() {
    for size in [4 * 1024, 60 * 1024] {
        let mut properties = OrderedMap::new();
        for n in 0..size / 1024 {
            let nested = Value::List(vec![Value::String("x".repeat(1_000)), Value::Uint(n)]);
            properties.insert(Symbol::from(format!("property-{n}")), nested);
        }
        let open = Open { properties: Some(properties), ..peer_open() };
        let bytes = frame(0, &open);
        assert!(bytes.len() >= size as usize, "{} bytes", bytes.len());
        let mut link = Link::new(params());
        link.hears(&[login(), AMQP.to_vec(), bytes].concat()).unwrap();
        assert_eq!(link.engine.peer_open(), Some(&open));
    }
}

#[test]
fn the_open_of_the_peer_is_kept_beyond_a_fault() {
    let mut link = Link::attached();
    assert_eq!(link.engine.peer_open(), Some(&peer_open()));
    link.hears(&frame(0, &Close { error: None })).unwrap_err();
    assert_eq!(link.engine.peer_open(), Some(&peer_open()));
}

#[test]
fn a_link_on_which_everything_would_be_lost_is_refused() {
    let mut link = Link::new(params());
    link.hears(&[login(), AMQP.to_vec(), frame(0, &peer_open()), frame(3, &peer_begin())].concat()).unwrap();
    link.says();
    let attach = Attach { snd_settle_mode: SenderSettleMode::Settled, ..peer_attach() };
    let fault = link.hears(&frame(3, &attach)).unwrap_err();
    assert!(matches!(fault, Fault::SettleMode(_)), "{fault:?}");
    assert_eq!(fault.renew(), Renew::Link);
    let sent = link.says();
    let [Sent::Close(close)] = &sent[..] else { panic!("expected a Close, found {sent:?}") };
    assert_eq!(accusation(close.error.as_ref()), Some(("amqp:not-allowed".to_owned(), fault.to_string())));
}

#[test]
fn a_link_with_mixed_settlement_is_taken() {
    let attach = Attach { snd_settle_mode: SenderSettleMode::Mixed, ..peer_attach() };
    let mut link = Link::attached_with(params(), &peer_begin(), &attach);
    link.engine.grant(1);
    link.hears(&delivery(0, b"x")).unwrap();
    assert_eq!(link.payloads(), [(0, b"x".to_vec())]);
}

#[test]
fn a_refused_link_is_a_fault_in_the_peers_own_words() {
    let mut link = Link::new(params());
    link.hears(&[login(), AMQP.to_vec(), frame(0, &peer_open()), frame(3, &peer_begin())].concat()).unwrap();
    link.says();
    link.hears(&frame(3, &Attach { source: None, ..peer_attach() })).unwrap();
    assert!(!link.engine.is_attached());
    let error = Error::new(AmqpError::ResourceLimitExceeded, "too many clients".to_owned(), None);
    let detach = Detach { handle: Handle(PEER_HANDLE), closed: true, error: Some(error) };
    let fault = Fault::Ended {
        level: Renew::Link,
        condition: "amqp:resource-limit-exceeded".to_owned(),
        description: Some("too many clients".to_owned()),
    };
    assert_eq!(link.hears(&frame(3, &detach)), Err(fault.clone()));
    assert_eq!(fault.renew(), Renew::Link);
    assert_eq!(
        link.says(),
        [Sent::Detach(Detach { handle: Handle(0), closed: true, error: None }), Sent::Close(Close { error: None })]
    );
}

#[test]
fn a_refusal_for_want_of_a_right_asks_for_other_credentials_at_every_level() {
    let error = || Some(Error::new(AmqpError::UnauthorizedAccess, None, None));
    for bytes in [
        frame(PEER_CHANNEL, &Detach { handle: Handle(PEER_HANDLE), closed: true, error: error() }),
        frame(PEER_CHANNEL, &End { error: error() }),
        frame(0, &Close { error: error() }),
    ] {
        assert_eq!(Link::attached().hears(&bytes).unwrap_err().renew(), Renew::Credentials);
    }
    let stolen = Some(Error::new(LinkError::Stolen, None, None));
    let detach = Detach { handle: Handle(PEER_HANDLE), closed: true, error: stolen };
    assert_eq!(Link::attached().hears(&frame(PEER_CHANNEL, &detach)).unwrap_err().renew(), Renew::Link);
}

#[test]
fn answers_that_fit_no_question_are_refused() {
    let opened = [login(), AMQP.to_vec(), frame(0, &peer_open())].concat();
    let begun = [opened.clone(), frame(PEER_CHANNEL, &peer_begin())].concat();
    let unasked = Begin { remote_channel: None, ..peer_begin() };
    let receiver = Attach { role: Role::Receiver, ..peer_attach() };
    for (name, before, bytes) in [
        ("a session of the peer's own", &opened, frame(1, &unasked)),
        ("a link on which the peer receives", &begun, frame(PEER_CHANNEL, &receiver)),
        ("a second Open", &opened, frame(0, &peer_open())),
        ("an Attach before a Begin", &opened, frame(PEER_CHANNEL, &peer_attach())),
        ("a Transfer before the Attach", &begun, delivery(0, b"x")),
        ("SASL after the login", &opened, sasl(&outcome(SaslCode::Ok))),
    ] {
        let mut link = Link::new(params());
        link.hears(before).unwrap();
        let fault = link.hears(&bytes).unwrap_err();
        assert!(matches!(fault, Fault::Protocol(_)), "{name}: {fault:?}");
        assert_eq!(fault.renew(), Renew::Connection, "{name}");
    }
}

#[test]
fn frames_that_do_not_belong_into_a_login_are_refused() {
    let greeted = [SASL.to_vec(), sasl(&mechanisms(&["PLAIN"]))].concat();
    let challenge = framed(1, 0, b"\x00\x53\x42\xc0\x04\x01\xa0\x01x");
    for (name, before, bytes) in [
        ("an outcome before the init", SASL.to_vec(), sasl(&outcome(SaslCode::Ok))),
        ("an Open before the outcome", greeted.clone(), frame(0, &peer_open())),
        ("a challenge", greeted, challenge),
    ] {
        let mut link = Link::new(params());
        link.hears(&before).unwrap();
        let fault = link.hears(&bytes).unwrap_err();
        assert!(matches!(fault, Fault::Protocol(_)), "{name}: {fault:?}");
    }
}
