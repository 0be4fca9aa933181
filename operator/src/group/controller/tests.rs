use kube::Client;
use serde_json::json;
use tokio::sync::watch;

use super::*;
use crate::credentials::{Clients, Keeper};
use crate::group::contest::Contests;
use crate::group::dereference::Kinds;
use crate::group::fixtures;
use crate::group::pods::Pods;
use crate::leader::Leadership;

/// A pipeline that reaches no API server, and knows one ConsumerGroup.
fn controller() -> Controller {
    let client = Client::try_from(kube::Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let (clock, metrics, kinds) = (Clock::start(), Metrics::default(), Kinds::default());
    let clients = Clients::new(Arc::new(EndpointPolicy::default()));
    let (keeper, _) = Keeper::new(client.clone(), clients, clock, metrics.clone());
    let objects = Objects::default();
    let object = serde_json::to_value(fixtures::object(|_| {})).unwrap();
    objects.take(watcher::Event::Apply(serde_json::from_value(object).unwrap()));
    Controller {
        sources: Sources {
            client: client.clone(),
            keeper,
            pods: Pods::default(),
            contests: Contests::default(),
            broker: None,
            platform: None,
            metrics: metrics.clone(),
            kinds: kinds.clone(),
        },
        writer: Writer {
            client: client.clone(),
            recorder: status::recorder(client, "test".into()),
            leadership: watch::channel(Leadership::default()).1,
            clock,
            metrics: metrics.clone(),
            kinds,
        },
        endpoints: EndpointPolicy::default(),
        directory: Directory::default(),
        objects,
        clock,
        metrics,
    }
}

#[tokio::test]
async fn a_run_that_panicked_is_tried_again_less_and_less_often() {
    let controller = controller();
    let (mut queue, mut memories, mut users) = (Queue::new(1), HashMap::new(), HashMap::new());
    let name = fixtures::name();
    queue.add(&name, Lane::Change, Time(0));
    for failures in 1..=3 {
        let begun = queue.wake_at().expect("nobody will ever look at it again");
        assert_eq!(queue.take(begun), Some(name.clone()));
        let memory: Memory = memories.remove(&name).unwrap_or_default();
        let ended = Held { name: name.clone(), failures: memory.failures, begun }.panicked(begun);
        queue.done(&ended.name);
        let before = controller.clock.now();
        controller.settle(&mut queue, &mut memories, &mut users, ended);
        let least = Class::Internal.backoff(failures, 1.0);
        assert!(queue.wake_at().unwrap().since(before) >= least, "{failures}");
        assert_eq!(memories[&name].failures, failures);
    }
}

#[tokio::test]
async fn pods_that_look_for_a_group_in_vain_are_counted() {
    let controller = controller();
    for (uid, group) in [("1", "telemetry"), ("2", "telemetri"), ("3", "telemetri")] {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod", "spec": {"containers": []},
            "metadata": {"name": uid, "namespace": "plant-a", "uid": uid, "labels": {GROUP_LABEL: group}},
        });
        controller.sources.pods.take(&watcher::Event::Apply(serde_json::from_value(pod).unwrap()));
    }
    controller.look_for_groups(&mut Orphans::default(), Time(0));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &controller.metrics.registry()).unwrap();
    assert!(text.lines().any(|line| line == "sluice_operator_pods_without_group 2"), "{text}");
    let notice = build::no_such_group(&GroupRef::new("plant-a", "telemetri"));
    assert!(notice.warning && notice.note.contains("ConsumerGroup telemetri") && notice.note.contains("plant-a"));
}

#[test]
fn a_workload_that_nobody_answered_for_is_not_said_to_be_unscalable() {
    let said = |class| {
        let verdict = Verdict {
            kind: ConditionType::Scaling,
            truth: Some(Truth::True),
            reason: Reason::Active,
            message: "as planned".into(),
        };
        let mut plan = Plan { verdicts: vec![verdict], ..Plan::default() };
        not_applied(&mut plan, &Fault::new(class, "the server's words"));
        plan.verdicts.remove(0)
    };
    assert_eq!(said(Class::Unavailable).truth, Some(Truth::Unknown));
    assert_eq!(said(Class::Conflict).truth, Some(Truth::True));
    let forbidden = said(Class::Forbidden);
    assert_eq!((forbidden.truth, forbidden.reason), (Some(Truth::False), Reason::TargetNotScalable));
    assert!(forbidden.message.contains("the server's words"));
}
