//! Leases that ended without a verdict. The application may still send one: an ack then counts for repeats. Bounded in
//! time and in number.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::settlement::{LeaseId, StreamId};
use crate::repeat::RepeatKey;

/// How long such a lease is remembered.
const WINDOW: Duration = Duration::from_mins(10);

/// The most such leases remembered.
const MOST: usize = 1 << 14;

/// What is left of such a lease.
#[derive(Debug, Clone, Copy)]
struct Former {
    stream: StreamId,
    /// None if the message has no ID.
    key: Option<RepeatKey>,
}

/// Leases that ended without a verdict.
#[derive(Debug, Default)]
pub(super) struct FormerLeases {
    leases: HashMap<LeaseId, Former, ahash::RandomState>,
    /// In the order in which they ended.
    ends: VecDeque<(Instant, LeaseId)>,
}

impl FormerLeases {
    /// Remembers a lease that ends now.
    pub(super) fn record(&mut self, now: Instant, id: LeaseId, stream: StreamId, key: Option<RepeatKey>) {
        self.leases.insert(id, Former { stream, key });
        self.ends.push_back((now, id));
        while let Some((ended, oldest)) = self.ends.front()
            && (self.ends.len() > MOST || now.saturating_duration_since(*ended) >= WINDOW)
        {
            self.leases.remove(oldest);
            self.ends.pop_front();
        }
    }

    /// Whether the stream had this lease.
    pub(super) fn had(&self, id: LeaseId, stream: StreamId) -> bool {
        self.leases.get(&id).is_some_and(|former| former.stream == stream)
    }

    /// Takes the lease out, for its one late verdict: the key of its message, if it has one. Ask first whether the
    /// stream [`had`](FormerLeases::had) it.
    pub(super) fn take(&mut self, id: LeaseId) -> Option<RepeatKey> {
        self.leases.remove(&id)?.key
    }
}
