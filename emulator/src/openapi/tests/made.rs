//! Calls as clients make them, and a service to make them to.

use jiff::Timestamp;
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::rpc::{self, Nonce, Params, acs3};

use super::super::*;
use crate::accounts::KeyChange;
use crate::clock::Clock;
use crate::config::{AccessKeyEntry, RoleEntry, ServiceAccountEntry, TokenEntry, TrustEntry};
use crate::instances::{Instances, Quotas, Setup};
use crate::pattern::Pattern;
use crate::platform::Platform;

pub(crate) const ROLE: &str = "acs:ram::1000000000000001:role/sluice";
pub(crate) const PROVIDER: &str = "acs:ram::1000000000000001:oidc-provider/cluster";
pub(crate) const ISSUER: &str = "https://cluster";
/// When the token `dying` expires, in Unix ms: in 2100.
pub(crate) const END_MS: u64 = 4_102_444_800_000;

/// A call as a client makes it, before a test spoils it.
pub(crate) struct Made {
    pub(crate) method: &'static str,
    pub(crate) params: Params,
    pub(crate) key: AccessKey,
    pub(crate) at: Timestamp,
    pub(crate) nonce: Nonce,
}

pub(crate) fn key(id: &str, secret: &str) -> AccessKey {
    AccessKey::try_new(id, secret.into(), None).unwrap()
}

pub(crate) fn made(query: &str) -> Made {
    let nonce = Nonce::from_bits(rand::random());
    let params = Params::parse(query).unwrap();
    Made { method: "GET", params, key: key("testid", "testsecret"), at: Timestamp::now(), nonce }
}

/// A call of an action that works.
pub(crate) fn status() -> Made {
    made("Action=QueryConsumerGroupStatus&Version=2018-01-20&GroupId=g&IotInstanceId=one&Format=JSON")
}

impl Made {
    pub(crate) fn of(mut self, id: &str, secret: &str) -> Self {
        self.key = key(id, secret);
        self
    }

    pub(crate) fn at(mut self, at: Timestamp) -> Self {
        self.at = at;
        self
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.params.set(name, value);
        self
    }

    /// The parameters with their signature.
    pub(crate) fn signed(&self) -> Params {
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

    pub(crate) fn received(&self) -> Received {
        get(self.signed().encode().expose())
    }

    /// The same under the newer signature.
    pub(crate) fn received_newer(&self) -> Received {
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

pub(crate) fn get(query: &str) -> Received {
    let headers = vec![("host".to_owned(), "iot.cn-shanghai.aliyuncs.com".to_owned())];
    Received { method: "GET".into(), path: "/".into(), query: query.to_owned(), headers, body: Vec::new() }
}

pub(crate) const ACCOUNT: &str = "1000000000000001";

pub(crate) fn service() -> Service {
    service_under(Terms::default(), OpenApi::default(), Sts::default())
}

/// One with an instance `one` of one group `g`. Its keys: `testid`, one that may do nothing here (`blindid`), one of another
/// account (`otherid`), a disabled one (`idleid`), and a temporary one with three tokens.
pub(crate) fn service_under(terms: Terms, rules: OpenApi, sts: Sts) -> Service {
    let terms = Arc::new(terms);
    let platform = Platform::new(Arc::clone(&terms), [], 0, 1);
    let setup = Setup { id: "one".into(), account: ACCOUNT.into(), groups: vec!["g".into()], products: Vec::new() };
    let quotas = Quotas {
        groups_per_product: rules.groups_per_product,
        products_per_group: rules.products_per_group,
        groups_per_account: rules.groups_per_account,
        rules: terms.rules,
    };
    let hub = Arc::new(Hub::new(Clock::start(), platform, Instances::new(vec![setup], quotas, 1, 7)));
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
    let tokens = [token("live+/=", None), token("dead", Some(1)), token("dying", Some(END_MS))];
    let idle = AccessKeyEntry::new("idleid", "idlesecret");
    let keys = [AccessKeyEntry::new("testid", "testsecret"), blind, rich, idle];
    let service_account = ServiceAccountEntry { provider: PROVIDER.into(), subject: Pattern::new("system:*") };
    let role = RoleEntry {
        arn: ROLE.into(),
        permissions: vec![Pattern::new("iot:*")],
        max_session: Duration::from_hours(1),
        trust: TrustEntry { accounts: vec![ACCOUNT.into()], service_accounts: vec![service_account] },
    };
    let provider = ProviderEntry {
        arn: PROVIDER.into(),
        issuer: ISSUER.into(),
        audiences: vec!["sts.aliyuncs.com".into()],
        keys_file: None,
        keys: Some(super::super::oidc_tests::RSA_PUBLIC_KEY.into()),
    };
    let mut accounts = Accounts::new(ACCOUNT, &keys, &tokens, vec![role], vec![provider]).under(Arc::clone(&terms));
    let disabled = KeyChange { enabled: Some(false), ..KeyChange::default() };
    accounts.change_key("idleid", disabled).unwrap();
    Service::new(hub, Arc::new(Mutex::new(accounts)), terms, rules, sts)
}
