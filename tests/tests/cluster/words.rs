//! What people read: what `kubectl` shows of a `ConsumerGroup`, and the manifests of the documentation.
//!
//! docs/operator.md quotes what the first test prints with `SLUICE_DOCS=1`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use kube::Api;
use serde_json::json;
use sluice_crds::{ConsumerGroup, ConsumerGroupStatus};
use sluice_tests::cluster::{Namespace, until};
use sluice_tests::stage::{BOUND, Stage};

/// Runs `kubectl` in a namespace; what it printed, and whether it was content.
fn kubectl(mut command: Command, namespace: &Namespace<'_>, line: &str, input: Option<&str>) -> (bool, String) {
    command.args(["--namespace", namespace.name()]).args(line.split_whitespace());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(if output.status.success() { output.stdout } else { output.stderr }).unwrap();
    if std::env::var_os("SLUICE_DOCS").is_some() {
        println!("$ kubectl {line}\n{}", text.replace(namespace.name(), "plant-a"));
    }
    (output.status.success(), text)
}

/// Whether there is something to see of a group: pods that consume, figures, and a plan.
fn lively(status: &ConsumerGroupStatus) -> bool {
    let holds = |kind: &str| status.conditions.iter().any(|found| found.type_ == kind && found.status == "True");
    ["Ready", "CredentialsValid", "SubscriptionsSynced", "Scaling"].into_iter().all(holds)
        && status.slots.as_ref().is_some_and(|slots| slots.summary == "2/64")
        && status.rate.is_some_and(|rate| rate > 0)
        && status.backlog.is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubectl_tells_who_has_never_seen_sluice_what_is_going_on() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("words").await.unwrap();
    plant
        .group("telemetry", "g-words", |spec| {
            spec["workload"] =
                json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "telemetry-worker"}});
            spec["subscriptions"] =
                json!({"manage": "Union", "products": [{"productKey": "a1words", "messages": ["DeviceData"]}]});
        })
        .await
        .unwrap();
    plant
        .group("alarms", "DEFAULT_GROUP", |spec| spec["credentials"] = json!({"secretRef": {"name": "iot-acess-key"}}))
        .await
        .unwrap();
    plant.workers("telemetry-worker", "telemetry", 2, &["--journal", "-"]).await.unwrap();
    plant.ready("telemetry-worker", 2).await.unwrap();
    stage.emulator.admin().devices("g-words", 40).unwrap();
    let groups: Api<ConsumerGroup> = plant.namespace.api();
    until("there is something to see", BOUND, || async {
        Ok(groups.get_status("telemetry").await?.status.filter(lively).map(drop))
    })
    .await
    .unwrap();
    plant.condition("alarms", "Ready", "False").await.unwrap();

    let run = |line: &str| kubectl(stage.cluster.kubectl(), &plant.namespace, line, None);
    let shows = |line: &str, words: &[&str]| {
        let (well, text) = run(line);
        assert!(well, "kubectl {line}: {text}");
        for word in words {
            assert!(text.contains(word), "kubectl {line} does not say {word}:\n{text}");
        }
    };
    shows("get cg", &["READY", "GROUP", "REPLICAS", "SLOTS", "BACKLOG", "RATE", "AGE", "g-words", "2/64"]);
    shows("get cg -o wide", &["REASON", "Consuming", "SecretNotFound"]);
    shows("describe cg telemetry", &["2 of 2 pods have their links up", "saturation is", "the platform takes them"]);
    shows("describe cg alarms", &["spec.credentials", "iot-acess-key", "Warning", "SecretNotFound"]);
    shows("get events", &["SecretNotFound"]);
    shows("explain cg", &["A consumer group of the IoT platform"]);
    shows("explain cg.spec", &["credentials", "workload", "-required-", "Default:"]);
    shows("explain cg.spec.scaling.pause", &["ScaleDown", "status.plan"]);
    shows("get pods", &["2/2"]);

    // The operator decides: there is no number of replicas that anybody asked for.
    let scale = format!(
        "get --raw /apis/sluice.dev/v1alpha1/namespaces/{}/consumergroups/telemetry/scale",
        plant.namespace.name()
    );
    assert!(!run(&scale).0);
    let (well, refusal) = kubectl(
        stage.cluster.kubectl(),
        &plant.namespace,
        "patch cg telemetry --type merge --patch {\"spec\":{\"groupId\":\"another\"}}",
        None,
    );
    assert!(!well && refusal.contains("groupId"), "{refusal}");
    stage.emulator.admin().devices("g-words", 0).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manifests_of_the_documentation_are_taken() {
    let stage = Stage::shared().await.unwrap();
    let plant = stage.plant("manifests").await.unwrap();
    let document = include_str!("../../../docs/operator.md");
    let blocks = document.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let manifests: Vec<_> = blocks.filter(|block| block.starts_with("apiVersion:")).collect();
    assert!(manifests.len() >= 3, "docs/operator.md has {} manifests", manifests.len());
    for manifest in manifests {
        let line = "apply --dry-run=server --filename -";
        let (well, text) = kubectl(stage.cluster.kubectl(), &plant.namespace, line, Some(manifest));
        assert!(well, "{text}\n{manifest}");
    }
}
