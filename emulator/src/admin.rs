//! The admin API: publish, look at counts and fates, inject faults, run devices. JSON over plain HTTP, for tests and the
//! demo; whoever reaches it may do anything, so it listens on loopback unless told otherwise. Bad input is answered with
//! a 4xx and `{"error": "…"}`; fields it does not know are bad input.

mod access;
mod devices;
mod faults;
mod look;
mod request;

use std::sync::{Arc, Mutex};

use axum::body::{Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, Path, Query, Request, State, rejection::QueryRejection};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use hyper_util::service::TowerToHyperService;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tracing::debug;

use self::request::{FatesQuery, LimitsRequest, PublishRequest};
use crate::accounts::Accounts;
use crate::faults::Injector;
use crate::generator::Generator;
use crate::http::{self, Closed, SILENCE};
use crate::hub::{FULL, Hub};
use crate::openapi::Service;
use crate::platform::{Counts, FateLine, GroupLimits, UnknownGroup};
use crate::sockets;

/// The largest request that is read.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// The longest refusal of axum's that is passed on.
const MAX_WORDS: usize = 4096;

/// What the handlers work on.
#[derive(Debug)]
pub(crate) struct Admin {
    pub(crate) hub: Arc<Hub>,
    pub(crate) accounts: Arc<Mutex<Accounts>>,
    pub(crate) service: Arc<Service>,
    pub(crate) injector: Arc<Injector>,
    pub(crate) generator: Arc<Generator>,
    pub(crate) product_key: String,
    pub(crate) max_payload_bytes: usize,
    pub(crate) seed: u64,
}

type Shared = State<Arc<Admin>>;

/// A refusal: a status, and words.
struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<UnknownGroup> for Refused {
    fn from(error: UnknownGroup) -> Self {
        Self(StatusCode::NOT_FOUND, error.to_string())
    }
}

fn bad(reason: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, reason.into())
}

/// Reads a body, whatever its content type claims to be.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|error| bad(error.to_string()))
}

/// The API's routes.
pub(crate) fn router(admin: Arc<Admin>) -> Router {
    Router::new()
        .route("/admin/publish", post(publish))
        .route("/admin/groups", get(look::groups))
        .route("/admin/groups/{group}", get(group).post(limits))
        .route("/admin/messages", get(messages))
        .route("/admin/messages/{id}", get(message))
        .route("/admin/connections", get(look::connections))
        .route("/admin/audit", get(look::audit))
        .route("/admin/log", get(look::log))
        .route("/admin/faults", get(faults::planned).post(faults::inject).delete(faults::cancel_all))
        .route("/admin/faults/{id}", delete(faults::cancel))
        .route("/admin/devices", get(devices::progress).post(devices::change))
        .route("/admin/devices/{device}", get(devices::device))
        .route("/admin/keys", get(access::keys).post(access::change_key))
        .route("/admin/subscriptions", get(access::subscriptions))
        .route("/admin/api", get(access::calls).post(access::misbehave))
        .fallback(|| async {
            Refused(StatusCode::NOT_FOUND, "no such path; all of them begin with /admin/".to_owned())
        })
        .method_not_allowed_fallback(|| async {
            Refused(StatusCode::METHOD_NOT_ALLOWED, "this path takes another method".to_owned())
        })
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(tidy))
        .with_state(admin)
}

/// Serves the API until `stop` completes.
pub(crate) async fn serve(listener: TcpListener, admin: Arc<Admin>, stop: impl Future<Output = ()>) {
    let router = router(admin);
    sockets::accept(listener, "the admin API", stop, |socket, peer| {
        let service = TowerToHyperService::new(router.clone());
        async move {
            if let Err(error) = http::serve(http::read_by_its_peer(socket), service, Closed::WaitsForAnswer).await {
                debug!(%peer, %error, "admin connection ended");
            }
        }
    })
    .await;
}

/// Has every request answered in time, and every refusal be JSON, whoever it comes from.
async fn tidy(request: Request, next: Next) -> Response {
    let Ok(response) = timeout(SILENCE, next.run(request)).await else {
        return Refused(StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time".to_owned()).into_response();
    };
    let said = response.headers().get(CONTENT_TYPE).and_then(|of| of.to_str().ok()).unwrap_or_default();
    if !response.status().is_client_error() || said.starts_with("application/json") {
        return response;
    }
    let status = response.status();
    let words = to_bytes(response.into_body(), MAX_WORDS).await.unwrap_or_default();
    Refused(status, String::from_utf8_lossy(&words).into_owned()).into_response()
}

async fn publish(State(admin): Shared, body: Bytes) -> Result<Json<Value>, Refused> {
    let request: PublishRequest = read(&body)?;
    if admin.hub.is_full() {
        return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, FULL.to_owned()));
    }
    let group = request.group().map(str::to_owned);
    let drafts = request.into_drafts(admin.max_payload_bytes).map_err(bad)?;
    // The ID of a message that nobody has subscribed to is null.
    let ids = match group {
        Some(group) => json!(admin.hub.publish(&group, &drafts)?),
        None => json!(admin.hub.publish_by_topic(&drafts)),
    };
    Ok(Json(json!({"messageIds": ids})))
}

async fn group(State(admin): Shared, Path(group): Path<String>) -> Result<Json<Counts>, Refused> {
    Ok(Json(admin.hub.counts(&group)?))
}

/// Gives a group limits of its own; what is left out stays.
async fn limits(State(admin): Shared, Path(group): Path<String>, body: Bytes) -> Result<Json<GroupLimits>, Refused> {
    let request: LimitsRequest = read(&body)?;
    let limits = request.over(admin.hub.group_limits(&group)?);
    admin.hub.set_group_limits(&group, limits)?;
    tracing::info!(group, ?limits, "limits changed");
    Ok(Json(limits))
}

async fn message(State(admin): Shared, Path(id): Path<String>) -> Result<Json<Vec<FateLine>>, Refused> {
    let fate = admin.hub.fate(&id);
    fate.map(Json).ok_or_else(|| Refused(StatusCode::NOT_FOUND, format!("no message {id:?} in the log")))
}

async fn messages(
    State(admin): Shared,
    query: Result<Query<FatesQuery>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let Query(query) = query.map_err(|rejection| bad(rejection.body_text()))?;
    let (messages, next) = admin.hub.fates(query.group(), query.after(), query.limit().map_err(bad)?)?;
    Ok(Json(json!({"messages": messages, "next": next})))
}
