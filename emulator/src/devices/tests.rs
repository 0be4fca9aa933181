//! What a crowd says, as a consumer sees it.

mod vendor;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use proptest::prelude::*;
use serde_json::Value;
use sluice_cloud::topic::{self, MessageKind};

use super::registry::DeviceStatus;
use super::*;

const AT: u64 = 1_573_489_088_171_123;

fn of(kind: Kind) -> MessageKind {
    match kind {
        Kind::Custom => MessageKind::Custom,
        Kind::Status => MessageKind::Status,
        Kind::PropertyPost => MessageKind::PropertyPost,
        Kind::EventPost => MessageKind::EventPost,
        Kind::BatchPost => MessageKind::BatchPost,
        Kind::DownlinkReply => MessageKind::DownlinkReply,
        Kind::Lifecycle => MessageKind::Lifecycle,
        Kind::Topology => MessageKind::Topology,
        Kind::SubDeviceFound => MessageKind::SubDeviceFound,
        Kind::Tags => MessageKind::Tags,
        Kind::PropertyHistory => MessageKind::PropertyHistory,
        Kind::EventHistory => MessageKind::EventHistory,
        Kind::OtaResult => MessageKind::OtaResult,
        Kind::OtaProgress => MessageKind::OtaProgress,
        Kind::OtaVersion => MessageKind::OtaVersion,
        Kind::OtaJobStatus => MessageKind::OtaJobStatus,
    }
}

fn plan(seed: u64) -> Plan {
    Plan::new("pk", 1, 20, seed)
}

fn everything(seed: u64) -> Plan {
    Plan { gateways: 4, kinds: Weights::even(), ..plan(seed) }
}

fn devices(plan: &Plan) -> Devices {
    Devices::new(plan, SharedRegistry::default())
}

fn json(draft: &Draft) -> Value {
    let payload = serde_json::from_slice(&draft.payload);
    payload.unwrap_or_else(|error| panic!("{}: {error}: {:?}", draft.topic, draft.payload))
}

/// When a payload says that it was sent.
fn sent(payload: &Value) -> Option<u64> {
    payload["items"]["sentAtUs"]["value"].as_u64().or_else(|| payload["sentAtUs"].as_u64())
}

/// How many there are of each kind.
fn counts(drafts: &[Draft]) -> HashMap<MessageKind, usize> {
    let mut counts = HashMap::new();
    for draft in drafts {
        *counts.entry(topic::parse(&draft.topic).kind).or_default() += 1;
    }
    counts
}

fn said(plan: &Plan, count: usize) -> Vec<Draft> {
    let mut devices = devices(plan);
    (0..count as u64).map(|index| devices.next(AT + index * 10_000)).collect()
}

#[test]
fn by_default_they_say_four_kinds_mostly_property_posts() {
    let counts = counts(&said(&plan(7), 10_000));
    let share = |kind| counts.get(&kind).copied().unwrap_or_default();
    assert_eq!(counts.len(), 4, "{counts:?}");
    for (kind, expected) in [
        (MessageKind::PropertyPost, 9_000),
        (MessageKind::EventPost, 400),
        (MessageKind::Status, 400),
        (MessageKind::Custom, 200),
    ] {
        assert!(share(kind).abs_diff(expected) < expected / 5 + 50, "{kind:?}: {counts:?}");
    }
}

#[test]
fn even_one_device_alone_says_nearly_nothing_but_property_posts() {
    let counts = counts(&said(&Plan { devices: 1, ..plan(7) }, 10_000));
    assert!(counts[&MessageKind::PropertyPost] > 8_500, "{counts:?}");
}

#[test]
fn shares_are_those_of_the_weights() {
    let counts = counts(&said(&everything(7), 16_000));
    for kind in Kind::ALL {
        let share = counts.get(&of(kind)).copied().unwrap_or_default();
        assert!(share.abs_diff(1_000) < 200, "{kind:?}: {share} of {counts:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_topic_says_its_kind_and_every_payload_is_json_that_says_when_it_was_sent(
        seed in any::<u64>(),
        which in 0..Kind::ALL.len(),
        count in 3..40_u32,
        gateways in 1..2_u32,
        product in "[a-zA-Z0-9]{1,12}",
    ) {
        let kind = Kind::ALL[which];
        let kinds = Weights::of([(kind, 1)]);
        let plan = Plan { kinds, gateways, devices: count, ..Plan::new(&product, 1, count, seed) };
        let mut devices = devices(&plan);
        for index in 0..50 {
            let at = AT + index * 1_000;
            let draft = devices.next(at);
            let topic = topic::parse(&draft.topic);
            prop_assert_eq!(topic.kind, of(kind), "{}", &draft.topic);
            prop_assert_eq!(topic.product_key, Some(product.as_str()));
            let payload = json(&draft);
            prop_assert_eq!(sent(&payload), Some(at), "{}", payload);
            if let Some(device) = topic.device_name {
                let field = if kind.needs_gateway() { "gwDeviceName" } else { "deviceName" };
                if kind != Kind::Custom {
                    prop_assert_eq!(payload[field].as_str(), Some(device), "{}", payload);
                }
            }
        }
    }

    #[test]
    fn the_same_plan_says_the_same_byte_for_byte(
        seed in any::<u64>(),
        disorder in 0..8_u32,
        rubbish_per_million in prop_oneof![Just(0), Just(100_000)],
    ) {
        let plan = Plan { rubbish_per_million, disorder, ..everything(seed) };
        prop_assert_eq!(said(&plan, 300), said(&plan, 300));
    }

    #[test]
    fn status_messages_can_be_put_in_order_by_either_time(
        seed in any::<u64>(),
        disorder in 0..12_u32,
        count in 1..40_u32,
        step_us in prop_oneof![Just(10), Just(5_000_000)],
    ) {
        let kinds = Weights::of([(Kind::Status, 1), (Kind::PropertyPost, 1)]);
        let plan = Plan { kinds, disorder, devices: count, ..plan(seed) };
        let mut devices = devices(&plan);
        let mut by_device: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for index in 0..400 {
            let draft = devices.next(AT + index * step_us);
            if topic::parse(&draft.topic).kind == MessageKind::Status {
                let payload = json(&draft);
                by_device.entry(payload["deviceName"].as_str().unwrap().to_owned()).or_default().push(payload);
            }
        }
        for changes in by_device.values_mut() {
            for key in ["lastTime", "utcLastTime", "utcTime", "time"] {
                changes.sort_by(|a, b| a[key].as_str().cmp(&b[key].as_str()));
                let keys: Vec<_> = changes.iter().map(|change| change[key].as_str().unwrap()).collect();
                prop_assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{key}: {keys:?}");
                if disorder == 0 {
                    let states: Vec<_> = changes.iter().map(|change| change["status"].as_str().unwrap()).collect();
                    prop_assert!(states.windows(2).all(|pair| pair[0] != pair[1]), "{key}: {states:?}");
                    prop_assert_eq!(states[0], "offline", "they are online at first");
                }
            }
        }
    }
}

/// The status messages of each device in the order in which they came: whether each is later than all before it.
fn in_order(drafts: &[Draft]) -> bool {
    let mut last: HashMap<String, String> = HashMap::new();
    drafts.iter().filter(|draft| topic::parse(&draft.topic).kind == MessageKind::Status).all(|draft| {
        let payload = json(draft);
        let [device, time] = ["deviceName", "time"].map(|field| payload[field].as_str().unwrap().to_owned());
        last.insert(device, time.clone()).is_none_or(|before| before < time)
    })
}

#[test]
fn status_messages_come_out_of_order_where_that_is_asked_for() {
    assert!(in_order(&said(&plan(7), 5_000)));
    assert!(!in_order(&said(&Plan { disorder: 8, ..plan(7) }, 5_000)));
}

#[test]
fn property_posts_are_filled_up_to_the_size_asked_for() {
    for size in [350, 400, 1_024, 10_000] {
        let kinds = Weights::of([(Kind::PropertyPost, 1)]);
        let plan = Plan { payload_bytes: size, kinds, ..Plan::new("a1emulator0", 1, 20, 7) };
        for post in said(&plan, 200) {
            assert_eq!(post.payload.len(), size);
            assert!(json(&post)["items"]["Note"].is_object());
        }
    }
    let plan = Plan { payload_bytes: 1, kinds: Weights::of([(Kind::PropertyPost, 1)]), ..plan(7) };
    for post in said(&plan, 200) {
        assert_eq!(json(&post)["items"].as_object().unwrap().len(), 2, "no more than it must say");
    }
}

#[test]
fn a_share_of_rubbish_is_a_share_and_comes_under_topics_of_its_kind() {
    let plan = Plan { rubbish_per_million: 200_000, ..everything(7) };
    let drafts = said(&plan, 5_000);
    let good = |draft: &&Draft| {
        let payload = serde_json::from_slice::<Value>(&draft.payload).ok();
        payload.is_some_and(|payload| sent(&payload).is_some_and(|sent| sent > 0))
    };
    let rubbish: Vec<&Draft> = drafts.iter().filter(|draft| !good(draft)).collect();
    assert!(rubbish.len().abs_diff(1_000) < 150, "{}", rubbish.len());
    assert!(rubbish.iter().all(|draft| topic::parse(&draft.topic).kind != MessageKind::Unspecified));
    for (what, there) in [
        ("empty", rubbish.iter().any(|draft| draft.payload.is_empty())),
        ("binary", rubbish.iter().any(|draft| str::from_utf8(&draft.payload).is_err())),
        ("text", rubbish.iter().any(|draft| draft.payload.starts_with(b"<"))),
        ("JSON of wrong types", rubbish.iter().any(|draft| draft.payload.starts_with(b"{\"iotId\":42"))),
        ("huge numbers", rubbish.iter().any(|draft| draft.payload.windows(5).any(|at| at == b"1e999"))),
    ] {
        assert!(there, "no {what}");
    }
}

#[test]
fn rubbish_hides_no_change_of_a_device() {
    let kinds = Weights::of([(Kind::Status, 1)]);
    let drafts = said(&Plan { kinds, rubbish_per_million: 300_000, ..plan(7) }, 3_000);
    let mut last: HashMap<String, String> = HashMap::new();
    for draft in drafts.iter().filter(|draft| draft.payload.starts_with(b"{\"status\"")) {
        let payload = json(draft);
        let [device, status] = ["deviceName", "status"].map(|field| payload[field].as_str().unwrap().to_owned());
        assert_ne!(last.insert(device, status.clone()), Some(status));
    }
}

#[test]
fn a_secret_is_told_with_a_creation_and_at_no_other_time() {
    let drafts = said(&Plan { kinds: Weights::of([(Kind::Lifecycle, 1)]), ..plan(7) }, 500);
    let mut actions: HashMap<String, usize> = HashMap::new();
    for draft in &drafts {
        let payload = json(draft);
        let (action, secret) = (payload["action"].as_str().unwrap(), payload["deviceSecret"].as_str());
        assert_eq!(secret.map(str::len), (action == "create").then_some(32), "{payload}");
        *actions.entry(action.to_owned()).or_default() += 1;
    }
    assert_eq!(actions.len(), 4, "{actions:?}");
}

#[test]
fn what_they_tell_is_what_the_registry_knows() {
    let (plan, registry) = (Plan { disorder: 0, ..everything(3) }, SharedRegistry::default());
    let mut devices = Devices::new(&plan, Arc::clone(&registry));
    let status = |device: &str| registry.lock().unwrap().status("pk", device);
    assert_eq!(status("device-0019"), Some(DeviceStatus::Online));
    assert_eq!(status("device-0020"), None);
    let (mut offline, mut gone, mut disabled, mut unreached) = (0, 0, 0, [0; 2]);
    for index in 0..5_000 {
        let draft = devices.next(AT + index * 10_000);
        let payload = json(&draft);
        let device = payload["deviceName"].as_str().unwrap_or_default();
        let (says, knows) = (payload["status"].as_str(), status(device));
        match (topic::parse(&draft.topic).kind, payload["action"].as_str()) {
            // Later told than happened, where a gateway took it along or an admin did something to it meanwhile.
            (MessageKind::Status, _) if says == Some("offline") => {
                assert_ne!(knows, Some(DeviceStatus::Online), "{payload}");
                offline += u32::from(knows == Some(DeviceStatus::Offline));
            }
            (MessageKind::Status, _) => assert_eq!(knows, Some(DeviceStatus::Online), "{payload}"),
            (MessageKind::Lifecycle, Some("delete")) => {
                assert_eq!(knows, None);
                gone += 1;
            }
            (MessageKind::Lifecycle, Some("disable")) => {
                assert_eq!(knows, Some(DeviceStatus::Disable));
                disabled += 1;
            }
            (MessageKind::Lifecycle, Some("create")) => assert_eq!(knows, Some(DeviceStatus::Unactive)),
            (MessageKind::Lifecycle, _) => assert_eq!(knows, Some(DeviceStatus::Offline)),
            (MessageKind::DownlinkReply, _) if payload["code"] == 9201 => {
                assert_eq!(knows, Some(DeviceStatus::Offline));
                unreached[0] += 1;
            }
            (MessageKind::DownlinkReply, _) if payload["code"] == 9200 => {
                assert_eq!(knows, Some(DeviceStatus::Unactive));
                unreached[1] += 1;
            }
            (
                MessageKind::PropertyPost | MessageKind::EventPost | MessageKind::Custom | MessageKind::DownlinkReply,
                _,
            ) => {
                let device = topic::parse(&draft.topic).device_name.unwrap();
                assert_eq!(status(device), Some(DeviceStatus::Online), "who speaks is online");
            }
            _ => {}
        }
    }
    assert!(offline > 50 && gone > 20 && disabled > 20, "{offline} {gone} {disabled}");
    assert!(unreached[0] > 0 && unreached[1] > 0, "{unreached:?}");
}

#[test]
fn a_job_goes_through_its_states() {
    let drafts = said(&Plan { kinds: Weights::of([(Kind::OtaJobStatus, 1)]), ..plan(7) }, 15);
    let states: Vec<String> = drafts.iter().map(|draft| json(draft)["status"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states[..3], JOB);
    assert_eq!(states[12..], ["PLANNED", "IN_PROGRESS", "CANCELED"]);
}

/// How long one message takes; by hand, in release: `cargo test --release -p sluice-emulator --lib -- --ignored cost`.
#[test]
#[ignore = "a measurement"]
fn the_cost_of_a_message() {
    let rubbish = Plan { rubbish_per_million: 50_000, ..everything(7) };
    let status = Plan { kinds: Weights::of([(Kind::Status, 1)]), ..plan(7) };
    for (name, plan) in [("the default mix", plan(7)), ("all kinds, rubbish", rubbish), ("status alone", status)] {
        for count in [100, 10_000] {
            let plan = Plan { devices: count, duration: Some(Duration::ZERO), ..plan.clone() };
            let mut devices = devices(&plan);
            let start = std::time::Instant::now();
            let (mut bytes, messages) = (0, 1_000_000_u64);
            for index in 0..messages {
                let draft = devices.next(AT + index * 10);
                bytes += draft.payload.len() + draft.topic.len();
            }
            let each = start.elapsed().as_nanos() / u128::from(messages);
            println!("{name}, {count} devices: {each} ns a message, {} bytes on average", bytes as u64 / messages);
        }
    }
}
