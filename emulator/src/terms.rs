//! Everything that decides how the emulator behaves, in one value that its parts share.

use crate::config::Wire;
use crate::limits::Limits;
use crate::profile::Profile;
use crate::rules::{Rule, Rules};

/// See the module.
#[derive(Debug, Clone, Default)]
pub(crate) struct Terms {
    /// The platform's limits and times.
    pub(crate) limits: Limits,
    /// What it does where its documents are silent.
    pub(crate) profile: Profile,
    /// The AMQP peer's own choices.
    pub(crate) wire: Wire,
    /// Which rules are kept: all, but in tests of the tests.
    pub(crate) rules: Rules,
}

impl Terms {
    /// Whether a rule is kept.
    pub(crate) fn keeps(&self, rule: Rule) -> bool {
        self.rules.keeps(rule)
    }
}

impl From<Limits> for Terms {
    fn from(limits: Limits) -> Self {
        Self { limits, ..Self::default() }
    }
}
