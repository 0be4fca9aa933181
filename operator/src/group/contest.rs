//! Who else drives a workload: one that a HorizontalPodAutoscaler drives is not written by Sluice as well (KEDA's ScaledObject
//! makes a HorizontalPodAutoscaler, so it is seen here too), and of several ConsumerGroups that name the same one, the oldest
//! has it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::ApiResource;
use kube::core::Object;
use kube::runtime::watcher::Event;
use serde::{Deserialize, Serialize};
use sluice_crds::{ConsumerGroup, TargetReference};

use crate::slots::GroupRef;

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
    /// An autoscaler does, by this name.
    By(String),
    /// An older ConsumerGroup does, by this name.
    Older(String),
    /// That is not known: the autoscalers could not be listed yet.
    Unknown,
}

impl Contest {
    /// The same, if there is an older ConsumerGroup. An autoscaler is the more important to know of: it asks nobody.
    #[must_use]
    pub fn or_older(self, older: Option<&GroupRef>) -> Self {
        match (self, older) {
            (Self::None | Self::Unknown, Some(older)) => Self::Older(older.name.to_string()),
            (contest, _) => contest,
        }
    }
}

/// The workloads that ConsumerGroups name.
#[derive(Debug, Clone, Default)]
pub struct Claims {
    by_workload: HashMap<Workload, BTreeSet<Rank>>,
    by_group: HashMap<GroupRef, (Workload, Rank)>,
}

/// A workload, whatever version of its kind it is called by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Workload {
    namespace: String,
    group: String,
    kind: String,
    name: String,
}

/// The least has the workload: who came first, and of those who came in the same second, anyone, but always the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    created: Option<jiff::Timestamp>,
    uid: String,
    group: GroupRef,
}

impl Claims {
    /// Takes note of what a ConsumerGroup names now; `None`: it is gone, or can't be read. The others that name the same
    /// workload as it does, or did.
    pub fn set(&mut self, group: &GroupRef, object: Option<&ConsumerGroup>) -> Vec<GroupRef> {
        let claim = object.and_then(|object| {
            let meta = &object.metadata;
            let target = &object.spec.workload.as_ref().filter(|_| meta.deletion_timestamp.is_none())?.target_ref;
            let workload = Workload {
                namespace: group.namespace.to_string(),
                group: api_group(&target.api_version).to_owned(),
                kind: target.kind.clone(),
                name: target.name.clone(),
            };
            let created = meta.creation_timestamp.as_ref().map(|time| time.0);
            Some((workload, Rank { created, uid: meta.uid.clone().unwrap_or_default(), group: group.clone() }))
        });
        let mut others = Vec::new();
        if let Some((workload, rank)) = self.by_group.remove(group)
            && let Some(claims) = self.by_workload.get_mut(&workload)
        {
            claims.remove(&rank);
            others.extend(claims.iter().map(|rank| rank.group.clone()));
            if claims.is_empty() {
                self.by_workload.remove(&workload);
            }
        }
        if let Some((workload, rank)) = claim {
            let claims = self.by_workload.entry(workload.clone()).or_default();
            others.extend(claims.iter().map(|rank| rank.group.clone()));
            claims.insert(rank.clone());
            self.by_group.insert(group.clone(), (workload, rank));
        }
        others
    }

    /// The ConsumerGroup that has the workload which this one names too; `None` if it has it itself, or names none.
    pub fn older(&self, group: &GroupRef) -> Option<&GroupRef> {
        let (workload, _) = self.by_group.get(group)?;
        let first = &self.by_workload.get(workload)?.first()?.group;
        (first != group).then_some(first)
    }
}

/// The group of an `apiVersion`.
fn api_group(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
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
        let index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !index.synced {
            return Contest::Unknown;
        }
        let drives = |driven: &RawTarget| {
            driven.kind == target.kind
                && driven.name == target.name
                && driven
                    .api_version
                    .as_deref()
                    .is_none_or(|version| api_group(version) == api_group(&target.api_version))
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
    fn group(name: &str, created: &str, target: Option<(&str, &str)>) -> (GroupRef, ConsumerGroup) {
        let object = crate::group::fixtures::object(|object| {
            object["metadata"]["name"] = json!(name);
            object["metadata"]["uid"] = json!(format!("uid-{name}"));
            object["metadata"]["creationTimestamp"] = json!(created);
            match target {
                Some((version, name)) => {
                    object["spec"]["workload"]["targetRef"]["apiVersion"] = json!(version);
                    object["spec"]["workload"]["targetRef"]["name"] = json!(name);
                }
                None => object["spec"]["workload"] = json!(null),
            }
        });
        (GroupRef::new("plant-a", name), object)
    }

    #[test]
    fn of_several_groups_with_the_same_workload_the_oldest_has_it() {
        let (early, late) = ("2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z");
        let worker = Some(("apps/v1", "worker"));
        let mut claims = Claims::default();
        let (young, young_object) = group("a-young", late, Some(("apps/v1beta2", "worker")));
        let (old, old_object) = group("z-old", early, worker);
        let (twin, twin_object) = group("z-twin", early, worker);
        assert!(claims.set(&young, Some(&young_object)).is_empty());
        assert_eq!(claims.older(&young), None);
        assert_eq!(claims.set(&old, Some(&old_object)), std::slice::from_ref(&young), "it learns of it");
        claims.set(&twin, Some(&twin_object));
        assert_eq!(claims.older(&young), Some(&old));
        assert_eq!((claims.older(&old), claims.older(&twin)), (None, Some(&old)));
        // Other workloads, and none, are no matter.
        for (name, target) in [("b", Some(("apps/v1", "other"))), ("c", Some(("other.io/v1", "worker"))), ("d", None)] {
            let (name, object) = group(name, early, target);
            assert!(claims.set(&name, Some(&object)).is_empty());
            assert_eq!(claims.older(&name), None);
        }
        let elsewhere = GroupRef::new("plant-b", "z-old");
        claims.set(&elsewhere, Some(&old_object));
        assert_eq!(claims.older(&elsewhere), None);
        // The next one has it when the oldest names another, is about to go, or is gone.
        let (_, moved) = group("z-old", early, Some(("apps/v1", "moved")));
        assert_eq!(claims.set(&old, Some(&moved)), [twin.clone(), young.clone()]);
        assert_eq!((claims.older(&twin), claims.older(&young)), (None, Some(&twin)));
        let mut leaving = twin_object;
        leaving.metadata.deletion_timestamp = leaving.metadata.creation_timestamp.clone();
        assert_eq!(claims.set(&twin, Some(&leaving)), std::slice::from_ref(&young));
        assert_eq!(claims.older(&young), None);
        claims.set(&young, None);
        claims.set(&twin, None);
        claims.set(&old, None);
        assert!(!claims.by_workload.keys().any(|workload| workload.name == "moved"), "nothing is kept of who has gone");
    }

    #[test]
    fn an_autoscaler_counts_more_than_an_older_group() {
        let older = GroupRef::new("plant-a", "old");
        for contest in [Contest::None, Contest::Unknown] {
            assert_eq!(contest.or_older(Some(&older)), Contest::Older("old".into()));
        }
        assert_eq!(Contest::By("x".into()).or_older(Some(&older)), Contest::By("x".into()));
        assert_eq!(Contest::Unknown.or_older(None), Contest::Unknown);
    }
}
