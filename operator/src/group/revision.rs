//! Which revision of a workload is being rolled out, when its pods are of several. Pods do not say: a rollback makes an old
//! revision the newest one again. Their controllers do: a ReplicaSet by an annotation, a StatefulSet in its status.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use kube::Client;
use kube::api::{Api, ApiResource};

use super::pods::{Owner, Pod};
use crate::fault::{Fault, bounded};
use crate::metrics::Metrics;
use crate::slots::Revision;
use crate::time::Time;

/// What a Deployment numbers its ReplicaSets by. A rollback gives the old one a new, highest number.
const NUMBER: &str = "deployment.kubernetes.io/revision";
/// How long an answer holds while the pods are of the same revisions.
const FRESH: Duration = Duration::from_secs(10);

/// What is remembered of one workload.
#[derive(Debug, Default)]
pub struct Revisions {
    known: Option<(BTreeSet<Candidate>, Option<Revision>, Time)>,
}

/// A revision that pods are of, and what controls those pods.
type Candidate = (String, Option<Owner>);

/// The kinds that need no look at the API server's list.
pub(super) fn well_known(api_version: &str, kind: &str) -> Option<ApiResource> {
    match (api_version, kind) {
        ("apps/v1", "Deployment") => Some(ApiResource::erase::<Deployment>(&())),
        ("apps/v1", "ReplicaSet") => Some(ApiResource::erase::<ReplicaSet>(&())),
        ("apps/v1", "StatefulSet") => Some(ApiResource::erase::<StatefulSet>(&())),
        _ => None,
    }
}

impl Revisions {
    /// The revision that is rolled out, or has been; `None` if it can't be told, and then no pod is preferred.
    pub async fn newest(
        &mut self,
        client: &Client,
        metrics: &Metrics,
        namespace: &str,
        pods: &[Arc<Pod>],
        at: Time,
    ) -> Option<Revision> {
        let candidates = candidates(pods);
        let distinct: BTreeSet<&String> = candidates.iter().map(|(revision, _)| revision).collect();
        if distinct.len() < 2 {
            self.known = None;
            return distinct.into_iter().next().map(|revision| Revision(revision.as_str().into()));
        }
        if let Some((known, newest, read)) = &self.known
            && *known == candidates
            && at.since(*read) < FRESH
        {
            return newest.clone();
        }
        let mut numbers = BTreeMap::new();
        for (revision, owner) in &candidates {
            match ask(client, namespace, owner.as_ref()).await {
                Ok(Some(Answer::Number(number))) => {
                    numbers.insert(number, revision.clone());
                }
                Ok(Some(Answer::Newest(newest))) => {
                    numbers.insert(u64::MAX, newest);
                }
                Ok(None) => {}
                Err(error) => metrics.api_error(error.class),
            }
        }
        let newest = numbers.into_iter().next_back().map(|(_, revision)| Revision(revision.into()));
        self.known = Some((candidates, newest.clone(), at));
        newest
    }
}

fn candidates(pods: &[Arc<Pod>]) -> BTreeSet<Candidate> {
    let living = pods.iter().filter(|pod| pod.counts());
    living.filter_map(|pod| Some((pod.revision.clone()?, pod.owner.clone()))).collect()
}

enum Answer {
    /// The revision has this number, and the highest is the newest.
    Number(u64),
    /// The newest is this one.
    Newest(String),
}

async fn ask(client: &Client, namespace: &str, owner: Option<&Owner>) -> Result<Option<Answer>, Fault> {
    let Some(owner) = owner else { return Ok(None) };
    match owner.kind.as_str() {
        "ReplicaSet" => {
            let sets = Api::<ReplicaSet>::namespaced(client.clone(), namespace);
            let found = bounded(sets.get_metadata_opt(&owner.name)).await?;
            let number = found.and_then(|set| set.metadata.annotations?.get(NUMBER)?.parse().ok());
            Ok(number.map(Answer::Number))
        }
        "StatefulSet" => {
            let sets = Api::<StatefulSet>::namespaced(client.clone(), namespace);
            let found = bounded(sets.get_opt(&owner.name)).await?;
            Ok(found.and_then(|set| set.status?.update_revision).map(Answer::Newest))
        }
        _ => Ok(None),
    }
}
