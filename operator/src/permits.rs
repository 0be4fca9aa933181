//! The sliding log of connect permits of one platform group, and what it keeps back for sidecars that may be alone.
//!
//! The platform counts attempts in any 60 s. A permit is used at most [`LAPSE`] after the sidecar *asked* for it, hence
//! at most that long after it was issued; so the log counts issues in any [`SPAN`] of 60 s and [`LAPSE`]. A sidecar that
//! has lost every broker paces itself, inside the share that its grant gives it; while it may be doing so within a span
//! of now, its share is taken off. A new leader knows nothing of its predecessor's log, so it issues nothing for its first
//! span.

use std::collections::VecDeque;
use std::time::Duration;

use crate::slots::Epoch;
use crate::time::Time;

/// How long after asking for it a sidecar makes use of a permit.
pub const LAPSE: Duration = Duration::from_secs(5);

/// Issues in any span of this length are held to the limit.
pub const SPAN: Duration = Duration::from_secs(60 + LAPSE.as_secs());

/// The shortest time after which it is worth asking again.
const SOON: Duration = Duration::from_secs(1);

/// How long to wait for reservations to fall: nobody knows when a lost sidecar comes back.
const LATER: Duration = Duration::from_secs(10);

/// The permits issued lately.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Log {
    /// When this leader came: nothing is issued until a span after it.
    since: Time,
    /// When permits were issued, and under which grants; only those of the last span.
    issued: VecDeque<(Time, Epoch)>,
    /// Shares that stay reserved although their holder is gone, and until when.
    leftovers: Vec<(u32, Time)>,
    /// How many have been refused since the last issue lapsed: whom to send when.
    refused: usize,
}

/// Why there is no permit now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Full {
    /// The leader is new.
    #[error("the operator's leader is new, and does not know what its predecessor has permitted in the last minute")]
    New,
    /// The minute's attempts have all been permitted.
    #[error("the connect attempts of this minute are used up")]
    UsedUp,
    /// This one has had its share.
    #[error("this grant has had its share of the minute's connect attempts, and others want theirs")]
    Share,
    /// What is left is kept back.
    #[error("the connect attempts that are left are kept for sidecars that have lost the operator")]
    Reserved,
}

impl Log {
    /// The log of a leader that came at this moment.
    pub fn new(since: Time) -> Self {
        Self { since, issued: VecDeque::new(), leftovers: Vec::new(), refused: 0 }
    }

    /// Issues a permit, if no span gets more than `limit` less what is reserved: `reserved` for holders, and the
    /// leftovers. Once half of them are issued, no grant gets more than its `share`: one whose attempts all fail must not
    /// keep the others out. Else says why not, and after which time to ask again.
    pub fn issue(
        &mut self,
        at: Time,
        (limit, reserved): (u32, u32),
        (grant, share): (Epoch, u32),
    ) -> Result<(), (Full, Duration)> {
        self.forget(at);
        let first = self.open_from();
        if at < first {
            return Err((Full::New, first.since(at).max(SOON)));
        }
        let mut own = self.issued.iter().filter(|(_, to)| *to == grant).map(|(issued, _)| *issued).peekable();
        if self.count() >= limit / 2
            && let Some(first) = own.peek().copied()
            && own.count() >= share as usize
        {
            return Err((Full::Share, ((first + SPAN).since(at) + Duration::from_millis(1)).max(SOON)));
        }
        let reserved = reserved.saturating_add(self.leftovers(at));
        if self.count() < limit.saturating_sub(reserved) {
            self.issued.push_back((at, grant));
            return Ok(());
        }
        if self.count() < limit || self.issued.is_empty() {
            return Err((Full::Reserved, LATER));
        }
        // The n-th who is refused is sent to where the n-th issue lapses, so that not all come back at once.
        let turn = self.refused % self.issued.len();
        self.refused += 1;
        let lapses = self.issued.get(turn).map_or(at, |(issued, _)| *issued + SPAN);
        Err((Full::UsedUp, (lapses.since(at) + Duration::from_millis(1)).max(SOON)))
    }

    /// The first moment at which a permit can be issued.
    pub fn open_from(&self) -> Time {
        self.since + SPAN + Duration::from_millis(1)
    }

    /// Keeps `share` reserved for one more span: its holder is gone, and may have been alone until now.
    pub fn keep(&mut self, at: Time, share: u32) {
        self.forget(at);
        if share > 0 {
            self.leftovers.push((share, at + SPAN));
        }
    }

    /// How many were issued in the span that ends now.
    pub fn issued(&self, at: Time) -> usize {
        self.issued.iter().filter(|(issued, _)| at.since(*issued) <= SPAN).count()
    }

    /// What stays reserved of holders that are gone.
    pub fn leftovers(&self, at: Time) -> u32 {
        self.leftovers.iter().filter(|(_, until)| at <= *until).map(|(share, _)| *share).fold(0, u32::saturating_add)
    }

    fn count(&self) -> u32 {
        u32::try_from(self.issued.len()).unwrap_or(u32::MAX)
    }

    fn forget(&mut self, at: Time) {
        while self.issued.front().is_some_and(|(issued, _)| at.since(*issued) > SPAN) {
            self.issued.pop_front();
            self.refused = self.refused.saturating_sub(1);
        }
        self.leftovers.retain(|(_, until)| at <= *until);
    }
}

#[cfg(test)]
mod tests;
