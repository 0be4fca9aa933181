//! The sidecar's own clock as a value: the pure parts of [`crate::control`] take it as an argument, and a model checker can
//! hash it.

use std::ops::Add;
use std::time::{Duration, Instant};

use crate::clock;

/// A moment, in milliseconds since this process began. It is never compared with a moment of another machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// Later than all that happens.
    pub const NEVER: Self = Self(u64::MAX);

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Reads [`Time`] off the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(clock::now())
    }

    /// The present moment.
    pub fn now(self) -> Time {
        self.at(clock::now())
    }

    /// A moment of the monotonic clock.
    pub fn at(self, instant: Instant) -> Time {
        Time::default() + instant.saturating_duration_since(self.0)
    }

    /// The moment as timers want it; what is too far away to be one is a day from now.
    pub fn instant(self, at: Time) -> Instant {
        let far = || clock::now() + Duration::from_hours(24);
        self.0.checked_add(Duration::from_millis(at.0)).map_or_else(far, |instant| instant.min(far()))
    }
}
