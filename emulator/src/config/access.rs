//! Who there is: access keys, temporary keys, roles, identity providers.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use sluice_cloud::secret::SecretString;

use super::ConfigError;
use crate::duration;
use crate::pattern::Pattern;

/// An access key: a RAM user's, unless it says that it is the account's own.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessKeyEntry {
    /// Its ID.
    pub id: String,
    /// Its secret.
    #[serde(deserialize_with = "secret")]
    pub secret: SecretString,
    /// The account it belongs to; `accountId` when left out.
    #[serde(default)]
    pub account: Option<String>,
    /// What it may do: `iot:sub` to connect, `iot:` and an action of the OpenAPI, `sts:AssumeRole`; `*` at the end stands
    /// for anything. Everything when left out.
    #[serde(default = "everything")]
    pub permissions: Vec<Pattern>,
    /// Whether it is the account's own key. Such a one can't assume a role (PLATFORM.md 4.3).
    #[serde(default)]
    pub root: bool,
}

impl AccessKeyEntry {
    /// A key of the first account that may do everything.
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        let (id, secret) = (id.into(), SecretString::new(secret));
        Self { id, secret, account: None, permissions: everything(), root: false }
    }
}

/// A temporary access key, as STS hands one out.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenEntry {
    /// Its ID, `STS.…`.
    pub access_key_id: String,
    /// Its secret.
    #[serde(deserialize_with = "secret")]
    pub access_key_secret: SecretString,
    /// The token that goes with it.
    #[serde(deserialize_with = "secret")]
    pub security_token: SecretString,
    /// When it expires, in Unix ms; never when left out.
    #[serde(default)]
    pub expires_at_ms: Option<u64>,
    /// The account it acts for; `accountId` when left out.
    #[serde(default)]
    pub account: Option<String>,
    /// What it may do; everything when left out.
    #[serde(default = "everything")]
    pub permissions: Vec<Pattern>,
}

/// A role, and who may assume it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoleEntry {
    /// `acs:ram::ACCOUNT:role/NAME`.
    pub arn: String,
    /// What it may do; everything when left out.
    #[serde(default = "everything")]
    pub permissions: Vec<Pattern>,
    /// The longest session it takes. 1 h.
    #[serde(default = "an_hour", with = "duration")]
    pub max_session: Duration,
    /// Who may assume it; nobody when left out.
    #[serde(default)]
    pub trust: TrustEntry,
}

/// Whom a role trusts.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TrustEntry {
    /// Accounts: users of theirs with `sts:AssumeRole` may assume it, with `AssumeRole`.
    pub accounts: Vec<String>,
    /// Identities of other systems, with `AssumeRoleWithOIDC`.
    pub service_accounts: Vec<ServiceAccountEntry>,
}

/// An identity that a token of an identity provider proves.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceAccountEntry {
    /// The provider's ARN.
    pub provider: String,
    /// The token's `sub`, `system:serviceaccount:NAMESPACE:NAME` for Kubernetes; `*` at the end stands for anything.
    pub subject: Pattern,
}

/// An identity provider: a Kubernetes cluster, as a rule.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProviderEntry {
    /// `acs:ram::ACCOUNT:oidc-provider/NAME`.
    pub arn: String,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// One of these must be in a token's `aud`; `sts.aliyuncs.com` when left out.
    #[serde(default = "sts")]
    pub audiences: Vec<String>,
    /// A file with the keys that sign its tokens: a JWKS, or public RSA keys as PEM. It is read again for every token.
    #[serde(default)]
    pub keys_file: Option<PathBuf>,
    /// The same, here instead of in a file.
    #[serde(default)]
    pub keys: Option<String>,
}

impl RoleEntry {
    /// The account the role belongs to.
    pub(crate) fn account(&self) -> &str {
        parts(&self.arn, "role/").map_or("", |(account, _)| account)
    }

    /// The role's name.
    pub(crate) fn name(&self) -> &str {
        parts(&self.arn, "role/").map_or("", |(_, name)| name)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check_arn("roles[].arn", &self.arn, "role/")
    }
}

impl ProviderEntry {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        check_arn("oidcProviders[].arn", &self.arn, "oidc-provider/")?;
        if self.keys_file.is_some() == self.keys.is_some() {
            let reason = "must be there, or else keys must, and not both".to_owned();
            return Err(ConfigError::Value { field: "oidcProviders[].keysFile", reason });
        }
        Ok(())
    }
}

/// The account and the name in an ARN of RAM.
fn parts<'a>(arn: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    let (account, rest) = arn.strip_prefix("acs:ram::")?.split_once(':')?;
    let name = rest.strip_prefix(kind)?;
    (!account.is_empty() && !name.is_empty()).then_some((account, name))
}

fn check_arn(field: &'static str, arn: &str, kind: &str) -> Result<(), ConfigError> {
    let reason = || format!("{arn:?} must be acs:ram::ACCOUNT:{kind}NAME");
    parts(arn, kind).map(|_| ()).ok_or_else(|| ConfigError::Value { field, reason: reason() })
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::new)
}

fn everything() -> Vec<Pattern> {
    vec![Pattern::new("*")]
}

fn sts() -> Vec<String> {
    vec!["sts.aliyuncs.com".to_owned()]
}

fn an_hour() -> Duration {
    Duration::from_hours(1)
}
