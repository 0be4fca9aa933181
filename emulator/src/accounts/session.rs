//! Roles, and the temporary keys of those who have assumed one.

use std::time::Duration;

use rand::Rng as _;
use rand::distr::{Alphanumeric, Distribution as _};
use sluice_cloud::secret::SecretString;

use super::{Accounts, Caller, Identity, Session};
use crate::config::RoleEntry;

/// How long the emulator remembers a token that has expired, so as to say that it has, and not that it never was.
const REMEMBERED_MS: u64 = 3_600_000;
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

impl Accounts {
    /// The role with this ARN.
    pub(crate) fn role(&self, arn: &str) -> Option<&Role> {
        self.roles.iter().find(|role| role.arn == arn)
    }

    /// Hands out a temporary key for a role. That the role may be assumed is the caller's business.
    pub(crate) fn issue(&mut self, role: &Role, session: &str, lasts: Duration, now_ms: u64) -> Issued {
        self.sessions.retain(|_, session| {
            session.caller.expires_at_ms.is_none_or(|at| at.saturating_add(REMEMBERED_MS) > now_ms)
        });
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
            account: role.account().to_owned(),
            identity: Identity::Session { arn: arn.clone() },
            permissions: role.permissions.clone(),
            expires_at_ms: Some(expires_at_ms),
        };
        let kept = Session { key_id: key_id.clone(), secret: secret.clone(), caller };
        self.sessions.insert(token.clone(), kept);
        let role_id = format!("3{:018}:{session}", fold(&role.arn) % 1_000_000_000_000_000_000);
        Issued { key_id, secret, token: SecretString::new(token), expires_at_ms, arn, role_id }
    }
}

/// A number that goes with a text and with hardly any other (FNV-1a): a role's ID is the same at every start.
fn fold(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
