//! What injection promises about every pod.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::tests::injected;
use super::{names, qos};

fn maybe(strategy: impl Strategy<Value = Value>) -> impl Strategy<Value = Value> {
    option::of(strategy).prop_map(|value| value.unwrap_or(Value::Null))
}

fn quantity() -> impl Strategy<Value = Value> {
    prop_oneof![Just("0"), Just("1"), Just("1000m"), Just("64Mi"), Just("1Gi"), Just("1024Mi")].prop_map(Value::from)
}

fn amounts() -> impl Strategy<Value = Value> {
    (maybe(quantity()), maybe(quantity())).prop_map(|(cpu, memory)| object([("cpu", cpu), ("memory", memory)]))
}

fn resources() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        Just(json!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1000m", "memory": "1024Mi"}})),
        (maybe(amounts()), maybe(amounts()))
            .prop_map(|(requests, limits)| { object([("requests", requests), ("limits", limits)]) }),
    ]
}

/// An object of the fields that are there.
fn object<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect::<Map<_, _>>())
}

fn mounts() -> impl Strategy<Value = Value> {
    let paths = prop_oneof![Just("/data"), Just("/run/sluice"), Just("/run/sluice/"), Just("/run/sluice-2")];
    vec(paths, 0..3)
        .prop_map(|paths| paths.into_iter().map(|path| json!({"name": "sluice-socket", "mountPath": path})).collect())
}

fn variables() -> impl Strategy<Value = Value> {
    vec(prop_oneof![Just("A"), Just("SLUICE_ADDR"), Just("B")], 0..3)
        .prop_map(|names| names.into_iter().map(|name| json!({"name": name, "value": "$(SLUICE_ADDR)"})).collect())
}

fn container(name: &'static str, restricted: bool) -> impl Strategy<Value = Value> {
    let context = if restricted {
        prop_oneof![
            Just(json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}})),
            Just(json!({
                "allowPrivilegeEscalation": false, "runAsNonRoot": true, "runAsUser": 7,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]},
            })),
        ]
        .boxed()
    } else {
        prop_oneof![Just(Value::Null), Just(json!({"privileged": true})), Just(json!({"runAsUser": 0}))].boxed()
    };
    (maybe(mounts()), maybe(variables()), resources(), context, any::<bool>()).prop_map(
        move |(mounts, env, resources, context, of_a_later_version)| {
            let mut container = object([
                ("volumeMounts", mounts),
                ("env", env),
                ("resources", resources),
                ("securityContext", context),
            ]);
            container["name"] = json!(name);
            if of_a_later_version {
                container["unheardOf"] = json!({"kept": [1, 2, 3]});
            }
            container
        },
    )
}

fn volumes() -> impl Strategy<Value = Value> {
    vec(prop_oneof![Just("data"), Just("sluice-socket"), Just("sluice-identity"), Just("sluice-socket-2")], 0..4)
        .prop_map(|names| names.into_iter().map(|name| json!({"name": name, "emptyDir": {}})).collect())
}

/// A pod that asks for a sidecar.
fn pod(restricted: bool) -> impl Strategy<Value = Value> {
    let init = vec(container("prepare", restricted), 0..2).prop_map(Value::from);
    let context = if restricted {
        Just(json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})).boxed()
    } else {
        maybe(prop_oneof![Just(json!({"runAsUser": 0})), Just(json!({"fsGroup": 3}))]).boxed()
    };
    let annotations = maybe(Just(json!({"someone/else": "x"})));
    let grace = maybe((0_i64..100).prop_map(|seconds| json!(seconds)));
    (
        (container("app", restricted), vec(container("other", restricted), 0..2)),
        maybe(init),
        maybe(volumes()),
        context,
        maybe(resources()),
        annotations,
        grace,
    )
        .prop_map(|((app, others), init, volumes, context, resources, annotations, grace)| {
            let mut spec = object([
                ("initContainers", init),
                ("volumes", volumes),
                ("securityContext", context),
                ("resources", resources),
                ("terminationGracePeriodSeconds", grace),
            ]);
            spec["containers"] = std::iter::once(app).chain(others).collect();
            let mut metadata = object([("annotations", annotations)]);
            metadata["labels"] = json!({"sluice.dev/consumer-group": "telemetry"});
            json!({"metadata": metadata, "spec": spec})
        })
}

fn list(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

/// The container without what injection may add to it.
fn without_additions(mut container: Value, before: &Value) -> Value {
    let mut mounts = list(&container["volumeMounts"]);
    let added = mounts.pop().unwrap();
    assert_eq!(added["readOnly"], true);
    let mut env = list(&container["env"]);
    if env.len() > list(&before["env"]).len() {
        assert_eq!(env.remove(0)["name"], names::ADDRESS_VARIABLE);
    }
    for (name, rest) in [("volumeMounts", mounts), ("env", env)] {
        if before.get(name).is_some() {
            container[name] = Value::from(rest);
        } else {
            assert_eq!(rest, Vec::<Value>::new());
            container.as_object_mut().unwrap().remove(name);
        }
    }
    container
}

/// What of the Pod Security Standard *restricted* concerns what is generated here, as its documents have it.
fn is_restricted(pod: &Value) -> bool {
    let whole = &pod["spec"]["securityContext"];
    let containers = [&pod["spec"]["containers"], &pod["spec"]["initContainers"]];
    let all = containers.into_iter().flat_map(list).all(|container| {
        let own = &container["securityContext"];
        let either = |name: &str| if own[name].is_null() { &whole[name] } else { &own[name] };
        let seccomp = &either("seccompProfile")["type"];
        let added = list(&own["capabilities"]["add"]);
        own["allowPrivilegeEscalation"] == false
            && own["privileged"] != true
            && list(&own["capabilities"]["drop"]).contains(&json!("ALL"))
            && added.iter().all(|capability| capability == "NET_BIND_SERVICE")
            && either("runAsNonRoot") == true
            && either("runAsUser") != 0
            && (seccomp == "RuntimeDefault" || seccomp == "Localhost")
    });
    let allowed =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    all && list(&pod["spec"]["volumes"])
        .iter()
        .all(|volume| volume.as_object().unwrap().keys().all(|key| key == "name" || allowed.contains(&key.as_str())))
}

fn class(pod: &Value) -> qos::Class {
    qos::class(&serde_json::from_value(pod["spec"].clone()).unwrap())
}

fn all_different(values: &[Value], key: &str) -> bool {
    let mut seen: Vec<&Value> = values.iter().map(|value| &value[key]).collect();
    let count = seen.len();
    seen.sort_by_key(ToString::to_string);
    seen.dedup();
    seen.len() == count
}

proptest! {
    #[test]
    fn the_second_time_nothing_is_left_to_do(pod in pod(false)) {
        let (once, _) = injected(&pod).unwrap();
        prop_assert_ne!(&once, &pod);
        prop_assert_eq!(injected(&once).unwrap(), (once.clone(), Vec::new()));
    }

    #[test]
    fn other_containers_get_one_variable_and_one_mount_at_most(pod in pod(false)) {
        let (after, _) = injected(&pod).unwrap();
        for (before, after) in list(&pod["spec"]["containers"]).into_iter().zip(list(&after["spec"]["containers"])) {
            prop_assert_eq!(without_additions(after, &before), before);
        }
        let init = list(&pod["spec"]["initContainers"]);
        prop_assert_eq!(&list(&after["spec"]["initContainers"])[..init.len()], &init[..]);
        let volumes = list(&pod["spec"]["volumes"]);
        prop_assert_eq!(&list(&after["spec"]["volumes"])[..volumes.len()], &volumes[..]);
        let mut rest = after.clone();
        for name in ["containers", "initContainers", "volumes"] {
            rest["spec"][name] = pod["spec"].get(name).cloned().unwrap_or(Value::Null);
            if rest["spec"][name].is_null() {
                rest["spec"].as_object_mut().unwrap().remove(name);
            }
        }
        rest["metadata"] = pod["metadata"].clone();
        prop_assert_eq!(rest, pod);
    }

    #[test]
    fn no_name_or_place_is_used_twice_by_injection(pod in pod(false)) {
        let (after, _) = injected(&pod).unwrap();
        for container in list(&after["spec"]["containers"]) {
            let mounts = list(&container["volumeMounts"]);
            let added = mounts.last().unwrap()["mountPath"].as_str().unwrap().to_owned();
            let same = |mount: &&Value| mount["mountPath"].as_str().unwrap().trim_end_matches('/') == added;
            prop_assert_eq!(mounts.iter().filter(same).count(), 1);
        }
        let volumes = list(&after["spec"]["volumes"]);
        prop_assert!(all_different(&volumes[volumes.len() - 2..], "name"));
        for added in &volumes[volumes.len() - 2..] {
            prop_assert_eq!(volumes.iter().filter(|volume| volume["name"] == added["name"]).count(), 1);
        }
    }

    #[test]
    fn a_restricted_pod_stays_restricted(pod in pod(true)) {
        prop_assert!(is_restricted(&pod));
        let (after, _) = injected(&pod).unwrap();
        prop_assert!(is_restricted(&after), "{after}");
    }

    #[test]
    fn the_sidecar_itself_is_restricted_in_any_pod(pod in pod(false)) {
        let (after, _) = injected(&pod).unwrap();
        let mut alone = after.clone();
        alone["spec"]["containers"] = json!([]);
        alone["spec"]["initContainers"] = json!([list(&after["spec"]["initContainers"]).last().unwrap()]);
        prop_assert!(is_restricted(&alone), "{alone}");
    }

    #[test]
    fn the_class_of_the_pod_is_kept(pod in pod(false)) {
        let (after, _) = injected(&pod).unwrap();
        prop_assert_eq!(class(&after), class(&pod));
    }

    #[test]
    fn the_file_system_group_is_never_touched(pod in pod(false)) {
        let (after, _) = injected(&pod).unwrap();
        prop_assert_eq!(&after["spec"]["securityContext"], &pod["spec"]["securityContext"]);
    }
}
