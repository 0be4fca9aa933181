//! The slot table: the record of who holds which slot of a platform group. It is the only truth about that; what is not in
//! it has not been granted. How it is stored in a ConfigMap is known here too, and nothing else about Kubernetes is.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::names::{Epoch, GroupRef, PodRef, PodUid, SlotIndex, StreamOrder};

/// The version of the table's schema that is written and understood here.
pub const SCHEMA_VERSION: u32 = 1;

/// The key of the ConfigMap's data that holds the table.
pub const DATA_KEY: &str = "table";

/// The label that marks a slot table's ConfigMap, with the value `true`.
pub const LABEL: &str = "sluice.dev/slot-table";

/// A consumer group of the platform, whichever ConsumerGroups speak of it. Hosts do not count: the VPC's and the public
/// name of one instance differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PlatformGroup {
    /// The instance's ID, or the account's where the instance has none.
    pub instance: String,
    /// The consumer group's ID.
    pub group_id: String,
}

impl PlatformGroup {
    /// The name of the ConfigMap that holds the table.
    pub fn config_map_name(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(self.instance.as_bytes());
        hash.update([0]);
        hash.update(self.group_id.as_bytes());
        let digest = hash.finalize();
        let mut name = String::from("sluice-slots-");
        for byte in &digest[..8] {
            name.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
            name.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
        }
        name
    }
}

/// Who holds the slots of one platform group.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Table {
    /// The version of this schema.
    schema_version: u32,
    /// The platform group that the slots are of.
    pub group: PlatformGroup,
    /// The epoch of the next grant. Never less than before.
    pub next_epoch: Epoch,
    /// The grants that stand, by epoch.
    pub holders: Vec<Holder>,
}

/// A grant that stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// The slots granted: as many as `connectionsPerPod`, ascending.
    pub slots: Vec<SlotIndex>,
    /// Which grant this is.
    pub epoch: Epoch,
    /// To whom.
    pub pod: PodRef,
    /// On behalf of which ConsumerGroup.
    pub consumer_group: GroupRef,
    /// The stream that the grant is told on first. What older streams of the pod say has nothing to do with it.
    #[serde(flatten)]
    pub told_on: StreamOrder,
    /// How many connect attempts a minute the holder may make on its own while it has lost the broker.
    pub attempts_alone: u32,
    /// The longest idle time-out that a connection of the holder may have, in milliseconds: so long it can linger on the
    /// platform when the holder is gone.
    pub linger_ms: u64,
    /// An earlier process of the pod held the same slots and died, and its connections may linger still: the grant is not
    /// over before their time is, however early it is given back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub after_restart: bool,
}

/// Why a stored table can't be worked with. None of these is mended by writing over it: a grant that is forgotten may be
/// handed out twice.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// The ConfigMap has no table in it.
    #[error(
        "the ConfigMap {name} has no key `{DATA_KEY}`; restore it, or delete the ConfigMap when no pod of the group runs"
    )]
    Missing {
        /// The ConfigMap.
        name: String,
    },
    /// It is not this schema's JSON.
    #[error(
        "the slot table in the ConfigMap {name} can't be read: {cause}; restore it, or delete the ConfigMap when no pod of \
         the group runs"
    )]
    Unreadable {
        /// The ConfigMap.
        name: String,
        /// What the parser says.
        cause: String,
    },
    /// A newer operator has written it.
    #[error(
        "the slot table in the ConfigMap {name} has schema version {found}, and this operator understands {SCHEMA_VERSION}; \
         run an operator that understands it. No slot is granted until then"
    )]
    Schema {
        /// The ConfigMap.
        name: String,
        /// The version found.
        found: u64,
    },
    /// It speaks of another group.
    #[error(
        "the slot table in the ConfigMap {name} is of the group {found_instance}/{found_group}, where \
         {instance}/{group} was expected; two groups share a hash, or somebody has copied it"
    )]
    Group {
        /// The ConfigMap.
        name: String,
        /// The instance expected.
        instance: String,
        /// The group expected.
        group: String,
        /// The instance found.
        found_instance: String,
        /// The group found.
        found_group: String,
    },
    /// It contradicts itself.
    #[error(
        "the slot table in the ConfigMap {name} contradicts itself: {what}; somebody has edited it. Restore it, or delete the \
         ConfigMap when no pod of the group runs"
    )]
    Contradiction {
        /// The ConfigMap.
        name: String,
        /// How.
        what: String,
    },
}

impl Table {
    /// The table of a group of which nobody has ever held a slot.
    pub fn new(group: PlatformGroup) -> Self {
        Self { schema_version: SCHEMA_VERSION, group, next_epoch: Epoch(1), holders: Vec::new() }
    }

    /// Reads what is stored for this group. `stored` is the value of [`DATA_KEY`], if there is one.
    pub fn parse(group: &PlatformGroup, stored: Option<&str>) -> Result<Self, TableError> {
        /// The only field that every version of the schema has.
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            schema_version: u64,
        }
        let name = group.config_map_name();
        let Some(stored) = stored else { return Err(TableError::Missing { name }) };
        let unreadable =
            |error: serde_json::Error| TableError::Unreadable { name: name.clone(), cause: error.to_string() };
        let Version { schema_version: found } = serde_json::from_str(stored).map_err(unreadable)?;
        if found != u64::from(SCHEMA_VERSION) {
            return Err(TableError::Schema { name, found });
        }
        let table: Self = serde_json::from_str(stored).map_err(unreadable)?;
        if table.group != *group {
            return Err(TableError::Group {
                name,
                instance: group.instance.clone(),
                group: group.group_id.clone(),
                found_instance: table.group.instance,
                found_group: table.group.group_id,
            });
        }
        match table.contradiction() {
            Some(what) => Err(TableError::Contradiction { name, what }),
            None => Ok(table),
        }
    }

    /// The JSON to store.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The grant that this pod has.
    pub fn of_pod(&self, pod: &PodUid) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.pod.uid == *pod)
    }

    /// How many slots are held.
    pub fn held(&self) -> usize {
        self.holders.iter().map(|holder| holder.slots.len()).sum()
    }

    /// The sum of what the holders may attempt in a minute on their own.
    pub fn attempts_alone(&self) -> u32 {
        self.holders.iter().map(|holder| holder.attempts_alone).fold(0, u32::saturating_add)
    }

    /// The lowest `count` slots below `limit` that nobody holds.
    pub fn free(&self, limit: u32, count: usize) -> Option<Vec<SlotIndex>> {
        let held: BTreeSet<SlotIndex> = self.holders.iter().flat_map(|holder| holder.slots.iter().copied()).collect();
        let free: Vec<_> = (0..limit).map(SlotIndex).filter(|slot| !held.contains(slot)).take(count).collect();
        (free.len() == count).then_some(free)
    }

    fn contradiction(&self) -> Option<String> {
        let mut slots = BTreeSet::new();
        let mut pods = BTreeSet::new();
        let mut before = Epoch::NONE;
        for Holder { slots: held, epoch, pod, .. } in &self.holders {
            if held.is_empty() {
                return Some(format!("the grant {epoch} has no slots"));
            }
            if let Some(slot) = held.iter().find(|slot| !slots.insert(**slot)) {
                return Some(format!("the slot {slot} is held twice"));
            }
            if !pods.insert(&pod.uid) {
                return Some(format!("the pod {pod} has two grants"));
            }
            if *epoch <= before {
                return Some(format!("the grant {epoch} stands after the grant {before}"));
            }
            before = *epoch;
        }
        (self.next_epoch <= before)
            .then(|| format!("the grant {before} is not older than the next, {}", self.next_epoch))
    }
}

#[cfg(test)]
mod tests;
