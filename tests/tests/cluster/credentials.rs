//! Credentials from a Secret, a role, and a ServiceAccount's token: right, wrong and changing.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use sluice_tests::admin::Fault;
use sluice_tests::cluster::until;
use sluice_tests::stage::{BOUND, Stage, names};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_secret_is_said_in_the_platforms_words_and_tried_no_oftener_than_allowed() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("wrong").await.unwrap();
    let secret = json!({
        "metadata": {"name": "wrong"}, "stringData": {"accessKeyId": "testid", "accessKeySecret": "not-the-secret"},
    });
    plant.namespace.create::<Secret>(secret).await.unwrap();
    plant
        .group("telemetry", "g-wrong", |spec| spec["credentials"] = json!({"secretRef": {"name": "wrong"}}))
        .await
        .unwrap();
    plant.workers("worker", "telemetry", 3, &["--journal", "-"]).await.unwrap();
    let (reason, message) = plant.condition("telemetry", "CredentialsValid", "False").await.unwrap();
    assert!(message.contains("SignatureDoesNotMatch") || message.contains("amqp"), "{reason}: {message}");
    plant.condition("telemetry", "Ready", "False").await.unwrap();
    // One probe tries, and backs off; the others stand by.
    let counts = stage.emulator.admin().group("g-wrong").unwrap();
    assert!(counts.connect_attempts <= 3, "{counts:?}");
    assert!(plant.holders("g-wrong").await.unwrap().len() <= 1);

    // Mended, everybody comes up by itself.
    let right = json!({"stringData": {"accessKeySecret": "testsecret"}});
    let secrets: Api<Secret> = plant.namespace.api();
    secrets.patch("wrong", &PatchParams::default(), &Patch::Merge(right)).await.unwrap();
    plant.condition("telemetry", "CredentialsValid", "True").await.unwrap();
    plant.condition("telemetry", "Ready", "True").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_secret_says_which() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("missing").await.unwrap();
    plant
        .group("telemetry", "DEFAULT_GROUP", |spec| {
            spec["credentials"] = json!({"secretRef": {"name": "nobody-made-it"}});
        })
        .await
        .unwrap();
    let (_, message) = plant.condition("telemetry", "CredentialsValid", "False").await.unwrap();
    assert!(message.contains("nobody-made-it"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_loses_nothing() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("rotate").await.unwrap();
    let admin = stage.emulator.admin();
    admin.key("rotating", Some("first"), true).unwrap();
    let secret = json!({
        "metadata": {"name": "rotating"}, "stringData": {"accessKeyId": "rotating", "accessKeySecret": "first"},
    });
    plant.namespace.create::<Secret>(secret).await.unwrap();
    plant
        .group("telemetry", "g-rotate", |spec| spec["credentials"] = json!({"secretRef": {"name": "rotating"}}))
        .await
        .unwrap();
    plant.workers("worker", "telemetry", 1, &["--journal", "-"]).await.unwrap();
    plant.ready("worker", 1).await.unwrap();
    plant.condition("telemetry", "CredentialsValid", "True").await.unwrap();
    admin.devices("g-rotate", 100).unwrap();

    // The platform's key changes first: links stand, and the next attempt is refused.
    admin.key("rotating", Some("second"), true).unwrap();
    plant.condition("telemetry", "CredentialsValid", "False").await.unwrap();
    let next = json!({"stringData": {"accessKeySecret": "second"}});
    let secrets: Api<Secret> = plant.namespace.api();
    secrets.patch("rotating", &PatchParams::default(), &Patch::Merge(next)).await.unwrap();
    plant.condition("telemetry", "CredentialsValid", "True").await.unwrap();
    // A link that is lost now comes up with the new key.
    let before = admin.group("g-rotate").unwrap().connect_attempts;
    admin.inject_into("g-rotate", Fault::Drop).unwrap();
    until("the link is back", BOUND, || async {
        let counts = admin.group("g-rotate")?;
        Ok((counts.clients == 1 && counts.connect_attempts > before).then_some(()))
    })
    .await
    .unwrap();
    admin.devices("g-rotate", 0).unwrap();
    until("everything is accepted", BOUND, || async {
        let counts = admin.group("g-rotate")?;
        Ok((counts.published > 0 && counts.accepted == counts.published).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_account_s_token_is_worth_a_temporary_key() {
    let provider = "acs:ram::1000000000000001:oidc-provider/cluster";
    let role = "acs:ram::1000000000000001:role/sluice";
    let cluster = sluice_tests::cluster::Cluster::start(sluice_tests::cluster::Options::default()).await.unwrap();
    let configuration = json!({
        "openApi": {"figuresEvery": "0s", "callsPerSecond": 100},
        "oidcProviders": [{
            "arn": provider, "issuer": cluster.issuer(), "audiences": ["sts.aliyuncs.com"],
            "keysFile": cluster.account_keys(),
        }],
        "roles": [{
            "arn": role, "permissions": ["iot:*"], "maxSession": "1h",
            "trust": {"accounts": ["1000000000000001"], "serviceAccounts": [
                {"provider": provider, "subject": "system:serviceaccount:*"},
            ]},
        }],
    });
    let stage = Stage::set_on(cluster, &configuration.to_string()).await.unwrap();
    let _operator = stage.operator(0).await.unwrap();
    let plant = stage.plant("identity").await.unwrap();
    plant.namespace.create::<ServiceAccount>(json!({"metadata": {"name": "telemetry"}})).await.unwrap();
    plant
        .group("by-token", "DEFAULT_GROUP", |spec| {
            spec["credentials"] = json!({"workloadIdentity": {
                "roleArn": role, "oidcProviderArn": provider, "serviceAccountName": "telemetry",
            }});
        })
        .await
        .unwrap();
    plant.workers("worker", "by-token", 1, &["--journal", "-"]).await.unwrap();
    let pods = plant.ready("worker", 1).await.unwrap();
    plant.condition("by-token", "CredentialsValid", "True").await.unwrap();

    // The same role, assumed by the Secret's key.
    plant
        .group("by-key", "DEFAULT_GROUP", |spec| {
            spec["credentials"] = json!({"assumeRole": {"secretRef": {"name": "iot-access-key"}, "roleArn": role}});
        })
        .await
        .unwrap();
    plant.condition("by-key", "CredentialsValid", "True").await.unwrap();
    // A role that nobody may assume is refused in the words of STS.
    plant
        .group("by-nobody", "DEFAULT_GROUP", |spec| {
            let other = "acs:ram::1000000000000001:role/other";
            spec["credentials"] = json!({"assumeRole": {"secretRef": {"name": "iot-access-key"}, "roleArn": other}});
        })
        .await
        .unwrap();
    let (_, message) = plant.condition("by-nobody", "CredentialsValid", "False").await.unwrap();
    assert!(message.contains("EntityNotExist.Role"), "{message}");
    assert_eq!(plant.holders("DEFAULT_GROUP").await.unwrap(), names(&pods).into_iter().collect());
    stage.nothing_was_refused().unwrap();
}
