//! Who may connect: the instance's access keys and temporary tokens, and the check of a user name and password against
//! them (PLATFORM.md 1.4). Never prints a secret, and never tells the peer why it was refused.

use std::collections::HashMap;

use sluice_cloud::secret::SecretString;
use sluice_cloud::sign::{ConnectIdentity, UserNameError};

use crate::config::{AccessKeyEntry, TokenEntry};

/// Why an attempt was refused. For the log: the peer only hears that it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("not a user name of the platform: {0}")]
    UserName(#[from] UserNameError),
    #[error("iotInstanceId is {found:?}, this is {expected:?}")]
    Instance { expected: String, found: String },
    #[error("no consumer group {0:?}")]
    Group(String),
    #[error("no access key {0:?}")]
    AccessKey(String),
    #[error("no such security token for access key {0:?}")]
    Token(String),
    #[error("the security token of access key {0:?} has expired")]
    Expired(String),
    #[error("the password is not the signature of access key {0:?}")]
    Signature(String),
}

#[derive(Debug)]
struct Token {
    access_key_id: String,
    secret: SecretString,
    expires_at_ms: Option<u64>,
}

/// The instance's keys and tokens.
#[derive(Debug)]
pub(crate) struct Registry {
    instance_id: String,
    keys: HashMap<String, SecretString>,
    tokens: HashMap<String, Token>,
}

impl Registry {
    pub(crate) fn new(instance_id: &str, keys: &[AccessKeyEntry], tokens: &[TokenEntry]) -> Self {
        let token = |entry: &TokenEntry| Token {
            access_key_id: entry.access_key_id.clone(),
            secret: entry.access_key_secret.clone(),
            expires_at_ms: entry.expires_at_ms,
        };
        Self {
            instance_id: instance_id.to_owned(),
            keys: keys.iter().map(|key| (key.id.clone(), key.secret.clone())).collect(),
            tokens: tokens.iter().map(|entry| (entry.security_token.expose().to_owned(), token(entry))).collect(),
        }
    }

    /// Checks everything but the group, which the platform knows.
    pub(crate) fn check(&self, identity: &ConnectIdentity, password: &str, now_ms: u64) -> Result<(), Denied> {
        let instance = identity.iot_instance_id.as_deref().unwrap_or_default();
        if instance != self.instance_id {
            return Err(Denied::Instance { expected: self.instance_id.clone(), found: instance.to_owned() });
        }
        let key_id = &identity.access_key_id;
        let secret = match &identity.security_token {
            None => self.keys.get(key_id).ok_or_else(|| Denied::AccessKey(key_id.clone()))?,
            Some(token) => {
                let token = self.tokens.get(token.expose()).filter(|token| token.access_key_id == *key_id);
                let token = token.ok_or_else(|| Denied::Token(key_id.clone()))?;
                if token.expires_at_ms.is_some_and(|at| at <= now_ms) {
                    return Err(Denied::Expired(key_id.clone()));
                }
                &token.secret
            }
        };
        if identity.verify(secret, password) { Ok(()) } else { Err(Denied::Signature(key_id.clone())) }
    }
}

#[cfg(test)]
mod tests {
    use sluice_cloud::sign::{ClientId, SignMethod};

    use super::*;

    fn registry() -> Registry {
        let keys = [AccessKeyEntry { id: "testid".into(), secret: "testsecret".into() }];
        let tokens = [TokenEntry {
            access_key_id: "STS.testid".into(),
            access_key_secret: "stssecret".into(),
            security_token: "testtoken".into(),
            expires_at_ms: Some(1_000),
        }];
        Registry::new("iot-emulator", &keys, &tokens)
    }

    fn identity() -> ConnectIdentity {
        ConnectIdentity {
            client_id: ClientId::try_new("c").unwrap(),
            iot_instance_id: Some("iot-emulator".into()),
            consumer_group_id: "DEFAULT_GROUP".into(),
            sign_method: SignMethod::HmacSha1,
            timestamp_ms: 1_573_489_088_171,
            access_key_id: "testid".into(),
            security_token: None,
        }
    }

    fn attempt(identity: &ConnectIdentity, secret: &str, now_ms: u64) -> Result<(), Denied> {
        let password = identity.sign(&secret.into()).unwrap().password;
        registry().check(identity, password.expose(), now_ms)
    }

    #[test]
    fn the_published_vector_is_a_right_password() {
        assert_eq!(registry().check(&identity(), "RG+3WYzI9qDD0P9m6ER+maK4yH0=", 0), Ok(()));
        let wrong = registry().check(&identity(), "RG+3WYzI9qDD0P9m6ER+maK4yH1=", 0);
        assert_eq!(wrong, Err(Denied::Signature("testid".into())));
    }

    #[test]
    fn the_key_and_the_instance_must_be_known() {
        let other_key = ConnectIdentity { access_key_id: "otherid".into(), ..identity() };
        assert_eq!(attempt(&other_key, "testsecret", 0), Err(Denied::AccessKey("otherid".into())));
        let no_instance = ConnectIdentity { iot_instance_id: None, ..identity() };
        assert!(matches!(attempt(&no_instance, "testsecret", 0), Err(Denied::Instance { .. })));
    }

    #[test]
    fn a_token_serves_its_own_key_until_it_expires() {
        let sts = ConnectIdentity {
            access_key_id: "STS.testid".into(),
            security_token: Some("testtoken".into()),
            ..identity()
        };
        assert_eq!(attempt(&sts, "stssecret", 999), Ok(()));
        assert_eq!(attempt(&sts, "stssecret", 1_000), Err(Denied::Expired("STS.testid".into())));
        assert_eq!(attempt(&sts, "testsecret", 0), Err(Denied::Signature("STS.testid".into())));
        let other = ConnectIdentity { security_token: Some("other".into()), ..sts.clone() };
        assert_eq!(attempt(&other, "stssecret", 0), Err(Denied::Token("STS.testid".into())));
        let bare = ConnectIdentity { security_token: None, ..sts };
        assert_eq!(attempt(&bare, "stssecret", 0), Err(Denied::AccessKey("STS.testid".into())));
    }
}
