use proptest::prelude::*;
use proptest::strategy::ValueTree as _;

use super::*;

const SECOND: u64 = 1000;

fn record(holder: &str, renewed: u64) -> Record {
    Record { holder: Some(holder.to_owned()), renewed: renewed.to_string(), transitions: 0 }
}

fn found(holder: &str, renewed: u64) -> Found {
    Found::Lease(record(holder, renewed), renewed.to_string())
}

fn s(seconds: u64) -> Time {
    Time(seconds * SECOND)
}

#[test]
fn a_lease_that_is_not_there_is_created_and_then_renewed() {
    let mut election = Election::new("a", Timing::default());
    assert_eq!(election.next(s(0)), Action::Read);
    election.read(s(0), Found::Nothing, 0.0);
    let create = Write { version: None, transitions: 0, takes_over: true };
    assert_eq!(election.next(s(0)), Action::Write(create));
    election.written(s(0), s(1), Outcome::Done(record("a", 1), "7".into()));
    assert_eq!(election.valid_until(), s(10), "counted from the sending, not from the answer");
    assert_eq!(election.next(s(1)), Action::Wait(s(2)));
    let renew = Write { version: Some("7".into()), transitions: 0, takes_over: false };
    assert_eq!(election.next(s(2)), Action::Write(renew));
}

#[test]
fn a_lease_of_another_is_taken_over_only_when_it_was_seen_to_stand_still() {
    let mut election = Election::new("b", Timing::default());
    election.read(s(100), found("a", 1), 0.0);
    for at in (102..115).step_by(2) {
        assert_eq!(election.next(s(at)), Action::Read, "at {at} s");
        election.read(s(at), found("a", 1), 0.0);
    }
    election.read(s(115), found("a", 1), 0.0);
    let take = Write { version: Some("1".into()), transitions: 1, takes_over: true };
    assert_eq!(election.next(s(115)), Action::Write(take));
    // A renewal in the last moment starts the wait anew.
    election.read(s(115), found("a", 2), 0.0);
    assert_eq!(election.next(s(129)), Action::Read);
}

#[test]
fn a_released_lease_is_taken_at_once() {
    let mut election = Election::new("b", Timing::default());
    let free = Record { holder: None, renewed: "9".into(), transitions: 4 };
    election.read(s(3), Found::Lease(free, "12".into()), 1.0);
    let take = Write { version: Some("12".into()), transitions: 5, takes_over: true };
    assert_eq!(election.next(s(3)), Action::Write(take));
}

#[test]
fn a_deleted_lease_ends_the_leader_s_right_and_makes_others_wait() {
    let mut leader = Election::new("a", Timing::default());
    leader.read(s(0), Found::Nothing, 0.0);
    leader.written(s(0), s(0), Outcome::Done(record("a", 1), "1".into()));
    let mut follower = Election::new("b", Timing::default());
    follower.read(s(0), found("a", 1), 0.0);

    leader.written(s(2), s(2), Outcome::Refused);
    leader.read(s(2), Found::Nothing, 0.0);
    assert_eq!(leader.valid_until(), Time::default());
    follower.read(s(2), Found::Nothing, 0.0);
    assert_eq!(follower.next(s(14)), Action::Read, "it saw who held it");
    assert!(matches!(follower.next(s(15)), Action::Write(_)));
}

#[test]
fn a_write_whose_fate_is_unknown_gives_no_right_and_is_looked_up() {
    let mut election = Election::new("a", Timing::default());
    election.read(s(0), Found::Nothing, 0.0);
    election.written(s(0), s(4), Outcome::Unknown);
    assert_eq!(election.valid_until(), Time::default());
    assert_eq!(election.next(s(5)), Action::Read);
    election.read(s(5), found("a", 1), 0.0);
    assert!(
        matches!(election.next(s(5)), Action::Write(Write { takes_over: false, .. })),
        "it did arrive: renewed at once"
    );
}

#[test]
fn a_release_ends_the_right_before_anything_is_written() {
    let mut election = Election::new("a", Timing::default());
    assert_eq!(election.release(s(0)), None);
    election.read(s(0), Found::Nothing, 0.0);
    election.written(s(0), s(0), Outcome::Done(record("a", 1), "5".into()));
    let write = election.release(s(1)).unwrap();
    assert_eq!((write.version.as_deref(), election.valid_until()), (Some("5"), Time::default()));
}

/// One Lease, as the API server keeps it.
#[derive(Default)]
struct Server {
    lease: Option<(Record, u64)>,
    writes: u64,
}

impl Server {
    fn read(&self) -> Found {
        match &self.lease {
            Some((record, version)) => Found::Lease(record.clone(), version.to_string()),
            None => Found::Nothing,
        }
    }

    fn write(&mut self, holder: Option<&str>, write: &Write) -> Outcome {
        let current = self.lease.as_ref().map(|(_, version)| version.to_string());
        if current != write.version {
            return Outcome::Refused;
        }
        self.writes += 1;
        let record = Record {
            holder: holder.map(str::to_owned),
            renewed: self.writes.to_string(),
            transitions: write.transitions,
        };
        self.lease = Some((record.clone(), self.writes));
        Outcome::Done(record, self.writes.to_string())
    }
}

/// What happens next to one of the processes.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The next thing that its requests allow: sent, carried out, answered.
    Go,
    /// Its request is lost, before or after it was carried out; the process finds out by a time-out.
    Lose,
    /// The process gives its request up, which arrives later than everything else under way.
    Delay,
    Restart,
    Release,
}

fn event() -> impl Strategy<Value = (usize, u64, Event)> {
    let event = prop_oneof![
        40 => Just(Event::Go),
        3 => Just(Event::Lose),
        2 => Just(Event::Delay),
        1 => Just(Event::Restart),
        1 => Just(Event::Release),
    ];
    (0..3_usize, prop_oneof![20 => 0..1_500_u64, 1 => 0..20_000_u64], event)
}

#[derive(Debug, Clone)]
struct Request {
    write: Option<Write>,
    sent: Time,
    read: Found,
    outcome: Option<Outcome>,
}

struct Process {
    name: String,
    election: Election,
    request: Option<Request>,
    offset: u64,
}

impl Process {
    fn new(number: usize, offset: u64, timing: Timing) -> Self {
        let name = format!("p{number}");
        Self { election: Election::new(name.clone(), timing), name, request: None, offset }
    }

    fn leads(&self, now: u64) -> bool {
        Time(now + self.offset) < self.election.valid_until()
    }

    fn go(&mut self, now: u64, server: &mut Server) {
        let at = Time(now + self.offset);
        match self.request.take() {
            None => {
                let write = match self.election.next(at) {
                    Action::Wait(_) => return,
                    Action::Read => None,
                    Action::Write(write) => Some(write),
                };
                self.request = Some(Request { write, sent: at, read: Found::Failed, outcome: None });
            }
            Some(mut request) if request.outcome.is_none() => {
                if let Some(write) = &request.write {
                    request.outcome = Some(server.write(Some(&self.name), write));
                } else {
                    (request.read, request.outcome) = (server.read(), Some(Outcome::Unknown));
                }
                self.request = Some(request);
            }
            Some(Request { write: Some(_), sent, outcome: Some(outcome), .. }) => {
                self.election.written(sent, at, outcome);
            }
            Some(Request { read, .. }) => self.election.read(at, read, 0.5),
        }
    }

    /// Gives the request up; what is left of it, if it has not arrived yet.
    fn give_up(&mut self, now: u64) -> Option<Write> {
        let at = Time(now + self.offset);
        let request = self.request.take()?;
        match &request.write {
            Some(_) => self.election.written(request.sent, at, Outcome::Unknown),
            None => self.election.read(at, Found::Failed, 0.5),
        }
        request.write.filter(|_| request.outcome.is_none())
    }
}

/// Three processes whose clocks began at different times, requests that are slow, lost, carried out late or answered to
/// nobody, pauses longer than every deadline, restarts and releases. How often one led, or when two did.
fn run(events: &[(usize, u64, Event)], offsets: [u64; 3], timing: Timing) -> Result<u32, String> {
    let mut server = Server::default();
    let mut all: Vec<_> = offsets.iter().enumerate().map(|(i, offset)| Process::new(i, *offset, timing)).collect();
    let mut late: Vec<(String, Write)> = Vec::new();
    let (mut now, mut led) = (0, 0);
    for (number, (who, pause, event)) in events.iter().enumerate() {
        now += pause;
        let process = &mut all[*who];
        match event {
            Event::Go => process.go(now, &mut server),
            Event::Lose => {
                process.give_up(now);
            }
            Event::Delay => late.extend(process.give_up(now).map(|write| (process.name.clone(), write))),
            Event::Restart => *process = Process::new(number + 3, process.offset, timing),
            Event::Release => {
                process.request = None;
                if let Some(write) = process.election.release(Time(now + process.offset)) {
                    let _ = server.write(None, &write);
                }
            }
        }
        if let (Event::Go, Some((name, write))) = (event, late.first().filter(|_| pause % 5 == 0).cloned()) {
            late.remove(0);
            let _ = server.write(Some(&name), &write);
        }
        let leaders = all.iter().filter(|process| process.leads(now)).count();
        if leaders > 1 {
            return Err(format!("two lead at {now} ms, after event {number}"));
        }
        led += u32::from(leaders == 1);
    }
    Ok(led)
}

const OFFSETS: [u64; 3] = [0, 777_777, 31];

proptest! {
    #[test]
    fn never_do_two_lead(events in prop::collection::vec(event(), 1..400)) {
        prop_assert_eq!(run(&events, OFFSETS, Timing::default()).err(), None);
    }
}

#[test]
fn the_schedules_have_leaders_and_find_a_take_over_that_comes_too_soon() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let hasty = Timing { duration: Duration::from_secs(1), ..Timing::default() };
    let (mut led, mut found) = (0, 0);
    for _ in 0..200 {
        let events = prop::collection::vec(event(), 400).new_tree(&mut runner).unwrap().current();
        led += run(&events, OFFSETS, Timing::default()).unwrap();
        found += u32::from(run(&events, OFFSETS, hasty).is_err());
    }
    assert!(led > 10_000, "somebody led after {led} of 80,000 events");
    assert!(found > 10, "found in {found} of 200 schedules");
}
