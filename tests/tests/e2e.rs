//! End to end: real processes, real peers, real clients, on loopback. One module per concern.

#[expect(clippy::unwrap_used, reason = "a test that cannot go on fails, with the error")]
mod e2e {
    mod admin;
    mod api;
    mod bad_input;
    mod connection;
    mod faults;
    mod flow;
    mod profiles;
    mod rabbitmq;
    mod rubbish;
    mod strangers;
}
