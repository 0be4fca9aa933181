//! The credentials that sign for a connection. Where they come from (environment, files, STS) is the caller's business.

use crate::secret::SecretString;

/// An AccessKey: permanent, or temporary with its security token (PLATFORM.md 1.4). Its `Debug` shows the ID only.
#[derive(Clone, Debug)]
pub struct AccessKey {
    id: String,
    secret: SecretString,
    security_token: Option<SecretString>,
}

/// Why something is not an [AccessKey]. No variant holds a part of a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AccessKeyError {
    /// A part is there, but empty.
    #[error("the {0} is empty")]
    Empty(Part),
    /// A part has a character that it can't have on the wire.
    #[error("the {part} has a character at position {position} that no {part} has: {expected}")]
    Character {
        /// Which part it is.
        part: Part,
        /// Where the first such character stands, counted from 1.
        position: usize,
        /// What is not allowed in that part.
        expected: &'static str,
    },
}

/// A part of an AccessKey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The ID, which is no secret.
    Id,
    /// The secret that signs.
    Secret,
    /// The token of a temporary one.
    SecurityToken,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Id => "AccessKey ID",
            Self::Secret => "AccessKey secret",
            Self::SecurityToken => "security token",
        })
    }
}

impl AccessKey {
    /// Checks the parts and takes them over. None may be empty or hold white space or a control character; ID and token
    /// travel in the user name, so they have no `,` and no `|` either.
    pub fn try_new(
        id: impl Into<String>,
        secret: SecretString,
        security_token: Option<SecretString>,
    ) -> Result<Self, AccessKeyError> {
        let id = id.into();
        check(Part::Id, &id)?;
        check(Part::Secret, secret.expose())?;
        if let Some(token) = &security_token {
            check(Part::SecurityToken, token.expose())?;
        }
        Ok(Self { id, secret, security_token })
    }

    /// The ID, `authId` on the wire.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret that signs.
    pub fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// The token of a temporary AccessKey.
    pub fn security_token(&self) -> Option<&SecretString> {
        self.security_token.as_ref()
    }
}

fn check(part: Part, text: &str) -> Result<(), AccessKeyError> {
    if text.is_empty() {
        return Err(AccessKeyError::Empty(part));
    }
    let (separators, expected): (&[char], _) = match part {
        Part::Secret => (&[], "white space and control characters are not allowed"),
        Part::Id | Part::SecurityToken => (&[',', '|'], "white space, control characters, `,` and `|` are not allowed"),
    };
    match text.chars().position(|c| c.is_control() || c.is_whitespace() || separators.contains(&c)) {
        Some(index) => Err(AccessKeyError::Character { part, position: index + 1, expected }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, secret: &str, token: Option<&str>) -> Result<AccessKey, AccessKeyError> {
        AccessKey::try_new(id, SecretString::from(secret), token.map(SecretString::from))
    }

    #[test]
    fn an_access_key_has_its_parts() {
        let permanent = key("testid", "testsecret", None).unwrap();
        assert_eq!((permanent.id(), permanent.secret().expose()), ("testid", "testsecret"));
        assert!(permanent.security_token().is_none());
        let temporary = key("STS.testid", "test,secret|", Some("a+b/c==")).unwrap();
        assert_eq!(temporary.security_token().unwrap().expose(), "a+b/c==");
    }

    #[test]
    fn an_access_key_without_one_of_its_parts_is_refused() {
        assert_eq!(key("", "s", None).unwrap_err(), AccessKeyError::Empty(Part::Id));
        assert_eq!(key("i", "", None).unwrap_err(), AccessKeyError::Empty(Part::Secret));
        assert_eq!(key("i", "s", Some("")).unwrap_err(), AccessKeyError::Empty(Part::SecurityToken));
    }

    #[test]
    fn a_part_with_a_character_it_can_t_have_is_refused_without_showing_it() {
        let position = |result: Result<AccessKey, AccessKeyError>| match result.unwrap_err() {
            AccessKeyError::Character { part, position, .. } => (part, position),
            AccessKeyError::Empty(part) => panic!("the {part} is not empty"),
        };
        assert_eq!(position(key("a,b", "s", None)), (Part::Id, 2));
        assert_eq!(position(key("i", "secret\n", None)), (Part::Secret, 7));
        assert_eq!(position(key("i", "s", Some("a|b"))), (Part::SecurityToken, 2));
        let message = key("i", "my secret", None).unwrap_err().to_string();
        assert_eq!(
            message,
            "the AccessKey secret has a character at position 3 that no AccessKey secret has: \
             white space and control characters are not allowed"
        );
    }

    #[test]
    fn an_access_key_prints_its_id_alone() {
        let printed = format!("{:?}", key("testid", "testsecret", Some("testtoken")).unwrap());
        assert!(printed.contains("testid") && !printed.contains("testsecret") && !printed.contains("testtoken"));
    }
}
