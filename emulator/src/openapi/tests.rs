//! The gateway's order of questions, without sockets. Time is paused: only the tests let it pass.

mod made;
mod many;

use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::rpc::{self, Params};
use sluice_cloud::secret::SecretString;

pub(crate) use self::made::*;

use super::*;

fn json(reply: &Reply) -> Value {
    assert_eq!(reply.content_type, "application/json;charset=utf-8");
    serde_json::from_str(&reply.text).unwrap()
}

/// The status and the code of a refusal, which has all that a refusal has.
fn refused(service: &Service, received: Received) -> (u16, String) {
    let reply = service.handle(received);
    let answer: Value = if reply.content_type.contains("xml") {
        let between = |tag: &str| {
            let rest = reply.text.split(&format!("<{tag}>")).nth(1).unwrap_or_default();
            rest.split('<').next().unwrap_or_default().to_owned()
        };
        assert!(reply.text.contains("<Error>"), "{}", reply.text);
        ["Code", "Message", "HostId", "RequestId"]
            .iter()
            .map(|&tag| (tag.to_owned(), Value::String(between(tag))))
            .collect()
    } else {
        json(&reply)
    };
    for field in ["Code", "Message", "HostId", "RequestId"] {
        assert!(answer[field].as_str().is_some_and(|text| !text.is_empty()), "{field}: {answer}");
    }
    (reply.status, answer["Code"].as_str().unwrap().to_owned())
}

#[track_caller]
fn assert_refused(service: &Service, received: Received, status: u16, code: &str) {
    assert_eq!(refused(service, received), (status, code.to_owned()));
}

fn succeeds(service: &Service, received: Received) -> bool {
    let reply = service.handle(received);
    reply.status == 200 && json(&reply)["Success"] == true
}

#[tokio::test(start_paused = true)]
async fn a_call_gets_through_by_get_by_form_and_with_either_signature() {
    let service = service();
    let reply = service.handle(status().received());
    let answer = json(&reply);
    assert_eq!((reply.status, &answer["Success"], &answer["AccumulationCount"]), (200, &true.into(), &0.into()));
    let id = answer["RequestId"].as_str().unwrap();
    assert!(id.len() == 36 && id.chars().all(|c| c == '-' || c.is_ascii_digit() || c.is_ascii_uppercase()), "{id}");

    let form = Made { method: "POST", ..status() };
    let body = form.signed().encode().expose().as_bytes().to_vec();
    let of_type = |content_type: &str| {
        let mut received = Received { method: "POST".into(), body: body.clone(), ..get("") };
        received.headers.push(("content-type".into(), content_type.into()));
        received
    };
    assert!(succeeds(&service, of_type("application/x-www-form-urlencoded; charset=utf-8")));
    assert_refused(&service, of_type("application/octet-stream"), 400, "MissingParameter");
    assert!(succeeds(&service, status().received_newer()));
}

#[tokio::test(start_paused = true)]
async fn the_format_is_the_one_that_was_asked_for_and_xml_otherwise() {
    let service = service();
    let xml = Made { params: status().params.iter().filter(|(name, _)| *name != "Format").collect(), ..status() };
    let reply = service.handle(xml.received());
    assert_eq!(reply.content_type, "text/xml;charset=utf-8");
    assert!(reply.text.contains("<QueryConsumerGroupStatusResponse><AccumulatedConsume"), "{}", reply.text);
    let reply = service.handle(status().with("Format", "xml").received());
    assert!(reply.text.ends_with("<Success>true</Success></QueryConsumerGroupStatusResponse>"), "{}", reply.text);
    assert_refused(&service, status().with("Format", "YAML").received(), 400, "InvalidParameter");
    let refused = service.handle(get("Action=X&Version=2018-01-20&Format=JSON"));
    assert_eq!(refused.content_type, "application/json;charset=utf-8");
}

#[tokio::test(start_paused = true)]
async fn what_is_no_call_is_refused_before_anything_else() {
    let service = service();
    for (query, status, code) in [
        ("", 400, "MissingParameter"),
        ("Action=QueryConsumerGroupStatus", 400, "MissingParameter"),
        ("Version=2018-01-20", 400, "MissingParameter"),
        ("Action=QueryConsumerGroupStatus&Version=2017-01-01", 400, "InvalidVersion"),
        ("Action=Explode&Version=2018-01-20", 404, "InvalidAction.NotFound"),
        ("Action=AssumeRole&Version=2018-01-20", 404, "InvalidAction.NotFound"),
        ("Action=QueryConsumerGroupStatus&Version=2018-01-20", 400, "MissingAccessKeyId"),
        ("Action=a&Action=b", 400, "InvalidParameter"),
        ("Action=%zz", 400, "InvalidParameter"),
    ] {
        assert_refused(&service, get(query), status, code);
    }
    assert_refused(&service, Received { path: "/x".into(), ..status().received() }, 404, "InvalidAction.NotFound");
    assert_refused(&service, Received { method: "PUT".into(), ..status().received() }, 405, "UnsupportedHTTPMethod");
    let rubbish = Received { method: "POST".into(), body: vec![0xff; 10], ..get("") };
    assert_refused(&service, rubbish, 400, "InvalidParameter");
}

#[tokio::test(start_paused = true)]
async fn the_signature_must_be_that_of_the_call_and_the_key() {
    let service = service();
    for received in [status().of("testid", "wrong").received(), status().of("testid", "wrong").received_newer()] {
        assert_refused(&service, received, 400, "SignatureDoesNotMatch");
    }
    for received in [status().of("none", "testsecret").received(), status().of("none", "x").received_newer()] {
        assert_refused(&service, received, 404, "InvalidAccessKeyId.NotFound");
    }
    // A signature is that of its method and of every parameter.
    assert_refused(&service, Received { method: "POST".into(), ..status().received() }, 400, "SignatureDoesNotMatch");
    let signed = status().signed().with("GroupId", "other");
    assert_refused(&service, get(signed.encode().expose()), 400, "SignatureDoesNotMatch");
    let without =
        |left_out: &str| -> Params { status().signed().iter().filter(|(name, _)| *name != left_out).collect() };
    for name in ["Signature", "SignatureMethod", "SignatureNonce", "Timestamp", "SignatureVersion"] {
        assert_refused(&service, get(without(name).encode().expose()), 400, "MissingParameter");
    }
    let signed = status().signed().with("SignatureMethod", "HMAC-SHA256");
    assert_refused(&service, get(signed.encode().expose()), 400, "IncompleteSignature");
    let mut newer = status().received_newer();
    newer.headers.retain(|(name, _)| name != "authorization");
    newer.headers.push(("authorization".into(), "Basic dGVzdA==".into()));
    assert_refused(&service, newer, 400, "MissingParameter");
}

#[tokio::test(start_paused = true)]
async fn a_call_is_good_for_fifteen_minutes_and_once() {
    let service = service();
    let now = Timestamp::now();
    for (at, good) in [
        (now.checked_sub(14.minutes()).unwrap(), true),
        (now.checked_add(14.minutes()).unwrap(), true),
        (now.checked_sub(16.minutes()).unwrap(), false),
        (now.checked_add(16.minutes()).unwrap(), false),
    ] {
        for received in [status().at(at).received(), status().at(at).received_newer()] {
            if good {
                assert!(succeeds(&service, received), "{at}");
                tokio::time::advance(Duration::from_secs(1)).await;
            } else {
                assert_refused(&service, received, 400, "InvalidTimeStamp.Expired");
            }
        }
    }
    let unreadable = status().signed().with("Timestamp", "yesterday");
    assert_refused(&service, get(unreadable.encode().expose()), 400, "InvalidTimeStamp.Format");

    let (call, newer) = (status(), status());
    assert!(succeeds(&service, call.received()) && succeeds(&service, newer.received_newer()));
    assert_refused(&service, call.received(), 400, "SignatureNonceUsed");
    assert_refused(&service, newer.received_newer(), 400, "SignatureNonceUsed");
    // A nonce is a key's own, and a wrong signature uses none up.
    let call = status();
    assert_refused(
        &service,
        Made { key: key("testid", "wrong"), ..status_with(&call) }.received(),
        400,
        "SignatureDoesNotMatch",
    );
    assert!(succeeds(&service, call.received()));
}

/// A call with the nonce of another.
fn status_with(other: &Made) -> Made {
    Made { nonce: other.nonce.clone(), ..status() }
}

#[tokio::test(start_paused = true)]
async fn temporary_keys_go_with_their_tokens() {
    let service = service();
    let with = |id: &str, token: Option<&str>| {
        let token = token.map(SecretString::from);
        Made { key: AccessKey::try_new(id, "stssecret".into(), token).unwrap(), ..status() }
    };
    assert!(succeeds(&service, with("STS.testid", Some("live+/=")).received()));
    assert!(succeeds(&service, with("STS.testid", Some("live+/=")).received_newer()));
    for (id, token, code) in [
        ("STS.testid", Some("dead"), "InvalidSecurityToken.Expired"),
        ("STS.testid", Some("other"), "InvalidSecurityToken.Malformed"),
        ("STS.other", Some("live+/="), "InvalidSecurityToken.MismatchWithAccessKey"),
        ("STS.testid", None, "MissingSecurityToken"),
    ] {
        assert_refused(&service, with(id, token).received(), 400, code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_disabled_key_is_refused_and_a_changed_secret_counts_at_once() {
    let service = service();
    let change = |change: crate::accounts::KeyChange| service.accounts().change_key("testid", change).unwrap();
    change(crate::accounts::KeyChange { enabled: Some(false), ..Default::default() });
    assert_refused(&service, status().received(), 400, "InvalidAccessKeyId.Inactive");
    change(crate::accounts::KeyChange { enabled: Some(true), secret: Some("new".into()), ..Default::default() });
    assert_refused(&service, status().received(), 400, "SignatureDoesNotMatch");
    assert!(succeeds(&service, status().of("testid", "new").received()));
}

#[tokio::test(start_paused = true)]
async fn five_calls_a_second_and_account_are_served() {
    let service = service();
    for _ in 0..5 {
        assert!(succeeds(&service, status().received()));
    }
    assert_refused(&service, status().received(), 400, "Throttling.User");
    let other = json(&service.handle(status().of("otherid", "othersecret").received()));
    assert_eq!(other["Code"], "iot.common.InvalidTenant", "another account is served: {other}");
    let in_xml = service.handle(status().with("Format", "XML").received());
    assert!(in_xml.status == 400 && in_xml.text.contains("<Code>Throttling.User</Code>"), "{}", in_xml.text);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(succeeds(&service, status().received()));

    let (calls, rates) = service.counted();
    let own = calls.iter().find(|line| line.account.as_deref() == Some("1000000000000001")).unwrap();
    assert_eq!((own.action, own.tally.succeeded, own.tally.throttled), (Some("QueryConsumerGroupStatus"), 6, 2));
    let peaks: Vec<u64> = rates.iter().map(|rate| rate.peak_per_second).collect();
    assert_eq!(peaks, [7, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_a_key_may_not_do_is_a_failure_of_the_action() {
    let service = service();
    let reply = service.handle(status().of("blindid", "secret").received());
    let answer = json(&reply);
    assert_eq!((reply.status, &answer["Success"]), (200, &false.into()));
    assert_eq!(answer["Code"], "iot.common.RamActionPermissionDeny");
    let (calls, _) = service.counted();
    assert_eq!((calls[0].tally.failed, calls[0].tally.refused), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_to_fail_fails_and_recovers() {
    let service = service();
    let second = Duration::from_secs(1);
    service.misbehave(ApiFault::Throttle, None, second);
    assert_refused(&service, status().received(), 400, "Throttling.User");
    service.misbehave(ApiFault::Unavailable, Some(Product::Iot), second);
    assert_refused(&service, status().received(), 503, "ServiceUnavailable");
    tokio::time::advance(second).await;
    assert!(succeeds(&service, status().received()));
    let tally = service.counted().0.into_iter().fold((0, 0), |(throttled, unavailable), line| {
        (throttled + line.tally.throttled, unavailable + line.tally.unavailable)
    });
    assert_eq!(tally, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_vendors_own_vector_is_a_right_signature() {
    // It is of another API's version and of 2017, so it gets as far as the signature only where those are not asked for.
    let signed = "AccessKeyId=testid&Action=Pub&Format=XML&MessageContent=aGVsbG93b3JsZA%3D&ProductKey=12345abcdeZ&\
        Qos=0&RegionId=cn-shanghai&ServiceCode=iot&SignatureMethod=HMAC-SHA1&\
        SignatureNonce=0715a395-aedf-4a41-bab7-746b43d38d88&SignatureVersion=1.0&Timestamp=2017-10-02T09%3A39%3A41Z&\
        TopicFullName=%2FproductKey%2Ftestdevice%2Fget&Version=2017-04-20&Signature=Y9eWn4nF8QPh3c4zAFkM%2Fk%2Fu7eA%3D";
    let call = Call::read(get(signed)).unwrap();
    assert_eq!(call.check_signature(&"testsecret".into()), Ok(()));
    assert_eq!(call.check_signature(&"other".into()).unwrap_err().code, "SignatureDoesNotMatch");
}

#[tokio::test(start_paused = true)]
async fn the_vendors_vector_of_the_newer_signature_is_right_too() {
    // PLATFORM.md 4.2. It is a call of another service, which the gateway here does not have; its signature it can tell.
    let headers = [
        ("host", "ecs.cn-shanghai.aliyuncs.com"),
        ("x-acs-version", "2014-05-26"),
        ("x-acs-action", "RunInstances"),
        ("x-acs-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("x-acs-date", "2023-10-26T10:22:32Z"),
        ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
        (
            "authorization",
            "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;x-acs-content-sha256;x-acs-date;\
             x-acs-signature-nonce;x-acs-version,\
             Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0",
        ),
    ];
    let received = || Received {
        method: "POST".into(),
        path: "/".into(),
        query: "ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd&RegionId=cn-shanghai".into(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        body: Vec::new(),
    };
    let call = Call::read(received()).unwrap();
    assert_eq!((call.action(), call.version()), (Ok("RunInstances"), Ok("2014-05-26")));
    assert_eq!((call.key_id(), call.nonce()), (Ok("YourAccessKeyId"), "3156853299f313e23d1673dc12e1703d"));
    assert_eq!(call.made_at_ms(), Ok(1_698_315_752_000));
    assert_eq!(call.check_signature(&"YourAccessKeySecret".into()), Ok(()));
    assert_eq!(call.check_signature(&"other".into()).unwrap_err().code, "SignatureDoesNotMatch");
    for spoilt in [
        Received { method: "GET".into(), ..received() },
        Received { query: "RegionId=cn-shanghai".into(), ..received() },
        Received { body: b"x".to_vec(), ..received() },
    ] {
        let call = Call::read(spoilt).unwrap();
        assert_eq!(call.check_signature(&"YourAccessKeySecret".into()).unwrap_err().code, "SignatureDoesNotMatch");
    }
    assert_refused(&service(), received(), 400, "InvalidVersion");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_one_too_many_may_be_made_again_as_it_is() {
    let service = service();
    for _ in 0..5 {
        assert!(succeeds(&service, status().received()));
    }
    let call = status();
    for _ in 0..1_000 {
        assert_refused(&service, call.received(), 400, "Throttling.User");
    }
    assert_eq!(service.gate().nonces().len(), 5, "nobody fills the memory with calls that are not served");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert!(succeeds(&service, call.received()));
    assert_refused(&service, call.received(), 400, "SignatureNonceUsed");
}

#[tokio::test(start_paused = true)]
async fn what_the_signature_does_not_cover_does_not_count() {
    let service = service();
    let create = "Action=CreateConsumerGroup&GroupName=sneaked&Version=2018-01-20&IotInstanceId=one";
    let with = |mut call: Received, first: bool, name: &str, value: &str| {
        let at = if first { 0 } else { call.headers.len() };
        call.headers.insert(at, (name.to_owned(), value.to_owned()));
        call
    };
    // Beside a signature in the parameters, headers say nothing: not what is called, not when, and no other nonce.
    let call = status();
    let answer = json(&service.handle(with(call.received(), true, "x-acs-action", "DeleteConsumerGroup")));
    assert_eq!(answer["AccumulationCount"], 0, "{answer}");
    let again = with(call.received(), true, "x-acs-action", "QueryConsumerGroupStatus");
    assert_refused(&service, with(again, true, "x-acs-signature-nonce", "another"), 400, "SignatureNonceUsed");
    let now = Timestamp::now();
    let old = with(made(create).at(now - 24.hours()).received(), true, "x-acs-action", "CreateConsumerGroup");
    let old = with(old, true, "x-acs-date", &rpc::format_timestamp(now));
    assert_refused(&service, old, 400, "InvalidTimeStamp.Expired");
    // Beside one in the headers, none may be there twice.
    for first in [true, false] {
        let call = with(status().received_newer(), first, "x-acs-action", "CreateConsumerGroup");
        assert_refused(&service, call, 400, "InvalidParameter");
    }
}
