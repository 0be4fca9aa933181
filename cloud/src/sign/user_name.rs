//! The user name's text: `CLIENT|key=value,…|`, written and read (PLATFORM.md 1.4). Errors name options, never the value
//! of a secret one.

use super::{ClientId, ClientIdError, ConnectIdentity, SignError, UnknownSignMethod};
use crate::secret::SecretString;

/// `authMode` of a permanent AccessKey.
const AKSIGN: &str = "aksign";
/// `authMode` of a temporary AccessKey with its token.
const STSTOKEN: &str = "ststoken";

/// Why a user name can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    /// It is not of the form `CLIENT|OPTIONS|`.
    #[error("the user name has {bars} `|`; it must be CLIENT_ID|OPTIONS| with exactly two, the second at its end")]
    Form {
        /// How many `|` there are.
        bars: usize,
    },
    /// What stands before the first `|` is not a client ID.
    #[error(transparent)]
    ClientId(#[from] ClientIdError),
    /// An option is not of the form `key=value`.
    #[error("option {position} of the user name has no `=`; options are KEY=VALUE, separated by `,`")]
    NotAnOption {
        /// Which one it is, counted from 1.
        position: usize,
    },
    /// An option that must be there is not, or is empty.
    #[error("the user name has no {0}")]
    Missing(&'static str),
    /// An option is given more than once.
    #[error("the user name has more than one {0}")]
    Repeated(&'static str),
    /// `authMode` is neither of the two.
    #[error("authMode is {0:?}; the platform knows aksign and ststoken")]
    AuthMode(String),
    /// A security token where the mode has no use for it.
    #[error("the user name has a securityToken and authMode=aksign; a token goes with authMode=ststoken")]
    UnusedToken,
    /// `signMethod` is none of the three.
    #[error(transparent)]
    SignMethod(#[from] UnknownSignMethod),
    /// `timestamp` is not a count of milliseconds.
    #[error("timestamp is {0:?}; it must be Unix milliseconds in decimal digits")]
    Timestamp(String),
}

/// Writes the user name for `identity`.
pub(super) fn format(identity: &ConnectIdentity) -> Result<SecretString, SignError> {
    let instance = identity.iot_instance_id.as_deref().unwrap_or_default();
    let token = identity.security_token.as_ref().map(SecretString::expose);
    let timestamp = identity.timestamp_ms.to_string();
    check("iotInstanceId", instance)?;
    check_present("consumerGroupId", &identity.consumer_group_id)?;
    check_present("authId", &identity.access_key_id)?;
    if let Some(token) = token {
        check_present("securityToken", token)?;
    }

    let options = [
        ("iotInstanceId", Some(instance).filter(|id| !id.is_empty())),
        ("authMode", Some(if token.is_some() { STSTOKEN } else { AKSIGN })),
        ("signMethod", Some(identity.sign_method.wire_name())),
        ("consumerGroupId", Some(identity.consumer_group_id.as_str())),
        ("authId", Some(identity.access_key_id.as_str())),
        ("securityToken", token),
        ("timestamp", Some(timestamp.as_str())),
    ];
    // Text that grows leaves copies of the token behind: make room for all of it first.
    let room: usize = options.iter().map(|(key, value)| key.len() + value.map_or(0, str::len) + 2).sum();
    let mut text = String::with_capacity(identity.client_id.as_str().len() + room + 2);
    text.push_str(identity.client_id.as_str());
    let mut separator = '|';
    for (key, value) in options {
        let Some(value) = value else { continue };
        text.push(separator);
        text.push_str(key);
        text.push('=');
        text.push_str(value);
        separator = ',';
    }
    text.push('|');
    Ok(SecretString::new(text))
}

fn check_present(option: &'static str, value: &str) -> Result<(), SignError> {
    if value.is_empty() {
        return Err(SignError::Empty { option });
    }
    check(option, value)
}

fn check(option: &'static str, value: &str) -> Result<(), SignError> {
    match value.chars().find(|c| matches!(c, ',' | '|') || c.is_control()) {
        Some(character) => Err(SignError::Separator { option, character }),
        None => Ok(()),
    }
}

/// The options of a user name that mean something here, as they were found.
#[derive(Default)]
struct Options<'a> {
    iot_instance_id: Option<&'a str>,
    auth_mode: Option<&'a str>,
    sign_method: Option<&'a str>,
    consumer_group_id: Option<&'a str>,
    auth_id: Option<&'a str>,
    security_token: Option<&'a str>,
    timestamp: Option<&'a str>,
}

impl<'a> Options<'a> {
    fn parse(text: &'a str) -> Result<Self, UserNameError> {
        let mut options = Self::default();
        for (index, option) in text.split(',').enumerate() {
            // Only the first `=` separates: Base64 in a token ends in more of them.
            let (key, value) = option.split_once('=').ok_or(UserNameError::NotAnOption { position: index + 1 })?;
            let (name, slot) = match key {
                "iotInstanceId" => ("iotInstanceId", &mut options.iot_instance_id),
                "authMode" => ("authMode", &mut options.auth_mode),
                "signMethod" => ("signMethod", &mut options.sign_method),
                "consumerGroupId" => ("consumerGroupId", &mut options.consumer_group_id),
                "authId" => ("authId", &mut options.auth_id),
                "securityToken" => ("securityToken", &mut options.security_token),
                "timestamp" => ("timestamp", &mut options.timestamp),
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(UserNameError::Repeated(name));
            }
        }
        Ok(options)
    }
}

fn required<'a>(name: &'static str, value: Option<&'a str>) -> Result<&'a str, UserNameError> {
    value.filter(|value| !value.is_empty()).ok_or(UserNameError::Missing(name))
}

/// Reads a user name.
pub(super) fn parse(text: &str) -> Result<ConnectIdentity, UserNameError> {
    let form = || UserNameError::Form { bars: text.matches('|').count() };
    let (client_id, rest) = text.split_once('|').ok_or_else(form)?;
    let options = rest.strip_suffix('|').filter(|options| !options.contains('|')).ok_or_else(form)?;

    let client_id = ClientId::try_new(client_id)?;
    let options = Options::parse(options)?;
    let security_token = match required("authMode", options.auth_mode)? {
        AKSIGN if options.security_token.is_some() => return Err(UserNameError::UnusedToken),
        AKSIGN => None,
        STSTOKEN => Some(SecretString::from(required("securityToken", options.security_token)?)),
        other => return Err(UserNameError::AuthMode(other.to_owned())),
    };
    let timestamp = required("timestamp", options.timestamp)?;

    Ok(ConnectIdentity {
        client_id,
        iot_instance_id: options.iot_instance_id.filter(|id| !id.is_empty()).map(str::to_owned),
        consumer_group_id: required("consumerGroupId", options.consumer_group_id)?.to_owned(),
        sign_method: required("signMethod", options.sign_method)?.parse()?,
        timestamp_ms: parse_timestamp(timestamp).ok_or_else(|| UserNameError::Timestamp(timestamp.to_owned()))?,
        access_key_id: required("authId", options.auth_id)?.to_owned(),
        security_token,
    })
}

/// Digits only, in the one form that a number has: what is signed is the text, and it must be the same text again.
fn parse_timestamp(text: &str) -> Option<u64> {
    text.parse().ok().filter(|value: &u64| value.to_string() == text)
}
