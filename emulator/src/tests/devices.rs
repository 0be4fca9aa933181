//! Devices over real sockets: what an admin has them do, and what the OpenAPI says to them and of them.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::rpc::{self, Nonce, Params};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use super::admin::{get, post};
use super::{GROUP, eventually, patient};
use crate::config::OpenApi;
use crate::{Config, Emulator};

const PRODUCT: &str = "a1emulator0";

async fn emulator() -> Emulator {
    let open_api = OpenApi { calls_per_second: 10_000, ..OpenApi::default() };
    Emulator::start(Config { limits: patient(), open_api, ..Config::on_free_ports() }).await.unwrap()
}

/// Calls an action of the OpenAPI; the status and the JSON of its answer.
async fn call(emulator: &Emulator, action: &str, params: &[(&str, &str)]) -> (u16, Value) {
    let key = AccessKey::try_new("testid", "testsecret".into(), None).unwrap();
    let nonce = Nonce::from_bits(rand::random());
    let common = [
        ("Action", action),
        ("Version", "2018-01-20"),
        ("Format", "JSON"),
        ("IotInstanceId", "iot-emulator"),
        ("AccessKeyId", key.id()),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureNonce", nonce.as_str()),
    ];
    let mut all: Params = common.into_iter().chain(params.iter().copied()).collect();
    all.set("Timestamp", rpc::format_timestamp(jiff::Timestamp::now()));
    let signature = rpc::sign("GET", &all, key.secret());
    let url = format!("http://{}/?{}", emulator.api_addr(), all.with("Signature", signature).encode().expose());
    let answer = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response = agent.get(&url).call().unwrap();
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    });
    answer.await.unwrap()
}

async fn start(emulator: &Emulator, body: &Value) {
    let (status, answer) = post(emulator, "/admin/devices", body).await;
    assert_eq!(status, 200, "{answer}");
}

/// Has devices come and go until one is offline when they stop.
async fn some_offline_device(emulator: &Emulator) -> String {
    for seed in 1..20 {
        start(emulator, &json!({"devices": 40, "kinds": {"status": 1}, "seconds": 0.1, "seed": seed})).await;
        eventually_stopped(emulator).await;
        for index in 0..40 {
            let device = format!("device-{index:04}");
            if get(emulator, &format!("/admin/devices/{device}")).await.1["status"] == "OFFLINE" {
                return device;
            }
        }
    }
    panic!("all are online");
}

async fn eventually_stopped(emulator: &Emulator) {
    let patience = async {
        while get(emulator, "/admin/devices").await.1["running"] == true {
            tokio::time::sleep(super::millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), patience).await.unwrap();
}

fn answered(answer: &Value) -> (&str, String) {
    let payload = STANDARD.decode(answer["PayloadBase64Byte"].as_str().unwrap_or_default()).unwrap();
    (answer["RrpcCode"].as_str().unwrap(), String::from_utf8(payload).unwrap())
}

#[tokio::test]
async fn all_kinds_are_published_at_once_with_rubbish_among_them() {
    let emulator = emulator().await;
    let kinds = [
        "custom",
        "status",
        "propertyPost",
        "eventPost",
        "batchPost",
        "downlinkReply",
        "lifecycle",
        "topology",
        "subDeviceFound",
        "tags",
        "propertyHistory",
        "eventHistory",
        "otaResult",
        "otaProgress",
        "otaVersion",
        "otaJobStatus",
    ];
    let kinds: Value =
        kinds.iter().map(|kind| ((*kind).to_owned(), json!(1))).collect::<serde_json::Map<_, _>>().into();
    let body = json!({
        "rate": 0, "burst": {"every": 0.2, "messages": 3_000}, "seconds": 0.3, "kinds": kinds, "rubbish": 0.1,
        "disorder": 5, "devices": 50, "gateways": 5,
    });
    start(&emulator, &body).await;
    eventually("they publish", || emulator.hub().counts(GROUP).unwrap().published == 3_000).await;
    eventually_stopped(&emulator).await;
    assert_eq!(get(&emulator, "/admin/devices").await.1, json!({"running": false, "published": 3_000}));
    let refused = post(&emulator, "/admin/devices", &json!({"kinds": {"moods": 1}})).await;
    assert!(
        refused.0 == 400 && refused.1["error"].as_str().unwrap().contains("unknown variant `moods`"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_openapi_knows_the_devices_by_name_and_by_id() {
    let emulator = emulator().await;
    let nobody = call(&emulator, "GetDeviceStatus", &[("ProductKey", PRODUCT), ("DeviceName", "device-0000")]).await.1;
    assert_eq!((&nobody["Success"], &nobody["Code"]), (&json!(false), &json!("iot.device.NotExistedDevice")));
    let offline = some_offline_device(&emulator).await;
    let status = call(&emulator, "GetDeviceStatus", &[("ProductKey", PRODUCT), ("DeviceName", &offline)]).await.1;
    assert_eq!((&status["Success"], &status["Data"]), (&json!(true), &json!({"Status": "OFFLINE"})));
    let device = get(&emulator, &format!("/admin/devices/{offline}")).await.1;
    let id = device["iotId"].as_str().unwrap();
    assert_eq!(call(&emulator, "GetDeviceStatus", &[("IotId", id)]).await.1["Data"]["Status"], "OFFLINE");
    let names: Vec<String> = (0..3).map(|index| format!("device-{index:04}")).collect();
    let asked =
        [("ProductKey", PRODUCT), ("DeviceName.1", &names[0]), ("DeviceName.2", &names[1]), ("DeviceName.3", &offline)];
    let many = call(&emulator, "BatchGetDeviceState", &asked).await.1;
    let lines = many["DeviceStatusList"]["DeviceStatus"].as_array().unwrap();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[2], json!({"Status": "OFFLINE", "DeviceName": offline}));
    assert_eq!(
        call(&emulator, "BatchGetDeviceState", &[("IotId.1", id)]).await.1["DeviceStatusList"]["DeviceStatus"][0],
        lines[2]
    );
}

#[tokio::test]
async fn what_devices_are_asked_wrongly_is_refused() {
    let emulator = emulator().await;
    start(&emulator, &json!({"devices": 5, "kinds": {"propertyPost": 1}})).await;
    let device = [("ProductKey", PRODUCT), ("DeviceName", "device-0001")];
    let rrpc = |more: &[(&'static str, &'static str)]| [&device[..], more].concat();
    let fifty_one: Vec<String> = (1..=51).map(|index| format!("DeviceName.{index}")).collect();
    let too_many =
        fifty_one.iter().map(|name| (name.as_str(), "device-0001")).chain([("ProductKey", PRODUCT)]).collect();
    let topic =
        |topic: &'static str| vec![("ProductKey", PRODUCT), ("TopicFullName", topic), ("MessageContent", "aGVsbG8=")];
    let own = "/a1emulator0/device-0001/user/get";
    for (action, params, code) in [
        ("GetDeviceStatus", vec![("ProductKey", PRODUCT), ("DeviceName", "device-1")], "iot.device.NotExistedDevice"),
        ("BatchGetDeviceState", vec![("ProductKey", PRODUCT)], "iot.device.NoneDeviceNameElement"),
        ("BatchGetDeviceState", too_many, "iot.device.DeviceCountExceeded"),
        ("BatchGetDeviceState", vec![("IotId.1", "device-0001")], "iot.device.NotExistedDevice"),
        (
            "RRpc",
            rrpc(&[("RequestBase64Byte", "!"), ("TimeOut", "1000")]),
            "iot.messagebroker.MessageContentIsNotBase64Encode",
        ),
        (
            "RRpc",
            rrpc(&[("RequestBase64Byte", "aGVsbG8="), ("Timeout", "999")]),
            "iot.messagebroker.InvalidTimeoutValue",
        ),
        (
            "RRpc",
            rrpc(&[("RequestBase64Byte", "aGVsbG8="), ("TimeOut", "8001")]),
            "iot.messagebroker.InvalidTimeoutValue",
        ),
        ("Pub", topic("/other/device-0001/user/get"), "iot.messagebroker.InvalidFormattedTopicName"),
        ("Pub", topic("/a1emulator0/device-0001/thing/x"), "iot.messagebroker.InvalidFormattedTopicName"),
        ("Pub", [topic(own), vec![("Qos", "2")]].concat(), "iot.common.InvalidFormattedParameter"),
    ] {
        let (status, answer) = call(&emulator, action, &params).await;
        assert_eq!((status, &answer["Success"], &answer["Code"]), (200, &json!(false), &json!(code)), "{params:?}");
    }
    for (action, params, missing) in [
        ("RRpc", rrpc(&[("RequestBase64Byte", "aGVsbG8=")]), "Timeout"),
        ("GetDeviceStatus", vec![("ProductKey", PRODUCT)], "DeviceName"),
        ("Pub", vec![("ProductKey", PRODUCT)], "TopicFullName"),
    ] {
        let (status, answer) = call(&emulator, action, &params).await;
        assert_eq!((status, &answer["Code"]), (400, &json!("MissingParameter")));
        assert!(answer["Message"].as_str().unwrap().contains(missing), "{answer}");
    }
}

#[tokio::test]
async fn a_message_reaches_its_device_and_one_that_must_waits_for_it() {
    let emulator = emulator().await;
    let offline = some_offline_device(&emulator).await;
    let topic = format!("/{PRODUCT}/{offline}/user/get");
    for qos in ["0", "1"] {
        let params = [("ProductKey", PRODUCT), ("TopicFullName", &topic), ("MessageContent", "aGVsbG8="), ("Qos", qos)];
        let (_, answer) = call(&emulator, "Pub", &params).await;
        assert!(answer["Success"] == true && answer["MessageId"].is_u64(), "{answer}");
    }
    let device = get(&emulator, &format!("/admin/devices/{offline}")).await.1;
    assert_eq!((&device["received"], &device["waiting"]), (&json!(0), &json!(1)));
    // Another crowd, in which it is online.
    start(&emulator, &json!({"devices": 40, "kinds": {"propertyPost": 1}})).await;
    let params = [("ProductKey", PRODUCT), ("TopicFullName", topic.as_str()), ("MessageContent", "aGVsbG8=")];
    call(&emulator, "Pub", &params).await;
    let device = get(&emulator, &format!("/admin/devices/{offline}")).await.1;
    assert_eq!((&device["received"], &device["status"]), (&json!(1), &json!("ONLINE")));
    assert_eq!(device["last"], json!({"topic": topic, "payload": "aGVsbG8="}));
    assert_eq!(get(&emulator, "/admin/devices/device-9999").await.0, 404);
}

#[tokio::test]
async fn a_device_answers_after_a_time_and_nobody_else_waits_for_it() {
    let emulator = emulator().await;
    start(&emulator, &json!({"devices": 5, "kinds": {"propertyPost": 1}, "answerSeconds": 0.5})).await;
    let params = [
        ("ProductKey", PRODUCT),
        ("DeviceName", "device-0001"),
        ("RequestBase64Byte", "aGVsbG8="),
        ("TimeOut", "8000"),
    ];
    let begun = Instant::now();
    let asked = call(&emulator, "RRpc", &params);
    let meanwhile = async {
        let counted = || emulator.hub().counts(GROUP).unwrap().published;
        let before = counted();
        call(&emulator, "GetDeviceStatus", &params[..2]).await;
        eventually("the devices go on", || counted() > before).await;
        begun.elapsed()
    };
    let ((_, answer), others) = tokio::join!(asked, meanwhile);
    assert_eq!(answered(&answer), ("SUCCESS", "hello".into()), "{answer}");
    assert!(answer["MessageId"].is_u64() && answer["Success"] == true);
    assert!(begun.elapsed() >= super::millis(500), "{:?}", begun.elapsed());
    assert!(others < begun.elapsed(), "{others:?}");
}

#[tokio::test]
async fn a_device_that_is_slow_or_gone_does_not_answer() {
    let emulator = emulator().await;
    let offline = some_offline_device(&emulator).await;
    let params = |device: &'static str| {
        [("ProductKey", PRODUCT), ("DeviceName", device), ("RequestBase64Byte", "aGVsbG8="), ("Timeout", "1000")]
    };
    let gone =
        [("ProductKey", PRODUCT), ("DeviceName", &offline), ("RequestBase64Byte", "aGVsbG8="), ("Timeout", "1000")];
    let (_, answer) = call(&emulator, "RRpc", &gone).await;
    assert_eq!(answered(&answer), ("OFFLINE", String::new()));
    start(&emulator, &json!({"devices": 5, "kinds": {"propertyPost": 1}, "answerSeconds": 30})).await;
    let begun = Instant::now();
    let (_, answer) = call(&emulator, "RRpc", &params("device-0001")).await;
    assert_eq!(answered(&answer), ("TIMEOUT", String::new()));
    assert!(begun.elapsed() >= super::millis(1_000));
    let (_, answer) = call(&emulator, "RRpc", &params("nobody")).await;
    assert_eq!(answer["Code"], "iot.device.NotExistedDevice");
}

#[tokio::test]
async fn actions_of_devices_have_rates_of_their_own() {
    let config = Config { limits: patient(), ..Config::on_free_ports() };
    let emulator = Emulator::start(config).await.unwrap();
    start(&emulator, &json!({"devices": 5, "kinds": {"propertyPost": 1}})).await;
    let params = [("ProductKey", PRODUCT), ("DeviceName", "device-0001")];
    for _ in 0..20 {
        assert_eq!(call(&emulator, "GetDeviceStatus", &params).await.1["Success"], true);
    }
}

#[tokio::test]
async fn devices_are_silent_once_the_emulator_is_dropped_whatever_hangs() {
    let emulator = emulator().await;
    let mut hanging = tokio::net::TcpStream::connect(emulator.http_addr()).await.unwrap();
    hanging.write_all(b"POST /admin/devices HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n").await.unwrap();
    let hub = Arc::clone(emulator.hub());
    start(&emulator, &json!({"rate": 1_000, "group": GROUP})).await;
    eventually("they speak", || hub.counts(GROUP).unwrap().published > 0).await;
    drop(emulator);
    let published = hub.counts(GROUP).unwrap().published;
    tokio::time::sleep(super::millis(100)).await;
    assert_eq!(hub.counts(GROUP).unwrap().published, published);
    // The request is cut off, or told that there is nothing to start any more.
    let _ = hanging.write_all(b"{}").await;
    let mut answer = String::new();
    let _ = hanging.read_to_string(&mut answer).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(hub.counts(GROUP).unwrap().published, published);
}
