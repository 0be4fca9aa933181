//! A ConsumerGroup and the world around it, for the tests of the pure steps.

use std::sync::Arc;

use serde_json::{Value, json};
use sluice_cloud::endpoint::EndpointPolicy;
use sluice_crds::ConsumerGroup;

use super::contest::Contest;
use super::dereference::{Scale, Standings, Target, World};
use super::pods::{Pod, SidecarContainer};
use super::validate::{self, Validated};
use super::view::{Seat, Sidecar, Sidecars};
use crate::credentials::{Handle, Source, Standing};
use crate::scaling::PodFigures;
use crate::slots::GroupRef;
use crate::time::Time;

/// The time in all of it.
pub(super) const AT: Time = Time(10_000_000);

pub(super) fn name() -> GroupRef {
    GroupRef::new("plant-a", "telemetry")
}

/// A valid object; `change` makes another one of its JSON.
pub(super) fn object(change: impl FnOnce(&mut Value)) -> ConsumerGroup {
    let mut value = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "ConsumerGroup",
        "metadata": {"name": "telemetry", "namespace": "plant-a", "uid": "u", "generation": 3},
        "spec": {
            "groupId": "DEFAULT_GROUP",
            "instance": {"id": "iot-1", "region": "cn-shanghai", "amqpHost": "iot-1.amqp.iothub.aliyuncs.com"},
            "credentials": {"secretRef": {"name": "keys"}},
            "workload": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}},
        },
    });
    change(&mut value);
    serde_json::from_value(value).unwrap()
}

/// A world in which all is well, and `pods` pods consume.
pub(super) fn world(object: &ConsumerGroup, pods: u32) -> World {
    let instance = &object.spec.instance;
    let keys = |source| Source::of("plant-a", "telemetry", instance, source, None).map(Handle::idle);
    let link_keys = keys(object.spec.credentials.source());
    let api = object.spec.api_credentials.as_ref();
    let ready = Standing::Ready { version: 1, trouble: None };
    let names = || (0..pods).map(|number| format!("p{number}"));
    World {
        name: name(),
        api_keys: api.map_or_else(|| link_keys.clone(), |api| keys(api.source())),
        link_keys,
        standings: Standings { link: ready.clone(), api: api.map(|_| ready) },
        ca: Ok(None),
        target: Some(Target::Found(Scale { wanted: pods, present: pods, version: "7".into() })),
        contest: Contest::None,
        pods: names().map(|name| Arc::new(pod(&name))).collect(),
        newest: None,
        sidecars: Some(Sidecars {
            limit: 64,
            held: pods,
            held_here: pods,
            free: 64 - pods,
            verified: true,
            pods: names().map(|name| (name, sidecar())).collect(),
            ..Sidecars::default()
        }),
        platform: None,
    }
}

/// A pod with a sidecar. Its UID is its name.
pub(super) fn pod(uid: &str) -> Pod {
    Pod {
        group: name(),
        name: uid.to_owned(),
        uid: uid.to_owned(),
        node: None,
        revision: None,
        owner: None,
        deleting: false,
        ended: false,
        ready: true,
        sidecar: Some(SidecarContainer::default()),
        grace_seconds: 60,
        deletion_cost: None,
    }
}

/// A sidecar that holds its slot and is at work, busy as it should be.
pub(super) fn sidecar() -> Sidecar {
    let figures =
        PodFigures { at: AT, up: true, saturation_permille: 700, accepted_per_second: 50, received_per_second: 50 };
    Sidecar { seat: Seat::Holding, outdated: false, up: true, idle: false, figures: Some(figures) }
}

pub(super) fn validated(object: &ConsumerGroup, world: &World) -> Validated {
    validate::validate(object, world, &EndpointPolicy::default()).unwrap()
}
