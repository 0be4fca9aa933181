use std::net::SocketAddr;
use std::sync::Mutex;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::certificates::Listener;
use crate::certificates::keeper_tests as certificates;
use crate::inject::{ADMIN_PORT, Resources};

fn settings() -> Settings {
    Settings {
        image: "sidecar:1".into(),
        image_pull_policy: None,
        brokers: vec!["broker:8443".into()],
        broker_ca: "the bundle".into(),
        admin_port: ADMIN_PORT,
        resources: Resources::default(),
    }
}

fn pod(labels: &Value) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "worker-", "labels": labels},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    })
}

fn review(change: impl FnOnce(&mut Value)) -> Value {
    let mut request = json!({
        "uid": "0c9a8d74-9cb7-44dd-b98e-09fd62def2f4",
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": "plant-a", "operation": "CREATE", "userInfo": {"username": "somebody"},
        "object": pod(&json!({"sluice.dev/consumer-group": "telemetry"})), "oldObject": null,
        "dryRun": false, "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    });
    change(&mut request);
    json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})
}

/// The answer, and the pod as it becomes.
fn answered(review: &Value) -> (Answer, Value, Value) {
    let request = read(review.to_string().as_bytes()).unwrap();
    let (answer, response) = respond(&request, &settings());
    let response: Value = serde_json::from_str(&written(response).unwrap()).unwrap();
    assert_eq!(response["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(response["kind"], "AdmissionReview");
    let response = response["response"].clone();
    assert_eq!(response["uid"], review["request"]["uid"]);
    let mut pod = review["request"]["object"].clone();
    if let Some(patch) = response.get("patch") {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = BASE64_STANDARD.decode(patch.as_str().unwrap()).unwrap();
        let patch: json_patch::Patch = serde_json::from_slice(&patch).unwrap();
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    (answer, response, pod)
}

#[test]
fn a_labelled_pod_is_patched() {
    let (answer, response, pod) = answered(&review(|_| ()));
    assert_eq!(answer, Answer::Injected);
    assert_eq!(response["allowed"], true);
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "sluice");
    assert_eq!(pod["metadata"]["annotations"]["sluice.dev/broker-ca"], "the bundle");
}

#[test]
fn what_is_not_the_creation_of_a_labelled_pod_passes_untouched() {
    for review in [
        review(|request| request["object"] = pod(&json!({}))),
        review(|request| request["operation"] = json!("UPDATE")),
        review(|request| request["subResource"] = json!("ephemeralcontainers")),
        review(|request| request["resource"]["resource"] = json!("configmaps")),
        review(|request| request["object"] = Value::Null),
    ] {
        let (answer, response, _) = answered(&review);
        assert_eq!(answer, Answer::Unchanged, "{review}");
        assert_eq!((&response["allowed"], response.get("patch")), (&json!(true), None), "{review}");
    }
}

#[test]
fn a_refusal_and_a_warning_reach_who_creates_the_pod() {
    let (answer, response, _) = answered(&review(|request| {
        request["object"]["metadata"]["labels"] = json!({"sluice.dev/consumer-group": "No_Name"});
    }));
    assert_eq!((answer, &response["allowed"]), (Answer::Denied, &json!(false)));
    assert!(response["status"]["message"].as_str().unwrap().contains("No_Name"), "{response}");
    let (_, response, _) = answered(&review(|request| request["object"]["spec"]["hostNetwork"] = json!(true)));
    assert!(response["warnings"][0].as_str().unwrap().contains("hostNetwork"), "{response}");
    let (answer, response, _) = answered(&review(|request| request["object"]["spec"]["containers"] = json!("x")));
    assert_eq!((answer, &response["allowed"]), (Answer::Denied, &json!(false)));
}

#[test]
fn garbage_is_named_and_not_repeated() {
    for (body, expected) in [
        ("", "AdmissionReview in JSON is expected"),
        ("{\"secret\": \"hush\"}", "AdmissionReview in JSON is expected"),
        (r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}"#, "of another version"),
        (r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#, "holds no request"),
    ] {
        let reason = read(body.as_bytes()).unwrap_err();
        assert!(reason.contains(expected) && !reason.contains("hush"), "{body}: {reason}");
    }
}

proptest! {
    #[test]
    fn nothing_that_comes_in_makes_it_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&body);
    }
}

/// Posts a body to the webhook as the API server does, and returns the status line and the body of the answer.
async fn posted(address: SocketAddr, bundle: &str, path: &str, body: &[u8]) -> (String, String) {
    let mut stream = certificates::connect(address, bundle).await.unwrap();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    // A body that is too large is refused before it has been read.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn it_is_served_over_tls_with_bounds() {
    let keeper = certificates::keeper(Timestamp::now());
    let certificates = keeper.certificates();
    let bundle = certificates.served().bundle.clone();
    let config = certificates.server_config(&[b"http/1.1"]).unwrap();
    let listener = Listener::new(TcpListener::bind("127.0.0.1:0").await.unwrap(), config).unwrap();
    let address = listener.address();
    let answers = Arc::new(Mutex::new(Vec::new()));
    let heard = answers.clone();
    let count = Arc::new(move |answer| heard.lock().unwrap().push(answer));
    let webhook = Webhook { settings: settings(), certificates, count };
    tokio::spawn(async move { axum::serve(listener, router(webhook)).await });

    let (status, body) = posted(address, &bundle, "/mutate", review(|_| ()).to_string().as_bytes()).await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let patch = BASE64_STANDARD.decode(answer["response"]["patch"].as_str().unwrap()).unwrap();
    let patch = String::from_utf8(patch).unwrap();
    // The bundle of now, not the one of the settings.
    assert!(patch.contains("BEGIN CERTIFICATE") && !patch.contains("the bundle"), "{patch}");

    let (status, body) = posted(address, &bundle, "/mutate", b"garbage").await;
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    assert!(body.starts_with("an AdmissionReview in JSON is expected"), "{body}");
    let (status, _) = posted(address, &bundle, "/mutate", &vec![b' '; MAX_REVIEW + 1]).await;
    assert_eq!(status, "HTTP/1.1 413 Payload Too Large");
    let (status, _) = posted(address, &bundle, "/elsewhere", b"").await;
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    assert_eq!(*answers.lock().unwrap(), [Answer::Injected, Answer::Garbage]);
}
