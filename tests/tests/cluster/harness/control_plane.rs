//! The control plane itself: versions, accounts, the audit log, a server that goes away.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use sluice_tests::cluster::audit::{Mark, Request};
use sluice_tests::cluster::{Cluster, Options};
use sluice_tests::process::output_of;

use super::workload::{BOUND, OBEDIENT, images, is_ready, pod, pod_until, runs, shell};

#[tokio::test]
async fn kubectl_and_helm_talk_to_the_shared_control_plane() {
    let cluster = Cluster::shared().await.unwrap();
    let namespaces = output_of("kubectl", cluster.kubectl().args(["get", "namespaces", "-o", "name"])).unwrap();
    assert!(namespaces.contains("namespace/kube-system"), "{namespaces}");
    let releases = output_of("helm", cluster.helm().unwrap().args(["list", "--all-namespaces", "-o", "json"])).unwrap();
    assert_eq!(releases.trim(), "[]");
    let error = cluster.stop_api_server().await.unwrap_err().to_string();
    assert!(error.contains("other tests"), "{error}");
}

#[tokio::test]
async fn what_an_account_may_not_do_is_refused_and_what_it_writes_is_counted() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("audit").await.unwrap();
    let account = namespace.account("robot").await.unwrap();
    namespace
        .create::<Role>(json!({
            "metadata": {"name": "robot"},
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "patch"]}],
        }))
        .await
        .unwrap();
    namespace
        .create::<RoleBinding>(json!({
            "metadata": {"name": "robot"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "robot"},
            "subjects": [{"kind": "ServiceAccount", "name": "robot", "namespace": namespace.name()}],
        }))
        .await
        .unwrap();
    let client = account.client().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace.name());
    let map = serde_json::from_value(json!({"metadata": {"name": "map"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    let between = cluster.audit().mark(&namespace.client()).await.unwrap();
    for value in ["a", "b"] {
        let patch = Patch::Merge(json!({"data": {"key": value}}));
        maps.patch("map", &PatchParams::default(), &patch).await.unwrap();
    }
    maps.get("map").await.unwrap();
    let secrets: Api<Secret> = Api::namespaced(client, namespace.name());
    let refused = secrets.list(&ListParams::default()).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(error) if error.code == 403));

    cluster.audit().mark(&namespace.client()).await.unwrap();
    let refused = cluster.audit().refused(account.user()).unwrap();
    assert_eq!(refused.iter().map(Request::resource).collect::<Vec<_>>(), ["secrets"]);
    let writes = |since| cluster.audit().writes(account.user(), since).unwrap();
    assert_eq!(writes(Mark::BEGINNING), BTreeMap::from([("configmaps".to_owned(), 3)]));
    assert_eq!(writes(between), BTreeMap::from([("configmaps".to_owned(), 2)]));
    assert!(cluster.audit().refused("nobody").unwrap().is_empty());
}

#[tokio::test]
async fn the_api_server_can_stop_and_come_back_and_pods_go_on_meanwhile() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let namespace = cluster.namespace("outage").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    let spec = json!({"containers": [shell("app", OBEDIENT)]});
    namespace.create::<Pod>(pod("app", &spec)).await.unwrap();
    pod_until(&namespace, "app", "is ready", is_ready).await.unwrap();
    let process = kubelet.process_id("app", "app").unwrap();
    let pods: Api<Pod> = namespace.api();

    cluster.stop_api_server().await.unwrap();
    pods.get("app").await.unwrap_err();
    assert!(runs(process));
    cluster.start_api_server().await.unwrap();
    assert!(is_ready(&pods.get("app").await.unwrap()));
    assert_eq!(kubelet.process_id("app", "app").unwrap(), process);

    cluster.pause_api_server().unwrap();
    let unanswered = tokio::time::timeout(Duration::from_secs(1), pods.get("app")).await;
    assert!(unanswered.is_err(), "{unanswered:?}");
    cluster.resume_api_server().unwrap();
    tokio::time::timeout(BOUND, pods.get("app")).await.unwrap().unwrap();

    cluster.kill_api_server().unwrap();
    pods.get("app").await.unwrap_err();
    cluster.start_api_server().await.unwrap();
    pods.get("app").await.unwrap();
}
