//! A valid ConsumerGroup, as the broker needs it: what its sidecars are told, and what it says about slots. Pure.

use std::sync::Arc;
use std::time::Duration;

use sluice_cloud::sign::SignMethod;
use sluice_crds::{HandBack, Readiness, Settlement, SignMethod as Wanted};
use sluice_proto::control::v1;

use crate::group::directory::Entry;
use crate::group::validate::Validated;
use crate::slots::{Member, PlatformGroup};

/// What a sidecar needs beyond a lease to drain: to hand back the rest and to close its links.
const CLOSING: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Registration {
    entry: Entry,
    /// What its sidecars are told.
    pub(super) policy: Arc<v1::Policy>,
}

impl Registration {
    pub(super) fn of(entry: &Entry) -> Self {
        Self { entry: entry.clone(), policy: Arc::new(policy(&entry.group)) }
    }

    /// It is of this entry.
    pub(super) fn is_of(&self, entry: &Entry) -> bool {
        self.entry == *entry
    }

    pub(super) fn group(&self) -> &Validated {
        &self.entry.group
    }

    pub(super) fn platform(&self) -> &PlatformGroup {
        &self.entry.group.platform
    }

    /// What it says about slots; `verified` is what the OpenAPI has shown.
    pub(super) fn member(&self, verified: bool) -> Member {
        let spec = &self.entry.group.spec;
        Member {
            client_slots: spec.limits.client_slots,
            connect_attempts_per_minute: spec.limits.connect_attempts_per_minute,
            connections_per_pod: spec.delivery.connections_per_pod,
            idle_timeout: spec.connection.idle_timeout.get(),
            drain: spec.delivery.lease_duration.get() + CLOSING,
            newest: self.entry.newest.clone(),
            verified,
        }
    }

    pub(super) fn sign_method(&self) -> SignMethod {
        match self.entry.group.spec.credentials.sign_method {
            Wanted::HmacMd5 => SignMethod::HmacMd5,
            Wanted::HmacSha1 => SignMethod::HmacSha1,
            Wanted::HmacSha256 => SignMethod::HmacSha256,
        }
    }

    /// The instance's ID as user names have it; `None` for a legacy public instance.
    pub(super) fn instance_id(&self) -> Option<String> {
        self.entry.group.spec.instance.id.clone().filter(|id| !id.is_empty())
    }
}

fn policy(group: &Validated) -> v1::Policy {
    let spec = &group.spec;
    let (delivery, connection) = (&spec.delivery, &spec.connection);
    let readiness = match spec.readiness {
        Readiness::Connected => v1::Readiness::Connected,
        Readiness::Link => v1::Readiness::Link,
        Readiness::Process => v1::Readiness::Process,
    };
    v1::Policy {
        amqp_host: group.amqp.host().to_owned(),
        amqp_port: u32::from(group.amqp.port()),
        ca_pem: group.ca.as_deref().unwrap_or_default().to_owned(),
        source_address: spec.instance.source_address.clone(),
        idle_timeout_ms: millis(connection.idle_timeout.get()),
        settle_singly: connection.settlement == Settlement::Single,
        delivery: Some(v1::Delivery {
            max_in_flight: delivery.max_in_flight,
            max_in_flight_bytes: delivery.max_in_flight_bytes.bytes(),
            lease_ms: millis(delivery.lease_duration.get()),
            hand_back_by_expiry: delivery.hand_back == HandBack::Expire,
            deduplication_window_ms: millis(delivery.deduplication.window.get()),
            deduplication_max_entries: delivery.deduplication.max_entries,
            retry_min_backoff_ms: millis(delivery.retry.min_backoff.get()),
            retry_max_backoff_ms: millis(delivery.retry.max_backoff.get()),
        }),
        readiness: readiness.into(),
        connect_attempts_per_minute: spec.limits.connect_attempts_per_minute,
        client_slots: spec.limits.client_slots,
        ..v1::Policy::default()
    }
}

fn millis(span: Duration) -> u32 {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX)
}
