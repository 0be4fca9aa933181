//! How a connection proves who it is (PLATFORM.md 1.4): the SASL user name says who connects and as what, the password is
//! an HMAC over a few of its options. Here are both halves: the client's, which signs, and the server's, which reads a
//! user name and checks the password; the second serves the emulator. This module never holds on to a secret.

mod identity;
mod user_name;

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::Sha256;
use zeroize::Zeroizing;

pub use self::identity::{ClientId, ClientIdError, ConnectIdentity, SaslCredentials, SignError};
pub use self::user_name::UserNameError;

use crate::secret::SecretString;

/// The HMAC that makes the password, named as `signMethod` in the user name (PLATFORM.md 1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SignMethod {
    /// `hmacmd5`
    HmacMd5,
    /// `hmacsha1`
    HmacSha1,
    /// `hmacsha256`
    HmacSha256,
}

impl SignMethod {
    /// Every method the platform knows.
    pub const ALL: [Self; 3] = [Self::HmacMd5, Self::HmacSha1, Self::HmacSha256];

    /// The name that goes into the user name: `hmacmd5`, `hmacsha1`, or `hmacsha256`.
    pub const fn wire_name(self) -> &'static str {
        match self {
            Self::HmacMd5 => "hmacmd5",
            Self::HmacSha1 => "hmacsha1",
            Self::HmacSha256 => "hmacsha256",
        }
    }
}

impl fmt::Display for SignMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.wire_name())
    }
}

/// A name that is none of the platform's sign methods.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a sign method; the platform knows hmacmd5, hmacsha1 and hmacsha256")]
pub struct UnknownSignMethod(pub String);

impl FromStr for SignMethod {
    type Err = UnknownSignMethod;

    /// Reads a name in any case: an official sample sends `Hmacsha1` (PLATFORM.md 1.4).
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|method| method.wire_name().eq_ignore_ascii_case(name))
            .ok_or_else(|| UnknownSignMethod(name.to_owned()))
    }
}

/// The text whose HMAC is the password: the signed options in alphabetical order (PLATFORM.md 1.4). With a security
/// token it is the form of `authMode=ststoken`, without one that of `authMode=aksign`. It holds the token, so it is a
/// secret as well.
pub fn string_to_sign(access_key_id: &str, security_token: Option<&SecretString>, timestamp_ms: u64) -> SecretString {
    // Text that grows leaves copies of the token behind: make room for all of it first.
    let token = security_token.map_or("", SecretString::expose);
    let mut text = String::with_capacity(access_key_id.len() + token.len() + 64);
    text.push_str("authId=");
    text.push_str(access_key_id);
    if security_token.is_some() {
        text.push_str("&securityToken=");
        text.push_str(token);
    }
    text.push_str("&timestamp=");
    text.push_str(&timestamp_ms.to_string());
    SecretString::new(text)
}

/// The password: Base64 of the HMAC of `string_to_sign` under the AccessKey secret (PLATFORM.md 1.4).
pub fn password(method: SignMethod, secret: &SecretString, string_to_sign: &SecretString) -> SecretString {
    match method {
        SignMethod::HmacMd5 => encode(mac::<Hmac<Md5>>(secret, string_to_sign)),
        SignMethod::HmacSha1 => encode(mac::<Hmac<Sha1>>(secret, string_to_sign)),
        SignMethod::HmacSha256 => encode(mac::<Hmac<Sha256>>(secret, string_to_sign)),
    }
}

/// Whether `candidate` is that password. The time this takes does not depend on where a wrong one differs.
pub fn verify_password(
    method: SignMethod,
    secret: &SecretString,
    string_to_sign: &SecretString,
    candidate: &str,
) -> bool {
    let Ok(tag) = BASE64.decode(candidate).map(Zeroizing::new) else {
        return false;
    };
    match method {
        SignMethod::HmacMd5 => mac::<Hmac<Md5>>(secret, string_to_sign).verify_slice(&tag).is_ok(),
        SignMethod::HmacSha1 => mac::<Hmac<Sha1>>(secret, string_to_sign).verify_slice(&tag).is_ok(),
        SignMethod::HmacSha256 => mac::<Hmac<Sha256>>(secret, string_to_sign).verify_slice(&tag).is_ok(),
    }
}

#[expect(clippy::expect_used, reason = "an HMAC takes a key of any length (RFC 2104, section 2), so this can't fail")]
pub(crate) fn mac<M: Mac + KeyInit>(secret: &SecretString, text: &SecretString) -> M {
    let mut mac = <M as KeyInit>::new_from_slice(secret.expose().as_bytes()).expect("an HMAC key has any length");
    mac.update(text.expose().as_bytes());
    mac
}

fn encode(mac: impl Mac) -> SecretString {
    SecretString::new(BASE64.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests;
