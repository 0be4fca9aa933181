//! The admin API, over HTTP.

use serde_json::{Value, json};

use super::client::Client;
use super::{GROUP, emulator, eventually, patient};
use crate::Emulator;

/// Asks the admin API; the status and the JSON of its answer.
async fn ask(emulator: &Emulator, method: &'static str, path: &str, body: Option<String>) -> (u16, Value) {
    let url = format!("http://{}{path}", emulator.http_addr());
    let answer = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut response = match (method, body) {
            ("GET", _) => agent.get(&url).call(),
            ("DELETE", _) => agent.delete(&url).call(),
            (_, body) => agent.post(&url).send(body.unwrap_or_default()),
        }
        .unwrap();
        (response.status().as_u16(), response.body_mut().read_json().unwrap())
    });
    answer.await.unwrap()
}

pub(super) async fn get(emulator: &Emulator, path: &str) -> (u16, Value) {
    ask(emulator, "GET", path, None).await
}

pub(super) async fn post(emulator: &Emulator, path: &str, body: &Value) -> (u16, Value) {
    ask(emulator, "POST", path, Some(body.to_string())).await
}

#[tokio::test]
async fn what_is_published_can_be_followed_to_its_end() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 10).await;
    let messages = json!({"messages": [
        {"topic": "/pk/dn/user/get", "payload": "aGVsbG8="},
        {"topic": "/pk/dn/user/get", "payload": "", "messageId": "given", "generateTime": 7},
    ]});
    let (status, answer) = post(&emulator, "/admin/publish", &messages).await;
    assert_eq!((status, answer["messageIds"].as_array().unwrap().len()), (200, 2));
    assert_eq!(answer["messageIds"][1], "given");
    assert!(client.transfer().await.1.ends_with(b"hello"));
    client.transfer().await;
    client.accept(0, 0).await;
    let hub = emulator.hub();
    eventually("it is accepted", || hub.counts(GROUP).unwrap().accepted == 1).await;

    assert_eq!(get(&emulator, "/admin/groups").await, (200, json!({"groups": [GROUP]})));
    let (_, counts) = get(&emulator, "/admin/groups/DEFAULT_GROUP").await;
    for (field, count) in [
        ("published", 2),
        ("pushed", 2),
        ("accepted", 1),
        ("released", 0),
        ("rejected", 0),
        ("modified", 0),
        ("expired", 0),
        ("dropped", 0),
        ("backlog", 0),
        ("unsettled", 1),
        ("clients", 1),
        ("clientsPeak", 1),
        ("connectAttempts", 1),
        ("connectAttemptsPeakPerMinute", 1),
    ] {
        assert_eq!(counts[field], count, "{field}");
    }
    let (_, fate) = get(&emulator, "/admin/messages/given").await;
    assert_eq!((&fate[1]["event"], &fate[1]["client"]), (&json!("pushed"), &json!("c")));
    assert!(fate[1]["at"].as_u64().unwrap() > 1_700_000_000_000_000);

    let (_, page) = get(&emulator, "/admin/messages?group=DEFAULT_GROUP&limit=1").await;
    assert_eq!((page["next"].as_u64(), page["messages"].as_array().unwrap().len()), (Some(1), 1));
    let accepted = &page["messages"][0];
    assert_eq!((&accepted["state"], &accepted["pushes"]), (&json!("accepted"), &json!(1)));
    assert!(accepted["acceptedAtUs"].as_u64() >= accepted["publishedAtUs"].as_u64());
    let (_, page) = get(&emulator, "/admin/messages?after=1").await;
    assert_eq!((&page["messages"][0]["id"], &page["messages"][0]["acceptedAtUs"]), (&json!("given"), &Value::Null));
}

#[tokio::test]
async fn bad_input_is_answered_with_a_reason() {
    let emulator = emulator(patient()).await;
    let message = |message: Value| json!({"messages": [message]});
    for (path, body, status, reason) in [
        ("/admin/publish", json!({}), 400, "messages"),
        ("/admin/publish", json!({"messages": [], "grup": "x"}), 400, "grup"),
        ("/admin/publish", json!({"messages": [], "group": "x"}), 404, "consumer group \"x\""),
        ("/admin/publish", message(json!({"topic": "t", "payload": "!"})), 400, "messages[0]: payload is not Base64"),
        ("/admin/publish", message(json!({"topic": "", "payload": ""})), 400, "topic is empty"),
        ("/admin/publish", message(json!({"topic": "t", "payload": "", "dataSections": 0})), 400, "dataSections"),
        ("/admin/publish", message(json!({"topic": "t", "payload": "A".repeat(349_528)})), 400, "the limit is 262144"),
        ("/admin/faults", json!({"action": "explode"}), 400, "explode"),
        ("/admin/faults", json!({"action": "drop", "condition": "x"}), 400, "condition does not go with the action"),
        ("/admin/faults", json!({"action": "close", "group": "x"}), 404, "consumer group"),
        ("/admin/faults", json!({"action": "close", "group": "x", "afterSeconds": 9}), 404, "consumer group"),
        ("/admin/faults", json!({"action": "refuseNext", "group": "x"}), 404, "consumer group"),
        ("/admin/faults", json!({"action": "repeat", "message": "x"}), 404, "no message"),
        ("/admin/faults", json!({"action": "expireToken", "key": "x"}), 404, "no temporary access key"),
        ("/admin/devices", json!({"rate": 0}), 400, "rate"),
        ("/admin/devices", json!({"seconds": -1}), 400, "seconds"),
        ("/admin/devices", json!({"group": "x"}), 404, "consumer group"),
        ("/admin/nothing", json!({}), 404, "no such path"),
        ("/admin/messages", json!({}), 405, "another method"),
        ("/admin/groups/x", json!({}), 404, "consumer group"),
        ("/admin/groups/DEFAULT_GROUP", json!({"clients": 1}), 400, "clients"),
        ("/admin/keys", json!({"id": ""}), 400, "id is empty"),
        ("/admin/keys", json!({"id": "new"}), 400, "needs a secret"),
        ("/admin/keys", json!({"id": "new", "remove": true}), 404, "no access key"),
        ("/admin/api", json!({"action": "explode", "seconds": 1}), 400, "explode"),
        ("/admin/api", json!({"action": "throttle", "seconds": -1}), 400, "0 or more"),
    ] {
        let (found, answer) = post(&emulator, path, &body).await;
        let error = answer["error"].as_str().unwrap();
        assert!(found == status && error.contains(reason), "{path} {reason}: {found} {error}");
    }
    for (path, status) in [
        ("/admin/groups/x", 404),
        ("/admin/groups/%ff", 400),
        ("/admin/messages/x", 404),
        ("/admin/messages?group=x", 404),
        ("/admin/messages?limit=0", 400),
        ("/admin/messages?limit=many", 400),
        ("/admin/messages?offset=1", 400),
        ("/admin/connections?group=x", 404),
        ("/admin/connections?client=x", 400),
        ("/admin/log?group=x", 404),
        ("/admin/log?limit=0", 400),
        ("/admin/log?code=many", 400),
    ] {
        let (found, answer) = get(&emulator, path).await;
        assert!(found == status && answer["error"].is_string(), "{path}: {found} {answer}");
    }
}

#[tokio::test]
async fn faults_say_how_many_they_hit() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 1).await;
    assert_eq!(post(&emulator, "/admin/faults", &json!({"action": "close", "client": "x"})).await.1["affected"], 0);
    let detach = json!({"action": "detach", "group": GROUP, "client": "c"});
    assert_eq!(post(&emulator, "/admin/faults", &detach).await.1["affected"], 1);
    assert_eq!(client.detached().await, "amqp:link:detach-forced");
    assert_eq!(post(&emulator, "/admin/faults", &json!({"action": "close"})).await.1["affected"], 1);
    assert_eq!(client.closed().await, "amqp:connection:forced");
}

#[tokio::test]
async fn one_connection_of_two_can_be_named_by_its_number() {
    let emulator = emulator(patient()).await;
    let (mut first, mut second) =
        (Client::attached(&emulator, "c", 1).await, Client::attached(&emulator, "c", 1).await);
    let (_, shown) = get(&emulator, "/admin/connections?group=DEFAULT_GROUP").await;
    let connections = shown["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 2);
    let mut numbers: Vec<u64> = connections.iter().map(|line| line["number"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    for line in connections {
        assert_eq!((&line["group"], &line["client"], &line["surplus"]), (&json!(GROUP), &json!("c"), &json!(false)));
        assert!(line["address"].as_str().unwrap().starts_with("127.0.0.1:"));
    }
    let fault = json!({"action": "close", "connection": numbers[1]});
    assert_eq!(post(&emulator, "/admin/faults", &fault).await.1, json!({"affected": 1}));
    assert_eq!(second.closed().await, "amqp:connection:forced");
    let detach = json!({"action": "detach", "connection": numbers[0]});
    assert_eq!(post(&emulator, "/admin/faults", &detach).await.1["affected"], 1);
    assert_eq!(first.detached().await, "amqp:link:detach-forced");
}

#[tokio::test]
async fn faults_can_be_planned_looked_at_and_cancelled() {
    let emulator = emulator(patient()).await;
    let mut client = Client::attached(&emulator, "c", 1).await;
    let in_an_hour = json!({"action": "drop", "client": "c", "afterSeconds": 3_600});
    let (_, planned) = post(&emulator, "/admin/faults", &in_an_hour).await;
    let now_and_then = json!({"action": "detach", "client": "none", "everySeconds": 60, "times": 3});
    let (_, again) = post(&emulator, "/admin/faults", &now_and_then).await;
    assert_eq!((&planned, &again), (&json!({"affected": 0, "id": 1}), &json!({"affected": 0, "id": 2})));
    let (_, mut shown) = get(&emulator, "/admin/faults").await;
    let (soon, late) = (shown["faults"][0].take(), shown["faults"][1].take());
    assert!((59.0..=60.0).contains(&soon["inSeconds"].as_f64().unwrap()), "{soon}");
    assert_eq!((&soon["id"], &soon["left"], &soon["everySeconds"]), (&json!(2), &json!(2), &json!(60.0)));
    assert_eq!((&late["action"], &late["client"], &late["left"]), (&json!("drop"), &json!("c"), &json!(1)));
    assert_eq!(ask(&emulator, "DELETE", "/admin/faults/1", None).await, (200, json!({"cancelled": 1})));
    for gone in ["1", "x"] {
        assert_eq!(ask(&emulator, "DELETE", &format!("/admin/faults/{gone}"), None).await.0, 404);
    }
    assert_eq!(ask(&emulator, "DELETE", "/admin/faults", None).await, (200, json!({"cancelled": 1})));
    assert_eq!(get(&emulator, "/admin/faults").await, (200, json!({"faults": []})));

    let soon = json!({"action": "close", "afterSeconds": 0.05, "condition": "vendor:x"});
    post(&emulator, "/admin/faults", &soon).await;
    assert_eq!(client.closed().await, "vendor:x");
}

#[tokio::test]
async fn the_platform_says_whether_it_is_in_order_and_what_it_has_logged() {
    let emulator = emulator(patient()).await;
    assert_eq!(get(&emulator, "/admin/audit").await, (200, json!({"consistent": true, "violations": []})));
    let (status, log) = get(&emulator, "/admin/log?code=9600&group=DEFAULT_GROUP&limit=10").await;
    assert_eq!((status, &log["lines"]), (200, &json!([])));
}

#[tokio::test]
async fn devices_start_and_stop() {
    let emulator = emulator(patient()).await;
    assert_eq!(get(&emulator, "/admin/devices").await.1, json!({"running": false, "published": 0}));
    let (status, _) = post(&emulator, "/admin/devices", &json!({"rate": 1000, "devices": 5})).await;
    assert_eq!(status, 200);
    assert_eq!(post(&emulator, "/admin/devices", &json!({})).await.0, 409);
    let hub = emulator.hub();
    eventually("they publish", || hub.counts(GROUP).unwrap().published > 10).await;
    let (_, stopped) = post(&emulator, "/admin/devices", &json!({"stop": true})).await;
    assert_eq!(stopped["running"], false);
    let (_, progress) = get(&emulator, "/admin/devices").await;
    assert_eq!(progress["published"], json!(hub.counts(GROUP).unwrap().published));
}
