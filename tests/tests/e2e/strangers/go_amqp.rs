//! Azure/go-amqp, in Go.

use sluice_tests::admin::Fault;
use sluice_tests::emulator::Emulator;
use sluice_tests::receiver::Library;

use super::{closes_and_reconnects, options, receives_and_accepts_every_message, survives};

#[test]
fn it_receives_and_accepts_every_message() {
    let emulator = Emulator::start().unwrap();
    receives_and_accepts_every_message(&emulator, &options(Library::GoAmqp, &emulator));
}

#[test]
fn it_closes_and_reconnects() {
    closes_and_reconnects(Library::GoAmqp);
}

#[test]
fn it_reconnects_after_its_link_is_detached() {
    survives(Library::GoAmqp, Fault::Detach);
}
