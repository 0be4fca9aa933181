//! The actions of the token service, version 2015-04-01 (PLATFORM.md 4.3): temporary keys for those who may assume a role.
//! Its failures are refusals, unlike the IoT OpenAPI's.

use std::time::Duration;

use serde_json::{Map, Value, json};
use sluice_cloud::rpc::Params;

use super::answer::{Answer, Refusal};
use super::oidc::{self, KeySet};
use crate::accounts::{Accounts, Caller, Identity, Issued, Role};
use crate::config::{ProviderEntry, Sts};
use crate::rules::Rules;

/// The signed action.
pub(super) const ASSUME_ROLE: &str = "AssumeRole";
/// The unsigned one.
pub(super) const ASSUME_ROLE_WITH_OIDC: &str = "AssumeRoleWithOIDC";

/// The action of this name, if there is one.
pub(super) fn action(name: &str) -> Option<&'static str> {
    [ASSUME_ROLE, ASSUME_ROLE_WITH_OIDC].into_iter().find(|&action| action == name)
}

fn required<'a>(params: &'a Params, name: &str, code: &'static str) -> Result<&'a str, Refusal> {
    let value = params.get(name).filter(|value| !value.is_empty());
    value.ok_or_else(|| Refusal::invalid(code, format!("{name} is mandatory for this action.")))
}

fn no_permission() -> Refusal {
    Refusal::new(403, "NoPermission", "You are not authorized to do this action. You should be authorized by RAM.")
}

/// What both actions ask for.
struct Wanted<'a> {
    role: Role,
    session: &'a str,
    lasts: Duration,
}

impl<'a> Wanted<'a> {
    fn read(accounts: &Accounts, params: &'a Params, rules: &Sts) -> Result<Self, Refusal> {
        let arn = required(params, "RoleArn", "MissingRoleArn")?;
        let session = required(params, "RoleSessionName", "MissingRoleSessionName")?;
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '@' | '-' | '_');
        if !(2..=64).contains(&session.len()) || !session.chars().all(fits) {
            let words = "The parameter RoleSessionName is wrongly formed: 2 to 64 letters, digits, or any of .@-_";
            return Err(Refusal::invalid("InvalidParameter.RoleSessionName", words));
        }
        if !arn.starts_with("acs:ram::") || !arn.contains(":role/") {
            return Err(Refusal::invalid("InvalidParameter.RoleArn", "The parameter RoleArn is wrongly formed."));
        }
        let role = accounts.role(arn).cloned().ok_or_else(|| {
            Refusal::new(404, "EntityNotExist.Role", format!("The specified Role not exists: {arn}."))
        })?;
        let (min, max) = (rules.min_duration.as_secs(), role.max_session.as_secs());
        let seconds = match params.get("DurationSeconds").filter(|seconds| !seconds.is_empty()) {
            None => rules.default_duration.as_secs().min(max),
            Some(text) => {
                let seconds = text.parse().ok().filter(|seconds| (min..=max).contains(seconds));
                seconds.ok_or_else(|| {
                    let words = format!("The Min/Max value of DurationSeconds is {min}/{max} seconds.");
                    Refusal::invalid("InvalidParameter.DurationSeconds", words)
                })?
            }
        };
        let lasts = rules.sessions_last.unwrap_or(Duration::from_secs(seconds));
        Ok(Self { role, session, lasts })
    }

    fn issue(&self, accounts: &mut Accounts, owner: Option<&str>, now_ms: u64) -> Map<String, Value> {
        let issued = accounts.issue(&self.role, self.session, owner, self.lasts, now_ms);
        document(&issued)
    }
}

/// The one place where a secret of the emulator's own leaves it: it is what was asked for.
fn document(issued: &Issued) -> Map<String, Value> {
    let document = json!({
        "AssumedRoleUser": {"Arn": issued.arn, "AssumedRoleId": issued.role_id},
        "Credentials": {
            "AccessKeyId": issued.key_id,
            "AccessKeySecret": issued.secret.expose(),
            "SecurityToken": issued.token.expose(),
            "Expiration": moment(issued.expires_at_ms),
        },
    });
    match document {
        Value::Object(document) => document,
        _ => Map::new(),
    }
}

/// `AssumeRole`: for users of an account that the role trusts.
pub(super) fn assume_role(
    accounts: &mut Accounts,
    caller: &Caller,
    params: &Params,
    rules: &Sts,
    now_ms: u64,
) -> Result<Answer, Refusal> {
    if caller.identity == Identity::Root {
        return Err(Refusal::new(403, "NoPermission", "Roles may not be assumed by root accounts."));
    }
    let wanted = Wanted::read(accounts, params, rules)?;
    if !caller.may("sts:AssumeRole") || !wanted.role.trust.accounts.contains(&caller.account) {
        return Err(no_permission());
    }
    let owner = (caller.identity == Identity::User).then_some(caller.key_id.as_str());
    Ok(Answer::new("AssumeRoleResponse", wanted.issue(accounts, owner, now_ms)))
}

/// `AssumeRoleWithOIDC`: for whoever has a token of a provider, with a subject that the role trusts. `keys_of` gets a
/// provider's keys.
pub(super) fn assume_role_with_oidc(
    accounts: &mut Accounts,
    params: &Params,
    rules: &Sts,
    keys_of: impl FnOnce(&ProviderEntry) -> Result<KeySet, String>,
    kept: Rules,
    now_ms: u64,
) -> Result<Answer, Refusal> {
    let provider_arn = required(params, "OIDCProviderArn", "MissingOIDCProviderArn")?;
    let token = required(params, "OIDCToken", "MissingOIDCToken")?;
    let wanted = Wanted::read(accounts, params, rules)?;
    let provider = accounts.provider(provider_arn).ok_or_else(|| {
        let words = format!("The specified OIDC provider not exists: {provider_arn}.");
        Refusal::new(404, "EntityNotExist.OIDCProvider", words)
    })?;
    let keys = keys_of(provider).map_err(|reason| Refusal::new(500, "InternalError", reason))?;
    let claims = oidc::check(token, &keys, &provider.issuer, &provider.audiences, kept, now_ms / 1_000)
        .map_err(|error| Refusal::invalid(error.code(), error.to_string()))?;
    let mut trusted = wanted.role.trust.service_accounts.iter();
    if !trusted.any(|it| it.provider == provider_arn && it.subject.fits(&claims.subject)) {
        let words = "You are not authorized to do this action: the role does not trust this subject of this provider.";
        return Err(Refusal::new(403, "AuthenticationFail.NoPermission", words));
    }
    let mut document = wanted.issue(accounts, None, now_ms);
    let token_info = json!({
        "Subject": claims.subject,
        "Issuer": claims.issuer,
        "ClientIds": claims.audiences.join(","),
        "ExpirationTime": moment(claims.expires_at_s.saturating_mul(1_000)),
        "IssuanceTime": claims.issued_at_s.map(|at| moment(at.saturating_mul(1_000))),
        "VerificationInfo": "Success",
    });
    document.insert("OIDCTokenInfo".to_owned(), token_info);
    Ok(Answer::new("AssumeRoleWithOIDCResponse", document))
}

/// A moment as these answers show it: `2015-04-09T11:52:19Z`.
fn moment(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    sluice_cloud::rpc::format_timestamp(at.unwrap_or_default())
}

#[cfg(test)]
mod tests;
