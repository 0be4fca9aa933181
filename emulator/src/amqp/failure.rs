//! What is said to a client when something of it is ended.

use fe2o3_amqp_types::definitions::{AmqpError, Error, ErrorCondition};
use serde_amqp::primitives::Symbol;

use crate::platform::{Code, Refusal};
use crate::profile::ClosingWords;

/// A condition and a description, as a close, an end or a detach carries them, and the platform's own code for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    condition: ErrorCondition,
    description: String,
    code: Code,
}

impl Failure {
    pub(crate) fn new(condition: impl Into<ErrorCondition>, description: impl Into<String>) -> Self {
        Self { condition: condition.into(), description: description.into(), code: Code::Closed }
    }

    /// With a condition by its name, whatever it is.
    pub(crate) fn named(condition: &str, description: impl Into<String>) -> Self {
        Self::new(ErrorCondition::Custom(Symbol::from(condition)), description)
    }

    /// The same under another code of the platform's.
    pub(crate) fn coded(self, code: Code) -> Self {
        Self { code, ..self }
    }

    /// The same with no more than the first `room` bytes of its description.
    pub(super) fn within(mut self, room: usize) -> Self {
        self.description.truncate(self.description.floor_char_boundary(room));
        self
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }

    pub(super) fn description(&self) -> &str {
        &self.description
    }

    fn is_of_amqp(&self) -> bool {
        match &self.condition {
            ErrorCondition::Custom(name) => name.as_str().starts_with("amqp:"),
            _ => true,
        }
    }
}

impl From<serde_amqp::Error> for Failure {
    fn from(error: serde_amqp::Error) -> Self {
        Self::new(AmqpError::InternalError, format!("a frame of the server's own can't be encoded: {error}"))
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let failure = Self::new(AmqpError::ResourceLimitExceeded, refusal.to_string());
        match refusal {
            Refusal::TooManyClients { .. } => failure.coded(Code::Surplus),
            Refusal::TooManyAttempts { .. } | Refusal::NoGroup => failure,
        }
    }
}

/// What a Close, End or Detach says of `failure`. Every one that the emulator writes gets its error here. The conditions of
/// a vendor's own are invented: what is known of the platform is its log's codes (PLATFORM.md 1.9). A condition that somebody
/// has asked for, and is no standard's, stays as it is.
pub(super) fn words(failure: Option<Failure>, how: ClosingWords) -> Option<Error> {
    let failure = failure?;
    let condition = match how {
        ClosingWords::Bare => return None,
        ClosingWords::Vendor if failure.is_of_amqp() => {
            ErrorCondition::Custom(Symbol::from(format!("iot:{}", failure.code as u16)))
        }
        ClosingWords::Vendor | ClosingWords::Standard => failure.condition,
    };
    Some(Error::new(condition, Some(failure.description), None))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(failure: &Failure, how: ClosingWords) -> Option<ErrorCondition> {
        words(Some(failure.clone()), how).map(|error| error.condition)
    }

    #[test]
    fn a_vendors_words_are_its_logs_code_unless_somebody_asked_for_others() {
        let custom = |name: &str| Some(ErrorCondition::Custom(Symbol::from(name)));
        let surplus = Failure::from(Refusal::TooManyClients { limit: 64 });
        assert_eq!(said(&surplus, ClosingWords::Standard), Some(AmqpError::ResourceLimitExceeded.into()));
        assert_eq!(said(&surplus, ClosingWords::Vendor), custom("iot:9600"));
        let forced = Failure::named("amqp:connection:forced", "load balancing");
        assert_eq!(said(&forced, ClosingWords::Vendor), custom("iot:9602"));
        let asked = Failure::named("vendor:x", "as asked");
        assert_eq!(said(&asked, ClosingWords::Vendor), custom("vendor:x"));
        for failure in [surplus, forced, asked] {
            assert_eq!(said(&failure, ClosingWords::Bare), None);
        }
        assert_eq!(words(None, ClosingWords::Standard), None);
    }
}
