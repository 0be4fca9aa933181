//! The two clocks of the emulator: a monotonic one that every limit and deadline is reckoned with, and the wall clock
//! that the fate log shows. The platform's state machine never reads either: it is handed a [`Now`] with every call.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Microseconds on the monotonic clock, counted from the start of the emulator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(u64);

impl Micros {
    /// A time that never comes.
    pub const NEVER: Self = Self(u64::MAX);

    /// `micros` microseconds after the start.
    #[must_use]
    pub const fn new(micros: u64) -> Self {
        Self(micros)
    }

    /// Microseconds since the start.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// This time, later by `delay`; [`Micros::NEVER`] when it does not fit.
    #[must_use]
    pub fn after(self, delay: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(delay.as_micros()).unwrap_or(u64::MAX)))
    }

    /// The microseconds from `earlier` to this time; 0 when it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// For limits and deadlines.
    pub mono: Micros,
    /// For the fate log: Unix time in µs.
    pub unix_us: u64,
}

/// Reads both clocks. The monotonic one is tokio's, so a test that pauses its runtime's time pauses the emulator's.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that starts at zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            mono: Micros(0).after(self.start.elapsed()),
            unix_us: u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX),
        }
    }

    /// The instant at which the monotonic clock shows `at`, for a timer. Far times are capped at a day from now.
    #[must_use]
    pub fn instant(&self, at: Micros) -> Instant {
        const FAR: Duration = Duration::from_hours(24);
        self.start
            .checked_add(Duration::from_micros(at.0))
            .unwrap_or_else(|| Instant::now() + FAR)
            .min(Instant::now() + FAR)
    }
}
