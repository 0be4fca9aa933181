//! What the ledger is told: how long a lease lasts, how much may be held, and what handing back means.

use std::time::Duration;

use crate::repeat::RepeatPolicy;

/// A lease is useful as long as more than one in this many parts of its full length is left.
const USEFUL_PART: u32 = 5;

/// The rules of the ledger. All of them may change while it works (see [`Ledger::set_policy`](super::Ledger::set_policy)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// From the receipt of a transfer to the moment at which it is handed back unless it has a verdict. Must be shorter
    /// than the platform's ACK timeout of 30 s (PLATFORM.md 1.7). Default: 25 s.
    pub lease: Duration,
    /// The most messages held at a time: queued, leased and waiting for a retry. 0 is taken as 1. Default: 1,000.
    pub max_in_flight: u32,
    /// The most bytes held at a time; a single message may be larger. Default: 64 MiB.
    pub max_in_flight_bytes: u64,
    /// How a message goes back to the platform.
    pub hand_back: HandBack,
    /// The delay before the second attempt of a message whose retry states none; it doubles with every attempt.
    /// Default: 200 ms.
    pub min_backoff: Duration,
    /// The bound of that doubling. Default: 5 s.
    pub max_backoff: Duration,
    /// How long the leases of a stream that has gone wait for it to come back. Default: 5 s.
    pub resume_grace: Duration,
    /// How long, and how many, messages are remembered after their verdict.
    pub repeats: RepeatPolicy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(25),
            max_in_flight: 1_000,
            max_in_flight_bytes: 64 << 20,
            hand_back: HandBack::Release,
            min_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            resume_grace: Duration::from_secs(5),
            repeats: RepeatPolicy::default(),
        }
    }
}

impl Policy {
    /// What must be left of a message's time for giving it out to make sense.
    pub fn useful_lease(&self) -> Duration {
        self.lease / USEFUL_PART
    }

    /// The delay after the failure of `attempt` (from 1) when the application names none.
    pub(super) fn backoff(&self, attempt: u32) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        self.min_backoff.saturating_mul(1 << doublings).min(self.max_backoff)
    }
}

/// How a message goes back to the platform. What the platform does on RELEASED is not documented (PLATFORM.md 1.7), so
/// the choice is the user's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HandBack {
    /// The outcome RELEASED is sent.
    #[default]
    Release,
    /// Nothing is sent: the platform's ACK timeout takes the message back.
    Expire,
}
