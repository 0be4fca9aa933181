//! What an admin does about devices: has them publish, stops them, looks at them.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Refused, Shared, bad, read};
use crate::devices::{Burst, Kind, Plan, Weights};
use crate::generator::{Progress, StartError};

/// The most devices, and the most messages a second or a burst, that one generator does.
const MAX_DEVICES: u32 = 10_000;
const MAX_RATE: u32 = 1_000_000;
/// By how many later ones a status message may be overtaken, at most.
const MAX_DISORDER: u32 = 1_000;
/// One device in so many is a gateway, where gateways are needed and nothing is said of them.
const DEVICES_PER_GATEWAY: u32 = 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct BurstRequest {
    /// Seconds.
    every: f64,
    messages: u32,
}

/// `POST /admin/devices`: `{"stop":true}`, or what the devices are to do.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DevicesRequest {
    #[serde(default)]
    stop: bool,
    group: Option<String>,
    rate: Option<u32>,
    burst: Option<BurstRequest>,
    devices: Option<u32>,
    gateways: Option<u32>,
    kinds: Option<BTreeMap<Kind, u32>>,
    payload_bytes: Option<usize>,
    /// A share, 0 to 1.
    rubbish: Option<f64>,
    disorder: Option<u32>,
    /// How long a device takes to answer.
    answer_seconds: Option<f64>,
    seconds: Option<f64>,
    seed: Option<u64>,
}

fn seconds(field: &str, seconds: f64) -> Result<Duration, String> {
    // Less than a microsecond is nothing to the clock.
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|duration| duration.as_micros() > 0);
    duration.ok_or_else(|| format!("{field} is {seconds}, must be more than 0"))
}

impl DevicesRequest {
    fn plan(&self, product_key: &str, max_payload_bytes: usize, seed: u64) -> Result<Plan, String> {
        let burst = self.burst()?;
        // A burst alone is fine.
        let (rate, least) = (self.rate.unwrap_or(800), u32::from(burst.is_none()));
        if !(least..=MAX_RATE).contains(&rate) {
            return Err(format!("rate is {rate}, must be {least} to {MAX_RATE} messages a second"));
        }
        let devices = self.devices.unwrap_or(100);
        if !(1..=MAX_DEVICES).contains(&devices) {
            return Err(format!("devices is {devices}, must be 1 to {MAX_DEVICES}"));
        }
        let payload_bytes = self.payload_bytes.unwrap_or(0);
        if payload_bytes > max_payload_bytes {
            return Err(format!("payloadBytes is {payload_bytes}, the limit is {max_payload_bytes}"));
        }
        let kinds = self.kinds()?;
        let gateways = self.gateways(&kinds, devices)?;
        if kinds.get(Kind::Lifecycle) > 0 && devices - gateways < 2 {
            return Err(format!(
                "devices is {devices} with gateways {gateways}: kinds.lifecycle needs 2 devices besides the gateways, one to stay"
            ));
        }
        let disorder = self.disorder.unwrap_or(0);
        if disorder > MAX_DISORDER {
            return Err(format!("disorder is {disorder}, must be 0 to {MAX_DISORDER} messages"));
        }
        Ok(Plan {
            group: self.group.clone(),
            burst,
            gateways,
            kinds,
            payload_bytes,
            rubbish_per_million: self.rubbish_per_million()?,
            disorder,
            answer_after: self.answer_seconds.map(|it| seconds("answerSeconds", it)).transpose()?,
            duration: self.seconds.map(|it| seconds("seconds", it)).transpose()?,
            ..Plan::new(product_key, rate, devices, self.seed.unwrap_or(seed))
        })
    }

    fn burst(&self) -> Result<Option<Burst>, String> {
        let Some(BurstRequest { every, messages }) = &self.burst else { return Ok(None) };
        if !(1..=MAX_RATE).contains(messages) {
            return Err(format!("burst.messages is {messages}, must be 1 to {MAX_RATE}"));
        }
        Ok(Some(Burst { every: seconds("burst.every", *every)?, messages: *messages }))
    }

    fn kinds(&self) -> Result<Weights, String> {
        let Some(kinds) = &self.kinds else { return Ok(Weights::default()) };
        for (kind, weight) in kinds {
            if *weight > Weights::MAX {
                let name = serde_json::to_value(kind).unwrap_or_default();
                let name = name.as_str().unwrap_or_default();
                return Err(format!("kinds.{name} is {weight}, must be 0 to {}", Weights::MAX));
            }
        }
        let weights = Weights::of(kinds.iter().map(|(kind, weight)| (*kind, *weight)));
        if weights.total() == 0 {
            return Err("kinds: one of them must weigh more than 0".to_owned());
        }
        Ok(weights)
    }

    fn gateways(&self, kinds: &Weights, devices: u32) -> Result<u32, String> {
        let needed = Kind::ALL.into_iter().any(|kind| kind.needs_gateway() && kinds.get(kind) > 0);
        let by_default = if needed { (devices / DEVICES_PER_GATEWAY).max(1) } else { 0 };
        let gateways = self.gateways.unwrap_or(by_default);
        if gateways >= devices {
            return Err(format!("gateways is {gateways}, must be less than devices, which is {devices}"));
        }
        if needed && gateways == 0 {
            return Err("gateways is 0: kinds.topology and kinds.subDeviceFound need at least one".to_owned());
        }
        Ok(gateways)
    }

    fn rubbish_per_million(&self) -> Result<u32, String> {
        let share = self.rubbish.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&share) {
            return Err(format!("rubbish is {share}, must be a share, 0 to 1"));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a million")]
        let per_million = (share * 1_000_000.0).round() as u32;
        Ok(per_million)
    }
}

/// Has the devices begin, or stop.
pub(super) async fn change(State(admin): Shared, body: Bytes) -> Result<Json<Progress>, Refused> {
    let request: DevicesRequest = read(&body)?;
    if request.stop {
        admin.generator.stop();
        return Ok(Json(admin.generator.progress()));
    }
    let plan = request.plan(&admin.product_key, admin.max_payload_bytes, admin.seed).map_err(bad)?;
    admin.generator.start(plan).map_err(|error| match error {
        StartError::Running => Refused(StatusCode::CONFLICT, error.to_string()),
        StartError::Group(group) => group.into(),
        StartError::Ended => Refused(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    })?;
    Ok(Json(admin.generator.progress()))
}

/// How it goes.
pub(super) async fn progress(State(admin): Shared) -> Json<Progress> {
    Json(admin.generator.progress())
}

/// What is known of a device, and what has reached it.
pub(super) async fn device(State(admin): Shared, Path(device): Path<String>) -> Result<Json<Value>, Refused> {
    let registry = admin.generator.registry().lock().unwrap_or_else(PoisonError::into_inner);
    let Some(known) = registry.look_up(&admin.product_key, &device) else {
        return Err(Refused(StatusCode::NOT_FOUND, format!("there is no device {device:?}")));
    };
    let last = known.last.map(|it| json!({"topic": it.topic, "payload": STANDARD.encode(&it.payload)}));
    Ok(Json(json!({
        "device": known.name.device,
        "iotId": known.name.iot_id,
        "status": known.status.as_str(),
        "received": known.received,
        "waiting": known.waiting,
        "last": last,
    })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(body: &Value) -> Result<Plan, String> {
        let request: DevicesRequest = serde_json::from_value(body.clone()).map_err(|error| error.to_string())?;
        request.plan("pk", 1_000, 7)
    }

    #[test]
    fn nothing_said_is_what_it_always_was() {
        assert_eq!(plan(&json!({})), Ok(Plan::new("pk", 800, 100, 7)));
        let older = json!({"rate": 5, "devices": 3, "payloadBytes": 300, "seconds": 2.5, "group": "g"});
        let expected = Plan {
            group: Some("g".into()),
            payload_bytes: 300,
            duration: Some(Duration::from_millis(2_500)),
            ..Plan::new("pk", 5, 3, 7)
        };
        assert_eq!(plan(&older), Ok(expected));
    }

    #[test]
    fn everything_can_be_said() {
        let body = json!({
            "rate": 0, "burst": {"every": 0.5, "messages": 100}, "devices": 20, "gateways": 3,
            "kinds": {"status": 3, "topology": 1}, "rubbish": 0.05, "disorder": 4, "answerSeconds": 2, "seed": 9,
        });
        let expected = Plan {
            burst: Some(Burst { every: Duration::from_millis(500), messages: 100 }),
            gateways: 3,
            kinds: Weights::of([(Kind::Status, 3), (Kind::Topology, 1)]),
            rubbish_per_million: 50_000,
            disorder: 4,
            answer_after: Some(Duration::from_secs(2)),
            ..Plan::new("pk", 0, 20, 9)
        };
        assert_eq!(plan(&body), Ok(expected));
        assert_eq!(plan(&json!({"kinds": {"subDeviceFound": 1}})).unwrap().gateways, 10);
    }

    #[test]
    fn what_can_t_be_is_named() {
        for (body, words) in [
            (json!({"rate": 0}), "rate is 0"),
            (json!({"rate": 1_000_001}), "rate is 1000001"),
            (json!({"devices": 0}), "devices is 0"),
            (json!({"devices": 10_001}), "devices is 10001"),
            (json!({"payloadBytes": 1_001}), "payloadBytes is 1001"),
            (json!({"seconds": 0}), "seconds is 0"),
            (json!({"seconds": -1}), "seconds is -1"),
            (json!({"answerSeconds": 0}), "answerSeconds is 0"),
            (json!({"burst": {"every": 0, "messages": 1}}), "burst.every is 0"),
            (json!({"burst": {"every": 1, "messages": 0}}), "burst.messages is 0"),
            (json!({"burst": {"every": 1}}), "missing field `messages`"),
            (json!({"burst": {"every": 1, "message": 1}}), "unknown field `message`"),
            (json!({"kinds": {}}), "kinds: one of them"),
            (json!({"kinds": {"status": 0}}), "kinds: one of them"),
            (json!({"kinds": {"status": 1_000_001}}), "kinds.status is 1000001"),
            (json!({"kinds": {"state": 1}}), "unknown variant `state`, expected one of `custom`, `status`"),
            (json!({"gateways": 100}), "gateways is 100, must be less than devices, which is 100"),
            (json!({"gateways": 0, "kinds": {"topology": 1}}), "gateways is 0"),
            (json!({"devices": 1, "kinds": {"topology": 1}}), "gateways is 1"),
            (json!({"devices": 1, "kinds": {"lifecycle": 1}}), "kinds.lifecycle needs 2"),
            (json!({"rubbish": 1.5}), "rubbish is 1.5"),
            (json!({"rubbish": -0.1}), "rubbish is -0.1"),
            (json!({"disorder": 1_001}), "disorder is 1001"),
            (json!({"disordre": 1}), "unknown field `disordre`"),
        ] {
            let refused = plan(&body).unwrap_err();
            assert!(refused.contains(words), "{body}: {refused}");
        }
    }
}
