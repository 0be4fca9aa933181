//! The sidecar's metrics: every name and label there is, in one place (Prometheus conventions: base units, `_total`).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::amqp::fault::Renew;
use crate::ledger::{Held, Outcome, Verdict, VerdictResult};

/// A counter for each value of some labels. Those of the hot path are looked up once, in [`Metrics::default`].
type ByLabel<const N: usize> = Family<[(&'static str, &'static str); N], Counter>;

const VERDICTS: [&str; 2] = ["ack", "retry"];
const RESULTS: [&str; 6] = ["settled", "retry_scheduled", "handed_back", "expired", "link_lost", "unknown"];

/// The counters and gauges. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    received: Counter,
    received_bytes: Counter,
    repeats: Counter,
    overflows: Counter,
    unreadable: Counter,
    delivered: Counter,
    settled: ByLabel<1>,
    accepted: Counter,
    released: Counter,
    verdicts: ByLabel<2>,
    verdict: [[Counter; RESULTS.len()]; VERDICTS.len()],
    expired: Counter,
    attempts: Counter,
    failures: ByLabel<1>,
    link_up: Gauge,
    saturated: Counter<f64, AtomicU64>,
    broker_up: Gauge,
    slots: Gauge,
    permits: ByLabel<1>,
    streams: Gauge,
    held: Gauge,
    held_bytes: Gauge<u64, AtomicU64>,
    leased: Gauge,
    credit: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        let settled = ByLabel::<1>::default();
        let verdicts = ByLabel::<2>::default();
        Self {
            accepted: settled.get_or_create_owned(&[("outcome", "accepted")]),
            released: settled.get_or_create_owned(&[("outcome", "released")]),
            settled,
            verdict: VERDICTS.map(|verdict| {
                RESULTS.map(|result| verdicts.get_or_create_owned(&[("verdict", verdict), ("result", result)]))
            }),
            verdicts,
            received: Counter::default(),
            received_bytes: Counter::default(),
            repeats: Counter::default(),
            overflows: Counter::default(),
            unreadable: Counter::default(),
            delivered: Counter::default(),
            expired: Counter::default(),
            attempts: Counter::default(),
            failures: ByLabel::default(),
            link_up: Gauge::default(),
            saturated: Counter::default(),
            broker_up: Gauge::default(),
            slots: Gauge::default(),
            permits: ByLabel::default(),
            streams: Gauge::default(),
            held: Gauge::default(),
            held_bytes: Gauge::default(),
            leased: Gauge::default(),
            credit: Gauge::default(),
        }
    }
}

impl Metrics {
    /// Registers everything in a registry of its own, for the admin address.
    pub fn registry(&self) -> Arc<Registry> {
        let mut root = Registry::with_prefix("sluice_sidecar");
        let r = &mut root;
        r.register("deliveries_received", "Messages received from the platform", self.received.clone());
        r.register_with_unit(
            "deliveries_received",
            "Size of the messages received",
            Unit::Bytes,
            self.received_bytes.clone(),
        );
        r.register("deliveries_repeated", "Messages that the platform sent before", self.repeats.clone());
        r.register("deliveries_overflowed", "Messages beyond the window, handed back unseen", self.overflows.clone());
        r.register("deliveries_unreadable", "Messages that can't be given out, handed back", self.unreadable.clone());
        r.register("deliveries_sent", "Deliveries to applications", self.delivered.clone());
        r.register("deliveries_settled", "Deliveries settled on the platform", self.settled.clone());
        r.register("verdicts", "Verdicts of applications, by what came of them", self.verdicts.clone());
        r.register("leases_expired", "Leases that ran out without a verdict", self.expired.clone());
        r.register("connect_attempts", "Attempts to connect to the platform", self.attempts.clone());
        r.register("link_failures", "Failed attempts and lost links, by what must be renewed", self.failures.clone());
        r.register(
            "link_up",
            "Links to the platform that stand: 1 or 0 unless there are several",
            self.link_up.clone(),
        );
        r.register_with_unit(
            "saturated",
            "Time in which no attached application could be given one more message",
            Unit::Seconds,
            self.saturated.clone(),
        );
        r.register("broker_up", "1 while a broker of the operator is heard", self.broker_up.clone());
        r.register("slots_held", "Client slots that the operator has granted", self.slots.clone());
        r.register("permits", "Permits to connect, by what became of them", self.permits.clone());
        r.register("streams", "Streams that applications have attached", self.streams.clone());
        r.register("messages_held", "Messages in hand", self.held.clone());
        r.register_with_unit("messages_held", "Size of the messages in hand", Unit::Bytes, self.held_bytes.clone());
        r.register("messages_leased", "Messages that applications have", self.leased.clone());
        r.register("link_credit", "Messages that the platform may still send", self.credit.clone());
        Arc::new(root)
    }

    pub(crate) fn received(&self, bytes: u32) {
        self.received.inc();
        self.received_bytes.inc_by(u64::from(bytes));
    }

    pub(crate) fn repeat(&self) {
        self.repeats.inc();
    }

    pub(crate) fn overflow(&self) {
        self.overflows.inc();
    }

    pub(crate) fn unreadable(&self) {
        self.unreadable.inc();
    }

    pub(crate) fn delivered(&self, deliveries: usize) {
        self.delivered.inc_by(deliveries as u64);
    }

    pub(crate) fn settled(&self, outcome: Outcome, deliveries: u32) {
        match outcome {
            Outcome::Accepted => self.accepted.inc_by(u64::from(deliveries)),
            Outcome::Released => self.released.inc_by(u64::from(deliveries)),
            Outcome::LeftToExpire => 0,
        };
    }

    pub(crate) fn verdict(&self, verdict: Verdict, result: VerdictResult) {
        let verdict = match verdict {
            Verdict::Ack => 0,
            Verdict::Retry { .. } => 1,
        };
        let result = match result {
            VerdictResult::Accepting => 0,
            VerdictResult::RetryScheduled => 1,
            VerdictResult::HandingBack => 2,
            VerdictResult::Expired => 3,
            VerdictResult::LinkLost => 4,
            VerdictResult::Unknown => 5,
        };
        self.verdict[verdict][result].inc();
    }

    pub(crate) fn expired(&self) {
        self.expired.inc();
    }

    pub(crate) fn connect_attempt(&self) {
        self.attempts.inc();
    }

    pub(crate) fn link_failure(&self, renew: Renew) {
        let renew = match renew {
            Renew::Link => "link",
            Renew::Session => "session",
            Renew::Connection => "connection",
            Renew::Credentials => "credentials",
        };
        self.failures.get_or_create(&[("renew", renew)]).inc();
    }

    pub(crate) fn links_up(&self, links: usize) {
        self.link_up.set(i64::try_from(links).unwrap_or(i64::MAX));
    }

    pub(crate) fn saturated(&self, time: Duration) {
        if time > Duration::ZERO {
            self.saturated.inc_by(time.as_secs_f64());
        }
    }

    pub(crate) fn broker_up(&self, up: bool) {
        self.broker_up.set(i64::from(up));
    }

    pub(crate) fn slots_held(&self, slots: usize) {
        self.slots.set(i64::try_from(slots).unwrap_or(i64::MAX));
    }

    pub(crate) fn permit_used(&self, alone: bool) {
        let from = if alone { "used_alone" } else { "used" };
        self.permits.get_or_create(&[("outcome", from)]).inc();
    }

    pub(crate) fn permit_lapsed(&self) {
        self.permits.get_or_create(&[("outcome", "lapsed")]).inc();
    }

    /// Messages received, and those settled as accepted, since the process began.
    pub(crate) fn received_and_accepted(&self) -> (u64, u64) {
        (self.received.get(), self.accepted.get())
    }

    pub(crate) fn streams(&self, streams: usize) {
        self.streams.set(i64::try_from(streams).unwrap_or(i64::MAX));
    }

    pub(crate) fn held(&self, held: &Held, credit: u32) {
        self.held.set(i64::try_from(held.messages).unwrap_or(i64::MAX));
        self.held_bytes.set(held.bytes);
        self.leased.set(i64::try_from(held.leased).unwrap_or(i64::MAX));
        self.credit.set(i64::from(credit));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::default();
        metrics.received(10);
        metrics.settled(Outcome::Accepted, 3);
        metrics.verdict(Verdict::Ack, VerdictResult::Accepting);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry()).unwrap();
        for line in [
            "sluice_sidecar_deliveries_received_total 1",
            "sluice_sidecar_deliveries_received_bytes_total 10",
            "sluice_sidecar_deliveries_settled_total{outcome=\"accepted\"} 3",
            "sluice_sidecar_verdicts_total{verdict=\"ack\",result=\"settled\"} 1",
            "sluice_sidecar_link_up 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
