//! The chart as Helm renders it and a real API server takes it: its objects, its values, its life from install to
//! uninstall, and what rights it gives. The operator does not run here.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Result;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Namespace as NamespaceObject;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sluice_crds::{ConsumerGroup, fixtures};
use sluice_tests::cluster::{Cluster, Namespace, Options, until};
use sluice_tests::helm::Release;
use sluice_tests::process::output_of;
use tokio::sync::OnceCell;

mod rights;

const BOUND: Duration = Duration::from_secs(60);

/// The oldest Kubernetes that the chart is for.
const OLDEST: &str = "1.29.0";

/// Where the webhook is, in values that say it.
const WEBHOOK: &str = "https://10.0.0.5:9443/mutate";

/// The control plane of the tests of the chart. Elsewhere, webhooks that nobody serves would keep pods away.
async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    CLUSTER.get_or_try_init(|| Cluster::start(Options::default())).await.unwrap()
}

/// A manifest's objects in the words of `kubectl get`: what the API server has of them.
fn installed(cluster: &Cluster, manifest: &str) -> Result<Vec<Value>> {
    kubectl(cluster, manifest, &["get", "--ignore-not-found", "--output=json"])
}

/// What the API server would make of a manifest. It is strict: nothing in it may be unknown.
fn accepted(cluster: &Cluster, manifest: &str) -> Result<Vec<Value>> {
    let apply = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"];
    kubectl(cluster, manifest, &[&apply[..], &["--output=json"]].concat())
}

fn kubectl(cluster: &Cluster, manifest: &str, arguments: &[&str]) -> Result<Vec<Value>> {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    std::fs::write(file.path(), manifest)?;
    let output = output_of("kubectl", cluster.kubectl().args(arguments).arg("--filename").arg(file.path()))?;
    if output.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut output: Value = serde_json::from_str(&output)?;
    Ok(match output["items"].take() {
        Value::Array(items) => items,
        _ => vec![output],
    })
}

/// `KIND NAME`, where the release's own name is `*`.
fn names(release: &Release<'_>, objects: &[Value]) -> BTreeSet<String> {
    let name = |name: &str| match name.strip_prefix(release.name()) {
        Some(rest) if rest.is_empty() || rest.starts_with('-') => format!("*{rest}"),
        _ => name.to_owned(),
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let both = |object: &Value| format!("{} {}", text(&object["kind"]), name(&text(&object["metadata"]["name"])));
    objects.iter().map(both).collect()
}

fn object<'a>(objects: &'a [Value], kind: &str) -> &'a Value {
    objects.iter().find(|object| object["kind"] == kind).unwrap_or_else(|| panic!("there is no {kind}"))
}

fn arguments(objects: &[Value]) -> Vec<&str> {
    let container = &object(objects, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    container["args"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// What the chart consists of by itself.
const OBJECTS: [&str; 14] = [
    "ClusterRole *",
    "ClusterRole *-edit",
    "ClusterRole *-view",
    "ClusterRoleBinding *",
    "CustomResourceDefinition consumergroups.sluice.dev",
    "Deployment *",
    "MutatingWebhookConfiguration *",
    "PodDisruptionBudget *",
    "Role *",
    "RoleBinding *",
    "Service *-broker",
    "Service *-metrics",
    "Service *-webhook",
    "ServiceAccount *",
];

/// Renders the chart, and puts it to Helm's own check and to the API server. The objects are [`OBJECTS`] with those
/// `added`, and without those `removed`.
async fn rendered(prefix: &str, values: &Value, added: &[&str], removed: &[&str]) -> Vec<Value> {
    let cluster = cluster().await;
    let namespace = cluster.namespace(prefix).await.unwrap();
    let release = Release::new(cluster, namespace.name(), &format!("sluice-{}", namespace.name()));
    release.lint(values).unwrap();
    let objects = accepted(cluster, &release.template(OLDEST, values).unwrap()).unwrap();
    let expected = OBJECTS.iter().filter(|name| !removed.contains(name)).chain(added).map(|name| (*name).to_owned());
    assert_eq!(names(&release, &objects), expected.collect());
    // In other namespaces there is nothing but what is asked for.
    let is_in_one = |object: &&Value| !object["metadata"]["namespace"].is_null();
    for object in objects.iter().filter(is_in_one) {
        let at_home = object["metadata"]["namespace"] == release.namespace();
        let asked_for = object["metadata"]["name"].as_str().unwrap().ends_with("-credentials");
        assert!(at_home || asked_for, "{object}");
    }
    objects
}

#[tokio::test]
async fn by_itself_it_brings_two_replicas_which_sidecars_and_api_server_find_by_services() {
    let objects = rendered("plain", &json!({}), &[], &[]).await;
    let deployment = object(&objects, "Deployment");
    assert_eq!(deployment["spec"]["replicas"], 2);
    let release = deployment["metadata"]["name"].as_str().unwrap();
    let namespace = deployment["metadata"]["namespace"].as_str().unwrap();
    let broker = format!("{release}-broker.{namespace}.svc");
    let arguments = arguments(&objects);
    for expected in [
        format!("--broker-address={broker}:8443"),
        format!("--certificate-name={broker}"),
        format!("--certificate-name={release}-webhook.{namespace}.svc"),
        format!("--webhook-name={release}"),
    ] {
        assert!(arguments.contains(&expected.as_str()), "{expected} is not in {arguments:?}");
    }
    assert!(!arguments.iter().any(|argument| argument.starts_with("--allow-endpoint")));

    let webhook = &object(&objects, "MutatingWebhookConfiguration")["webhooks"][0];
    let service = &webhook["clientConfig"]["service"];
    assert_eq!((&service["name"], &service["path"]), (&json!(format!("{release}-webhook")), &json!("/mutate")));
    assert_eq!(webhook["failurePolicy"], "Fail");
    assert_eq!(webhook["objectSelector"]["matchExpressions"][0]["key"], "sluice.dev/consumer-group");
    let excluded = &webhook["namespaceSelector"]["matchExpressions"][0]["values"];
    assert_eq!(*excluded, json!(["kube-system", namespace]));
}

#[tokio::test]
async fn for_an_operator_outside_the_cluster_it_brings_all_but_the_pods() {
    let values = json!({
        "replicas": 0,
        "webhook": {"url": WEBHOOK},
        "broker": {"addresses": ["10.0.0.5:8443", "[fd00::5]:8443"]},
        "allowEndpoints": ["emulator:8443"],
    });
    let objects = rendered("outside", &values, &[], &["PodDisruptionBudget *", "Service *-webhook"]).await;
    assert_eq!(object(&objects, "Deployment")["spec"]["replicas"], 0);
    let client = &object(&objects, "MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"];
    assert_eq!(*client, json!({"url": WEBHOOK}));
    // What the operator outside is to be given as well.
    let arguments = arguments(&objects);
    let given = |name: &str| arguments.iter().filter_map(|it| it.strip_prefix(name)).collect::<Vec<_>>();
    assert_eq!(given("--broker-address="), ["10.0.0.5:8443", "[fd00::5]:8443"]);
    assert_eq!(given("--certificate-name="), ["10.0.0.5", "fd00::5"]);
    assert_eq!(given("--allow-endpoint="), ["emulator:8443"]);
}

#[tokio::test]
async fn credentials_of_some_namespaces_only_take_roles_in_these() {
    let cluster = cluster().await;
    let plants = [cluster.namespace("plant").await.unwrap(), cluster.namespace("plant").await.unwrap()];
    let values = json!({
        "credentials": {"namespaces": plants.each_ref().map(Namespace::name)},
        "workloadIdentity": {"enabled": true},
    });
    let added = ["Role *-credentials", "RoleBinding *-credentials"];
    let objects = rendered("limited", &values, &added, &[]).await;
    for plant in &plants {
        let here = objects.iter().filter(|object| object["metadata"]["namespace"] == plant.name());
        assert_eq!(here.map(|object| object["kind"].as_str().unwrap()).collect::<Vec<_>>(), ["Role", "RoleBinding"]);
    }
}

/// The Prometheus operator's definition, as far as the chart needs it.
async fn define_pod_monitors(cluster: &Cluster) -> Result<()> {
    let text = json!({"type": "string"});
    let texts = json!({"type": "object", "additionalProperties": text});
    let endpoint = json!({"type": "object", "properties": {"port": text, "interval": text}});
    let spec = json!({"type": "object", "properties": {
        "selector": {"type": "object", "properties": {"matchLabels": texts}},
        "podMetricsEndpoints": {"type": "array", "items": endpoint},
    }});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "podmonitors.monitoring.coreos.com"},
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": {"kind": "PodMonitor", "plural": "podmonitors"},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}},
            }],
        },
    });
    kubectl(cluster, &definition.to_string(), &["apply", "--server-side", "--output=json"])?;
    until("the API server knows PodMonitors", BOUND, || async {
        Ok(output_of("kubectl", cluster.kubectl().args(["get", "podmonitors.monitoring.coreos.com"])).ok())
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn everything_that_can_be_switched_on_is_taken() {
    define_pod_monitors(cluster().await).await.unwrap();
    let digest = format!("sha256:{}", "0".repeat(64));
    let values = json!({
        "image": {"repository": "registry.example:5000/operator", "digest": digest, "pullPolicy": "Always"},
        "sidecar": {"image": {"repository": "registry.example:5000/sidecar", "tag": "v1_2"}},
        "imagePullSecrets": [{"name": "registry"}],
        "workloadIdentity": {"enabled": true},
        "scaling": {"extraTargets": [{"apiGroup": "argoproj.io", "resource": "rollouts"}]},
        "serviceAccount": {"name": "watcher", "annotations": {"a.example/b": "c"}},
        "log": {"level": "info,sluice_operator=debug", "format": "text"},
        "metrics": {"podMonitor": {"enabled": true, "interval": "15s", "labels": {"release": "prometheus"}}},
        "networkPolicy": {"enabled": true},
        "podAnnotations": {"a.example/d": "true"},
        "podLabels": {"team": "iot"},
        "priorityClassName": "system-cluster-critical",
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}]},
        ]}}},
        "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example:3128"}],
    });
    let added = ["NetworkPolicy *", "PodMonitor *", "ServiceAccount watcher"];
    let objects = rendered("all", &values, &added, &["ServiceAccount *"]).await;
    let pod = &object(&objects, "Deployment")["spec"]["template"];
    assert_eq!(pod["metadata"]["labels"]["team"], "iot");
    assert_eq!(pod["spec"]["serviceAccountName"], "watcher");
    assert_eq!(pod["spec"]["containers"][0]["image"], format!("registry.example:5000/operator@{digest}"));
    assert_eq!(pod["spec"]["tolerations"][0]["key"], "dedicated");
    assert_eq!(pod["spec"]["affinity"].get("podAntiAffinity"), None);
    assert!(arguments(&objects).contains(&"--sidecar-image=registry.example:5000/sidecar:v1_2"));
    let monitor = object(&objects, "PodMonitor");
    assert_eq!(monitor["metadata"]["labels"]["release"], "prometheus");
    assert_eq!(monitor["spec"]["podMetricsEndpoints"], json!([{"port": "metrics", "interval": "15s"}]));
    let matched = monitor["spec"]["selector"]["matchLabels"].as_object().unwrap();
    assert!(matched.iter().all(|(label, value)| pod["metadata"]["labels"][label] == *value));
}

#[tokio::test]
async fn everything_that_can_be_switched_off_is_gone() {
    let values = json!({
        "crds": {"install": false},
        "rbac": {"aggregate": false},
        "serviceAccount": {"create": false, "name": "theirs"},
        "metrics": {"service": {"enabled": false}},
        "podDisruptionBudget": {"enabled": false},
        "resources": null,
    });
    let removed = [
        "ClusterRole *-edit",
        "ClusterRole *-view",
        "CustomResourceDefinition consumergroups.sluice.dev",
        "PodDisruptionBudget *",
        "Service *-metrics",
        "ServiceAccount *",
    ];
    let objects = rendered("few", &values, &[], &removed).await;
    assert_eq!(object(&objects, "Deployment")["spec"]["template"]["spec"]["serviceAccountName"], "theirs");
    assert_eq!(object(&objects, "ClusterRoleBinding")["subjects"][0]["name"], "theirs");
}

#[tokio::test]
async fn names_of_any_length_make_objects() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("names").await.unwrap();
    // Helm's longest name for a release has 53 characters.
    let longest = format!("r{}", "a".repeat(52));
    let release = Release::new(cluster, namespace.name(), &longest);
    for values in [
        json!({}),
        json!({"nameOverride": "n".repeat(50)}),
        json!({"fullnameOverride": format!("{}-x", "f".repeat(48))}),
    ] {
        let objects = accepted(cluster, &release.template(OLDEST, &values).unwrap()).unwrap();
        assert_eq!(objects.len(), OBJECTS.len());
    }
}

#[tokio::test]
async fn values_that_cannot_be_are_refused_and_their_place_is_named() {
    let release = Release::new(cluster().await, "default", "refused");
    let digest = json!({"image": {"digest": "sha256:1"}});
    for (values, words) in [
        (json!({"replica": 1}), "additional properties 'replica' not allowed"),
        (json!({"replicas": -1}), "'/replicas': minimum: got -1, want 0"),
        (json!({"replicas": 11}), "'/replicas': maximum: got 11, want 10"),
        (json!({"replicas": "two"}), "'/replicas': got string, want integer"),
        (json!({"nameOverride": "Sluice"}), "'/nameOverride'"),
        (json!({"fullnameOverride": "s".repeat(51)}), "'/fullnameOverride'"),
        (json!({"fullnameOverride": "1st"}), "'/fullnameOverride'"),
        (json!({"image": {"repository": ""}}), "'/image/repository'"),
        (json!({"image": {"repository": "a@sha256:1"}}), "'/image/repository'"),
        (json!({"image": {"tag": "a b"}}), "'/image/tag'"),
        (digest.clone(), "'/image/digest'"),
        (json!({"sidecar": digest}), "'/sidecar/image/digest'"),
        (json!({"image": {"pullPolicy": "Sometimes"}}), "'/image/pullPolicy': value must be one of"),
        (json!({"imagePullSecrets": ["registry"]}), "'/imagePullSecrets/0': got string, want object"),
        (json!({"allowEndpoints": ["https://a.example"]}), "'/allowEndpoints/0'"),
        (json!({"credentials": {"namespaces": ["Plant"]}}), "'/credentials/namespaces/0'"),
        (json!({"credentials": {"namespaces": ["a", "a"]}}), "'/credentials/namespaces'"),
        (json!({"workloadIdentity": {"enabled": "yes"}}), "'/workloadIdentity/enabled': got string, want boolean"),
        (json!({"scaling": {"extraTargets": [{"resource": "rollouts"}]}}), "missing property 'apiGroup'"),
        (
            json!({"scaling": {"extraTargets": [{"apiGroup": "a.example", "resource": "*"}]}}),
            "'/scaling/extraTargets/0/resource'",
        ),
        (
            json!({"scaling": {"extraTargets": [{"apiGroup": "*", "resource": "rollouts"}]}}),
            "'/scaling/extraTargets/0/apiGroup'",
        ),
        (json!({"broker": {"port": 80}}), "'/broker/port': minimum"),
        (json!({"broker": {"addresses": ["10.0.0.5"]}}), "'/broker/addresses/0'"),
        (json!({"webhook": {"url": "http://10.0.0.5/mutate"}}), "'/webhook/url'"),
        (json!({"webhook": {"url": "https://10.0.0.5"}}), "'/webhook/url'"),
        (json!({"webhook": {"failurePolicy": "Never"}}), "'/webhook/failurePolicy': value must be one of"),
        (json!({"webhook": {"timeoutSeconds": 31}}), "'/webhook/timeoutSeconds': maximum"),
        (json!({"log": {"format": "xml"}}), "'/log/format': value must be one of"),
        (json!({"metrics": {"podMonitor": {"interval": "often"}}}), "'/metrics/podMonitor/interval'"),
        (json!({"extraEnv": [{"value": "nameless"}]}), "'/extraEnv/0': missing property 'name'"),
    ] {
        let error = release.template(OLDEST, &values).expect_err(&values.to_string()).to_string();
        assert!(error.contains("values don't meet the specifications of the schema"), "{values}: {error}");
        assert!(error.contains(words), "{values}: {words:?} is not in {error}");
    }
    // And so is a Kubernetes without native sidecars.
    let error = release.template("1.28.9", &json!({})).unwrap_err().to_string();
    assert!(error.contains("requires kubeVersion: >=1.29.0-0"), "{error}");
}

/// The objects without what others write: the controllers of Kubernetes do at any time.
fn contents(objects: &[Value]) -> Vec<Value> {
    let mut objects = objects.to_vec();
    for object in &mut objects {
        object["status"].take();
        object["metadata"]["resourceVersion"].take();
    }
    objects
}

#[tokio::test]
async fn it_lives_from_install_to_uninstall_and_leaves_the_groups_alone() {
    let cluster = cluster().await;
    let namespace = cluster.namespace("life").await.unwrap();
    let client = namespace.client();
    // What the strictest namespace admits, every namespace does.
    let label = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let namespaces: Api<NamespaceObject> = Api::all(client.clone());
    namespaces.patch(namespace.name(), &PatchParams::default(), &Patch::Merge(label)).await.unwrap();

    let release = Release::new(cluster, namespace.name(), "sluice");
    let notes = release.install(&json!({})).unwrap();
    assert!(notes.contains(&format!("is installed in the namespace {}", namespace.name())), "{notes}");
    let manifest = release.manifest().unwrap();
    let objects = installed(cluster, &manifest).unwrap();
    assert_eq!(names(&release, &objects).len(), OBJECTS.len());
    until("there are two pods of the operator", BOUND, || async {
        let pods = namespace.pods("app.kubernetes.io/instance=sluice,app.kubernetes.io/name=sluice").await?;
        Ok((pods.len() == 2).then_some(()))
    })
    .await
    .unwrap();
    let groups: Api<ConsumerGroup> = namespace.api();
    until("ConsumerGroups are served", BOUND, || async {
        Ok(groups.list(&kube::api::ListParams::default()).await.ok())
    })
    .await
    .unwrap();
    let group = namespace.create::<ConsumerGroup>(fixtures::group()).await.unwrap();

    let deployments: Api<Deployment> = namespace.api();
    until("the Deployment has been looked at", BOUND, || async {
        let status = deployments.get("sluice").await?.status.unwrap_or_default();
        Ok((status.observed_generation == Some(1)).then_some(()))
    })
    .await
    .unwrap();
    let before = installed(cluster, &manifest).unwrap();
    release.upgrade(&json!({})).unwrap();
    let after = installed(cluster, &manifest).unwrap();
    assert_eq!(contents(&before), contents(&after), "an upgrade to the same changes nothing");
    release.upgrade(&json!({"replicas": 1, "log": {"level": "debug"}})).unwrap();
    let deployment = deployments.get("sluice").await.unwrap();
    assert_eq!((deployment.spec.unwrap().replicas, deployment.metadata.generation), (Some(1), Some(2)));
    let after = installed(cluster, &manifest).unwrap();
    let gone: Vec<_> = names(&release, &before).difference(&names(&release, &after)).cloned().collect();
    assert_eq!(gone, ["PodDisruptionBudget *"], "one replica alone is never kept from going");

    release.uninstall().unwrap();
    let left = installed(cluster, &manifest).unwrap();
    assert_eq!(Vec::from_iter(names(&release, &left)), ["CustomResourceDefinition consumergroups.sluice.dev"]);
    assert_eq!(groups.get("telemetry").await.unwrap().metadata.uid, group.metadata.uid);

    // It can come back to what it has left.
    release.install(&json!({})).unwrap();
    assert_eq!(names(&release, &installed(cluster, &manifest).unwrap()).len(), OBJECTS.len());
    assert_eq!(groups.get("telemetry").await.unwrap().metadata.uid, group.metadata.uid);
    release.uninstall().unwrap();
}
