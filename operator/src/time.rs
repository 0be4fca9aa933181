//! The operator's own clock as a value: the pure cores take it as an argument, and the model checker can hash it.

use std::fmt;
use std::ops::Add;
use std::time::{Duration, Instant};

/// A moment, in milliseconds since this process began. No moment of another machine is ever compared with one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
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

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} s", self.0 / 1000, self.0 % 1000)
    }
}

/// Reads [`Time`] off the monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The present moment.
    pub fn now(self) -> Time {
        Time::default() + self.0.elapsed()
    }

    /// The moment as the runtime's timers want it.
    pub fn instant(self, at: Time) -> Instant {
        self.0 + Duration::from_millis(at.0)
    }
}
