//! A token bucket: the platform's push rates, 1,000/s per connection and 200/s of backlog per group (PLATFORM.md 1.8).
//! Whole numbers only, so that a rate is kept exactly over any length of time.

use crate::clock::Micros;

/// One token, in the millionths that the level is kept in: a rate of r tokens/s is then r millionths per µs.
const TOKEN: u64 = 1_000_000;

/// The share of a second's tokens that may be taken at once: 50 ms' worth. Enough to ride over the timer's granularity,
/// too little to look like another rate.
const BURST_DIVISOR: u32 = 20;

#[derive(Debug)]
pub(crate) struct Bucket {
    per_second: u64,
    burst: u64,
    level: u64,
    as_of: Micros,
}

impl Bucket {
    /// A full bucket for `per_second` tokens a second.
    pub(crate) fn new(per_second: u32, now: Micros) -> Self {
        let burst = u64::from((per_second / BURST_DIVISOR).max(1)) * TOKEN;
        Self { per_second: u64::from(per_second), burst, level: burst, as_of: now }
    }

    fn level_at(&self, now: Micros) -> u64 {
        self.level.saturating_add(now.since(self.as_of).saturating_mul(self.per_second)).min(self.burst)
    }

    /// Whether a token is there.
    pub(crate) fn ready(&self, now: Micros) -> bool {
        self.level_at(now) >= TOKEN
    }

    /// Takes a token, if one is there.
    pub(crate) fn take(&mut self, now: Micros) -> bool {
        self.level = self.level_at(now);
        self.as_of = now.max(self.as_of);
        let ready = self.level >= TOKEN;
        if ready {
            self.level -= TOKEN;
        }
        ready
    }

    /// When the next token is there: `now`, or later.
    pub(crate) fn ready_at(&self, now: Micros) -> Micros {
        let missing = TOKEN.saturating_sub(self.level_at(now));
        if missing == 0 {
            return now;
        }
        if self.per_second == 0 {
            return Micros::NEVER;
        }
        Micros::new(now.get().saturating_add(missing.div_ceil(self.per_second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_exactly_and_the_burst_is_a_twentieth_of_a_second() {
        let mut bucket = Bucket::new(1_000, Micros::new(0));
        let taken = (0..10_000_000).step_by(100).filter(|&us| bucket.take(Micros::new(us))).count();
        assert_eq!(taken, 10_000 + 49, "ten seconds at 1,000/s, and the burst");
    }

    #[test]
    fn ready_at_names_the_first_microsecond_with_a_token() {
        let mut bucket = Bucket::new(3, Micros::new(0));
        assert!(bucket.take(Micros::new(0)));
        let at = bucket.ready_at(Micros::new(0));
        assert!(!bucket.ready(Micros::new(at.get() - 1)));
        assert!(bucket.take(at));
    }

    #[test]
    fn a_rate_of_zero_never_comes_back() {
        let mut bucket = Bucket::new(0, Micros::new(0));
        assert!(bucket.take(Micros::new(0)), "the burst is never less than one");
        assert_eq!(bucket.ready_at(Micros::new(5)), Micros::NEVER);
    }
}
