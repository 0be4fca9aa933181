//! The definition, as the API server would read it: that every rule is in it, that its CEL decides as this crate does, and
//! that what is committed is what would be made.

use std::collections::BTreeSet;

use kube_cel::{CompiledSchema, Validator, compile_schema, estimate_rule_cost};
use proptest::prelude::*;

use super::*;
use crate::fixtures::{self, Case};
use crate::rules::form;
use crate::{ConsumerGroupSpec, Document, Mode, yaml};

fn schema() -> Value {
    let crd = serde_json::to_value(crd().unwrap()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Fills in what the API server does: also in objects that are themselves there by default.
fn defaulted(schema: &Value, object: &Value) -> Value {
    let mut object = object.clone();
    loop {
        let filled = kube_cel::apply_defaults(schema, &object);
        if filled == object {
            return object;
        }
        object = filled;
    }
}

/// Calls `look` with every node of the schema and its path.
fn walk(node: &Value, path: &str, look: &mut impl FnMut(&str, &Value)) {
    look(path, node);
    for (name, property) in node["properties"].as_object().into_iter().flatten() {
        walk(property, format!("{path}.{name}").trim_start_matches('.'), look);
    }
    if node["items"].is_object() {
        walk(&node["items"], &format!("{path}[]"), look);
    }
}

#[test]
fn what_is_committed_is_what_would_be_made() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/yaml/consumergroups.sluice.dev.yaml");
    let committed = std::fs::read_to_string(path).unwrap();
    let made = yaml::definition(&crd().unwrap()).unwrap();
    assert!(committed == made, "{path} is not what the types say; run `cargo xtask crd` and commit the result");
    let back: CustomResourceDefinition = serde_saphyr::from_str(&made).unwrap();
    assert_eq!(back, crd().unwrap());
}

#[test]
fn every_rule_is_in_the_schema() {
    let mut schema = schema();
    for rule in rules::all() {
        assert!(node(&mut schema, rule.path).is_some(), "there is no {}", rule.path);
        let at = match &rule.demand {
            Demand::Relation(relation) if relation.cel.is_none() => continue,
            Demand::Relation(relation) => relation.at,
            Demand::Constant { at, .. } => at,
            _ => rule.path,
        };
        let node = node(&mut schema, at).unwrap().clone();
        let message = json!(format!("must be {}: {}", rule.expected(), rule.advice));
        let said = |node: &Value| {
            node["x-kubernetes-validations"]
                .as_array()
                .is_some_and(|list| list.iter().any(|validation| validation["message"] == message))
        };
        let kept = match &rule.demand {
            Demand::Number { .. } => node["type"] == "integer" && node["maximum"].is_number(),
            Demand::List { .. } => node["type"] == "array" && node["maxItems"].is_number(),
            _ => said(&node),
        };
        assert!(kept, "{} is not at {at}: {node}", rule.path);
    }
}

#[test]
fn every_field_has_a_rule_or_a_choice_and_says_what_it_is() {
    let paths: BTreeSet<_> = rules::all().map(|rule| rule.path).collect();
    walk(&schema()["properties"]["spec"], "spec", &mut |path, node| {
        let described =
            node["description"].as_str().is_some_and(|text| text.ends_with('.') || text.ends_with("Required."));
        assert!(described, "{path} has no description");
        let is_leaf = node["type"] != "object";
        let has_choice = node["enum"].is_array();
        assert!(!is_leaf || has_choice || paths.contains(path), "nothing bounds {path}");
        // The cost of CEL is reckoned from these.
        match node["type"].as_str() {
            Some("string") if !has_choice => assert!(node["maxLength"].is_number(), "{path} has no maxLength"),
            Some("array") => assert!(node["maxItems"].is_number(), "{path} has no maxItems"),
            _ => {}
        }
    });
}

#[test]
fn a_comment_says_the_bounds_and_the_default_that_the_schema_has() {
    let mut schema = schema();
    for rule in rules::all() {
        let (min, max) = match &rule.demand {
            // Of /scale, which has no bound of its own.
            Demand::Number { .. } if rule.path == "spec.scaling.replicas" => continue,
            Demand::Number { min, max, .. } => (min.to_string(), max.to_string()),
            Demand::Time { min, max, .. } => (min.to_string(), max.to_string()),
            Demand::Size { min, max, .. } => (min.to_string(), max.to_string()),
            _ => continue,
        };
        let description = node(&mut schema, rule.path).unwrap()["description"].as_str().unwrap().to_owned();
        let begin = if rule.path.ends_with("maxBackoff") { "`minBackoff`" } else { &min };
        assert!(description.contains(&format!("{begin} to {max}")), "{}: {description}", rule.path);
    }
    walk(&schema["properties"]["spec"], "spec", &mut |path, node| {
        let default = match &node["default"] {
            Value::Null | Value::Object(_) => return,
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let text = node["description"].as_str().unwrap();
        let said = text.contains(&format!("Default: {default}.")) || text.contains(&format!("Default: `{default}`."));
        assert!(said, "{path}, {default}: {text}");
    });
}

#[test]
fn nothing_in_it_is_unknown_to_kubernetes() {
    walk(&schema(), "", &mut |path, node| {
        for key in node.as_object().unwrap().keys() {
            let known = [
                "description",
                "type",
                "format",
                "default",
                "enum",
                "properties",
                "required",
                "items",
                "minimum",
                "maximum",
                "minLength",
                "maxLength",
                "minItems",
                "maxItems",
                "x-kubernetes-validations",
                "x-kubernetes-list-type",
                "x-kubernetes-list-map-keys",
                "x-kubernetes-int-or-string",
            ];
            assert!(known.contains(&key.as_str()), "{path} has {key}");
        }
        if let Some(format) = node["format"].as_str() {
            assert!(["int32", "int64", "date-time"].contains(&format), "{path}: {format}");
        }
    });
}

#[test]
fn a_default_of_the_schema_is_that_of_the_types() {
    let mut object = fixtures::group();
    let read: crate::ConsumerGroup = serde_json::from_value(object.clone()).unwrap();
    object = defaulted(&schema(), &object);
    assert_eq!(serde_json::to_value(&read.spec).unwrap(), object["spec"]);

    // And of an object that is not there by default.
    let role = json!({"secretRef": {"name": "a"}, "roleArn": "acs:ram::1:role/a"});
    object["spec"]["apiCredentials"] = json!({"assumeRole": role});
    let read: ConsumerGroupSpec = serde_json::from_value(object["spec"].clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), defaulted(&schema(), &object)["spec"]);
}

#[test]
fn an_operator_reads_what_a_newer_api_server_fills_in() {
    let mut object = fixtures::group();
    object["spec"]["delivery"] = json!({"fromTheFuture": {"a": 1}});
    serde_json::from_value::<crate::ConsumerGroup>(object.clone()).unwrap();
    let message = serde_json::from_value::<Document>(object).unwrap_err().to_string();
    assert!(message.contains("unknown field `fromTheFuture`"), "{message}");
}

/// The API server's part that this test plays itself: types, fields that must be there, choices, bounds.
fn breaks_schema(schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let number = |key: &str| schema[key].as_f64();
    let beyond = |size: usize, min: &str, max: &str| {
        let size = f64::from(u32::try_from(size).unwrap());
        number(min).is_some_and(|min| size < min) || number(max).is_some_and(|max| size > max)
    };
    let right_type = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        _ => value.is_string() || value.is_i64() || value.is_u64(),
    };
    let in_choice = schema["enum"].as_array().is_none_or(|choice| choice.contains(value));
    let in_bounds = match value {
        Value::Number(_) => value.as_f64().is_some_and(|v| {
            number("minimum").is_none_or(|min| v >= min) && number("maximum").is_none_or(|max| v <= max)
        }),
        Value::String(text) => !beyond(text.chars().count(), "minLength", "maxLength"),
        Value::Array(items) => !beyond(items.len(), "minItems", "maxItems"),
        _ => true,
    };
    let repeated = value.as_array().is_some_and(|items| {
        let key = schema["x-kubernetes-list-map-keys"][0].as_str();
        let mut seen = BTreeSet::new();
        items.iter().any(|item| !seen.insert(key.map_or(item, |key| &item[key]).to_string()))
    });
    if !right_type || !in_choice || !in_bounds || repeated {
        found.push(path.to_owned());
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.is_object() && value.get(name).is_none() {
            found.push(format!("{path}.{name}"));
        }
    }
    for (name, property) in value.as_object().into_iter().flatten() {
        if let Some(schema) = schema["properties"].get(name) {
            breaks_schema(schema, property, format!("{path}.{name}").trim_start_matches('.'), found);
        }
    }
    for item in value.as_array().into_iter().flatten() {
        breaks_schema(&schema["items"], item, &format!("{path}[]"), found);
    }
}

/// What the API server would say to a case: paths that its schema refuses, and messages of CEL.
fn judged(cel: &Validator, schema: &Value, compiled: &CompiledSchema, case: &Case) -> (Vec<String>, Vec<String>) {
    let mut paths = Vec::new();
    breaks_schema(schema, &case.object, "", &mut paths);
    if !paths.is_empty() {
        return (paths, Vec::new());
    }
    let before = case.before.as_ref().map(|before| defaulted(schema, before));
    let errors = cel.validate_compiled(compiled, &defaulted(schema, &case.object), before.as_ref());
    (
        paths,
        errors.err().into_iter().flat_map(kube_cel::ValidationErrors::into_vec).map(|error| error.message).collect(),
    )
}

#[test]
fn cel_and_schema_decide_as_the_cases_say() {
    let schema = schema();
    let compiled = compile_schema(&schema);
    assert!(!compiled.has_errors(), "{:?}", compiled.compilation_errors());
    let cel = Validator::new();
    for case in fixtures::cases().into_iter().filter(|case| case.only != Some(Mode::File)) {
        let (paths, messages) = judged(&cel, &schema, &compiled, &case);
        match &case.refused {
            None => assert!(paths.is_empty() && messages.is_empty(), "{}: {paths:?} {messages:?}", case.name),
            Some(refusal) => {
                let said = refusal
                    .message
                    .as_ref()
                    .is_some_and(|expected| messages.iter().any(|message| message.ends_with(expected)));
                let kept_out = refusal.message.is_none() && paths.iter().any(|path| path == refusal.field);
                assert!(said || kept_out, "{}: {paths:?} {messages:?}", case.name);
            }
        }
    }
}

#[test]
fn this_crate_decides_as_the_cases_say() {
    for case in fixtures::cases() {
        // A value that can't even be read is refused as well; the parser then says where.
        let cluster = || {
            let new: crate::ConsumerGroup = serde_json::from_value(case.object.clone()).ok()?;
            let mut found = new.validate().err().map_or_else(Vec::new, |violations| violations.0);
            if let Some(before) = &case.before {
                let old: crate::ConsumerGroup = serde_json::from_value(before.clone()).unwrap();
                found.extend(new.spec.validate_change(&old.spec).err().into_iter().flat_map(|violations| violations.0));
            }
            Some(found)
        };
        let file = || {
            let document: Document = serde_json::from_value(case.object.clone()).ok()?;
            Some(document.validate().err().map_or_else(Vec::new, |violations| violations.0))
        };
        let cluster = (case.only != Some(Mode::File)).then(cluster);
        let file = (case.only != Some(Mode::Cluster)).then(file);
        for found in [cluster, file].into_iter().flatten() {
            match (&case.refused, found) {
                (None, found) => assert_eq!(found, Some(Vec::new()), "{}", case.name),
                (Some(_), None) => {}
                (Some(refusal), Some(found)) => {
                    assert!(found.iter().any(|it| it.path == refusal.field), "{}: {found:?}", case.name);
                }
            }
        }
    }
}

#[test]
fn every_rule_has_cases_on_both_sides_and_every_case_a_name_of_its_own() {
    let cases = fixtures::cases();
    let names: BTreeSet<_> = cases.iter().map(|case| &case.name).collect();
    assert_eq!(names.len(), cases.len());
    for rule in rules::all() {
        let message = format!("must be {}: {}", rule.expected(), rule.advice);
        let refused = cases.iter().filter_map(|case| case.refused.as_ref()).any(|refusal| match &refusal.message {
            Some(said) => refusal.field == rule.path && *said == message,
            None => refusal.field == rule.path && matches!(rule.demand, Demand::Number { .. } | Demand::List { .. }),
        });
        let accepted = cases.iter().any(|case| case.refused.is_none() && case.name.starts_with(rule.path));
        let decided_by_type = rule.path == "spec.instance.caBundle.file";
        assert!(refused, "no case breaks {}: {message}", rule.path);
        assert!(accepted || decided_by_type, "no case keeps {}", rule.path);
    }
}

#[test]
fn no_rule_costs_more_than_the_api_server_spends() {
    let schema = schema();
    let compiled = compile_schema(&schema);
    walk(&schema, "", &mut |path, node| {
        for validation in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let rule = validation["rule"].as_str().unwrap();
            let warnings = estimate_rule_cost(rule, &compiled);
            assert!(warnings.is_empty(), "{path}: {rule}: {warnings:?}");
        }
    });
}

/// Decides by a form's CEL.
fn matches(cel: &Validator, schema: &CompiledSchema, text: &str) -> bool {
    cel.validate_compiled(schema, &json!(text), None).is_ok()
}

#[test]
fn a_form_is_the_same_by_hand_and_in_cel() {
    let compiled = form::ALL.map(|form| {
        let rule = json!({"rule": form.cel, "message": "no"});
        (form, compile_schema(&json!({"type": "string", "x-kubernetes-validations": [rule]})))
    });
    let cel = Validator::new();
    let config = ProptestConfig::with_cases(128);
    proptest!(config, |(
        any in "\\PC{0,12}",
        near in "[a-zA-Z0-9._:/@|, -]{0,8}",
        arn in "acs:ram::[!-~ ]{0,4}:(role|oidc-provider)/[!-~ ]{0,4}",
        host in "[a-z_-]{1,3}([.:][a-z0-9-]{0,3}){0,3}",
        version in "([a-z.-]{0,4}/)?v?[a-z0-9A-Z]{0,3}",
    )| {
        for (form, schema) in &compiled {
            // What looks like IPv6 is not looked at closely in CEL.
            let is_loose = |text: &str| std::ptr::eq(*form, &raw const form::HOST) && text.contains(':');
            for text in [&any, &near, &arn, &host, &version] {
                let (by_hand, in_cel) = (form.fits(text), matches(&cel, schema, text));
                prop_assert!(by_hand == in_cel || in_cel && is_loose(text), "{text:?}, {}: {by_hand}", form.expected);
            }
        }
    });
}

#[test]
fn a_duration_is_the_same_by_hand_and_in_cel() {
    let mut schema = schema();
    let schema = compile_schema(node(&mut schema, "spec.delivery.leaseDuration").unwrap());
    let range = crate::Duration::from_secs(1)..=crate::Duration::from_secs(28);
    let cel = Validator::new();
    let config = ProptestConfig::with_cases(512);
    proptest!(config, |(text in "([0-9]{0,4}(h|ms|s|m|d|)){0,4}", millis in 0u64..60_000)| {
        for text in [text, crate::Duration::from_millis(millis).to_string()] {
            let by_hand = text.parse().is_ok_and(|duration: crate::Duration| range.contains(&duration));
            prop_assert_eq!(by_hand, matches(&cel, &schema, &text), "{}", text);
        }
    });
}
