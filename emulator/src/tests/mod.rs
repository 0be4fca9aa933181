//! The emulator as its clients meet it: over real TLS connections on loopback, frame by frame. The clock
//! is the real one and the machine may be busy, so no test may depend on being fast: a limit is shortened only where a test
//! waits for it to be reached, the others are long. What a connection does at which moment is tested beside it, with times
//! that are made up.

mod admin;
mod api;
pub(crate) mod client;
mod delivery;
mod devices;
mod entry;
mod faults;
mod gateway;
pub(crate) mod peer;

mod proofs;
mod rules;
mod stranger;
mod wire;

use std::time::Duration;

use crate::{Config, Draft, Emulator, Limits};

const GROUP: &str = "DEFAULT_GROUP";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn emulator(limits: Limits) -> Emulator {
    Emulator::start(Config { limits, ..Config::on_free_ports() }).await.unwrap()
}

/// Limits that no test reaches by being slow.
fn patient() -> Limits {
    let long = Duration::from_mins(1);
    Limits {
        auth_deadline: long,
        link_deadline: long,
        ack_timeout: long,
        real_time_wait: long,
        uneven_for: Duration::ZERO,
        ..Limits::default()
    }
}

/// The same with short retries, for tests that wait for a redelivery.
fn hasty() -> Limits {
    Limits { retry_after: millis(100), retry_after_link_loss: millis(100), ..patient() }
}

fn draft(payload: &'static [u8]) -> Draft {
    Draft { topic: "/pk/dn/user/get".into(), payload: payload.into(), ..Draft::default() }
}

/// Waits until `condition` holds, for at most half a minute.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = async {
        while !condition() {
            tokio::time::sleep(millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(30), patience).await.is_ok(), "never came true: {what}");
}
