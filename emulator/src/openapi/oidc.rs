//! Tokens of identity providers, as Kubernetes makes them: JSON Web Tokens signed with RS256 or ES256. Checked here are the
//! signature, the issuer, the audience and the expiry; whom a role trusts is [`super::sts`]'s business.

mod keys;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub(super) use self::keys::KeySet;

use crate::rules::{Rule, Rules};

/// How far "not before" and "issued at" may lie ahead, in seconds: clocks differ.
const LEEWAY_S: u64 = 60;

/// Why a token is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("This JsonWebToken is invalid: {0}.")]
    Malformed(&'static str),
    #[error("This JsonWebToken is invalid: it is signed with {0:?}, and only RS256 and ES256 are taken.")]
    Algorithm(String),
    #[error("This JsonWebToken is invalid: none of the provider's keys has signed it.")]
    Signature,
    #[error("This JsonWebToken is invalid: its issuer is {found:?}, the provider's is {expected:?}.")]
    Issuer { found: String, expected: String },
    #[error("This JsonWebToken is invalid: its audience is {found:?}, which has none of {expected:?}.")]
    Audience { found: Vec<String>, expected: Vec<String> },
    #[error("This JsonWebToken is expired.")]
    Expired,
    #[error("This JsonWebToken is not valid yet.")]
    NotYet,
}

impl TokenError {
    /// The code that STS has for it. Only those for an invalid and an expired token are known from the vendor's clients.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Expired => "AuthenticationFail.OIDCToken.Expired",
            _ => "AuthenticationFail.OIDCToken.Invalid",
        }
    }
}

#[derive(Debug, Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    /// Extensions that whoever takes the token must know (RFC 7515, 4.1.11).
    #[serde(default)]
    crit: Option<Value>,
}

/// `aud` may be one text or a list of them (RFC 7519, 4.1.3).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct RawClaims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: f64,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    iat: Option<f64>,
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Claims {
    pub(super) issuer: String,
    pub(super) subject: String,
    pub(super) audiences: Vec<String>,
    /// In Unix seconds.
    pub(super) expires_at_s: u64,
    /// In Unix seconds.
    pub(super) issued_at_s: Option<u64>,
}

fn part<T: DeserializeOwned>(text: &str, otherwise: &'static str) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed(otherwise))?;
    serde_json::from_slice(&bytes).map_err(|_| TokenError::Malformed(otherwise))
}

/// Seconds in whole ones; nothing sensible is negative or beyond what fits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates, as is wanted")]
fn whole(seconds: f64) -> u64 {
    seconds as u64
}

/// Checks a token.
pub(super) fn check(
    token: &str,
    keys: &KeySet,
    issuer: &str,
    audiences: &[String],
    kept: Rules,
    now_s: u64,
) -> Result<Claims, TokenError> {
    let (signed, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed("it has no signature"))?;
    let (header, claims) = signed.split_once('.').ok_or(TokenError::Malformed("it has no three parts"))?;
    let signature =
        URL_SAFE_NO_PAD.decode(signature).map_err(|_| TokenError::Malformed("its signature is no Base64"))?;
    let header: Header = part(header, "its header can't be read")?;
    if !matches!(header.alg.as_str(), "RS256" | "ES256") {
        return Err(TokenError::Algorithm(header.alg));
    }
    if header.crit.is_some() {
        return Err(TokenError::Malformed("its header has extensions that must be known, and are not"));
    }
    let right = keys.verify(&header.alg, header.kid.as_deref(), signed.as_bytes(), &signature);
    if !right && kept.keeps(Rule::OidcSignature) {
        return Err(TokenError::Signature);
    }
    let claims: RawClaims = part(claims, "its claims can't be read")?;
    if claims.iss != issuer {
        return Err(TokenError::Issuer { found: claims.iss, expected: issuer.to_owned() });
    }
    let found = match claims.aud {
        Audience::One(audience) => vec![audience],
        Audience::Many(audiences) => audiences,
    };
    if !found.iter().any(|audience| audiences.contains(audience)) {
        return Err(TokenError::Audience { found, expected: audiences.to_vec() });
    }
    let expires_at_s = whole(claims.exp);
    if expires_at_s <= now_s {
        return Err(TokenError::Expired);
    }
    if [claims.nbf, claims.iat].into_iter().flatten().any(|at| whole(at) > now_s + LEEWAY_S) {
        return Err(TokenError::NotYet);
    }
    Ok(Claims {
        issuer: claims.iss,
        subject: claims.sub,
        audiences: found,
        expires_at_s,
        issued_at_s: claims.iat.map(whole),
    })
}

#[cfg(test)]
pub(crate) mod tests;
