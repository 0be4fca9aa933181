//! How long to wait before the next attempt to connect: exponential with full jitter, and a slow probe where haste would
//! not help. Pure: randomness comes in as a number.

use std::time::Duration;

use crate::amqp::fault::Renew;

/// The longest wait after the first failure.
const FIRST: Duration = Duration::from_millis(500);
/// The longest wait, however many failures there were.
const LONGEST: Duration = Duration::from_secs(30);
/// Between attempts with credentials that were refused: permissions change on the other side too, but not by asking often.
const PROBE: Duration = Duration::from_secs(300);

/// The failures in a row.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// A link stood for so long. A peer that takes every link and drops it at once is no better than one that takes none:
    /// waits start anew only after a link that was worth its attempt.
    pub fn stood(&mut self, how_long: Duration) {
        if how_long >= LONGEST {
            self.failures = 0;
        }
    }

    /// The wait after one more failure. `dice` is a random number in `0.0..1.0`; every wait is drawn from the whole range
    /// up to its bound, so that pods that fail together do not come back together.
    pub fn after_failure(&mut self, renew: Renew, dice: f64) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        match renew {
            Renew::Credentials => PROBE.mul_f64(0.9 + 0.2 * dice),
            _ => bound.mul_f64(dice),
        }
    }
}

/// The wait after something was mended that refused credentials are made of. `dice` as above.
pub fn soon(dice: f64) -> Duration {
    FIRST.mul_f64(dice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_bound_and_start_anew() {
        let mut backoff = Backoff::default();
        let bounds: Vec<u128> = (0..8).map(|_| backoff.after_failure(Renew::Connection, 1.0).as_millis()).collect();
        assert_eq!(bounds, [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(backoff.after_failure(Renew::Connection, 0.0), Duration::ZERO);
        backoff.stood(Duration::from_secs(29));
        assert_eq!(backoff.after_failure(Renew::Link, 1.0), LONGEST);
        backoff.stood(LONGEST);
        assert_eq!(backoff.after_failure(Renew::Link, 1.0), FIRST);
    }

    #[test]
    fn refused_credentials_are_probed_slowly_however_long_they_fail() {
        let mut backoff = Backoff::default();
        for _ in 0..100 {
            assert!(backoff.after_failure(Renew::Credentials, 0.0) >= Duration::from_secs(270));
        }
    }
}
