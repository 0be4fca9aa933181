//! The gateway's order of questions, without sockets. Time is paused: only the tests let it pass.

use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::rpc::{self, Nonce, Params, acs3};
use sluice_cloud::secret::SecretString;

use super::*;
use crate::clock::Clock;
use crate::config::{AccessKeyEntry, TokenEntry};
use crate::limits::Limits;
use crate::pattern::Pattern;
use crate::platform::Platform;

/// A call as a client makes it, before a test spoils it.
struct Made {
    method: &'static str,
    params: Params,
    key: AccessKey,
    at: Timestamp,
    nonce: Nonce,
}

fn key(id: &str, secret: &str) -> AccessKey {
    AccessKey::try_new(id, secret.into(), None).unwrap()
}

fn made(query: &str) -> Made {
    let nonce = Nonce::from_bits(rand::random());
    let params = Params::parse(query).unwrap();
    Made { method: "GET", params, key: key("testid", "testsecret"), at: Timestamp::now(), nonce }
}

/// A call of an action that works.
fn status() -> Made {
    made("Action=QueryConsumerGroupStatus&Version=2018-01-20&GroupId=g&IotInstanceId=one&Format=JSON")
}

impl Made {
    fn of(mut self, id: &str, secret: &str) -> Self {
        self.key = key(id, secret);
        self
    }

    fn at(mut self, at: Timestamp) -> Self {
        self.at = at;
        self
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.params.set(name, value);
        self
    }

    /// The parameters with their signature.
    fn signed(&self) -> Params {
        let mut params = self.params.clone();
        params.set("AccessKeyId", self.key.id());
        params.set("SignatureMethod", "HMAC-SHA1");
        params.set("SignatureVersion", "1.0");
        params.set("SignatureNonce", self.nonce.as_str());
        params.set("Timestamp", rpc::format_timestamp(self.at));
        if let Some(token) = self.key.security_token() {
            params.set("SecurityToken", token.expose());
        }
        let signature = rpc::sign(self.method, &params, self.key.secret());
        params.with("Signature", signature)
    }

    fn received(&self) -> Received {
        get(self.signed().encode().expose())
    }

    /// The same under the newer signature.
    fn received_newer(&self) -> Received {
        let mut query = self.params.clone();
        let (action, version) = (query.get("Action").unwrap().to_owned(), query.get("Version").unwrap().to_owned());
        query = query.iter().filter(|(name, _)| !matches!(*name, "Action" | "Version" | "Format")).collect();
        let at = rpc::format_timestamp(self.at);
        let hash = acs3::content_sha256(b"");
        let mut headers: Vec<(String, String)> = [
            ("host", "iot.cn-shanghai.aliyuncs.com"),
            ("x-acs-action", &action),
            ("x-acs-version", &version),
            ("x-acs-date", &at),
            ("x-acs-signature-nonce", self.nonce.as_str()),
            ("x-acs-content-sha256", &hash),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec();
        if let Some(token) = self.key.security_token() {
            headers.push(("x-acs-security-token".to_owned(), token.expose().to_owned()));
        }
        let request = acs3::Request { method: "POST", path: "/", query: &query, headers: &headers, body: b"" };
        let authorization = acs3::sign(&request, self.key.id(), self.key.secret());
        headers.push(("authorization".to_owned(), authorization));
        let query = query.encode().expose().to_owned();
        Received { method: "POST".into(), path: "/".into(), query, headers, body: Vec::new() }
    }
}

fn get(query: &str) -> Received {
    let headers = vec![("host".to_owned(), "iot.cn-shanghai.aliyuncs.com".to_owned())];
    Received { method: "GET".into(), path: "/".into(), query: query.to_owned(), headers, body: Vec::new() }
}

fn service() -> Service {
    let clock = Clock::start();
    let platform = Platform::new(Arc::default(), [], 0, 1);
    let hub = Arc::new(Hub::new(clock, platform, crate::instances::single("g")));
    let blind =
        AccessKeyEntry { permissions: vec![Pattern::new("iot:sub")], ..AccessKeyEntry::new("blindid", "secret") };
    let rich = AccessKeyEntry { account: Some("2".into()), ..AccessKeyEntry::new("otherid", "othersecret") };
    let token = |token: &str, expires_at_ms| TokenEntry {
        access_key_id: "STS.testid".into(),
        access_key_secret: "stssecret".into(),
        security_token: token.into(),
        expires_at_ms,
        account: None,
        permissions: vec![Pattern::new("*")],
    };
    let tokens = [token("live+/=", None), token("dead", Some(1))];
    let keys = [AccessKeyEntry::new("testid", "testsecret"), blind, rich];
    let accounts = Accounts::new("1000000000000001", &keys, &tokens, Vec::new(), Vec::new());
    Service::new(hub, Arc::new(Mutex::new(accounts)), OpenApi::default(), Sts::default())
}

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
