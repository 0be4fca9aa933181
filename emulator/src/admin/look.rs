//! What an admin looks at apart from messages: connections, the platform's own log, and whether it is in order.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refused, Shared, bad};
use crate::platform::{Audit, LogQuery};

/// How many lines of the log are shown, by default and at most.
const LINES: usize = 1_000;
const MAX_LINES: usize = 10_000;

/// `GET /admin/connections`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectionsQuery {
    group: Option<String>,
}

/// `GET /admin/log`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LinesQuery {
    code: Option<u16>,
    group: Option<String>,
    limit: Option<usize>,
}

/// Which groups there are.
pub(super) async fn groups(State(admin): Shared) -> Json<Value> {
    Json(json!({"groups": admin.hub.groups()}))
}

/// The open connections: `connection` in a fault is a `number` here.
pub(super) async fn connections(
    State(admin): Shared,
    query: Result<Query<ConnectionsQuery>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let Query(query) = query.map_err(|rejection| bad(rejection.body_text()))?;
    let connections = admin.hub.connections(query.group.as_deref())?;
    Ok(Json(json!({"connections": connections})))
}

/// Whether the platform finds itself in order.
pub(super) async fn audit(State(admin): Shared) -> Json<Audit> {
    Json(admin.hub.audit())
}

/// The platform's own log.
pub(super) async fn log(
    State(admin): Shared,
    query: Result<Query<LinesQuery>, QueryRejection>,
) -> Result<Json<Value>, Refused> {
    let Query(LinesQuery { code, group, limit }) = query.map_err(|rejection| bad(rejection.body_text()))?;
    if let Some(group) = &group {
        admin.hub.counts(group)?;
    }
    let limit = match limit.unwrap_or(LINES) {
        limit @ 1..=MAX_LINES => limit,
        limit => return Err(bad(format!("limit is {limit}, must be 1 to {MAX_LINES}"))),
    };
    let lines = admin.hub.cloud_log(&LogQuery { code, group, limit });
    Ok(Json(json!({"lines": lines})))
}
