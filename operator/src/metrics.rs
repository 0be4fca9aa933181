//! The operator's metrics: every name and label there is, in one place (Prometheus conventions: base units, `_total`).
//!
//! Per ConsumerGroup there are a few gauges and no histogram: a thousand groups stay a few thousand series.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::fault::Class;
use crate::slots::GroupRef;

type Labels<const N: usize> = [(&'static str, &'static str); N];
type Seconds = Gauge<f64, AtomicU64>;

/// The labels of what belongs to one ConsumerGroup.
type Group = [(&'static str, String); 2];

/// From a millisecond, for a reconcile that finds nothing to do, to half a minute.
const RECONCILE_BUCKETS: [f64; 10] = [0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 30.0];

/// The counters and gauges. Clones share them.
#[derive(Debug, Clone)]
pub struct Metrics {
    leader: Gauge,
    groups: Gauge,
    unreadable: Gauge,
    pods: Gauge,
    pods_without_group: Gauge,
    reconcile: Family<Labels<1>, Histogram, fn() -> Histogram>,
    reconcile_failures: Family<Labels<1>, Counter>,
    queue: Gauge,
    running: Gauge,
    oldest: Seconds,
    writes: Family<Labels<1>, Counter>,
    api_errors: Family<Labels<1>, Counter>,
    watch_failures: Family<Labels<1>, Counter>,
    events_dropped: Counter,
    credential_reads: Family<Labels<2>, Counter>,
    credential_sources: Gauge,
    slots_held: Family<Group, Gauge>,
    slots_limit: Family<Group, Gauge>,
    sidecars_standby: Family<Group, Gauge>,
    sidecars_connected: Family<Group, Gauge>,
    backlog: Family<Group, Gauge>,
    control_streams: Gauge,
    permits: Family<Labels<1>, Counter>,
    table_writes: Family<Labels<1>, Counter>,
    poll_cycle: Seconds,
    platform_calls: Family<Labels<2>, Counter>,
    admissions: Family<Labels<1>, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            leader: Gauge::default(),
            groups: Gauge::default(),
            unreadable: Gauge::default(),
            pods: Gauge::default(),
            pods_without_group: Gauge::default(),
            reconcile: Family::new_with_constructor(|| Histogram::new(RECONCILE_BUCKETS)),
            reconcile_failures: Family::default(),
            queue: Gauge::default(),
            running: Gauge::default(),
            oldest: Seconds::default(),
            writes: Family::default(),
            api_errors: Family::default(),
            watch_failures: Family::default(),
            events_dropped: Counter::default(),
            credential_reads: Family::default(),
            credential_sources: Gauge::default(),
            slots_held: Family::default(),
            slots_limit: Family::default(),
            sidecars_standby: Family::default(),
            sidecars_connected: Family::default(),
            backlog: Family::default(),
            control_streams: Gauge::default(),
            permits: Family::default(),
            table_writes: Family::default(),
            poll_cycle: Seconds::default(),
            platform_calls: Family::default(),
            admissions: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers everything in a registry of its own, for the admin address.
    pub fn registry(&self) -> Arc<Registry> {
        let mut root = Registry::with_prefix("sluice_operator");
        let r = &mut root;
        r.register("leader", "1 while this replica leads", self.leader.clone());
        r.register("consumer_groups", "ConsumerGroups that the leader knows", self.groups.clone());
        r.register("consumer_groups_unreadable", "ConsumerGroups that can't be read", self.unreadable.clone());
        r.register("pods", "Pods with the label of a ConsumerGroup", self.pods.clone());
        r.register(
            "pods_without_group",
            "Pods whose label names a ConsumerGroup that does not exist",
            self.pods_without_group.clone(),
        );
        r.register_with_unit("reconcile", "Time that a reconcile took", Unit::Seconds, self.reconcile.clone());
        r.register("reconcile_failures", "Reconciles that failed, by class", self.reconcile_failures.clone());
        r.register("reconcile_queue", "ConsumerGroups that are due and wait", self.queue.clone());
        r.register("reconcile_running", "ConsumerGroups in hand", self.running.clone());
        r.register_with_unit(
            "reconcile_oldest",
            "Age of the reconcile that has been in progress longest",
            Unit::Seconds,
            self.oldest.clone(),
        );
        r.register("writes", "Objects written to the API server, by what", self.writes.clone());
        r.register("api_errors", "Failed requests to the API server, by class", self.api_errors.clone());
        r.register("watch_failures", "Watches that broke or could not begin", self.watch_failures.clone());
        r.register("events_dropped", "Events that could not be published", self.events_dropped.clone());
        r.register("credential_refreshes", "Credentials read or renewed", self.credential_reads.clone());
        r.register("credential_sources", "Places that credentials come from", self.credential_sources.clone());
        r.register("slots_held", "Client slots that pods hold", self.slots_held.clone());
        r.register("slots_limit", "Client slots of the platform's group", self.slots_limit.clone());
        r.register("sidecars_standby", "Pods that wait for a slot", self.sidecars_standby.clone());
        r.register("sidecars_connected", "Pods whose links are up", self.sidecars_connected.clone());
        r.register("backlog_messages", "Messages that wait on the platform", self.backlog.clone());
        r.register("control_streams", "Sidecars that are connected to the broker", self.control_streams.clone());
        r.register("permits", "Requests for a connect permit, by what became of them", self.permits.clone());
        r.register("slot_table_writes", "Writes of slot tables, by outcome", self.table_writes.clone());
        r.register_with_unit(
            "poll_cycle",
            "Time that the last round of the platform's figures took",
            Unit::Seconds,
            self.poll_cycle.clone(),
        );
        r.register("platform_calls", "Calls of the platform's OpenAPI", self.platform_calls.clone());
        r.register("admissions", "Pods that the webhook was asked about, by answer", self.admissions.clone());
        Arc::new(root)
    }

    /// Whether this replica leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }

    /// How many ConsumerGroups there are, and how many of them can't be read.
    pub fn groups(&self, all: usize, unreadable: usize) {
        self.groups.set(count(all));
        self.unreadable.set(count(unreadable));
    }

    /// How many labelled pods there are.
    pub fn pods(&self, pods: usize) {
        self.pods.set(count(pods));
    }

    /// How many pods name a ConsumerGroup that does not exist.
    pub fn pods_without_group(&self, pods: usize) {
        self.pods_without_group.set(count(pods));
    }

    /// A reconcile has ended.
    pub fn reconciled(&self, took: Duration, failure: Option<Class>) {
        let result = if failure.is_some() { "failed" } else { "done" };
        self.reconcile.get_or_create(&[("result", result)]).observe(took.as_secs_f64());
        if let Some(class) = failure {
            self.reconcile_failures.get_or_create(&[("class", class.label())]).inc();
        }
    }

    /// Where the queue stands.
    pub fn queue(&self, due: usize, running: usize, oldest: Duration) {
        self.queue.set(count(due));
        self.running.set(count(running));
        self.oldest.set(oldest.as_secs_f64());
    }

    /// Something was written to the API server: `status`, `scale`, `pod`, `event`, `lease`, …
    pub fn wrote(&self, what: &'static str) {
        self.writes.get_or_create(&[("what", what)]).inc();
    }

    /// A request to the API server failed.
    pub fn api_error(&self, class: Class) {
        self.api_errors.get_or_create(&[("class", class.label())]).inc();
    }

    /// A watch broke, or could not begin.
    pub fn watch_failed(&self, resource: &'static str) {
        self.watch_failures.get_or_create(&[("resource", resource)]).inc();
    }

    /// An event could not be published.
    pub fn event_dropped(&self) {
        self.events_dropped.inc();
    }

    /// A Secret was read, or STS was asked: `source` is `secret`, `assume_role` or `workload_identity`.
    pub fn credentials_refreshed(&self, source: &'static str, well: bool) {
        let result = if well { "ok" } else { "failed" };
        self.credential_reads.get_or_create(&[("source", source), ("result", result)]).inc();
    }

    /// How many places credentials come from.
    pub fn credential_sources(&self, sources: usize) {
        self.credential_sources.set(count(sources));
    }

    /// The slots and sidecars of one ConsumerGroup.
    pub fn sidecars(&self, group: &GroupRef, limit: u32, held: u32, standby: u32, connected: u32) {
        let labels = labels(group);
        self.slots_limit.get_or_create(&labels).set(i64::from(limit));
        self.slots_held.get_or_create(&labels).set(i64::from(held));
        self.sidecars_standby.get_or_create(&labels).set(i64::from(standby));
        self.sidecars_connected.get_or_create(&labels).set(i64::from(connected));
    }

    /// The backlog of one ConsumerGroup.
    pub fn backlog(&self, group: &GroupRef, messages: u64) {
        self.backlog.get_or_create(&labels(group)).set(i64::try_from(messages).unwrap_or(i64::MAX));
    }

    /// The ConsumerGroup is gone.
    pub fn forget(&self, group: &GroupRef) {
        let labels = labels(group);
        for family in
            [&self.slots_limit, &self.slots_held, &self.sidecars_standby, &self.sidecars_connected, &self.backlog]
        {
            family.remove(&labels);
        }
    }

    /// This replica leads no more: what it knew of ConsumerGroups is not known any longer.
    pub fn forget_all(&self) {
        for family in
            [&self.slots_limit, &self.slots_held, &self.sidecars_standby, &self.sidecars_connected, &self.backlog]
        {
            family.clear();
        }
        self.groups(0, 0);
        self.pods(0);
        self.pods_without_group(0);
        self.queue(0, 0, Duration::ZERO);
    }

    /// How many sidecars are connected to the broker.
    pub fn control_streams(&self, streams: usize) {
        self.control_streams.set(count(streams));
    }

    /// A request for a permit was answered: `issued` or `refused`.
    pub fn permit(&self, result: &'static str) {
        self.permits.get_or_create(&[("result", result)]).inc();
    }

    /// A slot table was written, or not: `written`, `conflict`, `refused` or `unknown`.
    pub fn table_written(&self, outcome: &'static str) {
        self.table_writes.get_or_create(&[("outcome", outcome)]).inc();
    }

    /// How long a round of the poller took.
    pub fn polled(&self, cycle: Duration) {
        self.poll_cycle.set(cycle.as_secs_f64());
    }

    /// The OpenAPI was called: `result` is `ok`, `throttled`, `refused`, `unavailable`, …
    pub fn platform_call(&self, action: &'static str, result: &'static str) {
        self.platform_calls.get_or_create(&[("action", action), ("result", result)]).inc();
    }

    /// The webhook has answered: `injected`, `unchanged` or `denied`.
    pub fn admission(&self, answer: &'static str) {
        self.admissions.get_or_create(&[("answer", answer)]).inc();
    }
}

fn labels(group: &GroupRef) -> Group {
    [("namespace", group.namespace.to_string()), ("name", group.name.to_string())]
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(metrics: &Metrics) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &metrics.registry()).unwrap();
        text
    }

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::default();
        metrics.leads(true);
        metrics.reconciled(Duration::from_millis(20), Some(Class::Conflict));
        metrics.wrote("status");
        metrics.queue(3, 1, Duration::from_millis(1500));
        metrics.sidecars(&GroupRef::new("plant-a", "telemetry"), 64, 3, 1, 2);
        let text = text(&metrics);
        for line in [
            "sluice_operator_leader 1",
            "sluice_operator_reconcile_seconds_count{result=\"failed\"} 1",
            "sluice_operator_reconcile_failures_total{class=\"conflict\"} 1",
            "sluice_operator_writes_total{what=\"status\"} 1",
            "sluice_operator_reconcile_queue 3",
            "sluice_operator_reconcile_oldest_seconds 1.5",
            "sluice_operator_slots_held{namespace=\"plant-a\",name=\"telemetry\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_consumer_group_that_is_gone_leaves_no_series() {
        let metrics = Metrics::default();
        let (kept, gone) = (GroupRef::new("a", "kept"), GroupRef::new("a", "gone"));
        metrics.sidecars(&kept, 64, 1, 0, 1);
        metrics.sidecars(&gone, 64, 1, 0, 1);
        metrics.backlog(&gone, 7);
        metrics.forget(&gone);
        assert!(text(&metrics).contains("kept") && !text(&metrics).contains("gone"));
        metrics.forget_all();
        assert!(!text(&metrics).contains("kept"));
    }
}
