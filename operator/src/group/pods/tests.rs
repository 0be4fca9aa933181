use proptest::prelude::*;
use serde_json::json;

use super::*;

fn raw(uid: &str, group: Option<&str>) -> RawPod {
    let mut labels = json!({"app": "worker", "pod-template-hash": "5d4f"});
    if let Some(group) = group {
        labels[GROUP_LABEL] = json!(group);
    }
    serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{uid}"), "namespace": "plant-a", "uid": uid, "labels": labels},
        "spec": {"containers": [{"name": "app", "image": "x"}], "nodeName": "n1"},
    }))
    .unwrap()
}

fn name(group: &str) -> GroupRef {
    GroupRef::new("plant-a", group)
}

#[test]
fn of_a_pod_only_what_is_needed_is_kept() {
    let pod: RawPod = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "worker-1", "namespace": "plant-a", "uid": "u1",
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "worker", "uid": "o", "controller": true}],
            "deletionTimestamp": "2026-11-20T12:00:00Z",
            "labels": {GROUP_LABEL: "telemetry", "controller-revision-hash": "worker-77"},
            "annotations": {DELETION_COST: "-10"},
        },
        "spec": {
            "containers": [{"name": "app"}], "initContainers": [{"name": "sluice", "restartPolicy": "Always"}],
            "terminationGracePeriodSeconds": 45, "nodeName": "n1", "tolerations": [{"operator": "Exists"}],
        },
        "status": {
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
            "initContainerStatuses": [{
                "name": "sluice", "image": "i", "imageID": "", "ready": true, "restartCount": 2, "containerID": "c://9",
                "state": {"running": {"startedAt": "2026-11-20T11:00:00Z"}},
            }],
        },
    }))
    .unwrap();
    let sidecar = SidecarContainer { state: SidecarState::Running("c://9".into()), restarts: 2 };
    let expected = Pod {
        group: name("telemetry"),
        name: "worker-1".into(),
        uid: "u1".into(),
        node: Some("n1".into()),
        revision: Some("worker-77".into()),
        owner: Some(Owner { kind: "StatefulSet".into(), name: "worker".into() }),
        deleting: true,
        ended: false,
        ready: true,
        sidecar: Some(sidecar),
        grace_seconds: 45,
        deletion_cost: Some(-10),
    };
    assert_eq!(Pod::read(&pod), Some(expected));
}

#[test]
fn a_pod_without_the_label_or_the_sidecar_is_told_apart() {
    assert_eq!(Pod::read(&raw("u", None)), None);
    assert_eq!(Pod::read(&raw("u", Some(""))), None);
    assert_eq!(Pod::read(&raw("u", Some("g"))).unwrap().sidecar, None);
}

#[test]
fn a_pod_that_is_left_out_on_purpose_is_none_of_the_group_s_unless_it_has_a_sidecar_all_the_same() {
    for (inject, sidecar, known) in
        [("false", false, false), ("false", true, true), ("true", false, true), ("no", false, true)]
    {
        let mut pod = raw("u", Some("g"));
        pod.metadata.annotations = Some([(INJECT.to_owned(), inject.to_owned())].into());
        if sidecar {
            pod.spec.init_containers.push(RawContainer { name: CONTAINER.to_owned() });
        }
        assert_eq!(Pod::read(&pod).is_some(), known, "{inject} {sidecar}");
    }
}

#[test]
fn a_pod_that_vanished_while_the_watch_was_broken_is_reported_gone() {
    let pods = Pods::default();
    let (_, mut changes) = pods.subscribe();
    for event in [Event::Init, Event::InitApply(raw("1", Some("g"))), Event::InitApply(raw("2", Some("g")))] {
        pods.take(&event);
    }
    assert!(!pods.synced() && pods.is_empty(), "a list that is not complete says nothing");
    pods.take(&Event::InitDone);
    assert_eq!((pods.synced(), pods.of(&name("g")).len()), (true, 2));
    for event in [Event::Init, Event::InitApply(raw("2", Some("g"))), Event::InitDone] {
        pods.take(&event);
    }
    let told: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(matches!(&told[2], Change::Gone(pod) if pod.uid == "1"));
}

#[test]
fn a_pod_whose_label_changes_leaves_one_group_and_joins_the_other() {
    let pods = Pods::default();
    pods.take(&Event::Apply(raw("1", Some("g"))));
    let (now, mut changes) = pods.subscribe();
    assert_eq!(now.len(), 1);
    pods.take(&Event::Apply(raw("1", Some("h"))));
    assert!(matches!(changes.try_recv().unwrap(), Change::Gone(pod) if pod.group == name("g")));
    assert!(matches!(changes.try_recv().unwrap(), Change::Seen(pod) if pod.group == name("h")));
    assert_eq!((pods.of(&name("g")).len(), pods.of(&name("h")).len(), pods.len()), (0, 1, 1));
}

proptest! {
    /// Whatever comes: who replays the changes knows the same pods as the index.
    #[test]
    fn the_changes_tell_the_whole_story(ops in prop::collection::vec((0..7_u8, 0..4_u8, 0..3_u8), 1..120)) {
        let pods = Pods::default();
        let (_, mut changes) = pods.subscribe();
        let mut told: BTreeMap<(GroupRef, String), Arc<Pod>> = BTreeMap::new();
        for (op, uid, group) in ops {
            let pod = raw(&uid.to_string(), (group > 0).then_some(if group == 1 { "g" } else { "h" }));
            pods.take(&match op {
                0 => Event::Init,
                1 | 2 => Event::InitApply(pod),
                3 => Event::InitDone,
                4 => Event::Delete(pod),
                _ => Event::Apply(pod),
            });
            while let Ok(change) = changes.try_recv() {
                let key = (change.pod().group.clone(), change.pod().uid.clone());
                match change {
                    Change::Seen(pod) => { told.insert(key, pod); }
                    Change::Gone(_) => prop_assert!(told.remove(&key).is_some()),
                }
            }
            let indexed: usize = ["g", "h"].iter().map(|group| pods.of(&name(group)).len()).sum();
            prop_assert_eq!(indexed, pods.len());
            let of_told = |group: &str| told.iter().filter(|((g, _), _)| *g == name(group)).map(|(_, pod)| pod.clone()).collect::<Vec<_>>();
            prop_assert_eq!(pods.of(&name("g")), of_told("g"));
            prop_assert_eq!(pods.of(&name("h")), of_told("h"));
        }
    }
}
