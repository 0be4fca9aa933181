//! What an admin does about the OpenAPI and those who call it: access keys, subscriptions, counts, faults.

use std::sync::{MutexGuard, PoisonError};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_cloud::secret::SecretString;
use tracing::info;

use super::{Admin, Refused, Shared, bad, read};
use crate::accounts::{Accounts, Key, KeyChange};
use crate::instances::Flag;
use crate::openapi::{ApiFault, Product};
use crate::pattern::Pattern;

/// `POST /admin/keys`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyRequest {
    id: String,
    secret: Option<String>,
    account: Option<String>,
    permissions: Option<Vec<Pattern>>,
    enabled: Option<bool>,
    #[serde(default)]
    remove: bool,
}

fn accounts(admin: &Admin) -> MutexGuard<'_, Accounts> {
    admin.accounts.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown(id: &str, key: &Key) -> Value {
    let permissions: Vec<&str> = key.permissions.iter().map(Pattern::as_str).collect();
    json!({"id": id, "account": key.account, "enabled": key.enabled, "root": key.root, "permissions": permissions})
}

fn all_keys(accounts: &Accounts) -> Json<Value> {
    let keys: Vec<Value> = accounts.keys().into_iter().map(|(id, key)| shown(id, key)).collect();
    Json(json!({"keys": keys}))
}

/// The access keys, without their secrets.
pub(super) async fn keys(State(admin): Shared) -> Json<Value> {
    all_keys(&accounts(&admin))
}

/// Makes, changes, or removes an access key.
pub(super) async fn change_key(State(admin): Shared, body: Bytes) -> Result<Json<Value>, Refused> {
    let request: KeyRequest = read(&body)?;
    if request.id.is_empty() {
        return Err(bad("id is empty"));
    }
    let mut accounts = accounts(&admin);
    if request.remove {
        if !accounts.remove_key(&request.id) {
            return Err(Refused(StatusCode::NOT_FOUND, format!("there is no access key {:?}", request.id)));
        }
    } else {
        let change = KeyChange {
            secret: request.secret.map(SecretString::new),
            account: request.account,
            permissions: request.permissions,
            enabled: request.enabled,
        };
        accounts.change_key(&request.id, change).map_err(bad)?;
    }
    info!(key = request.id, removed = request.remove, "access key changed");
    Ok(all_keys(&accounts))
}

/// Every subscription.
pub(super) async fn subscriptions(State(admin): Shared) -> Json<Value> {
    let subscriptions: Vec<Value> = admin.hub.with_world(|world| {
        let lines = world.instances.subscriptions().map(|(instance, product, channel, subscription)| {
            let flags = Flag::ALL.into_iter().filter(|flag| subscription.flags.has(*flag));
            json!({
                "instance": instance,
                "productKey": product,
                "type": channel.as_str(),
                "flags": flags.map(Flag::parameter).collect::<Vec<_>>(),
                "groups": subscription.groups,
            })
        });
        lines.collect()
    });
    Json(json!({"subscriptions": subscriptions}))
}

/// How often which action was called by whom.
pub(super) async fn calls(State(admin): Shared) -> Json<Value> {
    let (calls, rates) = admin.service.counted();
    Json(json!({"calls": calls, "rates": rates}))
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
enum ApiAction {
    Throttle,
    Unavailable,
    Freeze,
}

/// `POST /admin/api`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ApiFaultRequest {
    action: ApiAction,
    /// `Iot` or `Sts`; both when left out.
    product: Option<Product>,
    /// How long; 0 ends what is under way.
    seconds: f64,
}

/// Makes the gateway misbehave.
pub(super) async fn misbehave(State(admin): Shared, body: Bytes) -> Result<Json<Value>, Refused> {
    let request: ApiFaultRequest = read(&body)?;
    let time = super::faults::seconds("seconds", request.seconds).map_err(bad)?;
    let fault = match request.action {
        ApiAction::Throttle => ApiFault::Throttle,
        ApiAction::Unavailable => ApiFault::Unavailable,
        ApiAction::Freeze => ApiFault::Freeze,
    };
    admin.service.misbehave(fault, request.product, time);
    info!(?fault, product = ?request.product, seconds = request.seconds, "API fault injected");
    Ok(Json(json!({"seconds": request.seconds})))
}
