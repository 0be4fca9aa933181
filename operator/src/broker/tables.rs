//! Slot tables as ConfigMaps in the operator's own namespace: read consistently, written only on a precondition.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ObjectMeta, PostParams};
use tokio::time::timeout;

use crate::fault::{Class, Fault};
use crate::slots::{DATA_KEY, LABEL, PlatformGroup, Precondition, ReadResult, Table, TableVersion, WriteResult};

/// No request may take longer. A write that has timed out may still be carried out: its outcome is unknown.
const REQUEST: Duration = Duration::from_secs(5);

/// The annotation that says in plain words which platform group a table is of.
const GROUP_NOTE: &str = "sluice.dev/platform-group";

/// Reads a table. Without a `resourceVersion`, the API server answers from etcd and not from its cache.
pub(super) async fn read(tables: &Api<ConfigMap>, group: &PlatformGroup) -> ReadResult {
    let name = group.config_map_name();
    match timeout(REQUEST, tables.get_opt(&name)).await {
        Ok(Ok(None)) => ReadResult::Absent,
        Ok(Ok(Some(stored))) => {
            let data = stored.data.as_ref().and_then(|data| data.get(DATA_KEY)).map(String::as_str);
            let version = stored.metadata.resource_version.clone().unwrap_or_default();
            match Table::parse(group, data) {
                Ok(table) => ReadResult::Found(table, TableVersion(version)),
                Err(error) => ReadResult::Unusable(error),
            }
        }
        Ok(Err(error)) => ReadResult::Failed(Fault::from(error).to_string()),
        Err(_) => ReadResult::Failed("the API server did not answer in time".to_owned()),
    }
}

/// Writes a table, if what is stored is still what the precondition names.
pub(super) async fn write(tables: &Api<ConfigMap>, table: &Table, precondition: Precondition) -> WriteResult {
    let object = config_map(table, &precondition);
    let name = table.group.config_map_name();
    let post = PostParams::default();
    let request = async {
        match precondition {
            Precondition::Absent => tables.create(&post, &object).await,
            Precondition::Version(_) => tables.replace(&name, &post, &object).await,
        }
    };
    match timeout(REQUEST, request).await {
        Ok(Ok(stored)) => WriteResult::Written(TableVersion(stored.metadata.resource_version.unwrap_or_default())),
        Ok(Err(error)) => {
            let answered = matches!(error, kube::Error::Api(_));
            let fault = Fault::from(error);
            match (fault.class, fault.status) {
                // Gone, or there already: either way not as the precondition has it.
                (Class::Conflict | Class::NotFound, _) => WriteResult::Conflict,
                // Only an answer in the 400s says for certain that nothing was written.
                (_, Some(400..=499)) if answered => WriteResult::Refused(fault.to_string()),
                _ => WriteResult::Unknown(fault.to_string()),
            }
        }
        Err(_) => WriteResult::Unknown("the API server did not answer in time".to_owned()),
    }
}

fn config_map(table: &Table, precondition: &Precondition) -> ConfigMap {
    let note = format!("instance {}, group {}", table.group.instance, table.group.group_id);
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(table.group.config_map_name()),
            labels: Some(BTreeMap::from([
                (LABEL.to_owned(), "true".to_owned()),
                ("app.kubernetes.io/managed-by".to_owned(), "sluice-operator".to_owned()),
            ])),
            annotations: Some(BTreeMap::from([(GROUP_NOTE.to_owned(), note)])),
            resource_version: match precondition {
                Precondition::Absent => None,
                Precondition::Version(TableVersion(version)) => Some(version.clone()),
            },
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(DATA_KEY.to_owned(), table.to_json())])),
        ..ConfigMap::default()
    }
}
