//! Pods from the scheduler's decision to the deletion of their objects.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use sluice_tests::cluster::{Cluster, until};

use super::workload::{
    BOUND, OBEDIENT, container, deployment, images, is_ready, names, node, place, pod, pod_gone, pod_until, ready_pods,
    runs, shell, shell_with, steps,
};

#[tokio::test]
async fn a_deployment_becomes_ready_and_scaling_down_ends_its_processes() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("deployment").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    let spec = json!({"containers": [shell("app", OBEDIENT)]});
    namespace.create::<Deployment>(deployment("app", 2, &spec)).await.unwrap();
    let pods = ready_pods(&namespace, "app", 2).await.unwrap();
    let addresses: Vec<_> = pods.iter().filter_map(|pod| pod.status.as_ref()?.pod_ip.clone()).collect();
    assert!(addresses.len() == 2 && addresses[0] != addresses[1], "{addresses:?}");
    assert!(pods.iter().all(|pod| node(pod) == kubelet.node()));
    let process = |name: &String| kubelet.process_id(name, "app").unwrap();
    let processes: Vec<_> = names(&pods).iter().map(process).collect();
    assert!(processes.iter().all(|&process| runs(process)));

    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    namespace.api::<Deployment>().patch_scale("app", &PatchParams::default(), &scale).await.unwrap();
    let left = names(&ready_pods(&namespace, "app", 1).await.unwrap());
    for (name, process) in names(&pods).iter().zip(processes) {
        assert_eq!(runs(process), left.contains(name), "{name}");
    }
}

#[tokio::test]
async fn sixty_four_pods_with_sidecars_roll_and_as_many_are_ready_at_every_look() {
    const PODS: usize = 64;
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("rollout").await.unwrap();
    let _kubelet = namespace.kubelet(images()).await.unwrap();
    let spec = |revision: &str| {
        let revision = json!([{"name": "REVISION", "value": revision}]);
        json!({
            "initContainers": [shell_with("sidecar", "exec sleep 600", json!({"restartPolicy": "Always"}))],
            "containers": [shell_with("app", "exec sleep 600", json!({"env": revision}))],
            "terminationGracePeriodSeconds": 5,
        })
    };
    let mut workload = deployment("app", 64, &spec("1"));
    workload["spec"]["strategy"] = json!({"rollingUpdate": {"maxUnavailable": 0, "maxSurge": "25%"}});
    namespace.create::<Deployment>(workload).await.unwrap();
    let old = names(&ready_pods(&namespace, "app", PODS).await.unwrap());
    let patch = Patch::Merge(json!({"spec": {"template": {"spec": spec("2")}}}));
    namespace.api::<Deployment>().patch("app", &PatchParams::default(), &patch).await.unwrap();
    until("all pods are of the new revision", BOUND, || async {
        let pods = namespace.pods("app=app").await?;
        let ready = pods.iter().filter(|pod| is_ready(pod) && pod.metadata.deletion_timestamp.is_none()).count();
        assert!(ready >= PODS, "{ready}");
        Ok((pods.len() == PODS && names(&pods).iter().all(|name| !old.contains(name))).then_some(()))
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn every_pre_stop_hook_runs_at_once_and_sidecars_end_after_the_application_the_last_one_first() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("order").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    // The hooks of both wait for each other: they only end if they run side by side.
    let meet = |own: &str, other: &str| {
        let script = format!("touch /meet/{own}; until [ -e /meet/{other} ]; do sleep 0.05; done");
        json!({"preStop": {"exec": {"command": ["sh", "-c", script]}}})
    };
    let mounts = json!([{"name": "meet", "mountPath": "/meet"}]);
    let spec = json!({
        "terminationGracePeriodSeconds": 60,
        "volumes": [{"name": "meet", "emptyDir": {}}],
        "initContainers": [
            shell("first", "echo prepared"),
            shell_with("outer", OBEDIENT, json!({
                "restartPolicy": "Always", "volumeMounts": mounts, "lifecycle": meet("outer", "app"),
                "startupProbe": {"exec": {"command": ["true"]}, "periodSeconds": 1},
            })),
            shell_with("inner", OBEDIENT, json!({"restartPolicy": "Always"})),
        ],
        "containers": [shell_with("app", OBEDIENT, json!({"volumeMounts": mounts, "lifecycle": meet("app", "outer")}))],
    });
    namespace.create::<Pod>(pod("app", &spec)).await.unwrap();
    pod_until(&namespace, "app", "is ready", is_ready).await.unwrap();
    namespace.api::<Pod>().delete("app", &DeleteParams::default()).await.unwrap();
    pod_gone(&namespace, "app").await.unwrap();

    assert_eq!(kubelet.log("app", "first"), "prepared\n");
    let steps = steps(&kubelet, "app");
    let order = |names: &[&str]| {
        let places: Vec<_> = names.iter().map(|name| place(&steps, name)).collect();
        assert!(places.is_sorted(), "{names:?} in {steps:#?}");
    };
    order(&["first started", "first Ended(0)", "outer started", "outer StartedUp", "inner started", "app started"]);
    order(&["app PreStop", "app preStopped", "app Terminate", "app Ended(0)", "inner Terminate", "inner Ended(0)"]);
    order(&["inner Ended(0)", "outer Terminate", "outer Ended(0)"]);
    order(&["outer PreStop", "app preStopped"]);
    assert!(!steps.iter().any(|step| step.ends_with("Kill")), "{steps:#?}");
}

#[tokio::test]
async fn what_does_not_end_in_its_grace_period_is_killed_and_reported_before_the_object_goes() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("stubborn").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    let mut object = pod(
        "app",
        &json!({
            "terminationGracePeriodSeconds": 1,
            "containers": [shell("app", "trap '' TERM; while :; do sleep 0.05; done")],
        }),
    );
    // Keeps the object in sight when the kubelet has deleted it.
    object["metadata"]["finalizers"] = json!(["sluice.dev/test"]);
    namespace.create::<Pod>(object).await.unwrap();
    pod_until(&namespace, "app", "is ready", is_ready).await.unwrap();
    namespace.api::<Pod>().delete("app", &DeleteParams::default()).await.unwrap();
    let ended = pod_until(&namespace, "app", "has ended", |pod| pod.metadata.deletion_grace_period_seconds == Some(0))
        .await
        .unwrap();
    let state = container(&ended, "app").unwrap().state.unwrap().terminated.unwrap();
    assert_eq!((state.exit_code, state.reason.as_deref()), (137, Some("Error")));
    assert_eq!(ended.status.unwrap().phase.as_deref(), Some("Failed"));
    let steps = steps(&kubelet, "app");
    assert!(place(&steps, "app Terminate") < place(&steps, "app Kill"));

    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    namespace.api::<Pod>().patch("app", &PatchParams::default(), &patch).await.unwrap();
    pod_gone(&namespace, "app").await.unwrap();
}

#[tokio::test]
async fn a_pod_that_runs_to_completion_succeeds_and_takes_its_sidecar_with_it() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("job").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    let spec = json!({
        "restartPolicy": "Never",
        "initContainers": [shell_with("sidecar", OBEDIENT, json!({"restartPolicy": "Always"}))],
        "containers": [shell("app", "echo done")],
    });
    namespace.create::<Pod>(pod("app", &spec)).await.unwrap();
    let is_over = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded");
    pod_until(&namespace, "app", "has succeeded", is_over).await.unwrap();
    let steps = steps(&kubelet, "app");
    assert!(place(&steps, "app Ended(0)") < place(&steps, "sidecar Terminate"), "{steps:#?}");
}

#[tokio::test]
async fn volumes_are_folders_that_follow_their_objects_and_mount_paths_lead_there() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("volumes").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    namespace.create::<Secret>(json!({"metadata": {"name": "key"}, "stringData": {"id": "old"}})).await.unwrap();
    let spec = json!({
        "volumes": [
            {"name": "shared", "emptyDir": {"medium": "Memory"}},
            {"name": "key", "secret": {"secretName": "key"}},
            {"name": "info", "downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
        ],
        "initContainers": [shell_with("writer", "echo $GREETING from $POD_NAME at $POD_IP > $FILE", json!({
            "env": [
                {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                {"name": "GREETING", "value": "hello"},
                {"name": "FILE", "value": "/out/greeting"},
            ],
            "volumeMounts": [{"name": "shared", "mountPath": "/out"}],
        }))],
        "containers": [shell_with("app", &format!("cat /in/greeting; cat /key/id; {OBEDIENT}"), json!({
            "volumeMounts": [
                {"name": "shared", "mountPath": "/in"},
                {"name": "key", "mountPath": "/key"},
                {"name": "info", "mountPath": "/info"},
            ],
        }))],
    });
    namespace.create::<Pod>(pod("app", &spec)).await.unwrap();
    let ready = pod_until(&namespace, "app", "is ready", is_ready).await.unwrap();
    let address = ready.status.unwrap().pod_ip.unwrap();
    let wanted = format!("hello from app at {address}\nold");
    until("the container has read", BOUND, || async { Ok((kubelet.log("app", "app") == wanted).then_some(())) })
        .await
        .unwrap();
    let read = |path: &str| std::fs::read_to_string(kubelet.path("app", "app", path).unwrap()).unwrap();
    assert_eq!(read("/info/labels"), "app=\"app\"");

    let patch = Patch::Merge(json!({"stringData": {"id": "new"}}));
    namespace.api::<Secret>().patch("key", &PatchParams::default(), &patch).await.unwrap();
    until("the Secret's change has come", BOUND, || async { Ok((read("/key/id") == "new").then_some(())) })
        .await
        .unwrap();
    let folder = kubelet.path("app", "app", "/in").unwrap();
    namespace.api::<Pod>().delete("app", &DeleteParams::default()).await.unwrap();
    pod_gone(&namespace, "app").await.unwrap();
    until("the pod's folders are gone", BOUND, || async { Ok((!folder.exists()).then_some(())) }).await.unwrap();
}

async fn review(client: &Client, token: &str, audience: &str) -> TokenReviewStatus {
    let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences: Some(vec![audience.to_owned()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    Api::all(client.clone()).create(&PostParams::default(), &review).await.unwrap().status.unwrap()
}

#[tokio::test]
async fn a_projected_token_is_the_pods_own_for_its_audience_alone_and_dies_with_the_pod() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("token").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    let spec = json!({
        "volumes": [{"name": "token", "projected": {"sources": [
            {"serviceAccountToken": {"audience": "sluice.dev", "path": "token", "expirationSeconds": 600}},
        ]}}],
        "containers": [shell_with("app", OBEDIENT, json!({
            "volumeMounts": [{"name": "token", "mountPath": "/var/run/secrets/sluice.dev", "readOnly": true}],
        }))],
    });
    namespace.create::<Pod>(pod("app", &spec)).await.unwrap();
    let ready = pod_until(&namespace, "app", "is ready", is_ready).await.unwrap();
    let path = kubelet.path("app", "app", "/var/run/secrets/sluice.dev/token").unwrap();
    let token = std::fs::read_to_string(path).unwrap();

    let client = namespace.client();
    let good = review(&client, &token, "sluice.dev").await;
    assert_eq!(good.authenticated, Some(true), "{:?}", good.error);
    assert_eq!(good.audiences, Some(vec!["sluice.dev".to_owned()]));
    let user = good.user.unwrap();
    assert_eq!(user.username, Some(format!("system:serviceaccount:{}:default", namespace.name())));
    let extra = user.extra.unwrap();
    assert_eq!(extra["authentication.kubernetes.io/pod-name"], ["app"]);
    assert_eq!(extra["authentication.kubernetes.io/pod-uid"], [ready.uid().unwrap()]);
    assert_ne!(review(&client, &token, "another").await.authenticated, Some(true));

    namespace.api::<Pod>().delete("app", &DeleteParams::default()).await.unwrap();
    pod_gone(&namespace, "app").await.unwrap();
    until("the token is refused", BOUND, || async {
        Ok((review(&client, &token, "sluice.dev").await.authenticated != Some(true)).then_some(()))
    })
    .await
    .unwrap();
}
