//! What can be read, and what comes out of it.

use crate::*;

const SMALLEST: &str = "
apiVersion: sluice.dev/v1alpha1
kind: ConsumerGroup
metadata: {name: telemetry}
spec:
  groupId: DEFAULT_GROUP
  instance: {amqpHost: localhost}
";

const FULL: &str = "
apiVersion: sluice.dev/v1alpha1
kind: ConsumerGroup
metadata:
  name: telemetry
  namespace: plant-a
  labels: {app: worker}
  annotations: {note: anything}
spec:
  groupId: nJRaJPn5U1JITGf
  instance:
    id: iot-06z00abcd
    region: cn-shanghai
    accountId: '1234567890123456'
    amqpHost: iot-06z00abcd.amqp.iothub.aliyuncs.com
    amqpPort: 5672
    sourceAddress: queue-name
    apiEndpoint: iot.example:8443
    stsEndpoint: sts.example
    caBundle: {file: ca.pem}
  connection: {idleTimeout: 2m, settlement: Single}
  credentials:
    signMethod: HmacMd5
    assumeRole:
      secretRef: {name: iot-access-key}
      roleArn: acs:ram::1:role/a
      sessionName: plant-a
      externalId: '42'
      duration: 30m
  apiCredentials:
    workloadIdentity: {roleArn: acs:ram::1:role/b, oidcProviderArn: acs:ram::1:oidc-provider/c, serviceAccountName: d}
  workload: {targetRef: {apiVersion: apps/v1, kind: Deployment, name: worker}}
  limits: {clientSlots: 32, connectAttemptsPerMinute: 10}
  scaling:
    mode: External
    replicas: 3
    minReplicas: 0
    maxReplicas: 9
    targetSaturation: 50
    backlog: {activation: 100, drainWithin: 1h}
    behavior:
      scaleUp: {stabilizationWindow: 1s, maxPods: 2, maxPercent: 10, period: 2s}
      scaleDown: {stabilizationWindow: 3s, membershipWindow: 4s, maxPods: 3, maxPercent: 20, period: 5s}
    pause: ScaleDown
  readiness: Link
  subscriptions:
    manage: Union
    products: [{productKey: a1, messages: [DeviceData, OtaJob]}]
  delivery:
    connectionsPerPod: 2
    maxInFlight: 7
    maxInFlightBytes: 1Mi
    leaseDuration: 3s
    handBack: Expire
    deduplication: {window: 1m, maxEntries: 5}
    retry: {minBackoff: 1ms, maxBackoff: 2s}
";

fn read(yaml: &str) -> Result<Document, String> {
    serde_saphyr::from_str(yaml).map_err(|error| error.to_string())
}

#[test]
fn what_is_left_out_has_its_documented_default() {
    let spec = read(SMALLEST).unwrap().spec;
    assert_eq!(spec.instance.id, None);
    assert_eq!(spec.instance.amqp_port, 5671);
    assert_eq!(spec.instance.source_address, "default");
    assert_eq!(spec.instance.ca_bundle, None);
    assert_eq!(spec.connection.idle_timeout.to_string(), "1m");
    assert_eq!(spec.connection.settlement, Settlement::Ranges);
    assert_eq!(spec.credentials.sign_method, SignMethod::HmacSha256);
    assert_eq!(spec.credentials.source(), None);
    assert_eq!(spec.limits.client_slots, 64);
    assert_eq!(spec.limits.connect_attempts_per_minute, 95);
    assert_eq!(spec.scaling.mode, ScalingMode::Operator);
    assert_eq!((spec.scaling.min_replicas, spec.scaling.max_replicas), (1, 64));
    assert_eq!(spec.scaling.target_saturation, 70);
    assert_eq!(spec.scaling.backlog.drain_within.to_string(), "30m");
    assert_eq!(spec.scaling.behavior.scale_down.membership_window.to_string(), "10m");
    assert_eq!(spec.scaling.pause, Pause::None);
    assert_eq!(spec.readiness, Readiness::Connected);
    assert_eq!(spec.subscriptions, None);
    assert_eq!(spec.delivery.connections_per_pod, 1);
    assert_eq!(spec.delivery.max_in_flight, 1000);
    assert_eq!(spec.delivery.max_in_flight_bytes.to_string(), "64Mi");
    assert_eq!(spec.delivery.lease_duration.to_string(), "25s");
    assert_eq!(spec.delivery.hand_back, HandBack::Release);
    assert_eq!(spec.delivery.deduplication.window.to_string(), "10m");
    assert_eq!(spec.delivery.deduplication.max_entries, 100_000);
    assert_eq!(spec.delivery.retry.min_backoff.to_string(), "200ms");
    assert_eq!(spec.delivery.retry.max_backoff.to_string(), "5s");
}

#[test]
fn what_is_written_is_what_counts() {
    let group = read(FULL).unwrap();
    assert_eq!(group.metadata.name, "telemetry");
    assert_eq!(group.metadata.namespace.as_deref(), Some("plant-a"));
    let expected = ConsumerGroupSpec {
        group_id: "nJRaJPn5U1JITGf".to_owned(),
        instance: Instance {
            id: Some("iot-06z00abcd".to_owned()),
            region: Some("cn-shanghai".to_owned()),
            account_id: Some("1234567890123456".to_owned()),
            amqp_host: "iot-06z00abcd.amqp.iothub.aliyuncs.com".to_owned(),
            amqp_port: 5672,
            source_address: "queue-name".to_owned(),
            api_endpoint: Some("iot.example:8443".to_owned()),
            sts_endpoint: Some("sts.example".to_owned()),
            ca_bundle: Some(CaBundle::File("ca.pem".into())),
        },
        connection: Connection { idle_timeout: Duration::from_secs(120), settlement: Settlement::Single },
        credentials: Credentials {
            secret_ref: None,
            assume_role: Some(AssumeRole {
                secret_ref: SecretReference { name: "iot-access-key".to_owned() },
                role_arn: "acs:ram::1:role/a".to_owned(),
                session_name: Some("plant-a".to_owned()),
                external_id: Some("42".to_owned()),
                duration: Duration::from_secs(1_800),
            }),
            workload_identity: None,
            sign_method: SignMethod::HmacMd5,
        },
        api_credentials: Some(ApiCredentials {
            workload_identity: Some(WorkloadIdentity {
                role_arn: "acs:ram::1:role/b".to_owned(),
                oidc_provider_arn: "acs:ram::1:oidc-provider/c".to_owned(),
                service_account_name: "d".to_owned(),
            }),
            ..ApiCredentials::default()
        }),
        workload: Some(Workload {
            target_ref: TargetReference {
                api_version: "apps/v1".to_owned(),
                kind: "Deployment".to_owned(),
                name: "worker".to_owned(),
            },
        }),
        limits: Limits { client_slots: 32, connect_attempts_per_minute: 10 },
        scaling: Scaling {
            mode: ScalingMode::External,
            replicas: Some(3),
            min_replicas: 0,
            max_replicas: 9,
            target_saturation: 50,
            backlog: Backlog { activation: 100, drain_within: Duration::from_secs(3_600) },
            behavior: Behavior {
                scale_up: ScaleUp {
                    stabilization_window: Duration::from_secs(1),
                    max_pods: 2,
                    max_percent: 10,
                    period: Duration::from_secs(2),
                },
                scale_down: ScaleDown {
                    stabilization_window: Duration::from_secs(3),
                    membership_window: Duration::from_secs(4),
                    max_pods: 3,
                    max_percent: 20,
                    period: Duration::from_secs(5),
                },
            },
            pause: Pause::ScaleDown,
        },
        readiness: Readiness::Link,
        subscriptions: Some(Subscriptions {
            manage: Manage::Union,
            products: vec![ProductSubscription {
                product_key: "a1".to_owned(),
                messages: vec![MessageType::DeviceData, MessageType::OtaJob],
            }],
        }),
        delivery: Delivery {
            connections_per_pod: 2,
            max_in_flight: 7,
            max_in_flight_bytes: ByteQuantity::from_mib(1),
            lease_duration: Duration::from_secs(3),
            hand_back: HandBack::Expire,
            deduplication: Deduplication { window: Duration::from_secs(60), max_entries: 5 },
            retry: Retry { min_backoff: Duration::from_millis(1), max_backoff: Duration::from_secs(2) },
        },
    };
    assert_eq!(group.spec, expected);
}

#[test]
fn json_is_read_as_well() {
    let json = r#"{"apiVersion":"sluice.dev/v1alpha1","kind":"ConsumerGroup","metadata":{"name":"a"},
        "spec":{"groupId":"g","instance":{"amqpHost":"h","caBundle":{"pem":"x"}},"delivery":{"maxInFlightBytes":1048576}}}"#;
    let group: Document = serde_json::from_str(json).unwrap();
    assert_eq!(group, read(json).unwrap());
    assert_eq!(group.spec.instance.ca_bundle, Some(CaBundle::Pem("x".to_owned())));
    assert_eq!(group.spec.delivery.max_in_flight_bytes.to_string(), "1Mi");
}

#[test]
fn a_field_that_is_not_one_is_refused_at_every_level() {
    for (after, field) in [
        ("kind: ConsumerGroup", "status: {}"),
        ("namespace: plant-a", "  nmae: x"),
        ("groupId: nJRaJPn5U1JITGf", "  groupID: x"),
        ("id: iot-06z00abcd", "    host: x"),
        ("connection: {", "heartbeat: 1s, "),
        ("  credentials:", "    accessKeyId: x"),
        ("workloadIdentity: {", "tokenFile: x, "),
        ("targetRef: {", "namespace: x, "),
        ("limits: {", "slots: 64, "),
        ("scaleUp: {", "policies: [], "),
        ("products: [{", "topics: [], "),
        ("maxInFlight: 7", "    prefetch: 1"),
        ("deduplication: {", "enabled: true, "),
        ("retry: {", "maxAttempts: 3, "),
    ] {
        let newline = if after.ends_with('{') { "" } else { "\n" };
        let yaml = FULL.replacen(after, &format!("{after}{newline}{field}"), 1);
        let name = field.trim().split(':').next().unwrap();
        let message = read(&yaml).unwrap_err();
        assert!(message.contains("unknown field") && message.contains(name), "{field}: {message}");
    }
}

#[test]
fn a_field_that_must_be_there_is_named() {
    for (gone, name) in [
        ("apiVersion: sluice.dev/v1alpha1\n", "apiVersion"),
        ("kind: ConsumerGroup\n", "kind"),
        ("name: telemetry", "name"),
        ("  groupId: DEFAULT_GROUP\n", "groupId"),
        ("amqpHost: localhost", "amqpHost"),
    ] {
        let message = read(&SMALLEST.replacen(gone, "", 1)).unwrap_err();
        assert!(message.contains("missing field") && message.contains(name), "{name}: {message}");
    }
}

#[test]
fn a_value_that_is_none_of_the_choices_names_them() {
    for (from, to, expected) in [
        ("sluice.dev/v1alpha1", "apps/v1", "sluice.dev/v1alpha1"),
        ("ConsumerGroup", "Deployment", "ConsumerGroup"),
        ("Expire", "Reject", "Release"),
        ("HmacMd5", "hmacmd5", "HmacSha256"),
        ("Single", "single", "Ranges"),
        ("{file:", "{path:", "file"),
        ("mode: External", "mode: Hpa", "Operator"),
        ("pause: ScaleDown", "pause: Up", "ScaleDown"),
        ("readiness: Link", "readiness: Always", "Process"),
        ("manage: Union", "manage: Replace", "AddGroup"),
        ("OtaJob", "Ota", "DeviceLifecycle"),
        ("3s", "3", "has no unit"),
        ("1Mi", "1MB", "a suffix"),
    ] {
        let message = read(&FULL.replacen(from, to, 1)).unwrap_err();
        assert!(message.contains(expected), "{to}: {message}");
    }
}
