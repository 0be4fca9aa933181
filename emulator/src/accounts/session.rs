//! Roles, and the temporary keys of those who have assumed one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng as _;
use rand::distr::{Alphanumeric, Distribution as _};
use sluice_cloud::secret::SecretString;

use super::{Accounts, Caller, Identity};
use crate::config::RoleEntry;

/// How long the emulator remembers a token that has expired, so as to say that it has, and not that it never was.
const REMEMBERED_MS: u64 = 3_600_000;
/// How many tokens it holds before it remembers none any longer that has expired.
const MANY: usize = 100_000;
/// The length of a security token. Real ones have hundreds of characters, too many for a SASL frame of 512 bytes.
const TOKEN_CHARS: usize = 640;

/// Base64's alphabet, which tokens are made of.
const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// A role that someone may assume.
pub(crate) type Role = RoleEntry;

/// A temporary key that was just handed out.
#[derive(Debug)]
pub(crate) struct Issued {
    /// `STS.…`.
    pub(crate) key_id: String,
    pub(crate) secret: SecretString,
    pub(crate) token: SecretString,
    pub(crate) expires_at_ms: u64,
    /// The session's ARN.
    pub(crate) arn: String,
    /// The role's ID and the session's name, `3…:NAME`.
    pub(crate) role_id: String,
}

/// A temporary key. Its ID and its end are the caller's.
pub(super) struct Session {
    pub(super) secret: SecretString,
    /// The access key of the user who has assumed the role, if it was one.
    pub(super) owner: Option<String>,
    pub(super) caller: Caller,
}

/// The temporary keys, found by their tokens and by their IDs, and forgotten in the order in which they expire.
#[derive(Default)]
pub(super) struct Sessions {
    by_token: HashMap<Arc<str>, Session>,
    /// The tokens of each temporary key.
    tokens: HashMap<String, Vec<Arc<str>>>,
    /// When which token expires.
    ends: BTreeSet<(u64, Arc<str>)>,
}

impl Sessions {
    pub(super) fn len(&self) -> usize {
        self.by_token.len()
    }

    pub(super) fn add(&mut self, token: &str, session: Session) {
        let token: Arc<str> = token.into();
        self.remove(&token);
        if let Some(at) = session.caller.expires_at_ms {
            self.ends.insert((at, Arc::clone(&token)));
        }
        self.tokens.entry(session.caller.key_id.clone()).or_default().push(Arc::clone(&token));
        self.by_token.insert(token, session);
    }

    fn remove(&mut self, token: &Arc<str>) {
        let Some(session) = self.by_token.remove(token) else { return };
        if let Some(at) = session.caller.expires_at_ms {
            self.ends.remove(&(at, Arc::clone(token)));
        }
        if let Some(tokens) = self.tokens.get_mut(&session.caller.key_id) {
            tokens.retain(|other| other != token);
            if tokens.is_empty() {
                self.tokens.remove(&session.caller.key_id);
            }
        }
    }

    pub(super) fn get(&self, token: &str) -> Option<&Session> {
        self.by_token.get(token)
    }

    /// Whether there is a temporary key of this ID.
    pub(super) fn has_key(&self, key_id: &str) -> bool {
        self.tokens.contains_key(key_id)
    }

    /// Lets every token of a temporary key expire now, unless it has. Says whether there is such a key.
    pub(super) fn expire(&mut self, key_id: &str, now_ms: u64) -> bool {
        let Some(tokens) = self.tokens.get(key_id) else { return false };
        for token in tokens {
            let Some(session) = self.by_token.get_mut(token) else { continue };
            let end = &mut session.caller.expires_at_ms;
            if end.is_none_or(|at| at > now_ms) {
                if let Some(at) = end.replace(now_ms) {
                    self.ends.remove(&(at, Arc::clone(token)));
                }
                self.ends.insert((now_ms, Arc::clone(token)));
            }
        }
        true
    }

    /// Forgets what has expired long ago; what has expired at all when there is very much.
    fn forget(&mut self, now_ms: u64) {
        while let Some((at, token)) = self.ends.first() {
            let remembered = if self.by_token.len() < MANY { REMEMBERED_MS } else { 0 };
            if at.saturating_add(remembered) > now_ms {
                break;
            }
            let token = Arc::clone(token);
            self.remove(&token);
        }
    }
}

impl Accounts {
    /// The role with this ARN.
    pub(crate) fn role(&self, arn: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.arn == arn)
    }

    /// Hands out a temporary key for a role to whoever has this access key, if anything. That the role may be assumed is
    /// the caller's business.
    pub(crate) fn issue(
        &mut self,
        role: &Role,
        session: &str,
        owner: Option<&str>,
        lasts: Duration,
        now_ms: u64,
    ) -> Issued {
        self.sessions.forget(now_ms);
        let rng = &mut rand::rng();
        let text = |length: usize, rng: &mut rand::rngs::ThreadRng| -> String {
            Alphanumeric.sample_iter(rng).take(length).map(char::from).collect()
        };
        let key_id = format!("STS.{}", text(25, rng));
        let secret = SecretString::new(text(44, rng));
        let token: String = (0..TOKEN_CHARS).map(|_| char::from(BASE64[rng.random_range(0..64)])).collect();
        let expires_at_ms = now_ms.saturating_add(u64::try_from(lasts.as_millis()).unwrap_or(u64::MAX));
        let arn = format!("acs:sts::{}:assumed-role/{}/{session}", role.account(), role.name());
        let caller = Caller {
            key_id: key_id.clone(),
            account: role.account().to_owned(),
            identity: Identity::Session { arn: arn.clone() },
            permissions: role.permissions.clone(),
            rules: self.terms.rules,
            expires_at_ms: Some(expires_at_ms),
        };
        let kept = Session { secret: secret.clone(), owner: owner.map(str::to_owned), caller };
        self.sessions.add(&token, kept);
        let role_id = format!("3{:018}:{session}", fold(&role.arn) % 1_000_000_000_000_000_000);
        Issued { key_id, secret, token: SecretString::new(token), expires_at_ms, arn, role_id }
    }
}

/// A number that goes with a text and with hardly any other (FNV-1a): a role's ID is the same at every start.
fn fold(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
