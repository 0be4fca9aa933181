//! qpid-proton, in Python.

use sluice_tests::certificates::Certificates;
use sluice_tests::emulator::Emulator;
use sluice_tests::receiver::{Library, Receiver, ReceiverOptions};

use super::{BOUND, options, receives_and_accepts_every_message};

#[test]
fn it_receives_and_accepts_every_message() {
    let emulator = Emulator::start().unwrap();
    receives_and_accepts_every_message(&emulator, &options(Library::Proton, &emulator));
}

#[test]
fn a_wrong_signature_is_refused() {
    let emulator = Emulator::start().unwrap();
    let options = ReceiverOptions { access_key_secret: "wrongsecret", ..options(Library::Proton, &emulator) };
    let error = Receiver::start(&options).unwrap().finish(BOUND).unwrap_err();
    assert!(error.to_string().contains("amqp:unauthorized-access"), "{error}");
}

#[test]
fn an_authority_that_did_not_sign_the_certificate_is_not_trusted() {
    let emulator = Emulator::start().unwrap();
    let stranger = Certificates::generate().unwrap();
    let authority = stranger.authority();
    let options = ReceiverOptions { authority: &authority, ..options(Library::Proton, &emulator) };
    let error = Receiver::start(&options).unwrap().finish(BOUND).unwrap_err();
    assert!(error.to_string().contains("certificate verify failed"), "{error}");
}
