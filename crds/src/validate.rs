//! What makes a document valid beyond its form. Every check adds to one list, so that a user sees all that is wrong at
//! once; each finding says where, what was found, what is expected, and what to do.

use std::fmt::{self, Display};
use std::net::IpAddr;
use std::ops::RangeInclusive;

use crate::{ByteQuantity, CaBundle, ConsumerGroup, ConsumerGroupSpec, Delivery, Duration, Instance, Metadata};

/// One value that can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, as the document spells it: `spec.delivery.leaseDuration`.
    pub path: &'static str,
    /// The value that was found, or a description of it.
    pub found: String,
    /// What it must be.
    pub expected: String,
    /// What to do about it.
    pub advice: &'static str,
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is {}, but must be {}: {}", self.path, self.found, self.expected, self.advice)
    }
}

/// All that is wrong with a document; at least one thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Violations(pub Vec<Violation>);

impl Display for Violations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, violation) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{violation}")?;
        }
        Ok(())
    }
}

/// The time that the platform waits for an answer is 30 s (PLATFORM.md 1.7); two are kept for the answer to get there.
const LEASE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(28);
/// PLATFORM.md 1.1.
const IDLE_TIMEOUT: RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(300);
/// PLATFORM.md 1.8.
const CONNECT_ATTEMPTS: RangeInclusive<u32> = 1..=100;
const IN_FLIGHT: RangeInclusive<u32> = 1..=100_000;
/// The least is the largest message that a device can publish (PLATFORM.md 1.8).
const IN_FLIGHT_BYTES: RangeInclusive<ByteQuantity> = ByteQuantity::from_kib(256)..=ByteQuantity::from_mib(4 << 10);
/// The most is the platform's retention (PLATFORM.md 1.8).
const DEDUPLICATION_WINDOW: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(86_400);
const DEDUPLICATION_ENTRIES: RangeInclusive<u32> = 1..=1_000_000;
const BACKOFF: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(28);

impl ConsumerGroup {
    /// Checks the whole document.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut findings = Findings::default();
        findings.metadata(&self.metadata);
        findings.spec(&self.spec);
        findings.into_result()
    }
}

impl ConsumerGroupSpec {
    /// Checks the values of all fields.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut findings = Findings::default();
        findings.spec(self);
        findings.into_result()
    }
}

#[derive(Default)]
struct Findings(Vec<Violation>);

impl Findings {
    fn into_result(self) -> Result<(), Violations> {
        if self.0.is_empty() { Ok(()) } else { Err(Violations(self.0)) }
    }

    fn add(&mut self, path: &'static str, found: String, expected: impl Into<String>, advice: &'static str) {
        self.0.push(Violation { path, found, expected: expected.into(), advice });
    }

    fn range<T: PartialOrd + Display>(
        &mut self,
        path: &'static str,
        value: &T,
        range: &RangeInclusive<T>,
        advice: &'static str,
    ) {
        if !range.contains(value) {
            self.add(path, value.to_string(), format!("from {} to {}", range.start(), range.end()), advice);
        }
    }

    fn metadata(&mut self, metadata: &Metadata) {
        if !is_dns_subdomain(&metadata.name) {
            self.add(
                "metadata.name",
                quoted(&metadata.name),
                "a DNS subdomain of at most 253 characters",
                "use lower-case letters, digits, '-' and '.', with a letter or digit at either end",
            );
        }
        if let Some(namespace) = metadata.namespace.as_deref().filter(|namespace| !is_dns_label(namespace)) {
            self.add(
                "metadata.namespace",
                quoted(namespace),
                "a DNS label of at most 63 characters",
                "use lower-case letters, digits and '-', with a letter or digit at either end",
            );
        }
    }

    fn spec(&mut self, spec: &ConsumerGroupSpec) {
        self.option_value("spec.groupId", &spec.group_id, "copy the group's ID from the console, or use DEFAULT_GROUP");
        self.instance(&spec.instance);
        self.range(
            "spec.connection.idleTimeout",
            &spec.connection.idle_timeout,
            &IDLE_TIMEOUT,
            "the platform closes a connection that asks for another",
        );
        self.range(
            "spec.limits.connectAttemptsPerMinute",
            &spec.limits.connect_attempts_per_minute,
            &CONNECT_ATTEMPTS,
            "the platform allows a group 100 attempts a minute",
        );
        self.delivery(&spec.delivery);
    }

    fn instance(&mut self, instance: &Instance) {
        if let Some(id) = &instance.id {
            self.option_value(
                "spec.instance.id",
                id,
                "copy the instance's ID from the console, or leave the field out if it has none",
            );
        }
        if let Some(region) = instance.region.as_deref().filter(|region| !is_dns_label(region)) {
            self.add("spec.instance.region", quoted(region), "a region's ID", "write it as in cn-shanghai");
        }
        if !is_host(&instance.amqp_host) {
            self.add(
                "spec.instance.amqpHost",
                quoted(&instance.amqp_host),
                "a host name or an IP address",
                "give the host alone, without amqps:// and without a port, which goes into spec.instance.amqpPort",
            );
        }
        if instance.amqp_port == 0 {
            let advice = "the platform listens on 5671: leave the field out";
            self.add("spec.instance.amqpPort", "0".to_owned(), "from 1 to 65535", advice);
        }
        let address = &instance.source_address;
        if !(1..=255).contains(&address.chars().count()) || address.chars().any(char::is_control) {
            self.add(
                "spec.instance.sourceAddress",
                quoted(address),
                "1 to 255 characters, none of them a control character",
                "leave the field out for the platform, which ignores it",
            );
        }
        match &instance.ca_bundle {
            Some(CaBundle::File(path)) if path.as_os_str().is_empty() => self.add(
                "spec.instance.caBundle.file",
                "empty".to_owned(),
                "the path of a PEM file",
                "name the file, or leave caBundle out to trust the well-known authorities",
            ),
            Some(CaBundle::Pem(text)) if !text.contains("-----BEGIN CERTIFICATE-----") => self.add(
                "spec.instance.caBundle.pem",
                "a text without a certificate".to_owned(),
                "one certificate or more in PEM",
                "paste the certificates with their BEGIN and END lines, or name a file with caBundle.file",
            ),
            Some(_) | None => {}
        }
    }

    fn delivery(&mut self, delivery: &Delivery) {
        self.range(
            "spec.delivery.maxInFlight",
            &delivery.max_in_flight,
            &IN_FLIGHT,
            "take about what the application can finish in half a lease",
        );
        self.range(
            "spec.delivery.maxInFlightBytes",
            &delivery.max_in_flight_bytes,
            &IN_FLIGHT_BYTES,
            "take what the sidecar's memory can spare; a single message has up to 256Ki",
        );
        self.range(
            "spec.delivery.leaseDuration",
            &delivery.lease_duration,
            &LEASE,
            "the platform takes an unanswered message back after 30 s",
        );
        self.range(
            "spec.delivery.deduplication.window",
            &delivery.deduplication.window,
            &DEDUPLICATION_WINDOW,
            "the platform keeps a message for a day, and repeats it after a minute or so",
        );
        self.range(
            "spec.delivery.deduplication.maxEntries",
            &delivery.deduplication.max_entries,
            &DEDUPLICATION_ENTRIES,
            "take about the number of messages that come in one window",
        );
        let retry = &delivery.retry;
        let advice = "the platform takes a message back after 30 s, whatever it waits for";
        self.range("spec.delivery.retry.minBackoff", &retry.min_backoff, &BACKOFF, advice);
        self.range("spec.delivery.retry.maxBackoff", &retry.max_backoff, &BACKOFF, advice);
        if retry.max_backoff < retry.min_backoff {
            self.add(
                "spec.delivery.retry.maxBackoff",
                retry.max_backoff.to_string(),
                format!("at least spec.delivery.retry.minBackoff, {}", retry.min_backoff),
                "raise it, or lower minBackoff",
            );
        }
    }

    /// A value that becomes an option of the user name (PLATFORM.md 1.4).
    fn option_value(&mut self, path: &'static str, value: &str, advice: &'static str) {
        if value.is_empty() || value.chars().any(|c| matches!(c, ',' | '|') || c.is_whitespace() || c.is_control()) {
            self.add(path, quoted(value), "an ID without white space, ',' and '|'", advice);
        }
    }
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "empty".to_owned() } else { format!("{text:?}") }
}

/// RFC 1123, section 2.1, as Kubernetes takes it.
fn is_dns_label(text: &str) -> bool {
    text.len() <= 63 && is_label(text, is_lower)
}

/// Labels with dots between them; Kubernetes bounds only the whole.
fn is_dns_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|label| is_label(label, is_lower))
}

/// An address, or a name such as DNS, a hosts file or a container network knows; the last allow `_`.
fn is_host(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let is_name = || text.split('.').all(|label| label.len() <= 63 && is_label(label, allowed));
    text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && is_name())
}

fn is_lower(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// Bytes that are allowed, with `-` between them.
fn is_label(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(|b| allowed(b) || b == b'-') && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests;
