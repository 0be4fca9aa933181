//! Both ways into a role, and what stands before them.

use std::time::Duration;

use super::super::answer::Format;
use super::super::oidc::tests::{RSA_PUBLIC_KEY, signed};
use super::*;
use crate::config::{AccessKeyEntry, RoleEntry, ServiceAccountEntry, TrustEntry};
use crate::pattern::Pattern;

const NOW_S: u64 = 1_800_000_000;
const NOW_MS: u64 = NOW_S * 1_000;
const ROLE: &str = "acs:ram::2:role/reader";
const PROVIDER: &str = "acs:ram::2:oidc-provider/cluster";

fn accounts() -> Accounts {
    let blind = AccessKeyEntry { permissions: vec![Pattern::new("iot:*")], ..AccessKeyEntry::new("blind", "s") };
    let foreign = AccessKeyEntry { account: Some("3".into()), ..AccessKeyEntry::new("foreign", "s") };
    let root = AccessKeyEntry { root: true, ..AccessKeyEntry::new("root", "s") };
    let service_account = ServiceAccountEntry {
        provider: PROVIDER.into(),
        subject: Pattern::new("system:serviceaccount:plant-a:telemetry"),
    };
    let role = RoleEntry {
        arn: ROLE.into(),
        permissions: vec![Pattern::new("iot:*")],
        max_session: Duration::from_hours(2),
        trust: TrustEntry { accounts: vec!["1".into()], service_accounts: vec![service_account] },
    };
    let provider = ProviderEntry {
        arn: PROVIDER.into(),
        issuer: "https://cluster".into(),
        audiences: vec!["sts.aliyuncs.com".into()],
        keys_file: None,
        keys: Some(RSA_PUBLIC_KEY.into()),
    };
    Accounts::new("1", &[AccessKeyEntry::new("user", "s"), blind, foreign, root], &[], vec![role], vec![provider])
}

fn params(more: &[(&str, &str)]) -> Params {
    let params = Params::new().with("RoleArn", ROLE).with("RoleSessionName", "someone");
    more.iter().fold(params, |params, (name, value)| params.with(*name, *value))
}

fn json(answer: Answer) -> Value {
    serde_json::from_str(&answer.write(Format::Json, "R")).unwrap()
}

fn assume(accounts: &mut Accounts, key: &str, more: &[(&str, &str)]) -> Result<Value, Refusal> {
    let (_, caller) = accounts.look_up(key, None, NOW_MS).unwrap();
    assume_role(accounts, &caller, &params(more), &Sts::default(), NOW_MS).map(json)
}

fn exchange(accounts: &mut Accounts, more: &[(&str, &str)]) -> Result<Value, Refusal> {
    let keys = |provider: &ProviderEntry| KeySet::parse(provider.keys.as_deref().unwrap()).map_err(|e| e.to_string());
    assume_role_with_oidc(accounts, &params(more), &Sts::default(), keys, Rules::default(), NOW_MS).map(json)
}

fn token(subject: &str, audience: &str, expires_in_s: i64) -> String {
    let expires = NOW_S.saturating_add_signed(expires_in_s);
    let claims = json!({"iss": "https://cluster", "sub": subject, "aud": [audience], "exp": expires, "iat": NOW_S});
    signed(&json!({"alg": "RS256"}), &claims)
}

/// The temporary key of an answer serves its role until its end.
fn check_session(accounts: &Accounts, answer: &Value, seconds: u64) {
    let credentials = &answer["Credentials"];
    let text = |name: &str| credentials[name].as_str().unwrap();
    let at = |ms| accounts.look_up(text("AccessKeyId"), Some(text("SecurityToken")), ms);
    let (secret, caller) = at(NOW_MS + seconds * 1_000 - 1).unwrap();
    assert_eq!(secret.expose(), text("AccessKeySecret"));
    assert_eq!((caller.account.as_str(), caller.may("iot:sub"), caller.may("sts:AssumeRole")), ("2", true, false));
    assert!(at(NOW_MS + seconds * 1_000).is_err());
}

#[test]
fn a_user_of_a_trusted_account_gets_a_session() {
    let mut accounts = accounts();
    let answer = assume(&mut accounts, "user", &[]).unwrap();
    check_session(&accounts, &answer, 3_600);
    assert_eq!(answer["Credentials"]["Expiration"], "2027-01-15T09:00:00Z");
    assert_eq!(answer["AssumedRoleUser"]["Arn"], "acs:sts::2:assumed-role/reader/someone");
    assert!(answer["AssumedRoleUser"]["AssumedRoleId"].as_str().unwrap().ends_with(":someone"));
    let answer = assume(&mut accounts, "user", &[("DurationSeconds", "900")]).unwrap();
    check_session(&accounts, &answer, 900);
}

#[test]
fn sessions_may_be_made_shorter_than_asked_for() {
    let mut accounts = accounts();
    let (_, caller) = accounts.look_up("user", None, NOW_MS).unwrap();
    let rules = Sts { sessions_last: Some(Duration::from_secs(3)), ..Sts::default() };
    let answer = assume_role(&mut accounts, &caller, &params(&[]), &rules, NOW_MS).map(json).unwrap();
    check_session(&accounts, &answer, 3);
}

#[test]
fn who_may_not_assume_a_role_is_told_so() {
    let mut accounts = accounts();
    for key in ["blind", "foreign", "root"] {
        let refusal = assume(&mut accounts, key, &[]).unwrap_err();
        assert_eq!((refusal.status, refusal.code), (403, "NoPermission"), "{key}");
    }
}

#[test]
fn what_is_asked_for_must_make_sense() {
    let mut accounts = accounts();
    let long = "x".repeat(65);
    for (name, value, code) in [
        ("RoleArn", "", "MissingRoleArn"),
        ("RoleArn", "reader", "InvalidParameter.RoleArn"),
        ("RoleArn", "acs:ram::2:role/none", "EntityNotExist.Role"),
        ("RoleSessionName", "", "MissingRoleSessionName"),
        ("RoleSessionName", "x", "InvalidParameter.RoleSessionName"),
        ("RoleSessionName", "no spaces", "InvalidParameter.RoleSessionName"),
        ("RoleSessionName", long.as_str(), "InvalidParameter.RoleSessionName"),
        ("DurationSeconds", "899", "InvalidParameter.DurationSeconds"),
        ("DurationSeconds", "7201", "InvalidParameter.DurationSeconds"),
        ("DurationSeconds", "long", "InvalidParameter.DurationSeconds"),
    ] {
        assert_eq!(assume(&mut accounts, "user", &[(name, value)]).unwrap_err().code, code, "{name}={value}");
    }
    assert!(assume(&mut accounts, "user", &[("DurationSeconds", "7200")]).is_ok());
}

const TRUSTED: &str = "system:serviceaccount:plant-a:telemetry";

#[test]
fn a_token_that_a_role_trusts_is_exchanged_for_a_session() {
    let mut accounts = accounts();
    let token = token(TRUSTED, "sts.aliyuncs.com", 600);
    let answer = exchange(&mut accounts, &[("OIDCProviderArn", PROVIDER), ("OIDCToken", &token)]).unwrap();
    check_session(&accounts, &answer, 3_600);
    let info = &answer["OIDCTokenInfo"];
    assert_eq!((&info["Subject"], &info["Issuer"]), (&json!(TRUSTED), &json!("https://cluster")));
    assert_eq!(info["ClientIds"], "sts.aliyuncs.com");
}

#[test]
fn a_token_that_it_does_not_trust_is_not() {
    let mut accounts = accounts();
    let good = token(TRUSTED, "sts.aliyuncs.com", 600);
    let invalid = "AuthenticationFail.OIDCToken.Invalid";
    for (what, provider, token, code) in [
        (
            "another subject",
            PROVIDER,
            token("system:serviceaccount:b:x", "sts.aliyuncs.com", 600),
            "AuthenticationFail.NoPermission",
        ),
        ("another audience", PROVIDER, token(TRUSTED, "sluice.dev", 600), invalid),
        ("expired", PROVIDER, token(TRUSTED, "sts.aliyuncs.com", 0), "AuthenticationFail.OIDCToken.Expired"),
        ("rubbish", PROVIDER, "rubbish".into(), invalid),
        ("none", PROVIDER, String::new(), "MissingOIDCToken"),
        ("no provider", "", good.clone(), "MissingOIDCProviderArn"),
        ("an unknown provider", "acs:ram::2:oidc-provider/other", good.clone(), "EntityNotExist.OIDCProvider"),
    ] {
        let refusal = exchange(&mut accounts, &[("OIDCProviderArn", provider), ("OIDCToken", &token)]).unwrap_err();
        assert_eq!(refusal.code, code, "{what}");
        assert!(!refusal.message.contains(good.split('.').nth(1).unwrap()), "no token in an answer");
    }
    let keys = |_: &ProviderEntry| Err("can't be read".to_owned());
    let asked = params(&[("OIDCProviderArn", PROVIDER), ("OIDCToken", &good)]);
    let refusal =
        assume_role_with_oidc(&mut accounts, &asked, &Sts::default(), keys, Rules::default(), NOW_MS).unwrap_err();
    assert_eq!((refusal.status, refusal.code), (500, "InternalError"));
}
