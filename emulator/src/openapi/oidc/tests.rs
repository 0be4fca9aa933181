//! Tokens of every make, good and bad.

use proptest::prelude::*;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair};
use rustls::pki_types::{PrivatePkcs8KeyDer, pem::PemObject as _};
use serde_json::{Value, json};

use super::keys::KeysError;
use super::*;

const ISSUER: &str = "https://kubernetes.default.svc";
const NOW_S: u64 = 1_800_000_000;

/// A key pair made for these tests and good for nothing else.
const RSA_KEY: &str = include_str!("test-key.pem");
pub(crate) const RSA_PUBLIC_KEY: &str = include_str!("test-key.pub.pem");

fn claims() -> Value {
    json!({
        "iss": ISSUER,
        "sub": "system:serviceaccount:plant-a:telemetry",
        "aud": ["sts.aliyuncs.com"],
        "exp": NOW_S + 600,
        "nbf": NOW_S,
        "iat": NOW_S,
        "kubernetes.io": {"namespace": "plant-a"},
    })
}

fn encoded(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// A token of the test's RSA key.
pub(crate) fn signed(header: &Value, claims: &Value) -> String {
    let text = format!("{}.{}", encoded(header), encoded(claims));
    let key = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A service account's token for STS as Kubernetes makes one, good for the next hour.
pub(crate) fn service_account_token(issuer: &str, subject: &str) -> String {
    let now_s = jiff::Timestamp::now().as_second();
    let claims =
        json!({"iss": issuer, "sub": subject, "aud": ["sts.aliyuncs.com"], "exp": now_s + 3_600, "iat": now_s});
    signed(&rs256(), &claims)
}

fn rs256() -> Value {
    json!({"alg": "RS256", "kid": "k1"})
}

fn checked(token: &str, keys: &KeySet) -> Result<Claims, TokenError> {
    check(token, keys, ISSUER, &["other".into(), "sts.aliyuncs.com".into()], Rules::default(), NOW_S)
}

fn pem() -> KeySet {
    KeySet::parse(RSA_PUBLIC_KEY).unwrap()
}

/// The RSA key as a JWKS, under this ID.
fn jwks(id: &str) -> String {
    let key = PrivatePkcs8KeyDer::from_pem_slice(RSA_KEY.as_bytes()).unwrap();
    let key = RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap();
    let parts: RsaParts = ring::signature::RsaPublicKeyComponents::from(key.public());
    let (n, e) = (URL_SAFE_NO_PAD.encode(parts.n), URL_SAFE_NO_PAD.encode(parts.e));
    json!({"keys": [{"use": "sig", "kty": "OKP", "crv": "Ed25519", "x": "AA"},
        {"use": "sig", "kty": "RSA", "kid": id, "alg": "RS256", "n": n, "e": e}]})
    .to_string()
}

type RsaParts = ring::signature::RsaPublicKeyComponents<Vec<u8>>;

#[test]
fn a_good_token_is_taken_whatever_form_the_keys_are_in() {
    let token = signed(&rs256(), &claims());
    let expected = Claims {
        issuer: ISSUER.into(),
        subject: "system:serviceaccount:plant-a:telemetry".into(),
        audiences: vec!["sts.aliyuncs.com".into()],
        expires_at_s: NOW_S + 600,
        issued_at_s: Some(NOW_S),
    };
    assert_eq!(checked(&token, &pem()), Ok(expected.clone()));
    assert_eq!(checked(&token, &KeySet::parse(&jwks("k1")).unwrap()), Ok(expected));
    assert_eq!(checked(&token, &KeySet::parse(&jwks("k2")).unwrap()), Err(TokenError::Signature), "another key's ID");
    let without_id = signed(&json!({"alg": "RS256"}), &claims());
    assert!(checked(&without_id, &KeySet::parse(&jwks("k2")).unwrap()).is_ok());
}

#[test]
fn tokens_of_elliptic_keys_are_taken_too() {
    let pair = rcgen::KeyPair::generate().unwrap();
    let rng = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pair.serialize_der(), &rng).unwrap();
    let text = format!("{}.{}", encoded(&json!({"alg": "ES256"})), encoded(&claims()));
    let signature = key.sign(&rng, text.as_bytes()).unwrap();
    let token = format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature));
    let both = format!("{RSA_PUBLIC_KEY}{}", pair.public_key_pem());
    assert!(checked(&token, &KeySet::parse(&both).unwrap()).is_ok());
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let jwks = json!({"keys": [{"kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y)}]});
    assert!(checked(&token, &KeySet::parse(&jwks.to_string()).unwrap()).is_ok());
    assert_eq!(checked(&token, &pem()), Err(TokenError::Signature));
}

#[test]
fn what_is_wrong_with_a_token_is_said() {
    let with = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        checked(&signed(&rs256(), &claims), &pem())
    };
    assert!(with("aud", json!("sts.aliyuncs.com")).is_ok(), "one audience need not be a list");
    assert!(with("exp", json!(1.800_000_6e9)).is_ok(), "any number is one");
    assert_eq!(with("exp", json!(NOW_S)), Err(TokenError::Expired));
    assert_eq!(with("nbf", json!(NOW_S + 61)), Err(TokenError::NotYet));
    assert!(matches!(with("iss", json!("https://elsewhere")), Err(TokenError::Issuer { .. })));
    assert!(matches!(with("aud", json!(["sluice.dev"])), Err(TokenError::Audience { .. })));
    assert!(matches!(with("sub", Value::Null), Err(TokenError::Malformed(_))));

    let strange = signed(&json!({"alg": "RS256", "kid": "k1", "crit": ["exp"], "exp": 1}), &claims());
    assert!(matches!(checked(&strange, &pem()), Err(TokenError::Malformed(reason)) if reason.contains("extensions")));
    let none = format!("{}.{}.", encoded(&json!({"alg": "none"})), encoded(&claims()));
    assert_eq!(checked(&none, &pem()), Err(TokenError::Algorithm("none".into())));
    let confused = signed(&json!({"alg": "ES256"}), &claims());
    assert_eq!(checked(&confused, &pem()), Err(TokenError::Signature));
    let token = signed(&rs256(), &claims());
    let (head, _) = token.rsplit_once('.').unwrap();
    assert_eq!(checked(&format!("{head}."), &pem()), Err(TokenError::Signature));
    let (_, signature) = token.rsplit_once('.').unwrap();
    let other = format!("{}.{}.{signature}", encoded(&rs256()), encoded(&json!({"iss": ISSUER})));
    assert_eq!(checked(&other, &pem()), Err(TokenError::Signature), "claims that were not signed are not read");
    assert_eq!(TokenError::Expired.code(), "AuthenticationFail.OIDCToken.Expired");
}

#[test]
fn what_holds_no_key_is_refused() {
    assert_eq!(KeySet::parse("").unwrap_err(), KeysError::None);
    assert_eq!(KeySet::parse(r#"{"keys": []}"#).unwrap_err(), KeysError::None);
    assert!(matches!(KeySet::parse("{").unwrap_err(), KeysError::Jwks(_)));
    assert_eq!(KeySet::parse(RSA_KEY).unwrap_err(), KeysError::None, "a private key is not for here");
}

proptest! {
    #[test]
    fn rubbish_is_refused_and_nothing_panics(token in "[ -~]{0,80}", pem in prop::collection::vec(any::<u8>(), 0..120)) {
        prop_assert!(checked(&token, &self::pem()).is_err());
        let text = format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            base64::engine::general_purpose::STANDARD.encode(pem)
        );
        if let Ok(keys) = KeySet::parse(&text) {
            prop_assert!(checked(&signed(&rs256(), &claims()), &keys).is_err());
        }
    }
}
