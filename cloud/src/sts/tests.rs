//! The two calls as documented, and that no secret gets into a message.

use super::*;
use crate::rpc::Nonce;

const ANSWER: &str = r#"{
  "RequestId": "964E0EC5-575B-4FF5-8FD0-D4BD8025602A",
  "AssumedRoleUser": {"Arn": "acs:ram::1234567890123456:role/reader/sluice", "AssumedRoleId": "3467:sluice"},
  "Credentials": {
    "AccessKeyId": "STS.testid",
    "AccessKeySecret": "hush1",
    "SecurityToken": "hush2",
    "Expiration": "2026-11-20T13:00:00Z"
  }
}"#;

fn role() -> RoleArn {
    RoleArn::try_new("acs:ram::1234567890123456:role/reader").unwrap()
}

fn assume() -> AssumeRole {
    AssumeRole {
        role: role(),
        session: SessionName::try_new("sluice").unwrap(),
        duration: SessionDuration::default(),
        external_id: None,
    }
}

fn with_token() -> AssumeRoleWithOidc {
    AssumeRoleWithOidc {
        role: role(),
        session: SessionName::try_new("sluice").unwrap(),
        duration: SessionDuration::try_new(Duration::from_millis(900_999)).unwrap(),
        provider_arn: "acs:ram::1234567890123456:oidc-provider/ack".into(),
        token: "hush3".into(),
    }
}

#[test]
fn a_role_is_assumed_with_a_signed_call() {
    let call = AssumeRole { external_id: Some("x".into()), ..assume() }.call();
    assert_eq!((call.action, call.version), ("AssumeRole", "2015-04-01"));
    assert_eq!(
        call.params.iter().collect::<Vec<_>>(),
        [
            ("DurationSeconds", "3600"),
            ("ExternalId", "x"),
            ("RoleArn", "acs:ram::1234567890123456:role/reader"),
            ("RoleSessionName", "sluice"),
        ]
    );
}

#[test]
fn a_role_is_assumed_with_a_token_in_an_unsigned_call() {
    let call = with_token().call();
    assert_eq!(call.params.get("OIDCToken"), Some("hush3"));
    assert_eq!(call.params.get("OIDCProviderArn"), Some("acs:ram::1234567890123456:oidc-provider/ack"));
    assert_eq!(call.params.get("DurationSeconds"), Some("900"));
    let query = call.unsigned("2026-11-20T12:00:00Z".parse().unwrap(), &Nonce::from_bits(1));
    let names: Vec<_> = query.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["Action", "Format", "SignatureNonce", "Timestamp", "Version"]);
}

#[test]
fn a_session_is_read_with_its_end() {
    for session in [assume().read(ANSWER.as_bytes()).unwrap(), with_token().read(ANSWER.as_bytes()).unwrap()] {
        assert_eq!(session.key.id(), "STS.testid");
        assert_eq!(session.key.secret().expose(), "hush1");
        assert_eq!(session.key.security_token().unwrap().expose(), "hush2");
        assert_eq!(session.expires, "2026-11-20T13:00:00Z".parse().unwrap());
        assert!(!format!("{session:?}").contains("hush"));
    }
    assert!(!format!("{:?} {:?}", with_token(), with_token().call()).contains("hush"));
}

#[test]
fn a_session_lasts_as_long_as_sts_says_by_its_own_clock_and_not_longer_than_asked() {
    let session = assume().read(ANSWER.as_bytes()).unwrap();
    let lifetime = |date: &str| session.lifetime(SessionDuration::default(), Some(date.parse().unwrap())).as_secs();
    assert_eq!(lifetime("2026-11-20T12:00:00Z"), 3600);
    assert_eq!(lifetime("2026-11-20T12:59:00Z"), 60);
    assert_eq!(lifetime("2026-11-20T13:59:00Z"), 0);
    assert_eq!(lifetime("2020-11-20T12:00:00Z"), 3600);
    assert_eq!(session.lifetime(SessionDuration::default(), None).as_secs(), 3600);
}

#[test]
fn an_answer_that_can_t_be_used_says_why_without_a_secret() {
    for (from, to) in [
        ("\"hush1\"", "[\"hush1\"]"),
        ("\"hush2\"", "17"),
        ("\"SecurityToken\": \"hush2\",", ""),
        ("2026-11-20T13:00:00Z", "soon"),
        ("hush1", "hush 1"),
        ("STS.testid", ""),
        ("}\n}", "}"),
    ] {
        let body = ANSWER.replace(from, to);
        assert_ne!(body, ANSWER, "{from}");
        let error = assume().read(body.as_bytes()).unwrap_err();
        assert!(!error.to_string().contains("hush"), "{error}");
    }
}

#[test]
fn what_sts_would_refuse_is_refused_here() {
    for arn in [
        "",
        "reader",
        "acs:ram::1:role/",
        "acs:ram::x:role/reader",
        "acs:ram:::role/reader",
        "acs:ram::1:user/reader",
        "acs:ram::1:role/a b",
    ] {
        assert_eq!(RoleArn::try_new(arn), Err(StsError::RoleArn(arn.to_owned())));
    }
    assert_eq!(role().account(), "1234567890123456");
    assert_eq!(RoleArn::try_new("acs:ram::1:role/path/reader").unwrap().to_string(), "acs:ram::1:role/path/reader");
    for name in ["", "a", "a b", "消费", &"a".repeat(65)] {
        assert_eq!(SessionName::try_new(name), Err(StsError::SessionName(name.to_owned())));
    }
    assert_eq!(SessionName::try_new("a.B@9-_").unwrap().as_str(), "a.B@9-_");
    for seconds in [0, 899, 43_201] {
        let duration = Duration::from_secs(seconds);
        assert_eq!(SessionDuration::try_new(duration), Err(StsError::Duration(duration)));
    }
    assert_eq!(host("cn-shanghai", false), "sts.cn-shanghai.aliyuncs.com");
    assert_eq!(host("cn-shanghai", true), "sts-vpc.cn-shanghai.aliyuncs.com");
}
