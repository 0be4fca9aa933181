//! Who may connect (PLATFORM.md 1.4): the check of a user name and password against the platform's groups and keys. The
//! peer is never told why it was refused.

use std::sync::{Arc, Mutex, PoisonError};

use fe2o3_amqp_types::sasl::SaslCode;
use sluice_cloud::sign::{ConnectIdentity, UserNameError};

use crate::accounts::{Accounts, BadKey, Caller, SUBSCRIBE};
use crate::instances::InstanceError;
use crate::platform::Refusal;
use crate::profile::{Profile, Timestamp};
use crate::rules::Rule;
use crate::terms::Terms;

/// Why an attempt was refused. For the log: the peer only hears that it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("not a user name of the platform: {0}")]
    UserName(#[from] UserNameError),
    #[error("{0}")]
    Group(#[from] InstanceError),
    #[error("{id:?}: {reason}")]
    Key { id: String, reason: BadKey },
    #[error("the password is not the signature of access key {0:?}")]
    Signature(String),
    #[error("access key {id:?} is one of account {found}, the instance belongs to {expected}")]
    Account { id: String, found: String, expected: String },
    #[error("access key {0:?} has no permission iot:sub")]
    Permission(String),
    #[error("the timestamp {timestamp_ms} is too far from the platform's time, {now_ms}")]
    Stale { timestamp_ms: u64, now_ms: u64 },
    #[error("{0}")]
    Refused(#[from] Refusal),
}

impl Denied {
    /// What SASL says of it. Who is refused is told so and nothing else, unless the group has no place for one more and the
    /// profile would have that known.
    pub(crate) fn outcome(&self, profile: &Profile) -> SaslCode {
        match self {
            Self::Refused(refusal) if refusal.is_temporary(profile) => SaslCode::SysTemp,
            _ => SaslCode::Auth,
        }
    }
}

/// Checks a password, and that its key may connect to an instance of this account.
pub(crate) fn admit(
    accounts: &Arc<Mutex<Accounts>>,
    identity: &ConnectIdentity,
    password: &str,
    account: &str,
    terms: &Terms,
    now_ms: u64,
) -> Result<Caller, Denied> {
    let timestamp_ms = identity.timestamp_ms;
    let window = terms.limits.timestamp_window.as_millis();
    if terms.profile.timestamp == Timestamp::Fresh && u128::from(timestamp_ms.abs_diff(now_ms)) > window {
        return Err(Denied::Stale { timestamp_ms, now_ms });
    }
    let id = identity.access_key_id.as_str();
    let token = identity.security_token.as_ref().map(sluice_cloud::secret::SecretString::expose);
    let found = accounts.lock().unwrap_or_else(PoisonError::into_inner).look_up_client(id, token, now_ms);
    let (secret, caller) = found.map_err(|reason| Denied::Key { id: id.to_owned(), reason })?;
    if terms.keeps(Rule::SaslSignature) && !identity.verify(&secret, password) {
        return Err(Denied::Signature(id.to_owned()));
    }
    if !caller.is_of(account) {
        let expected = account.to_owned();
        return Err(Denied::Account { id: id.to_owned(), found: caller.account, expected });
    }
    if !caller.may(SUBSCRIBE) {
        return Err(Denied::Permission(id.to_owned()));
    }
    Ok(caller)
}

#[cfg(test)]
mod tests {
    use sluice_cloud::sign::{ClientId, SignMethod};

    use super::*;
    use crate::config::{AccessKeyEntry, TokenEntry};
    use crate::pattern::Pattern;
    use crate::profile::SurplusClient;

    fn accounts() -> Arc<Mutex<Accounts>> {
        let blind = AccessKeyEntry {
            permissions: vec![Pattern::new("iot:Query*")],
            ..AccessKeyEntry::new("blindid", "testsecret")
        };
        let tokens = [TokenEntry {
            access_key_id: "STS.testid".into(),
            access_key_secret: "stssecret".into(),
            security_token: "testtoken".into(),
            expires_at_ms: Some(1_000),
            account: None,
            permissions: vec![Pattern::new("*")],
        }];
        let keys = [AccessKeyEntry::new("testid", "testsecret"), blind];
        Arc::new(Mutex::new(Accounts::new("1", &keys, &tokens, Vec::new(), Vec::new())))
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
        admit(&accounts(), identity, password.expose(), "1", &Terms::default(), now_ms).map(|_| ())
    }

    #[test]
    fn the_published_vector_is_a_right_password() {
        let right = admit(&accounts(), &identity(), "RG+3WYzI9qDD0P9m6ER+maK4yH0=", "1", &Terms::default(), 0);
        assert_eq!(right.unwrap().expires_at_ms, None);
        let wrong = admit(&accounts(), &identity(), "RG+3WYzI9qDD0P9m6ER+maK4yH1=", "1", &Terms::default(), 0);
        assert_eq!(wrong.unwrap_err(), Denied::Signature("testid".into()));
    }

    #[test]
    fn the_key_must_be_known_may_connect_and_belong_to_the_account() {
        let with = |id: &str| ConnectIdentity { access_key_id: id.into(), ..identity() };
        let unknown = Denied::Key { id: "otherid".into(), reason: BadKey::Unknown };
        assert_eq!(attempt(&with("otherid"), "testsecret", 0), Err(unknown));
        assert_eq!(attempt(&with("blindid"), "testsecret", 0), Err(Denied::Permission("blindid".into())));
        let password = identity().sign(&"testsecret".into()).unwrap().password;
        let elsewhere = admit(&accounts(), &identity(), password.expose(), "2", &Terms::default(), 0);
        assert!(matches!(elsewhere, Err(Denied::Account { .. })));
    }

    #[test]
    fn one_too_many_is_temporary_where_the_profile_says_so_and_nobody_else_is() {
        let surplus = Denied::Refused(Refusal::TooManyClients { limit: 64 });
        let profile = |surplus_client| Profile { surplus_client, ..Profile::default() };
        assert_eq!(surplus.outcome(&profile(SurplusClient::SaslTemporary)), SaslCode::SysTemp);
        assert_eq!(surplus.outcome(&profile(SurplusClient::Sasl)), SaslCode::Auth);
        for denied in [Denied::Refused(Refusal::TooManyAttempts { limit: 100 }), Denied::Signature("testid".into())] {
            assert_eq!(denied.outcome(&profile(SurplusClient::SaslTemporary)), SaslCode::Auth);
        }
    }

    #[test]
    fn a_timestamp_matters_only_where_the_profile_says_so() {
        let profile = Profile { timestamp: Timestamp::Fresh, ..Profile::default() };
        let terms = Terms { profile, ..Terms::default() };
        let password = identity().sign(&"testsecret".into()).unwrap().password;
        let attempt = |terms: &Terms, now_ms: u64| {
            admit(&accounts(), &identity(), password.expose(), "1", terms, now_ms).map(|_| ())
        };
        let (at, window) = (identity().timestamp_ms, 900_000);
        for now_ms in [at - window, at, at + window] {
            assert_eq!(attempt(&terms, now_ms), Ok(()));
        }
        for now_ms in [at - window - 1, at + window + 1] {
            assert_eq!(attempt(&terms, now_ms), Err(Denied::Stale { timestamp_ms: at, now_ms }));
            assert_eq!(attempt(&Terms::default(), now_ms), Ok(()));
        }
    }

    #[test]
    fn a_token_serves_its_own_key_until_it_expires() {
        let sts = ConnectIdentity {
            access_key_id: "STS.testid".into(),
            security_token: Some("testtoken".into()),
            ..identity()
        };
        let denied = |reason| Err(Denied::Key { id: "STS.testid".into(), reason });
        assert_eq!(attempt(&sts, "stssecret", 999), Ok(()));
        assert_eq!(attempt(&sts, "stssecret", 1_000), denied(BadKey::TokenExpired));
        assert_eq!(attempt(&sts, "testsecret", 0), Err(Denied::Signature("STS.testid".into())));
        let bare = ConnectIdentity { security_token: None, ..sts };
        assert_eq!(attempt(&bare, "stssecret", 0), denied(BadKey::TokenMissing));
    }
}
