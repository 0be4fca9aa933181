//! What stands in a Secret, as an AccessKey.

use k8s_openapi::api::core::v1::Secret;
use sluice_cloud::credentials::{AccessKey, AccessKeyError};
use sluice_cloud::secret::SecretString;

/// The key of the AccessKey's ID.
pub const ID: &str = "accessKeyId";
/// The key of its secret.
pub const SECRET: &str = "accessKeySecret";
/// The key of the token that a temporary one has.
pub const TOKEN: &str = "securityToken";

/// Why a Secret holds no AccessKey. Says nothing of what else is in it: whoever may name a Secret need not be allowed to
/// see even the names of its keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// A key is not there.
    #[error("it has no `{0}`: it needs `{ID}` and `{SECRET}`")]
    Missing(&'static str),
    /// A value is no text.
    #[error("`{0}` is not UTF-8 text")]
    NotText(&'static str),
    /// A value can't be.
    #[error(transparent)]
    Value(#[from] AccessKeyError),
}

/// Reads it. Line breaks at the end of a value are cut off: they come from `echo` and editors, and no key has them.
pub fn read(secret: &Secret) -> Result<AccessKey, SecretError> {
    let text = |name: &'static str| -> Result<Option<&str>, SecretError> {
        let value = secret.data.as_ref().and_then(|data| data.get(name));
        let text = value.map(|value| std::str::from_utf8(&value.0).map_err(|_| SecretError::NotText(name)));
        Ok(text.transpose()?.map(|text| text.trim_end_matches(['\r', '\n'])))
    };
    let needed = |name: &'static str| text(name)?.ok_or(SecretError::Missing(name));
    let token = text(TOKEN)?.filter(|token| !token.is_empty()).map(SecretString::new);
    Ok(AccessKey::try_new(needed(ID)?, SecretString::new(needed(SECRET)?), token)?)
}

/// Whether they are the same in every part.
pub fn same(one: &AccessKey, other: &AccessKey) -> bool {
    let token = |key: &AccessKey| key.security_token().map(|token| token.expose().to_owned());
    one.id() == other.id() && one.secret().expose() == other.secret().expose() && token(one) == token(other)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    fn secret(data: &[(&str, &[u8])]) -> Secret {
        let data = data.iter().map(|(name, value)| ((*name).to_owned(), ByteString(value.to_vec()))).collect();
        Secret { data: Some(data), ..Secret::default() }
    }

    #[test]
    fn a_secret_is_read_as_people_write_them() {
        let key = read(&secret(&[(ID, b"testid\n"), (SECRET, b"testsecret\r\n"), (TOKEN, b"")])).unwrap();
        assert_eq!((key.id(), key.secret().expose(), key.security_token().is_none()), ("testid", "testsecret", true));
        let key = read(&secret(&[(ID, b"STS.a"), (SECRET, b"b"), (TOKEN, b"c")])).unwrap();
        assert_eq!(key.security_token().unwrap().expose(), "c");
    }

    #[test]
    fn what_is_wrong_is_said_without_a_value() {
        let words = |data: &[(&str, &[u8])]| read(&secret(data)).unwrap_err().to_string();
        let message = words(&[(ID, b"testid"), ("access_key_secret", b"hush")]);
        assert!(message.contains("no `accessKeySecret`") && !message.contains("access_key_secret"), "{message}");
        assert!(!message.contains("hush") && !message.contains("testid"), "{message}");
        assert!(words(&[]).contains("no `accessKeyId`"));
        assert!(words(&[(ID, b"\xff"), (SECRET, b"x")]).contains("not UTF-8"));
        assert!(words(&[(ID, b"a b"), (SECRET, b"x")]).contains("white space"));
    }

    #[test]
    fn keys_are_the_same_only_in_every_part() {
        let key = |id, secret: &str, token: Option<&str>| {
            AccessKey::try_new(id, SecretString::from(secret), token.map(SecretString::from)).unwrap()
        };
        let one = key("i", "s", Some("t"));
        assert!(same(&one, &key("i", "s", Some("t"))));
        for other in [key("j", "s", Some("t")), key("i", "x", Some("t")), key("i", "s", Some("x")), key("i", "s", None)]
        {
            assert!(!same(&one, &other));
        }
    }
}
