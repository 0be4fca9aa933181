//! The keeper against an API server that says nothing, and what is said when one refuses.

use std::sync::Arc;
use std::time::Duration;

use sluice_cloud::answer::ErrorClass;
use sluice_cloud::client::CallError;
use sluice_crds::status::Reason;
use tokio::sync::watch;

use super::tending::reread;
use super::words::{no_token, unreadable};
use super::{AT_ONCE, Keeper};
use crate::credentials::{Clients, Named, Source};
use crate::fault;
use crate::metrics::Metrics;
use crate::time::Clock;

#[test]
fn secrets_are_read_every_half_minute_and_never_more_than_twenty_a_second() {
    assert_eq!(reread(1), Duration::from_secs(30));
    assert_eq!(reread(600), Duration::from_secs(30));
    assert_eq!(reread(2_000), Duration::from_secs(100));
    assert_eq!(reread(1_000_000), Duration::from_secs(300));
}

fn refusal(code: u16) -> fault::Fault {
    let status = kube::core::Status { code, message: "the server's words".into(), ..kube::core::Status::default() };
    fault::Fault::from(kube::Error::Api(status.boxed()))
}

#[test]
fn what_is_forbidden_is_said_to_be_and_what_is_not_known_is_not() {
    let name = Named { namespace: "plant-a".into(), name: "keys".into() };
    for (code, reason, class) in [
        (403, Reason::PermissionDenied, ErrorClass::PermissionDenied),
        (401, Reason::Unverified, ErrorClass::PermissionDenied),
        (500, Reason::Unverified, ErrorClass::Unavailable),
        (429, Reason::Unverified, ErrorClass::Unavailable),
        (422, Reason::Unverified, ErrorClass::Invalid),
    ] {
        let secret = unreadable(&name, &refusal(code));
        let token = no_token(&name, &refusal(code));
        assert_eq!((secret.reason, token.fault.reason, token.class), (reason, reason, class), "{code}");
        for words in [secret.words, token.fault.words] {
            assert!(words.contains("plant-a/keys") && words.contains("the server's words"), "{words}");
        }
    }
    let missing = no_token(&name, &refusal(404));
    assert_eq!((missing.class, missing.fault.reason), (ErrorClass::NotFound, Reason::ServiceAccountNotFound));
}

/// A keeper at an API server that takes every request and answers none, and how many it has taken.
async fn silent() -> (Keeper, Clock, watch::Receiver<usize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = kube::Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
    let (count, counted) = watch::channel(0);
    tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap());
            count.send_modify(|count| *count += 1);
        }
    });
    let clock = Clock::start();
    let clients = Clients::new(Arc::new(sluice_cloud::endpoint::EndpointPolicy::default()));
    let client = kube::Client::try_from(config).unwrap();
    (Keeper::new(client, clients, clock, Metrics::default()).0, clock, counted)
}

#[tokio::test]
async fn an_api_server_that_says_nothing_keeps_nobody_from_sts() {
    let (keeper, _, mut taken) = silent().await;
    let name = |number| Named { namespace: "plant-a".into(), name: format!("keys-{number}") };
    let _handles: Vec<_> = (0..2 * AT_ONCE).map(|number| keeper.hold(&Source::Secret(name(number)))).collect();
    taken.wait_for(|taken| *taken == AT_ONCE).await.unwrap();
    assert_eq!((keeper.0.kubernetes.available_permits(), keeper.0.sts.available_permits()), (0, AT_ONCE));
    let refused = || CallError::Endpoint(sluice_cloud::endpoint::EndpointPolicy::with(["x"]).unwrap_err());
    assert!(keeper.0.ask_sts(async { Err(refused()) }).await.answer.is_err());
}
