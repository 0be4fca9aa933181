//! Keys, tokens, and what becomes of them.

use std::time::Duration;

use super::*;

const TOKEN: &str = "testtoken";

fn accounts() -> Accounts {
    let key = |id: &str, permissions: &[&str]| AccessKeyEntry {
        permissions: permissions.iter().map(|&text| Pattern::new(text)).collect(),
        ..AccessKeyEntry::new(id, format!("{id}-secret"))
    };
    let token = TokenEntry {
        access_key_id: "STS.a".into(),
        access_key_secret: "sts-secret".into(),
        security_token: TOKEN.into(),
        expires_at_ms: Some(1_000),
        account: Some("2".into()),
        permissions: vec![Pattern::new(SUBSCRIBE)],
    };
    Accounts::new("1", &[key("all", &["*"]), key("sub", &[SUBSCRIBE])], &[token], vec![role()], Vec::new())
}

fn role() -> RoleEntry {
    RoleEntry {
        arn: "acs:ram::2:role/reader".into(),
        permissions: vec![Pattern::new("iot:*")],
        max_session: Duration::from_hours(1),
        trust: crate::config::TrustEntry::default(),
    }
}

fn refused(accounts: &Accounts, key_id: &str, token: Option<&str>, now_ms: u64) -> BadKey {
    accounts.look_up(key_id, token, now_ms).unwrap_err()
}

#[test]
fn a_key_has_its_account_and_its_permissions() {
    let accounts = accounts();
    let (secret, caller) = accounts.look_up("all", None, 0).unwrap();
    assert_eq!(
        (secret.expose(), caller.account.as_str(), caller.identity.clone()),
        ("all-secret", "1", Identity::User)
    );
    assert!(caller.may("sts:AssumeRole") && caller.may(SUBSCRIBE));
    let (_, caller) = accounts.look_up("sub", None, 0).unwrap();
    assert!(caller.may(SUBSCRIBE) && !caller.may("iot:QueryConsumerGroupStatus"));
    assert_eq!(refused(&accounts, "none", None, 0), BadKey::Unknown);
}

#[test]
fn a_token_serves_its_own_key_until_it_expires() {
    let accounts = accounts();
    assert_eq!(accounts.look_up("STS.a", Some(TOKEN), 999).unwrap().1.account, "2");
    assert_eq!(refused(&accounts, "STS.a", Some(TOKEN), 1_000), BadKey::TokenExpired);
    assert_eq!(refused(&accounts, "STS.a", Some("other"), 0), BadKey::TokenUnknown);
    assert_eq!(refused(&accounts, "all", Some(TOKEN), 0), BadKey::TokenOfAnother);
    assert_eq!(refused(&accounts, "STS.a", None, 0), BadKey::TokenMissing);
}

#[test]
fn keys_are_rotated_disabled_made_and_removed() {
    let mut accounts = accounts();
    let secret = |accounts: &Accounts| accounts.look_up("all", None, 0).unwrap().0.expose().to_owned();
    accounts.change_key("all", KeyChange { secret: Some("new".into()), ..KeyChange::default() }).unwrap();
    assert_eq!(secret(&accounts), "new");
    accounts.change_key("all", KeyChange { enabled: Some(false), ..KeyChange::default() }).unwrap();
    assert_eq!(refused(&accounts, "all", None, 0), BadKey::Disabled);
    accounts.change_key("all", KeyChange { enabled: Some(true), ..KeyChange::default() }).unwrap();
    assert_eq!(secret(&accounts), "new", "what is not named stays");

    assert!(accounts.change_key("second", KeyChange::default()).is_err());
    let second = KeyChange { secret: Some("s".into()), account: Some("2".into()), ..KeyChange::default() };
    accounts.change_key("second", second).unwrap();
    assert_eq!(accounts.look_up("second", None, 0).unwrap().1.account, "2");
    assert!(accounts.remove_key("second") && !accounts.remove_key("second"));
    assert_eq!(refused(&accounts, "second", None, 0), BadKey::Unknown);
}

#[test]
fn a_session_acts_for_its_role_and_is_forgotten_long_after_it_ended() {
    let mut accounts = accounts();
    let issued = accounts.issue(&role(), "someone", None, Duration::from_mins(15), 5_000);
    assert!(issued.key_id.starts_with("STS.") && issued.token.expose().len() > 512);
    assert!(!issued.token.expose().contains([',', '|']), "it must fit into a user name");
    assert_eq!(issued.expires_at_ms, 905_000);
    let token = issued.token.expose();
    let (secret, caller) = accounts.look_up(&issued.key_id, Some(token), 904_999).unwrap();
    assert_eq!(secret.expose(), issued.secret.expose());
    assert_eq!(caller.account, "2");
    assert_eq!(caller.identity, Identity::Session { arn: "acs:sts::2:assumed-role/reader/someone".into() });
    assert!(caller.may("iot:sub") && !caller.may("sts:AssumeRole"));
    assert_eq!(refused(&accounts, &issued.key_id, Some(token), 905_000), BadKey::TokenExpired);
    let again = accounts.issue(&role(), "someone", None, Duration::from_mins(15), 905_000 + 3_600_000);
    assert_eq!(refused(&accounts, &issued.key_id, Some(token), 905_001), BadKey::TokenUnknown);
    assert_ne!(again.token.expose(), token);
    assert_eq!(again.role_id, issued.role_id);
}

#[test]
fn a_token_can_be_made_to_expire_at_once() {
    let mut accounts = accounts();
    let issued = accounts.issue(&role(), "someone", None, Duration::from_mins(15), 5_000);
    let token = issued.token.expose();
    assert!(!accounts.expire("STS.none", 6_000) && !accounts.expire("all", 6_000));
    assert!(accounts.expire(&issued.key_id, 6_000));
    assert!(accounts.look_up(&issued.key_id, Some(token), 5_999).is_ok());
    assert_eq!(refused(&accounts, &issued.key_id, Some(token), 6_000), BadKey::TokenExpired);
    assert!(accounts.expire(&issued.key_id, 7_000), "it is still known");
    assert_eq!(refused(&accounts, &issued.key_id, Some(token), 6_000), BadKey::TokenExpired);
    accounts.issue(&role(), "someone", None, Duration::from_mins(15), 6_000 + 3_600_000);
    assert_eq!(refused(&accounts, &issued.key_id, Some(token), 6_000), BadKey::TokenUnknown);
    let mut accounts = self::accounts();
    assert!(accounts.expire("STS.a", 500));
    assert_eq!(refused(&accounts, "STS.a", Some(TOKEN), 500), BadKey::TokenExpired);
}

#[test]
fn sessions_are_forgotten_in_the_order_of_their_ends_and_take_no_room_then() {
    let mut accounts = accounts();
    for minutes in [30, 10, 20] {
        accounts.issue(&role(), "someone", None, Duration::from_mins(minutes), 0);
    }
    assert_eq!(accounts.sessions.len(), 4, "one was configured");
    let at = |minutes: u64| (minutes + 60) * 60_000;
    accounts.issue(&role(), "someone", None, Duration::from_hours(9), at(20));
    assert_eq!(accounts.sessions.len(), 2);
    accounts.issue(&role(), "someone", None, Duration::from_hours(9), at(30) - 1);
    assert_eq!(accounts.sessions.len(), 3);
    accounts.issue(&role(), "someone", None, Duration::from_hours(9), at(30));
    assert_eq!(accounts.sessions.len(), 3);
}

#[test]
fn a_client_may_have_to_name_the_key_of_whoever_assumed_the_role() {
    let issue = |sts_key: StsKey, owner| {
        let profile = crate::Profile { sts_key, ..crate::Profile::default() };
        let mut accounts = accounts().under(Arc::new(Terms { profile, ..Terms::default() }));
        let issued = accounts.issue(&role(), "someone", owner, Duration::from_mins(15), 0);
        (accounts, issued)
    };
    let secret = |(accounts, issued): &(Accounts, Issued), key: &str, now_ms| {
        let found = accounts.look_up_client(key, Some(issued.token.expose()), now_ms);
        found.map(|(secret, caller)| (secret.expose().to_owned(), caller.account))
    };
    let temporary = issue(StsKey::Temporary, Some("all"));
    let own = Ok((temporary.1.secret.expose().to_owned(), "2".to_owned()));
    assert_eq!(secret(&temporary, &temporary.1.key_id, 0), own);
    assert_eq!(secret(&temporary, "all", 0), Err(BadKey::TokenOfAnother));

    let mut owner = issue(StsKey::Owner, Some("all"));
    assert_eq!(secret(&owner, "all", 0), Ok(("all-secret".into(), "2".into())), "it acts for the role's account");
    assert_eq!(secret(&owner, &owner.1.key_id, 0), Err(BadKey::TokenOfAnother));
    assert_eq!(secret(&owner, "all", 900_000), Err(BadKey::TokenExpired));
    owner.0.change_key("all", KeyChange { enabled: Some(false), ..KeyChange::default() }).unwrap();
    assert_eq!(secret(&owner, "all", 0), Err(BadKey::Disabled));
    let nobody = issue(StsKey::Owner, None);
    assert!(secret(&nobody, &nobody.1.key_id, 0).is_ok());
    assert!(nobody.0.look_up_client("all", None, 0).is_ok());
}

#[test]
fn nothing_secret_is_printed() {
    let mut accounts = accounts();
    let issued = accounts.issue(&role(), "someone", None, Duration::from_mins(15), 0);
    let printed = format!("{accounts:?} {issued:?}");
    assert!(!printed.contains("all-secret") && !printed.contains(TOKEN) && !printed.contains(issued.token.expose()));
}
