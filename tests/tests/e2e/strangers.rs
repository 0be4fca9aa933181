//! Clients that know nothing of Sluice, against the emulator: consumers written as the vendor's samples are, each on another
//! library and with its own few lines of signing (PLATFORM.md 2). What they are told of the platform is what its documents say.

mod go_amqp;
mod jms;
mod proton;
mod rhea;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use sluice_tests::admin::{Admin, Counts, Fault, NewMessage};
use sluice_tests::emulator::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Emulator, GROUP, INSTANCE};
use sluice_tests::receiver::{Library, Receiver, ReceiverOptions};

/// Enough for a Java to start while all else is tested on the same two cores.
const BOUND: Duration = Duration::from_mins(2);

/// How many messages a receiver is given.
const COUNT: usize = 200;

/// A platform that tries soon again what a client leaves behind.
const IMPATIENT: &str = "limits: {retryAfter: 1s, retryAfterLinkLoss: 1s}";

fn options(library: Library, emulator: &Emulator) -> ReceiverOptions<'_> {
    ReceiverOptions {
        library,
        port: emulator.port().unwrap(),
        authority: emulator.authority(),
        group: GROUP,
        instance: INSTANCE,
        client_id: "stranger-1",
        access_key_id: ACCESS_KEY_ID,
        access_key_secret: ACCESS_KEY_SECRET,
        count: COUNT,
        reconnect_after: None,
        acknowledge_every: None,
    }
}

/// Starts a receiver, and waits until it is connected.
fn connected(emulator: &Emulator, options: &ReceiverOptions<'_>) -> Receiver {
    let client = Receiver::start(options).unwrap();
    emulator.admin().wait_for(GROUP, BOUND, |counts| counts.clients == 1).unwrap();
    client
}

fn topic(n: usize) -> String {
    format!("/a1TestProdct/meter-{n}/user/readings")
}

/// Publishes so many messages, and returns their IDs.
fn publish(admin: &Admin, count: usize) -> Vec<String> {
    let reading = |n| NewMessage::new(&topic(n), format!("reading {n}").as_bytes());
    let ids = admin.publish(GROUP, &(0..count).map(reading).collect::<Vec<_>>()).unwrap();
    assert_eq!(ids.len(), count);
    ids
}

/// Waits until as many messages are accepted as were published, and nothing is left anywhere.
fn all_accepted(admin: &Admin) -> Counts {
    let nothing_left = |counts: &Counts| {
        counts.accepted == counts.published && (counts.unsettled, counts.waiting, counts.backlog) == (0, 0, 0)
    };
    admin.wait_for(GROUP, BOUND, nothing_left).unwrap()
}

/// A receiver gets every message once and as it was published, accepts it, and leaves.
fn receives_and_accepts_every_message(emulator: &Emulator, options: &ReceiverOptions<'_>) {
    let mut client = connected(emulator, options);
    let ids = publish(emulator.admin(), COUNT);
    let received: Vec<_> = (0..COUNT).map(|_| client.next(BOUND).unwrap()).collect();
    client.finish(BOUND).unwrap();

    let by_id: HashMap<_, _> = received.iter().map(|message| (message.message_id.as_str().unwrap(), message)).collect();
    assert_eq!(by_id.len(), COUNT, "each message once");
    for (n, id) in ids.iter().enumerate() {
        let message = by_id[id.as_str()];
        assert_eq!(message.payload().unwrap(), format!("reading {n}").into_bytes());
        assert_eq!(message.topic, topic(n));
        assert!(message.generate_time.as_i64().is_some_and(|time| time > 0), "{:?}", message.generate_time);
    }
    let counts = all_accepted(emulator.admin());
    assert_eq!((counts.published, counts.pushed), (COUNT as u64, COUNT as u64));
    for id in &ids {
        let fate = emulator.admin().fate(id).unwrap();
        let accepted: Vec<_> = fate.iter().filter(|event| event.event == "accepted").collect();
        assert_eq!(accepted.len(), 1, "{fate:?}");
        assert_eq!(accepted[0].client.as_deref(), Some(options.client_id));
    }
}

/// A receiver closes its connection in the middle, makes another, and gets what is left there.
fn closes_and_reconnects(library: Library) {
    let emulator = Emulator::start_with(IMPATIENT).unwrap();
    let options = ReceiverOptions { reconnect_after: Some(COUNT / 2), ..options(library, &emulator) };
    let mut client = connected(&emulator, &options);
    let ids = publish(emulator.admin(), COUNT);
    // What it accepts is accepted: nothing comes twice, although a close took what it had not answered for.
    let received: HashSet<_> =
        (0..COUNT).map(|_| client.next(BOUND).unwrap().message_id.as_str().unwrap().to_owned()).collect();
    client.finish(BOUND).unwrap();
    assert_eq!(received, ids.into_iter().collect());
    let counts = all_accepted(emulator.admin());
    assert_eq!((counts.connect_attempts, counts.clients_peak), (2, 1));
}

/// The platform breaks the connection in the middle; the library, or the sample's own loop, connects again, and every message
/// comes to its end.
fn survives(library: Library, fault: Fault) {
    let emulator = Emulator::start_with(IMPATIENT).unwrap();
    let admin = emulator.admin();
    // More than will ever come, so that it stays for what comes again.
    let options = ReceiverOptions { count: 100 * COUNT, ..options(library, &emulator) };
    let mut client = connected(&emulator, &options);
    let mut ids: HashSet<_> = publish(admin, COUNT).into_iter().collect();
    for _ in 0..COUNT / 4 {
        client.next(BOUND).unwrap();
    }
    assert_eq!(admin.inject(fault).unwrap(), 1);
    admin.wait_for(GROUP, BOUND, |counts| counts.connect_attempts >= 2 && counts.clients == 1).unwrap();
    ids.extend(publish(admin, COUNT));
    let counts = all_accepted(admin);
    assert_eq!((counts.published, ids.len()), (2 * COUNT as u64, 2 * COUNT));
}
