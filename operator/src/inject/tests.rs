use serde_json::{Value, json};

use super::*;

pub(super) fn settings() -> Settings {
    Settings {
        image: "ghcr.io/sluice-dev/sluice-sidecar:0.1.0".into(),
        image_pull_policy: None,
        brokers: vec!["sluice-broker.sluice-system.svc:8443".into()],
        broker_ca: "-----BEGIN CERTIFICATE-----\nMA==\n-----END CERTIFICATE-----\n".into(),
        admin_port: ADMIN_PORT,
        resources: Resources::default(),
    }
}

/// What the pod becomes, and the warnings.
pub(super) fn injected(pod: &Value) -> Result<(Value, Vec<String>), Refusal> {
    let Injection { patch, warnings } = inject(&serde_json::from_value(pod.clone()).unwrap(), &settings())?;
    let mut pod = pod.clone();
    if let Some(patch) = patch {
        json_patch::patch(&mut pod, &patch).unwrap();
    }
    Ok((pod, warnings))
}

fn pod(metadata: &Value, spec: &Value) -> Value {
    let mut metadata = metadata.clone();
    metadata["name"] = json!("worker-1");
    metadata["labels"] = json!({"sluice.dev/consumer-group": "telemetry"});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

fn simple() -> Value {
    pod(&json!({}), &json!({"containers": [{"name": "app", "image": "app:1"}]}))
}

fn changed(change: impl FnOnce(&mut Value)) -> Value {
    let mut pod = simple();
    change(&mut pod);
    pod
}

fn refusal(pod: &Value) -> String {
    injected(pod).unwrap_err().to_string()
}

#[test]
fn a_labelled_pod_gets_the_sidecar_the_volumes_and_the_address() {
    let (pod, warnings) = injected(&simple()).unwrap();
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(pod["metadata"]["annotations"]["sluice.dev/broker-ca"], settings().broker_ca);
    let expected = json!({
        "name": "sluice",
        "image": "ghcr.io/sluice-dev/sluice-sidecar:0.1.0",
        "args": [
            "run", "--group", "telemetry", "--broker", "sluice-broker.sluice-system.svc:8443",
            "--broker-ca", "/var/run/secrets/sluice.dev/ca.pem",
            "--token-file", "/var/run/secrets/sluice.dev/token",
            "--listen", "unix:///run/sluice/sluice.sock", "--admin", "$(POD_IP):9465",
        ],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
        "lifecycle": {"preStop": {"exec": {"command": [
            "/sluice-sidecar", "drain", "--listen", "unix:///run/sluice/sluice.sock", "--timeout", "25",
        ]}}},
        "ports": [{"name": "sluice-admin", "containerPort": 9465, "protocol": "TCP"}],
        "readinessProbe": {
            "httpGet": {"path": "/readyz", "port": 9465}, "periodSeconds": 2, "failureThreshold": 2, "timeoutSeconds": 2,
        },
        "restartPolicy": "Always",
        "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true,
            "runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"},
        },
        "startupProbe": {
            "httpGet": {"path": "/healthz", "port": 9465}, "periodSeconds": 1, "failureThreshold": 60, "timeoutSeconds": 2,
        },
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            {"name": "sluice-socket", "mountPath": "/run/sluice"},
            {"name": "sluice-identity", "mountPath": "/var/run/secrets/sluice.dev", "readOnly": true},
            {"name": "sluice-identity", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount", "readOnly": true},
        ],
    });
    assert_eq!(pod["spec"]["initContainers"], json!([expected]));
    let expected = json!([
        {"name": "sluice-socket", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
        {"name": "sluice-identity", "projected": {"sources": [
            {"serviceAccountToken": {"audience": "sluice.dev", "expirationSeconds": 3600, "path": "token"}},
            {"downwardAPI": {"items": [{"path": "ca.pem", "fieldRef": {
                "apiVersion": "v1", "fieldPath": "metadata.annotations['sluice.dev/broker-ca']",
            }}]}},
        ]}},
    ]);
    assert_eq!(pod["spec"]["volumes"], expected);
    let expected = json!([{
        "name": "app", "image": "app:1",
        "env": [{"name": "SLUICE_ADDR", "value": "unix:///run/sluice/sluice.sock"}],
        "volumeMounts": [{"name": "sluice-socket", "mountPath": "/run/sluice", "readOnly": true}],
    }]);
    assert_eq!(pod["spec"]["containers"], expected);
}

#[test]
fn a_pod_that_does_not_ask_for_a_sidecar_is_left_alone() {
    let unlabelled = changed(|pod| pod["metadata"]["labels"] = json!({"app": "x"}));
    let declined = changed(|pod| pod["metadata"]["annotations"] = json!({"sluice.dev/inject": "false"}));
    for pod in [unlabelled, declined, changed(|pod| pod["metadata"]["labels"] = Value::Null)] {
        assert_eq!(injected(&pod), Ok((pod.clone(), Vec::new())));
    }
}

#[test]
fn a_sidecar_written_by_hand_is_left_alone() {
    let by_hand = json!([{"name": "sluice", "image": "mine", "restartPolicy": "Always"}]);
    let native = changed(|pod| pod["spec"]["initContainers"] = by_hand);
    let plain = changed(|pod| pod["spec"]["containers"] = json!([{"name": "app"}, {"name": "sluice"}]));
    for pod in [native, plain] {
        assert_eq!(injected(&pod), Ok((pod.clone(), Vec::new())));
    }
}

#[test]
fn init_containers_keep_their_order_and_come_first() {
    let init = json!([{"name": "migrate"}, {"name": "proxy", "restartPolicy": "Always"}]);
    let (pod, _) = injected(&changed(|pod| pod["spec"]["initContainers"] = init.clone())).unwrap();
    let found = pod["spec"]["initContainers"].as_array().unwrap();
    assert_eq!(found[..2], *init.as_array().unwrap());
    assert_eq!((found.len(), &found[2]["name"]), (3, &json!("sluice")));
}

#[test]
fn volumes_and_places_that_are_taken_stay_their_owners() {
    let volumes = json!([{"name": "sluice-socket", "emptyDir": {}}, {"name": "sluice-identity", "emptyDir": {}}]);
    let (pod, _) = injected(&changed(|pod| {
        pod["spec"]["volumes"] = volumes.clone();
        pod["spec"]["containers"][0]["volumeMounts"] = json!([{"name": "sluice-socket", "mountPath": "/run/sluice/"}]);
    }))
    .unwrap();
    let names: Vec<&str> =
        pod["spec"]["volumes"].as_array().unwrap().iter().filter_map(|volume| volume["name"].as_str()).collect();
    assert_eq!(names, ["sluice-socket", "sluice-identity", "sluice-socket-2", "sluice-identity-2"]);
    let app = &pod["spec"]["containers"][0];
    let expected = json!([
        {"name": "sluice-socket", "mountPath": "/run/sluice/"},
        {"name": "sluice-socket-2", "mountPath": "/run/sluice-2", "readOnly": true},
    ]);
    assert_eq!(app["volumeMounts"], expected);
    assert_eq!(app["env"][0]["value"], "unix:///run/sluice-2/sluice.sock");
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(sidecar["volumeMounts"][0], json!({"name": "sluice-socket-2", "mountPath": "/run/sluice"}));
}

#[test]
fn an_address_of_the_containers_own_is_left_and_said() {
    let env = json!([{"name": "A", "value": "1"}, {"name": "SLUICE_ADDR", "value": "tcp://127.0.0.1:1"}]);
    let (pod, warnings) = injected(&changed(|pod| pod["spec"]["containers"][0]["env"] = env.clone())).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["env"], env);
    assert_eq!(warnings, ["container \"app\" sets SLUICE_ADDR itself: the sidecar is at /run/sluice"]);
}

#[test]
fn other_variables_can_refer_to_the_address() {
    let env = json!([{"name": "TARGET", "value": "$(SLUICE_ADDR)"}]);
    let (pod, _) = injected(&changed(|pod| pod["spec"]["containers"][0]["env"] = env)).unwrap();
    assert_eq!(pod["spec"]["containers"][0]["env"][0]["name"], "SLUICE_ADDR");
    assert_eq!(pod["spec"]["containers"][0]["env"][1]["name"], "TARGET");
}

#[test]
fn the_admin_port_avoids_those_of_the_pod_and_follows_the_annotation() {
    let port = |pod: &Value| pod["spec"]["initContainers"][0]["ports"][0]["containerPort"].as_u64().unwrap();
    let ports = json!([{"containerPort": 9465}, {"containerPort": 9466}]);
    let (pod, _) = injected(&changed(|pod| pod["spec"]["containers"][0]["ports"] = ports)).unwrap();
    assert_eq!(port(&pod), 9467);
    assert_eq!(pod["spec"]["initContainers"][0]["startupProbe"]["httpGet"]["port"], 9467);
    let annotated =
        |value: &str| changed(|pod| pod["metadata"]["annotations"] = json!({"sluice.dev/sidecar-admin-port": value}));
    assert_eq!(port(&injected(&annotated("12000")).unwrap().0), 12000);
    for bad in ["0", "80", "70000", "x", ""] {
        assert!(refusal(&annotated(bad)).contains("a port of 1024 to 65535 is expected"), "{bad}");
    }
}

#[test]
fn root_of_the_pod_is_not_root_of_the_sidecar() {
    let with = |context: Value| {
        let (pod, _) = injected(&changed(|pod| pod["spec"]["securityContext"] = context)).unwrap();
        let context = &pod["spec"]["initContainers"][0]["securityContext"];
        (context["runAsUser"].as_i64(), context["runAsGroup"].as_i64(), context["runAsNonRoot"].as_bool())
    };
    assert_eq!(with(json!({"runAsUser": 0})), (Some(65532), Some(65532), Some(true)));
    assert_eq!(with(json!({"runAsUser": 1000, "fsGroup": 5})), (None, None, Some(true)));
    assert_eq!(with(json!({})), (None, None, Some(true)));
}

#[test]
fn the_sidecar_asks_for_what_the_class_of_the_pod_allows() {
    let with = |resources: Value, annotations: Value| {
        let pod = changed(|pod| {
            pod["spec"]["containers"][0]["resources"] = resources;
            pod["metadata"]["annotations"] = annotations;
        });
        injected(&pod).unwrap().0["spec"]["initContainers"][0]["resources"].clone()
    };
    let guaranteed = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1024Mi"}});
    let burstable = json!({"requests": {"cpu": "1"}});
    let none = json!({});
    let own = json!({"sluice.dev/sidecar-cpu": "100m", "sluice.dev/sidecar-memory": "1Gi"});
    let all = json!({"cpu": "250m", "memory": "128Mi"});
    assert_eq!(with(guaranteed.clone(), none.clone()), json!({"limits": all, "requests": all}));
    let some = json!({"limits": {"memory": "128Mi"}, "requests": {"cpu": "25m", "memory": "32Mi"}});
    assert_eq!(with(burstable.clone(), none.clone()), some);
    assert_eq!(with(none.clone(), none.clone()), Value::Null);
    let all = json!({"cpu": "100m", "memory": "1Gi"});
    assert_eq!(with(guaranteed, own.clone()), json!({"limits": all, "requests": all}));
    assert_eq!(with(burstable, own.clone()), json!({"limits": {"memory": "1Gi"}, "requests": all}));
    assert_eq!(with(none, own), json!({"limits": {"memory": "1Gi"}, "requests": all}));
}

#[test]
fn resources_of_the_whole_pod_are_shared_and_not_added_to() {
    let pod = changed(|pod| pod["spec"]["resources"] = json!({"limits": {"cpu": "1", "memory": "1Gi"}}));
    assert_eq!(injected(&pod).unwrap().0["spec"]["initContainers"][0]["resources"], Value::Null);
}

#[test]
fn a_short_grace_period_is_said_and_used() {
    let (pod, warnings) = injected(&changed(|pod| pod["spec"]["terminationGracePeriodSeconds"] = json!(10))).unwrap();
    assert!(warnings[0].starts_with("terminationGracePeriodSeconds 10 is short"), "{warnings:?}");
    let drain = &pod["spec"]["initContainers"][0]["lifecycle"]["preStop"]["exec"]["command"];
    assert_eq!(drain[5], "5");
    let (pod, _) = injected(&changed(|pod| pod["spec"]["terminationGracePeriodSeconds"] = json!(0))).unwrap();
    let drain = &pod["spec"]["initContainers"][0]["lifecycle"]["preStop"]["exec"]["command"];
    assert_eq!(drain[5], "1");
}

#[test]
fn a_pod_on_the_nodes_network_is_told_what_that_means() {
    let (_, warnings) = injected(&changed(|pod| pod["spec"]["hostNetwork"] = json!(true))).unwrap();
    assert!(warnings[0].contains("hostNetwork: port 9465"), "{warnings:?}");
    assert!(warnings[1].contains("dnsPolicy: ClusterFirstWithHostNet"), "{warnings:?}");
    let (_, warnings) = injected(&changed(|pod| {
        pod["spec"]["hostNetwork"] = json!(true);
        pod["spec"]["dnsPolicy"] = json!("ClusterFirstWithHostNet");
    }))
    .unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn warnings_are_as_short_as_kubernetes_asks() {
    let (_, warnings) = injected(&changed(|pod| {
        pod["spec"]["hostNetwork"] = json!(true);
        pod["spec"]["terminationGracePeriodSeconds"] = json!(10);
        pod["spec"]["containers"][0]["env"] = json!([{"name": "SLUICE_ADDR"}]);
    }))
    .unwrap();
    assert_eq!(warnings.len(), 4);
    assert!(warnings.iter().all(|warning| warning.len() <= 120), "{warnings:?}");
}

#[test]
fn what_cannot_be_is_refused_with_words() {
    let group = changed(|pod| pod["metadata"]["labels"]["sluice.dev/consumer-group"] = json!("Telemetry_1"));
    assert!(refusal(&group).contains("\"Telemetry_1\", which can't be the name of a ConsumerGroup"));
    let windows = changed(|pod| pod["spec"]["os"] = json!({"name": "windows"}));
    assert!(refusal(&windows).contains("runs on Linux only"));
    let windows = changed(|pod| pod["spec"]["nodeSelector"] = json!({"kubernetes.io/os": "windows"}));
    assert!(refusal(&windows).contains("runs on Linux only"));
    let init = changed(|pod| pod["spec"]["initContainers"] = json!([{"name": "sluice"}]));
    assert!(refusal(&init).contains("does not have restartPolicy: Always"));
    for (name, value) in [("inject", "no"), ("sidecar-cpu", "0"), ("sidecar-memory", "lots")] {
        let name = format!("sluice.dev/{name}");
        let pod = changed(|pod| pod["metadata"]["annotations"] = json!({ &name: value }));
        let refusal = refusal(&pod);
        assert!(refusal.contains(&name) && refusal.contains(value) && refusal.ends_with("is expected"), "{refusal}");
    }
}

#[test]
fn a_static_pod_is_let_through_with_a_warning() {
    let pod = changed(|pod| pod["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"}));
    let (after, warnings) = injected(&pod).unwrap();
    assert_eq!(after, pod);
    assert!(warnings[0].contains("static pod"), "{warnings:?}");
}

#[test]
fn a_broker_ca_that_came_with_the_pod_is_replaced() {
    let pod = changed(|pod| pod["metadata"]["annotations"] = json!({"sluice.dev/broker-ca": "old", "other": "kept"}));
    let (pod, _) = injected(&pod).unwrap();
    let expected = json!({"sluice.dev/broker-ca": settings().broker_ca, "other": "kept"});
    assert_eq!(pod["metadata"]["annotations"], expected);
}
