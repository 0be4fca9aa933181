//! Nodes that are lost for good: deleted, or tainted `node.kubernetes.io/out-of-service` by whoever vouches for it. A node
//! that is merely not ready is none of them: its pods may run on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use kube::api::ApiResource;
use kube::core::{Object, ObjectMeta};
use kube::runtime::watcher::Event;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Set by a person, or by what fences machines, once nothing runs on the node any more.
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// As much of a node as is read from the API server.
pub type RawNode = Object<RawSpec, NoStatus>;

/// Nothing is read of a node's status.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct NoStatus {}

/// As much of a node's spec as is read.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RawSpec {
    taints: Vec<RawTaint>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
struct RawTaint {
    key: String,
}

/// The kind that [`RawNode`] is read as.
pub fn resource() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::Node>(&())
}

/// What is known of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    /// It is there, and may run pods.
    There,
    /// It is tainted out of service.
    OutOfService,
    /// The watch does not know it: it may be new, or deleted. Ask the API server.
    Unknown,
}

/// The index, fed by a watch. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Nodes(Arc<Mutex<Index>>);

#[derive(Debug, Default)]
struct Index {
    known: HashMap<String, Node>,
    listing: Option<HashMap<String, Node>>,
    listeners: Vec<mpsc::UnboundedSender<String>>,
}

impl Nodes {
    /// What is known of a node.
    pub fn get(&self, name: &str) -> Node {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).known.get(name).copied().unwrap_or(Node::Unknown)
    }

    /// The names of nodes of which something else is known from now on.
    pub fn subscribe(&self) -> mpsc::UnboundedReceiver<String> {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).listeners.push(sender);
        receiver
    }

    /// Takes an event of the watch in.
    pub fn take(&self, event: &Event<RawNode>) {
        let mut index = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in index.take(event) {
            index.listeners.retain(|listener| listener.send(name.clone()).is_ok());
        }
    }
}

impl Index {
    fn take(&mut self, event: &Event<RawNode>) -> Vec<String> {
        match event {
            Event::Init => {
                self.listing = Some(HashMap::new());
                Vec::new()
            }
            Event::InitApply(raw) => {
                if let (Some(listing), Some((name, node))) = (&mut self.listing, read(raw)) {
                    listing.insert(name, node);
                }
                Vec::new()
            }
            Event::InitDone => {
                let listed = self.listing.take().unwrap_or_default();
                // A list may be older than what the watch has told: that a node is not on it proves nothing.
                let missing = self.known.keys().filter(|name| !listed.contains_key(*name)).cloned().collect::<Vec<_>>();
                let gone = missing.into_iter().filter_map(|name| self.remove(name)).collect::<Vec<_>>();
                gone.into_iter().chain(listed.into_iter().filter_map(|(name, node)| self.set(name, node))).collect()
            }
            Event::Apply(raw) => read(raw).and_then(|(name, node)| self.set(name, node)).into_iter().collect(),
            Event::Delete(raw) => raw.metadata.name.clone().and_then(|name| self.remove(name)).into_iter().collect(),
        }
    }

    /// The name, if this is news.
    fn set(&mut self, name: String, node: Node) -> Option<String> {
        (self.known.insert(name.clone(), node) != Some(node)).then_some(name)
    }

    fn remove(&mut self, name: String) -> Option<String> {
        self.known.remove(&name).map(|_| name)
    }
}

fn read(raw: &RawNode) -> Option<(String, Node)> {
    let ObjectMeta { name, .. } = &raw.metadata;
    let out = raw.spec.taints.iter().any(|taint| taint.key == OUT_OF_SERVICE);
    Some((name.clone()?, if out { Node::OutOfService } else { Node::There }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, taints: &[&str]) -> RawNode {
        let taints =
            taints.iter().map(|key| serde_json::json!({"key": key, "effect": "NoExecute"})).collect::<Vec<_>>();
        let object = serde_json::json!({
            "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"taints": taints},
            "status": {"conditions": [{"type": "Ready", "status": "Unknown"}]},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn only_a_vouched_taint_or_a_deletion_counts() {
        let nodes = Nodes::default();
        let mut news = nodes.subscribe();
        nodes.take(&Event::Apply(node("a", &["node.kubernetes.io/unreachable"])));
        assert_eq!(nodes.get("a"), Node::There);
        nodes.take(&Event::Apply(node("a", &["node.kubernetes.io/unreachable", OUT_OF_SERVICE])));
        assert_eq!(nodes.get("a"), Node::OutOfService);
        nodes.take(&Event::Delete(node("a", &[])));
        assert_eq!(nodes.get("a"), Node::Unknown);
        assert_eq!(std::iter::from_fn(|| news.try_recv().ok()).collect::<Vec<_>>(), ["a", "a", "a"]);
    }

    #[test]
    fn a_node_that_is_not_on_a_new_list_has_to_be_asked_for() {
        let nodes = Nodes::default();
        nodes.take(&Event::Apply(node("a", &[])));
        let mut news = nodes.subscribe();
        for event in [Event::Init, Event::InitApply(node("b", &[])), Event::InitDone] {
            nodes.take(&event);
        }
        assert_eq!((nodes.get("a"), nodes.get("b")), (Node::Unknown, Node::There));
        assert_eq!(std::iter::from_fn(|| news.try_recv().ok()).collect::<Vec<_>>(), ["a", "b"]);
    }
}
