//! The emulator as its clients meet it: over real TLS connections on loopback, frame by frame. Limits are shortened where
//! a test would wait for them, never skipped.

mod admin;
mod client;
mod delivery;
mod entry;
mod faults;
mod rules;
mod stranger;

use std::time::Duration;

use crate::{Config, Draft, Emulator, Limits};

const GROUP: &str = "DEFAULT_GROUP";

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

async fn emulator(limits: Limits) -> Emulator {
    Emulator::start(Config { limits, ..Config::on_free_ports() }).await.unwrap()
}

/// Limits with short retries, for tests that wait for a redelivery.
fn hasty() -> Limits {
    Limits {
        ack_timeout: millis(200),
        retry_after: millis(100),
        retry_after_link_loss: millis(100),
        ..Limits::default()
    }
}

fn draft(payload: &'static [u8]) -> Draft {
    Draft { topic: "/pk/dn/user/get".into(), payload: payload.into(), ..Draft::default() }
}

/// Waits until `condition` holds, for at most 5 s.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let patience = async {
        while !condition() {
            tokio::time::sleep(millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(5), patience).await.is_ok(), "never came true: {what}");
}
