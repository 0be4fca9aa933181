//! Documents that keep each rule and documents that break it. The tests of this crate put them to its own checks and to an
//! evaluation of the schema; those against a real API server put the same ones to that.
//!
//! The values at the bounds come from the rules themselves; texts and everything about several fields is written out.

mod relations;
mod texts;

use serde_json::{Value, json};

use crate::rules::{self, Demand, Rule};
use crate::validate::Mode;
use crate::{ByteQuantity, Duration};

/// A document, and what becomes of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it is about, in a few words that no other case has.
    pub name: String,
    /// Where the rule holds; `None` if everywhere. Everything but [`Mode::File`] is for the API server.
    pub only: Option<Mode>,
    /// The object as it was before, if this is about a change.
    pub before: Option<Value>,
    /// The object, without a namespace.
    pub object: Value,
    /// Why it is refused; `None` if it is accepted.
    pub refused: Option<Refusal>,
}

/// Why a document is refused.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The field: what the API server's message and this crate's violation name. `[]` stands for any item of a list.
    pub field: &'static str,
    /// What the API server says in CEL's place, as part of its message. `None` where its own schema refuses.
    pub message: Option<String>,
}

/// A group that is valid in a cluster and in a file.
pub fn group() -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1",
        "kind": "ConsumerGroup",
        "metadata": {"name": "telemetry"},
        "spec": {
            "groupId": "DEFAULT_GROUP",
            "instance": {
                "id": "iot-06z00abcd",
                "region": "cn-shanghai",
                "amqpHost": "iot-06z00abcd.amqp.iothub.aliyuncs.com",
            },
            "credentials": {"secretRef": {"name": "iot-access-key"}},
        },
    })
}

/// All of them. The first is [`group`] itself.
pub fn cases() -> Vec<Case> {
    let mut cases =
        vec![Case { name: "the group".to_owned(), only: None, before: None, object: group(), refused: None }];
    for rule in rules::all() {
        match &rule.demand {
            Demand::Number { min, max, .. } => {
                around(&mut cases, rule, json!(min), json!(max), Some(json!(min - 1)), json!(max + 1));
            }
            Demand::Time { min, max, .. } => {
                let beside = |duration: Duration, by: i64| {
                    let millis = u64::try_from(duration.get().as_millis()).unwrap_or(u64::MAX);
                    millis.checked_add_signed(by).map(|millis| json!(Duration::from_millis(millis)))
                };
                let above = beside(*max, 1).unwrap_or_default();
                around(&mut cases, rule, json!(min), json!(max), beside(*min, -1), above);
                for text in ["", "25", "-1s", "1.5s", "1d", "1 s", "s", "1s1h"] {
                    refuse(&mut cases, rule, json!(text));
                }
            }
            Demand::Size { min, max, .. } => {
                let bytes = |quantity: &ByteQuantity, by: i64| json!(quantity.bytes().saturating_add_signed(by));
                around(&mut cases, rule, json!(min), bytes(max, 0), Some(bytes(min, -1)), bytes(max, 1));
                for text in ["", "Mi", "1.5Gi", "64MB", "-1", "64 Mi"] {
                    refuse(&mut cases, rule, json!(text));
                }
            }
            Demand::Text { form, .. } => {
                let (right, wrong) = texts::of(form);
                for text in right {
                    accept(&mut cases, rule, json!(text));
                }
                for text in wrong {
                    refuse(&mut cases, rule, json!(text));
                }
                refuse_unsaid(&mut cases, rule, json!(texts::too_long(form)));
            }
            // Written out.
            Demand::List { .. } | Demand::Relation(_) | Demand::Constant { .. } => {}
        }
    }
    relations::add(&mut cases);
    cases
}

/// Both bounds, and the nearest values beyond them.
fn around(cases: &mut Vec<Case>, rule: &Rule, min: Value, max: Value, below: Option<Value>, above: Value) {
    accept(cases, rule, min);
    accept(cases, rule, max);
    if let Some(below) = below {
        refuse(cases, rule, below);
    }
    refuse(cases, rule, above);
}

fn accept(cases: &mut Vec<Case>, rule: &Rule, value: Value) {
    cases.push(case(rule, value, None));
}

fn refuse(cases: &mut Vec<Case>, rule: &Rule, value: Value) {
    let message = (!matches!(rule.demand, Demand::Number { .. })).then(|| said(rule));
    cases.push(case(rule, value, Some(Refusal { field: rule.path, message })));
}

/// Refused by the schema's own bounds, before CEL looks at it.
fn refuse_unsaid(cases: &mut Vec<Case>, rule: &Rule, value: Value) {
    cases.push(case(rule, value, Some(Refusal { field: rule.path, message: None })));
}

fn case(rule: &Rule, value: Value, refused: Option<Refusal>) -> Case {
    let verb = if refused.is_some() { "refuses" } else { "accepts" };
    let shown: String = value.to_string().chars().take(60).collect();
    let mut object = group();
    for (prefix, around) in surroundings() {
        if rule.path.starts_with(prefix) {
            merge(&mut object["spec"], &around);
        }
    }
    put(&mut object, rule.path, value);
    // Where there is a file among the certificates, there is no cluster.
    let only = if rule.path == "spec.instance.caBundle.file" { Some(Mode::File) } else { rule.only };
    let only = if rule.path.starts_with("spec.instance.caBundle.configMap") { Some(Mode::Cluster) } else { only };
    let only = if rule.path == "spec.delivery.connectionsPerPod" { Some(Mode::Cluster) } else { only };
    Case { name: format!("{} {verb} {shown}", rule.path), only, before: None, object, refused }
}

/// What the API server says in the rule's place.
fn said(rule: &Rule) -> String {
    format!("must be {}: {}", rule.expected(), rule.advice)
}

/// What has to be in `spec` for a field to be there, or to take any of its values: the fields' beginning, and a merge patch.
fn surroundings() -> [(&'static str, Value); 11] {
    let role = json!({"secretRef": {"name": "iot-access-key"}, "roleArn": "acs:ram::1234567890123456:role/consumer"});
    let identity = json!({
        "roleArn": "acs:ram::1234567890123456:role/consumer",
        "oidcProviderArn": "acs:ram::1234567890123456:oidc-provider/ack-rrsa-c1234",
        "serviceAccountName": "consumer",
    });
    let target = json!({"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "worker"}});
    let config_map = json!({"configMapKeyRef": {"name": "authorities", "key": "ca.crt"}});
    let product = json!({"productKey": "a1Bcdef", "messages": ["DeviceData"]});
    [
        ("spec.instance.caBundle.configMapKeyRef", json!({"instance": {"caBundle": config_map}})),
        ("spec.credentials.assumeRole", json!({"credentials": {"secretRef": null, "assumeRole": role}})),
        (
            "spec.credentials.workloadIdentity",
            json!({"credentials": {"secretRef": null, "workloadIdentity": identity}}),
        ),
        ("spec.apiCredentials.assumeRole", json!({"apiCredentials": {"assumeRole": role}})),
        ("spec.apiCredentials.workloadIdentity", json!({"apiCredentials": {"workloadIdentity": identity}})),
        ("spec.workload", json!({"workload": target})),
        ("spec.scaling.replicas", json!({"workload": target, "scaling": {"mode": "External"}})),
        ("spec.scaling.minReplicas", json!({"limits": {"clientSlots": 128}, "scaling": {"maxReplicas": 128}})),
        ("spec.delivery.retry.minBackoff", json!({"delivery": {"retry": {"maxBackoff": "28s"}}})),
        ("spec.delivery.retry.maxBackoff", json!({"delivery": {"retry": {"minBackoff": "1ms"}}})),
        ("spec.subscriptions", json!({"subscriptions": {"products": [product]}})),
    ]
}

/// Sets the value of a field; of a list, that of its first item.
fn put(object: &mut Value, path: &str, value: Value) {
    let steps = path.split('.').flat_map(|step| match step.strip_suffix("[]") {
        Some(list) => vec![list, "0"],
        None => vec![step],
    });
    let place = steps.fold(object, |node, step| match step.parse::<usize>() {
        Ok(index) if node.is_array() => &mut node[index],
        _ => &mut node[step],
    });
    *place = value;
}

/// RFC 7396: puts `patch` over `target`; a null takes a field away.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if let (true, Some(target)) = (value.is_null(), target.as_object_mut()) {
            target.remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}
