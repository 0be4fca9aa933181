//! A string that can't be printed. Secrets of every kind travel through Sluice in this type and in no other, so that no
//! log line, no error message and no `{:?}` of a struct around it can leak one.

use std::fmt;

use zeroize::Zeroizing;

/// What a secret looks like when something prints it.
const REDACTED: &str = "[redacted]";

/// A secret: an AccessKey secret, a security token, or a text made from one.
///
/// The memory is overwritten when the value is dropped. `Debug` and `Display` print `[redacted]`. It has neither
/// `PartialEq` nor serde's traits on purpose: comparing a secret byte by byte tells an attacker how far a guess was right
/// (signatures are compared by [`ConnectIdentity::verify`](crate::sign::ConnectIdentity::verify)), and serialising one
/// writes it somewhere.
#[derive(Clone)]
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// Takes the text over, without a copy of it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The secret itself. Each use of this is a place where it may leak: keep the borrow short, and out of any message.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no secret here at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for SecretString {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for SecretString {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for SecretString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = SecretString::from("testsecret");
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "[redacted] [redacted] [redacted]");
        assert_eq!(format!("{:?}", Some(&secret)), "Some([redacted])");
    }

    #[test]
    fn a_secret_is_there_for_who_asks() {
        assert_eq!(SecretString::new("testsecret").expose(), "testsecret");
        assert!(SecretString::new("").is_empty());
    }
}
