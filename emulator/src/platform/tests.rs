//! The platform's promises, each by example; in `properties.rs` those that must hold in any order of events, in `volume.rs`
//! those about very many messages. What the rules and profiles are is proven in `tests/proofs/platform`.

mod doors;
mod fates;
mod properties;
mod volume;

use std::net::SocketAddr;
use std::time::Duration;

use super::*;
use crate::limits::Limits;
use crate::message::{Draft, DraftId};
use crate::profile::{Overflow, Profile};
use crate::rules::Rules;
use crate::terms::Terms;

pub(crate) const GROUP: &str = "g";
const ID_BASE: u64 = 1_000;
const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 4_000);

/// How many ticks that leave something that is due are made of a platform that lacks a rule.
const MOST_IN_VAIN: usize = 100_000;

impl Platform {
    /// Someone comes through all doors, or is refused at one of them and leaves.
    pub(crate) fn come(&mut self, visit: &Visit<'_>, now: Now) -> Result<ClientKey, (Door, Refusal)> {
        let mut held = None;
        for door in [Door::Sasl, Door::Open, Door::Attach] {
            match self.pass(visit, held, door, now) {
                Ok(client) => held = client,
                Err(refusal) => {
                    if let Some(client) = held {
                        self.leave(client, now);
                    }
                    return Err((door, refusal));
                }
            }
        }
        held.ok_or((Door::Attach, Refusal::NoGroup))
    }
}

/// One with this client ID, who is within the limit of attempts.
fn visit<'a>(group: &'a str, client_id: &'a str) -> Visit<'a> {
    Visit { group, client_id, address: ADDRESS, refused: None }
}

/// A platform with one group and a clock that moves when told.
pub(crate) struct World {
    pub(crate) platform: Platform,
    now: Micros,
    /// Tick so often instead of at the alarms.
    every: Option<Duration>,
}

impl World {
    pub(crate) fn new(terms: impl Into<Terms>) -> Self {
        Self {
            platform: Platform::new(Arc::new(terms.into()), [GROUP, "other"], ID_BASE, 1),
            now: Micros::new(0),
            every: None,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now { mono: self.now, unix_us: self.now.get() + 1 }
    }

    /// Lets time pass, ticking at every alarm on the way.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now.after(time);
        while let Some(every) = self.every.filter(|_| self.now < until) {
            self.now = self.now.after(every);
            self.platform.tick(self.now());
        }
        let mut in_vain = 0;
        while self.platform.alarm() <= until && in_vain < MOST_IN_VAIN {
            self.now = self.platform.alarm().max(self.now);
            self.platform.tick(self.now());
            if self.platform.alarm() <= self.now {
                let keeps_all = self.platform.depot.terms.rules == Rules::default();
                assert!(!keeps_all, "a tick leaves nothing that is due");
                in_vain += 1;
            }
        }
        self.now = until;
    }

    /// Someone comes who is within the limit of attempts.
    fn come(&mut self, name: &str) -> Result<ClientKey, Refusal> {
        self.platform.come(&visit(GROUP, name), self.now()).map_err(|(_, refusal)| refusal)
    }

    /// The same, and is counted as an attempt before.
    pub(crate) fn attempt(&mut self, name: &str) -> Result<ClientKey, (Door, Refusal)> {
        let refused = self.platform.attempt(GROUP, self.now()).err();
        self.platform.come(&Visit { refused, ..visit(GROUP, name) }, self.now())
    }

    fn join(&mut self, name: &str) -> ClientKey {
        self.come(name).unwrap()
    }

    fn attached(&mut self, name: &str, credit: u32) -> ClientKey {
        let client = self.join(name);
        self.platform.attach(client);
        self.grant(client, 0, credit);
        client
    }

    pub(crate) fn grant(&mut self, client: ClientKey, delivery_count: u32, link_credit: u32) {
        let credit = Credit { delivery_count: Some(delivery_count), link_credit, drain: false };
        self.platform.grant(client, credit, self.now());
    }

    pub(crate) fn publish(&mut self, count: usize) -> Vec<String> {
        let drafts = vec![Draft { topic: "/pk/dn/user/get".into(), ..Draft::default() }; count];
        self.platform.publish(GROUP, &drafts, self.now()).unwrap()
    }

    /// The numbers of what is pushed to `client` and not fetched yet.
    pub(crate) fn fetch(&mut self, client: ClientKey) -> Vec<u32> {
        let mut outgoing = Vec::new();
        self.platform.take_outgoing(client, usize::MAX, &mut outgoing);
        let number = |outgoing: &Outgoing| match outgoing {
            Outgoing::Push { number, .. } => Some(*number),
            Outgoing::Drained { .. } => None,
        };
        outgoing.iter().filter_map(number).collect()
    }

    pub(crate) fn settle(&mut self, client: ClientKey, first: u32, last: u32, outcome: Outcome) {
        self.platform.settle(client, first, last, outcome, self.now());
    }

    pub(crate) fn counts(&self) -> Counts {
        self.platform.counts(GROUP).unwrap()
    }

    fn events(&self, id: &str) -> Vec<&'static str> {
        self.platform.fate(id).unwrap().iter().map(|line| line.event).collect()
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_published_message_is_pushed_at_once_and_forgotten_when_accepted() {
    let mut world = World::new(Limits::default());
    let client = world.attached("c", 10);
    let id = world.publish(1).remove(0);
    assert_eq!(world.platform.take_woken(), [client]);
    assert_eq!(world.fetch(client), [0]);
    assert_eq!(world.counts().unsettled, 1);
    world.settle(client, 0, 0, Outcome::Accepted);
    let counts = world.counts();
    assert_eq!((counts.accepted, counts.unsettled, counts.pushed), (1, 0, 1));
    assert_eq!(world.events(&id), ["published", "pushed", "accepted"]);
    assert_eq!(world.platform.fate(&id).unwrap()[1].client.as_deref(), Some("c"));
}

#[test]
fn without_any_client_messages_go_to_the_backlog_and_drain_at_its_rate_once_one_comes() {
    let mut world = World::new(Limits::default());
    world.publish(1_000);
    assert_eq!(world.counts().backlog, 1_000);
    let client = world.attached("c", 5_000);
    assert_eq!(world.fetch(client).len(), 10, "the burst: a twentieth of 200");
    world.pass(seconds(1));
    assert_eq!(world.fetch(client).len(), 200);
    world.pass(seconds(4));
    assert_eq!(world.counts().backlog, 0);
}

#[test]
fn real_time_messages_keep_the_rate_of_each_connection() {
    let limits = Limits { real_time_wait: seconds(10), uneven_for: Duration::ZERO, ..Limits::default() };
    let mut world = World::new(limits);
    let (a, b) = (world.attached("a", 100_000), world.attached("b", 100_000));
    world.publish(6_000);
    assert_eq!(world.fetch(a).len() + world.fetch(b).len(), 100);
    world.pass(seconds(2));
    assert_eq!((world.fetch(a).len(), world.fetch(b).len()), (2_000, 2_000));
}

#[test]
fn a_message_that_nobody_can_take_waits_a_little_and_then_is_retried_from_the_backlog() {
    let mut world = World::new(Limits::default());
    let client = world.attached("c", 0);
    let ids = world.publish(2);
    assert_eq!(world.counts().waiting, 2);
    world.pass(Duration::from_millis(500));
    world.grant(client, 0, 1);
    assert_eq!(world.fetch(client), [0], "credit in time");
    world.pass(seconds(1));
    assert_eq!(world.counts().backlog, 1);
    world.grant(client, 1, 5);
    assert!(world.fetch(client).is_empty(), "not before a minute");
    world.pass(seconds(60));
    assert_eq!(world.fetch(client), [1]);
    assert_eq!(world.events(&ids[1]), ["published", "waiting", "backlog", "pushed"]);
}

#[test]
fn without_credit_can_mean_the_backlog_at_once() {
    let mut world = World::new(Terms {
        profile: Profile { without_credit: Overflow::Backlog, ..Profile::default() },
        ..Terms::default()
    });
    world.attached("c", 0);
    world.publish(1);
    assert_eq!((world.counts().waiting, world.counts().backlog), (0, 1));
}

#[test]
fn an_unanswered_delivery_expires_after_30_s_and_comes_again_a_minute_later() {
    let mut world = World::new(Limits::default());
    let client = world.attached("c", 10);
    let id = world.publish(1).remove(0);
    world.fetch(client);
    world.pass(Duration::from_millis(29_999));
    assert_eq!(world.counts().expired, 0);
    world.pass(Duration::from_millis(1));
    assert_eq!((world.counts().expired, world.counts().backlog), (1, 1));
    world.settle(client, 0, 0, Outcome::Accepted);
    assert_eq!(world.counts().accepted, 0, "an answer that comes too late counts for nothing");
    world.pass(seconds(60));
    assert_eq!(world.fetch(client), [1]);
    world.settle(client, 1, 1, Outcome::Accepted);
    assert_eq!(world.events(&id), ["published", "pushed", "expired", "backlog", "late", "pushed", "accepted"]);
}

#[test]
fn every_outcome_but_accepted_brings_the_message_back_and_is_counted_by_its_name() {
    let mut world = World::new(Limits::default());
    let client = world.attached("c", 10);
    world.publish(4);
    for (number, outcome) in
        [Outcome::Released, Outcome::Rejected, Outcome::Modified, Outcome::Unspecified].into_iter().enumerate()
    {
        let number = u32::try_from(number).unwrap();
        world.settle(client, number, number, outcome);
    }
    let counts = world.counts();
    assert_eq!((counts.released, counts.rejected, counts.modified, counts.backlog), (2, 1, 1, 4));
    world.pass(seconds(60));
    assert_eq!(world.counts().unsettled, 4);
}

#[test]
fn what_a_lost_link_held_comes_again_after_its_own_retry_time() {
    let mut world = World::new(Limits { retry_after_link_loss: seconds(5), ..Limits::default() });
    let client = world.attached("a", 10);
    world.publish(3);
    world.platform.leave(client, world.now());
    assert_eq!((world.counts().backlog, world.counts().clients), (3, 0));
    let other = world.attached("b", 10);
    world.pass(Duration::from_millis(4_999));
    assert!(world.fetch(other).is_empty());
    world.pass(Duration::from_millis(1));
    assert_eq!(world.fetch(other).len(), 3);
}

#[test]
fn a_drain_pushes_what_is_there_and_gives_up_the_rest_of_the_credit() {
    let mut world = World::new(Limits::default());
    let client = world.attached("c", 0);
    world.publish(2);
    let credit = Credit { delivery_count: Some(0), link_credit: 5, drain: true };
    world.platform.grant(client, credit, world.now());
    let mut outgoing = Vec::new();
    world.platform.take_outgoing(client, 10, &mut outgoing);
    assert_eq!(outgoing.len(), 3);
    assert_eq!(outgoing[2], Outgoing::Drained { by: 3 });
    world.publish(1);
    assert!(world.fetch(client).is_empty(), "no credit is left");
    world.grant(client, 5, 1);
    assert_eq!(world.fetch(client), [2]);
}

#[test]
fn drains_that_nobody_reads_of_wait_as_one() {
    let mut world = World::new(Limits::default());
    let client = world.attached("c", 0);
    for number in 0..1_000 {
        let credit = Credit { delivery_count: Some(number * 5), link_credit: 5, drain: true };
        world.platform.grant(client, credit, world.now());
    }
    let mut outgoing = Vec::new();
    world.platform.take_outgoing(client, 10_000, &mut outgoing);
    assert_eq!(outgoing, [Outgoing::Drained { by: 5_000 }]);
}

#[test]
fn the_65th_client_and_the_101st_attempt_in_a_minute_are_refused() {
    let mut world = World::new(Limits::default());
    for index in 0..100 {
        assert_eq!(world.platform.attempt(GROUP, world.now()), Ok(()));
        assert_eq!(world.come("c").is_ok(), index < 64, "{index}");
    }
    assert_eq!(world.platform.attempt(GROUP, world.now()), Err(Refusal::TooManyAttempts { limit: 100 }));
    assert_eq!(world.platform.attempt("other", world.now()), Ok(()), "groups do not share the limit");
    world.pass(seconds(60));
    assert_eq!(world.platform.attempt(GROUP, world.now()), Ok(()));
    let counts = world.counts();
    assert_eq!((counts.clients, counts.clients_peak), (64, 64));
    assert_eq!((counts.connect_attempts, counts.connect_attempts_peak_per_minute), (102, 101));
}

#[test]
fn messages_older_than_the_retention_time_are_dropped() {
    let mut world = World::new(Limits { retention: seconds(100), ..Limits::default() });
    let client = world.attached("c", 1);
    let ids = world.publish(1);
    world.pass(seconds(29));
    world.platform.leave(client, world.now());
    world.publish(1);
    world.pass(seconds(70));
    assert_eq!(world.counts().dropped, 0);
    world.pass(seconds(1));
    assert_eq!((world.counts().dropped, world.counts().backlog), (1, 1));
    assert_eq!(world.events(&ids[0]).last(), Some(&"dropped"));
    world.pass(seconds(30));
    assert_eq!(world.counts().dropped, 2);
    world.attached("c", 10);
    assert_eq!(world.counts().pushed, 1, "what was dropped is not pushed");
}

#[test]
fn a_full_backlog_takes_no_more() {
    let mut world = World::new(Limits { backlog_capacity: 2, ..Limits::default() });
    world.publish(3);
    assert_eq!((world.counts().backlog, world.counts().dropped), (2, 1));
}

#[test]
fn dispatch_is_spread_over_the_clients() {
    let mut world = World::new(Limits { uneven_for: Duration::ZERO, ..Limits::default() });
    let clients: Vec<_> = (0..4).map(|index| world.attached(&index.to_string(), 1_000)).collect();
    for _ in 0..40 {
        world.publish(10);
        world.pass(Duration::from_millis(10));
    }
    for client in clients {
        assert!((60..140).contains(&world.fetch(client).len()));
    }
}

#[test]
fn fates_are_read_in_pages_and_old_ones_make_room() {
    let mut world = World::new(Limits { fate_log_messages: 5, ..Limits::default() });
    let client = world.attached("c", 100);
    world.publish(4);
    let (page, next) = world.platform.fates(GROUP, 0, 3).unwrap();
    assert_eq!(page.iter().map(|fate| fate.seq).collect::<Vec<_>>(), [1, 2, 3]);
    let (page, next) = world.platform.fates(GROUP, next, 3).unwrap();
    assert_eq!((page.len(), next), (1, 4));
    assert_eq!(world.platform.fates(GROUP, next, 3).unwrap(), (Vec::new(), 4));
    assert_eq!(world.platform.fates("other", 0, 3).unwrap().0, []);

    let drafts = ["given", "given"].map(|id| Draft { id: DraftId::Given(id.into()), ..Draft::default() });
    world.platform.publish(GROUP, &drafts, world.now()).unwrap();
    assert_eq!(world.platform.fate("given").unwrap().len(), 4, "both lives of a repeated ID");
    world.settle(client, 1, 5, Outcome::Accepted);
    assert_eq!(world.platform.fates(GROUP, 0, 10).unwrap().0.len(), 6, "an unsettled message stays besides");
    world.settle(client, 0, 0, Outcome::Accepted);
    let (page, _) = world.platform.fates(GROUP, 0, 10).unwrap();
    assert_eq!(page.iter().map(|fate| fate.seq).collect::<Vec<_>>(), [1, 3, 4, 5, 6], "what was settled first goes");
    assert_eq!((page[0].accepted_at_us, page[0].pushes, page[0].state), (Some(1), 1, State::Accepted));
    let known = [0, 1, 2, 3, 7].map(|seq| world.platform.fate(&(ID_BASE + seq).to_string()).is_some());
    assert_eq!(known, [false, true, false, true, false], "the second was folded");
    assert!(world.platform.fate("given").is_some());
}

#[test]
fn a_message_for_several_groups_is_one_message() {
    let mut world = World::new(Limits::default());
    let groups = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let draft = Draft { topic: "/pk/dn/user/get".into(), ..Draft::default() };
    let now = world.now();
    let id = world.platform.publish_to(&groups(&[GROUP, "other", "none"]), &draft, now).unwrap();
    assert!(id.parse::<u64>().unwrap() > ID_BASE);
    assert_eq!(world.events(&id), ["published", "backlog", "published", "backlog"]);
    for group in [GROUP, "other"] {
        assert_eq!(world.platform.fates(group, 0, 10).unwrap().0[0].id, id);
    }
    assert_eq!(world.platform.publish_to(&[], &draft, now), None);
    let next = world.platform.publish_to(&groups(&[GROUP]), &draft, now).unwrap();
    assert_ne!(next, id);
    assert_eq!(world.counts().published, 2);
}

#[test]
fn a_group_may_have_limits_of_its_own() {
    let mut world = World::new(Limits::default());
    let limits = GroupLimits { clients_per_group: 1, connect_attempts_per_minute: 1 };
    world.platform.set_group_limits(GROUP, limits).unwrap();
    assert_eq!(world.platform.group_limits("other").unwrap(), GroupLimits::from(&Limits::default()));
    world.join("a");
    assert_eq!(world.come("b"), Err(Refusal::TooManyClients { limit: 1 }));
    assert_eq!(world.platform.attempt(GROUP, world.now()), Ok(()));
    assert_eq!(world.platform.attempt(GROUP, world.now()), Err(Refusal::TooManyAttempts { limit: 1 }));
    assert!(world.platform.set_group_limits("none", limits).is_err());
}

#[test]
fn what_a_cleared_backlog_held_is_dropped_and_what_is_under_way_is_not() {
    let mut world = World::new(Limits::default());
    world.publish(20);
    let client = world.attached("c", 5);
    assert_eq!(world.platform.clear_backlog(GROUP, world.now()), Ok(15));
    let counts = world.counts();
    assert_eq!((counts.backlog, counts.dropped, counts.unsettled), (0, 15, 5));
    world.settle(client, 0, 4, Outcome::Released);
    world.pass(seconds(60));
    assert_eq!((world.counts().backlog, world.counts().dropped), (5, 15));
    world.grant(client, 5, 5);
    assert_eq!(world.fetch(client).len(), 10);
}

#[test]
fn a_deleted_groups_messages_are_dropped_as_they_come_back() {
    let mut world = World::new(Limits::default());
    world.publish(2);
    let client = world.attached("c", 1);
    let ids: Vec<String> = world.platform.fates(GROUP, 0, 10).unwrap().0.into_iter().map(|fate| fate.id).collect();
    world.platform.delete_group(GROUP, world.now()).unwrap();
    assert_eq!(world.platform.take_evicted(), [(client, Eviction::GroupDeleted)]);
    assert_eq!(world.events(&ids[1]), ["published", "backlog", "dropped"]);
    world.platform.leave(client, world.now());
    assert_eq!(world.events(&ids[0]), ["published", "backlog", "pushed", "linkLost", "dropped"]);
    assert!(world.come("late").is_err());
    world.platform.add_group(GROUP, world.now);
    assert_eq!(world.counts(), Counts::default(), "a new group of that name is another one");
}
