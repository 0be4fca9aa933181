//! The rules for how fields go together, what may not change, and what means something in one place only.
//!
//! A relation must not stand at an object that the schema gives a default: the API server wants the default to keep it, and
//! a default is the empty object, whose fields get theirs only in a document. Those stand at `spec`.

use super::{Demand, Relation, Rule};
use crate::validate::Mode;
use crate::{ApiCredentials, AssumeRole, CaBundle, Credentials, ScalingMode, SecretReference, WorkloadIdentity};

const ONE_SOURCE_EXPECTED: &str = "exactly one of secretRef, assumeRole and workloadIdentity";

pub(super) static RULES: &[Rule] = &[
    Rule {
        path: "spec.instance.accountId",
        only: Some(Mode::Cluster),
        demand: Demand::Relation(Relation {
            at: "spec.instance",
            cel: Some("has(self.id) || has(self.accountId)"),
            expected: "given where the instance has no id",
            broken: |s| (s.instance.id.is_none() && s.instance.account_id.is_none()).then(missing),
        }),
        advice: "client slots are counted per instance and group: give spec.instance.id, or for a legacy public \
                 instance spec.instance.accountId",
    },
    Rule {
        path: "spec.instance.caBundle",
        only: Some(Mode::Cluster),
        demand: Demand::Relation(Relation {
            at: "spec.instance.caBundle",
            cel: Some("[has(self.configMapKeyRef), has(self.file), has(self.pem)].exists_one(given, given)"),
            expected: "exactly one of configMapKeyRef and pem",
            // The type has exactly one.
            broken: |_| None,
        }),
        advice: "name where the certificates are, or leave caBundle out to trust the well-known authorities",
    },
    Rule {
        path: "spec.instance.caBundle.file",
        only: Some(Mode::Cluster),
        demand: Demand::Relation(Relation {
            at: "spec.instance.caBundle",
            cel: Some("!has(self.file)"),
            expected: "left out in a cluster",
            broken: |s| matches!(s.instance.ca_bundle, Some(CaBundle::File(_))).then(given),
        }),
        advice: "the operator reads no files: put the certificates into a ConfigMap and name it in configMapKeyRef, or \
                 paste them into pem",
    },
    Rule {
        path: "spec.instance.caBundle.configMapKeyRef",
        only: Some(Mode::File),
        demand: Demand::Relation(Relation {
            at: "spec.instance.caBundle",
            cel: None,
            expected: "left out in a file",
            broken: |s| matches!(s.instance.ca_bundle, Some(CaBundle::ConfigMapKeyRef(_))).then(given),
        }),
        advice: "a sidecar that runs from a file knows no ConfigMaps: use caBundle.file or caBundle.pem",
    },
    Rule {
        path: "spec.instance.region",
        only: Some(Mode::Cluster),
        demand: Demand::Relation(Relation {
            at: "spec",
            cel: Some("!has(self.subscriptions) || has(self.instance.region) || has(self.instance.apiEndpoint)"),
            expected: "given where there are subscriptions",
            broken: |s| {
                let instance = &s.instance;
                let unknown = instance.region.is_none() && instance.api_endpoint.is_none();
                (s.subscriptions.is_some() && unknown).then(missing)
            },
        }),
        advice: "the OpenAPI tells of them: give spec.instance.region or spec.instance.apiEndpoint",
    },
    Rule {
        path: "spec.credentials",
        only: Some(Mode::Cluster),
        demand: Demand::Relation(Relation {
            at: "spec",
            cel: Some(
                "has(self.credentials) && [has(self.credentials.secretRef), has(self.credentials.assumeRole), \
                 has(self.credentials.workloadIdentity)].exists_one(given, given)",
            ),
            expected: ONE_SOURCE_EXPECTED,
            broken: |s| {
                let Credentials { secret_ref, assume_role, workload_identity, sign_method: _ } = &s.credentials;
                sources(secret_ref.as_ref(), assume_role.as_ref(), workload_identity.as_ref())
            },
        }),
        advice: "name the one place that the keys come from, such as secretRef: {name: iot-access-key}",
    },
    Rule {
        path: "spec.apiCredentials",
        only: Some(Mode::Cluster),
        demand: Demand::Relation(Relation {
            at: "spec.apiCredentials",
            cel: Some(
                "[has(self.secretRef), has(self.assumeRole), has(self.workloadIdentity)].exists_one(given, given)",
            ),
            expected: ONE_SOURCE_EXPECTED,
            broken: |s| {
                let ApiCredentials { secret_ref, assume_role, workload_identity } = s.api_credentials.as_ref()?;
                sources(secret_ref.as_ref(), assume_role.as_ref(), workload_identity.as_ref())
            },
        }),
        advice: "name the one place that the keys come from, or leave apiCredentials out to use spec.credentials",
    },
    Rule {
        path: "spec.workload.targetRef.kind",
        only: None,
        demand: Demand::Relation(Relation {
            at: "spec.workload.targetRef",
            cel: Some("!self.apiVersion.startsWith('sluice.dev/')"),
            expected: "a workload, not one of Sluice's own objects",
            broken: |s| {
                let target = &s.workload.as_ref()?.target_ref;
                target.api_version.starts_with("sluice.dev/").then(|| format!("{:?}", target.kind))
            },
        }),
        advice: "name what makes the pods, such as a Deployment",
    },
    Rule {
        path: "spec.scaling.maxReplicas",
        only: None,
        demand: Demand::Relation(Relation {
            at: "spec",
            cel: Some("self.scaling.minReplicas <= self.scaling.maxReplicas"),
            expected: "at least minReplicas",
            broken: |s| {
                let scaling = &s.scaling;
                (scaling.min_replicas > scaling.max_replicas)
                    .then(|| format!("{}, with minReplicas {}", scaling.max_replicas, scaling.min_replicas))
            },
        }),
        advice: "raise it, or lower minReplicas",
    },
    Rule {
        path: "spec.scaling.replicas",
        only: None,
        demand: Demand::Relation(Relation {
            at: "spec",
            cel: Some("self.scaling.mode != 'External' || has(self.scaling.replicas)"),
            expected: "given in mode External",
            broken: |s| {
                let scaling = &s.scaling;
                (scaling.mode == ScalingMode::External && scaling.replicas.is_none()).then(missing)
            },
        }),
        advice: "give the number of pods to begin with; whoever scales goes on from there",
    },
    Rule {
        path: "spec.scaling.replicas",
        only: None,
        demand: Demand::Relation(Relation {
            at: "spec",
            cel: Some("self.scaling.mode == 'External' || !has(self.scaling.replicas)"),
            expected: "left out in mode Operator",
            broken: |s| match s.scaling {
                crate::Scaling { mode: ScalingMode::Operator, replicas: Some(replicas), .. } => {
                    Some(replicas.to_string())
                }
                _ => None,
            },
        }),
        advice: "the operator decides on the number of pods: remove it and set minReplicas and maxReplicas, or set mode: \
                 External",
    },
    Rule {
        path: "spec.workload",
        only: None,
        demand: Demand::Relation(Relation {
            at: "spec",
            cel: Some("self.scaling.mode != 'External' || has(self.workload)"),
            expected: "given where spec.scaling.mode is External",
            broken: |s| (s.scaling.mode == ScalingMode::External && s.workload.is_none()).then(missing),
        }),
        advice: "name what is scaled in spec.workload.targetRef",
    },
    Rule {
        path: "spec.delivery.connectionsPerPod",
        only: None,
        demand: Demand::Relation(Relation {
            at: "spec",
            cel: Some("self.delivery.connectionsPerPod <= self.limits.clientSlots"),
            expected: "at most spec.limits.clientSlots",
            broken: |s| {
                let (connections, slots) = (s.delivery.connections_per_pod, s.limits.client_slots);
                (connections > slots).then(|| format!("{connections}, with clientSlots {slots}"))
            },
        }),
        advice: "a pod gets client slots for all of its connections or none",
    },
    Rule {
        path: "spec.scaling.minReplicas",
        only: None,
        demand: Demand::Relation(Relation {
            at: "spec",
            cel: Some(
                "self.delivery.connectionsPerPod > self.limits.clientSlots || \
                 self.scaling.minReplicas * self.delivery.connectionsPerPod <= self.limits.clientSlots",
            ),
            expected: "no more pods than there are client slots for",
            broken: |s| {
                let (connections, slots) = (s.delivery.connections_per_pod, s.limits.client_slots);
                let pods = s.scaling.min_replicas;
                let too_many = connections <= slots && u64::from(pods) * u64::from(connections) > slots.into();
                too_many.then(|| format!("{pods}, with connectionsPerPod {connections} and clientSlots {slots}"))
            },
        }),
        advice: "lower it or spec.delivery.connectionsPerPod; the rest would stand by for ever",
    },
    Rule {
        path: "spec.delivery.connectionsPerPod",
        only: Some(Mode::File),
        demand: Demand::Relation(Relation {
            at: "spec.delivery",
            cel: None,
            expected: "1 in a file",
            broken: |s| {
                let connections = s.delivery.connections_per_pod;
                (connections != 1).then(|| connections.to_string())
            },
        }),
        advice: "a sidecar that runs from a file has one connection: run several of them",
    },
    Rule {
        path: "spec.delivery.retry.maxBackoff",
        only: None,
        demand: Demand::Relation(Relation {
            at: "spec",
            // What is no duration is refused for itself.
            cel: Some(concat!(
                "!self.delivery.retry.minBackoff.matches('",
                duration_pattern!(),
                "') || !self.delivery.retry.maxBackoff.matches('",
                duration_pattern!(),
                "') || self.delivery.retry.minBackoff == '' || self.delivery.retry.maxBackoff == '' || \
                 duration(self.delivery.retry.minBackoff) <= duration(self.delivery.retry.maxBackoff)",
            )),
            expected: "at least minBackoff",
            broken: |s| {
                let retry = &s.delivery.retry;
                (retry.min_backoff > retry.max_backoff)
                    .then(|| format!("{}, with minBackoff {}", retry.max_backoff, retry.min_backoff))
            },
        }),
        advice: "raise it, or lower minBackoff",
    },
    Rule {
        path: "spec.groupId",
        only: Some(Mode::Cluster),
        demand: Demand::Constant {
            at: "spec.groupId",
            cel: "self == oldSelf",
            change: |old, new| (old.group_id != new.group_id).then(|| format!("{:?}", new.group_id)),
        },
        advice: "make a new ConsumerGroup for another group, and delete this one",
    },
    Rule {
        path: "spec.instance.id",
        only: Some(Mode::Cluster),
        demand: Demand::Constant {
            at: "spec.instance",
            cel: "has(self.id) == has(oldSelf.id) && (!has(self.id) || self.id == oldSelf.id)",
            change: |old, new| (old.instance.id != new.instance.id).then(|| shown(new.instance.id.as_ref())),
        },
        advice: "make a new ConsumerGroup for a group of another instance, and delete this one",
    },
    Rule {
        path: "spec.instance.accountId",
        only: Some(Mode::Cluster),
        demand: Demand::Constant {
            at: "spec.instance",
            cel: "!has(oldSelf.accountId) || (has(self.accountId) && self.accountId == oldSelf.accountId)",
            change: |old, new| {
                let (old, new) = (&old.instance.account_id, &new.instance.account_id);
                (old.is_some() && old != new).then(|| shown(new.as_ref()))
            },
        },
        advice: "make a new ConsumerGroup for a group of another account, and delete this one",
    },
];

fn missing() -> String {
    "missing".to_owned()
}

fn given() -> String {
    "given".to_owned()
}

fn shown(value: Option<&String>) -> String {
    value.map_or_else(missing, |value| format!("{value:?}"))
}

/// Which sources of keys are given, unless it is exactly one.
fn sources(
    secret: Option<&SecretReference>,
    role: Option<&AssumeRole>,
    identity: Option<&WorkloadIdentity>,
) -> Option<String> {
    let all =
        [("secretRef", secret.is_some()), ("assumeRole", role.is_some()), ("workloadIdentity", identity.is_some())];
    let given: Vec<_> = all.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
    match given.as_slice() {
        [_] => None,
        [] => Some("without any of them".to_owned()),
        several => Some(several.join(" and ")),
    }
}
