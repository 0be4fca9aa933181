//! Coming in, in the ways that profiles and admins can have it.

use super::*;
use crate::profile::{ClientsCounted, SameClientId, SurplusClient};

fn world(limit: u32, profile: Profile) -> World {
    World::new(Terms { profile, ..Terms::from(Limits { clients_per_group: limit, ..Limits::default() }) })
}

#[test]
fn who_is_evicted_gets_nothing_more_and_what_it_held_goes_to_others() {
    let mut world = world(2, Profile { surplus_client: SurplusClient::EvictsOldest, ..Profile::default() });
    let (a, b) = (world.attached("a", 10), world.attached("b", 0));
    world.publish(3);
    let c = world.attached("c", 10);
    assert_eq!(world.platform.take_evicted(), [(a, Eviction::Surplus)]);
    assert!(world.fetch(a).is_empty(), "what it had not read is not for it any more");
    assert_eq!((world.counts().backlog, world.counts().clients, world.counts().clients_peak), (3, 2, 2));
    world.platform.attach(a);
    world.grant(a, 0, 10);
    world.pass(seconds(60));
    assert_eq!((world.fetch(a).len(), world.fetch(b).len(), world.fetch(c).len()), (0, 0, 3));
    assert_eq!(world.platform.figures(GROUP, world.now).unwrap().clients.len(), 2);
    assert_eq!(world.platform.connections(Some(GROUP)).unwrap().len(), 3, "it is still connected");
    world.platform.leave(a, world.now());
    assert_eq!(world.platform.clients(Some(GROUP), None).unwrap(), [b, c]);
}

#[test]
fn a_starved_client_is_answered_and_is_not_one_of_the_group() {
    let mut world = world(1, Profile { surplus_client: SurplusClient::Starved, ..Profile::default() });
    let first = world.attached("a", 0);
    let starved = world.attached("b", 5);
    world.publish(1);
    let drain = Credit { delivery_count: Some(0), link_credit: 5, drain: true };
    world.platform.grant(starved, drain, world.now());
    let mut outgoing = Vec::new();
    world.platform.take_outgoing(starved, 10, &mut outgoing);
    assert_eq!(outgoing, [Outgoing::Drained { by: 5 }]);
    let counts = world.counts();
    assert_eq!((counts.clients, counts.clients_peak, counts.surplus, counts.waiting), (1, 1, 1, 1));
    world.platform.leave(first, world.now());
    assert_eq!(world.counts().backlog, 1, "there is no link that counts");
    assert_eq!(world.come("c").map(|_| world.counts().clients), Ok(1));
}

#[test]
fn one_whose_link_was_refused_may_attach_once_there_is_room() {
    let mut world = world(1, Profile { surplus_client: SurplusClient::Attach, ..Profile::default() });
    let first = world.come("a").unwrap();
    let (visit, now) = (visit(GROUP, "b"), world.now());
    let second = world.platform.pass(&visit, None, Door::Open, now).unwrap().unwrap();
    let refused = world.platform.pass(&visit, Some(second), Door::Attach, now);
    assert_eq!(refused, Err(Refusal::TooManyClients { limit: 1 }));
    world.platform.leave(first, now);
    assert_eq!(world.platform.pass(&visit, Some(second), Door::Attach, now), Ok(Some(second)));
    assert_eq!((world.counts().clients, world.counts().surplus), (1, 0));
    assert_eq!(world.platform.cloud_log(&LogQuery { code: Some(9600), ..LogQuery::default() }).len(), 2);
}

#[test]
fn a_client_id_that_is_counted_once_is_evicted_as_one() {
    let profile = Profile {
        surplus_client: SurplusClient::EvictsOldest,
        clients_counted: ClientsCounted::ClientIds,
        ..Profile::default()
    };
    let mut world = world(1, profile);
    let a = [world.come("a").unwrap(), world.come("a").unwrap()];
    assert_eq!((world.counts().clients, world.platform.take_evicted()), (1, Vec::new()));
    world.come("b").unwrap();
    assert_eq!(world.platform.take_evicted(), a.map(|client| (client, Eviction::Surplus)));
    assert_eq!(world.counts().clients_peak, 1);
}

#[test]
fn who_is_refused_drives_nobody_out() {
    let mut world = world(2, Profile { same_client_id: SameClientId::ClosesOlder, ..Profile::default() });
    world.come("a").unwrap();
    let b = world.come("b").unwrap();
    let b = [b, world.come("b").unwrap()];
    assert_eq!(world.platform.take_evicted(), [(b[0], Eviction::SameClientId)]);
    let limits = GroupLimits { clients_per_group: 1, ..world.platform.group_limits(GROUP).unwrap() };
    world.platform.set_group_limits(GROUP, limits).unwrap();
    assert!(world.come("b").is_err());
    assert_eq!(world.platform.take_evicted(), []);
}

#[test]
fn the_next_attempts_can_be_refused() {
    let mut world = World::new(Limits::default());
    world.platform.refuse_next(None, 2).unwrap();
    let mut attempt = |group| world.platform.attempt(group, Now { mono: world.now, unix_us: 0 }).is_ok();
    assert_eq!([attempt(GROUP), attempt(GROUP), attempt(GROUP)], [false, false, true]);
    assert_eq!([attempt("other"), attempt("other"), attempt("other")], [false, false, true]);
    world.platform.refuse_next(Some(GROUP), 5).unwrap();
    world.platform.refuse_next(Some(GROUP), 0).unwrap();
    assert_eq!(world.platform.attempt(GROUP, world.now()), Ok(()));
    assert!(world.platform.refuse_next(Some("none"), 1).is_err());
    assert_eq!(world.counts().connect_attempts, 4);
}

#[test]
fn connections_are_listed_with_what_they_hold() {
    let mut world = World::new(Limits::default());
    let a = world.attached("a", 5);
    world.platform.come(&visit("other", "b"), world.now()).unwrap();
    world.publish(2);
    let line = ConnectionLine {
        group: GROUP.to_owned(),
        client: "a".to_owned(),
        number: a.number(),
        address: ADDRESS,
        credit: 3,
        unsettled: 2,
        surplus: false,
    };
    assert_eq!(world.platform.connections(Some(GROUP)), Ok(vec![line]));
    assert_eq!(world.platform.connections(None).unwrap().len(), 2);
    assert!(world.platform.connections(Some("none")).is_err());
}
