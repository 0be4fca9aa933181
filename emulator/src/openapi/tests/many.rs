//! Very many calls: what the emulator remembers of them stays small.

use std::time::Instant;

use jiff::Timestamp;
use serde_json::Value;

use super::*;

/// The n-th moment of a time that is made up: 50 ms after the one before.
fn moment(n: u64) -> Now {
    let us = n * 50_000;
    Now { mono: Micros::new(us), unix_us: 1_800_000_000_000_000 + us }
}

fn asks(service: &Service, query: &str, now: Now) -> Value {
    let at = Timestamp::from_microsecond(i64::try_from(now.unix_us).unwrap()).unwrap();
    let call = made(&format!("{query}&Version=2018-01-20&IotInstanceId=one&Format=JSON")).at(at);
    let reply = service.handle_at(call.received(), now);
    serde_json::from_str(&reply.text).unwrap()
}

/// Makes and deletes so many groups, one after the other.
fn make_and_delete(groups: u64) {
    let rules = OpenApi { calls_per_second: u32::MAX, ..OpenApi::default() };
    let service = service_under(Terms::default(), rules, Sts::default());
    for n in 0..groups {
        let made = asks(&service, &format!("Action=CreateConsumerGroup&GroupName=group_{n}"), moment(2 * n));
        let id = made["GroupId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        let deleted = asks(&service, &format!("Action=DeleteConsumerGroup&GroupId={id}"), moment(2 * n + 1));
        assert_eq!(deleted["Success"], true, "{deleted}");
    }
    // 20 calls a second, remembered for 30 min.
    assert!(
        service.gate().nonces().len() as u64 <= (20 * 1_800 + 1).min(2 * groups),
        "{}",
        service.gate().nonces().len()
    );
    let (calls, rates) = service.counted();
    assert_eq!((calls.len(), rates.len()), (2, 1));
    assert!(calls.iter().all(|line| line.tally.succeeded == groups && line.tally.refused == 0));
    service.hub.with_world(|world| {
        assert_eq!(world.instances.addresses(), ["DEFAULT_GROUP", "g"]);
        assert_eq!(world.platform.all_counts().count(), 2);
        assert!(world.shown.is_empty());
    });
}

#[test]
fn thousands_of_groups_come_and_go_and_leave_nothing_behind() {
    make_and_delete(2_000);
}

/// The most memory this process has had, as Linux tells it.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

/// `cargo test --release -p sluice-emulator --lib a_million_groups -- --ignored --nocapture`
#[test]
#[ignore = "two million calls: for a release build"]
fn a_million_groups_come_and_go_and_leave_nothing_behind() {
    let (start, groups) = (Instant::now(), 1_000_000);
    make_and_delete(groups);
    let (took, peak) = (start.elapsed(), peak_kib());
    println!("{} calls in {took:?}, peak {peak:?} KiB", 2 * groups);
    assert!(peak.is_none_or(|kib| kib < 64 * 1024), "{peak:?}");
}
