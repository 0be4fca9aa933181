//! The figures that the OpenAPI shows: made anew where something has happened.

use std::sync::Arc;

use super::*;
use crate::amqp::Seat as _;
use crate::platform::{ClientFigures, Credit, Door, Outcome};

fn at(seconds: u64) -> Micros {
    Micros::new(seconds * 1_000_000)
}

fn hub() -> Arc<Hub> {
    let hub = Hub::new(Clock::start(), Platform::new(Arc::default(), [], 0, 1), crate::instances::single("g"));
    hub.with(|platform, now| platform.add_group("quiet", now.mono));
    Arc::new(hub)
}

fn shown(hub: &Hub, group: &str) -> Figures {
    hub.lock().shown.get(group).cloned().unwrap()
}

fn seat(hub: &Arc<Hub>) -> GroupSeat {
    let mut seat = GroupSeat::new(Arc::clone(hub), "g".into(), "c".into(), "127.0.0.1:1".parse().unwrap(), None);
    for door in [Door::Sasl, Door::Open, Door::Attach] {
        seat.pass(door).unwrap();
    }
    seat
}

#[test]
fn the_figures_follow_what_happens() {
    let hub = hub();
    let renew = |seconds| hub.lock().renew_figures(at(seconds));
    renew(0);
    assert_eq!((shown(&hub, "g"), shown(&hub, "quiet")), (Figures::default(), Figures::default()));

    hub.publish("g", &[Draft::default()]).unwrap();
    assert_eq!(shown(&hub, "g").backlog, 0, "they lag");
    renew(1);
    assert_eq!(shown(&hub, "g").backlog, 1);

    let mut seat = seat(&hub);
    seat.attach();
    seat.grant(Credit { delivery_count: Some(0), link_credit: 10, drain: false });
    renew(2);
    let figures = shown(&hub, "g");
    let ids: Vec<_> = figures.clients.iter().map(|ClientFigures { client_id, .. }| client_id.as_str()).collect();
    assert_eq!((ids, figures.backlog, figures.speed.total()), (vec!["c"], 0, 0));

    seat.settle(0, 0, Outcome::Accepted);
    renew(3);
    let figures = shown(&hub, "g");
    assert_eq!((figures.speed.accumulated, figures.clients[0].speed.accumulated), (1, 1));
    assert!(figures.last_consumed_unix_ms.is_some());

    // Nothing happens, and what was consumed grows old all the same.
    renew(100);
    assert_eq!((shown(&hub, "g").speed.total(), shown(&hub, "g").clients[0].speed.total()), (0, 0));

    seat.leave();
    renew(101);
    assert!(shown(&hub, "g").clients.is_empty());

    hub.with(|platform, now| platform.delete_group("quiet", now)).unwrap();
    renew(102);
    let state = hub.lock();
    for known in [state.shown.keys().collect::<Vec<_>>(), state.counted.keys().collect()] {
        assert!(known.iter().all(|group| *group != "quiet"), "a group that is gone is forgotten: {known:?}");
    }
}

#[test]
fn the_figures_of_a_group_in_which_nothing_happens_are_left_alone() {
    let hub = hub();
    hub.lock().renew_figures(at(0));
    let mark = Figures { backlog: 77, ..Figures::default() };
    hub.lock().shown.extend([("g".to_owned(), mark.clone()), ("quiet".to_owned(), mark)]);
    hub.publish("g", &[Draft::default()]).unwrap();
    hub.lock().renew_figures(at(1));
    assert_eq!((shown(&hub, "g").backlog, shown(&hub, "quiet").backlog), (1, 77));
}
