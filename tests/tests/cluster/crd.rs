//! The definition of the ConsumerGroup as a real API server reads it: the rules decide there as they do in this process,
//! and what `kubectl` shows is meant for people.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::{StreamExt as _, stream};
use http::Request;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use sluice_crds::fixtures::{self, Case};
use sluice_crds::status::{BacklogStatus, ConditionType, Plan, Reason, SidecarsStatus, SlotsStatus};
use sluice_crds::{ConsumerGroup, ConsumerGroupStatus, Mode};
use sluice_tests::cluster::{Cluster, Namespace, until};
use sluice_tests::process::output_of;
use tokio::sync::OnceCell;

const CRD: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/yaml/consumergroups.sluice.dev.yaml");
const BOUND: Duration = Duration::from_secs(60);

/// How many documents the API server judges at a time.
const AT_A_TIME: usize = 16;

/// Installs the definition, once or again, and waits until `kubectl` knows it.
pub(super) async fn install(cluster: &Cluster) -> Result<()> {
    // Others may do so at the same time.
    let apply = ["apply", "--server-side", "--force-conflicts", "--filename", CRD];
    output_of("kubectl", cluster.kubectl().args(apply))?;
    let established = ["wait", "--for=condition=Established", "--timeout=60s", "--filename", CRD];
    output_of("kubectl", cluster.kubectl().args(established))?;
    // Then it is served; what lists and explains it follows.
    until("kubectl explains ConsumerGroups", BOUND, || async {
        Ok(output_of("kubectl", cluster.kubectl().args(["explain", "consumergroups.sluice.dev"])).ok())
    })
    .await?;
    Ok(())
}

/// A namespace of the shared control plane, with the definition installed.
async fn namespace() -> Result<Namespace<'static>> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    let cluster = Cluster::shared().await?;
    INSTALLED.get_or_try_init(|| install(cluster)).await?;
    cluster.namespace("crd").await
}

fn kubectl(namespace: &Namespace<'_>, arguments: &[&str]) -> Result<String> {
    let mut command = namespace.cluster().kubectl();
    output_of("kubectl", command.args(["--namespace", namespace.name()]).args(arguments))
}

/// Without fields that the definition does not know.
fn strictly(method: &str, path: &str, object: &Value) -> Result<Request<Vec<u8>>> {
    let separator = if path.contains('?') { '&' } else { '?' };
    let uri = format!("{path}{separator}fieldValidation=Strict");
    let request = Request::builder().method(method).uri(uri).header("content-type", "application/json");
    Ok(request.body(serde_json::to_vec(object)?)?)
}

fn path(namespace: &Namespace<'_>) -> String {
    format!("/apis/sluice.dev/v1alpha1/namespaces/{}/consumergroups", namespace.name())
}

/// What the API server says to a document that is not there yet. Nothing is kept.
async fn created(client: &Client, path: &str, object: &Value) -> Result<Result<Value, kube::Error>> {
    Ok(client.request(strictly("POST", &format!("{path}?dryRun=All"), object)?).await)
}

/// What the API server says to a change. Nothing is left of it.
async fn changed(client: &Client, path: &str, name: &str, case: &Case) -> Result<Result<Value, kube::Error>> {
    let named = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["name"] = json!(name);
        object
    };
    let before = case.before.as_ref().context("it is not about a change")?;
    let before: Value = client.request(strictly("POST", path, &named(before))?).await?;
    let mut after = named(&case.object);
    after["metadata"]["resourceVersion"] = before["metadata"]["resourceVersion"].clone();
    let path = format!("{path}/{name}");
    let answer = client.request(strictly("PUT", &path, &after)?).await;
    client.request::<Value>(Request::delete(path).body(Vec::new())?).await?;
    Ok(answer)
}

/// `text` with every index of a list as `[]`.
fn without_indexes(text: &str) -> String {
    let mut parts = text.split('[');
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.trim_start_matches(|character: char| character.is_ascii_digit());
        out.push('[');
        out.push_str(if rest.starts_with(']') { rest } else { part });
    }
    out
}

/// Whether the API server has decided as the case says.
fn check(case: &Case, answer: Result<Value, kube::Error>) -> Result<()> {
    let Some(refusal) = &case.refused else {
        let accepted = answer.context("refused")?;
        // What it lets in, the operator reads.
        serde_json::from_value::<ConsumerGroup>(accepted).context("accepted, and not what the operator reads")?;
        return Ok(());
    };
    let status = match answer {
        Ok(_) => anyhow::bail!("accepted"),
        Err(kube::Error::Api(status)) => status,
        Err(error) => return Err(error.into()),
    };
    let said = without_indexes(&status.message);
    ensure!(status.code == 422, "refused with {}: {said}", status.code);
    ensure!(said.contains(refusal.field), "{} is not named: {said}", refusal.field);
    if let Some(message) = &refusal.message {
        ensure!(said.contains(message), "{message:?} is not said: {said}");
    }
    Ok(())
}

#[tokio::test]
async fn the_api_server_decides_every_case_as_this_process_does_and_says_the_same() {
    let namespace = namespace().await.unwrap();
    let (client, path) = (namespace.client(), path(&namespace));
    let cases: Vec<_> = fixtures::cases().into_iter().filter(|case| case.only != Some(Mode::File)).collect();
    assert!(cases.len() > 300, "{}", cases.len());
    let judged = stream::iter(cases.iter().enumerate()).map(|(number, case)| {
        let (client, path) = (&client, &path);
        async move {
            let answer = match case.before {
                None => created(client, path, &case.object).await,
                Some(_) => changed(client, path, &format!("change-{number}"), case).await,
            };
            answer.and_then(|answer| check(case, answer)).err().map(|error| format!("{}: {error:#}", case.name))
        }
    });
    let wrong: Vec<_> = judged.buffer_unordered(AT_A_TIME).filter_map(std::future::ready).collect().await;
    assert!(wrong.is_empty(), "{} of {} cases:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[tokio::test]
async fn a_default_of_the_api_server_is_that_of_the_types() {
    let namespace = namespace().await.unwrap();
    let mut group = fixtures::group();
    // Objects that are not there by default have defaults of their own.
    let role = json!({"secretRef": {"name": "other"}, "roleArn": "acs:ram::1:role/a"});
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"});
    group["spec"]["apiCredentials"] = json!({"assumeRole": role});
    group["spec"]["workload"] = json!({"targetRef": target});
    group["spec"]["subscriptions"] = json!({"products": [{"productKey": "a1", "messages": ["DeviceData"]}]});
    for group in [fixtures::group(), group] {
        let defaulted = created(&namespace.client(), &path(&namespace), &group).await.unwrap().unwrap();
        let read: ConsumerGroup = serde_json::from_value(group).unwrap();
        assert_eq!(defaulted["spec"], serde_json::to_value(&read.spec).unwrap());
        assert_eq!(defaulted["spec"]["delivery"]["leaseDuration"], "25s");
    }
}

#[tokio::test]
async fn a_misspelt_field_is_refused_and_named() {
    let namespace = namespace().await.unwrap();
    let mut group = fixtures::group();
    group["spec"]["delivery"] = json!({"leaseSeconds": 25});
    let file = json_file(&group).unwrap();
    let file = file.path().to_str().unwrap();
    let error = kubectl(&namespace, &["apply", "--filename", file]).unwrap_err().to_string();
    assert!(error.contains("unknown field \"spec.delivery.leaseSeconds\""), "{error}");
    // Where nobody asks for strictness, it is dropped and not kept for a later version to find.
    let arguments = ["create", "--validate=ignore", "--dry-run=server", "--output=json", "--filename", file];
    let created: Value = serde_json::from_str(&kubectl(&namespace, &arguments).unwrap()).unwrap();
    assert_eq!(created["spec"]["delivery"]["leaseDuration"], "25s");
    assert_eq!(created["spec"]["delivery"].get("leaseSeconds"), None);
}

fn json_file(object: &Value) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new().suffix(".json").tempfile()?;
    serde_json::to_writer(&file, object)?;
    Ok(file)
}

#[tokio::test]
async fn others_scale_a_group_in_mode_external_by_its_scale() {
    let namespace = namespace().await.unwrap();
    let mut group = fixtures::group();
    group["spec"]["scaling"] = json!({"mode": "External", "replicas": 2, "maxReplicas": 8});
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"});
    group["spec"]["workload"] = json!({"targetRef": target});
    let groups: Api<ConsumerGroup> = namespace.api();
    namespace.create::<ConsumerGroup>(group).await.unwrap();
    let status = json!({"status": {"replicas": 1, "selector": "app=worker"}});
    groups.patch_status("telemetry", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();

    let scale = groups.get_scale("telemetry").await.unwrap();
    let status = scale.status.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
    assert_eq!((status.replicas, status.selector.as_deref()), (1, Some("app=worker")));

    kubectl(&namespace, &["scale", "cg", "telemetry", "--replicas=5"]).unwrap();
    assert_eq!(groups.get("telemetry").await.unwrap().spec.scaling.replicas, Some(5));
    let negative = Patch::Merge(json!({"spec": {"replicas": -1}}));
    let error = groups.patch_scale("telemetry", &PatchParams::default(), &negative).await.unwrap_err().to_string();
    assert!(error.contains("spec.scaling.replicas"), "{error}");
    assert_eq!(groups.get("telemetry").await.unwrap().spec.scaling.replicas, Some(5));

    // In mode Operator it is nobody's to write.
    let operator = json!({"spec": {"scaling": {"mode": "Operator", "replicas": null}}});
    groups.patch("telemetry", &PatchParams::default(), &Patch::Merge(operator)).await.unwrap();
    let error = kubectl(&namespace, &["scale", "cg", "telemetry", "--replicas=5"]).unwrap_err().to_string();
    assert!(error.contains("must be left out in mode Operator"), "{error}");
}

/// A status with all that an operator can say.
fn full_status() -> ConsumerGroupStatus {
    let condition = |(type_, reason): (&ConditionType, Reason)| Condition {
        type_: type_.to_string(),
        status: "True".to_owned(),
        reason: reason.to_string(),
        message: "As it should be.".to_owned(),
        observed_generation: Some(1),
        last_transition_time: Time("2026-01-02T03:04:05Z".parse().unwrap()),
    };
    let reasons = [
        Reason::Consuming,
        Reason::Verified,
        Reason::InSync,
        Reason::Active,
        Reason::WithinCapacity,
        Reason::DrainsInTime,
    ];
    assert_eq!(reasons.len(), ConditionType::ALL.len());
    ConsumerGroupStatus {
        observed_generation: Some(1),
        conditions: ConditionType::ALL.iter().zip(reasons).map(condition).collect(),
        replicas: Some(3),
        selector: Some("app=worker".to_owned()),
        slots: Some(SlotsStatus::new(12, 64)),
        backlog: Some(BacklogStatus { messages: 4711, drain_eta: Some("12m".parse().unwrap()) }),
        rate: Some(987),
        plan: Some(Plan { replicas: 4, reason: "busy".to_owned() }),
        sidecars: Some(SidecarsStatus { connected: 2, standby: 1, outdated: 0 }),
    }
}

#[tokio::test]
async fn the_table_and_the_status_show_all_that_an_operator_says() {
    let namespace = namespace().await.unwrap();
    let groups: Api<ConsumerGroup> = namespace.api();
    let mut group = namespace.create::<ConsumerGroup>(fixtures::group()).await.unwrap();
    let table = kubectl(&namespace, &["get", "cg"]).unwrap();
    let columns: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(columns, ["NAME", "READY", "GROUP", "REPLICAS", "SLOTS", "BACKLOG", "RATE", "AGE"]);

    group.status = Some(full_status());
    let group = serde_json::to_value(&group).unwrap();
    let path = format!("{}/telemetry/status", path(&namespace));
    let kept: ConsumerGroup = namespace.client().request(strictly("PUT", &path, &group).unwrap()).await.unwrap();
    assert_eq!(kept.status, Some(full_status()));
    let table = kubectl(&namespace, &["get", "sluice", "--output=wide", "--no-headers"]).unwrap();
    let cells: Vec<_> = table.split_whitespace().collect();
    assert_eq!(cells[..8], ["telemetry", "True", "DEFAULT_GROUP", "3", "12/64", "4711", "987", "Consuming"]);

    // The status is nobody's who writes the object, and the object nobody's who writes the status.
    let mut other = group.clone();
    other["spec"]["delivery"] = json!({"maxInFlight": 7});
    other["status"]["replicas"] = json!(9);
    other["metadata"]["resourceVersion"] = json!(kept.metadata.resource_version);
    let kept: ConsumerGroup = namespace.client().request(strictly("PUT", &path, &other).unwrap()).await.unwrap();
    assert_eq!((kept.status.unwrap().replicas, kept.spec.delivery.max_in_flight), (Some(9), 1000));
    other["metadata"]["resourceVersion"] = json!(kept.metadata.resource_version);
    other["status"]["replicas"] = json!(1);
    let kept: ConsumerGroup =
        groups.replace("telemetry", &PostParams::default(), &serde_json::from_value(other).unwrap()).await.unwrap();
    assert_eq!((kept.status.unwrap().replicas, kept.spec.delivery.max_in_flight), (Some(9), 7));

    // Words that Kubernetes does not have are refused in the status as well.
    let mut condition = group["status"]["conditions"][0].clone();
    condition["status"] = json!("Perhaps");
    let perhaps = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    let answer = groups.patch_status("telemetry", &PatchParams::default(), &perhaps).await;
    let error = answer.unwrap_err().to_string();
    assert!(error.contains("status.conditions[0].status"), "{error}");
}

/// What `kubectl explain` says of a field, in one line; and the names of what is in it.
fn explained(namespace: &Namespace<'_>, field: &str) -> Result<(String, BTreeSet<String>)> {
    let text = kubectl(namespace, &["explain", field])?;
    let is_field = |line: &&str| line.starts_with("  ") && !line.starts_with("   ") && line.contains('<');
    let fields = text.lines().filter(is_field).filter_map(|line| line.split_whitespace().next());
    Ok((text.split_whitespace().collect::<Vec<_>>().join(" "), fields.map(str::to_owned).collect()))
}

#[tokio::test]
async fn kubectl_explains_every_field_to_someone_who_has_never_seen_it() {
    let namespace = namespace().await.unwrap();
    let (text, fields) = explained(&namespace, "cg.spec").unwrap();
    for words in [
        "What is wanted of a consumer group: where it is, who consumes it, and how.",
        "groupId <string> -required- The ID of the platform's consumer group",
        "instance <Object> -required-",
        "readiness <string> enum: Connected, Link, Process When a pod counts as ready.",
        "subscriptions <Object> Which messages of which products the group is to receive.",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    let top = ["apiCredentials", "connection", "credentials", "delivery", "groupId", "instance", "limits"];
    let top = top.into_iter().chain(["readiness", "scaling", "subscriptions", "workload"]);
    assert_eq!(fields, top.map(str::to_owned).collect());

    let (text, fields) = explained(&namespace, "cg.spec.scaling").unwrap();
    for words in [
        "How many pods the workload has.",
        "minReplicas <integer> The fewest pods, 0 to 128.",
        "mode <string> enum: Operator, External Who decides.",
        "targetSaturation <integer>",
        "Default: 70.",
    ] {
        assert!(text.contains(words), "{words:?} is not in {text}");
    }
    assert!(fields.contains("backlog") && fields.contains("behavior") && fields.contains("pause"), "{fields:?}");

    let (text, _) = explained(&namespace, "consumergroups.status.conditions").unwrap();
    assert!(text.contains("What is true of the group"), "{text}");
}
