//! The gateway's sockets: with TLS and without, with rubbish, with callers that hang and a gateway that does.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::admin::{get, post};
use super::api::{api, assume, config, key, status};
use super::client::Client;
use super::{GROUP, draft, eventually};
use crate::config::OpenApi;
use crate::{Config, Emulator};

#[tokio::test]
async fn a_frozen_gateway_answers_when_it_thaws_and_holds_up_nothing_else() {
    let emulator = Emulator::start(config()).await.unwrap();
    let (api, endpoint) = api(&emulator);
    let freeze = json!({"action": "freezeApi", "product": "Iot", "seconds": 3_600});
    assert_eq!(post(&emulator, "/admin/faults", &freeze).await, (200, json!({"affected": 0})));
    let mut calls: Vec<_> = (0..20)
        .map(|_| {
            let (api, endpoint) = (api.clone(), endpoint.clone());
            tokio::spawn(async move { api.ask(&endpoint, &key(), &status(GROUP)).await.map(|_| ()) })
        })
        .collect();
    let frozen = async |emulator: &Emulator| {
        let (_, counted) = get(emulator, "/admin/api").await;
        let lines = counted["calls"].as_array().unwrap().clone();
        lines.iter().map(|line| line["frozen"].as_u64().unwrap()).sum::<u64>()
    };
    while frozen(&emulator).await < 20 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(api.ask(&endpoint, &key(), &assume()).await.is_ok(), "the other API works");
    let mut amqp = Client::attached(&emulator, "c", 1).await;
    emulator.hub().publish(GROUP, &[draft(b"x")]).unwrap();
    amqp.transfer().await;
    // Whoever gives up is not waited for.
    calls.swap_remove(0).abort();
    assert!(calls.iter().all(|call| !call.is_finished()));
    post(&emulator, "/admin/api", &json!({"action": "freeze", "seconds": 0})).await;
    for call in calls {
        call.await.unwrap().unwrap();
    }
}

/// What the emulator says to these bytes without TLS, up to the end of the connection.
async fn said_to(emulator: &Emulator, bytes: &[u8]) -> String {
    let mut socket = TcpStream::connect(emulator.api_addr()).await.unwrap();
    // It may have heard enough before it has heard all.
    let _ = socket.write_all(bytes).await;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut answer)).await;
    let _ = read.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn plain_http_is_served_on_the_same_port_and_rubbish_is_not() {
    let open_api = OpenApi { max_body_bytes: 1_000, ..config().open_api };
    let emulator = Emulator::start(Config { open_api, ..config() }).await.unwrap();
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: iot\r\nconnection: close\r\n\r\n");
    let answer = said_to(&emulator, get("/?Action=X&Version=2018-01-20&Format=JSON").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("\"InvalidAction.NotFound\""), "{answer}");
    assert!(answer.contains("\"HostId\":\"iot\""), "{answer}");
    let post = |length: usize, body: &str| {
        let head = format!("POST / HTTP/1.1\r\nhost: iot\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        format!("{head}{body}")
    };
    let large = said_to(&emulator, post(1_001, &"x".repeat(1_001)).as_bytes()).await;
    assert!(large.starts_with("HTTP/1.1 413") && large.contains("the limit is 1000 bytes"), "{large}");
    for rubbish in [&b"\x00\x01\x02\x03"[..], b"AMQP\x00\x01\x00\x00", b"\x16\x03\x01\xff\xff rubbish", b"GET\r\n\r\n"]
    {
        let answer = said_to(&emulator, rubbish).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
    }
    let header = format!("GET / HTTP/1.1\r\nconnection: close\r\nx: {}\r\n\r\n", "y".repeat(100_000));
    let answer = said_to(&emulator, header.as_bytes()).await;
    // Its last words may be lost, since what it has not read resets the connection.
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert!(said_to(&emulator, get("/").as_bytes()).await.starts_with("HTTP/1.1 400"), "and it still serves");
}

#[tokio::test]
async fn idle_connections_hold_nobody_up_and_a_shutdown_ends_them() {
    let emulator = Emulator::start(config()).await.unwrap();
    let (api, endpoint) = api(&emulator);
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(TcpStream::connect(emulator.api_addr()).await.unwrap());
    }
    assert!(api.ask(&endpoint, &key(), &status(GROUP)).await.is_ok());
    emulator.shutdown().await.unwrap();
    let mut first = idle.swap_remove(0);
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_secs(30), first.read(&mut byte));
    assert!(!matches!(read.await.expect("it ends"), Ok(1..)));
    eventually("nobody listens any more", || std::net::TcpStream::connect(endpoint.to_string()).is_err()).await;
}
