//! qpid-jms, in Java, by a failover URI.

use sluice_tests::admin::Fault;
use sluice_tests::emulator::{Emulator, GROUP};
use sluice_tests::receiver::{Library, ReceiverOptions};

use super::{BOUND, all_accepted, connected, options, publish, receives_and_accepts_every_message, survives};

#[test]
fn it_receives_every_message_and_acknowledges_each_by_itself() {
    let emulator = Emulator::start().unwrap();
    receives_and_accepts_every_message(&emulator, &options(Library::Jms, &emulator));
}

#[test]
fn it_acknowledges_several_at_once() {
    let emulator = Emulator::start().unwrap();
    let admin = emulator.admin();
    let options = ReceiverOptions { count: 25, acknowledge_every: Some(10), ..options(Library::Jms, &emulator) };
    let mut client = connected(&emulator, &options);

    // The application has nine, and has not said a word.
    publish(admin, 9);
    for _ in 0..9 {
        client.next(BOUND).unwrap();
    }
    let counts = admin.group(GROUP).unwrap();
    assert_eq!((counts.pushed, counts.accepted, counts.unsettled), (9, 0, 9));
    // With the tenth it acknowledges all of them.
    publish(admin, 1);
    client.next(BOUND).unwrap();
    admin.wait_for(GROUP, BOUND, |counts| counts.accepted == 10 && counts.unsettled == 0).unwrap();

    publish(admin, 15);
    for _ in 0..15 {
        client.next(BOUND).unwrap();
    }
    client.finish(BOUND).unwrap();
    let counts = all_accepted(admin);
    assert_eq!((counts.pushed, counts.accepted), (25, 25));
}

#[test]
fn failover_reconnects_after_the_platform_has_closed_the_connection() {
    survives(Library::Jms, Fault::Close);
}
