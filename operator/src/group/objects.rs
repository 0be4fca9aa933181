//! The ConsumerGroups as the API server tells of them. An object that can't be read as one is kept too, with the reason:
//! it must not stop the watch, and its owner must learn of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kube::api::{ApiResource, DynamicObject, ObjectMeta};
use kube::runtime::watcher::Event;
use sluice_crds::{ConsumerGroup, ConsumerGroupStatus};

use super::contest::Claims;
use crate::slots::GroupRef;

/// The kind that ConsumerGroups are watched as: their form is looked at one by one.
pub fn resource() -> ApiResource {
    ApiResource::erase::<ConsumerGroup>(&())
}

/// One object.
#[derive(Debug, Clone)]
pub enum Known {
    /// A ConsumerGroup.
    Read(Arc<ConsumerGroup>),
    /// Something else.
    Unreadable(Arc<Unreadable>),
}

/// An object that is no ConsumerGroup as this operator knows them.
#[derive(Debug, Clone, PartialEq)]
pub struct Unreadable {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its status, as far as that can be read.
    pub status: Option<ConsumerGroupStatus>,
    /// Why it can't be read.
    pub words: String,
}

impl Known {
    fn read(mut object: DynamicObject) -> Self {
        object.metadata.managed_fields = None;
        // As large as the spec, and of no use here.
        if let Some(notes) = &mut object.metadata.annotations {
            notes.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
        let metadata = object.metadata.clone();
        let status = object.data.get("status").cloned().and_then(|status| serde_json::from_value(status).ok());
        if status.is_none()
            && let Some(data) = object.data.as_object_mut()
        {
            // A status that another version left: it is written anew, and says nothing of what the object wants.
            data.remove("status");
        }
        match object.try_parse::<ConsumerGroup>() {
            Ok(group) => Self::Read(Arc::new(group)),
            Err(error) => {
                let words = crate::fault::chain(&error);
                Self::Unreadable(Arc::new(Unreadable { metadata, status, words }))
            }
        }
    }

    /// Its metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::Read(group) => &group.metadata,
            Self::Unreadable(unreadable) => &unreadable.metadata,
        }
    }

    /// Its status.
    pub fn status(&self) -> Option<&ConsumerGroupStatus> {
        match self {
            Self::Read(group) => group.status.as_ref(),
            Self::Unreadable(unreadable) => unreadable.status.as_ref(),
        }
    }

    /// Whether what a person wrote is the same in both; the status is the operator's.
    fn same_wish(&self, other: &Self) -> bool {
        let wish = |known: &Self| {
            let meta = known.metadata();
            (meta.uid.clone(), meta.generation, meta.deletion_timestamp.is_some())
        };
        wish(self) == wish(other)
    }
}

/// The objects. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Objects(Arc<Mutex<Index>>);

#[derive(Debug, Default)]
struct Index {
    known: HashMap<GroupRef, Known>,
    claims: Claims,
    listing: Option<HashMap<GroupRef, Known>>,
    synced: bool,
}

impl Objects {
    /// One object.
    pub fn get(&self, name: &GroupRef) -> Option<Known> {
        self.lock().known.get(name).cloned()
    }

    /// The older ConsumerGroup that has the workload which this one names too, if there is one.
    pub fn older(&self, name: &GroupRef) -> Option<GroupRef> {
        self.lock().claims.older(name).cloned()
    }

    /// How many there are, and how many of them can't be read.
    pub fn count(&self) -> (usize, usize) {
        let index = self.lock();
        let unreadable = index.known.values().filter(|known| matches!(known, Known::Unreadable(_))).count();
        (index.known.len(), unreadable)
    }

    /// Whether a whole list has come.
    pub fn synced(&self) -> bool {
        self.lock().synced
    }

    /// Takes an event of the watch in. Which objects have come, gone, or want something else than before, or share their
    /// workload with one of which that is true.
    pub fn take(&self, event: Event<DynamicObject>) -> Vec<GroupRef> {
        let mut index = self.lock();
        let mut changed = index.take(event);
        let mut others = Vec::new();
        let Index { known, claims, .. } = &mut *index;
        for name in &changed {
            let object = match known.get(name) {
                Some(Known::Read(group)) => Some(&**group),
                Some(Known::Unreadable(_)) | None => None,
            };
            others.extend(claims.set(name, object));
        }
        others.sort();
        others.dedup();
        others.retain(|other| !changed.contains(other));
        changed.extend(others);
        changed
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// Which objects have come, gone, or want something else than before.
    fn take(&mut self, event: Event<DynamicObject>) -> Vec<GroupRef> {
        match event {
            Event::Init => {
                self.listing = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(object) => {
                if let (Some(name), Some(listing)) = (name_of(&object), &mut self.listing) {
                    listing.insert(name, Known::read(object));
                }
                Vec::new()
            }
            Event::InitDone => {
                self.synced = true;
                let listed = self.listing.take().unwrap_or_default();
                let old = std::mem::replace(&mut self.known, listed);
                let changed = |(name, known): (&GroupRef, &Known)| {
                    let same = old.get(name).is_some_and(|old| old.same_wish(known));
                    (!same).then(|| name.clone())
                };
                let mut names: Vec<GroupRef> = self.known.iter().filter_map(changed).collect();
                names.extend(old.keys().filter(|name| !self.known.contains_key(*name)).cloned());
                names
            }
            Event::Apply(object) => {
                let Some(name) = name_of(&object) else { return Vec::new() };
                let known = Known::read(object);
                let same = self.known.get(&name).is_some_and(|old| old.same_wish(&known));
                self.known.insert(name.clone(), known);
                if same { Vec::new() } else { vec![name] }
            }
            Event::Delete(object) => {
                let Some(name) = name_of(&object) else { return Vec::new() };
                self.known.remove(&name);
                vec![name]
            }
        }
    }
}

fn name_of(object: &DynamicObject) -> Option<GroupRef> {
    Some(GroupRef::new(object.metadata.namespace.as_deref()?, object.metadata.name.as_deref()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(name: &str, generation: i64, spec: &Value, status: &Value) -> DynamicObject {
        serde_json::from_value(json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "ConsumerGroup",
            "metadata": {"name": name, "namespace": "plant-a", "generation": generation, "uid": format!("u-{name}")},
            "spec": spec, "status": status,
        }))
        .unwrap()
    }

    fn good() -> Value {
        json!({"groupId": "g", "instance": {"id": "iot-1", "amqpHost": "h"}, "credentials": {"secretRef": {"name": "s"}}})
    }

    fn name(name: &str) -> GroupRef {
        GroupRef::new("plant-a", name)
    }

    #[test]
    fn an_object_that_can_t_be_read_is_kept_beside_the_others() {
        let objects = Objects::default();
        let bad = object("bad", 1, &json!({"groupId": 7}), &json!({"observedGeneration": 1}));
        let events = [Event::Init, Event::InitApply(bad), Event::InitApply(object("good", 1, &good(), &json!({})))];
        for event in events {
            assert!(objects.take(event).is_empty());
        }
        let mut changed = objects.take(Event::InitDone);
        changed.sort();
        assert_eq!((changed, objects.count()), (vec![name("bad"), name("good")], (2, 1)));
        let Some(Known::Unreadable(bad)) = objects.get(&name("bad")) else { panic!("it can be read") };
        assert!(bad.words.contains("groupId") || bad.words.contains("string"), "{}", bad.words);
        assert_eq!(bad.status.as_ref().unwrap().observed_generation, Some(1));
    }

    #[test]
    fn a_status_that_can_t_be_read_does_not_make_the_object_unreadable() {
        let objects = Objects::default();
        objects.take(Event::Apply(object("a", 1, &good(), &json!({"plan": {"reason": "no replicas"}}))));
        let Some(known @ Known::Read(_)) = objects.get(&name("a")) else { panic!("it can't be read") };
        assert_eq!(known.status(), None);
    }

    #[test]
    fn a_status_that_was_written_is_kept_and_is_no_change() {
        let objects = Objects::default();
        assert_eq!(objects.take(Event::Apply(object("a", 1, &good(), &json!({})))), [name("a")]);
        let written = object("a", 1, &good(), &json!({"observedGeneration": 1}));
        assert!(objects.take(Event::Apply(written)).is_empty());
        assert_eq!(objects.get(&name("a")).unwrap().status().unwrap().observed_generation, Some(1));
        assert_eq!(objects.take(Event::Apply(object("a", 2, &good(), &json!({})))), [name("a")]);
    }

    #[test]
    fn an_object_that_vanished_while_the_watch_was_broken_is_gone() {
        let objects = Objects::default();
        objects.take(Event::Apply(object("a", 1, &good(), &json!({}))));
        objects.take(Event::Apply(object("b", 1, &good(), &json!({}))));
        objects.take(Event::Init);
        objects.take(Event::InitApply(object("b", 1, &good(), &json!({}))));
        assert_eq!(objects.take(Event::InitDone), [name("a")]);
        assert!(objects.get(&name("a")).is_none() && objects.get(&name("b")).is_some());
    }
    #[test]
    fn who_shares_a_workload_hears_of_the_others() {
        let objects = Objects::default();
        let with = |name: &str, created: &str| {
            let mut spec = good();
            spec["workload"] = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}});
            let mut object = object(name, 1, &spec, &json!({}));
            object.metadata.creation_timestamp = serde_json::from_value(json!(created)).unwrap();
            object
        };
        let (old, young) = (with("b", "2026-11-01T00:00:00Z"), with("a", "2026-11-02T00:00:00Z"));
        assert_eq!(objects.take(Event::Apply(young.clone())), [name("a")]);
        assert_eq!(objects.take(Event::Apply(old.clone())), [name("b"), name("a")]);
        assert_eq!((objects.older(&name("a")), objects.older(&name("b"))), (Some(name("b")), None));
        for event in [Event::Init, Event::InitApply(young)] {
            objects.take(event);
        }
        assert_eq!(objects.take(Event::InitDone), [name("b"), name("a")], "the older one is gone");
        assert_eq!(objects.older(&name("a")), None);
    }
}
