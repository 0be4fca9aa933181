//! The class that Kubernetes puts a pod into by its resources, and what the sidecar may ask for without changing it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::Amount;

/// The class, as far as it decides what the sidecar may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Every container has limits for CPU and memory, and asks for all of them.
    Guaranteed,
    /// Some container asks for something.
    Burstable,
    /// No container asks for anything.
    BestEffort,
    /// The pod as a whole has resources, which its containers share.
    PodLevel,
}

type Resources = BTreeMap<String, Quantity>;

const COMPUTE: [&str; 2] = ["cpu", "memory"];

/// The class of a pod: Kubernetes' rule, which counts init containers too, and CPU and memory alone.
pub(super) fn class(spec: &PodSpec) -> Class {
    if spec.resources.as_ref().is_some_and(asks) {
        return Class::PodLevel;
    }
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if !containers().any(|container| container.resources.as_ref().is_some_and(asks)) {
        return Class::BestEffort;
    }
    if containers().all(|container| container.resources.as_ref().is_some_and(asks_for_all_it_may_have)) {
        return Class::Guaranteed;
    }
    Class::Burstable
}

fn asks(resources: &ResourceRequirements) -> bool {
    COMPUTE.iter().any(|name| {
        [&resources.requests, &resources.limits]
            .into_iter()
            .any(|list| amount(list.as_ref(), name).is_some_and(|amount| !amount.is_zero()))
    })
}

fn asks_for_all_it_may_have(resources: &ResourceRequirements) -> bool {
    COMPUTE.iter().all(|name| {
        let limit = amount(resources.limits.as_ref(), name).filter(|limit| !limit.is_zero());
        // A request that is not made is as high as the limit.
        limit.is_some_and(|limit| amount(resources.requests.as_ref(), name).is_none_or(|request| request == limit))
    })
}

/// What is not a quantity is none: the API server refuses such a pod by itself.
fn amount(list: Option<&Resources>, name: &str) -> Option<Amount> {
    list?.get(name)?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn class_of(containers: &Value, init: &Value, pod: &Value) -> Class {
        let spec = json!({"containers": containers, "initContainers": init, "resources": pod});
        class(&serde_json::from_value(spec).unwrap())
    }

    #[test]
    fn the_rule_is_kubernetes() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
        let limits = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let less = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}});
        let memory = json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "1Gi"}});
        let zero = json!({"requests": {"cpu": "0"}});
        let storage = json!({"requests": {"ephemeral-storage": "1Gi"}});
        for (app, init, pod, expected) in [
            (&full, None, Value::Null, Class::Guaranteed),
            (&limits, Some(&full), Value::Null, Class::Guaranteed),
            (&full, Some(&zero), Value::Null, Class::Burstable),
            (&less, None, Value::Null, Class::Burstable),
            (&memory, None, Value::Null, Class::Burstable),
            (&zero, None, Value::Null, Class::BestEffort),
            (&storage, None, Value::Null, Class::BestEffort),
            (&zero, Some(&memory), Value::Null, Class::Burstable),
            (&zero, None, full.clone(), Class::PodLevel),
        ] {
            let init = init.map_or(json!([]), |resources| json!([{"name": "i", "resources": resources}]));
            let found = class_of(&json!([{"name": "a", "resources": app}]), &init, &pod);
            assert_eq!(found, expected, "{app} {init} {pod}");
        }
        assert_eq!(class_of(&json!([{"name": "a"}]), &json!([]), &Value::Null), Class::BestEffort);
    }
}
