//! The admin address: health, readiness, metrics and status over HTTP. Read-only, since it may listen where others reach
//! it: what changes anything (see [`crate::drain`]) is not here.

use std::net::{Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::watch;

use crate::consumer::Snapshot;
use crate::control::status::ControlStatus;
use crate::readiness::Readiness;

/// The address itself: IP and port. An IPv6 address may come without brackets, since Kubernetes puts a pod's IP into
/// `$(POD_IP):PORT` as it is: what stands behind the last colon is the port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdminAddress(pub SocketAddr);

impl FromStr for AdminAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = || {
            let (ip, port) = text.rsplit_once(':')?;
            Some(SocketAddr::from((ip.parse::<Ipv6Addr>().ok()?, port.parse().ok()?)))
        };
        let address = text.parse().ok().or_else(bare);
        address.map(Self).ok_or_else(|| {
            format!("{text:?} is no IP address with a port; expected 127.0.0.1:9464, [::1]:9464 or ::1:9464")
        })
    }
}

/// What it shows.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The consumer, at its last change.
    pub status: watch::Receiver<Snapshot>,
    /// When it counts as ready.
    pub readiness: watch::Receiver<Readiness>,
    /// How things stand with the broker, where there is one.
    pub control: Option<watch::Receiver<ControlStatus>>,
    /// The metrics.
    pub registry: Arc<Registry>,
}

/// `/healthz`, `/readyz`, `/metrics` and `/status`.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .with_state(admin)
}

/// Alive as long as the consumer is: it drops its end when it stops.
async fn health(State(admin): State<Admin>) -> Response {
    match admin.status.has_changed() {
        Ok(_) => "ok\n".into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the consumer has stopped\n").into_response(),
    }
}

/// By the rule of the group.
async fn ready(State(admin): State<Admin>) -> Response {
    let yielded = admin.control.as_ref().is_some_and(|control| control.borrow().yielded);
    let judged = admin.readiness.borrow().judge(&admin.status.borrow(), yielded);
    match judged {
        Ok(()) => "ok\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &admin.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// What `/status` shows.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    consumer: Snapshot,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<ControlStatus>,
}

async fn status(State(admin): State<Admin>) -> Json<Shown> {
    let control = admin.control.as_ref().map(|control| control.borrow().clone());
    Json(Shown { consumer: admin.status.borrow().clone(), control })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<String, String> {
        text.parse().map(|AdminAddress(address)| address.to_string())
    }

    #[test]
    fn an_address_is_read_with_and_without_brackets() {
        for (text, address) in [
            ("127.0.0.1:9464", "127.0.0.1:9464"),
            ("0.0.0.0:0", "0.0.0.0:0"),
            ("[fd00:10:244::7]:9465", "[fd00:10:244::7]:9465"),
            ("fd00:10:244::7:9465", "[fd00:10:244::7]:9465"),
            ("fd00:10:244:0:1:2:3:4:9465", "[fd00:10:244:0:1:2:3:4]:9465"),
            ("::1:9465", "[::1]:9465"),
            (":::9465", "[::]:9465"),
            ("::ffff:10.0.0.7:9465", "[::ffff:10.0.0.7]:9465"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(address), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_with_a_port_is_refused_by_name() {
        for text in
            ["", ":9465", "9465", "127.0.0.1", "::1", "fd00:10:244:0:1:2:3:4", "::1:65536", "::1:", "pod:9465", "[::1]"]
        {
            let error = read(text).unwrap_err();
            assert!(error.contains(&format!("{text:?}")) && error.contains("127.0.0.1:9464"), "{text}: {error}");
        }
    }
}
