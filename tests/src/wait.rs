//! Waiting for a condition in another process, always with a bound.

use std::thread;
use std::time::{Duration, Instant};

/// The pause between two looks at a condition.
pub const PAUSE: Duration = Duration::from_millis(20);

/// Looks again and again until `condition` yields a value, for at most `bound`. `None` if it never did.
///
/// The last look comes after the bound has passed, so that a slow machine gets one more.
pub fn until<T>(bound: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + bound;
    loop {
        let late = Instant::now() >= end;
        if let Some(value) = condition() {
            return Some(value);
        }
        if late {
            return None;
        }
        thread::sleep(PAUSE);
    }
}
