//! The admin address: health, readiness, metrics and status over HTTP. Read-only.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::consumer::Snapshot;

/// What it shows.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The consumer, at its last change.
    pub status: watch::Receiver<Snapshot>,
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

/// Ready once a link has stood, and until draining begins. A link lost later is no reason to take a pod out of its
/// Services.
async fn ready(State(admin): State<Admin>) -> Response {
    let snapshot = admin.status.borrow().clone();
    if snapshot.draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned()).into_response()
    } else if snapshot.was_up {
        "ok\n".into_response()
    } else {
        let reason = if snapshot.reason.is_empty() { "no application is attached yet" } else { &snapshot.reason };
        (StatusCode::SERVICE_UNAVAILABLE, format!("the link has not been up yet: {reason}\n")).into_response()
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

async fn status(State(admin): State<Admin>) -> Json<Snapshot> {
    Json(admin.status.borrow().clone())
}
