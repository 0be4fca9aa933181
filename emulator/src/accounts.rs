//! Who may do what: access keys, temporary keys with their tokens, roles, and the identity providers that roles trust
//! (PLATFORM.md 1.4, 4.3). The AMQP side and the OpenAPI both ask here. Nothing here prints a secret, and nothing looks at
//! a clock.

mod session;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use sluice_cloud::secret::SecretString;

pub(crate) use self::session::{Issued, Role};

use self::session::{Session, Sessions};
use crate::config::{AccessKeyEntry, ProviderEntry, RoleEntry, TokenEntry};
use crate::pattern::Pattern;
use crate::profile::StsKey;
use crate::rules::{Rule, Rules};
use crate::terms::Terms;

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
    /// The ID of the access key; the temporary one for a session.
    pub(crate) key_id: String,
    /// The account's ID.
    pub(crate) account: String,
    /// Who it is in that account.
    pub(crate) identity: Identity,
    permissions: Vec<Pattern>,
    rules: Rules,
    /// When the key expires, in Unix ms.
    pub(crate) expires_at_ms: Option<u64>,
}

impl Caller {
    /// Whether the caller may do this: `iot:sub`, `iot:` and an action, `sts:AssumeRole`.
    pub(crate) fn may(&self, what: &str) -> bool {
        !self.rules.keeps(Rule::KeyPermission) || self.permissions.iter().any(|pattern| pattern.fits(what))
    }

    /// Whether the caller may do anything to what belongs to this account.
    pub(crate) fn is_of(&self, account: &str) -> bool {
        !self.rules.keeps(Rule::KeyAccount) || self.account == account
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

/// All of them. See the module.
pub(crate) struct Accounts {
    default_account: String,
    keys: HashMap<String, Key>,
    sessions: Sessions,
    roles: Vec<RoleEntry>,
    providers: Vec<ProviderEntry>,
    terms: Arc<Terms>,
}

impl fmt::Debug for Accounts {
    /// The sessions are found by their tokens, so they are counted and not shown.
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
            secret: entry.access_key_secret.clone(),
            owner: None,
            caller: Caller {
                key_id: entry.access_key_id.clone(),
                account: account(&entry.account),
                identity: Identity::Session {
                    arn: format!("acs:sts::{}:assumed-role/configured/configured", account(&entry.account)),
                },
                permissions: entry.permissions.clone(),
                rules: Rules::default(),
                expires_at_ms: entry.expires_at_ms,
            },
        };
        let mut sessions = Sessions::default();
        for entry in tokens {
            sessions.add(entry.security_token.expose(), session(entry));
        }
        let keys = keys.iter().map(|entry| (entry.id.clone(), key(entry))).collect();
        Self { default_account: default_account.to_owned(), keys, sessions, roles, providers, terms: Arc::default() }
    }

    /// The same under these terms.
    pub(crate) fn under(self, terms: Arc<Terms>) -> Self {
        Self { terms, ..self }
    }

    /// The secret of an access key, and whom it belongs to, if it may be used now.
    pub(crate) fn look_up(
        &self,
        key_id: &str,
        token: Option<&str>,
        now_ms: u64,
    ) -> Result<(SecretString, Caller), BadKey> {
        let Some(token) = token else {
            let temporary = self.sessions.has_key(key_id);
            let key = self.key(key_id).map_err(|reason| if temporary { BadKey::TokenMissing } else { reason })?;
            let caller = Caller {
                key_id: key_id.to_owned(),
                account: key.account.clone(),
                identity: if key.root { Identity::Root } else { Identity::User },
                permissions: key.permissions.clone(),
                rules: self.terms.rules,
                expires_at_ms: None,
            };
            return Ok((key.secret.clone(), caller));
        };
        let session = self.sessions.get(token).ok_or(BadKey::TokenUnknown)?;
        if session.caller.key_id != key_id {
            return Err(BadKey::TokenOfAnother);
        }
        Ok((session.secret.clone(), self.acts(session, now_ms)?))
    }

    /// The same for the user name of a client's connection. With a security token, the platform may want the key of the
    /// user who has assumed the role instead of the temporary one; where nobody has (a configured token, a token of an
    /// identity provider), the temporary one serves in any case.
    pub(crate) fn look_up_client(
        &self,
        key_id: &str,
        token: Option<&str>,
        now_ms: u64,
    ) -> Result<(SecretString, Caller), BadKey> {
        let session = token.and_then(|token| self.sessions.get(token));
        let assumed = session.and_then(|session| Some((session, session.owner.as_deref()?)));
        match (self.terms.profile.sts_key, assumed) {
            (StsKey::Owner, Some((session, owner))) => {
                if owner != key_id {
                    return Err(BadKey::TokenOfAnother);
                }
                Ok((self.key(owner)?.secret.clone(), self.acts(session, now_ms)?))
            }
            _ => self.look_up(key_id, token, now_ms),
        }
    }

    fn key(&self, key_id: &str) -> Result<&Key, BadKey> {
        let key = self.keys.get(key_id).ok_or(BadKey::Unknown)?;
        if key.enabled || !self.terms.keeps(Rule::KeyPermission) { Ok(key) } else { Err(BadKey::Disabled) }
    }

    /// Whom a session acts for, while it lasts.
    fn acts(&self, session: &Session, now_ms: u64) -> Result<Caller, BadKey> {
        let expired = session.caller.expires_at_ms.is_some_and(|at| at <= now_ms);
        if expired && self.terms.keeps(Rule::TokenLife) {
            return Err(BadKey::TokenExpired);
        }
        Ok(Caller { rules: self.terms.rules, ..session.caller.clone() })
    }

    /// Lets a temporary key expire now. Says whether there is one of this ID.
    pub(crate) fn expire(&mut self, key_id: &str, now_ms: u64) -> bool {
        self.sessions.expire(key_id, now_ms)
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
