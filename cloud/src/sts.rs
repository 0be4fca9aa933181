//! Temporary credentials from STS, version 2015-04-01: a role is assumed with an AccessKey, or with a token that an identity
//! provider (a Kubernetes cluster, say) gave (PLATFORM.md 4.3).

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};

use crate::answer::{Action, SignedAction, Unreadable, UnsignedAction, parse};
use crate::credentials::AccessKey;
use crate::rpc::{Call, Params, parse_timestamp};
use crate::secret::SecretString;

/// The version of the API.
pub const VERSION: &str = "2015-04-01";

/// The host of STS in a region, as it is seen from outside or from within a VPC.
pub fn host(region: &str, vpc: bool) -> String {
    format!("sts{}.{region}.aliyuncs.com", if vpc { "-vpc" } else { "" })
}

/// Why a value can't be part of such a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StsError {
    /// Not the ARN of a role.
    #[error("{0:?} is not the ARN of a role; one looks like acs:ram::1234567890123456:role/my-role")]
    RoleArn(String),
    /// Not a session's name.
    #[error("{0:?} can't name a session; it must have 2 to 64 characters of a-z, A-Z, 0-9 and . @ - _")]
    SessionName(String),
    /// A time that STS does not give.
    #[error("a session of {0:?} is not possible; the shortest is 900 s, the longest 43200 s")]
    Duration(Duration),
}

/// The name of a role: `acs:ram::ACCOUNT:role/NAME`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoleArn(String);

impl RoleArn {
    /// Checks the form.
    pub fn try_new(text: impl Into<String>) -> Result<Self, StsError> {
        let text = text.into();
        let parts = text.strip_prefix("acs:ram::").and_then(|rest| rest.split_once(":role/"));
        let good = parts.is_some_and(|(account, name)| {
            !account.is_empty()
                && account.bytes().all(|c| c.is_ascii_digit())
                && !name.is_empty()
                && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_' | b'/'))
        });
        if good { Ok(Self(text)) } else { Err(StsError::RoleArn(text)) }
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The number of the account that the role belongs to.
    pub fn account(&self) -> &str {
        self.0.split(':').nth(3).unwrap_or_default()
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a session is called in the account's audit log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionName(String);

impl SessionName {
    /// Checks the characters, and that there are 2 to 64 of them.
    pub fn try_new(text: impl Into<String>) -> Result<Self, StsError> {
        let text = text.into();
        let good = (2..=64).contains(&text.len())
            && text.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'@' | b'-' | b'_'));
        if good { Ok(Self(text)) } else { Err(StsError::SessionName(text)) }
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How long a session is to last: 900 s to 12 h; a role may allow less (one hour unless it says otherwise).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionDuration(Duration);

impl SessionDuration {
    /// Checks the bounds; parts of a second are cut off.
    pub fn try_new(duration: Duration) -> Result<Self, StsError> {
        let whole = Duration::from_secs(duration.as_secs());
        let bounds = Duration::from_secs(900)..=Duration::from_secs(43_200);
        if bounds.contains(&whole) { Ok(Self(whole)) } else { Err(StsError::Duration(duration)) }
    }

    /// The duration.
    pub fn get(self) -> Duration {
        self.0
    }
}

impl Default for SessionDuration {
    /// One hour, which every role allows.
    fn default() -> Self {
        Self(Duration::from_secs(3600))
    }
}

/// Temporary credentials.
#[derive(Clone, Debug)]
pub struct Session {
    /// The key with its token.
    pub key: AccessKey,
    /// When it ends, by the clock of STS.
    pub expires: Timestamp,
}

impl Session {
    /// How long the session lasts, from when it was asked for: what STS says by its own clock (`date` is that of its answer),
    /// and what was asked for at most. So neither clock needs to be right, only to run.
    pub fn lifetime(&self, asked: SessionDuration, date: Option<Timestamp>) -> Duration {
        let said = date.map(|date| Duration::try_from(self.expires.duration_since(date)).unwrap_or_default());
        said.map_or(asked.get(), |said| said.min(asked.get()))
    }
}

/// Assumes a role with an AccessKey. Not one of an account's root user.
#[derive(Clone, Debug)]
pub struct AssumeRole {
    /// Which role.
    pub role: RoleArn,
    /// What the session is called.
    pub session: SessionName,
    /// How long it lasts.
    pub duration: SessionDuration,
    /// What the role's trust policy may ask for.
    pub external_id: Option<String>,
}

/// Assumes a role with an identity provider's token (RRSA). Not signed: the token proves who calls.
#[derive(Clone, Debug)]
pub struct AssumeRoleWithOidc {
    /// Which role.
    pub role: RoleArn,
    /// What the session is called.
    pub session: SessionName,
    /// How long it lasts.
    pub duration: SessionDuration,
    /// The ARN of the identity provider as the account knows it: `acs:ram::ACCOUNT:oidc-provider/NAME`.
    pub provider_arn: String,
    /// The token. A fresh one each time: they are short-lived.
    pub token: SecretString,
}

fn params(role: &RoleArn, session: &SessionName, duration: SessionDuration) -> Params {
    Params::new()
        .with("RoleArn", role.as_str())
        .with("RoleSessionName", session.as_str())
        .with("DurationSeconds", duration.get().as_secs().to_string())
}

impl Action for AssumeRole {
    const NAME: &'static str = "AssumeRole";
    type Answer = Session;

    fn call(&self) -> Call {
        let mut params = params(&self.role, &self.session, self.duration);
        if let Some(id) = &self.external_id {
            params.set("ExternalId", id.as_str());
        }
        Call { action: Self::NAME, version: VERSION, params }
    }

    fn read(&self, body: &[u8]) -> Result<Session, Unreadable> {
        read(body)
    }
}

impl Action for AssumeRoleWithOidc {
    const NAME: &'static str = "AssumeRoleWithOIDC";
    type Answer = Session;

    fn call(&self) -> Call {
        let params = params(&self.role, &self.session, self.duration)
            .with("OIDCProviderArn", self.provider_arn.as_str())
            .with("OIDCToken", self.token.expose());
        Call { action: Self::NAME, version: VERSION, params }
    }

    fn read(&self, body: &[u8]) -> Result<Session, Unreadable> {
        read(body)
    }
}

impl SignedAction for AssumeRole {}
impl UnsignedAction for AssumeRoleWithOidc {}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    credentials: Credentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Credentials {
    access_key_id: String,
    #[serde(deserialize_with = "secret")]
    access_key_secret: SecretString,
    #[serde(deserialize_with = "secret")]
    security_token: SecretString,
    expiration: String,
}

fn secret<'de, D: Deserializer<'de>>(input: D) -> Result<SecretString, D::Error> {
    String::deserialize(input).map(SecretString::new)
}

fn read(body: &[u8]) -> Result<Session, Unreadable> {
    let Credentials { access_key_id, access_key_secret, security_token, expiration } =
        parse::<Answer>(body)?.credentials;
    let expires = parse_timestamp(&expiration)
        .ok_or_else(|| Unreadable(format!("Expiration is {expiration:?}, not a time like 2026-11-20T12:00:00Z")))?;
    let key = AccessKey::try_new(access_key_id, access_key_secret, Some(security_token))
        .map_err(|error| Unreadable(error.to_string()))?;
    Ok(Session { key, expires })
}

#[cfg(test)]
mod tests;
