//! The rules and values of the OpenAPI, STS and the keys: calls to the gateway at times that are made up.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::rpc::Params;

use super::{Proof, ensure};
use crate::accounts::{Accounts, BadKey};
use crate::clock::{Micros, Now};
use crate::config::{AccessKeyEntry, OpenApi, RoleEntry, Sts, TrustEntry};
use crate::openapi::tests::{END_MS, ISSUER, Made, PROVIDER, ROLE, get, made, service_under};
use crate::openapi::{Service, oidc_tests};
use crate::rules::Rule;
use crate::terms::Terms;

pub(super) const PROOFS: &[Proof] = &[
    Proof::rule(Rule::KeyPermission, a_key_does_what_it_may_and_only_while_it_is_enabled),
    Proof::rule(Rule::KeyAccount, a_key_is_good_for_its_own_account),
    Proof::rule(Rule::TokenLife, a_token_ends),
    Proof::rule(Rule::ApiSignature, a_call_is_signed),
    Proof::rule(Rule::ApiTimestamp, a_call_is_of_now),
    Proof::rule(Rule::ApiNonce, a_call_is_good_once),
    Proof::rule(Rule::ApiRate, so_many_calls_a_second),
    Proof::rule(Rule::StsRate, so_many_sessions_a_second),
    Proof::rule(Rule::OidcSignature, a_token_is_signed_by_its_provider),
    Proof::rule(Rule::GroupsPerProduct, a_product_has_so_many_groups),
    Proof::rule(Rule::ProductsPerGroup, a_group_has_so_many_products),
    Proof::rule(Rule::GroupsPerAccount, an_account_has_so_many_groups),
    Proof::value("stsKey", "Temporary", a_client_signs_with_the_temporary_key),
    Proof::value("stsKey", "Owner", a_client_signs_with_the_key_of_whoever_assumed_the_role),
];

/// When these calls are made.
const START_US: u64 = 1_800_000_000_000_000;

/// A service whose clock shows what it is told.
struct Gateway {
    service: Service,
    now: Now,
}

impl Gateway {
    fn new(terms: Terms, rules: OpenApi) -> Self {
        let service = service_under(terms, rules, Sts::default());
        Self { service, now: Now { mono: Micros::default(), unix_us: START_US } }
    }

    fn pass(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or_default();
        self.now = Now { mono: self.now.mono.after(time), unix_us: self.now.unix_us + us };
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_microsecond(i64::try_from(self.now.unix_us).unwrap_or_default()).unwrap_or_default()
    }

    /// A call of now.
    fn call(&self, query: &str) -> Made {
        made(&format!("{query}&Format=JSON")).at(self.time())
    }

    fn iot(&self, query: &str) -> Made {
        self.call(&format!("{query}&Version=2018-01-20&IotInstanceId=one"))
    }

    fn status(&self) -> Made {
        self.iot("Action=QueryConsumerGroupStatus&GroupId=g")
    }

    /// `ok`, or the code of what stands against it.
    fn says(&self, call: &Made) -> String {
        said(&self.service.handle_at(call.received(), self.now).text)
    }

    /// The same after a second, in which other calls do not count.
    fn says_later(&mut self, query: &str) -> String {
        self.pass(Duration::from_secs(1));
        self.says(&self.iot(query))
    }
}

fn said(text: &str) -> String {
    let answer: Value = serde_json::from_str(text).unwrap_or_default();
    answer["Code"].as_str().unwrap_or("ok").to_owned()
}

fn expect(found: &str, expected: &str, what: &str) -> Result<(), String> {
    ensure(found == expected, format!("{what}: {found}, not {expected}"))
}

fn with_token(call: Made, token: &str) -> Made {
    let key = AccessKey::try_new("STS.testid", "stssecret".into(), Some(token.into()));
    Made { key: key.unwrap_or_else(|_| call.key.clone()), ..call }
}

fn a_key_does_what_it_may_and_only_while_it_is_enabled(terms: Terms) -> Result<(), String> {
    let gateway = Gateway::new(terms, OpenApi::default());
    let call = gateway.status();
    expect(&gateway.says(&call), "ok", "a key that may")?;
    let blind = gateway.status().of("blindid", "secret");
    expect(&gateway.says(&blind), "iot.common.RamActionPermissionDeny", "a key that may not")?;
    let idle = gateway.status().of("idleid", "idlesecret");
    expect(&gateway.says(&idle), "InvalidAccessKeyId.Inactive", "a disabled key")
}

fn a_key_is_good_for_its_own_account(terms: Terms) -> Result<(), String> {
    let gateway = Gateway::new(terms, OpenApi::default());
    let call = gateway.status().of("otherid", "othersecret");
    expect(&gateway.says(&call), "iot.common.InvalidTenant", "another account's key")
}

fn a_token_ends(terms: Terms) -> Result<(), String> {
    let mut gateway = Gateway::new(terms, OpenApi::default());
    gateway.pass(Duration::from_millis(END_MS - 1 - START_US / 1_000));
    expect(&gateway.says(&with_token(gateway.status(), "dying")), "ok", "in its last moment")?;
    gateway.pass(Duration::from_millis(1));
    let late = with_token(gateway.status(), "dying");
    expect(&gateway.says(&late), "InvalidSecurityToken.Expired", "after it")
}

fn a_call_is_signed(terms: Terms) -> Result<(), String> {
    let gateway = Gateway::new(terms, OpenApi::default());
    expect(&gateway.says(&gateway.status()), "ok", "the right secret")?;
    let call = gateway.status().of("testid", "wrong");
    expect(&gateway.says(&call), "SignatureDoesNotMatch", "another secret")?;
    let newer = gateway.service.handle_at(call.received_newer(), gateway.now);
    expect(&said(&newer.text), "SignatureDoesNotMatch", "another secret under the newer signature")
}

fn a_call_is_of_now(terms: Terms) -> Result<(), String> {
    let gateway = Gateway::new(terms, OpenApi::default());
    let off = |seconds: i64| {
        let at = gateway.time().checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap_or_default();
        gateway.says(&gateway.status().at(at))
    };
    for seconds in [-900, 900] {
        expect(&off(seconds), "ok", "15 min off")?;
    }
    for seconds in [-901, 901] {
        expect(&off(seconds), "InvalidTimeStamp.Expired", "more than that")?;
    }
    Ok(())
}

fn a_call_is_good_once(terms: Terms) -> Result<(), String> {
    let mut gateway = Gateway::new(terms, OpenApi::default());
    let call = gateway.status();
    expect(&gateway.says(&call), "ok", "once")?;
    gateway.pass(Duration::from_mins(15));
    expect(&gateway.says(&call), "SignatureNonceUsed", "again, as late as can be")
}

fn so_many_calls_a_second(terms: Terms) -> Result<(), String> {
    let mut gateway = Gateway::new(terms, OpenApi::default());
    for _ in 0..5 {
        expect(&gateway.says(&gateway.status()), "ok", "the first five")?;
    }
    gateway.pass(Duration::from_millis(999));
    expect(&gateway.says(&gateway.status()), "Throttling.User", "the sixth within a second")?;
    gateway.pass(Duration::from_millis(1));
    expect(&gateway.says(&gateway.status()), "ok", "the next second")
}

fn so_many_sessions_a_second(terms: Terms) -> Result<(), String> {
    let gateway = Gateway::new(terms, OpenApi::default());
    let assume = || gateway.call(&format!("Action=AssumeRole&Version=2015-04-01&RoleArn={ROLE}&RoleSessionName=proof"));
    for _ in 0..100 {
        expect(&gateway.says(&assume()), "ok", "the first hundred")?;
    }
    expect(&gateway.says(&assume()), "Throttling.User", "one more")
}

fn a_token_is_signed_by_its_provider(terms: Terms) -> Result<(), String> {
    let gateway = Gateway::new(terms, OpenApi::default());
    let now_s = START_US / 1_000_000;
    let claims = json!({"iss": ISSUER, "sub": "system:serviceaccount:a:b", "aud": ["sts.aliyuncs.com"],
        "exp": now_s + 600, "iat": now_s});
    let right = oidc_tests::signed(&json!({"alg": "RS256"}), &claims);
    let other = json!({"iss": ISSUER, "sub": "system:serviceaccount:a:c", "aud": ["sts.aliyuncs.com"],
        "exp": now_s + 600, "iat": now_s});
    let other = oidc_tests::signed(&json!({"alg": "RS256"}), &other);
    // The claims of one with the signature of the other.
    let (claimed, _) = right.rsplit_once('.').unwrap_or_default();
    let (_, signature) = other.rsplit_once('.').unwrap_or_default();
    let forged = format!("{claimed}.{signature}");
    let exchange = |token: &str| {
        let params = Params::new()
            .with("Action", "AssumeRoleWithOIDC")
            .with("Version", "2015-04-01")
            .with("Format", "JSON")
            .with("RoleArn", ROLE)
            .with("RoleSessionName", "proof")
            .with("OIDCProviderArn", PROVIDER)
            .with("OIDCToken", token)
            .with("Timestamp", sluice_cloud::rpc::format_timestamp(gateway.time()));
        said(&gateway.service.handle_at(get(params.encode().expose()), gateway.now).text)
    };
    expect(&exchange(&right), "ok", "a token that it has signed")?;
    expect(&exchange(&forged), "AuthenticationFail.OIDCToken.Invalid", "one that it has not")
}

fn subscribe(product: &str, group: &str) -> String {
    format!(
        "Action=CreateSubscribeRelation&ProductKey={product}&Type=AMQP&DeviceDataFlag=true&ConsumerGroupIds.1={group}"
    )
}

fn a_product_has_so_many_groups(terms: Terms) -> Result<(), String> {
    let mut gateway = Gateway::new(terms, OpenApi { groups_per_product: 2, ..OpenApi::default() });
    let mut groups = Vec::new();
    for name in ["first", "second"] {
        gateway.pass(Duration::from_secs(1));
        let call = gateway.iot(&format!("Action=CreateConsumerGroup&GroupName={name}"));
        let reply = gateway.service.handle_at(call.received(), gateway.now);
        let answer: Value = serde_json::from_str(&reply.text).unwrap_or_default();
        groups.push(answer["GroupId"].as_str().unwrap_or_default().to_owned());
    }
    expect(&gateway.says_later(&subscribe("pk", "g")), "ok", "the first group")?;
    let add =
        |group: &str| format!("Action=CreateConsumerGroupSubscribeRelation&ProductKey=pk&ConsumerGroupId={group}");
    expect(&gateway.says_later(&add(&groups[0])), "ok", "the second")?;
    let exceeds = "iot.messagebroker.SubscribeRelationCountExceedMax";
    expect(&gateway.says_later(&add(&groups[1])), exceeds, "the third")?;
    let at_once =
        format!("{}&ConsumerGroupIds.2={}&ConsumerGroupIds.3={}", subscribe("pk2", "g"), groups[0], groups[1]);
    expect(&gateway.says_later(&at_once), exceeds, "three at once")
}

fn a_group_has_so_many_products(terms: Terms) -> Result<(), String> {
    let mut gateway = Gateway::new(terms, OpenApi { products_per_group: 2, ..OpenApi::default() });
    for product in ["a", "b"] {
        expect(&gateway.says_later(&subscribe(product, "g")), "ok", product)?;
    }
    let exceeds = "iot.messagebroker.SubscribeRelationCountExceedMax";
    expect(&gateway.says_later(&subscribe("c", "g")), exceeds, "the third product")
}

fn an_account_has_so_many_groups(terms: Terms) -> Result<(), String> {
    let mut gateway = Gateway::new(terms, OpenApi { groups_per_account: 4, ..OpenApi::default() });
    for name in ["second", "third"] {
        let create = format!("Action=CreateConsumerGroup&GroupName={name}");
        expect(&gateway.says_later(&create), "ok", name)?;
    }
    let exceeds = "iot.messagebroker.ConsumerGroupCountExceedMax";
    expect(&gateway.says_later("Action=CreateConsumerGroup&GroupName=fourth"), exceeds, "the fourth group")
}

/// What becomes of a client that names and signs with the temporary key of a session, and of one that does so with the key of
/// the user who has assumed the role.
fn clients(terms: Terms) -> [Result<String, BadKey>; 2] {
    let role = RoleEntry {
        arn: ROLE.into(),
        permissions: Vec::new(),
        max_session: Duration::from_hours(1),
        trust: TrustEntry::default(),
    };
    let keys = [AccessKeyEntry::new("owner", "ownersecret")];
    let mut accounts = Accounts::new("1", &keys, &[], Vec::new(), Vec::new()).under(Arc::new(terms));
    let issued = accounts.issue(&role, "proof", Some("owner"), Duration::from_hours(1), 0);
    [issued.key_id.as_str(), "owner"].map(|key_id| {
        let found = accounts.look_up_client(key_id, Some(issued.token.expose()), 0);
        found.map(|(secret, _)| {
            if secret.expose() == issued.secret.expose() { "temporary" } else { "owner's" }.to_owned()
        })
    })
}

fn a_client_signs_with_the_temporary_key(terms: Terms) -> Result<(), String> {
    let found = clients(terms);
    ensure(found == [Ok("temporary".into()), Err(BadKey::TokenOfAnother)], format!("{found:?}"))
}

fn a_client_signs_with_the_key_of_whoever_assumed_the_role(terms: Terms) -> Result<(), String> {
    let found = clients(terms);
    ensure(found == [Err(BadKey::TokenOfAnother), Ok("owner's".into())], format!("{found:?}"))
}
