use serde_json::{Value, json};

use super::*;
use crate::group::fixtures;

/// A role that is taken on with what is sent to STS.
fn role(change: impl FnOnce(&mut Value)) -> Source {
    let object = fixtures::object(|object| {
        let arns = ["acs:ram::1234567890123456:role/r", "acs:ram::1234567890123456:oidc-provider/p"];
        object["spec"]["credentials"] = json!({"workloadIdentity": {
            "roleArn": arns[0], "oidcProviderArn": arns[1], "serviceAccountName": "consumer",
        }});
        change(object);
    });
    let spec = &object.spec;
    Source::of("plant-a", "telemetry", &spec.instance, spec.credentials.source(), None).unwrap()
}

fn missing() -> Certificates {
    Err(Missing { words: "ConfigMap ca does not exist: create it".into(), passing: true })
}

#[test]
fn without_the_certificates_to_trust_no_token_is_sent() {
    let policy = EndpointPolicy::default();
    let role = role(|_| {});
    assert_eq!(may_be_asked(&role, &Ok(None), &policy), Ok(()));
    assert_eq!(may_be_asked(&role, &missing(), &policy), Err(SourceError::Untrusted));
    let object = fixtures::object(|_| {});
    let spec = &object.spec;
    let secret = Source::of("plant-a", "telemetry", &spec.instance, spec.credentials.source(), None).unwrap();
    assert_eq!(may_be_asked(&secret, &missing(), &policy), Ok(()), "nothing is sent to read a Secret");
}

#[test]
fn a_token_is_sent_to_sts_alone_unless_it_is_listed() {
    let bucket = role(|object| object["spec"]["instance"]["stsEndpoint"] = json!("sts.oss-cn-shanghai.aliyuncs.com"));
    let refused = may_be_asked(&bucket, &Ok(None), &EndpointPolicy::default());
    assert!(matches!(refused, Err(SourceError::NotAllowed(_))), "{refused:?}");
    let listed = EndpointPolicy::with(["sts.oss-cn-shanghai.aliyuncs.com:443"]).unwrap();
    assert_eq!(may_be_asked(&bucket, &Ok(None), &listed), Ok(()));
}

#[test]
fn certificates_are_read_before_they_are_relied_on() {
    let authority = rcgen::generate_simple_self_signed(vec!["iot.test".to_owned()]).unwrap();
    let good = authority.cert.pem();
    assert_eq!(certificates(&good, "pem", false), Ok(Some(good.as_str().into())));
    for bad in [
        "",
        "ca",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        &format!("{good}-----BEGIN CERTIFICATE-----\n!"),
    ] {
        let Err(missing) = certificates(bad, "key ca.crt of ConfigMap ca", true) else { panic!("{bad}") };
        assert!(missing.passing && missing.words.starts_with("key ca.crt of ConfigMap ca: "), "{}", missing.words);
    }
}
