//! How much of the time the application has had all that it takes at a time. Pure.
//!
//! It is *full* while at least one stream is attached and none of them can be given one more message: each holds as many
//! as it declared (`Subscribe.max_in_flight_messages`, `max_in_flight_bytes`), or all together hold as many as they answer
//! in good time (the window that follows their rate, for applications that declare nothing). More pods would help then;
//! at any other time they would not.

use std::time::{Duration, Instant};

/// The time for which it was full, since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Saturation {
    total: Duration,
    full_since: Option<Instant>,
}

impl Saturation {
    /// Whether it is full from now on. Returns how much time has been added since the last call.
    pub fn observe(&mut self, now: Instant, full: bool) -> Duration {
        let added = self.full_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        self.total += added;
        self.full_since = full.then_some(now);
        added
    }

    /// The time for which it was full, up to now.
    pub fn total(&self, now: Instant) -> Duration {
        self.total + self.full_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// The share of `interval` that `full` is, in thousandths.
pub fn permille(full: Duration, interval: Duration) -> u32 {
    let share = full.as_millis() * 1000 / interval.as_millis().max(1);
    u32::try_from(share.min(1000)).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn time_counts_while_it_is_full_and_at_no_other(spans in prop::collection::vec((any::<bool>(), 0_u64..5_000), 1..50)) {
            let start = Instant::now();
            let mut now = start;
            let (mut saturation, mut expected, mut added) = (Saturation::default(), Duration::ZERO, Duration::ZERO);
            for (full, ms) in spans {
                added += saturation.observe(now, full);
                now += Duration::from_millis(ms);
                expected += Duration::from_millis(if full { ms } else { 0 });
                prop_assert_eq!(saturation.total(now), expected);
            }
            prop_assert_eq!(added + saturation.observe(now, false), expected);
            prop_assert!(permille(expected, now - start) <= 1000);
        }
    }

    #[test]
    fn a_share_is_in_thousandths() {
        assert_eq!(permille(Duration::from_secs(1), Duration::from_secs(4)), 250);
        assert_eq!(permille(Duration::from_secs(9), Duration::from_secs(4)), 1000);
        assert_eq!(permille(Duration::ZERO, Duration::ZERO), 0);
    }
}
