//! Containers that crash, that are not ready, that can't start.

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::json;
use sluice_tests::cluster::Cluster;
use sluice_tests::cluster::kubelet::{Signal, Step};

use super::workload::{
    OBEDIENT, condition, container, images, is_ready, place, pod, pod_gone, pod_until, runs, shell, shell_with, steps,
};

#[tokio::test]
async fn a_container_that_is_killed_is_started_again_and_the_restart_is_counted() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("restart").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    let spec = json!({
        "initContainers": [shell_with("sidecar", OBEDIENT, json!({"restartPolicy": "Always"}))],
        "containers": [shell("app", OBEDIENT)],
    });
    namespace.create::<Pod>(pod("app", &spec)).await.unwrap();
    pod_until(&namespace, "app", "is ready", is_ready).await.unwrap();
    let processes = ["sidecar", "app"].map(|name| kubelet.process_id("app", name).unwrap());
    kubelet.kill_container("app", "sidecar", Signal::KILL).unwrap();
    let again =
        |pod: &Pod| is_ready(pod) && container(pod, "sidecar").is_some_and(|sidecar| sidecar.restart_count == 1);
    let restarted = pod_until(&namespace, "app", "is ready again", again).await.unwrap();
    let sidecar = container(&restarted, "sidecar").unwrap();
    assert_eq!(sidecar.last_state.unwrap().terminated.unwrap().exit_code, 137);
    assert_eq!(container(&restarted, "app").unwrap().restart_count, 0);
    assert!(!runs(processes[0]) && runs(processes[1]));
    assert_ne!(kubelet.process_id("app", "sidecar").unwrap(), processes[0]);
}

#[tokio::test]
async fn a_container_that_keeps_failing_backs_off_and_can_still_be_deleted() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("crash").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    let spec = json!({"containers": [shell("app", "echo oh dear; exit 3")]});
    namespace.create::<Pod>(pod("app", &spec)).await.unwrap();
    let backs_off = |pod: &Pod| {
        let waiting = container(pod, "app").and_then(|app| app.state?.waiting?.reason);
        waiting.as_deref() == Some("CrashLoopBackOff")
    };
    let looping = pod_until(&namespace, "app", "backs off", backs_off).await.unwrap();
    let app = container(&looping, "app").unwrap();
    assert!(app.restart_count >= 1);
    assert_eq!(app.last_state.unwrap().terminated.unwrap().exit_code, 3);
    assert!(!is_ready(&looping));
    assert!(kubelet.log("app", "app").starts_with("oh dear\noh dear\n"));
    namespace.api::<Pod>().delete("app", &DeleteParams::default()).await.unwrap();
    pod_gone(&namespace, "app").await.unwrap();
}

#[tokio::test]
async fn a_pod_is_ready_as_long_as_its_readiness_probes_pass() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("probe").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    let probe =
        json!({"exec": {"command": ["test", "-e", "/run/app/ready"]}, "periodSeconds": 1, "failureThreshold": 1});
    let spec = json!({
        "volumes": [{"name": "run", "emptyDir": {}}],
        "containers": [shell_with("app", OBEDIENT, json!({
            "volumeMounts": [{"name": "run", "mountPath": "/run/app"}],
            "readinessProbe": probe,
        }))],
    });
    namespace.create::<Pod>(pod("app", &spec)).await.unwrap();
    let started = |pod: &Pod| container(pod, "app").is_some_and(|app| app.started == Some(true));
    let unready = pod_until(&namespace, "app", "has started", started).await.unwrap();
    assert_eq!(condition(&unready, "Ready").as_deref(), Some("False"));
    let file = kubelet.path("app", "app", "/run/app/ready").unwrap();
    std::fs::write(&file, "").unwrap();
    pod_until(&namespace, "app", "is ready", is_ready).await.unwrap();
    std::fs::remove_file(&file).unwrap();
    pod_until(&namespace, "app", "is not ready", |pod| !is_ready(pod)).await.unwrap();
    assert!(runs(kubelet.process_id("app", "app").unwrap()));
}

#[tokio::test]
async fn an_application_waits_until_its_sidecar_has_started_up() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("startup").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    let probe = json!({"exec": {"command": ["test", "-e", "/run/app/up"]}, "periodSeconds": 1, "failureThreshold": 60});
    let spec = json!({
        "volumes": [{"name": "run", "emptyDir": {}}],
        "initContainers": [shell_with("sidecar", OBEDIENT, json!({
            "restartPolicy": "Always",
            "volumeMounts": [{"name": "run", "mountPath": "/run/app"}],
            "startupProbe": probe,
        }))],
        "containers": [shell("app", OBEDIENT)],
    });
    namespace.create::<Pod>(pod("app", &spec)).await.unwrap();
    let sidecar_runs =
        |pod: &Pod| container(pod, "sidecar").is_some_and(|sidecar| sidecar.state.unwrap().running.is_some());
    let early = pod_until(&namespace, "app", "has its sidecar", sidecar_runs).await.unwrap();
    let app = container(&early, "app").unwrap();
    assert_eq!(app.state.unwrap().waiting.unwrap().reason.as_deref(), Some("PodInitializing"));
    assert_eq!(early.status.unwrap().phase.as_deref(), Some("Pending"));
    std::fs::write(kubelet.path("app", "sidecar", "/run/app/up").unwrap(), "").unwrap();
    pod_until(&namespace, "app", "is ready", is_ready).await.unwrap();
    let steps = steps(&kubelet, "app");
    assert!(place(&steps, "sidecar StartedUp") < place(&steps, "app started"), "{steps:#?}");
}

#[tokio::test]
async fn a_failing_liveness_probe_has_the_container_started_again() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("liveness").await.unwrap();
    let kubelet = namespace.kubelet(images()).await.unwrap();
    // Nothing listens there.
    let probe = json!({"tcpSocket": {"port": 9}, "periodSeconds": 1, "failureThreshold": 1});
    let spec = json!({"containers": [shell_with("app", OBEDIENT, json!({"livenessProbe": probe}))]});
    namespace.create::<Pod>(pod("app", &spec)).await.unwrap();
    let restarted = |pod: &Pod| container(pod, "app").is_some_and(|app| app.restart_count > 0);
    pod_until(&namespace, "app", "was started again", restarted).await.unwrap();
    let unhealthy = |step: &Step| matches!(step, Step::Unhealthy(why) if why.starts_with("liveness probe: 127."));
    assert!(kubelet.journal().iter().any(|entry| unhealthy(&entry.step)), "{:#?}", kubelet.journal());
}

#[tokio::test]
async fn what_cant_start_says_why() {
    let cluster = Cluster::shared().await.unwrap();
    let namespace = cluster.namespace("refused").await.unwrap();
    let _kubelet = namespace.kubelet(images()).await.unwrap();
    let secret = json!([{"name": "ID", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "id"}}}]);
    let grpc = json!({"grpc": {"port": 1}});
    for (name, spec, reason, message) in [
        ("image", json!({"name": "app", "image": "unknown:1"}), "ErrImagePull", "unknown:1"),
        ("secret", shell_with("app", OBEDIENT, json!({"env": secret})), "CreateContainerConfigError", "Secret absent"),
        ("grpc", shell_with("app", OBEDIENT, json!({"livenessProbe": grpc})), "CreateContainerConfigError", "httpGet"),
        (
            "program",
            json!({"name": "app", "image": "shell", "command": ["/no/such/program"]}),
            "RunContainerError",
            "/no/such/program",
        ),
    ] {
        namespace.create::<Pod>(pod(name, &json!({"containers": [spec]}))).await.unwrap();
        let waiting = |pod: &Pod| container(pod, "app").and_then(|app| app.state?.waiting);
        let is_refused = |pod: &Pod| waiting(pod).is_some_and(|waiting| waiting.reason.as_deref() == Some(reason));
        let refused = pod_until(&namespace, name, "is refused", is_refused).await.unwrap();
        let said = waiting(&refused).unwrap().message.unwrap_or_default();
        assert!(said.contains(message), "{name}: {said}");
    }
}
