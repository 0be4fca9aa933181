//! Autoscalers of others: a workload that a HorizontalPodAutoscaler drives is not written by Sluice as well. (KEDA's
//! ScaledObject makes a HorizontalPodAutoscaler, so it is seen here too.)

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::ApiResource;
use kube::core::Object;
use kube::runtime::watcher::Event;
use serde::{Deserialize, Serialize};
use sluice_crds::TargetReference;

/// As much of an autoscaler as is read.
pub type RawAutoscaler = Object<RawSpec, RawStatus>;

/// As much of its spec.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RawSpec {
    scale_target_ref: RawTarget,
}

/// Nothing of its status.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RawStatus {}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawTarget {
    api_version: Option<String>,
    kind: String,
    name: String,
}

/// The kind that [`RawAutoscaler`] is read as.
pub fn resource() -> ApiResource {
    ApiResource::erase::<HorizontalPodAutoscaler>(&())
}

/// Namespace and name.
type Name = (String, String);

/// The autoscalers. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Contests(Arc<Mutex<Index>>);

#[derive(Debug, Default)]
struct Index {
    targets: BTreeMap<Name, RawTarget>,
    listing: Option<BTreeMap<Name, RawTarget>>,
    synced: bool,
}

/// Whether somebody else drives a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Contest {
    /// Nobody does.
    None,
    /// Somebody does, by this name.
    By(String),
    /// That is not known: the autoscalers could not be listed yet.
    Unknown,
}

impl Contests {
    /// Takes an event of the watch in.
    pub fn take(&self, event: &Event<RawAutoscaler>) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let name = |raw: &RawAutoscaler| {
            (raw.metadata.namespace.clone().unwrap_or_default(), raw.metadata.name.clone().unwrap_or_default())
        };
        match event {
            Event::Init => index.listing = Some(BTreeMap::new()),
            Event::InitApply(raw) => {
                if let Some(listing) = &mut index.listing {
                    listing.insert(name(raw), raw.spec.scale_target_ref.clone());
                }
            }
            Event::InitDone => {
                index.synced = true;
                index.targets = index.listing.take().unwrap_or_default();
            }
            Event::Apply(raw) => {
                index.targets.insert(name(raw), raw.spec.scale_target_ref.clone());
            }
            Event::Delete(raw) => {
                index.targets.remove(&name(raw));
            }
        }
    }

    /// Whether a whole list has come.
    pub fn synced(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).synced
    }

    /// Who else drives a workload of this namespace.
    pub fn of(&self, namespace: &str, target: &TargetReference) -> Contest {
        let group = |version: &str| version.split_once('/').map_or(String::new(), |(group, _)| group.to_owned());
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !index.synced {
            return Contest::Unknown;
        }
        let drives = |driven: &RawTarget| {
            driven.kind == target.kind
                && driven.name == target.name
                && driven.api_version.as_deref().is_none_or(|version| group(version) == group(&target.api_version))
        };
        let here = index.targets.range((namespace.to_owned(), String::new())..);
        let here = here.take_while(|((at, _), _)| at == namespace);
        let found: Vec<&str> = here.filter(|(_, driven)| drives(driven)).map(|((_, name), _)| name.as_str()).collect();
        if found.is_empty() {
            return Contest::None;
        }
        Contest::By(format!("HorizontalPodAutoscaler {}", found.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn autoscaler(name: &str, kind: &str, version: &str) -> RawAutoscaler {
        serde_json::from_value(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": {"name": name, "namespace": "plant-a"},
            "spec": {"scaleTargetRef": {"apiVersion": version, "kind": kind, "name": "worker"}, "maxReplicas": 3},
        }))
        .unwrap()
    }

    #[test]
    fn an_autoscaler_of_the_same_workload_is_named() {
        let contests = Contests::default();
        let target =
            TargetReference { api_version: "apps/v1".into(), kind: "Deployment".into(), name: "worker".into() };
        assert_eq!(contests.of("plant-a", &target), Contest::Unknown);
        for event in [Event::Init, Event::InitDone] {
            contests.take(&event);
        }
        contests.take(&Event::Apply(autoscaler("b", "StatefulSet", "apps/v1")));
        contests.take(&Event::Apply(autoscaler("c", "Deployment", "other.io/v1")));
        assert_eq!(contests.of("plant-a", &target), Contest::None);
        contests.take(&Event::Apply(autoscaler("keda-hpa-worker", "Deployment", "apps/v1beta2")));
        let found = Contest::By("HorizontalPodAutoscaler keda-hpa-worker".into());
        assert_eq!(contests.of("plant-a", &target), found);
        assert_eq!(contests.of("plant-b", &target), Contest::None);
        for event in [Event::Init, Event::InitDone] {
            contests.take(&event);
        }
        assert_eq!(contests.of("plant-a", &target), Contest::None, "gone while the watch was broken");
    }
}
