use serde_json::{Value, json};

use super::*;
use crate::group::dereference::Missing;
use crate::group::fixtures;

fn problems(change: impl FnOnce(&mut Value)) -> Vec<Problem> {
    let object = fixtures::object(change);
    let world = fixtures::world(&object, 1);
    validate(&object, &world, &EndpointPolicy::default()).unwrap_err()
}

fn reasons(problems: &[Problem]) -> Vec<Reason> {
    problems.iter().map(|problem| problem.reason).collect()
}

#[test]
fn a_good_object_is_carried_on_in_a_form_that_needs_no_doubt() {
    let object = fixtures::object(|_| {});
    let valid = fixtures::validated(&object, &fixtures::world(&object, 1));
    assert_eq!(valid.amqp.to_string(), "iot-1.amqp.iothub.aliyuncs.com:5671");
    assert_eq!(valid.api.unwrap().to_string(), "iot.cn-shanghai.aliyuncs.com:443");
    assert_eq!(valid.platform, PlatformGroup { instance: "iot-1".into(), group_id: "DEFAULT_GROUP".into() });
    assert_eq!(valid.generation, 3);
}

#[test]
fn an_instance_without_an_id_is_the_account_s() {
    let object = fixtures::object(|object| {
        object["spec"]["instance"]["id"].take();
        object["spec"]["instance"]["accountId"] = json!("1234567890123456");
    });
    assert_eq!(fixtures::validated(&object, &fixtures::world(&object, 1)).platform.instance, "1234567890123456");
    let none = problems(|object| {
        object["spec"]["instance"]["id"].take();
    });
    assert!(reasons(&none).iter().all(|reason| *reason == Reason::Invalid));
}

#[test]
fn credentials_go_to_allowed_endpoints_only() {
    for (field, endpoint) in [
        ("amqpHost", "iot.evil.example"),
        ("apiEndpoint", "iot.evil.example"),
        ("apiEndpoint", "iot.aliyuncs.com.evil.example:443"),
    ] {
        let found = problems(|object| object["spec"]["instance"][field] = json!(endpoint));
        assert_eq!(reasons(&found), [Reason::EndpointNotAllowed], "{field} {found:?}");
        assert!(found[0].words.contains(field) && found[0].words.contains("--allow-endpoint"), "{}", found[0].words);
    }
    let role = json!({"assumeRole": {"secretRef": {"name": "keys"}, "roleArn": "acs:ram::1234567890123456:role/r"}});
    let found = problems(|object| {
        object["spec"]["credentials"] = role;
        object["spec"]["instance"]["stsEndpoint"] = json!("sts.evil.example");
    });
    assert!(reasons(&found).contains(&Reason::EndpointNotAllowed), "{found:?}");
    let object = fixtures::object(|_| {});
    let mut world = fixtures::world(&object, 1);
    let refused = EndpointPolicy::default().check_sts(&Endpoint::parse("sts.evil.example", 443).unwrap()).unwrap_err();
    world.link_keys = Err(SourceError::NotAllowed(refused));
    let found = validate(&object, &world, &EndpointPolicy::default()).unwrap_err();
    assert_eq!(reasons(&found), [Reason::EndpointNotAllowed], "{found:?}");
    let object = fixtures::object(|object| object["spec"]["instance"]["amqpHost"] = json!("127.0.0.1"));
    let listed = EndpointPolicy::with(["127.0.0.1:5671"]).unwrap();
    assert!(validate(&object, &fixtures::world(&object, 1), &listed).is_ok());
}

#[test]
fn all_that_is_wrong_is_found_at_once() {
    let found = problems(|object| {
        object["spec"]["limits"] = json!({"clientSlots": 9000});
        object["spec"]["credentials"] = json!({});
        object["spec"]["instance"]["amqpHost"] = json!("iot.evil.example");
    });
    assert!(found.len() >= 3, "{found:?}");
    assert!(found.iter().any(|problem| problem.words.contains("clientSlots")));
    assert!(found.iter().any(|problem| problem.words.contains("exactly one")));
}

#[test]
fn certificates_that_are_missing_may_come_and_a_file_never_will() {
    let object = fixtures::object(|_| {});
    for passing in [true, false] {
        let mut world = fixtures::world(&object, 1);
        world.ca = Err(Missing { words: "ConfigMap ca does not exist: create it".into(), passing });
        let found = validate(&object, &world, &EndpointPolicy::default()).unwrap_err();
        assert_eq!((found[0].reason, found[0].passing), (Reason::CaBundleInvalid, passing));
        // A role waits for them, and that is no second problem, which would not pass.
        world.link_keys = Err(SourceError::Untrusted);
        world.api_keys = Err(SourceError::Untrusted);
        assert_eq!(validate(&object, &world, &EndpointPolicy::default()).unwrap_err(), found);
    }
}
