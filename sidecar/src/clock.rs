//! The monotonic clock, read at the edges and nowhere else.

use std::time::Instant;

/// The time by tokio's clock, which tests can stop and wind on.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
