//! The client against a peer of TLS and text, scripted to the byte. (That calls are *right* is shown against the emulator.)

mod peer;
mod turns;

use std::io::ErrorKind;
use std::sync::Mutex;

use self::peer::{Peer, Reply};
use super::*;
use crate::answer::ErrorClass;
use crate::iot::{GroupStatus, Instance, QueryConsumerGroupStatus};
use crate::rpc::verify;
use crate::sts::{AssumeRoleWithOidc, RoleArn, SessionDuration, SessionName};

const SHORT: Timeouts = Timeouts { connect: Duration::from_millis(300), read: Duration::from_millis(300) };

fn key() -> AccessKey {
    AccessKey::try_new("testid", "hush-secret".into(), Some("hush-token".into())).unwrap()
}

fn action() -> QueryConsumerGroupStatus {
    let instance = Instance { region: "cn-shanghai".into(), id: Some("iot-emulator".into()) };
    QueryConsumerGroupStatus { instance, group_id: "DEFAULT_GROUP".into() }
}

fn client(peer: &Peer, timeouts: Timeouts) -> Client {
    let policy = EndpointPolicy::with([peer.endpoint.to_string().as_str()]).unwrap();
    Client::new(Roots::Only(&peer.ca), Arc::new(policy), timeouts).unwrap()
}

async fn asked(peer: &Peer, timeouts: Timeouts) -> Result<Answered<GroupStatus>, CallError> {
    client(peer, timeouts).ask(&peer.endpoint, &key(), &action()).await
}

#[tokio::test]
async fn a_signed_call_arrives_whole_and_its_answer_is_read() {
    let peer = Peer::start(|_| Reply::json(200, r#"{"AccumulationCount":13,"Success":true}"#)).await;
    let answered = asked(&peer, Timeouts::default()).await.unwrap();
    assert_eq!(answered.answer.backlog, Some(13));
    assert_eq!(answered.date, Some("2026-11-20T12:00:00Z".parse().unwrap()));

    let request = peer.requests().remove(0);
    let (line, rest) = request.split_once("\r\n").unwrap();
    let query = line.strip_prefix("POST /?").and_then(|line| line.strip_suffix(" HTTP/1.1")).expect(line);
    let params = Params::parse(query).unwrap();
    assert_eq!(params.encode().expose(), query, "the query is in canonical form");
    assert_eq!(verify("POST", &params, |_| Some("hush-secret".into())).unwrap().as_str(), "testid");
    for (name, value) in [
        ("Action", "QueryConsumerGroupStatus"),
        ("Format", "JSON"),
        ("IotInstanceId", "iot-emulator"),
        ("RegionId", "cn-shanghai"),
        ("SecurityToken", "hush-token"),
        ("Version", "2018-01-20"),
    ] {
        assert_eq!(params.get(name), Some(value), "{name}");
    }
    let rest = rest.to_ascii_lowercase();
    assert!(rest.contains(&format!("host: {}\r\n", peer.endpoint)), "{rest}");
    assert!(rest.contains("content-length: 0\r\n"), "{rest}");
}

#[tokio::test]
async fn an_unsigned_call_has_its_proof_in_the_body() {
    let credentials = r#"{"Credentials":{"AccessKeyId":"STS.a","AccessKeySecret":"b","SecurityToken":"c",
        "Expiration":"2026-11-20T12:15:00Z"}}"#;
    let peer = Peer::start(move |_| Reply::json(200, credentials)).await;
    let assume = AssumeRoleWithOidc {
        role: RoleArn::try_new("acs:ram::1:role/reader").unwrap(),
        session: SessionName::try_new("sluice").unwrap(),
        duration: SessionDuration::default(),
        provider_arn: "acs:ram::1:oidc-provider/ack".into(),
        token: "hush.identity.token+/=".into(),
    };
    let answered = client(&peer, Timeouts::default()).ask_unsigned(&peer.endpoint, &assume).await.unwrap();
    let lifetime = answered.answer.lifetime(assume.duration, answered.date);
    assert_eq!((answered.answer.key.id(), lifetime.as_secs()), ("STS.a", 900));

    let request = peer.requests().remove(0);
    let (line, body) = (request.split("\r\n").next().unwrap(), request.split("\r\n\r\n").nth(1).unwrap());
    assert!(!line.contains("hush") && line.contains("Action=AssumeRoleWithOIDC&Format=JSON&"), "{line}");
    let form = Params::parse(body).unwrap();
    assert_eq!(form.get("OIDCToken"), Some("hush.identity.token+/="));
    assert_eq!(form.get("RoleSessionName"), Some("sluice"));
    assert!(request.to_ascii_lowercase().contains("content-type: application/x-www-form-urlencoded\r\n"));
}

#[tokio::test]
async fn no_call_has_the_nonce_of_another_and_connections_are_kept() {
    let peer = Peer::start(|_| Reply::json(200, "{}")).await;
    let client = client(&peer, Timeouts::default());
    for _ in 0..3 {
        client.ask(&peer.endpoint, &key(), &action()).await.unwrap();
    }
    let nonce = |request: &String| {
        let query = request.split(['?', ' ']).nth(2).unwrap();
        Params::parse(query).unwrap().get("SignatureNonce").unwrap().to_owned()
    };
    let nonces: std::collections::HashSet<String> = peer.requests().iter().map(nonce).collect();
    assert_eq!(nonces.len(), 3);
    assert_eq!(peer.connections(), 1);
}

#[tokio::test]
async fn an_endpoint_that_is_not_allowed_is_not_even_connected_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let endpoint = Endpoint::parse(&listener.local_addr().unwrap().to_string(), 443).unwrap();
    let peer = Peer::start(|_| Reply::Close).await;
    let error = client(&peer, SHORT).ask(&endpoint, &key(), &action()).await.unwrap_err();
    assert!(matches!(error, CallError::Endpoint(_)), "{error}");
    assert_eq!(error.class(), ErrorClass::Invalid);
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    // And that it would have been seen here if it were.
    let policy = EndpointPolicy::with([endpoint.to_string().as_str()]).unwrap();
    let allowed = Client::new(Roots::Only(&peer.ca), Arc::new(policy), SHORT).unwrap();
    assert!(allowed.ask(&endpoint, &key(), &action()).await.is_err());
    assert!(listener.accept().is_ok());
}

#[tokio::test]
async fn nothing_is_sent_to_who_can_t_prove_to_be_it() {
    let (peer, other) = (Peer::start(|_| Reply::Close).await, Peer::start(|_| Reply::Close).await);
    let policy = Arc::new(EndpointPolicy::with([peer.endpoint.to_string().as_str()]).unwrap());
    let client = Client::new(Roots::Only(&other.ca), policy, SHORT).unwrap();
    let error = client.ask(&peer.endpoint, &key(), &action()).await.unwrap_err();
    assert!(matches!(&error, CallError::NoAnswer { .. }), "{error}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(peer.requests().is_empty());
}

#[tokio::test]
async fn every_wait_has_a_bound() {
    for (reply, expected) in [
        (Reply::SilentInTls, "no connection within 300ms"),
        (Reply::Silent, "no answer from"),
        (Reply::Text("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".into()), "within 300ms"),
        (Reply::Text("HTTP/1.1 200 OK\r\nContent-Le".into()), "within 300ms"),
    ] {
        let peer = Peer::start(move |_| reply.clone()).await;
        let started = Instant::now();
        let error = asked(&peer, SHORT).await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(error.class(), ErrorClass::Unavailable);
        assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_not_read_to_the_end() {
    let long = "x".repeat(MAX_ANSWER + 1);
    let whole = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{long}", long.len());
    let chunked = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{long}\r\n", long.len());
    for text in [whole, chunked] {
        let peer = Peer::start(move |_| Reply::Text(text.clone())).await;
        let error = asked(&peer, Timeouts::default()).await.unwrap_err();
        assert!(matches!(error, CallError::TooLarge { .. }), "{error}");
    }
}

#[tokio::test]
async fn a_broken_connection_and_rubbish_are_no_answer() {
    for reply in [
        Reply::Close,
        Reply::Text("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n{".into()).then_close(),
        Reply::Text("SSH-2.0-OpenSSH\r\n\r\n".into()),
    ] {
        let peer = Peer::start(move |_| reply.clone()).await;
        let error = asked(&peer, Timeouts::default()).await.unwrap_err();
        assert!(matches!(&error, CallError::NoAnswer { reason, .. } if !reason.is_empty()), "{error}");
        assert!(!error.to_string().contains("hush"), "{error}");
    }
    let nobody = Endpoint::parse("127.0.0.1:1", 443).unwrap();
    let policy = Arc::new(EndpointPolicy::with(["127.0.0.1:1"]).unwrap());
    let peer = Peer::start(|_| Reply::Close).await;
    let client = Client::new(Roots::Only(&peer.ca), policy, SHORT).unwrap();
    let error = client.ask(&nobody, &key(), &action()).await.unwrap_err();
    assert!(error.to_string().to_lowercase().contains("refused"), "{error}");
}

#[tokio::test]
async fn a_redirection_is_not_followed() {
    let other = Peer::start(|_| Reply::json(200, "{}")).await;
    let location = format!("HTTP/1.1 307 See\r\nLocation: https://{}/\r\nContent-Length: 0\r\n\r\n", other.endpoint);
    let peer = Peer::start(move |_| Reply::Text(location.clone())).await;
    let error = asked(&peer, Timeouts::default()).await.unwrap_err();
    assert!(matches!(&error, CallError::Api(error) if error.status == 307), "{error}");
    assert_eq!(other.connections(), 0);
}

#[tokio::test]
async fn the_platforms_words_come_through_and_what_they_quote_of_a_secret_does_not() {
    let body =
        r#"{"RequestId":"8","Code":"InvalidSecurityToken.Malformed","Message":"Token hush-token, key hush-secret."}"#;
    let peer = Peer::start(move |_| Reply::json(400, body)).await;
    let error = asked(&peer, Timeouts::default()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::Credentials);
    assert_eq!(
        error.to_string(),
        "QueryConsumerGroupStatus failed: InvalidSecurityToken.Malformed: Token [redacted], key [redacted]. \
         (HTTP 400, RequestId 8)"
    );
    assert_eq!(outcome::<()>(&Err(error)), crate::pace::Outcome::Answered);
}

#[tokio::test]
async fn throttling_reaches_the_pace() {
    let peer = Peer::start(|_| Reply::json(400, r#"{"Code":"Throttling.User","Message":"slow down"}"#)).await;
    let result = asked(&peer, Timeouts::default()).await;
    assert_eq!(outcome(&result), crate::pace::Outcome::Throttled);
    let peer = Peer::start(|_| Reply::Close).await;
    assert_eq!(outcome(&asked(&peer, SHORT).await), crate::pace::Outcome::Unknown);
}

/// A log that is kept.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_at_any_level_has_a_secret_or_a_signature_in_it() {
    let log = Log::default();
    let writer = log.clone();
    let everything =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(move || writer.clone());
    let _guard = tracing::subscriber::set_default(everything.finish());

    let good = Peer::start(|_| Reply::json(200, "{}")).await;
    asked(&good, Timeouts::default()).await.unwrap();
    let bad = Peer::start(|_| Reply::json(403, r#"{"Code":"NoPermission","Message":"hush-token"}"#)).await;
    asked(&bad, Timeouts::default()).await.unwrap_err();

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("call answered") && log.contains("call failed") && log.contains("NoPermission"), "{log}");
    assert!(!log.contains("hush"), "{log}");
    for request in good.requests().iter().chain(&bad.requests()) {
        let params = Params::parse(request.split(['?', ' ']).nth(2).unwrap()).unwrap();
        let signature = params.get("Signature").unwrap();
        assert!(!log.contains(signature) && !log.contains(&crate::rpc::percent_encode(signature)), "{log}");
    }
}

#[test]
fn roots_are_the_systems_or_those_of_a_bundle() {
    for (pem, words) in
        [("", "no certificate"), ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "CA bundle")]
    {
        let error = tls::config(Roots::Only(pem)).unwrap_err();
        assert!(matches!(&error, TlsError::Bundle(_)) && error.to_string().contains(words), "{error}");
        assert!(tls::config(Roots::SystemAnd(pem)).is_err());
        assert!(matches!(check_bundle(pem), Err(TlsError::Bundle(_))));
    }
}
