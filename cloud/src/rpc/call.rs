//! A call before it is signed, and what is added to every one of them.

use std::fmt;

use jiff::Timestamp;

use super::{Params, SIGNATURE_METHOD, SIGNATURE_VERSION, format_timestamp, sign};
use crate::credentials::AccessKey;

/// A value that no other call has: 128 random bits in hexadecimal. The gateway refuses a call whose nonce it has seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// Makes one of 128 random bits.
    pub fn from_bits(bits: u128) -> Self {
        Self(format!("{bits:032x}"))
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is asked, apart from who asks and when.
#[derive(Clone)]
pub struct Call {
    /// The action's name, `QueryConsumerGroupStatus` say.
    pub action: &'static str,
    /// The version of the API that has it.
    pub version: &'static str,
    /// The action's own parameters.
    pub params: Params,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {:?}", self.action, self.version, self.params)
    }
}

impl Call {
    /// Every parameter of the call that `key` makes, `Signature` among them (PLATFORM.md 4, 4.1). Answers are to be JSON.
    pub fn signed(&self, method: &str, key: &AccessKey, at: Timestamp, nonce: &Nonce) -> Params {
        let mut params = self.unsigned(at, nonce);
        for (name, value) in self.params.iter() {
            params.set(name, value);
        }
        params.set("AccessKeyId", key.id());
        params.set("SignatureMethod", SIGNATURE_METHOD);
        params.set("SignatureVersion", SIGNATURE_VERSION);
        if let Some(token) = key.security_token() {
            params.set("SecurityToken", token.expose());
        }
        let signature = sign(method, &params, key.secret());
        params.set("Signature", signature);
        params
    }

    /// What an unsigned call has in its query; the action's own parameters go into its body (`AssumeRoleWithOIDC`,
    /// PLATFORM.md 4.3).
    pub fn unsigned(&self, at: Timestamp, nonce: &Nonce) -> Params {
        Params::new()
            .with("Action", self.action)
            .with("Version", self.version)
            .with("Format", "JSON")
            .with("Timestamp", format_timestamp(at))
            .with("SignatureNonce", nonce.as_str())
    }
}
