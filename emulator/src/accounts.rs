//! Who may do what: access keys, temporary keys with their tokens, roles, and the identity providers that roles trust
//! (PLATFORM.md 1.4, 4.3). The AMQP side and the OpenAPI both ask here. Nothing here prints a secret, and nothing looks at
//! a clock.

mod session;

use std::collections::HashMap;
use std::fmt;

use sluice_cloud::secret::SecretString;

pub(crate) use self::session::{Issued, Role};

use crate::config::{AccessKeyEntry, ProviderEntry, RoleEntry, TokenEntry};
use crate::pattern::Pattern;

/// The permission that a client's connection needs (PLATFORM.md 1.4).
pub(crate) const SUBSCRIBE: &str = "iot:sub";

/// What kind of identity calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The account itself, which may assume no role.
    Root,
    /// A RAM user.
    User,
    /// A role, in a session of its own.
    Session {
        /// `acs:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
        arn: String,
    },
}

/// Whom an access key belongs to.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// The account's ID.
    pub(crate) account: String,
    /// Who it is in that account.
    pub(crate) identity: Identity,
    permissions: Vec<Pattern>,
    /// When the key expires, in Unix ms.
    pub(crate) expires_at_ms: Option<u64>,
}

impl Caller {
    /// Whether the caller may do this: `iot:sub`, `iot:` and an action, `sts:AssumeRole`.
    pub(crate) fn may(&self, what: &str) -> bool {
        self.permissions.iter().any(|pattern| pattern.fits(what))
    }
}

/// Why an access key is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadKey {
    #[error("no such access key")]
    Unknown,
    #[error("the access key is disabled")]
    Disabled,
    #[error("a temporary access key without its security token")]
    TokenMissing,
    #[error("no such security token")]
    TokenUnknown,
    #[error("the security token is that of another access key")]
    TokenOfAnother,
    #[error("the security token has expired")]
    TokenExpired,
}

/// An access key as an admin sees and changes it.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    secret: SecretString,
    /// The account's ID.
    pub(crate) account: String,
    /// What it may do.
    pub(crate) permissions: Vec<Pattern>,
    /// Whether it is the account's own, and not a user's.
    pub(crate) root: bool,
    /// Whether it is in use.
    pub(crate) enabled: bool,
}

/// What an admin changes of a key; what is `None` stays.
#[derive(Debug, Default)]
pub(crate) struct KeyChange {
    pub(crate) secret: Option<SecretString>,
    pub(crate) account: Option<String>,
    pub(crate) permissions: Option<Vec<Pattern>>,
    pub(crate) enabled: Option<bool>,
}

/// A temporary key.
struct Session {
    key_id: String,
    secret: SecretString,
    caller: Caller,
}

/// All of them. See the module.
pub(crate) struct Accounts {
    default_account: String,
    keys: HashMap<String, Key>,
    /// By their tokens.
    sessions: HashMap<String, Session>,
    roles: Vec<RoleEntry>,
    providers: Vec<ProviderEntry>,
}

impl fmt::Debug for Accounts {
    /// The map of sessions has tokens for keys, so it is counted and not shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = self.sessions.len();
        f.debug_struct("Accounts").field("keys", &self.keys).field("sessions", &sessions).finish_non_exhaustive()
    }
}

impl Accounts {
    pub(crate) fn new(
        default_account: &str,
        keys: &[AccessKeyEntry],
        tokens: &[TokenEntry],
        roles: Vec<RoleEntry>,
        providers: Vec<ProviderEntry>,
    ) -> Self {
        let account = |named: &Option<String>| named.clone().unwrap_or_else(|| default_account.to_owned());
        let key = |entry: &AccessKeyEntry| Key {
            secret: entry.secret.clone(),
            account: account(&entry.account),
            permissions: entry.permissions.clone(),
            root: entry.root,
            enabled: true,
        };
        let session = |entry: &TokenEntry| Session {
            key_id: entry.access_key_id.clone(),
            secret: entry.access_key_secret.clone(),
            caller: Caller {
                account: account(&entry.account),
                identity: Identity::Session {
                    arn: format!("acs:sts::{}:assumed-role/configured/configured", account(&entry.account)),
                },
                permissions: entry.permissions.clone(),
                expires_at_ms: entry.expires_at_ms,
            },
        };
        Self {
            default_account: default_account.to_owned(),
            keys: keys.iter().map(|entry| (entry.id.clone(), key(entry))).collect(),
            sessions: tokens.iter().map(|entry| (entry.security_token.expose().to_owned(), session(entry))).collect(),
            roles,
            providers,
        }
    }

    /// The secret of an access key, and whom it belongs to, if it may be used now.
    pub(crate) fn look_up(
        &self,
        key_id: &str,
        token: Option<&str>,
        now_ms: u64,
    ) -> Result<(SecretString, Caller), BadKey> {
        let Some(token) = token else {
            if let Some(key) = self.keys.get(key_id) {
                let identity = if key.root { Identity::Root } else { Identity::User };
                let (account, permissions) = (key.account.clone(), key.permissions.clone());
                let caller = Caller { account, identity, permissions, expires_at_ms: None };
                return if key.enabled { Ok((key.secret.clone(), caller)) } else { Err(BadKey::Disabled) };
            }
            let temporary = self.sessions.values().any(|session| session.key_id == key_id);
            return Err(if temporary { BadKey::TokenMissing } else { BadKey::Unknown });
        };
        let session = self.sessions.get(token).ok_or(BadKey::TokenUnknown)?;
        if session.key_id != key_id {
            return Err(BadKey::TokenOfAnother);
        }
        if session.caller.expires_at_ms.is_some_and(|at| at <= now_ms) {
            return Err(BadKey::TokenExpired);
        }
        Ok((session.secret.clone(), session.caller.clone()))
    }

    /// The access keys, by ID; temporary ones are not among them.
    pub(crate) fn keys(&self) -> Vec<(&str, &Key)> {
        let mut keys: Vec<_> = self.keys.iter().map(|(id, key)| (id.as_str(), key)).collect();
        keys.sort_by_key(|(id, _)| *id);
        keys
    }

    /// Makes a key or changes it. The error says what a new key lacks.
    pub(crate) fn change_key(&mut self, id: &str, change: KeyChange) -> Result<(), &'static str> {
        let default_account = &self.default_account;
        let fresh = |secret| Key {
            secret,
            account: default_account.clone(),
            permissions: vec![Pattern::new("*")],
            root: false,
            enabled: true,
        };
        let key = match (self.keys.contains_key(id), &change.secret) {
            (false, None) => return Err("there is no such access key, and a new one needs a secret"),
            (_, Some(secret)) if secret.is_empty() => return Err("the secret is empty"),
            (false, Some(secret)) => self.keys.entry(id.to_owned()).or_insert(fresh(secret.clone())),
            (true, _) => match self.keys.get_mut(id) {
                Some(key) => key,
                None => return Ok(()),
            },
        };
        key.secret = change.secret.unwrap_or_else(|| key.secret.clone());
        key.account = change.account.unwrap_or_else(|| key.account.clone());
        key.permissions = change.permissions.unwrap_or_else(|| key.permissions.clone());
        key.enabled = change.enabled.unwrap_or(key.enabled);
        Ok(())
    }

    /// Removes a key. Says whether it was there.
    pub(crate) fn remove_key(&mut self, id: &str) -> bool {
        self.keys.remove(id).is_some()
    }

    /// The identity provider with this ARN.
    pub(crate) fn provider(&self, arn: &str) -> Option<&ProviderEntry> {
        self.providers.iter().find(|provider| provider.arn == arn)
    }
}

#[cfg(test)]
mod tests;
