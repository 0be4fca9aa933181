//! Very many messages, groups and clients: what is kept of them is bounded.

use std::time::Instant;

use super::*;

/// The size of an ordinary payload; that of the message that is never accepted is another.
const PAYLOAD: usize = 256;
const BATCH: usize = 100;

/// Publishes messages to a client that accepts them all but the first, which it releases whenever it comes.
fn consume(messages: usize, fate_log_messages: usize) -> World {
    let mut world = World::new(Limits {
        real_time_per_connection: u32::MAX,
        backlog_per_group: u32::MAX,
        retry_after: seconds(1),
        fate_log_messages,
        ..Limits::default()
    });
    let client = world.attached("c", u32::MAX);
    let draft =
        |size: usize| Draft { topic: "/pk/dn/user/get".into(), payload: vec![7; size].into(), ..Draft::default() };
    let ordinary = vec![draft(PAYLOAD); BATCH];
    world.platform.publish(GROUP, &[draft(PAYLOAD / 2)], world.now()).unwrap();
    let mut pushed = Vec::new();
    for _ in 0..messages / BATCH {
        world.platform.publish(GROUP, &ordinary, world.now()).unwrap();
        world.platform.take_outgoing(client, usize::MAX, &mut pushed);
        let number = |it: &Outgoing| if let Outgoing::Push { number, .. } = it { *number } else { 0 };
        let is_poison = |it: &&Outgoing| matches!(it, Outgoing::Push { body, .. } if body.len() < PAYLOAD);
        let poison = pushed.iter().find(is_poison).map(number);
        let (first, last) = (number(&pushed[0]), number(&pushed[pushed.len() - 1]));
        if let Some(poison) = poison {
            world.settle(client, poison, poison, Outcome::Released);
        }
        world.settle(client, first, last, Outcome::Accepted);
        pushed.clear();
        world.pass(Duration::from_millis(10));
    }
    let counts = world.counts();
    assert_eq!(counts.published, messages as u64 + 1);
    assert_eq!((counts.accepted, counts.dropped), (messages as u64, 0));
    assert_eq!(counts.released, counts.pushed - messages as u64 - counts.unsettled);
    assert_eq!(world.platform.audit().violations, Vec::<String>::new());
    world
}

#[test]
fn what_is_kept_of_messages_that_passed_is_bounded() {
    for fate_log_messages in [0, 10_000] {
        let messages = 150_000;
        let world = consume(messages, fate_log_messages);
        let log = &world.platform.depot.log;
        assert_eq!(log.all().count(), fate_log_messages + 1, "and the one that nobody accepts");
        assert_eq!(log.shelf().settled(), fate_log_messages);
        let (chunks, used) = log.shelf().chunks();
        assert!(chunks <= messages / 1_000 && used <= fate_log_messages / 1_024 + 4, "{chunks} {used}");
        assert!(world.events(&(ID_BASE + 1).to_string()).len() <= 66);
    }
}

/// The most memory this process has had, as Linux tells it.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

/// `cargo test --release -p sluice-emulator --lib -- --ignored --nocapture ten_million`
#[test]
#[ignore = "takes a while; in release"]
fn ten_million_messages_need_less_than_a_gigabyte() {
    for fate_log_messages in [0, 1_000_000] {
        let (start, messages) = (Instant::now(), 10_000_000);
        let world = consume(messages, fate_log_messages);
        let each = start.elapsed() / u32::try_from(messages).unwrap();
        let kept = world.platform.depot.log.all().count();
        let start = Instant::now();
        assert!(world.platform.audit().consistent);
        let (audit, peak) = (start.elapsed(), peak_kib());
        println!(
            "fateLogMessages {fate_log_messages}: {each:?} a message, {kept} kept, audit {audit:?}, peak {peak:?} KiB"
        );
        assert!(peak.is_none_or(|kib| kib < 1024 * 1024));
    }
}

/// `cargo test --release -p sluice-emulator --lib -- --ignored --nocapture many_clients`
#[test]
#[ignore = "a measurement; in release"]
fn what_a_message_costs_among_many_clients() {
    for uneven_for in [seconds(0), seconds(600)] {
        for clients in [1, 8, 64] {
            let limits = Limits { real_time_per_connection: 100_000, fate_log_messages: 0, ..Limits::default() };
            let mut world = World::new(Limits { uneven_for, ..limits });
            let clients: Vec<_> = (0..clients).map(|nth| world.attached(&format!("c{nth}"), u32::MAX)).collect();
            let (start, messages) = (Instant::now(), 300_000);
            for _ in 0..messages / BATCH {
                world.publish(BATCH);
                for &client in &clients {
                    if let [first, .., last] | [first @ last] = world.fetch(client)[..] {
                        world.settle(client, first, last, Outcome::Accepted);
                    }
                }
                world.pass(Duration::from_millis(1));
            }
            assert_eq!(world.counts().accepted, messages as u64);
            let each = start.elapsed() / u32::try_from(messages).unwrap();
            println!("{} clients, uneven for {uneven_for:?}: {each:?} a message", clients.len());
        }
    }
}

#[test]
fn one_who_does_not_read_is_given_no_more_until_it_does() {
    let limits = Limits { real_time_per_connection: u32::MAX, ack_timeout: seconds(3_600), ..Limits::default() };
    let mut world = World::new(limits);
    let client = world.attached("c", u32::MAX);
    world.publish(25_000);
    assert_eq!((world.counts().unsettled, world.counts().waiting), (10_000, 15_000));
    let mut outgoing = Vec::new();
    world.platform.take_outgoing(client, 4_000, &mut outgoing);
    world.platform.take_outgoing(client, 2_000, &mut outgoing);
    assert_eq!(world.platform.alarm(), Micros::default(), "there is room again");
    world.pass(Duration::ZERO);
    assert_eq!((outgoing.len(), world.counts().unsettled), (6_000, 16_000));
    while world.counts().waiting > 0 {
        world.fetch(client);
        world.pass(Duration::ZERO);
    }
    assert_eq!(world.counts().unsettled, 25_000);
}

#[test]
fn groups_that_come_and_go_leave_nothing() {
    let mut world = World::new(Limits { fate_log_messages: 100, ..Limits::default() });
    for number in 0..20_000 {
        let name = format!("group-{number}");
        world.platform.add_group(&name, world.now);
        world.platform.publish(&name, &[Draft::default()], world.now()).unwrap();
        let client = world.platform.come(&visit(&name, &name), world.now()).unwrap();
        world.platform.attach(client);
        let credit = Credit { delivery_count: None, link_credit: 1, drain: false };
        world.platform.grant(client, credit, world.now());
        world.platform.delete_group(&name, world.now()).unwrap();
        assert_eq!(world.platform.take_evicted().len(), 1);
        assert_eq!(world.platform.take_woken().len(), 1);
        world.platform.leave(client, world.now());
        // What comes from one that is gone is passed over.
        world.platform.settle(client, 0, 0, Outcome::Accepted, world.now());
    }
    assert_eq!((world.platform.groups.len(), world.platform.by_name.len()), (2, 2));
    world.pass(seconds(100));
    assert!(world.platform.depot.alarms.next() > world.now);
    assert_eq!(world.platform.depot.log.all().count(), 100);
    assert!(world.platform.audit().consistent);
}
