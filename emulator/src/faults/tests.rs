//! Faults from the plan to the orders that connections get. What a connection does then is tested beside it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

use super::injector::Injected;
use super::*;
use crate::Draft;
use crate::accounts::{Accounts, BadKey};
use crate::amqp::{Corruption, Failure, Hindrance, Order, Seat};
use crate::clock::Clock;
use crate::config::{AccessKeyEntry, OpenApi, Sts, TokenEntry};
use crate::hub::{GroupSeat, Hub};
use crate::openapi::Service;
use crate::platform::{Door, Platform};
use crate::terms::Terms;

struct Scene {
    hub: Arc<Hub>,
    accounts: Arc<Mutex<Accounts>>,
    injector: Arc<Injector>,
}

fn scene() -> Scene {
    let terms = Arc::new(Terms::default());
    let hub = Hub::new(Clock::start(), Platform::new(Arc::clone(&terms), [], 0, 1), crate::instances::single("g"));
    let hub = Arc::new(hub);
    hub.with_world(|world| world.platform.add_group("h", world.now.mono));
    let token = TokenEntry {
        access_key_id: "STS.a".into(),
        access_key_secret: "s".into(),
        security_token: "t".into(),
        expires_at_ms: None,
        account: None,
        permissions: Vec::new(),
    };
    let accounts = Accounts::new("1", &[AccessKeyEntry::new("testid", "testsecret")], &[token], vec![], vec![]);
    let accounts = Arc::new(Mutex::new(accounts));
    let rules = OpenApi::default();
    let service = Arc::new(Service::new(Arc::clone(&hub), Arc::clone(&accounts), terms, rules, Sts::default()));
    let injector = Arc::new(Injector::new(Arc::clone(&hub), Arc::clone(&accounts), service));
    Scene { hub, accounts, injector }
}

impl Scene {
    /// A connection that is open.
    fn seat(&self, group: &str, client: &str, key: &str) -> GroupSeat {
        let (hub, address) = (Arc::clone(&self.hub), "127.0.0.1:1".parse().unwrap());
        let mut seat = GroupSeat::new(hub, group.into(), client.into(), address, None).with_key(key.into());
        for door in [Door::Sasl, Door::Open, Door::Attach] {
            seat.pass(door).unwrap();
        }
        seat
    }

    fn inject(&self, action: Action, target: Target) -> Result<usize, Unable> {
        self.injector.inject(&Injection { action, target }, When::NOW).map(|injected| injected.affected)
    }

    fn drop_at(&self, when: When) -> Injected {
        let injection = Injection { action: Action::Connections(Fault::Drop), target: Target::default() };
        self.injector.inject(&injection, when).unwrap()
    }
}

fn group(group: &str) -> Target {
    Target { group: Some(group.into()), ..Target::default() }
}

#[test]
fn a_fault_hits_whom_it_is_meant_for() {
    let scene = scene();
    let mut seats =
        [("g", "a"), ("g", "a"), ("g", "b"), ("h", "a")].map(|(group, client)| scene.seat(group, client, "testid"));
    let numbers: Vec<u64> = scene.hub.connections(Some("g")).unwrap().iter().map(|line| line.number).collect();
    assert_eq!(numbers.len(), 3);
    let client = |client: &str| Target { client: Some(client.into()), ..Target::default() };
    let connection = |number| Target { connection: Some(number), ..Target::default() };
    for (target, hit) in [
        (Target::default(), [1, 1, 1, 1]),
        (group("g"), [1, 1, 1, 0]),
        (client("a"), [1, 1, 0, 1]),
        (Target { group: Some("g".into()), ..client("a") }, [1, 1, 0, 0]),
        (connection(numbers[1]), [0, 1, 0, 0]),
        (Target { group: Some("h".into()), ..connection(numbers[1]) }, [0, 0, 0, 0]),
        (connection(77), [0, 0, 0, 0]),
    ] {
        let affected = scene.inject(Action::Connections(Fault::Drop), target.clone()).unwrap();
        assert_eq!(affected, hit.iter().sum::<usize>(), "{target:?}");
        let orders = seats.each_mut().map(Seat::orders);
        assert_eq!(orders, hit.map(|count| vec![Order::Drop; count]), "{target:?}");
    }
    let unknown = scene.inject(Action::Connections(Fault::Drop), group("x")).unwrap_err();
    assert!(unknown.to_string().contains("consumer group \"x\""), "{unknown}");
}

#[test]
fn every_fault_is_the_order_of_its_name() {
    let reason = Reason { condition: "amqp:x".into(), description: "y".into() };
    let failure = || Some(Failure::named("amqp:x", "y"));
    let (by, lasts) = (Duration::from_millis(1), Duration::from_secs(1));
    let hinder = |what| Order::Hinder { what, lasts };
    for (fault, order) in [
        (Fault::Close { reason: Some(reason.clone()) }, Order::Close(failure())),
        (Fault::Close { reason: None }, Order::Close(None)),
        (
            Fault::Detach { reason: Some(reason.clone()), closed: true },
            Order::Detach { failure: failure(), closed: true },
        ),
        (Fault::Detach { reason: None, closed: false }, Order::Detach { failure: None, closed: false }),
        (Fault::EndSession { reason: Some(reason) }, Order::End(failure())),
        (Fault::Drop, Order::Drop),
        (Fault::StopReading { lasts }, hinder(Hindrance::NoReading)),
        (Fault::StopWriting { lasts }, hinder(Hindrance::NoWriting)),
        (Fault::Delay { by, lasts }, hinder(Hindrance::Delay(by))),
        (Fault::Corrupt { part: FramePart::Size }, Order::Corrupt(Corruption::Size)),
        (Fault::Corrupt { part: FramePart::DataOffset }, Order::Corrupt(Corruption::DataOffset)),
        (Fault::Corrupt { part: FramePart::FormatCode }, Order::Corrupt(Corruption::FormatCode)),
        (Fault::Corrupt { part: FramePart::End }, Order::Corrupt(Corruption::Truncate)),
    ] {
        assert_eq!(Order::from(&fault), order);
    }
}

#[test]
fn a_token_that_expires_is_its_connections_business_and_nobody_elses() {
    let scene = scene();
    let (mut own, mut other) = (scene.seat("g", "a", "STS.a"), scene.seat("g", "a", "testid"));
    let now_ms = || scene.hub.clock().now().unix_us / 1_000;
    let looked_up = || scene.accounts.lock().unwrap().look_up("STS.a", Some("t"), now_ms()).map(|_| ());
    let expire = |key: &str| Action::ExpireToken { key: Some(key.into()) };
    assert_eq!(scene.inject(expire("STS.b"), Target::default()), Err(Unable::Key("STS.b".into())));
    assert_eq!(scene.inject(expire("testid"), Target::default()), Err(Unable::Key("testid".into())));
    // No connection of the group was made with a temporary key.
    assert_eq!(scene.inject(Action::ExpireToken { key: None }, group("h")), Ok(0));
    assert_eq!(looked_up(), Ok(()));
    assert_eq!(scene.inject(Action::ExpireToken { key: None }, group("g")), Ok(1));
    assert_eq!(looked_up(), Err(BadKey::TokenExpired));
    assert_eq!((own.orders(), other.orders()), (vec![Order::Expire], vec![]));
    assert_eq!(scene.inject(expire("STS.a"), Target::default()), Ok(1), "whoever is still there hears of it");
}

#[test]
fn a_message_is_repeated_if_there_is_one() {
    let scene = scene();
    let id = scene.hub.publish("g", &[Draft::default()]).unwrap().remove(0);
    assert_eq!(scene.inject(Action::Repeat { message: id }, Target::default()), Ok(1));
    let none = scene.inject(Action::Repeat { message: "x".into() }, Target::default());
    assert_eq!(none, Err(Unable::Message("x".into())));
    assert_eq!(scene.inject(Action::RefuseNext { attempts: 3 }, group("g")), Ok(0));
    assert!(matches!(scene.inject(Action::RefuseNext { attempts: 3 }, group("x")), Err(Unable::Group(_))));
}

#[tokio::test(start_paused = true)]
async fn planned_faults_happen_when_they_are_due() {
    let scene = scene();
    let mut seat = scene.seat("g", "a", "testid");
    let (wake, start) = (seat.wake(), Instant::now());
    let running = tokio::spawn({
        let injector = Arc::clone(&scene.injector);
        async move { injector.run().await }
    });
    let second = Duration::from_secs(1);
    let planned = scene.drop_at(When { after: 5 * second, every: Some(2 * second), times: Some(2) });
    assert_eq!((planned.affected, planned.id.is_some(), scene.injector.planned().len()), (0, true, 1));
    for due in [5, 7] {
        wake.notified().await;
        assert_eq!((start.elapsed().as_secs(), seat.orders()), (due, vec![Order::Drop]));
    }
    assert!(scene.injector.planned().is_empty());

    // At once, and again each second until it is cancelled.
    let endless = scene.drop_at(When { after: Duration::ZERO, every: Some(second), times: None });
    assert_eq!((endless.affected, seat.orders().len()), (1, 1));
    wake.notified().await;
    for due in [8, 9, 10] {
        wake.notified().await;
        assert_eq!((start.elapsed().as_secs(), seat.orders().len()), (due, 1));
    }
    assert!(scene.injector.cancel(endless.id.unwrap()) && !scene.injector.cancel(endless.id.unwrap()));
    tokio::time::sleep(10 * second).await;
    assert!(seat.orders().is_empty());

    // One that can't be any more holds nothing up.
    let injection = Injection { action: Action::Connections(Fault::Drop), target: group("h") };
    scene.injector.inject(&injection, When { after: second, ..When::NOW }).unwrap();
    scene.hub.with_world(|world| world.platform.delete_group("h", world.now)).unwrap();
    scene.drop_at(When { after: 2 * second, ..When::NOW });
    wake.notified().await;
    assert_eq!(seat.orders().len(), 1);
    assert_eq!(scene.injector.cancel_all(), 0);
    assert!(!running.is_finished());
    running.abort();
}
