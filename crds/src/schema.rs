//! The definition of the custom resource: the types' own schema, tidied, with the rules of [`crate::rules`] written in.
//!
//! The derived schema says what the types know: fields, their comments, defaults, choices. Everything about values comes
//! from the rules, so that the API server and this process can't disagree. Texts and lists have a bound wherever CEL looks
//! at them, since the API server reckons a rule's cost from it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{CustomResourceDefinition, JSONSchemaProps};
use kube::CustomResourceExt as _;
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::ConsumerGroup;
use crate::rules::{self, Demand, Rule, name};

/// The most characters of a duration or a number of bytes.
const MAX_SCALAR: usize = 32;
/// How a number of bytes is written: a subset of what CEL's `quantity` reads.
const BYTES: &str = "^[0-9]{1,12}(k|M|G|T|Ki|Mi|Gi|Ti)?$";

/// The definition of `consumergroups.sluice.dev`, as it is installed in a cluster.
///
/// Fails only if the derived definition is none, which the tests rule out.
pub fn crd() -> serde_json::Result<CustomResourceDefinition> {
    let mut crd = ConsumerGroup::crd();
    for version in &mut crd.spec.versions {
        let Some(props) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        *props = finished(props)?;
    }
    Ok(crd)
}

/// The schema with everything in it.
fn finished(props: &JSONSchemaProps) -> serde_json::Result<JSONSchemaProps> {
    let mut schema = serde_json::to_value(props)?;
    tidy(&mut schema);
    // A default could not name a place that keys come from.
    node(&mut schema, "spec.credentials").and_then(Value::as_object_mut).and_then(|node| node.remove("default"));
    for rule in rules::all() {
        write(rule, &mut schema);
    }
    add_validation(
        &mut schema,
        json!({
            "rule": format!("self.metadata.name.size() <= {}", name::MAX),
            "message": format!("metadata.name must be {}: {}", name::EXPECTED, name::ADVICE),
        }),
    );
    serde_json::from_value(schema)
}

/// The schema of a list of standard conditions.
pub(crate) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
        "items": {
            "type": "object",
            "required": ["type", "status", "lastTransitionTime", "reason", "message"],
            "properties": {
                "type": {"type": "string", "description": "What it is about.", "maxLength": 316},
                "status": {
                    "type": "string",
                    "description": "Whether it is so: True, False, or Unknown.",
                    "enum": ["True", "False", "Unknown"],
                },
                "reason": {
                    "type": "string",
                    "description": "Why, in one word for programs.",
                    "minLength": 1,
                    "maxLength": 1024,
                },
                "message": {"type": "string", "description": "Why, and what to do about it.", "maxLength": 32768},
                "lastTransitionTime": {
                    "type": "string",
                    "format": "date-time",
                    "description": "Since when the status is what it is.",
                },
                "observedGeneration": {
                    "type": "integer",
                    "format": "int64",
                    "description": "The generation of the object that this is about.",
                    "minimum": 0,
                },
            },
        },
    })
}

/// Takes out what Kubernetes does not know or need, and puts comments into one line per paragraph.
fn tidy(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else { return };
    for key in ["nullable", "oneOf", "anyOf", "title"] {
        node.remove(key);
    }
    if let Some(Value::String(description)) = node.get_mut("description") {
        *description = description.split("\n\n").map(|text| text.replace('\n', " ")).collect::<Vec<_>>().join("\n\n");
    }
    // Rust's own formats, and the bounds that come with them.
    if node.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        for key in ["format", "minimum", "maximum"] {
            node.remove(key);
        }
    }
    // An object that is left out gets the defaults of its fields: each default stands in one place.
    match node.get_mut("default") {
        Some(Value::Object(default)) => *default = Map::new(),
        Some(Value::Null) => drop(node.remove("default")),
        _ => {}
    }
    for property in node.get_mut("properties").and_then(Value::as_object_mut).into_iter().flat_map(Map::values_mut) {
        tidy(property);
    }
    if let Some(items) = node.get_mut("items") {
        tidy(items);
    }
}

/// Writes a rule into the schema. A path without a field is found by the tests: the rule is missing then.
fn write(rule: &Rule, schema: &mut Value) {
    let message = format!("must be {}: {}", rule.expected(), rule.advice);
    let validation = |cel: String| json!({"rule": cel, "message": message});
    match &rule.demand {
        Demand::Number { min, max, .. } => {
            let format = if i32::try_from(*max).is_ok() { "int32" } else { "int64" };
            set(schema, rule.path, &[("format", json!(format)), ("minimum", json!(min)), ("maximum", json!(max))]);
        }
        Demand::Time { min, max, .. } => {
            set(schema, rule.path, &[("maxLength", json!(MAX_SCALAR))]);
            let pattern = rules::duration_pattern!();
            let cel = format!(
                "self != '' && self.matches('{pattern}') && duration(self) >= duration('{min}') && \
                 duration(self) <= duration('{max}')"
            );
            validate(schema, rule.path, validation(cel));
        }
        Demand::Size { min, max, .. } => {
            set(schema, rule.path, &[("maxLength", json!(MAX_SCALAR))]);
            let cel = format!(
                "string(self).matches('{BYTES}') && quantity(string(self)).compareTo(quantity('{min}')) >= 0 && \
                 quantity(string(self)).compareTo(quantity('{max}')) <= 0"
            );
            validate(schema, rule.path, validation(cel));
        }
        Demand::Text { form, .. } => {
            set(schema, rule.path, &[("maxLength", json!(form.max))]);
            validate(schema, rule.path, validation(form.cel.to_owned()));
        }
        Demand::List { min, max, key, .. } => {
            set(schema, rule.path, &[("minItems", json!(min)), ("maxItems", json!(max))]);
            match key {
                Some(key) => set(
                    schema,
                    rule.path,
                    &[("x-kubernetes-list-type", json!("map")), ("x-kubernetes-list-map-keys", json!([key]))],
                ),
                None => set(schema, rule.path, &[("x-kubernetes-list-type", json!("set"))]),
            }
        }
        Demand::Relation(relation) => {
            let Some(cel) = relation.cel else { return };
            validate(schema, relation.at, pointed(validation(cel.to_owned()), relation.at, rule.path));
        }
        Demand::Constant { at, cel, .. } => {
            validate(schema, at, pointed(validation((*cel).to_owned()), at, rule.path));
        }
    }
}

/// Makes the API server's message point at the field, if that is not where the rule stands.
fn pointed(mut validation: Value, at: &str, path: &str) -> Value {
    if let Some(field) = path.strip_prefix(at).filter(|field| !field.is_empty()) {
        validation["fieldPath"] = json!(field);
    }
    validation
}

fn set(schema: &mut Value, path: &str, entries: &[(&str, Value)]) {
    if let Some(node) = node(schema, path).and_then(Value::as_object_mut) {
        node.extend(entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
    }
}

fn validate(schema: &mut Value, path: &str, validation: Value) {
    if let Some(node) = node(schema, path) {
        add_validation(node, validation);
    }
}

fn add_validation(node: &mut Value, validation: Value) {
    if let Some(node) = node.as_object_mut() {
        let list = node.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut() {
            list.push(validation);
        }
    }
}

/// The schema of a field: `a.b[].c`, where `[]` is any item of a list.
fn node<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.').try_fold(schema, |node, step| {
        let field = node.get_mut("properties")?.get_mut(step.trim_end_matches("[]"))?;
        if step.ends_with("[]") { field.get_mut("items") } else { Some(field) }
    })
}

#[cfg(test)]
mod tests;
