//! The rules for one field each, in the order of the fields.

use std::path::Path;

use super::{Demand, Form, Rule, Spec, form};
use crate::{ByteQuantity, CaBundle, ConfigMapKey, Credentials, Duration, SecretReference, WorkloadIdentity};

type Advice = &'static str;

const fn number(path: &'static str, min: i64, max: i64, value: fn(&Spec) -> Option<i64>, advice: Advice) -> Rule {
    Rule { path, only: None, demand: Demand::Number { min, max, value }, advice }
}

const fn time(
    path: &'static str,
    min: Duration,
    max: Duration,
    value: fn(&Spec) -> Option<Duration>,
    advice: Advice,
) -> Rule {
    Rule { path, only: None, demand: Demand::Time { min, max, value }, advice }
}

const fn text(
    path: &'static str,
    form: &'static Form,
    value: for<'a> fn(&'a Spec) -> Vec<&'a str>,
    advice: Advice,
) -> Rule {
    Rule { path, only: None, demand: Demand::Text { form, value }, advice }
}

const fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

const SECRET: Advice = "give the name of a Secret in the ConsumerGroup's namespace";
const ROLE: Advice = "copy the role's ARN from the RAM console";
const PROVIDER: Advice = "copy the provider's ARN from the RAM console";
const ACCOUNT: Advice = "give the name of a ServiceAccount in the ConsumerGroup's namespace";
const SESSION: Advice = "leave the field out for a name made of the ConsumerGroup's";
const EXTERNAL: Advice = "copy it from the role's trust policy, or leave the field out";
const ROLE_TIME: Advice = "STS gives keys for 15m or more, and for at most what the role allows";
const ENDPOINT: Advice = "give the host alone, without https://, or leave the field out for the region's own";
const STEP_PODS: Advice = "take what one step may change";
const STEP_PERCENT: Advice = "take what one step may change, in percent";
const STEP_PERIOD: Advice = "take the time between two steps";
const WINDOW: Advice = "take a few minutes, or 0s for none";
const BACKOFF: Advice = "the platform takes a message back after 30 s, whatever it waits for";

pub(super) static RULES: &[Rule] = &[
    text(
        "spec.groupId",
        &form::OPTION_VALUE,
        |s| vec![&s.group_id],
        "copy the group's ID from the console, or use DEFAULT_GROUP",
    ),
    text(
        "spec.instance.id",
        &form::OPTION_VALUE,
        |s| one(s.instance.id.as_ref()),
        "copy the instance's ID from the console, or leave the field out if it has none",
    ),
    text(
        "spec.instance.region",
        &form::DNS_LABEL,
        |s| one(s.instance.region.as_ref()),
        "write the region's ID as in cn-shanghai",
    ),
    text(
        "spec.instance.accountId",
        &form::ACCOUNT_ID,
        |s| one(s.instance.account_id.as_ref()),
        "copy the account's number from the console, and write it in quotes",
    ),
    text(
        "spec.instance.amqpHost",
        &form::HOST,
        |s| vec![&s.instance.amqp_host],
        "give the host alone, without amqps:// and without a port, which goes into spec.instance.amqpPort",
    ),
    number(
        "spec.instance.amqpPort",
        1,
        65_535,
        |s| Some(s.instance.amqp_port.into()),
        "the platform listens on 5671: leave the field out",
    ),
    text(
        "spec.instance.sourceAddress",
        &form::SOURCE_ADDRESS,
        |s| vec![&s.instance.source_address],
        "leave the field out for the platform, which ignores it",
    ),
    text("spec.instance.apiEndpoint", &form::ENDPOINT, |s| one(s.instance.api_endpoint.as_ref()), ENDPOINT),
    text("spec.instance.stsEndpoint", &form::ENDPOINT, |s| one(s.instance.sts_endpoint.as_ref()), ENDPOINT),
    text(
        "spec.instance.caBundle.configMapKeyRef.name",
        &form::DNS_SUBDOMAIN,
        |s| config_map(s).map(|key| key.name.as_str()).into_iter().collect(),
        "give the name of a ConfigMap in the ConsumerGroup's namespace",
    ),
    text(
        "spec.instance.caBundle.configMapKeyRef.key",
        &form::CONFIG_KEY,
        |s| config_map(s).map(|key| key.key.as_str()).into_iter().collect(),
        "give the key of the ConfigMap that holds the certificates, such as ca.crt",
    ),
    text(
        "spec.instance.caBundle.file",
        &form::PATH,
        |s| match &s.instance.ca_bundle {
            Some(CaBundle::File(path)) => Path::to_str(path).into_iter().collect(),
            _ => Vec::new(),
        },
        "name the file, or leave caBundle out to trust the well-known authorities",
    ),
    text(
        "spec.instance.caBundle.pem",
        &form::PEM,
        |s| match &s.instance.ca_bundle {
            Some(CaBundle::Pem(pem)) => vec![pem],
            _ => Vec::new(),
        },
        "paste the certificates with their BEGIN and END lines",
    ),
    // PLATFORM.md 1.1.
    time(
        "spec.connection.idleTimeout",
        secs(30),
        secs(300),
        |s| Some(s.connection.idle_timeout),
        "the platform closes a connection that asks for another",
    ),
    text(
        "spec.credentials.secretRef.name",
        &form::DNS_SUBDOMAIN,
        |s| secret(s.credentials.secret_ref.as_ref()),
        SECRET,
    ),
    text(
        "spec.credentials.assumeRole.secretRef.name",
        &form::DNS_SUBDOMAIN,
        |s| secret(s.credentials.assume_role.as_ref().map(|role| &role.secret_ref)),
        SECRET,
    ),
    text(
        "spec.credentials.assumeRole.roleArn",
        &form::ROLE_ARN,
        |s| one(s.credentials.assume_role.as_ref().map(|role| &role.role_arn)),
        ROLE,
    ),
    text(
        "spec.credentials.assumeRole.sessionName",
        &form::SESSION_NAME,
        |s| one(s.credentials.assume_role.as_ref().and_then(|role| role.session_name.as_ref())),
        SESSION,
    ),
    text(
        "spec.credentials.assumeRole.externalId",
        &form::EXTERNAL_ID,
        |s| one(s.credentials.assume_role.as_ref().and_then(|role| role.external_id.as_ref())),
        EXTERNAL,
    ),
    // PLATFORM.md 4.3.
    time(
        "spec.credentials.assumeRole.duration",
        secs(900),
        secs(43_200),
        |s| s.credentials.assume_role.as_ref().map(|role| role.duration),
        ROLE_TIME,
    ),
    text(
        "spec.credentials.workloadIdentity.roleArn",
        &form::ROLE_ARN,
        |s| identity(&s.credentials, |identity| &identity.role_arn),
        ROLE,
    ),
    text(
        "spec.credentials.workloadIdentity.oidcProviderArn",
        &form::OIDC_PROVIDER_ARN,
        |s| identity(&s.credentials, |identity| &identity.oidc_provider_arn),
        PROVIDER,
    ),
    text(
        "spec.credentials.workloadIdentity.serviceAccountName",
        &form::DNS_SUBDOMAIN,
        |s| identity(&s.credentials, |identity| &identity.service_account_name),
        ACCOUNT,
    ),
    text(
        "spec.apiCredentials.secretRef.name",
        &form::DNS_SUBDOMAIN,
        |s| secret(s.api_credentials.as_ref().and_then(|api| api.secret_ref.as_ref())),
        SECRET,
    ),
    text(
        "spec.apiCredentials.assumeRole.secretRef.name",
        &form::DNS_SUBDOMAIN,
        |s| secret(api_role(s).map(|role| &role.secret_ref)),
        SECRET,
    ),
    text(
        "spec.apiCredentials.assumeRole.roleArn",
        &form::ROLE_ARN,
        |s| one(api_role(s).map(|role| &role.role_arn)),
        ROLE,
    ),
    text(
        "spec.apiCredentials.assumeRole.sessionName",
        &form::SESSION_NAME,
        |s| one(api_role(s).and_then(|role| role.session_name.as_ref())),
        SESSION,
    ),
    text(
        "spec.apiCredentials.assumeRole.externalId",
        &form::EXTERNAL_ID,
        |s| one(api_role(s).and_then(|role| role.external_id.as_ref())),
        EXTERNAL,
    ),
    time(
        "spec.apiCredentials.assumeRole.duration",
        secs(900),
        secs(43_200),
        |s| api_role(s).map(|role| role.duration),
        ROLE_TIME,
    ),
    text(
        "spec.apiCredentials.workloadIdentity.roleArn",
        &form::ROLE_ARN,
        |s| one(api_identity(s).map(|identity| &identity.role_arn)),
        ROLE,
    ),
    text(
        "spec.apiCredentials.workloadIdentity.oidcProviderArn",
        &form::OIDC_PROVIDER_ARN,
        |s| one(api_identity(s).map(|identity| &identity.oidc_provider_arn)),
        PROVIDER,
    ),
    text(
        "spec.apiCredentials.workloadIdentity.serviceAccountName",
        &form::DNS_SUBDOMAIN,
        |s| one(api_identity(s).map(|identity| &identity.service_account_name)),
        ACCOUNT,
    ),
    text(
        "spec.workload.targetRef.apiVersion",
        &form::API_VERSION,
        |s| one(s.workload.as_ref().map(|workload| &workload.target_ref.api_version)),
        "write it as at the top of the object's own manifest",
    ),
    text(
        "spec.workload.targetRef.kind",
        &form::KIND,
        |s| one(s.workload.as_ref().map(|workload| &workload.target_ref.kind)),
        "write it as at the top of the object's own manifest",
    ),
    text(
        "spec.workload.targetRef.name",
        &form::DNS_SUBDOMAIN,
        |s| one(s.workload.as_ref().map(|workload| &workload.target_ref.name)),
        "give the name of an object in the ConsumerGroup's namespace",
    ),
    // PLATFORM.md 1.8 and 10.1.
    number(
        "spec.limits.clientSlots",
        1,
        128,
        |s| Some(s.limits.client_slots.into()),
        "the platform lets a group have 64 clients, by one of its documents 128",
    ),
    // PLATFORM.md 1.8.
    number(
        "spec.limits.connectAttemptsPerMinute",
        1,
        100,
        |s| Some(s.limits.connect_attempts_per_minute.into()),
        "the platform allows a group 100 attempts a minute",
    ),
    number(
        "spec.scaling.replicas",
        0,
        i32::MAX as i64,
        |s| s.scaling.replicas.map(i64::from),
        "give the number of pods to begin with",
    ),
    number(
        "spec.scaling.minReplicas",
        0,
        128,
        |s| Some(s.scaling.min_replicas.into()),
        "a group has at most 128 client slots",
    ),
    number(
        "spec.scaling.maxReplicas",
        1,
        128,
        |s| Some(s.scaling.max_replicas.into()),
        "a group has at most 128 client slots",
    ),
    number(
        "spec.scaling.targetSaturation",
        1,
        100,
        |s| Some(s.scaling.target_saturation.into()),
        "it is a percentage of the time",
    ),
    // PLATFORM.md 1.8.
    number(
        "spec.scaling.backlog.activation",
        0,
        100_000_000,
        |s| Some(s.scaling.backlog.activation.into()),
        "the platform keeps at most 100 million messages",
    ),
    // PLATFORM.md 1.8.
    time(
        "spec.scaling.backlog.drainWithin",
        secs(60),
        secs(86_400),
        |s| Some(s.scaling.backlog.drain_within),
        "the platform keeps a message for a day",
    ),
    time(
        "spec.scaling.behavior.scaleUp.stabilizationWindow",
        secs(0),
        secs(3_600),
        |s| Some(s.scaling.behavior.scale_up.stabilization_window),
        WINDOW,
    ),
    number(
        "spec.scaling.behavior.scaleUp.maxPods",
        1,
        128,
        |s| Some(s.scaling.behavior.scale_up.max_pods.into()),
        STEP_PODS,
    ),
    number(
        "spec.scaling.behavior.scaleUp.maxPercent",
        1,
        1_000,
        |s| Some(s.scaling.behavior.scale_up.max_percent.into()),
        STEP_PERCENT,
    ),
    time(
        "spec.scaling.behavior.scaleUp.period",
        secs(1),
        secs(1_800),
        |s| Some(s.scaling.behavior.scale_up.period),
        STEP_PERIOD,
    ),
    time(
        "spec.scaling.behavior.scaleDown.stabilizationWindow",
        secs(0),
        secs(3_600),
        |s| Some(s.scaling.behavior.scale_down.stabilization_window),
        WINDOW,
    ),
    time(
        "spec.scaling.behavior.scaleDown.membershipWindow",
        secs(0),
        secs(3_600),
        |s| Some(s.scaling.behavior.scale_down.membership_window),
        "the platform needs up to 10m to spread messages evenly again",
    ),
    number(
        "spec.scaling.behavior.scaleDown.maxPods",
        1,
        128,
        |s| Some(s.scaling.behavior.scale_down.max_pods.into()),
        STEP_PODS,
    ),
    number(
        "spec.scaling.behavior.scaleDown.maxPercent",
        1,
        100,
        |s| Some(s.scaling.behavior.scale_down.max_percent.into()),
        STEP_PERCENT,
    ),
    time(
        "spec.scaling.behavior.scaleDown.period",
        secs(1),
        secs(1_800),
        |s| Some(s.scaling.behavior.scale_down.period),
        STEP_PERIOD,
    ),
    number(
        "spec.delivery.connectionsPerPod",
        1,
        64,
        |s| Some(s.delivery.connections_per_pod.into()),
        "each connection takes a client slot, and carries 1000 messages per second",
    ),
    number(
        "spec.delivery.maxInFlight",
        1,
        100_000,
        |s| Some(s.delivery.max_in_flight.into()),
        "take about what the application can finish in half a lease",
    ),
    // The least is the largest message that a device can publish (PLATFORM.md 1.8).
    Rule {
        path: "spec.delivery.maxInFlightBytes",
        only: None,
        demand: Demand::Size {
            min: ByteQuantity::from_kib(256),
            max: ByteQuantity::from_mib(4 << 10),
            value: |s| Some(s.delivery.max_in_flight_bytes),
        },
        advice: "take what the sidecar's memory can spare; a single message has up to 256Ki",
    },
    // The platform waits 30 s for an answer (PLATFORM.md 1.7); two are kept for the answer to get there.
    time(
        "spec.delivery.leaseDuration",
        secs(1),
        secs(28),
        |s| Some(s.delivery.lease_duration),
        "the platform takes an unanswered message back after 30 s",
    ),
    // The most is the platform's retention (PLATFORM.md 1.8).
    time(
        "spec.delivery.deduplication.window",
        secs(1),
        secs(86_400),
        |s| Some(s.delivery.deduplication.window),
        "the platform keeps a message for a day, and repeats it after a minute or so",
    ),
    number(
        "spec.delivery.deduplication.maxEntries",
        1,
        1_000_000,
        |s| Some(s.delivery.deduplication.max_entries.into()),
        "take about the number of messages that come in one window",
    ),
    time(
        "spec.delivery.retry.minBackoff",
        Duration::from_millis(1),
        secs(28),
        |s| Some(s.delivery.retry.min_backoff),
        BACKOFF,
    ),
    time(
        "spec.delivery.retry.maxBackoff",
        Duration::from_millis(1),
        secs(28),
        |s| Some(s.delivery.retry.max_backoff),
        BACKOFF,
    ),
    // A group has at most 1000 products (PLATFORM.md 1.8).
    Rule {
        path: "spec.subscriptions.products",
        only: None,
        demand: Demand::List {
            min: 1,
            max: 1_000,
            key: Some("productKey"),
            value: |s| {
                let products = s.subscriptions.iter().map(|wanted| &wanted.products);
                products.map(|products| products.iter().map(|product| product.product_key.clone()).collect()).collect()
            },
        },
        advice: "name each product once, or leave subscriptions out",
    },
    text(
        "spec.subscriptions.products[].productKey",
        &form::PRODUCT_KEY,
        |s| s.subscriptions.iter().flat_map(|wanted| &wanted.products).map(|p| p.product_key.as_str()).collect(),
        "copy the product's key from the console",
    ),
    Rule {
        path: "spec.subscriptions.products[].messages",
        only: None,
        demand: Demand::List {
            min: 1,
            max: 10,
            key: None,
            value: |s| {
                let products = s.subscriptions.iter().flat_map(|wanted| &wanted.products);
                products.map(|p| p.messages.iter().map(|message| format!("{message:?}")).collect()).collect()
            },
        },
        advice: "name each type of message once; a subscription has at least one",
    },
];

fn one(value: Option<&String>) -> Vec<&str> {
    value.map(String::as_str).into_iter().collect()
}

fn secret(reference: Option<&SecretReference>) -> Vec<&str> {
    one(reference.map(|secret| &secret.name))
}

fn identity(credentials: &Credentials, field: fn(&WorkloadIdentity) -> &String) -> Vec<&str> {
    one(credentials.workload_identity.as_ref().map(field))
}

fn api_role(spec: &Spec) -> Option<&crate::AssumeRole> {
    spec.api_credentials.as_ref()?.assume_role.as_ref()
}

fn api_identity(spec: &Spec) -> Option<&WorkloadIdentity> {
    spec.api_credentials.as_ref()?.workload_identity.as_ref()
}

fn config_map(spec: &Spec) -> Option<&ConfigMapKey> {
    match &spec.instance.ca_bundle {
        Some(CaBundle::ConfigMapKeyRef(key)) => Some(key),
        _ => None,
    }
}
