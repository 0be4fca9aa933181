//! What is written down: fates, the platform's own log, and the platform's view of itself.

use bytes::Bytes;

use super::*;
use crate::platform::marks::Event;

#[test]
fn a_message_that_is_done_with_can_be_pushed_again_as_a_copy() {
    let mut world = World::new(Limits::default());
    let client = world.attached("c", 10);
    let id = world.publish(1).remove(0);
    world.settle(client, 0, 0, Outcome::Accepted);
    assert_eq!(world.platform.repeat(&id, world.now()), Some(id.clone()));
    let mut pushed = Vec::new();
    world.platform.take_outgoing(client, 10, &mut pushed);
    let bodies: Vec<&Bytes> = pushed
        .iter()
        .map(|it| match it {
            Outgoing::Push { body, .. } => body,
            Outgoing::Drained { .. } => panic!("no drain was asked for"),
        })
        .collect();
    assert_eq!((bodies.len(), bodies[0]), (2, bodies[1]));
    let counts = world.counts();
    assert_eq!((counts.published, counts.repeated, counts.accepted, counts.unsettled), (1, 1, 1, 1));
    assert_eq!(world.events(&id), ["published", "pushed", "accepted", "repeated", "pushed"]);
    assert_eq!(world.platform.repeat(&id, world.now()), Some(id.clone()), "once more, while a copy is under way");
    world.settle(client, 1, 2, Outcome::Accepted);
    assert_eq!((world.counts().accepted, world.platform.audit().consistent), (3, true));
    assert_eq!(world.platform.repeat("no such message", world.now()), None);
}

#[test]
fn a_repeat_goes_to_every_group_that_had_the_message_and_is_still_there() {
    let mut world = World::new(Limits { fate_log_messages: 0, ..Limits::default() });
    let draft = Draft { topic: "/pk/dn/user/get".into(), ..Draft::default() };
    let groups = [GROUP, "other"].map(str::to_owned);
    let id = world.platform.publish_to(&groups, &draft, world.now()).unwrap();
    world.platform.repeat(&id, world.now()).unwrap();
    let repeated = |world: &World, group: &str| world.platform.counts(group).unwrap().repeated;
    assert_eq!((repeated(&world, GROUP), repeated(&world, "other")), (1, 1));
    world.platform.delete_group("other", world.now()).unwrap();
    world.platform.clear_backlog(GROUP, world.now()).unwrap();
    assert_eq!(world.platform.fate(&id), None, "folded");
    assert_eq!(world.platform.repeat(&id, world.now()), Some(id), "its body is kept for a while");
    assert_eq!(repeated(&world, GROUP), 2);
}

#[test]
fn an_answer_that_comes_late_leaves_a_line_even_when_the_message_is_done_with() {
    let mut world = World::new(Limits::default());
    let (a, b) = (world.attached("a", 1), world.attached("b", 0));
    let id = world.publish(1).remove(0);
    world.pass(seconds(30));
    world.grant(b, 0, 1);
    world.pass(seconds(60));
    world.settle(b, 0, 0, Outcome::Accepted);
    world.settle(a, 0, 0, Outcome::Released);
    let fate = world.platform.fate(&id).unwrap();
    let last = fate.last().unwrap();
    assert_eq!((last.event, last.client.as_deref(), last.detail.as_deref()), ("late", Some("a"), Some("released")));
    assert!(world.platform.audit().consistent);
    assert_eq!((world.counts().accepted, world.counts().released), (1, 0));
}

#[test]
fn a_message_that_keeps_failing_keeps_its_first_and_its_last_lines() {
    let mut world = World::new(Limits::default());
    let client = world.attached("c", 1_000);
    let id = world.publish(1).remove(0);
    for number in 0..100 {
        world.settle(client, number, number, Outcome::Released);
        world.pass(seconds(60));
    }
    let fate = world.platform.fate(&id).unwrap();
    assert_eq!(fate.len(), 1 + 64 + 1);
    let gap = fate.iter().find(|line| line.event == "leftOut").unwrap();
    // 101 pushes, and a hundred times released and set back.
    assert_eq!(gap.detail.as_deref(), Some("237 lines"));
    assert_eq!(fate.last().unwrap().event, "pushed");
}

#[test]
fn the_platforms_own_log_has_its_codes() {
    let mut world = World::new(Limits { clients_per_group: 1, ..Limits::default() });
    let client = world.attached("c", 10);
    assert!(world.come("d").is_err());
    let ids = world.publish(4);
    for (number, outcome) in [(0, Outcome::Released), (1, Outcome::Rejected), (2, Outcome::Accepted)] {
        world.settle(client, number, number, outcome);
    }
    world.pass(seconds(30));
    world.platform.note(Code::Closed, GROUP, "c", "load balancing", world.now());
    let lines = world.platform.cloud_log(&LogQuery { group: Some(GROUP.into()), ..LogQuery::default() });
    let shown: Vec<_> = lines.iter().map(|line| (line.code, line.client.as_str())).collect();
    assert_eq!(shown, [(9600, "d"), (9651, "c"), (9652, "c"), (9650, "c"), (9602, "c")]);
    assert_eq!(lines[1].words, format!("message {}: released", ids[0]));
    assert_eq!(lines[3].words, format!("message {}: no answer within the ACK timeout", ids[3]));
    assert_eq!(world.platform.cloud_log(&LogQuery { group: Some("other".into()), ..LogQuery::default() }), []);
}

#[test]
fn the_audit_sees_an_accepted_message_pushed_again() {
    let mut world = World::new(Limits::default());
    let client = world.attached("c", 10);
    let ids = world.publish(2);
    world.settle(client, 0, 0, Outcome::Accepted);
    assert_eq!(world.platform.audit(), Audit { consistent: true, violations: Vec::new() });
    let now = world.now();
    world.platform.depot.log.record_alone(1, State::Unsettled, Event::Pushed(client::Lane::Backlog), now);
    let audit = world.platform.audit();
    let words = format!("message {} is Accepted, and this happened to it: pushed", ids[0]);
    assert_eq!(audit, Audit { consistent: false, violations: vec![words] });
}

#[test]
fn the_audit_sees_counts_that_do_not_add_up_and_a_message_that_is_in_no_queue() {
    let mut world = World::new(Limits::default());
    world.publish(2);
    let group = world.platform.groups.get_mut(&0).unwrap();
    group.counts.accepted += 1;
    let _ = group.backlog.clear();
    let violations = world.platform.audit().violations;
    assert_eq!(violations.len(), 2, "{violations:?}");
    assert!(violations[0].contains("do not add up") && violations[1].contains("[0, 0, 0] by count, [0, 2, 0]"));
}

#[test]
fn a_payload_that_is_too_large_is_dropped_and_its_fate_says_so() {
    let mut world = World::new(Limits { max_payload_bytes: 3, ..Limits::default() });
    let client = world.attached("c", 10);
    let drafts = [3, 4].map(|size| Draft { payload: vec![0; size].into(), ..Draft::default() });
    let ids = world.platform.publish(GROUP, &drafts, world.now()).unwrap();
    assert_eq!(world.fetch(client), [0]);
    assert_eq!((world.counts().published, world.counts().dropped), (2, 1));
    let fate = world.platform.fate(&ids[1]).unwrap();
    assert_eq!(fate[1].detail.as_deref(), Some("the payload is larger than the platform takes"));
}
