//! The parameters of a call, by name.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::encoding::{self, DecodeError, percent_decode};
use crate::secret::SecretString;

/// The parameters of a call: names with one value each, in the order in which they are signed (by the bytes of the name).
///
/// Among them may be a security token, a signature, or an identity token. So values are overwritten when they are dropped,
/// and `Debug` shows names only.
#[derive(Clone, Default)]
pub struct Params(BTreeMap<String, Zeroizing<String>>);

/// Why a query or form can't be read. Names and positions only: a value may be a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// A part is not URL-encoded.
    #[error("parameter {position} is not URL-encoded: {reason}")]
    Encoding {
        /// Which one it is, counted from 1.
        position: usize,
        /// What is wrong with it.
        reason: DecodeError,
    },
    /// A name comes twice, in the query, in the form, or in both: which of them counts would be anyone's guess.
    #[error("parameter {0:?} is given more than once")]
    Repeated(String),
}

impl Params {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a query string or an `application/x-www-form-urlencoded` body.
    pub fn parse(text: &str) -> Result<Self, ParamsError> {
        let mut params = Self::new();
        params.read(text)?;
        Ok(params)
    }

    /// Reads more of them, as a call does that has some in its query and some in its body.
    pub fn read(&mut self, text: &str) -> Result<(), ParamsError> {
        for (index, part) in text.split('&').enumerate().filter(|(_, part)| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let decode =
                |text| percent_decode(text).map_err(|reason| ParamsError::Encoding { position: index + 1, reason });
            let (name, value) = (decode(name)?, Zeroizing::new(decode(value)?));
            if self.0.contains_key(&name) {
                return Err(ParamsError::Repeated(name));
            }
            self.0.insert(name, value);
        }
        Ok(())
    }

    /// Sets a parameter, in place of one of the same name.
    pub fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.insert(name.into(), Zeroizing::new(value.into()));
    }

    /// The same with one more parameter.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set(name, value);
        self
    }

    /// The value of a parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.as_str())
    }

    /// Names and values, sorted by name. Values may be secrets.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them as a query string or form body, in canonical order and encoding.
    pub fn encode(&self) -> SecretString {
        canonical(self.iter())
    }

    /// The same without the one that is called `name`.
    pub(super) fn canonical_without(&self, name: &str) -> SecretString {
        canonical(self.iter().filter(|(found, _)| *found != name))
    }
}

impl fmt::Debug for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Params {
    /// Of two with the same name the last one counts.
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut params = Self::new();
        for (name, value) in pairs {
            params.set(name, value);
        }
        params
    }
}

fn canonical<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> SecretString {
    // Text that grows leaves copies of a secret behind: make room for all of it first.
    let room = pairs.clone().map(|(name, value)| (name.len() + value.len()) * 3 + 2).sum();
    let mut text = String::with_capacity(room);
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        encoding::encode_into(&mut text, name);
        text.push('=');
        encoding::encode_into(&mut text, value);
    }
    SecretString::new(text)
}
