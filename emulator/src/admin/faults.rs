//! What an admin asks to go wrong: `/admin/faults`.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Refused, Shared, bad, read};
use crate::faults::{Action, Fault, FaultId, FramePart, Injection, Outage, Reason, SHORTEST, Target, Unable, When};
use crate::openapi::Product;

/// The longest condition: it has to fit into the smallest frame, beside words.
const MAX_CONDITION: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    Close,
    Detach,
    EndSession,
    Drop,
    StopReading,
    StopWriting,
    Delay,
    Corrupt,
    ExpireToken,
    Repeat,
    RefuseNext,
    FreezeApi,
    ThrottleApi,
    UnavailableApi,
}

impl Kind {
    /// The fields that go with it, apart from those that say when.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Close | Self::EndSession => &["group", "client", "connection", "condition", "description", "bare"],
            Self::Detach => &["group", "client", "connection", "condition", "description", "bare", "closed"],
            Self::Drop => &["group", "client", "connection"],
            Self::StopReading | Self::StopWriting => &["group", "client", "connection", "seconds"],
            Self::Delay => &["group", "client", "connection", "seconds", "delaySeconds"],
            Self::Corrupt => &["group", "client", "connection", "part"],
            Self::ExpireToken => &["group", "client", "connection", "key"],
            Self::Repeat => &["message"],
            Self::RefuseNext => &["group", "attempts"],
            Self::FreezeApi | Self::ThrottleApi | Self::UnavailableApi => &["product", "seconds"],
        }
    }
}

/// `POST /admin/faults`.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct FaultRequest {
    action: Kind,
    /// All groups when left out.
    group: Option<String>,
    /// A client ID; all clients when left out.
    client: Option<String>,
    /// A connection's number, as `GET /admin/connections` shows it.
    connection: Option<u64>,
    condition: Option<String>,
    description: Option<String>,
    /// Say no reason.
    bare: Option<bool>,
    /// Close the link, and not only detach it; yes when left out.
    closed: Option<bool>,
    seconds: Option<f64>,
    delay_seconds: Option<f64>,
    part: Option<FramePart>,
    /// A temporary access key.
    key: Option<String>,
    /// A message ID.
    message: Option<String>,
    attempts: Option<u32>,
    product: Option<Product>,
    after_seconds: Option<f64>,
    every_seconds: Option<f64>,
    times: Option<u32>,
}

/// The fields that say when.
const TIMES: [&str; 3] = ["afterSeconds", "everySeconds", "times"];

/// So many seconds, or what is wrong with them.
pub(super) fn seconds(name: &str, seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds).map_err(|_| format!("{name} is {seconds}, must be 0 or more"))
}

fn needed<T: Copy>(name: &str, value: Option<T>) -> Result<T, String> {
    value.ok_or_else(|| format!("{name} is missing"))
}

impl FaultRequest {
    /// What is asked for, or what is wrong with it.
    fn read(self) -> Result<(Injection, When), String> {
        self.check_fields()?;
        let when = self.when()?;
        let action = self.action()?;
        let target = Target { group: self.group, client: self.client, connection: self.connection };
        Ok((Injection { action, target }, when))
    }

    /// Fields that do not go with the action are a mistake that would otherwise go unnoticed.
    fn check_fields(&self) -> Result<(), String> {
        let Ok(Value::Object(fields)) = serde_json::to_value(self) else { return Ok(()) };
        let fits = |name: &str| name == "action" || TIMES.contains(&name) || self.action.fields().contains(&name);
        match fields.iter().find(|(name, value)| !value.is_null() && !fits(name)) {
            Some((name, _)) => Err(format!("{name} does not go with the action {}", fields["action"])),
            None => Ok(()),
        }
    }

    fn when(&self) -> Result<When, String> {
        let after = seconds("afterSeconds", self.after_seconds.unwrap_or_default())?;
        let every = self.every_seconds.map(|every| seconds("everySeconds", every)).transpose()?;
        if every.is_some_and(|every| every < SHORTEST) {
            return Err(format!("everySeconds must be {} at least", SHORTEST.as_secs_f64()));
        }
        match (every, self.times) {
            (_, Some(0)) => Err("times is 0, must be 1 or more".to_owned()),
            (None, Some(2..)) => Err("times is more than 1: everySeconds must say in which rhythm".to_owned()),
            (None, _) => Ok(When { after, ..When::NOW }),
            (Some(_), times) => Ok(When { after, every, times }),
        }
    }

    fn reason(&self, condition: &str) -> Result<Option<Reason>, String> {
        if self.bare == Some(true) {
            return match (&self.condition, &self.description) {
                (None, None) => Ok(None),
                _ => Err("a bare one says no reason: leave condition and description out".to_owned()),
            };
        }
        let condition = self.condition.clone().unwrap_or_else(|| condition.to_owned());
        if !(1..=MAX_CONDITION).contains(&condition.len()) || !condition.is_ascii() {
            let words = format!("must be an AMQP symbol: ASCII, 1 to {MAX_CONDITION} bytes");
            return Err(format!("condition is {condition:?}, {words}"));
        }
        let description = self.description.clone().unwrap_or_else(|| "injected by the admin".to_owned());
        Ok(Some(Reason { condition, description }))
    }

    fn lasts(&self) -> Result<Duration, String> {
        seconds("seconds", needed("seconds", self.seconds)?)
    }

    fn outage(&self) -> Result<Outage, String> {
        Ok(Outage { product: self.product, lasts: self.lasts()? })
    }

    fn action(&self) -> Result<Action, String> {
        let fault = match self.action {
            Kind::Close => Fault::Close { reason: self.reason("amqp:connection:forced")? },
            Kind::Detach => {
                Fault::Detach { reason: self.reason("amqp:link:detach-forced")?, closed: self.closed.unwrap_or(true) }
            }
            Kind::EndSession => Fault::EndSession { reason: self.reason("amqp:internal-error")? },
            Kind::Drop => Fault::Drop,
            Kind::StopReading => Fault::StopReading { lasts: self.lasts()? },
            Kind::StopWriting => Fault::StopWriting { lasts: self.lasts()? },
            Kind::Delay => {
                let by = seconds("delaySeconds", needed("delaySeconds", self.delay_seconds)?)?;
                Fault::Delay { by, lasts: self.lasts()? }
            }
            Kind::Corrupt => Fault::Corrupt { part: needed("part", self.part)? },
            Kind::ExpireToken => return Ok(Action::ExpireToken { key: self.key.clone() }),
            Kind::Repeat => {
                let message = self.message.clone().ok_or("message is missing: the ID of the one to repeat")?;
                return Ok(Action::Repeat { message });
            }
            Kind::RefuseNext => return Ok(Action::RefuseNext { attempts: self.attempts.unwrap_or(1) }),
            Kind::FreezeApi => return self.outage().map(Action::FreezeApi),
            Kind::ThrottleApi => return self.outage().map(Action::ThrottleApi),
            Kind::UnavailableApi => return self.outage().map(Action::UnavailableApi),
        };
        Ok(Action::Connections(fault))
    }
}

impl From<Unable> for Refused {
    fn from(error: Unable) -> Self {
        let status = match &error {
            Unable::Group(_) | Unable::Message(_) | Unable::Key(_) => StatusCode::NOT_FOUND,
            Unable::Full(_) => StatusCode::CONFLICT,
        };
        Self(status, error.to_string())
    }
}

/// Does it, or plans it.
pub(super) async fn inject(State(admin): Shared, body: Bytes) -> Result<Json<Value>, Refused> {
    let request: FaultRequest = read(&body)?;
    let (injection, when) = request.read().map_err(bad)?;
    let injected = admin.injector.inject(&injection, when)?;
    let mut answer = json!({"affected": injected.affected});
    if let Some(id) = injected.id {
        answer["id"] = json!(id);
    }
    Ok(Json(answer))
}

/// What is planned.
pub(super) async fn planned(State(admin): Shared) -> Json<Value> {
    Json(json!({"faults": admin.injector.planned()}))
}

/// Takes everything out of the plan.
pub(super) async fn cancel_all(State(admin): Shared) -> Json<Value> {
    Json(json!({"cancelled": admin.injector.cancel_all()}))
}

/// Takes one fault out of the plan.
pub(super) async fn cancel(State(admin): Shared, Path(id): Path<String>) -> Result<Json<Value>, Refused> {
    let cancelled = id.parse().is_ok_and(|id| admin.injector.cancel(FaultId(id)));
    if cancelled {
        Ok(Json(json!({"cancelled": 1})))
    } else {
        Err(Refused(StatusCode::NOT_FOUND, format!("no fault {id:?} is planned")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: &Value) -> Result<(Injection, When), String> {
        serde_json::from_value::<FaultRequest>(request.clone()).map_err(|error| error.to_string())?.read()
    }

    #[test]
    fn every_action_can_be_asked_for_and_is_shown_as_it_was_asked_for() {
        let reason = |condition| json!({"condition": condition, "description": "injected by the admin"});
        for (request, shown) in [
            (json!({"action": "close"}), json!({"action": "close", "reason": reason("amqp:connection:forced")})),
            (json!({"action": "close", "bare": true}), json!({"action": "close", "reason": null})),
            (
                json!({"action": "detach", "group": "g", "client": "c", "connection": 7, "closed": false}),
                json!({"action": "detach", "closed": false, "reason": reason("amqp:link:detach-forced"),
                    "group": "g", "client": "c", "connection": 7}),
            ),
            (json!({"action": "endSession", "bare": true}), json!({"action": "endSession", "reason": null})),
            (json!({"action": "drop"}), json!({"action": "drop"})),
            (json!({"action": "stopReading", "seconds": 1}), json!({"action": "stopReading", "seconds": 1.0})),
            (json!({"action": "stopWriting", "seconds": 0.5}), json!({"action": "stopWriting", "seconds": 0.5})),
            (
                json!({"action": "delay", "seconds": 9, "delaySeconds": 0.25}),
                json!({"action": "delay", "seconds": 9.0, "delaySeconds": 0.25}),
            ),
            (json!({"action": "corrupt", "part": "dataOffset"}), json!({"action": "corrupt", "part": "dataOffset"})),
            (json!({"action": "corrupt", "part": "truncate"}), json!({"action": "corrupt", "part": "truncate"})),
            (json!({"action": "expireToken"}), json!({"action": "expireToken"})),
            (json!({"action": "expireToken", "key": "STS.a"}), json!({"action": "expireToken", "key": "STS.a"})),
            (json!({"action": "repeat", "message": "1"}), json!({"action": "repeat", "message": "1"})),
            (json!({"action": "refuseNext"}), json!({"action": "refuseNext", "attempts": 1})),
            (json!({"action": "freezeApi", "seconds": 1}), json!({"action": "freezeApi", "seconds": 1.0})),
            (
                json!({"action": "throttleApi", "seconds": 1, "product": "Iot"}),
                json!({"action": "throttleApi", "seconds": 1.0, "product": "Iot"}),
            ),
            (json!({"action": "unavailableApi", "seconds": 1}), json!({"action": "unavailableApi", "seconds": 1.0})),
        ] {
            let (injection, when) = read(&request).unwrap_or_else(|reason| panic!("{request}: {reason}"));
            assert_eq!(serde_json::to_value(&injection).unwrap(), shown, "{request}");
            assert_eq!(when, When::NOW);
        }
    }

    #[test]
    fn when_it_happens_can_be_said() {
        let when = |more: Value| {
            let mut request = json!({"action": "drop"});
            request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read(&request).map(|(_, when)| when)
        };
        let second = Duration::from_secs(1);
        assert_eq!(when(json!({"afterSeconds": 1})), Ok(When { after: second, every: None, times: Some(1) }));
        let endless = When { after: Duration::ZERO, every: Some(second), times: None };
        assert_eq!(when(json!({"everySeconds": 1})), Ok(endless));
        let thrice = When { after: second, every: Some(second), times: Some(3) };
        assert_eq!(when(json!({"afterSeconds": 1, "everySeconds": 1, "times": 3})), Ok(thrice));
        for (more, reason) in [
            (json!({"afterSeconds": -1}), "afterSeconds"),
            (json!({"everySeconds": 0}), "everySeconds"),
            (json!({"times": 0}), "times is 0"),
            (json!({"times": 2}), "everySeconds must say"),
        ] {
            assert!(when(more.clone()).unwrap_err().contains(reason), "{more}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (request, reason) in [
            (json!({"action": "drop", "condition": "x"}), "condition does not go with the action \"drop\""),
            (json!({"action": "close", "closed": true}), "closed does not go"),
            (json!({"action": "repeat", "message": "1", "group": "g"}), "group does not go"),
            (json!({"action": "freezeApi", "seconds": 1, "client": "c"}), "client does not go"),
            (json!({"action": "close", "bare": true, "description": "x"}), "says no reason"),
            (json!({"action": "close", "condition": ""}), "condition"),
            (json!({"action": "close", "condition": "\u{fc}"}), "condition"),
            (json!({"action": "close", "condition": "x".repeat(101)}), "1 to 100 bytes"),
            (json!({"action": "stopReading"}), "seconds is missing"),
            (json!({"action": "stopReading", "seconds": -1}), "must be 0 or more"),
            (json!({"action": "delay", "seconds": 1}), "delaySeconds is missing"),
            (json!({"action": "corrupt"}), "part is missing"),
            (json!({"action": "corrupt", "part": "all"}), "all"),
            (json!({"action": "repeat"}), "message is missing"),
            (json!({"action": "freezeApi"}), "seconds is missing"),
        ] {
            let refused = read(&request).unwrap_err();
            assert!(refused.contains(reason), "{request}: {refused}");
        }
    }
}
