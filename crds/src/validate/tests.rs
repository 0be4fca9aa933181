//! Every bound, from both sides, and what a user reads beyond it.

use super::*;
use crate::{
    ApiVersion, ByteQuantity, CaBundle, ConfigMapKey, Connection, ConsumerGroupSpec, Credentials, Delivery, Duration,
    Instance, Kind, Limits, Metadata, Readiness, Scaling, ScalingMode,
};

fn group() -> Document {
    Document {
        api_version: ApiVersion::V1Alpha1,
        kind: Kind::ConsumerGroup,
        metadata: Metadata {
            name: "telemetry".to_owned(),
            namespace: Some("plant-a".to_owned()),
            labels: std::collections::BTreeMap::new(),
            annotations: std::collections::BTreeMap::new(),
        },
        spec: ConsumerGroupSpec {
            group_id: "DEFAULT_GROUP".to_owned(),
            instance: Instance {
                id: Some("iot-06z00abcd".to_owned()),
                region: Some("cn-shanghai".to_owned()),
                account_id: None,
                amqp_host: "iot-06z00abcd.amqp.iothub.aliyuncs.com".to_owned(),
                amqp_port: 5671,
                source_address: "default".to_owned(),
                api_endpoint: None,
                sts_endpoint: None,
                ca_bundle: None,
            },
            connection: Connection::default(),
            credentials: Credentials::default(),
            api_credentials: None,
            workload: None,
            limits: Limits::default(),
            scaling: Scaling::default(),
            delivery: Delivery::default(),
            readiness: Readiness::default(),
            subscriptions: None,
        },
    }
}

/// The violations of a group after `change`, as the user reads them.
fn violations(change: impl FnOnce(&mut Document)) -> Vec<String> {
    let mut group = group();
    change(&mut group);
    match group.validate() {
        Ok(()) => Vec::new(),
        Err(Violations(violations)) => violations.iter().map(ToString::to_string).collect(),
    }
}

#[track_caller]
fn valid(change: impl FnOnce(&mut Document)) {
    assert_eq!(violations(change), Vec::<String>::new());
}

/// There is one violation, and it begins so.
#[track_caller]
fn invalid(begin: &str, change: impl FnOnce(&mut Document)) {
    let found = violations(change);
    assert!(matches!(found.as_slice(), [one] if one.starts_with(begin)), "expected {begin:?}, found {found:#?}");
}

#[test]
fn the_defaults_are_valid() {
    valid(|_| {});
}

#[test]
fn a_violation_says_where_what_and_what_to_do() {
    assert_eq!(
        violations(|g| g.spec.delivery.lease_duration = Duration::from_secs(40)),
        ["spec.delivery.leaseDuration is 40s, but must be from 1s to 28s: \
          the platform takes an unanswered message back after 30 s"]
    );
}

#[test]
fn all_violations_are_found_at_once() {
    let mut group = group();
    group.metadata.name = String::new();
    group.spec.group_id = String::new();
    group.spec.instance.amqp_host = "amqps://h".to_owned();
    group.spec.delivery.max_in_flight = 0;
    let Violations(found) = group.validate().unwrap_err();
    let paths: Vec<_> = found.iter().map(|violation| violation.path).collect();
    assert_eq!(paths, ["metadata.name", "spec.groupId", "spec.instance.amqpHost", "spec.delivery.maxInFlight"]);
    assert_eq!(group.spec.validate(Mode::File).unwrap_err().0, found[1..]);
    assert_eq!(Violations(found).to_string().lines().count(), 4);
}

#[test]
fn names_are_those_of_kubernetes() {
    for name in ["a", "a-1.b", &"a".repeat(63)] {
        valid(|g| g.metadata.name = name.to_owned());
    }
    for name in ["", "A", "-a", "a-", "a..b", "a_b", ".a", &"a".repeat(64)] {
        invalid("metadata.name is ", |g| g.metadata.name = name.to_owned());
    }
    valid(|g| g.metadata.namespace = None);
    for namespace in ["", "a.b", "Plant", &"a".repeat(64)] {
        invalid("metadata.namespace is ", |g| g.metadata.namespace = Some(namespace.to_owned()));
    }
}

#[test]
fn ids_fit_into_a_user_name() {
    for id in ["", "a,b", "a|b", "a b", "a\0"] {
        invalid("spec.groupId is ", |g| g.spec.group_id = id.to_owned());
        invalid("spec.instance.id is ", |g| g.spec.instance.id = Some(id.to_owned()));
    }
    valid(|g| g.spec.instance.id = None);
    valid(|g| g.spec.instance.region = None);
    invalid("spec.instance.region is \"cn shanghai\"", |g| g.spec.instance.region = Some("cn shanghai".to_owned()));
}

#[test]
fn a_host_is_a_name_or_an_address_alone() {
    for host in
        ["localhost", "127.0.0.1", "::1", "a.B-1.c", "1234567.iot-amqp.cn-shanghai.aliyuncs.com", "sluice_emulator"]
    {
        valid(|g| g.spec.instance.amqp_host = host.to_owned());
    }
    for host in ["", "amqps://h", "h:5671", "h/x", "h h", "a..b", ".a", "-a.b", "[::1]", &"a".repeat(64)] {
        invalid("spec.instance.amqpHost is ", |g| g.spec.instance.amqp_host = host.to_owned());
    }
    invalid("spec.instance.amqpPort is 0, but must be from 1 to 65535", |g| g.spec.instance.amqp_port = 0);
    valid(|g| g.spec.instance.source_address = "a".repeat(255));
    for address in ["", "a\nb", &"a".repeat(256)] {
        invalid("spec.instance.sourceAddress is ", |g| g.spec.instance.source_address = address.to_owned());
    }
}

#[test]
fn a_ca_bundle_holds_something() {
    let pem = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
    valid(|g| g.spec.instance.ca_bundle = Some(CaBundle::File("ca.pem".into())));
    valid(|g| g.spec.instance.ca_bundle = Some(CaBundle::Pem(pem.to_owned())));
    invalid("spec.instance.caBundle.file is empty", |g| g.spec.instance.ca_bundle = Some(CaBundle::File("".into())));
    invalid(
        "spec.instance.caBundle.pem is a text without a certificate, but must be one certificate or more in PEM",
        |g| {
            g.spec.instance.ca_bundle = Some(CaBundle::Pem("ca.pem".to_owned()));
        },
    );
}

#[test]
fn numbers_and_times_stay_in_their_bounds() {
    let ms = Duration::from_millis;
    for idle in [ms(30_000), ms(300_000)] {
        valid(|g| g.spec.connection.idle_timeout = idle);
    }
    for idle in [ms(29_999), ms(300_001)] {
        invalid("spec.connection.idleTimeout is ", |g| g.spec.connection.idle_timeout = idle);
    }
    for attempts in [1, 100] {
        valid(|g| g.spec.limits.connect_attempts_per_minute = attempts);
    }
    for attempts in [0, 101] {
        invalid("spec.limits.connectAttemptsPerMinute is ", |g| {
            g.spec.limits.connect_attempts_per_minute = attempts;
        });
    }
    for messages in [1, 100_000] {
        valid(|g| g.spec.delivery.max_in_flight = messages);
    }
    for messages in [0, 100_001] {
        invalid("spec.delivery.maxInFlight is ", |g| g.spec.delivery.max_in_flight = messages);
    }
    for bytes in [256 << 10, 4 << 30] {
        valid(|g| g.spec.delivery.max_in_flight_bytes = ByteQuantity::from_bytes(bytes));
    }
    for bytes in [(256 << 10) - 1, (4 << 30) + 1] {
        invalid("spec.delivery.maxInFlightBytes is ", |g| {
            g.spec.delivery.max_in_flight_bytes = ByteQuantity::from_bytes(bytes);
        });
    }
    for lease in [ms(1_000), ms(28_000)] {
        valid(|g| g.spec.delivery.lease_duration = lease);
    }
    for lease in [ms(0), ms(999), ms(28_001)] {
        invalid("spec.delivery.leaseDuration is ", |g| g.spec.delivery.lease_duration = lease);
    }
    for window in [ms(1_000), ms(86_400_000)] {
        valid(|g| g.spec.delivery.deduplication.window = window);
    }
    for window in [ms(999), ms(86_400_001)] {
        invalid("spec.delivery.deduplication.window is ", |g| g.spec.delivery.deduplication.window = window);
    }
    for entries in [1, 1_000_000] {
        valid(|g| g.spec.delivery.deduplication.max_entries = entries);
    }
    for entries in [0, 1_000_001] {
        invalid("spec.delivery.deduplication.maxEntries is ", |g| g.spec.delivery.deduplication.max_entries = entries);
    }
}

#[test]
fn the_longest_backoff_is_not_shorter_than_the_first() {
    let ms = Duration::from_millis;
    valid(|g| (g.spec.delivery.retry.min_backoff, g.spec.delivery.retry.max_backoff) = (ms(1), ms(1)));
    valid(|g| g.spec.delivery.retry.max_backoff = ms(28_000));
    invalid("spec.delivery.retry.minBackoff is 0s", |g| g.spec.delivery.retry.min_backoff = ms(0));
    invalid("spec.delivery.retry.maxBackoff is 28s1ms", |g| g.spec.delivery.retry.max_backoff = ms(28_001));
    invalid(
        "spec.delivery.retry.maxBackoff is 100ms, with minBackoff 200ms, but must be at least minBackoff: raise it",
        |g| {
            g.spec.delivery.retry.max_backoff = ms(100);
        },
    );
}

#[test]
fn what_only_a_cluster_has_is_said_where_it_would_mislead() {
    let key = ConfigMapKey { name: "authorities".to_owned(), key: "ca.crt".to_owned() };
    invalid("spec.instance.caBundle.configMapKeyRef is given, but must be left out in a file: a sidecar that", |g| {
        g.spec.instance.ca_bundle = Some(CaBundle::ConfigMapKeyRef(key));
    });
    invalid("spec.delivery.connectionsPerPod is 2, but must be 1 in a file: ", |g| {
        g.spec.delivery.connections_per_pod = 2;
    });
    // Where keys and pods come from is not looked at; what can't be anywhere is.
    valid(|g| g.spec.instance.id = None);
    invalid("spec.workload is missing, but must be given where spec.scaling.mode is External", |g| {
        g.spec.scaling.mode = ScalingMode::External;
        g.spec.scaling.replicas = Some(1);
    });
}

#[test]
fn a_cluster_needs_to_know_where_the_keys_are_and_whose_group_it_is() {
    let mut spec = group().spec;
    spec.instance.id = None;
    let Violations(found) = spec.validate(Mode::Cluster).unwrap_err();
    let paths: Vec<_> = found.iter().map(|violation| violation.path).collect();
    assert_eq!(paths, ["spec.instance.accountId", "spec.credentials"]);
    assert_eq!(found[1].found, "without any of them");
}

#[test]
fn a_secret_in_a_wrong_place_is_not_repeated() {
    // What is not PEM may be a private key.
    let key = "-----BEGIN PRIVATE KEY-----testsecret";
    let found = violations(|g| g.spec.instance.ca_bundle = Some(CaBundle::Pem(key.to_owned())));
    assert!(!found.concat().contains("testsecret"), "{found:?}");
}
