//! What devices say, made up: property posts for the most part, now and then a status change, an event, a custom topic
//! (PLATFORM.md 3). Every payload says when it was published, so that its latency can be measured: in a property post an
//! item `sentAtUs` whose value is Unix µs, elsewhere a field of that name.

use std::fmt::Write as _;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::message::Draft;

/// One crowd of devices. The same seed says the same things, times apart.
#[derive(Debug)]
pub(crate) struct Devices {
    product_key: String,
    count: u32,
    /// Property posts are filled up to this size.
    payload_bytes: usize,
    rng: SmallRng,
}

impl Devices {
    pub(crate) fn new(product_key: &str, count: u32, payload_bytes: usize, seed: u64) -> Self {
        Self {
            product_key: product_key.to_owned(),
            count: count.max(1),
            payload_bytes,
            rng: SmallRng::seed_from_u64(seed),
        }
    }

    /// The next message, of a random device.
    pub(crate) fn next(&mut self, unix_us: u64) -> Draft {
        let device = format!("device-{:04}", self.rng.random_range(0..self.count));
        let product = self.product_key.as_str();
        let iot_id = format!("{product}{device}");
        let now_ms = unix_us / 1_000;
        let (topic, payload) = match self.rng.random_range(0..100_u8) {
            0..90 => {
                let power = self.rng.random_range(0..2_000);
                let temperature = self.rng.random_range(150..400);
                let payload =
                    property_post(&iot_id, product, &device, unix_us, (power, temperature), self.payload_bytes);
                (format!("/{product}/{device}/thing/event/property/post"), payload)
            }
            90..94 => {
                let value = self.rng.random_range(0..100);
                let payload = format!(
                    r#"{{"identifier":"BrokenInfo","name":"damage report","type":"info","iotId":"{iot_id}","productKey":"{product}","deviceName":"{device}","gmtCreate":{now_ms},"value":{{"rate":{value}}},"checkFailedData":{{}},"time":{now_ms},"sentAtUs":{unix_us}}}"#
                );
                (format!("/{product}/{device}/thing/event/BrokenInfo/post"), payload)
            }
            94..98 => {
                let online = self.rng.random_bool(0.5);
                (format!("/as/mqtt/status/{product}/{device}"), status(&iot_id, product, &device, unix_us, online))
            }
            _ => (format!("/{product}/{device}/user/get"), format!(r#"{{"hello":"{device}","sentAtUs":{unix_us}}}"#)),
        };
        Draft { topic, payload: Bytes::from(payload), ..Draft::default() }
    }
}

fn property_post(
    iot_id: &str,
    product: &str,
    device: &str,
    unix_us: u64,
    (power, temperature): (u32, u32),
    size: usize,
) -> String {
    let now_ms = unix_us / 1_000;
    let (whole, tenth) = (temperature / 10, temperature % 10);
    let mut payload = format!(
        r#"{{"iotId":"{iot_id}","productKey":"{product}","deviceName":"{device}","gmtCreate":{now_ms},"deviceType":"Ammeter","items":{{"Power":{{"value":{power},"time":{now_ms}}},"Temperature":{{"value":{whole}.{tenth},"time":{now_ms}}},"sentAtUs":{{"value":{unix_us},"time":{now_ms}}}"#
    );
    let tail = r#"},"checkFailedData":{}}"#;
    // `,"Note":{"value":"…","time":1573489088171}` around the filling.
    let frame = 40;
    if let Some(filling) = size.checked_sub(payload.len() + tail.len() + frame) {
        // Writing to a string does not fail.
        let _ = write!(payload, r#","Note":{{"value":"{:.<filling$}","time":{now_ms}}}"#, "");
    }
    payload.push_str(tail);
    payload
}

fn status(iot_id: &str, product: &str, device: &str, unix_us: u64, online: bool) -> String {
    let status = if online { "online" } else { "offline" };
    let utc = civil_time(unix_us / 1_000);
    // China's time, which the fields without a zone are in.
    let local = civil_time(unix_us / 1_000 + 8 * 3_600_000);
    let (utc_date, utc_clock) = utc;
    let (date, clock) = local;
    format!(
        r#"{{"status":"{status}","iotId":"{iot_id}","productKey":"{product}","deviceName":"{device}","time":"{date} {clock}","utcTime":"{utc_date}T{utc_clock}Z","lastTime":"{date} {clock}","utcLastTime":"{utc_date}T{utc_clock}Z","clientIp":"127.0.0.1","sentAtUs":{unix_us}}}"#
    )
}

/// The date and the time of day, to the millisecond, of a Unix time in the proleptic Gregorian calendar.
fn civil_time(unix_ms: u64) -> (String, String) {
    let (days, of_day) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    // Days are counted from 0000-03-01, so that a leap day is the last of its year; 400 years have 146,097 days.
    let day = days + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute) = (of_day / 3_600_000, of_day / 60_000 % 60);
    let (second, milli) = (of_day / 1_000 % 60, of_day % 1_000);
    (format!("{year:04}-{month:02}-{day_of_month:02}"), format!("{hour:02}:{minute:02}:{second:02}.{milli:03}"))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const AT: u64 = 1_573_489_088_171_123;

    #[test]
    fn every_payload_is_json_and_says_when_it_was_sent() {
        let mut devices = Devices::new("pk", 20, 0, 7);
        let mut kinds = [0_u32; 4];
        for _ in 0..2_000 {
            let draft = devices.next(AT);
            let payload: Value = serde_json::from_slice(&draft.payload).unwrap();
            let (kind, sent) = match draft.topic.as_str() {
                topic if topic.ends_with("/thing/event/property/post") => (0, &payload["items"]["sentAtUs"]["value"]),
                topic if topic.ends_with("/post") => (1, &payload["sentAtUs"]),
                topic if topic.starts_with("/as/mqtt/status/pk/device-00") => (2, &payload["sentAtUs"]),
                _ => (3, &payload["sentAtUs"]),
            };
            kinds[kind] += 1;
            assert_eq!(sent.as_u64(), Some(AT), "{}", draft.topic);
        }
        assert!(kinds[0] > 1_700 && kinds[1..].iter().all(|&count| count > 10), "{kinds:?}");
    }

    #[test]
    fn the_same_seed_says_the_same() {
        let (mut a, mut b) = (Devices::new("pk", 20, 0, 7), Devices::new("pk", 20, 0, 7));
        assert!((0..50).all(|_| a.next(AT) == b.next(AT)));
    }

    #[test]
    fn property_posts_are_filled_up_to_the_size_asked_for() {
        for size in [300, 1_024, 10_000] {
            let mut devices = Devices::new("pk", 20, size, 7);
            let posts: Vec<Draft> =
                (0..20).map(|_| devices.next(AT)).filter(|draft| draft.topic.ends_with("property/post")).collect();
            for post in posts {
                assert!(post.payload.len().abs_diff(size) <= 4 || post.payload.len() < 320, "{}", post.payload.len());
                serde_json::from_slice::<Value>(&post.payload).unwrap();
            }
        }
    }

    #[test]
    fn dates_are_right_around_leap_days_and_years() {
        let at = |ms| civil_time(ms);
        assert_eq!(at(0), ("1970-01-01".into(), "00:00:00.000".into()));
        assert_eq!(at(951_782_399_999), ("2000-02-28".into(), "23:59:59.999".into()));
        assert_eq!(at(951_782_400_000), ("2000-02-29".into(), "00:00:00.000".into()));
        assert_eq!(at(1_535_700_748_205), ("2018-08-31".into(), "07:32:28.205".into()));
        assert_eq!(at(4_107_542_400_000), ("2100-03-01".into(), "00:00:00.000".into()));
    }
}
