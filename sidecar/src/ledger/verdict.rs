//! What an application says of a message, and what comes of it.

use std::time::{Duration, Instant};

use super::Ledger;
use super::chain::Slot;
use super::settlement::{LeaseId, Outcome, StreamId};
use crate::repeat::Memory;

/// An application's word on a message it has leased.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Processed.
    Ack,
    /// Not processed: give it again.
    Retry {
        /// After how long; none means a backoff that grows with the attempts.
        delay: Option<Duration>,
    },
}

/// What comes of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerdictResult {
    /// The message is accepted: settlements are on their way for all its live transfers. Done once they are written.
    Accepting,
    /// The message will be given again, after its delay.
    RetryScheduled,
    /// No useful lease would fit after the delay: the message is on its way back to the platform. Done once the
    /// settlements, if handing back means any, are written.
    HandingBack,
    /// The lease had ended. An ack still counts for repeats.
    Expired,
    /// All links of the message are lost: the platform pushes it again. An ack still counts for repeats.
    LinkLost,
    /// The stream has no such lease: it never had, or its verdict was given, or it ended too long ago.
    Unknown,
}

impl<M> Ledger<M> {
    /// Takes a stream's verdict on a lease.
    ///
    /// An ack for a lease that has ended is not lost: if the message is queued here (given up by its holder, or pushed
    /// again by the platform), it is accepted now; if another stream has it, it is accepted when that lease ends,
    /// whatever its verdict; if it is gone, its repeat is accepted.
    pub fn verdict(&mut self, now: Instant, stream: StreamId, id: LeaseId, verdict: Verdict) -> VerdictResult {
        match (self.items.find(id), verdict) {
            (Some((slot, holder)), Verdict::Ack) if holder == stream => self.ack(now, slot),
            (Some((slot, holder)), Verdict::Retry { delay }) if holder == stream => self.retry(now, slot, delay),
            (Some(_), _) => VerdictResult::Unknown,
            (None, _) if !self.former.had(id, stream) => VerdictResult::Unknown,
            (None, Verdict::Ack) => self.late_ack(now, id),
            (None, Verdict::Retry { .. }) => VerdictResult::Expired,
        }
    }

    fn ack(&mut self, now: Instant, slot: Slot) -> VerdictResult {
        match self.close(now, slot, Outcome::Accepted, Memory::Acked) {
            0 => VerdictResult::LinkLost,
            _ => VerdictResult::Accepting,
        }
    }

    fn retry(&mut self, now: Instant, slot: Slot, delay: Option<Duration>) -> VerdictResult {
        let item = self.items.get(slot);
        if item.acked {
            return self.ack(now, slot);
        }
        let delay = delay.unwrap_or_else(|| self.policy.backoff(item.attempt));
        let due = now.checked_add(delay);
        let Some(deadline) = self.latest_deadline(slot) else {
            self.hand_back(now, slot);
            return VerdictResult::LinkLost;
        };
        match due {
            Some(due) if due.checked_add(self.useful).is_some_and(|latest| latest < deadline) => {
                self.forget_orphans(slot);
                if due == now {
                    self.items.requeue(slot);
                } else {
                    self.items.wait(slot, due);
                    self.retries.insert((due, slot.0));
                }
                VerdictResult::RetryScheduled
            }
            _ => {
                self.hand_back(now, slot);
                VerdictResult::HandingBack
            }
        }
    }

    fn late_ack(&mut self, now: Instant, id: LeaseId) -> VerdictResult {
        let in_hand = self.former.take(id).and_then(|key| self.repeats.late_ack(now, key)).map(Slot);
        match in_hand {
            Some(slot) if !self.items.get(slot).is_leased() => self.ack(now, slot),
            Some(slot) => {
                self.items.get_mut(slot).acked = true;
                VerdictResult::Expired
            }
            None => VerdictResult::Expired,
        }
    }
}
