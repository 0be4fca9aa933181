//! Clients that know nothing of Sluice, against the emulator: a consumer written with qpid-proton and its own few lines of
//! signing.

use std::collections::HashMap;
use std::time::Duration;

use sluice_tests::admin::NewMessage;
use sluice_tests::emulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, GROUP, INSTANCE};
use sluice_tests::python::{Receiver, ReceiverOptions};

const BOUND: Duration = Duration::from_mins(1);

fn options<'a>(emulator: &'a Emulator, client_id: &'a str) -> ReceiverOptions<'a> {
    ReceiverOptions {
        port: emulator.port().unwrap(),
        authority: emulator.authority(),
        group: GROUP,
        instance: INSTANCE,
        client_id,
        access_key_id: ACCESS_KEY_ID,
        access_key_secret: ACCESS_KEY_SECRET,
        count: 200,
    }
}

#[test]
fn qpid_proton_receives_and_accepts_every_message() {
    let emulator = Emulator::start().unwrap();
    let mut client = Receiver::start(&options(&emulator, "proton-1")).unwrap();
    emulator.admin().wait_for(GROUP, BOUND, |counts| counts.clients == 1).unwrap();

    let messages: Vec<_> = (0..200)
        .map(|n| NewMessage::new(&format!("/a1TestProdct/meter-{n}/user/readings"), format!("reading {n}").as_bytes()))
        .collect();
    let ids = emulator.admin().publish(GROUP, &messages).unwrap();
    assert_eq!(ids.len(), 200);

    let received: Vec<_> = (0..200).map(|_| client.next(BOUND).unwrap()).collect();
    client.finish(BOUND).unwrap();

    let by_id: HashMap<_, _> = received.iter().map(|message| (message.message_id.as_str().unwrap(), message)).collect();
    assert_eq!(by_id.len(), 200, "each message once");
    for (n, id) in ids.iter().enumerate() {
        let message = by_id[id.as_str()];
        assert_eq!(message.payload().unwrap(), format!("reading {n}").into_bytes());
        assert_eq!(message.topic, format!("/a1TestProdct/meter-{n}/user/readings"));
        assert!(message.generate_time.as_i64().is_some_and(|time| time > 0), "{:?}", message.generate_time);
    }
    let counts = emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == 200).unwrap();
    assert_eq!((counts.pushed, counts.unsettled, counts.backlog), (200, 0, 0));
    for id in &ids {
        let fate = emulator.admin().fate(id).unwrap();
        let accepted: Vec<_> = fate.iter().filter(|event| event.event == "accepted").collect();
        assert_eq!(accepted.len(), 1, "{fate:?}");
        assert_eq!(accepted[0].client.as_deref(), Some("proton-1"));
    }
}

#[test]
fn a_wrong_signature_is_refused() {
    let emulator = Emulator::start().unwrap();
    let options = ReceiverOptions { access_key_secret: "wrongsecret", ..options(&emulator, "proton-1") };
    let error = Receiver::start(&options).unwrap().finish(BOUND).unwrap_err();
    assert!(error.to_string().contains("amqp:unauthorized-access"), "{error}");
}

#[test]
fn an_authority_that_did_not_sign_the_certificate_is_not_trusted() {
    let emulator = Emulator::start().unwrap();
    let stranger = sluice_tests::certificates::Certificates::generate().unwrap();
    let authority = stranger.authority();
    let options = ReceiverOptions { authority: &authority, ..options(&emulator, "proton-1") };
    let error = Receiver::start(&options).unwrap().finish(BOUND).unwrap_err();
    assert!(error.to_string().contains("certificate verify failed"), "{error}");
}
