//! Who connects, and as what: the values that a user name carries, and the client's half of the proof.

use std::fmt;
use std::str::FromStr;

use super::user_name::{self, UserNameError};
use super::{SignMethod, password, string_to_sign, verify_password};
use crate::secret::SecretString;

/// The name of one client of a consumer group: 1 to 64 characters, none of them `|` or a control character. The platform
/// shows it in its console, and recommends that it be unique (PLATFORM.md 1.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(String);

/// Why a text is not a [`ClientId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientIdError {
    /// There is nothing in it.
    #[error("the client ID is empty; it must have 1 to 64 characters")]
    Empty,
    /// It has more characters than the platform takes.
    #[error("the client ID has {0} characters; the platform takes 64 at most")]
    TooLong(usize),
    /// It has a character that would end it, or that no user name may have.
    #[error("the client ID contains {0:?}; `|` and control characters are not allowed in it")]
    Character(char),
}

impl ClientId {
    /// The most characters a client ID can have (PLATFORM.md 1.4).
    pub const MAX_CHARS: usize = 64;

    /// Checks the text and takes it over.
    pub fn try_new(text: impl Into<String>) -> Result<Self, ClientIdError> {
        let text = text.into();
        if text.is_empty() {
            return Err(ClientIdError::Empty);
        }
        if let Some(bad) = text.chars().find(|c| *c == '|' || c.is_control()) {
            return Err(ClientIdError::Character(bad));
        }
        match text.chars().count() {
            n if n > Self::MAX_CHARS => Err(ClientIdError::TooLong(n)),
            _ => Ok(Self(text)),
        }
    }

    /// The text of it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ClientId {
    type Err = ClientIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_new(text)
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Everything that a user name says. With a security token the mode is `ststoken`, without one it is `aksign`.
#[derive(Clone, Debug)]
pub struct ConnectIdentity {
    /// The client's own name.
    pub client_id: ClientId,
    /// The instance's ID; `None` for a legacy public instance, which has none (PLATFORM.md 1.3, 1.4).
    pub iot_instance_id: Option<String>,
    /// The consumer group's ID, or `DEFAULT_GROUP`.
    pub consumer_group_id: String,
    /// How the password is made.
    pub sign_method: SignMethod,
    /// The time of the attempt, in Unix milliseconds. Take a fresh one for every attempt.
    pub timestamp_ms: u64,
    /// The ID of the AccessKey whose secret signs.
    pub access_key_id: String,
    /// The token that came with a temporary AccessKey.
    pub security_token: Option<SecretString>,
}

/// What goes into SASL PLAIN. The user name contains the security token, so both are secrets.
#[derive(Clone, Debug)]
pub struct SaslCredentials {
    /// The authentication identity.
    pub user_name: SecretString,
    /// The proof of it.
    pub password: SecretString,
}

/// An identity that no user name can express.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// A value that must be there is empty.
    #[error("{option} is empty; the platform can't tell who connects without it")]
    Empty {
        /// The option's name in the user name.
        option: &'static str,
    },
    /// A value contains a character that separates options.
    #[error("{option} contains {character:?}; `,`, `|` and control characters can't be part of a user name's values")]
    Separator {
        /// The option's name in the user name.
        option: &'static str,
        /// The first such character.
        character: char,
    },
}

impl ConnectIdentity {
    /// Makes the user name, and the password for it with the AccessKey's secret.
    pub fn sign(&self, secret: &SecretString) -> Result<SaslCredentials, SignError> {
        Ok(SaslCredentials {
            user_name: user_name::format(self)?,
            password: password(self.sign_method, secret, &self.string_to_sign()),
        })
    }

    /// Reads a user name, as the server does. Options may come in any order, the trailing `|` must be there
    /// (PLATFORM.md 1.4). An option that is not known is passed over (`encode`, say, is one for STOMP), one that comes
    /// twice is refused. An empty `iotInstanceId` is none.
    pub fn parse(user_name: &str) -> Result<Self, UserNameError> {
        user_name::parse(user_name)
    }

    /// Whether `password` is the one that goes with this identity and the AccessKey's secret, in constant time.
    pub fn verify(&self, secret: &SecretString, password: &str) -> bool {
        verify_password(self.sign_method, secret, &self.string_to_sign(), password)
    }

    fn string_to_sign(&self) -> SecretString {
        string_to_sign(&self.access_key_id, self.security_token.as_ref(), self.timestamp_ms)
    }
}
