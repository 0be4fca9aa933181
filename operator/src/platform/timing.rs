//! How often and how long: the poller's times, all of them, so that tests can shorten them.

use std::time::Duration;

use sluice_cloud::pace::Rate;

/// The times of the poller.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Calls of one account while nobody throttles. Two a second: the platform allows five, and the user's own tools share
    /// them (`PLATFORM.md 4`).
    pub rate: Rate,
    /// A group's figures are asked for again no sooner than this after its last answer. 10 s.
    pub every: Duration,
    /// Figures count for at least this long. 60 s.
    pub fresh: Duration,
    /// How long to wait after the platform could not be reached; doubled with each failure, up to `retry_at_most`. 10 s.
    pub retry: Duration,
    /// See `retry`. 60 s.
    pub retry_at_most: Duration,
    /// How long to wait after a refusal that somebody has to mend first. Permissions change on the other side, too, without
    /// anything here being told of it. 5 min.
    pub probe: Duration,
    /// How often keys are looked at, in memory, while there are none or the ones that there were have been refused. 5 s.
    pub keys: Duration,
    /// How often subscriptions are looked at. 5 min.
    pub subscriptions: Duration,
    /// How often at most the pipeline hears of new figures of a group, if nothing but figures is new. 5 s.
    pub tell: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            rate: Rate::default(),
            every: Duration::from_secs(10),
            fresh: Duration::from_secs(60),
            retry: Duration::from_secs(10),
            retry_at_most: Duration::from_secs(60),
            probe: Duration::from_secs(300),
            keys: Duration::from_secs(5),
            subscriptions: Duration::from_secs(300),
            tell: Duration::from_secs(5),
        }
    }
}
