//! What a connection must survive: long tokens, a large Open, wrong keys, and peers that are not what they should be.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use sluice_proto::v1::link_state::State;
use sluice_tests::admin::NewMessage;
use sluice_tests::application::{Outcome, subscription};
use sluice_tests::certificates::Certificates;
use sluice_tests::emulator::{Emulator, GROUP};
use sluice_tests::garbage_peer::GarbagePeer;
use sluice_tests::sidecar::{Settings, Sidecar};

const BOUND: Duration = Duration::from_mins(1);

/// Sends one message all the way and its ack all the way back.
async fn one_message_flows(emulator: &Emulator, sidecar: &Sidecar) {
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    application.link_state(State::Up, BOUND).await.unwrap();
    publish_one(emulator);
    let delivery = application.delivery(BOUND).await.unwrap();
    application.ack([delivery.delivery_id]).await.unwrap();
    assert_eq!(application.outcome(delivery.delivery_id, BOUND).await.unwrap(), Outcome::Settled);
    emulator.admin().wait_for(GROUP, BOUND, |counts| counts.accepted == 1).unwrap();
}

fn publish_one(emulator: &Emulator) {
    emulator.admin().publish(GROUP, &[NewMessage::new("/a1TestProdct/meter/user/readings", b"1")]).unwrap();
}

/// The one message that was published has been sent to nobody, and waits.
fn the_message_still_waits(emulator: &Emulator) {
    let counts = emulator.admin().wait_for(GROUP, BOUND, |counts| counts.backlog == 1).unwrap();
    assert_eq!((counts.pushed, counts.accepted, counts.unsettled, counts.clients), (0, 0, 0, 0));
}

/// Starts a sidecar that can't connect; returns what it tells its application.
async fn trouble(settings: Settings) -> (State, String) {
    let mut sidecar = Sidecar::start(settings).unwrap();
    let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
    let trouble = application.link_trouble(BOUND).await.unwrap();
    sidecar.process().check_alive().unwrap();
    trouble
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_security_token_of_2000_characters_connects() {
    let token = "CAIS+/Aa0=".repeat(200);
    let emulator = Emulator::start_with(&format!(
        "tokens: [{{accessKeyId: STS.testid, accessKeySecret: stssecret, securityToken: '{token}'}}]"
    ))
    .unwrap();
    let settings = Settings::for_emulator(&emulator).unwrap();
    let settings = settings.with_access_key("STS.testid", "stssecret").with_security_token(&token);
    let sidecar = Sidecar::start(settings).unwrap();
    one_message_flows(&emulator, &sidecar).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_whose_open_has_4_kb_connects() {
    let emulator = Emulator::start_with("profile: {openProperties: Large}").unwrap();
    let sidecar = Sidecar::start(Settings::for_emulator(&emulator).unwrap()).unwrap();
    one_message_flows(&emulator, &sidecar).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_signature_is_said_to_be_one_and_not_tried_again_soon() {
    let emulator = Emulator::start().unwrap();
    publish_one(&emulator);
    let settings = Settings::for_emulator(&emulator).unwrap().with_access_key("testid", "wrongsecret");
    let (state, reason) = trouble(settings).await;
    assert_eq!(state, State::Down, "{reason}");
    assert!(reason.contains("credentials"), "{reason}");
    assert!(!reason.contains("wrongsecret"), "{reason}");
    assert_eq!(emulator.admin().group(GROUP).unwrap().connect_attempts, 1);
    the_message_still_waits(&emulator);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_an_unknown_authority_is_not_trusted() {
    let emulator = Emulator::start().unwrap();
    publish_one(&emulator);
    let stranger = Certificates::generate().unwrap();
    let (_, reason) = trouble(Settings::new(emulator.port().unwrap(), &stranger.authority())).await;
    assert!(reason.contains("certificate"), "{reason}");
    the_message_still_waits(&emulator);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_does_not_answer_is_named() {
    // The system completes TCP's handshake; nobody ever answers TLS's.
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = silent.local_addr().unwrap().port();
    let certificates = Certificates::generate().unwrap();
    let (state, reason) = trouble(Settings::new(port, &certificates.authority())).await;
    assert_eq!(state, State::Connecting, "{reason}");
    assert!(reason.contains(&format!("127.0.0.1:{port}")), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_refuses_is_named() {
    let certificates = Certificates::generate().unwrap();
    let port = sluice_tests::ports::free().unwrap();
    let (state, reason) = trouble(Settings::new(port, &certificates.authority())).await;
    assert_eq!(state, State::Connecting, "{reason}");
    assert!(reason.contains(&format!("127.0.0.1:{port}")) && reason.contains("refused"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_sends_garbage_is_given_up_and_tried_again() {
    let sasl_header = b"AMQP\x03\x01\x00\x00";
    let answers: [Vec<u8>; 4] = [
        // No AMQP at all.
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        // A frame smaller than a frame.
        [&sasl_header[..], &[0, 0, 0, 6, 2, 1, 0, 0]].concat(),
        // A frame of 4 GiB.
        [&sasl_header[..], &[0xff, 0xff, 0xff, 0xff, 2, 1, 0, 0, 1, 2, 3]].concat(),
        // A frame that holds no performative.
        [&sasl_header[..], &[0, 0, 0, 16, 2, 1, 0, 0, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 0]].concat(),
    ];
    for answer in answers {
        let peer = GarbagePeer::start(answer).unwrap();
        let sidecar = Sidecar::start(Settings::new(peer.port(), &peer.authority())).unwrap();
        let mut application = sidecar.attach(subscription("e2e")).await.unwrap();
        let (state, reason) = application.link_trouble(BOUND).await.unwrap();
        assert_eq!(state, State::Connecting, "{reason}");
        assert!(peer.wait_for_connections(2, BOUND), "it is tried again after: {reason}");
    }
}
