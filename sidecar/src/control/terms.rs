//! The broker's `Policy` as what it means here. Pure. What can't be is refused as a whole, by name: the terms before it
//! stay in force.

use std::fmt;
use std::time::Duration;

use sluice_proto::control::v1;

use crate::ledger::{HandBack, Policy};
use crate::readiness::Readiness;
use crate::repeat::RepeatPolicy;

/// What a group's sidecars are to do, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Where links go.
    pub endpoint: Endpoint,
    /// How messages are handed to the application.
    pub delivery: Policy,
    /// When the sidecar counts as ready.
    pub readiness: Readiness,
    /// `limits.connectAttemptsPerMinute`
    pub connect_attempts_per_minute: u32,
    /// `limits.clientSlots`
    pub client_slots: u32,
    /// Changes with what user names and passwords are made of.
    pub credentials_version: u64,
}

/// Where links go, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name, for DNS and for the certificate.
    pub host: String,
    /// Port.
    pub port: u16,
    /// PEM of the authorities to trust; `None`: the system's.
    pub ca_pem: Option<String>,
    /// The node to receive from.
    pub source_address: String,
    /// What Open announces.
    pub idle_timeout: Duration,
    /// Settle each delivery in a frame of its own.
    pub settle_singly: bool,
}

/// The fields that can't be, with what was found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct BadPolicy(Vec<String>);

impl fmt::Display for BadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the broker's policy can't be followed: {}; check the operator's version", self.0.join(", "))
    }
}

impl Terms {
    /// Reads a policy. The bounds are those of the `ConsumerGroup`'s fields.
    pub fn try_new(policy: v1::Policy) -> Result<Self, BadPolicy> {
        let mut faults = Vec::new();
        let readiness = match policy.readiness() {
            v1::Readiness::Connected | v1::Readiness::Unspecified => Readiness::Connected,
            v1::Readiness::Link => Readiness::Link,
            v1::Readiness::Process => Readiness::Process,
        };
        let delivery = policy.delivery.unwrap_or_default();
        let mut within = |field: &str, value: u64, least: u64, most: u64| {
            if value < least || value > most {
                faults.push(format!("{field} is {value} and not within {least} to {most}"));
            }
        };
        within("amqp_port", policy.amqp_port.into(), 1, u16::MAX.into());
        within("idle_timeout_ms", policy.idle_timeout_ms.into(), 30_000, 300_000);
        within("connect_attempts_per_minute", policy.connect_attempts_per_minute.into(), 1, 100);
        within("client_slots", policy.client_slots.into(), 1, 1024);
        within("delivery.max_in_flight", delivery.max_in_flight.into(), 1, 100_000);
        within("delivery.max_in_flight_bytes", delivery.max_in_flight_bytes, 1 << 10, 4 << 30);
        within("delivery.lease_ms", delivery.lease_ms.into(), 1_000, 28_000);
        within("delivery.deduplication_max_entries", delivery.deduplication_max_entries.into(), 1, 1_000_000);
        within("the length of amqp_host", policy.amqp_host.len() as u64, 1, 253);
        if !faults.is_empty() {
            return Err(BadPolicy(faults));
        }
        let ms = |ms: u32| Duration::from_millis(ms.into());
        let endpoint = Endpoint {
            host: policy.amqp_host,
            port: u16::try_from(policy.amqp_port).unwrap_or_default(),
            ca_pem: Some(policy.ca_pem).filter(|pem| !pem.is_empty()),
            source_address: policy.source_address,
            idle_timeout: ms(policy.idle_timeout_ms),
            settle_singly: policy.settle_singly,
        };
        let delivery = Policy {
            lease: ms(delivery.lease_ms),
            max_in_flight: delivery.max_in_flight,
            max_in_flight_bytes: delivery.max_in_flight_bytes,
            hand_back: if delivery.hand_back_by_expiry { HandBack::Expire } else { HandBack::Release },
            min_backoff: ms(delivery.retry_min_backoff_ms),
            max_backoff: ms(delivery.retry_max_backoff_ms),
            repeats: RepeatPolicy {
                window: ms(delivery.deduplication_window_ms),
                max_entries: delivery.deduplication_max_entries,
            },
            ..Policy::default()
        };
        Ok(Self {
            endpoint,
            delivery,
            readiness,
            connect_attempts_per_minute: policy.connect_attempts_per_minute,
            client_slots: policy.client_slots,
            credentials_version: policy.credentials_version,
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A policy that can be followed.
    pub(in crate::control) fn policy() -> v1::Policy {
        v1::Policy {
            amqp_host: "amqp.example".to_owned(),
            amqp_port: 5671,
            source_address: "default".to_owned(),
            idle_timeout_ms: 60_000,
            delivery: Some(v1::Delivery {
                max_in_flight: 1_000,
                max_in_flight_bytes: 64 << 20,
                lease_ms: 25_000,
                hand_back_by_expiry: false,
                deduplication_window_ms: 600_000,
                deduplication_max_entries: 100_000,
                retry_min_backoff_ms: 200,
                retry_max_backoff_ms: 5_000,
            }),
            readiness: v1::Readiness::Link.into(),
            connect_attempts_per_minute: 95,
            client_slots: 64,
            ..v1::Policy::default()
        }
    }

    #[test]
    fn a_policy_of_defaults_means_the_defaults() {
        let terms = Terms::try_new(policy()).unwrap();
        assert_eq!(terms.delivery, Policy::default());
        assert_eq!((terms.readiness, terms.endpoint.ca_pem), (Readiness::Link, None));
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let error = Terms::try_new(v1::Policy::default()).unwrap_err().to_string();
        for field in ["amqp_host", "amqp_port is 0", "idle_timeout_ms", "delivery.lease_ms", "client_slots"] {
            assert!(error.contains(field), "{field} is not in {error}");
        }
        let long =
            v1::Policy { delivery: Some(v1::Delivery { lease_ms: 31_000, ..policy().delivery.unwrap() }), ..policy() };
        assert!(Terms::try_new(long).unwrap_err().to_string().contains("lease_ms is 31000"));
    }
}
