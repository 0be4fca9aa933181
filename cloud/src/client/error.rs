//! How a call fails.

use std::error::Error;
use std::time::Duration;

use crate::answer::{ApiError, ErrorClass, Unreadable};
use crate::endpoint::{Endpoint, EndpointError};
use crate::pace::Outcome;

/// Why a call brought no result. The message is fit for a condition: it has the platform's words, and no secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent, since credentials may not go there.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// The platform said no.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// There is no connection, or it broke.
    #[error("{action}: no answer from {endpoint}: {reason}")]
    NoAnswer {
        /// The action that was asked for.
        action: &'static str,
        /// Of whom.
        endpoint: Endpoint,
        /// What the network, or TLS, said.
        reason: String,
    },
    /// There was a connection, and no answer in time.
    #[error("{action}: no answer from {endpoint} within {after:?}")]
    TimedOut {
        /// The action that was asked for.
        action: &'static str,
        /// Of whom.
        endpoint: Endpoint,
        /// How long was waited.
        after: Duration,
    },
    /// The answer is larger than any that is expected.
    #[error("{action}: the answer from {endpoint} has more than {} bytes", super::MAX_ANSWER)]
    TooLarge {
        /// The action that was asked for.
        action: &'static str,
        /// Of whom.
        endpoint: Endpoint,
    },
    /// The answer says it is a success and does not say what it should.
    #[error("{action} at {endpoint}: {error}")]
    Unreadable {
        /// The action that was asked for.
        action: &'static str,
        /// Of whom.
        endpoint: Endpoint,
        /// What is wrong with it.
        error: Unreadable,
    },
}

impl CallError {
    /// What kind of failure it is.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Endpoint(_) => ErrorClass::Invalid,
            Self::Api(error) => error.class,
            _ => ErrorClass::Unavailable,
        }
    }

    /// Takes what was secret about the call out of the platform's words.
    pub(super) fn without(self, secrets: &[Option<&str>]) -> Self {
        match self {
            Self::Api(error) => Self::Api(secrets.iter().flatten().fold(error, |error, secret| error.without(secret))),
            other => other,
        }
    }
}

/// What the pace learns from how a call went.
pub fn outcome<T>(result: &Result<T, CallError>) -> Outcome {
    match result {
        Ok(_) | Err(CallError::Unreadable { .. }) => Outcome::Answered,
        Err(CallError::Api(error)) => match error.class {
            ErrorClass::Throttled => Outcome::Throttled,
            ErrorClass::Unavailable => Outcome::Unknown,
            _ => Outcome::Answered,
        },
        Err(_) => Outcome::Unknown,
    }
}

/// An error with all that caused it: "client error (Connect)" alone helps nobody.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        // Some repeat what caused them.
        if !words.last().is_some_and(|last| last.contains(&text)) {
            words.push(text);
        }
        next = error.source();
    }
    words.join(": ")
}
