//! The admin address: health, readiness and metrics over HTTP. Read-only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::registry::Registry;

/// What has to be in order before this replica is ready, part by part. A part that was never named is not waited for.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Option<String>>>>);

impl Readiness {
    /// Takes note of how a part stands: `Err` says what it lacks.
    pub fn set(&self, part: &'static str, state: Result<(), String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(part, state.err());
    }

    /// What is lacking, one line for each part.
    pub fn lacking(&self) -> Vec<String> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter().filter_map(|(part, lack)| Some(format!("{part}: {}", lack.as_ref()?))).collect()
    }
}

/// What it shows.
#[derive(Debug, Clone)]
pub struct Admin {
    /// What has to be in order.
    pub readiness: Readiness,
    /// The metrics.
    pub registry: Arc<Registry>,
}

/// `/healthz`, `/readyz` and `/metrics`.
pub fn router(admin: Admin) -> Router {
    // Alive is who answers: a replica that waits for the API server, or for its turn to lead, must not be restarted.
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> Response {
    let lacking = admin.readiness.lacking();
    if lacking.is_empty() {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{}\n", lacking.join("\n"))).into_response()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_that_lacks_something_says_so() {
        let readiness = Readiness::default();
        assert!(readiness.lacking().is_empty());
        readiness.set("webhook", Err("no certificate yet".into()));
        readiness.set("api server", Ok(()));
        assert_eq!(readiness.lacking(), ["webhook: no certificate yet"]);
        readiness.set("webhook", Ok(()));
        assert!(readiness.lacking().is_empty());
    }
}
