//! Whatever happens, and in whichever order: no message is lost or counted twice, and no client gets more than it gave credit
//! for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;

use super::*;

/// Something that happens to the platform.
#[derive(Debug, Clone)]
enum Step {
    Publish(usize),
    Join,
    Leave(usize),
    Detach(usize),
    Attach(usize),
    Grant { client: usize, more: u32, drain: bool },
    Settle { client: usize, from: u32, count: u32, outcome: Outcome },
    Repeat(u64),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let outcome = prop_oneof![
        4 => Just(Outcome::Accepted),
        1 => Just(Outcome::Released),
        1 => Just(Outcome::Rejected),
        1 => Just(Outcome::Modified),
        1 => Just(Outcome::Unspecified),
    ];
    prop_oneof![
        4 => (1..20_usize).prop_map(Step::Publish),
        2 => Just(Step::Join),
        1 => (0..4_usize).prop_map(Step::Leave),
        1 => (0..4_usize).prop_map(Step::Detach),
        2 => (0..4_usize).prop_map(Step::Attach),
        4 => (0..4_usize, 0..12_u32, prop::bool::weighted(0.2))
            .prop_map(|(client, more, drain)| Step::Grant { client, more, drain }),
        4 => (0..4_usize, 0..8_u32, 1..10_u32, outcome)
            .prop_map(|(client, from, count, outcome)| Step::Settle { client, from, count, outcome }),
        1 => (1..30_u64).prop_map(Step::Repeat),
        4 => (1..200_u64).prop_map(Step::Pass),
    ]
}

/// The default as often as another.
fn profile() -> impl Strategy<Value = Profile> {
    let others = [Profile::alone(), Profile::pairs()].concat();
    prop_oneof![Just(Profile::default()), prop::sample::select(others).prop_map(|variation| variation.profile)]
}

/// Limits that make everything happen within a few hundred milliseconds, and whose rates come out in whole ones.
fn hasty() -> Limits {
    let millis = Duration::from_millis;
    Limits {
        clients_per_group: 4,
        backlog_per_group: 200,
        ack_timeout: millis(30),
        retry_after: millis(60),
        retry_after_link_loss: millis(20),
        real_time_wait: millis(10),
        retention: millis(400),
        backlog_capacity: 40,
        fate_log_messages: 50,
        ..Limits::default()
    }
}

/// What a client has seen of its link.
#[derive(Debug, Default)]
struct Seen {
    attached: bool,
    /// The delivery-count up to which it has given credit.
    limit: u32,
    delivery_count: u32,
    numbers: VecDeque<u32>,
}

fn check_conservation(world: &World) {
    let counts = world.counts();
    assert_eq!(
        counts.published + counts.repeated,
        counts.accepted + counts.dropped + counts.waiting + counts.backlog + counts.unsettled,
        "{counts:?}"
    );
    assert_eq!(world.platform.audit().violations, Vec::<String>::new());
}

fn fetch_and_check_credit(world: &mut World, client: ClientKey, seen: &mut Seen) {
    let mut outgoing = Vec::new();
    world.platform.take_outgoing(client, usize::MAX, &mut outgoing);
    for outgoing in outgoing {
        match outgoing {
            Outgoing::Push { number, .. } => {
                seen.delivery_count += 1;
                seen.numbers.push_back(number);
            }
            Outgoing::Drained { by } => seen.delivery_count += by,
        }
        assert!(seen.delivery_count <= seen.limit, "more than there was credit for: {seen:?}");
    }
}

fn run(world: &mut World, steps: &[Step]) {
    let mut clients: BTreeMap<ClientKey, Seen> = BTreeMap::new();
    for step in steps {
        let nth = |index: usize| clients.keys().copied().nth(index);
        match *step {
            Step::Publish(count) => {
                world.publish(count);
            }
            Step::Join => {
                let name = if clients.len().is_multiple_of(2) { "c" } else { "d" };
                if let Ok(client) = world.come(name) {
                    world.platform.attach(client);
                    clients.insert(client, Seen { attached: true, ..Seen::default() });
                }
                for (client, _) in world.platform.take_evicted() {
                    world.platform.leave(client, world.now());
                    clients.remove(&client);
                }
            }
            Step::Leave(index) => {
                if let Some(client) = nth(index) {
                    world.platform.leave(client, world.now());
                    clients.remove(&client);
                }
            }
            Step::Detach(index) => {
                if let Some(client) = nth(index) {
                    world.platform.detach(client, world.now());
                    clients.insert(client, Seen::default());
                }
            }
            Step::Attach(index) => {
                if let Some(client) = nth(index)
                    && !clients[&client].attached
                {
                    world.platform.attach(client);
                    clients.insert(client, Seen { attached: true, ..Seen::default() });
                }
            }
            Step::Grant { client, more, drain } => {
                if let Some(client) = nth(client) {
                    let seen = clients.get_mut(&client).unwrap();
                    // A real client's view: it counts what it has fetched, and never lowers what it has granted.
                    let link_credit = seen.limit.saturating_sub(seen.delivery_count) + more;
                    seen.limit = seen.delivery_count + link_credit;
                    let credit = Credit { delivery_count: Some(seen.delivery_count), link_credit, drain };
                    world.platform.grant(client, credit, world.now());
                }
            }
            Step::Settle { client, from, count, outcome } => {
                if let Some(client) = nth(client) {
                    let first = clients[&client].numbers.front().copied().unwrap_or(0) + from;
                    world.settle(client, first, first + count - 1, outcome);
                }
            }
            Step::Repeat(number) => {
                world.platform.repeat(&(ID_BASE + number).to_string(), world.now());
            }
            Step::Pass(millis) => world.pass(Duration::from_millis(millis)),
        }
        for (&client, seen) in &mut clients {
            fetch_and_check_credit(world, client, seen);
        }
        check_conservation(world);
    }
}

/// In the end a good client comes and takes all that is left.
fn end_well(world: &mut World) {
    let before = world.counts();
    for client in world.platform.clients(Some(GROUP), None).unwrap() {
        world.platform.leave(client, world.now());
    }
    let client = world.attached("last", 10_000);
    for _ in 0..100 {
        world.pass(Duration::from_millis(10));
        world.settle(client, 0, 10_000, Outcome::Accepted);
    }
    let counts = world.counts();
    assert_eq!((counts.published, counts.repeated), (before.published, before.repeated));
    assert_eq!(counts.accepted + counts.dropped, before.published + before.repeated, "{counts:?} after {before:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost_or_counted_twice_and_credit_is_never_exceeded(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new(hasty());
        run(&mut world, &steps);
        end_well(&mut world);
    }

    #[test]
    fn nor_is_it_whatever_the_profile(
        profile in prop::sample::select(Profile::pairs()),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(Terms { profile: profile.profile, ..Terms::from(hasty()) });
        run(&mut world, &steps);
        end_well(&mut world);
    }

    #[test]
    fn a_message_is_in_one_place_at_a_time(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new(Limits { fate_log_messages: 100_000, ..hasty() });
        run(&mut world, &steps);
        let (fates, _) = world.platform.fates(GROUP, 0, usize::MAX).unwrap();
        prop_assert_eq!(fates.iter().map(|fate| fate.seq).collect::<BTreeSet<_>>().len(), fates.len());
        let count = |state: State| fates.iter().filter(|fate| fate.state == state).count() as u64;
        let counts = world.counts();
        prop_assert_eq!(count(State::Accepted), counts.accepted);
        prop_assert_eq!(count(State::Dropped), counts.dropped);
        prop_assert_eq!(count(State::Waiting), counts.waiting);
        prop_assert_eq!(count(State::Backlog), counts.backlog);
        prop_assert_eq!(count(State::Unsettled), counts.unsettled);
        prop_assert_eq!(fates.iter().map(|fate| u64::from(fate.pushes)).sum::<u64>(), counts.pushed);
    }

    #[test]
    fn ticking_at_the_alarm_is_as_good_as_ticking_all_the_time(
        profile in profile(),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        // One client, so that the dice decide nothing.
        let terms = Terms { profile, ..Terms::from(Limits { clients_per_group: 1, ..hasty() }) };
        let (mut at_alarms, mut always) = (World::new(terms.clone()), World::new(terms));
        always.every = Some(Duration::from_millis(1));
        run(&mut at_alarms, &steps);
        run(&mut always, &steps);
        prop_assert_eq!(at_alarms.counts(), always.counts());
    }
}
