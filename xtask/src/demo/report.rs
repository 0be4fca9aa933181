//! The result of a demo, for people and as the line of JSON that scripts rely on.

use std::fmt;

use serde::Serialize;

use super::{audit::Findings, emulator::Counts, screen::grouped, tally::Tally};

/// The result. Its JSON fields are a contract.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    /// Messages that the devices published.
    pub(crate) published: u64,
    /// Messages that the application was given, each counted once.
    pub(crate) delivered: u64,
    /// Messages that the application acknowledged, each counted once.
    pub(crate) acked: u64,
    /// Messages accepted on the platform.
    pub(crate) accepted: u64,
    /// Times that a message was released on the platform.
    pub(crate) released: u64,
    /// Deliveries beyond the first of a message.
    pub(crate) repeats: u64,
    /// Messages published and not accepted.
    pub(crate) lost: u64,
    /// Messages accepted earlier than the application acknowledged them, or without that.
    pub(crate) accepted_before_ack: u64,
    /// For how long the devices published.
    pub(crate) seconds: f64,
    /// Messages acknowledged per second, from the first ack to the last; 0 if that took no time.
    pub(crate) rate: f64,
    /// Publish → application, median.
    pub(crate) p50_ms: f64,
    /// Publish → application, 99th percentile.
    pub(crate) p99_ms: f64,
}

impl Report {
    /// Puts the accounts of platform, application and audit together.
    pub(crate) fn new(counts: Counts, tally: &Tally, findings: &Findings, seconds: f64) -> Self {
        let latency = tally.latency_of_all();
        let acking = tally.acking_time();
        let rate = if acking.is_zero() { 0.0 } else { as_f64(tally.acked()) / acking.as_secs_f64() };
        Self {
            published: counts.published,
            delivered: tally.delivered(),
            acked: tally.acked(),
            accepted: counts.accepted,
            released: counts.released,
            repeats: tally.repeats(),
            lost: findings.lost,
            accepted_before_ack: findings.accepted_before_ack,
            seconds: rounded(seconds),
            rate: rounded(rate),
            p50_ms: as_f64(latency.p50_us) / 1000.0,
            p99_ms: as_f64(latency.p99_us) / 1000.0,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "published {} in {:.1} s, delivered {} and {} repeats, acked {} ({:.0}/s)",
            grouped(self.published),
            self.seconds,
            grouped(self.delivered),
            grouped(self.repeats),
            grouped(self.acked),
            self.rate
        )?;
        writeln!(f, "platform: accepted {}, released {}", grouped(self.accepted), grouped(self.released))?;
        writeln!(f, "publish to application: p50 {:.2} ms, p99 {:.2} ms", self.p50_ms, self.p99_ms)?;
        write!(f, "lost {}, accepted before the ack {}", grouped(self.lost), grouped(self.accepted_before_ack))
    }
}

/// To two decimals.
fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

/// Counts of a demo are far below 2⁵³.
#[allow(clippy::cast_precision_loss)]
fn as_f64(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let tally = Tally::of(&[
            r#"{"event":"delivered","id":"a","attempt":1,"sentAtUs":1000,"atUs":2500}"#,
            r#"{"event":"acked","id":"a","atUs":2600}"#,
            r#"{"event":"acked","id":"b","atUs":502600}"#,
        ]);
        let counts = Counts { published: 2, accepted: 1, released: 0, backlog: 1, unsettled: 0 };
        let findings = Findings { lost: 1, ..Findings::default() };
        Report::new(counts, &tally, &findings, 0.501)
    }

    #[test]
    fn the_line_of_json_has_the_fields_that_scripts_rely_on() {
        assert_eq!(
            serde_json::to_string(&report()).unwrap(),
            r#"{"published":2,"delivered":1,"acked":2,"accepted":1,"released":0,"repeats":0,"lost":1,"acceptedBeforeAck":0,"seconds":0.5,"rate":4.0,"p50Ms":1.5,"p99Ms":1.5}"#
        );
    }

    #[test]
    fn the_summary_ends_with_what_went_wrong() {
        assert!(report().to_string().ends_with("lost 1, accepted before the ack 0"));
    }
}
