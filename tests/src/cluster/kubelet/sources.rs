//! What a pod takes from elsewhere: Secrets, `ConfigMap`s, and facts about itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::Result;
use k8s_openapi::api::core::v1::{ConfigMap, Container, Pod, Secret, Volume};
use kube::{Api, Client, ResourceExt as _};

/// The address of every node.
pub(super) const HOST_IP: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Something that a container needs is not there.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Missing(pub(super) String);

/// The content of one Secret or ConfigMap.
pub(super) type Content = BTreeMap<String, Vec<u8>>;

/// The Secrets and `ConfigMap`s that a pod refers to, as far as they exist.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources {
    secrets: BTreeMap<String, Content>,
    config_maps: BTreeMap<String, Content>,
}

impl Sources {
    /// Reads them all.
    pub(super) async fn fetch(client: &Client, pod: &Pod) -> Result<Self> {
        let namespace = pod.namespace().unwrap_or_default();
        let (secret_names, config_map_names) = references(pod);
        let mut sources = Self::default();
        let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        for name in secret_names {
            if let Some(secret) = secrets.get_opt(&name).await? {
                let data = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                sources.secrets.insert(name, data.collect());
            }
        }
        let config_maps: Api<ConfigMap> = Api::namespaced(client.clone(), &namespace);
        for name in config_map_names {
            if let Some(map) = config_maps.get_opt(&name).await? {
                let text = map.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.into_bytes()));
                let binary = map.binary_data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
                sources.config_maps.insert(name, text.chain(binary).collect());
            }
        }
        Ok(sources)
    }

    #[cfg(test)]
    pub(super) fn from_maps<const S: usize, const C: usize>(
        secrets: [(&str, [(&str, &str); S]); 1],
        config_maps: [(&str, [(&str, &str); C]); 1],
    ) -> Self {
        fn content<const N: usize>(entries: [(&str, &str); N]) -> Content {
            entries.into_iter().map(|(key, value)| (key.to_owned(), value.as_bytes().to_vec())).collect()
        }
        Self {
            secrets: secrets.into_iter().map(|(name, entries)| (name.to_owned(), content(entries))).collect(),
            config_maps: config_maps.into_iter().map(|(name, entries)| (name.to_owned(), content(entries))).collect(),
        }
    }

    /// A Secret's content; none if it is optional and not there.
    pub(super) fn secret(&self, name: &str, optional: Option<bool>) -> Result<Option<&Content>, Missing> {
        found(self.secrets.get(name), optional, "Secret", name)
    }

    /// A ConfigMap's content; none if it is optional and not there.
    pub(super) fn config_map(&self, name: &str, optional: Option<bool>) -> Result<Option<&Content>, Missing> {
        found(self.config_maps.get(name), optional, "ConfigMap", name)
    }
}

fn found<'a>(
    content: Option<&'a Content>,
    optional: Option<bool>,
    kind: &str,
    name: &str,
) -> Result<Option<&'a Content>, Missing> {
    match content {
        None if optional != Some(true) => Err(Missing(format!("{kind} {name} was not found"))),
        content => Ok(content),
    }
}

/// The names of the Secrets and `ConfigMap`s that a pod refers to.
fn references(pod: &Pod) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut secrets, mut config_maps) = (BTreeSet::new(), BTreeSet::new());
    let Some(spec) = &pod.spec else { return (secrets, config_maps) };
    for container in spec.init_containers.iter().flatten().chain(&spec.containers) {
        references_of_container(container, &mut secrets, &mut config_maps);
    }
    for volume in spec.volumes.iter().flatten() {
        references_of_volume(volume, &mut secrets, &mut config_maps);
    }
    (secrets, config_maps)
}

fn references_of_container(container: &Container, secrets: &mut BTreeSet<String>, config_maps: &mut BTreeSet<String>) {
    for from in container.env_from.iter().flatten() {
        secrets.extend(from.secret_ref.iter().map(|secret| secret.name.clone()));
        config_maps.extend(from.config_map_ref.iter().map(|map| map.name.clone()));
    }
    for from in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        secrets.extend(from.secret_key_ref.iter().map(|secret| secret.name.clone()));
        config_maps.extend(from.config_map_key_ref.iter().map(|map| map.name.clone()));
    }
}

fn references_of_volume(volume: &Volume, secrets: &mut BTreeSet<String>, config_maps: &mut BTreeSet<String>) {
    secrets.extend(volume.secret.iter().filter_map(|secret| secret.secret_name.clone()));
    config_maps.extend(volume.config_map.iter().map(|map| map.name.clone()));
    let projections = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    for projection in projections {
        secrets.extend(projection.secret.iter().map(|secret| secret.name.clone()));
        config_maps.extend(projection.config_map.iter().map(|map| map.name.clone()));
    }
}

/// What a pod may learn of itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) pod: &'a Pod,
    pub(super) ip: Ipv4Addr,
}

impl Facts<'_> {
    pub(super) fn pod_name(&self) -> String {
        self.pod.name_any()
    }

    /// What a `fieldPath` means.
    pub(super) fn field(&self, path: &str) -> Result<String, Missing> {
        let spec = self.pod.spec.as_ref();
        let lines = |map: &BTreeMap<String, String>| {
            map.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
        };
        let one = |map: &BTreeMap<String, String>, key: &str| map.get(key).cloned().unwrap_or_default();
        let key = |prefix: &str| path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']");
        Ok(match path {
            "metadata.name" => self.pod.name_any(),
            "metadata.namespace" => self.pod.namespace().unwrap_or_default(),
            "metadata.uid" => self.pod.uid().unwrap_or_default(),
            "metadata.labels" => lines(self.pod.labels()),
            "metadata.annotations" => lines(self.pod.annotations()),
            "spec.nodeName" => spec.and_then(|spec| spec.node_name.clone()).unwrap_or_default(),
            "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
            "status.podIP" | "status.podIPs" => self.ip.to_string(),
            "status.hostIP" | "status.hostIPs" => HOST_IP.to_string(),
            _ => {
                let label = key("metadata.labels").map(|key| one(self.pod.labels(), key));
                label
                    .or_else(|| key("metadata.annotations").map(|key| one(self.pod.annotations(), key)))
                    .ok_or_else(|| Missing(format!("this kubelet does not know the field {path}")))?
            }
        })
    }
}
