//! The desk alone, one rule at a time. That the rules are enough is for the model to show (`tests/tests/model`).

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::table::Holder;
use super::super::{MARGIN, UP_WITHIN};
use super::*;

const IDLE: Duration = Duration::from_secs(60);
const FOR_EVER: Time = Time(u64::MAX);

/// A desk with its table stored beside it, and what it said.
struct Office {
    desk: Desk,
    at: Time,
    stored: Option<(Table, u64)>,
    said: Vec<(u64, Say)>,
    writes: usize,
    streams: u64,
}

fn group(name: &str) -> GroupRef {
    GroupRef::new("ns", name)
}

fn platform() -> PlatformGroup {
    PlatformGroup { instance: "iot-1".into(), group_id: "G".into() }
}

fn member(slots: u32) -> Member {
    Member {
        client_slots: slots,
        connect_attempts_per_minute: 95,
        connections_per_pod: 1,
        idle_timeout: IDLE,
        drain: Duration::from_secs(30),
        newest: None,
        verified: true,
    }
}

fn members(of: &[(&str, Member)]) -> BTreeMap<GroupRef, Member> {
    of.iter().map(|(name, member)| (group(name), member.clone())).collect()
}

fn facts(revision: &str) -> PodFacts {
    PodFacts { revision: Some(revision.into()), deleting: false, ended: false, node_lost: false }
}

fn wants() -> Report {
    Report { wants_slot: true, ..Report::default() }
}

fn holds(epoch: u64) -> Report {
    Report { held: Epoch(epoch), seen: Epoch(epoch), link: LinkPhase::Up, was_up: true, ..wants() }
}

fn gave_back(epoch: u64) -> Report {
    Report { seen: Epoch(epoch), was_up: true, ..Report::default() }
}

impl Office {
    fn new(slots: u32) -> Self {
        Self::of(&[("a", member(slots))])
    }

    fn of(of: &[(&str, Member)]) -> Self {
        let mut desk = Desk::new(platform(), Time(0));
        desk.set_members(members(of));
        let mut office = Self { desk, at: Time(0), stored: None, said: Vec::new(), writes: 0, streams: 0 };
        // The first minute, in which no permits are issued, is not what these tests are about.
        office.pass(Duration::from_secs(66));
        office
    }

    /// The next leader, with the same table.
    fn succeed(&mut self, of: &[(&str, Member)]) {
        self.desk = Desk::new(platform(), self.at);
        self.desk.set_members(members(of));
        self.said.clear();
        self.run();
    }

    fn run(&mut self) {
        for _ in 0..20 {
            let actions = self.desk.turn(self.at, FOR_EVER);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                match action {
                    Action::Read => {
                        let result = self.stored.clone().map_or(ReadResult::Absent, |(table, version)| {
                            ReadResult::Found(table, TableVersion(version.to_string()))
                        });
                        self.desk.read(self.at, result);
                    }
                    Action::Write { table, precondition } => {
                        let version = self.stored.as_ref().map(|(_, version)| *version);
                        let expected = match precondition {
                            Precondition::Absent => None,
                            Precondition::Version(version) => Some(version.0.parse().unwrap()),
                        };
                        assert_eq!(version, expected);
                        let version = version.unwrap_or(0) + 1;
                        self.stored = Some((table, version));
                        self.writes += 1;
                        self.desk.written(self.at, WriteResult::Written(TableVersion(version.to_string())));
                    }
                    Action::LookUp(_) | Action::Tell(_, Say::Ping { .. }) => {}
                    Action::Tell(stream, say) => self.said.push((stream.0, say)),
                }
            }
        }
        panic!("the desk does not come to rest");
    }

    fn pass(&mut self, span: Duration) {
        let end = self.at + span;
        while let Some(next) = self.desk.wake_at(self.at).filter(|next| *next <= end) {
            self.at = next;
            self.run();
        }
        self.at = end;
        self.run();
    }

    fn call_as(&mut self, of: &str, pod: &str, process: u64, report: Report) -> u64 {
        self.streams += 1;
        let hello = Hello {
            pod: PodRef::new(pod, "ns", pod),
            consumer_group: group(of),
            order: StreamOrder { process, stream: self.streams },
            attempted_alone: false,
            report,
        };
        self.desk.hello(self.at, StreamId(self.streams), hello).unwrap();
        self.run();
        self.streams
    }

    /// A pod of the first revision comes, and calls.
    fn come(&mut self, pod: &str) -> u64 {
        self.desk.pod_seen(&pod.into(), facts("old"));
        self.call_as("a", pod, 1, wants())
    }

    fn report(&mut self, stream: u64, report: Report) {
        self.desk.report(StreamId(stream), report);
        self.run();
    }

    fn hang_up(&mut self, stream: u64) {
        self.desk.stream_gone(StreamId(stream));
        self.run();
    }

    fn table(&self) -> &Table {
        &self.stored.as_ref().unwrap().0
    }

    fn holders(&self) -> Vec<(&str, u64, Vec<u32>)> {
        let slots = |holder: &Holder| holder.slots.iter().map(|slot| slot.0).collect();
        self.table().holders.iter().map(|holder| (&*holder.pod.uid.0, holder.epoch.0, slots(holder))).collect()
    }

    fn pods(&self) -> Vec<&str> {
        self.table().holders.iter().map(|holder| &*holder.pod.uid.0).collect()
    }

    fn told(&mut self, stream: u64) -> Vec<Say> {
        let (to, others) = std::mem::take(&mut self.said).into_iter().partition(|(to, _)| *to == stream);
        self.said = others;
        let to: Vec<(u64, Say)> = to;
        to.into_iter().map(|(_, say)| say).collect()
    }
}

fn all_but_a_moment(span: Duration) -> Duration {
    span.saturating_sub(Duration::from_millis(1))
}

fn granted(say: &[Say]) -> Option<u64> {
    say.iter().find_map(|say| if let Say::Grant { epoch, .. } = say { Some(epoch.0) } else { None })
}

#[test]
fn slots_go_to_those_who_came_first_and_the_others_are_told_why_they_wait() {
    let mut office = Office::new(2);
    let streams: Vec<u64> = ["p", "q", "r"].map(|pod| office.come(pod)).into();
    assert_eq!(office.holders(), [("p", 1, vec![0]), ("q", 2, vec![1])]);
    assert_eq!(granted(&office.told(streams[1])), Some(2));
    let reason = StandByReason::AllHeld { limit: 2 };
    assert_eq!(office.told(streams[2]), [Say::StandBy(reason)]);
    office.report(streams[0], gave_back(1));
    assert_eq!(office.holders(), [("q", 2, vec![1]), ("r", 3, vec![0])]);
}

#[test]
fn a_grant_is_recorded_before_it_is_told() {
    let mut desk = Desk::new(platform(), Time(0));
    desk.set_members(members(&[("a", member(1))]));
    desk.pod_seen(&"p".into(), facts("old"));
    let hello = Hello {
        pod: PodRef::new("p", "ns", "p"),
        consumer_group: group("a"),
        order: StreamOrder { process: 1, stream: 1 },
        attempted_alone: false,
        report: wants(),
    };
    desk.hello(Time(1), StreamId(1), hello).unwrap();
    assert_eq!(desk.turn(Time(1), Time(1)), [], "the Lease is not valid any more");
    let grants = |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Tell(_, Say::Grant { .. })));
    assert!(desk.turn(Time(1), FOR_EVER).contains(&Action::Read));
    desk.read(Time(2), ReadResult::Absent);
    let actions = desk.turn(Time(2), FOR_EVER);
    assert!(matches!(actions[0], Action::Write { precondition: Precondition::Absent, .. }) && !grants(&actions));
    assert!(!grants(&desk.turn(Time(3), FOR_EVER)), "one write at a time, and nothing is told before it");
    desk.written(Time(4), WriteResult::Unknown("time-out".into()));
    let again = desk.wake_at(Time(4)).unwrap();
    let actions = desk.turn(again, FOR_EVER);
    assert!(actions.contains(&Action::Read) && !grants(&actions));
    desk.read(again, ReadResult::Absent);
    let Some(Action::Write { table, .. }) = desk.turn(again, FOR_EVER).into_iter().next() else { panic!() };
    assert_eq!(table.holders.len(), 1);
    desk.written(again, WriteResult::Written(TableVersion("1".into())));
    assert!(grants(&desk.turn(again, FOR_EVER)));
}

#[test]
fn all_grants_of_a_turn_are_one_write_and_rest_is_no_write() {
    let mut office = Office::new(8);
    for (number, pod) in ["p", "q", "r"].into_iter().enumerate() {
        office.desk.pod_seen(&pod.into(), facts("old"));
        let hello = Hello {
            pod: PodRef::new(pod, "ns", pod),
            consumer_group: group("a"),
            order: StreamOrder { process: 1, stream: 1 },
            attempted_alone: false,
            report: wants(),
        };
        office.desk.hello(office.at, StreamId(number as u64), hello).unwrap();
    }
    office.run();
    assert_eq!((office.writes, office.table().held()), (1, 3));
    office.pass(Duration::from_secs(600));
    assert_eq!(office.writes, 1);
}

#[test]
fn a_pod_that_is_gone_keeps_its_slot_until_its_connection_can_not_linger_any_more() {
    let mut office = Office::new(1);
    let stream = office.come("p");
    office.report(stream, holds(1));
    office.come("q");
    office.desk.pod_gone(&"p".into());
    office.pass(Duration::from_secs(600));
    assert_eq!(office.pods(), ["p"], "its stream is still there");
    office.hang_up(stream);
    office.pass(all_but_a_moment(IDLE + MARGIN));
    assert_eq!(office.pods(), ["p"]);
    office.pass(Duration::from_millis(1));
    assert_eq!(office.pods(), ["q"]);
}

#[test]
fn a_lost_stream_or_an_unknown_pod_is_no_evidence_and_a_lost_node_is() {
    let mut office = Office::new(1);
    let stream = office.come("p");
    office.report(stream, holds(1));
    office.come("q");
    office.hang_up(stream);
    office.desk.pod_absent(&"p".into());
    office.pass(Duration::from_secs(3_600));
    assert_eq!(office.pods(), ["p"]);
    let actions = {
        office.at = office.at + LOOK_UP_EVERY;
        office.desk.turn(office.at, FOR_EVER)
    };
    assert!(actions.contains(&Action::LookUp(PodRef::new("p", "ns", "p"))));
    office.desk.pod_seen(&"p".into(), PodFacts { node_lost: true, ..facts("old") });
    office.run();
    office.pass(Duration::from_secs(30));
    // The taint is taken away: the node was back in time.
    office.desk.pod_seen(&"p".into(), facts("old"));
    office.pass(Duration::from_secs(3_600));
    assert_eq!(office.pods(), ["p"]);
    office.desk.pod_seen(&"p".into(), PodFacts { ended: true, ..facts("old") });
    office.run();
    office.pass(IDLE + MARGIN);
    assert_eq!(office.pods(), ["q"]);
}

#[test]
fn a_container_that_restarts_gets_its_own_slot_back_at_once_by_a_new_grant() {
    let mut office = Office::new(2);
    office.come("p");
    let stream = office.come("q");
    office.report(stream, holds(2));
    office.come("r");
    let again = office.call_as("a", "q", 2, wants());
    assert_eq!(office.holders(), [("p", 1, vec![0]), ("q", 3, vec![1])]);
    assert_eq!(granted(&office.told(again)), Some(3));
    // However early it is given back, what the first process had may linger.
    office.report(again, gave_back(3));
    office.pass(all_but_a_moment(IDLE + MARGIN));
    assert_eq!(office.pods(), ["p", "q"]);
    office.pass(Duration::from_millis(1));
    assert_eq!(office.pods(), ["p", "r"]);
}

#[test]
fn a_restarted_process_without_an_application_keeps_the_slot_for_a_while() {
    let mut office = Office::new(1);
    let stream = office.come("p");
    office.report(stream, holds(1));
    office.come("q");
    let again = office.call_as("a", "p", 2, Report::default());
    office.pass(IDLE);
    assert_eq!(office.pods(), ["p"]);
    office.report(again, wants());
    assert_eq!(office.holders(), [("p", 2, vec![0])]);
    office.call_as("a", "p", 3, Report::default());
    office.pass(IDLE + MARGIN);
    assert_eq!(office.pods(), ["q"]);
}

#[test]
fn a_grant_that_was_lost_with_its_stream_is_given_anew() {
    let mut office = Office::new(1);
    let first = office.come("p");
    assert_eq!(granted(&office.told(first)), Some(1));
    let second = office.call_as("a", "p", 1, wants());
    assert_eq!(granted(&office.told(second)), Some(2));
    office.report(second, holds(2));
    let third = office.call_as("a", "p", 1, holds(2));
    assert_eq!(granted(&office.told(third)), Some(2), "told again, the same");
    assert_eq!(office.pods(), ["p"]);
    office.report(first, gave_back(2));
    assert_eq!(office.pods(), ["p"], "what an older stream says does not count");
}

#[test]
fn a_hello_that_comes_late_is_refused_by_this_leader_and_the_next() {
    let mut office = Office::new(1);
    office.come("p");
    let late = |stream| Hello {
        pod: PodRef::new("p", "ns", "p"),
        consumer_group: group("a"),
        order: StreamOrder { process: 1, stream },
        attempted_alone: false,
        report: Report::default(),
    };
    assert_eq!(office.desk.hello(office.at, StreamId(99), late(0)), Err(StaleHello));
    office.succeed(&[("a", member(1))]);
    assert_eq!(office.desk.hello(office.at, StreamId(99), late(0)), Err(StaleHello));
}

#[test]
fn the_next_leader_takes_over_what_is_recorded_and_counts_from_its_own_beginning() {
    let mut office = Office::new(1);
    let stream = office.come("p");
    office.report(stream, holds(1));
    office.succeed(&[("a", member(1))]);
    office.desk.pod_seen(&"q".into(), facts("old"));
    let waiting = office.call_as("a", "q", 1, wants());
    assert_eq!(office.told(waiting), [Say::StandBy(StandByReason::AllHeld { limit: 1 })]);
    office.desk.pod_gone(&"p".into());
    office.run();
    office.pass(IDLE + MARGIN);
    assert_eq!(office.pods(), ["q"]);
}

#[test]
fn several_consumer_groups_share_the_slots_and_the_smallest_limit_counts() {
    let mut office = Office::of(&[("a", member(2)), ("b", member(5))]);
    office.come("p");
    office.desk.pod_seen(&"q".into(), facts("old"));
    office.call_as("b", "q", 1, wants());
    office.desk.pod_seen(&"r".into(), facts("old"));
    let third = office.call_as("b", "r", 1, wants());
    assert_eq!(office.pods(), ["p", "q"]);
    // The one with the smaller limit is deleted; what it holds stays held.
    office.desk.set_members(members(&[("b", member(3))]));
    office.run();
    assert_eq!(office.pods(), ["p", "q", "r"]);
    assert_eq!(granted(&office.told(third)), Some(3));
    office.desk.set_members(members(&[("b", member(1))]));
    office.pass(Duration::from_secs(600));
    assert_eq!(office.pods(), ["p", "q", "r"], "lowering evicts nobody");
    office.report(third, gave_back(3));
    office.come("s");
    assert_eq!(office.pods(), ["p", "q"], "and grants nothing");
}

#[test]
fn a_pod_takes_all_its_connections_or_none() {
    let twice = Member { connections_per_pod: 2, ..member(3) };
    let mut office = Office::of(&[("a", twice), ("b", member(3))]);
    office.come("p");
    let waiting = office.come("q");
    let needs = StandByReason::TooFew { free: 1, limit: 3, needed: 2 };
    assert_eq!(office.told(waiting), [Say::StandBy(needs)]);
    assert_eq!(office.holders(), [("p", 1, vec![0, 1])]);
    office.desk.pod_seen(&"r".into(), facts("old"));
    office.call_as("b", "r", 1, wants());
    assert_eq!(office.holders()[1], ("r", 2, vec![2]), "it does not keep back those that need fewer");
}

#[test]
fn credentials_that_were_not_seen_to_work_get_one_probe() {
    let mut office = Office::of(&[("a", Member { verified: false, ..member(4) })]);
    let probe = office.come("p");
    let waiting = office.come("q");
    assert_eq!(office.told(waiting), [Say::StandBy(StandByReason::Unverified)]);
    assert_eq!(office.pods(), ["p"]);
    office.report(probe, holds(1));
    assert_eq!(office.pods(), ["p", "q"]);
}

#[test]
fn a_grant_of_which_there_is_no_record_has_to_be_given_up_and_its_number_is_not_used_again() {
    let mut office = Office::new(2);
    office.desk.pod_seen(&"p".into(), facts("old"));
    let stream = office.call_as("a", "p", 1, holds(40));
    let told = office.told(stream);
    assert!(told.contains(&Say::Yield { epoch: Epoch(40), drain: Duration::ZERO }), "{told:?}");
    assert!(office.table().holders.iter().all(|holder| holder.epoch > Epoch(40)));
}

#[test]
fn a_table_that_is_deleted_is_written_again_and_one_that_is_not_understood_stops_everything() {
    let mut office = Office::new(2);
    office.come("p");
    office.stored = None;
    office.desk.pod_seen(&"q".into(), facts("old"));
    let hello = Hello {
        pod: PodRef::new("q", "ns", "q"),
        consumer_group: group("a"),
        order: StreamOrder { process: 1, stream: 1 },
        attempted_alone: false,
        report: wants(),
    };
    office.desk.hello(office.at, StreamId(50), hello).unwrap();
    let Some(Action::Write { .. }) = office.desk.turn(office.at, FOR_EVER).into_iter().next() else { panic!() };
    office.desk.written(office.at, WriteResult::Conflict);
    office.run();
    assert_eq!(office.pods(), ["p", "q"]);

    let newer = office.table().to_json().replace("\"schemaVersion\":1", "\"schemaVersion\":2");
    let error = Table::parse(&platform(), Some(&newer)).unwrap_err();
    let mut desk = Desk::new(platform(), Time(0));
    assert_eq!(desk.turn(Time(0), FOR_EVER), [Action::Read]);
    desk.read(Time(0), ReadResult::Unusable(error.clone()));
    assert!(desk.turn(Time(1), FOR_EVER).is_empty());
    assert_eq!(desk.table_error(), Some(&error));
}

mod permits {
    use super::*;

    fn ask(office: &mut Office, stream: u64, epoch: u64, slot: u32) -> Say {
        office.desk.permit_request(StreamId(stream), 7, Epoch(epoch), SlotIndex(slot));
        office.run();
        office.told(stream).pop().unwrap()
    }

    #[test]
    fn only_the_holder_of_the_slot_gets_one() {
        let mut office = Office::new(2);
        let stream = office.come("p");
        assert_eq!(ask(&mut office, stream, 1, 0), Say::Permit { id: 7, slot: SlotIndex(0) });
        for (epoch, slot) in [(1, 1), (2, 0), (0, 0)] {
            let refused = ask(&mut office, stream, epoch, slot);
            assert!(matches!(refused, Say::RefusePermit { because: RefusedBecause::NotHeld, .. }), "{refused:?}");
        }
    }

    #[test]
    fn a_new_leader_issues_none_for_its_first_sixty_five_seconds() {
        let mut office = Office::new(2);
        let stream = office.come("p");
        office.report(stream, holds(1));
        office.succeed(&[("a", member(2))]);
        let again = office.call_as("a", "p", 1, holds(1));
        let Say::RefusePermit { because, retry_after, .. } = ask(&mut office, again, 1, 0) else { panic!() };
        assert_eq!(because, RefusedBecause::Full(crate::permits::Full::New));
        office.pass(retry_after);
        assert_eq!(ask(&mut office, again, 1, 0), Say::Permit { id: 7, slot: SlotIndex(0) });
    }

    #[test]
    fn a_share_is_kept_back_from_twenty_five_seconds_after_the_last_ping_that_was_answered() {
        let mut office = Office::new(5);
        let stream = office.come("p");
        assert_eq!(office.desk.figures(office.at).permits_reserved, 19, "nothing was heard of it yet");
        office.desk.pong(StreamId(stream), 1);
        assert_eq!(office.desk.figures(office.at).permits_reserved, 0);
        office.pass(Duration::from_millis(24_999));
        assert_eq!(office.desk.figures(office.at).permits_reserved, 0);
        office.pass(Duration::from_millis(1));
        assert_eq!(office.desk.figures(office.at).permits_reserved, 19);
        // Freed while it may be alone: kept for one more span.
        office.report(stream, Report { seen: Epoch(1), ..Report::default() });
        assert_eq!(office.table().held(), 0);
        office.pass(Duration::from_secs(65));
        assert_eq!(office.desk.figures(office.at).permits_reserved, 19);
        office.pass(Duration::from_millis(1));
        assert_eq!(office.desk.figures(office.at).permits_reserved, 0);
    }

    #[test]
    fn what_holders_may_do_alone_never_adds_up_to_more_than_the_limit() {
        let mut office = Office::of(&[("a", Member { connect_attempts_per_minute: 10, ..member(3) })]);
        for pod in ["p", "q", "r"] {
            office.come(pod);
        }
        let shares =
            |office: &Office| office.table().holders.iter().map(|holder| holder.attempts_alone).collect::<Vec<_>>();
        assert_eq!(shares(&office), [3, 3, 3]);
        office.desk.set_members(members(&[("a", Member { connect_attempts_per_minute: 10, ..member(8) })]));
        for pod in ["s", "t", "u"] {
            office.come(pod);
        }
        assert_eq!(shares(&office), [3, 3, 3, 1, 0, 0]);
    }
}

mod rollouts {
    use super::*;

    fn rolling() -> (Office, Vec<u64>) {
        let new = Member { newest: Some("new".into()), ..member(6) };
        let mut office = Office::of(&[("a", new)]);
        let pods = ["o1", "o2", "o3", "o4", "o5", "o6"];
        let streams: Vec<u64> = pods.into_iter().map(|pod| office.come(pod)).collect();
        for (number, stream) in streams.iter().enumerate() {
            office.report(*stream, holds(number as u64 + 1));
        }
        office.pass(UP_WITHIN);
        (office, streams)
    }

    fn newcomers(office: &mut Office, pods: &[&str]) -> Vec<u64> {
        pods.iter()
            .map(|pod| {
                office.desk.pod_seen(&(*pod).into(), facts("new"));
                office.call_as("a", pod, 1, wants())
            })
            .collect()
    }

    fn told_to_yield(office: &mut Office, streams: &[u64]) -> Vec<u64> {
        let yields =
            |office: &mut Office, stream: u64| office.told(stream).iter().any(|say| matches!(say, Say::Yield { .. }));
        streams.iter().copied().filter(|stream| yields(office, *stream)).collect()
    }

    #[test]
    fn four_at_a_time_yield_and_the_next_when_the_new_link_is_up() {
        let (mut office, old) = rolling();
        let new = newcomers(&mut office, &["n1", "n2", "n3", "n4", "n5"]);
        assert_eq!(told_to_yield(&mut office, &old), old[..4]);
        office.report(old[0], Report { yielded: true, wants_slot: true, ..gave_back(1) });
        let granted = office.told(new[0]).into_iter().find_map(|say| match say {
            Say::Grant { epoch, slots, .. } => Some((epoch.0, slots)),
            _ => None,
        });
        assert_eq!(granted, Some((7, vec![SlotIndex(0)])), "the slot goes to the new pod, not to the one that yielded");
        assert_eq!(told_to_yield(&mut office, &old), [0_u64; 0], "its link is not up yet");
        office.report(new[0], holds(7));
        assert_eq!(told_to_yield(&mut office, &old), old[4..5]);
    }

    #[test]
    fn old_pods_that_wait_make_nobody_yield() {
        let (mut office, old) = rolling();
        office.come("o7");
        office.pass(Duration::from_secs(300));
        assert_eq!(told_to_yield(&mut office, &old), [0_u64; 0]);
    }

    #[test]
    fn a_revision_that_can_not_connect_gives_back_and_gets_no_more() {
        let (mut office, old) = rolling();
        let new = newcomers(&mut office, &["n1"]);
        assert_eq!(told_to_yield(&mut office, &old), old[..1]);
        office.report(old[0], Report { yielded: true, wants_slot: true, ..gave_back(1) });
        office.report(new[0], Report { link: LinkPhase::Connecting, was_up: false, ..holds(7) });
        office.told(new[0]);
        office.pass(all_but_a_moment(UP_WITHIN));
        assert_eq!(told_to_yield(&mut office, &new), [0_u64; 0]);
        office.pass(Duration::from_millis(1));
        assert_eq!(told_to_yield(&mut office, &new), new);
        assert!(office.desk.figures(office.at).groups[&group("a")].stuck);
        office.report(new[0], Report { yielded: true, wants_slot: true, ..gave_back(7) });
        assert!(office.pods().contains(&"o1") && !office.pods().contains(&"n1"));
        let more = newcomers(&mut office, &["n2"]);
        office.pass(Duration::from_secs(600));
        assert_eq!(told_to_yield(&mut office, &old), [0_u64; 0]);
        assert_eq!(granted(&office.told(more[0])), None);
        // Something about it changes.
        let corrected = Member { newest: Some("new".into()), drain: Duration::from_secs(31), ..member(6) };
        office.desk.set_members(members(&[("a", corrected)]));
        office.run();
        assert_eq!(told_to_yield(&mut office, &old).len(), 1);
    }

    #[test]
    fn pods_that_are_on_their_way_out_count_among_the_four() {
        let (mut office, old) = rolling();
        for pod in ["o1", "o2", "o3"] {
            office.desk.pod_seen(&pod.into(), PodFacts { deleting: true, ..facts("old") });
        }
        newcomers(&mut office, &["n1", "n2", "n3", "n4", "n5", "n6"]);
        assert_eq!(told_to_yield(&mut office, &old), old[3..4]);
    }
}
