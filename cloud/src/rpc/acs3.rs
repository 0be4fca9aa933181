//! `ACS3-HMAC-SHA256`, the newer signature (PLATFORM.md 4.2): over method, path, query, headers and the hash of the body.
//! Action, version, time and nonce are headers (`x-acs-*`) instead of parameters.

use std::collections::BTreeMap;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::{AccessKeyId, Params, VerifyError};
use crate::secret::SecretString;
use crate::sign::mac;

/// The name of the algorithm, with which `Authorization` begins.
pub const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// What is signed.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The HTTP method in capitals.
    pub method: &'a str,
    /// The path; `/` for every RPC-style API.
    pub path: &'a str,
    /// The parameters of the query.
    pub query: &'a Params,
    /// The headers: names in any case and values. `host`, `content-type` and every `x-acs-*` are signed, others are not.
    pub headers: &'a [(String, String)],
    /// The body.
    pub body: &'a [u8],
}

/// The value of `Authorization`. The headers that are to be signed must be there already, `x-acs-content-sha256`
/// ([`content_sha256`]) among them.
pub fn sign(request: &Request<'_>, access_key_id: &str, secret: &SecretString) -> String {
    let headers = signed_headers(request.headers);
    let names = joined(&headers);
    let text = string_to_sign(request, &headers, &content_sha256(request.body));
    let signature = hex(&mac::<Hmac<Sha256>>(secret, &text).finalize().into_bytes());
    format!("{ALGORITHM} Credential={access_key_id},SignedHeaders={names},Signature={signature}")
}

/// The hash of a body, in hexadecimal: what `x-acs-content-sha256` says.
pub fn content_sha256(body: &[u8]) -> String {
    hex(&Sha256::digest(body))
}

/// Checks a request with its `Authorization`, as the gateway does. Every header that must be signed is, and the hash in
/// `x-acs-content-sha256` is that of the body.
pub fn verify(
    request: &Request<'_>,
    authorization: &str,
    secret_of: impl FnOnce(&str) -> Option<SecretString>,
) -> Result<AccessKeyId, VerifyError> {
    let parts = Authorization::parse(authorization)?;
    let headers = signed_headers(request.headers);
    for name in ["host", "x-acs-action", "x-acs-version", "x-acs-date", "x-acs-signature-nonce"] {
        if headers.get(name).is_none_or(|value| value.is_empty()) {
            return Err(VerifyError::Missing(name.to_owned()));
        }
    }
    let said = headers.get("x-acs-content-sha256").copied();
    let hash = content_sha256(request.body);
    if said.ok_or_else(|| VerifyError::Missing("x-acs-content-sha256".to_owned()))? != hash {
        return Err(VerifyError::Mismatch);
    }
    if parts.signed_headers != joined(&headers) {
        return Err(VerifyError::Unsupported {
            name: "SignedHeaders",
            found: parts.signed_headers.to_owned(),
            expected: "host, content-type if there is one, and every x-acs-*, sorted, separated by `;`",
        });
    }
    let secret =
        secret_of(parts.credential).ok_or_else(|| VerifyError::UnknownAccessKey(parts.credential.to_owned()))?;
    let tag = from_hex(parts.signature).ok_or(VerifyError::Mismatch)?;
    let text = string_to_sign(request, &headers, &hash);
    mac::<Hmac<Sha256>>(&secret, &text).verify_slice(&tag).map_err(|_| VerifyError::Mismatch)?;
    Ok(AccessKeyId(parts.credential.to_owned()))
}

/// The parts of an `Authorization` header.
struct Authorization<'a> {
    credential: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Authorization<'a> {
    fn parse(text: &'a str) -> Result<Self, VerifyError> {
        let rest = text.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' ')).ok_or_else(|| {
            let found = text.split(' ').next().unwrap_or_default().to_owned();
            VerifyError::Unsupported { name: "Authorization", found, expected: ALGORITHM }
        })?;
        let part = |name: &str| {
            let value = rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
            value.filter(|value| !value.is_empty()).ok_or_else(|| VerifyError::Missing(name.to_owned()))
        };
        Ok(Self {
            credential: part("Credential")?,
            signed_headers: part("SignedHeaders")?,
            signature: part("Signature")?,
        })
    }
}

/// The headers that are signed, by their names in lower case. Of two of the same name the last one counts.
fn signed_headers(headers: &[(String, String)]) -> BTreeMap<String, &str> {
    let lower = headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.trim()));
    lower.filter(|(name, _)| matches!(name.as_str(), "host" | "content-type") || name.starts_with("x-acs-")).collect()
}

fn joined(headers: &BTreeMap<String, &str>) -> String {
    headers.keys().map(String::as_str).collect::<Vec<_>>().join(";")
}

fn string_to_sign(request: &Request<'_>, headers: &BTreeMap<String, &str>, body_hash: &str) -> SecretString {
    SecretString::new(format!("{ALGORITHM}\n{}", canonical_hash(request, headers, body_hash)))
}

/// The hash of the canonical request. The text itself has the security token in it and is not kept.
fn canonical_hash(request: &Request<'_>, headers: &BTreeMap<String, &str>, body_hash: &str) -> String {
    let mut hash = Sha256::new();
    let query = request.query.encode();
    for part in [request.method, "\n", request.path, "\n", query.expose(), "\n"] {
        hash.update(part);
    }
    for (name, value) in headers {
        for part in [name.as_str(), ":", value, "\n"] {
            hash.update(part);
        }
    }
    for part in ["\n", &joined(headers), "\n", body_hash] {
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}"); // Writing to a String can't fail.
    }
    text
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"";

    fn headers() -> Vec<(String, String)> {
        [
            ("Host", "ecs.cn-shanghai.aliyuncs.com"),
            ("x-acs-version", "2014-05-26"),
            ("x-acs-action", "RunInstances"),
            ("x-acs-content-sha256", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            ("x-acs-date", "2023-10-26T10:22:32Z"),
            ("X-Acs-Signature-Nonce", " 3156853299f313e23d1673dc12e1703d "),
            ("user-agent", "not signed"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    fn query() -> Params {
        Params::new()
            .with("RegionId", "cn-shanghai")
            .with("ImageId", "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd")
    }

    fn secret() -> SecretString {
        SecretString::from("YourAccessKeySecret")
    }

    const AUTHORIZATION: &str = "ACS3-HMAC-SHA256 Credential=YourAccessKeyId,SignedHeaders=host;x-acs-action;\
        x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version,\
        Signature=06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0";

    /// The request of the reference with another part or two, and whether its signature still holds.
    fn verified(request: &Request<'_>, authorization: &str) -> Result<AccessKeyId, VerifyError> {
        verify(request, authorization, |id| (id == "YourAccessKeyId").then(secret))
    }

    #[test]
    fn the_signature_is_that_of_the_reference_vector() {
        let (query, headers) = (query(), headers());
        let request = Request { method: "POST", path: "/", query: &query, headers: &headers, body: BODY };
        assert_eq!(
            canonical_hash(&request, &signed_headers(&headers), &content_sha256(BODY)),
            "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
        );
        assert_eq!(sign(&request, "YourAccessKeyId", &secret()), AUTHORIZATION);
        assert_eq!(verified(&request, AUTHORIZATION).unwrap().as_str(), "YourAccessKeyId");
        assert_eq!(verified(&request, &AUTHORIZATION.replace(',', ", ")).unwrap().as_str(), "YourAccessKeyId");
    }

    #[test]
    fn whatever_is_changed_is_noticed() {
        let (query, headers) = (query(), headers());
        let request = Request { method: "POST", path: "/", query: &query, headers: &headers, body: BODY };
        let mismatch = Err(VerifyError::Mismatch);
        assert_eq!(verified(&Request { method: "GET", ..request }, AUTHORIZATION), mismatch);
        assert_eq!(verified(&Request { path: "/x", ..request }, AUTHORIZATION), mismatch);
        assert_eq!(verified(&Request { body: b"x", ..request }, AUTHORIZATION), mismatch);
        let more = query.clone().with("DryRun", "true");
        assert_eq!(verified(&Request { query: &more, ..request }, AUTHORIZATION), mismatch);
        for index in 0..6 {
            let mut other = headers.clone();
            other[index].1.push('0');
            assert_eq!(
                verified(&Request { headers: &other, ..request }, AUTHORIZATION),
                mismatch,
                "{:?}",
                other[index]
            );
        }
        for wrong in ["0", "xyz", "zz"] {
            let authorization = format!("{}{wrong}", AUTHORIZATION.split("0656").next().unwrap());
            assert_eq!(verified(&request, &authorization), mismatch);
        }
        assert_eq!(verify(&request, AUTHORIZATION, |_| Some("other".into())), mismatch);
        let unknown = AUTHORIZATION.replace("YourAccessKeyId", "Another");
        assert_eq!(verified(&request, &unknown), Err(VerifyError::UnknownAccessKey("Another".into())));
    }

    #[test]
    fn a_header_that_must_be_signed_and_is_not_is_named() {
        let (query, mut headers) = (query(), headers());
        headers.push(("x-acs-security-token".to_owned(), "token".to_owned()));
        let request = Request { method: "POST", path: "/", query: &query, headers: &headers, body: BODY };
        let refused = verified(&request, AUTHORIZATION).unwrap_err();
        assert!(matches!(&refused, VerifyError::Unsupported { name: "SignedHeaders", .. }), "{refused}");

        headers.retain(|(name, _)| name != "x-acs-date");
        let request = Request { method: "POST", path: "/", query: &query, headers: &headers, body: BODY };
        assert_eq!(verified(&request, AUTHORIZATION), Err(VerifyError::Missing("x-acs-date".into())));

        for (rubbish, name) in [("", "Authorization"), ("Basic dGVzdA==", "Authorization")] {
            let refused = verified(&request, rubbish).unwrap_err();
            assert!(matches!(&refused, VerifyError::Unsupported { name: found, .. } if *found == name), "{refused}");
        }
        let half = "ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host";
        assert_eq!(verified(&request, half), Err(VerifyError::Missing("Signature".into())));
    }
}
