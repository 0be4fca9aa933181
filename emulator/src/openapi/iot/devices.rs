//! Devices: their states, and messages to them. These actions touch no group and no message of the platform, and work on
//! the registry of devices alone, under its lock.

use std::sync::PoisonError;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use sluice_cloud::rpc::Params;

use super::{Request, Stopped, World, admit, answer, failed, fields, numbered};
use crate::accounts::Caller;
use crate::config::OpenApi;
use crate::devices::{Called, Downlink, Registry, SharedRegistry};
use crate::hub::Hub;
use crate::openapi::answer::{Answer, Refusal};

/// The most devices that one call may ask about.
const MOST_DEVICES: usize = 50;
/// How long a caller may wait for a device's answer, in ms.
const TIME_OUT_MS: std::ops::RangeInclusive<u64> = 1_000..=8_000;

/// An action's own part of the answer, and how long after the call it is known.
type Done = Result<(Map<String, Value>, Duration), Stopped>;

pub(super) struct Action {
    pub(super) name: &'static str,
    perform: fn(&Request<'_>, &mut Registry) -> Done,
    /// How many calls an account may make in any second, apart from its other calls. The reference leaves one of them open.
    pub(super) per_second: Option<u32>,
}

pub(super) const ACTIONS: [Action; 4] = [
    Action { name: "Pub", perform: publish, per_second: Some(1_600) },
    Action { name: "RRpc", perform: call, per_second: Some(1_000) },
    Action { name: "GetDeviceStatus", perform: status, per_second: Some(500) },
    Action { name: "BatchGetDeviceState", perform: statuses, per_second: None },
];

/// Performs an action of devices; `None` if this is none. What it asks of the instance is asked first, so that the
/// platform and the registry are never held together.
pub(in crate::openapi) fn perform(
    name: &str,
    caller: &Caller,
    params: &Params,
    rules: &OpenApi,
    hub: &Hub,
    registry: &SharedRegistry,
) -> Option<Result<(bool, Answer), Refusal>> {
    let action = ACTIONS.iter().find(|action| action.name == name)?;
    let admitted = hub.with_world(|world| enter(name, caller, params, world));
    let done = admitted.and_then(|instance| {
        let mut registry = registry.lock().unwrap_or_else(PoisonError::into_inner);
        (action.perform)(&Request { params, instance, rules }, &mut registry)
    });
    let (done, after) = match done {
        Ok((fields, after)) => (Ok(fields), after),
        Err(stopped) => (Err(stopped), Duration::ZERO),
    };
    Some(answer(format!("{name}Response"), done).map(|(done, answer)| (done, answer.after(after))))
}

fn enter(
    name: &str,
    caller: &Caller,
    params: &Params,
    world: &mut World<'_>,
) -> Result<crate::instances::InstanceKey, Stopped> {
    let instance = admit(name, caller, params, world)?;
    if let Some(product) = product_key(params) {
        world.instances.check_product(instance, product)?;
    }
    Ok(instance)
}

/// The product key. The vendor's example of `BatchGetDeviceState` calls it `productKey`.
fn product_key(params: &Params) -> Option<&str> {
    params.get("ProductKey").or_else(|| params.get("productKey")).filter(|key| !key.is_empty())
}

fn no_device() -> Stopped {
    failed("iot.device.NotExistedDevice", "The specified device does not exist.")
}

fn decoded(text: &str) -> Result<Bytes, Stopped> {
    STANDARD.decode(text).map(Bytes::from).map_err(|_| {
        failed("iot.messagebroker.MessageContentIsNotBase64Encode", "The message content is not Base64 encoded.")
    })
}

/// A message to whoever has subscribed to a custom topic, which is the device that it names. Nobody learns whether it has
/// arrived. A device that is not there is no error: that is not documented.
fn publish(request: &Request<'_>, registry: &mut Registry) -> Done {
    let (product, topic) = (request.required("ProductKey")?, request.required("TopicFullName")?);
    let payload = decoded(request.required("MessageContent")?)?;
    let at_least_once = match request.params.get("Qos") {
        None | Some("" | "0") => false,
        Some("1") => true,
        Some(_) => return Err(failed("iot.common.InvalidFormattedParameter", "Qos must be 0 or 1.")),
    };
    let parts: Vec<&str> = topic.splitn(5, '/').collect();
    let device = match parts.as_slice() {
        ["", of, device, "user", short] if *of == product && !device.is_empty() && !short.is_empty() => device,
        _ => {
            let words = format!("The topic must be /{product}/${{DeviceName}}/user/${{TopicShortName}}.");
            return Err(failed("iot.messagebroker.InvalidFormattedTopicName", words));
        }
    };
    let downlink = Downlink { topic: topic.to_owned(), payload };
    let id = registry.downlink(product, device, downlink, at_least_once);
    // A number, as in the vendor's example; its table of fields says text.
    Ok((fields(json!({"MessageId": id})), Duration::ZERO))
}

/// A message to a device, and its answer to it. Whether `Success` is true when the device does not answer is not certain:
/// the codes are documented for calls that succeeded, but there are error codes of the same names.
fn call(request: &Request<'_>, registry: &mut Registry) -> Done {
    let (product, device) = (request.required("ProductKey")?, request.required("DeviceName")?);
    let payload = decoded(request.required("RequestBase64Byte")?)?;
    // `Timeout` in the vendor's table, `TimeOut` in the example beside it.
    let time_out = match request.params.get("TimeOut") {
        Some(time_out) => time_out,
        None => request.required("Timeout")?,
    };
    let time_out = time_out.parse().ok().filter(|ms| TIME_OUT_MS.contains(ms)).ok_or_else(|| {
        let words = format!("Timeout must be {} to {} ms.", TIME_OUT_MS.start(), TIME_OUT_MS.end());
        failed("iot.messagebroker.InvalidTimeoutValue", words)
    })?;
    let topic = request.params.get("Topic").filter(|topic| !topic.is_empty()).map(str::to_owned);
    let topic = topic.unwrap_or_else(|| format!("/sys/{product}/{device}/rrpc/request/+"));
    let called = registry.call(product, device, Downlink { topic, payload }, Duration::from_millis(time_out));
    let Called { message, code, payload, after } = called.ok_or_else(no_device)?;
    let mut fields = fields(json!({"RrpcCode": code.as_str(), "MessageId": message}));
    if !payload.is_empty() {
        fields.insert("PayloadBase64Byte".to_owned(), json!(STANDARD.encode(&payload)));
    }
    Ok((fields, after))
}

fn status(request: &Request<'_>, registry: &mut Registry) -> Done {
    let found = match request.params.get("IotId").filter(|id| !id.is_empty()) {
        Some(id) => registry.find(id).and_then(|(product, device)| registry.status(product, device)),
        None => registry.status(request.required("ProductKey")?, request.required("DeviceName")?),
    };
    let status = found.ok_or_else(no_device)?;
    Ok((fields(json!({"Data": {"Status": status.as_str()}})), Duration::ZERO))
}

/// The states of many. What is said when one of them does not exist is not documented; here the call fails.
fn statuses(request: &Request<'_>, registry: &mut Registry) -> Done {
    let ids = numbered(request.params, "IotId");
    let names = numbered(request.params, "DeviceName");
    if ids.is_empty() && names.is_empty() {
        return Err(failed("iot.device.NoneDeviceNameElement", "The device name list can't be empty."));
    }
    if ids.len().max(names.len()) > MOST_DEVICES {
        let words = format!("There may be {MOST_DEVICES} devices at most.");
        return Err(failed("iot.device.DeviceCountExceeded", words));
    }
    let line = |product: &str, device: &str| {
        let status = registry.status(product, device).ok_or_else(no_device)?;
        Ok(json!({"Status": status.as_str(), "DeviceName": device}))
    };
    let lines: Result<Vec<Value>, Stopped> = if ids.is_empty() {
        let Some(product) = product_key(request.params) else {
            return Err(Stopped::Refused(Refusal::missing("ProductKey")));
        };
        names.iter().map(|device| line(product, device)).collect()
    } else {
        let found = ids.iter().map(|id| registry.find(id).ok_or_else(no_device));
        found.map(|found| found.and_then(|(product, device)| line(product, device))).collect()
    };
    Ok((fields(json!({"DeviceStatusList": {"DeviceStatus": lines?}})), Duration::ZERO))
}
