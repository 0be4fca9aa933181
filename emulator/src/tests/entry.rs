//! Getting in: TLS, SASL, the open, and the limits on how many may.

use std::time::Duration;

use fe2o3_amqp_types::performatives::Performative;
use fe2o3_amqp_types::sasl::{SaslCode, SaslInit};
use serde_amqp::Value;
use serde_amqp::primitives::Symbol;
use sluice_cloud::sign::{ConnectIdentity, SignMethod};

use super::client::{Client, identity, open};
use super::{emulator, patient};
use crate::amqp::sasl::{AMQP_HEADER, SASL_HEADER};
use crate::config::TokenEntry;
use crate::platform::LogQuery;
use crate::{Config, Emulator, Limits, OpenProperties, Profile};

#[tokio::test]
async fn every_sign_method_gets_in_with_the_right_secret() {
    let emulator = emulator(patient()).await;
    for sign_method in SignMethod::ALL {
        let mut client = Client::dial(&emulator).await;
        let identity = ConnectIdentity { sign_method, ..identity("c") };
        assert_eq!(client.authenticate(&identity, "testsecret").await, SaslCode::Ok, "{sign_method}");
    }
}

#[tokio::test]
async fn who_is_not_known_here_is_told_auth_and_nothing_else() {
    let emulator = emulator(patient()).await;
    let strangers = [
        ("a wrong secret", identity("c"), "othersecret"),
        ("an unknown key", ConnectIdentity { access_key_id: "otherid".into(), ..identity("c") }, "testsecret"),
        ("an unknown group", ConnectIdentity { consumer_group_id: "other".into(), ..identity("c") }, "testsecret"),
        (
            "another instance",
            ConnectIdentity { iot_instance_id: Some("iot-other".into()), ..identity("c") },
            "testsecret",
        ),
        ("an unknown token", ConnectIdentity { security_token: Some("token".into()), ..identity("c") }, "testsecret"),
    ];
    for (what, identity, secret) in strangers {
        let mut client = Client::dial(&emulator).await;
        assert_eq!(client.authenticate(&identity, secret).await, SaslCode::Auth, "{what}");
        client.ended().await;
    }
    let mut client = Client::dial(&emulator).await;
    assert_eq!(client.plain("not a user name", "x").await, SaslCode::Auth);
    client.ended().await;
}

#[tokio::test]
async fn a_mechanism_that_is_not_offered_is_refused() {
    let emulator = emulator(patient()).await;
    let mut client = Client::dial(&emulator).await;
    client.offered_mechanisms().await;
    client.send_sasl(&SaslInit { mechanism: Symbol::from("ANONYMOUS"), initial_response: None, hostname: None }).await;
    assert_eq!(client.outcome().await, SaslCode::Auth);
    client.ended().await;
}

#[tokio::test]
async fn who_does_not_begin_with_sasl_is_shown_its_header_and_left() {
    let emulator = emulator(patient()).await;
    for header in [AMQP_HEADER, *b"GET / HT", *b"AMQP\x00\x00\x09\x01"] {
        let mut client = Client::dial(&emulator).await;
        client.write(&header).await;
        assert_eq!(client.header().await, SASL_HEADER);
        client.ended().await;
    }
}

#[tokio::test]
async fn a_security_token_of_any_length_gets_in() {
    let tokens = [16, 2_000, 10_000].map(|length| "t".repeat(length));
    let entry = |token: &String| TokenEntry {
        access_key_id: "STS.testid".into(),
        access_key_secret: "stssecret".into(),
        security_token: token.clone().into(),
        expires_at_ms: None,
        account: None,
        permissions: vec![crate::Pattern::new("*")],
    };
    let config = Config { tokens: tokens.iter().map(entry).collect(), ..Config::on_free_ports() };
    let emulator = Emulator::start(config).await.unwrap();
    for token in &tokens {
        let mut client = Client::dial(&emulator).await;
        let identity = ConnectIdentity {
            access_key_id: "STS.testid".into(),
            security_token: Some(token.clone().into()),
            ..identity("c")
        };
        assert_eq!(client.authenticate(&identity, "stssecret").await, SaslCode::Ok, "{} characters", token.len());
    }
}

#[tokio::test]
async fn who_does_not_authenticate_in_time_is_cut_off() {
    let emulator = emulator(Limits { auth_deadline: Duration::from_secs(2), ..patient() }).await;
    let (mut silent, mut slow) = tokio::join!(Client::dial(&emulator), Client::dial(&emulator));
    slow.write(&SASL_HEADER[..4]).await;
    silent.ended().await;
    slow.ended().await;
}

#[tokio::test]
async fn an_idle_time_out_outside_the_platforms_range_is_refused() {
    let emulator = emulator(patient()).await;
    for (idle_time_out, accepted) in
        [(Some(30_000), true), (Some(300_000), true), (Some(29_999), false), (Some(300_001), false), (None, false)]
    {
        let mut client = Client::authenticated(&emulator, "c").await;
        let mut open = open(0);
        open.idle_time_out = idle_time_out;
        client.send(0, &open).await;
        let Performative::Open(reply) = client.receive().await else { panic!("an open") };
        assert_eq!(reply.idle_time_out, idle_time_out.map(|millis| millis / 2), "half of the client's");
        if accepted {
            client.begin(0).await;
        } else {
            assert_eq!(client.closed().await, "amqp:invalid-field");
        }
    }
    // Whoever reads the platform's own log hears of it, though these clients never had a place.
    let lines = emulator.hub().cloud_log(&LogQuery::default());
    let codes: Vec<_> = lines.iter().map(|line| (line.code, line.client.as_str())).collect();
    assert_eq!(codes, [(9601, "c"); 3]);
}

#[tokio::test]
async fn an_open_of_four_kilobytes_is_fine_in_both_directions() {
    let profile = Profile { open_properties: OpenProperties::Large, ..Profile::default() };
    let emulator = Emulator::start(Config { profile, ..Config::on_free_ports() }).await.unwrap();
    let mut client = Client::authenticated(&emulator, "c").await;
    let mut large = open(60_000);
    large.properties = Some([(Symbol::from("note"), Value::String("x".repeat(4_096)))].into_iter().collect());
    client.send(0, &large).await;
    let Performative::Open(reply) = client.receive().await else { panic!("an open") };
    assert!(serde_amqp::to_vec(&reply).unwrap().len() > 4_096);
    client.begin(0).await;
}

#[tokio::test]
async fn one_client_too_many_is_told_so() {
    let emulator = emulator(Limits { clients_per_group: 2, ..patient() }).await;
    let _first = Client::begun(&emulator, "a").await;
    let mut second = Client::begun(&emulator, "b").await;
    let mut third = Client::authenticated(&emulator, "c").await;
    third.send(0, &open(60_000)).await;
    assert!(matches!(third.receive().await, Performative::Open(_)));
    assert_eq!(third.closed().await, "amqp:resource-limit-exceeded");
    second.send(0, &fe2o3_amqp_types::performatives::Close { error: None }).await;
    assert!(matches!(second.receive().await, Performative::Close(_)));
    second.ended().await;
    let _fourth = Client::begun(&emulator, "d").await;
    let counts = emulator.hub().counts(super::GROUP).unwrap();
    assert_eq!((counts.clients, counts.clients_peak, counts.connect_attempts), (2, 2, 4));
}

#[tokio::test]
async fn one_attempt_too_many_in_a_minute_is_told_so() {
    let emulator = emulator(Limits { connect_attempts_per_minute: 2, ..patient() }).await;
    let mut wrong = Client::dial(&emulator).await;
    assert_eq!(wrong.authenticate(&identity("c"), "othersecret").await, SaslCode::Auth);
    let _right = Client::begun(&emulator, "c").await;
    let mut third = Client::authenticated(&emulator, "c").await;
    third.send(0, &open(60_000)).await;
    assert!(matches!(third.receive().await, Performative::Open(_)));
    assert_eq!(third.closed().await, "amqp:resource-limit-exceeded");
}
