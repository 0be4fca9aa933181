//! Payloads against the examples in the vendor's documents (PLATFORM.md 3).

use std::collections::BTreeSet;

use super::*;

/// A field's type, and whether every payload of the kind has it.
#[derive(Debug, Clone, Copy)]
enum Field {
    Text,
    Number,
    Object,
    List,
    /// In some payloads.
    TextAtTimes,
    NumberAtTimes,
}

use Field::{List, Number, NumberAtTimes, Object, Text, TextAtTimes};

/// What a payload of this kind has at its top, besides `sentAtUs`; `None` if that is the device's business.
fn documented(kind: Kind) -> Option<Vec<(&'static str, Field)>> {
    let device = [("iotId", Text), ("productKey", Text), ("deviceName", Text)];
    let gateway = [("gwIotId", Text), ("gwProductKey", Text), ("gwDeviceName", Text), ("devices", List)];
    let created = ("messageCreateTime", Number);
    let update =
        [("srcVersion", Text), ("destVersion", Text), ("desc", Text), ("jobId", Text), ("taskId", Text), created];
    let of = |fields: &[&[(&'static str, Field)]]| Some(fields.concat());
    let properties = [
        ("gmtCreate", Number),
        ("deviceType", Text),
        ("items", Object),
        ("checkFailedData", Object),
        ("requestId", TextAtTimes),
    ];
    let event = [
        ("identifier", Text),
        ("name", Text),
        ("type", Text),
        ("gmtCreate", Number),
        ("value", Object),
        ("checkFailedData", Object),
        ("time", Number),
    ];
    let times = [("time", Text), ("utcTime", Text), ("lastTime", Text), ("utcLastTime", Text)];
    let reply = [
        ("gmtCreate", Number),
        ("requestId", Number),
        ("code", Number),
        ("message", Text),
        ("topic", Text),
        ("data", Object),
        ("checkFailedData", Object),
    ];
    match kind {
        Kind::Custom => None,
        Kind::Status => {
            of(&[&device, &times, &[("status", Text), ("clientIp", Text), ("offlineReasonCode", NumberAtTimes)]])
        }
        Kind::PropertyPost | Kind::PropertyHistory => of(&[&device, &properties]),
        Kind::EventPost | Kind::EventHistory => of(&[&device, &event]),
        Kind::BatchPost => of(&[&device[1..], &[("requestId", Text), ("payload", Object)]]),
        Kind::DownlinkReply => of(&[&device, &reply]),
        Kind::Lifecycle => of(&[&device, &[("action", Text), ("deviceSecret", TextAtTimes), created]]),
        Kind::Topology => of(&[&gateway, &[("action", Text), created]]),
        Kind::SubDeviceFound => of(&[&gateway]),
        Kind::Tags => of(&[&device, &[("value", List), created]]),
        Kind::OtaResult => of(&[&device, &update, &[("status", Text)]]),
        Kind::OtaProgress => of(&[&device, &update, &[("moduleName", Text), ("step", Text)]]),
        Kind::OtaVersion => of(&[&device, &[("moduleName", Text), ("moduleVersion", Text), created]]),
        Kind::OtaJobStatus => {
            let job = [("moduleName", Text), ("packageId", Text), ("jobId", Text), ("status", Text)];
            of(&[&device[1..2], &job, &[created]])
        }
    }
}

fn payloads(kind: Kind, count: usize) -> Vec<(String, Value)> {
    let plan = Plan { kinds: Weights::of([(kind, 1)]), ..everything(7) };
    said(&plan, count).iter().map(|draft| (draft.topic.clone(), json(draft))).collect()
}

#[test]
fn the_fields_are_the_documented_ones_and_of_their_types() {
    for (kind, fields) in Kind::ALL.iter().filter_map(|kind| Some((*kind, documented(*kind)?))) {
        let mut seen = BTreeSet::new();
        for (_, payload) in payloads(kind, 1_000) {
            let mut payload = payload.as_object().unwrap().clone();
            let in_items = matches!(kind, Kind::PropertyPost | Kind::PropertyHistory);
            assert_eq!(payload.remove("sentAtUs").is_some(), !in_items, "{payload:?}");
            for &(name, field) in &fields {
                let value = payload.remove(name);
                seen.extend(value.is_some().then_some(name));
                let right = match field {
                    Text => value.as_ref().is_some_and(Value::is_string),
                    Number => value.as_ref().is_some_and(Value::is_u64),
                    Object => value.as_ref().is_some_and(Value::is_object),
                    List => value.as_ref().is_some_and(Value::is_array),
                    TextAtTimes => value.as_ref().is_none_or(Value::is_string),
                    NumberAtTimes => value.as_ref().is_none_or(Value::is_u64),
                };
                assert!(right, "{kind:?}: {name} is {value:?}");
            }
            assert!(payload.is_empty(), "{kind:?} has undocumented fields: {payload:?}");
        }
        assert_eq!(seen.len(), fields.len(), "{kind:?} has only {seen:?}");
    }
}

#[test]
fn text_that_people_wrote_is_not_ascii_at_times() {
    for kind in [
        Kind::Custom,
        Kind::PropertyPost,
        Kind::EventPost,
        Kind::BatchPost,
        Kind::DownlinkReply,
        Kind::Tags,
        Kind::PropertyHistory,
        Kind::EventHistory,
        Kind::OtaResult,
        Kind::OtaProgress,
    ] {
        let plan = Plan { kinds: Weights::of([(kind, 1)]), ..everything(7) };
        let foreign = said(&plan, 1_000).iter().filter(|draft| !draft.payload.is_ascii()).count();
        assert!(foreign > 20, "{kind:?}: {foreign} of 1000");
    }
    let named = |(_, event): &(String, Value)| event["identifier"] == "BrokenInfo" && event["name"] == "损坏率上报";
    assert!(payloads(Kind::EventPost, 100).iter().any(named));
}

#[test]
fn property_values_are_of_every_type_that_a_model_has() {
    let mut seen = BTreeSet::new();
    for (_, post) in payloads(Kind::PropertyPost, 1_000) {
        for (name, item) in post["items"].as_object().unwrap() {
            let (value, time) = (&item["value"], item["time"].as_u64().unwrap());
            let sent_ms = sent(&post).unwrap() / 1_000;
            let right = match name.as_str() {
                "Power" => value == "on" || value == "off",
                "Temperature" => value.is_f64(),
                "Position" => value["latitude"].is_f64() && value["longitude"].is_f64(),
                "Locked" => value.as_u64().is_some_and(|value| value < 2),
                "Mode" | "sentAtUs" => value.is_u64(),
                "Currents" => value.as_array().is_some_and(|all| all.len() == 3 && all.iter().all(Value::is_f64)),
                "Place" => value.is_string(),
                _ => false,
            };
            assert!(right && item.as_object().unwrap().len() == 2, "{name} is {item}");
            let old = name == "Position" && time <= sent_ms && sent_ms < time + 60_000;
            assert!(old || time == sent_ms, "{name} is of {time}, sent at {sent_ms}");
            seen.insert(name.clone());
        }
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn what_the_model_does_not_know_is_told_by_identifier_in_a_post_and_as_a_whole_elsewhere() {
    for kind in [Kind::PropertyPost, Kind::PropertyHistory, Kind::EventPost, Kind::EventHistory, Kind::DownlinkReply] {
        let by_identifier = matches!(kind, Kind::PropertyPost | Kind::PropertyHistory);
        let mut failed = 0;
        for (_, payload) in payloads(kind, 1_600) {
            let data = payload["checkFailedData"].as_object().unwrap();
            let Some(first) = data.keys().next() else { continue };
            failed += 1;
            let (about, identifier, fields) = if by_identifier {
                assert_eq!(data.len(), 1, "{data:?}");
                assert!(payload["items"].get(first).is_none(), "{payload}");
                assert!(data[first]["time"].is_u64() && data[first]["value"].is_u64(), "{data:?}");
                (&data[first], first.as_str(), 4)
            } else {
                let about = &payload["checkFailedData"];
                let identifier = if kind == Kind::DownlinkReply { "PicID" } else { "type" };
                assert!(about["value"][identifier].is_string(), "{about}");
                (about, identifier, 3)
            };
            assert_eq!(about.as_object().unwrap().len(), fields, "{about}");
            assert_eq!(about["code"], 6304);
            assert_eq!(about["message"], format!("tsl parse: params not exist -> {identifier}"));
        }
        assert!((40..=160).contains(&failed), "{kind:?}: {failed} of 1600");
    }
}

#[test]
fn devices_publish_where_they_may_and_not_where_they_subscribe() {
    let mut topics: HashMap<String, usize> = HashMap::new();
    for (topic, _) in payloads(Kind::Custom, 1_000) {
        let own = topic.splitn(4, '/').nth(3).unwrap();
        *topics.entry(own.to_owned()).or_default() += 1;
    }
    assert_eq!(topics.len(), 2, "{topics:?}");
    assert!(topics["user/update"] > 900 && topics["user/update/error"] > 20, "{topics:?}");
}

#[test]
fn events_have_the_types_that_there_are_and_batches_the_values_of_their_kind() {
    let kinds: BTreeSet<_> =
        payloads(Kind::EventPost, 100).iter().map(|(_, event)| event["type"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), ["alert", "error", "info"]);
    for (topic, batch) in payloads(Kind::BatchPost, 200) {
        for (name, values) in batch["payload"].as_object().unwrap() {
            let values = values.as_array().unwrap();
            let times: Vec<_> = values.iter().map(|value| value["time"].as_u64().unwrap()).collect();
            assert!(values.len() > 1 && times.windows(2).all(|pair| pair[0] < pair[1]), "{batch}");
            assert!(values.iter().all(|value| !value["value"].is_null()), "{batch}");
            let event = topic.ends_with("/thing/event/batch/post");
            assert!(!event || values.iter().all(|value| value["value"].is_object()), "{batch}");
            assert!(event || name != "Power" || values[0]["value"].is_string(), "{batch}");
        }
    }
}
