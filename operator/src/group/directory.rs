//! The ConsumerGroups that are valid, as the broker and the poller need them: written by the pipeline, read by everybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

use super::validate::Validated;
use crate::slots::{GroupRef, Revision};

/// One ConsumerGroup.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// What it wants.
    pub group: Arc<Validated>,
    /// The revision of its workload that is rolled out, or has been; `None` if that is not known.
    pub newest: Option<Revision>,
}

/// All of them. An `Arc` is made anew only for what has changed.
pub type Groups = Arc<BTreeMap<GroupRef, Entry>>;

/// The directory. Clones share it.
#[derive(Debug, Clone)]
pub struct Directory(Arc<watch::Sender<Groups>>);

impl Default for Directory {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Groups::default())))
    }
}

impl Directory {
    /// All ConsumerGroups, and their changes from now on.
    pub fn subscribe(&self) -> watch::Receiver<Groups> {
        self.0.subscribe()
    }

    /// One ConsumerGroup.
    pub fn get(&self, group: &GroupRef) -> Option<Entry> {
        self.0.borrow().get(group).cloned()
    }

    /// Takes a ConsumerGroup in, or what has become of it.
    pub(super) fn put(&self, entry: Entry) {
        self.0.send_if_modified(|groups| {
            let same = groups.get(&entry.group.name) == Some(&entry);
            if !same {
                Arc::make_mut(groups).insert(entry.group.name.clone(), entry);
            }
            !same
        });
    }

    /// Forgets a ConsumerGroup: it is gone, or can't be carried out.
    pub(super) fn remove(&self, group: &GroupRef) {
        self.0.send_if_modified(|groups| {
            let known = groups.contains_key(group);
            if known {
                Arc::make_mut(groups).remove(group);
            }
            known
        });
    }

    /// Forgets all of them: this replica leads no more.
    pub fn clear(&self) {
        self.0.send_if_modified(|groups| !std::mem::take(groups).is_empty());
    }
}
