//! How a call to one of Alibaba Cloud's RPC-style APIs (the IoT OpenAPI, STS) is written down and signed: the parameters in
//! their canonical order and encoding, and an HMAC over them (PLATFORM.md 4.1). Here are both halves, the caller's and the
//! gateway's; the second serves the emulator. Nothing here sends anything, and nothing here looks at a clock: the time and
//! the nonce of a call are arguments. Whether a timestamp is too old and a nonce was seen before is the gateway's business.
//!
//! [`acs3`] is the newer signature, over headers instead of parameters.

pub mod acs3;
mod call;
mod encoding;
mod params;
mod timestamp;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use sha1::Sha1;

pub use self::call::{Call, Nonce};
pub use self::encoding::{DecodeError, percent_decode, percent_encode};
pub use self::params::{Params, ParamsError};
pub use self::timestamp::{format_timestamp, parse_timestamp};

use crate::secret::SecretString;
use crate::sign::mac;

/// The one `SignatureMethod` of this version.
pub const SIGNATURE_METHOD: &str = "HMAC-SHA1";
/// The one `SignatureVersion`.
pub const SIGNATURE_VERSION: &str = "1.0";

/// The ID of the AccessKey that signed a call whose signature was found right.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AccessKeyId(String);

impl AccessKeyId {
    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a call is not who it says it is. Each has its place in what the gateway answers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A parameter (or header) that a signed call has is not there, or is empty.
    #[error("the call has no {0}; a signed call must have it")]
    Missing(String),
    /// A value that only one thing can be is another.
    #[error("{name} is {found:?}; it must be {expected}")]
    Unsupported {
        /// The parameter or header.
        name: &'static str,
        /// What it says.
        found: String,
        /// What it should say.
        expected: &'static str,
    },
    /// Nobody knows this AccessKey.
    #[error("AccessKey {0:?} is not known")]
    UnknownAccessKey(String),
    /// The signature is that of another key or of another call.
    #[error("the signature does not match; check the secret of the AccessKey and the canonical form of the call")]
    Mismatch,
}

/// The text that is signed: method, path, and every parameter but `Signature`, sorted by name (PLATFORM.md 4.1). It holds
/// the security token if there is one, so it is a secret as well.
pub fn string_to_sign(method: &str, params: &Params) -> SecretString {
    let query = params.canonical_without("Signature");
    // Encoding twice makes a byte nine at most; room for all of it first, since text that grows leaves copies behind.
    let mut text = String::with_capacity(method.len() + 5 + query.expose().len() * 3);
    text.push_str(method);
    text.push_str("&%2F&");
    encoding::encode_into(&mut text, query.expose());
    SecretString::new(text)
}

/// The `Signature` of a call: Base64 of the HMAC-SHA1 of [`string_to_sign`] (PLATFORM.md 4.1). `method` is in capitals, and
/// a `Signature` among the parameters is passed over.
pub fn sign(method: &str, params: &Params, secret: &SecretString) -> String {
    BASE64.encode(hmac_of(method, params, secret).finalize().into_bytes())
}

/// Checks the signature of a call, as the gateway does: `params` are those of the query and of the form body together,
/// `secret_of` finds the secret of an AccessKey by its ID. In constant time as far as the signature goes.
pub fn verify(
    method: &str,
    params: &Params,
    secret_of: impl FnOnce(&str) -> Option<SecretString>,
) -> Result<AccessKeyId, VerifyError> {
    let id = required(params, "AccessKeyId")?;
    let signature = required(params, "Signature")?;
    only(params, "SignatureMethod", SIGNATURE_METHOD)?;
    only(params, "SignatureVersion", SIGNATURE_VERSION)?;
    // Without these two a call could be replayed for ever; that they are there is part of being signed.
    required(params, "SignatureNonce")?;
    required(params, "Timestamp")?;

    let secret = secret_of(id).ok_or_else(|| VerifyError::UnknownAccessKey(id.to_owned()))?;
    let tag = BASE64.decode(signature).map_err(|_| VerifyError::Mismatch)?;
    hmac_of(method, params, &secret).verify_slice(&tag).map_err(|_| VerifyError::Mismatch)?;
    Ok(AccessKeyId(id.to_owned()))
}

fn hmac_of(method: &str, params: &Params, secret: &SecretString) -> Hmac<Sha1> {
    let mut key = String::with_capacity(secret.expose().len() + 1);
    key.push_str(secret.expose());
    key.push('&');
    mac::<Hmac<Sha1>>(&SecretString::new(key), &string_to_sign(method, params))
}

fn required<'a>(params: &'a Params, name: &'static str) -> Result<&'a str, VerifyError> {
    params.get(name).filter(|value| !value.is_empty()).ok_or_else(|| VerifyError::Missing(name.to_owned()))
}

fn only(params: &Params, name: &'static str, expected: &'static str) -> Result<(), VerifyError> {
    match required(params, name)? {
        found if found == expected => Ok(()),
        found => Err(VerifyError::Unsupported { name, found: found.to_owned(), expected }),
    }
}

#[cfg(test)]
mod tests;
