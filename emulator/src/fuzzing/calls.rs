//! Calls of the API, made of whatever comes.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use sluice_cloud::rpc::{self, Params, acs3};
use sluice_cloud::secret::SecretString;

use super::setting::{ACCOUNT, KEY, SECRET, hub, key};
use crate::accounts::Accounts;
use crate::clock::{Micros, Now};
use crate::config::{OpenApi, ProviderEntry, RoleEntry, ServiceAccountEntry, Sts, TrustEntry};
use crate::devices::{Devices, Plan, SharedRegistry};
use crate::openapi::{Received, Service};
use crate::pattern::Pattern;
use crate::terms::Terms;

/// Calls in one input, at most.
const CALLS: usize = 16;
/// The largest part of an input that is one call.
const LARGEST: usize = 64 * 1024;
const ROLE: &str = "acs:ram::1:role/r";
const PROVIDER: &str = "acs:ram::1:oidc-provider/p";
const PROVIDER_KEYS: &str = include_str!("../openapi/oidc/test-key.pub.pem");
/// When the first call is made, in Unix µs.
const START_US: u64 = 1_800_000_000_000_000;

/// Makes the calls that these bytes say, one after the other, and checks that each is answered in the way of this API.
///
/// Calls are separated by a zero byte. The first byte of each says its method and how it is signed, so that a fuzzer gets
/// past the signature; then come the query, on a line of its own, headers as `name: value`, an empty line, and the body.
///
/// # Panics
/// When an answer is none: that is a bug.
pub fn fuzz_calls(request: &[u8]) {
    let service = service();
    for (n, part) in request.split(|byte| *byte == 0).take(CALLS).enumerate() {
        let us = n as u64 * 300_000;
        let now = Now { mono: Micros::new(us), unix_us: START_US + us };
        let reply = service.handle_at(received(&part[..part.len().min(LARGEST)], n, now), now);
        assert!(matches!(reply.status, 200 | 400..=499 | 503), "{} {}", reply.status, reply.text);
        if reply.content_type.contains("json") {
            let answer: Value = serde_json::from_str(&reply.text).unwrap_or_default();
            assert!(answer["RequestId"].is_string(), "{}", reply.text);
        } else {
            assert!(reply.text.starts_with("<?xml") && reply.text.contains("<RequestId>"), "{}", reply.text);
        }
    }
}

fn service() -> Service {
    let terms = Arc::new(Terms::default());
    let hub = hub(&terms, START_US / 1_000);
    let subject = ServiceAccountEntry { provider: PROVIDER.into(), subject: Pattern::new("*") };
    let role = RoleEntry {
        arn: ROLE.into(),
        permissions: vec![Pattern::new("iot:*")],
        max_session: Duration::from_hours(1),
        trust: TrustEntry { accounts: vec![ACCOUNT.into()], service_accounts: vec![subject] },
    };
    let provider = ProviderEntry {
        arn: PROVIDER.into(),
        issuer: "i".into(),
        audiences: vec!["sts.aliyuncs.com".into()],
        keys_file: None,
        keys: Some(PROVIDER_KEYS.into()),
    };
    let accounts = Accounts::new(ACCOUNT, &[key()], &[], vec![role], vec![provider]);
    let devices = SharedRegistry::default();
    Devices::new(&Plan::new("pk", 0, 2, 1), Arc::clone(&devices));
    let service = Service::new(hub, Arc::new(Mutex::new(accounts)), terms, OpenApi::default(), Sts::default());
    service.reaching(devices)
}

/// How a call is to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signing {
    /// As it comes.
    None,
    /// In the query.
    Query,
    /// In the headers.
    Headers,
}

fn received(part: &[u8], n: usize, now: Now) -> Received {
    let (mode, rest) = part.split_first().map_or((0, part), |(mode, rest)| (*mode, rest));
    let method = ["GET", "POST", "PUT", ""][usize::from(mode >> 2 & 3)].to_owned();
    let (head, body) = match rest.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&rest[..at], rest[at + 2..].to_vec()),
        None => (rest, Vec::new()),
    };
    let head = String::from_utf8_lossy(head).into_owned();
    let mut lines = head.split('\n');
    let query = lines.next().unwrap_or_default().to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let path = if mode & 0x80 == 0 { "/" } else { "/x" }.to_owned();
    let call = Received { method, path, query, headers, body };
    let at = Timestamp::from_microsecond(i64::try_from(now.unix_us).unwrap_or_default()).unwrap_or_default();
    match [Signing::None, Signing::Query, Signing::Headers, Signing::Query][usize::from(mode & 3)] {
        Signing::None => call,
        Signing::Query => signed_in_query(call, n, at),
        Signing::Headers => signed_in_headers(call, n, at),
    }
}

fn signed_in_query(call: Received, n: usize, at: Timestamp) -> Received {
    let Ok(params) = Params::parse(&call.query) else { return call };
    let params = params
        .with("AccessKeyId", KEY)
        .with("SignatureMethod", "HMAC-SHA1")
        .with("SignatureVersion", "1.0")
        .with("SignatureNonce", n.to_string())
        .with("Timestamp", rpc::format_timestamp(at));
    // What a form says is signed as well.
    let mut all = params.clone();
    if str::from_utf8(&call.body).is_ok_and(|body| all.read(body).is_err()) {
        return call;
    }
    let signature = rpc::sign(&call.method, &all, &SecretString::new(SECRET));
    Received { query: params.with("Signature", signature).encode().expose().to_owned(), ..call }
}

fn signed_in_headers(mut call: Received, n: usize, at: Timestamp) -> Received {
    let Ok(query) = Params::parse(&call.query) else { return call };
    let named = |name: &str| query.get(name).unwrap_or_default().to_owned();
    for (name, value) in [
        ("host", "localhost".to_owned()),
        ("x-acs-action", named("Action")),
        ("x-acs-version", named("Version")),
        ("x-acs-date", rpc::format_timestamp(at)),
        ("x-acs-signature-nonce", n.to_string()),
        ("x-acs-content-sha256", acs3::content_sha256(&call.body)),
    ] {
        if !call.headers.iter().any(|(found, _)| found == name) {
            call.headers.push((name.to_owned(), value));
        }
    }
    let request = acs3::Request {
        method: &call.method,
        path: &call.path,
        query: &query,
        headers: &call.headers,
        body: &call.body,
    };
    let authorization = acs3::sign(&request, KEY, &SecretString::new(SECRET));
    call.headers.push(("authorization".to_owned(), authorization));
    call
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ACTIONS: &[&str] = &[
        "CreateConsumerGroup",
        "UpdateConsumerGroup",
        "DeleteConsumerGroup",
        "QueryConsumerGroupByGroupId",
        "QueryConsumerGroupList",
        "QueryConsumerGroupStatus",
        "ResetConsumerGroupPosition",
        "CreateSubscribeRelation",
        "UpdateSubscribeRelation",
        "QuerySubscribeRelation",
        "DeleteSubscribeRelation",
        "CreateConsumerGroupSubscribeRelation",
        "DeleteConsumerGroupSubscribeRelation",
        "AssumeRole",
        "AssumeRoleWithOIDC",
        "Pub",
        "RRpc",
        "GetDeviceStatus",
        "BatchGetDeviceState",
        "Explode",
    ];
    const NAMES: &[&str] = &[
        "GroupId",
        "GroupName",
        "NewGroupName",
        "ProductKey",
        "Type",
        "ConsumerGroupIds.1",
        "ConsumerGroupIds.2",
        "ConsumerGroupId",
        "DeviceDataFlag",
        "MnsConfiguration",
        "CurrentPage",
        "PageSize",
        "Fuzzy",
        "RoleArn",
        "RoleSessionName",
        "DurationSeconds",
        "OIDCProviderArn",
        "OIDCToken",
        "SecurityToken",
        "Signature",
        "Timestamp",
        "Format",
        "RegionId",
        "DeviceName",
        "DeviceName.1",
        "IotId",
        "IotId.1",
        "TopicFullName",
        "Topic",
        "MessageContent",
        "RequestBase64Byte",
        "Qos",
        "Timeout",
    ];
    const VALUES: &[&str] = &[
        "",
        "g",
        "true",
        "false",
        "AMQP",
        "MNS",
        "0",
        "1",
        "1000",
        "18446744073709551615",
        "-1",
        "pk",
        "group_name",
        "%E6%B6%88%E8%B4%B9",
        "%00%01",
        "DEFAULT_GROUP",
        "JSON",
        "XML",
        ROLE,
        PROVIDER,
        "someone",
        "900",
        "a.b.c",
        "eyJhbGciOiJSUzI1NiJ9.e30.AA",
    ];

    /// A call that is nearly right.
    fn nearly() -> impl Strategy<Value = Vec<u8>> {
        let versions = prop::sample::select(vec!["2018-01-20", "2018-01-20", "2015-04-01", "1"]);
        let params = prop::collection::vec((prop::sample::select(NAMES), prop::sample::select(VALUES)), 0..6);
        let bodies = prop_oneof![Just(String::new()), Just("\n\nGroupId=g".to_owned()), "\n\n[ -~]{0,20}"];
        (any::<u8>(), prop::sample::select(ACTIONS), versions, params, bodies).prop_map(
            |(mode, action, version, params, body)| {
                let mut call = vec![mode & 0x07];
                call.extend(format!("Action={action}&Version={version}&IotInstanceId=i").bytes());
                for (name, value) in params {
                    call.extend(format!("&{name}={value}").bytes());
                }
                call.extend(body.bytes());
                call
            },
        )
    }

    proptest! {
        #[test]
        fn rubbish_is_answered(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            fuzz_calls(&bytes);
        }

        #[test]
        fn so_is_what_is_nearly_right(calls in prop::collection::vec(nearly(), 1..8)) {
            fuzz_calls(&calls.join(&0));
        }
    }

    #[test]
    fn a_fuzzer_gets_past_the_signature_either_way() {
        let service = service();
        let now = Now { mono: Micros::default(), unix_us: START_US };
        let query = "Action=QueryConsumerGroupStatus&Version=2018-01-20&IotInstanceId=i&GroupId=g&Format=JSON";
        for (n, (mode, status)) in [(0, 400), (1, 200), (2, 200), (5, 200), (6, 200)].into_iter().enumerate() {
            let call = [&[mode], query.as_bytes()].concat();
            let reply = service.handle_at(received(&call, n, now), now);
            assert_eq!(reply.status, status, "{mode} {}", reply.text);
            assert!(status == 400 || reply.text.contains("\"Success\":true"), "{mode} {}", reply.text);
        }
    }
}
