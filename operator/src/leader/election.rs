//! The election as values: what the Lease was last seen to say, and what is to be done about it. Times are this process's
//! own; what another machine wrote into the Lease is compared, never read as a time. No I/O here.
//!
//! Two rules keep two processes from leading at once. A leader's right ends [`Timing::renew_deadline`] after it *sent* the
//! last write that succeeded. Another takes a Lease over only when it has itself watched the record stay the same for
//! [`Timing::duration`], which is longer. Every write names the resource version it was decided on.

use std::time::Duration;

use crate::time::Time;

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A Lease whose record has not changed for so long may be taken over.
    pub duration: Duration,
    /// A leader leads for so long after it sent its last successful write. Shorter than `duration`.
    pub renew_deadline: Duration,
    /// How long to wait between two looks, or two renewals.
    pub retry: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry: Duration::from_secs(2),
        }
    }
}

/// What a Lease says, as far as the election reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; nobody after a release.
    pub holder: Option<String>,
    /// When it was renewed, as its writer spelt it: a mark that changes, not a time.
    pub renewed: String,
    /// How often it has changed hands.
    pub transitions: u32,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Read the Lease, and tell [`Election::read`].
    Read,
    /// Write the Lease in this process's name, and tell [`Election::written`].
    Write(Write),
    /// Nothing until then.
    Wait(Time),
}

/// A write of the Lease in this process's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The resource version it must still have; `None`: it must not exist.
    pub version: Option<String>,
    /// How often it has then changed hands.
    pub transitions: u32,
    /// Whether it takes the Lease over, rather than renewing it.
    pub takes_over: bool,
}

/// What became of a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// The Lease and its resource version.
    Lease(Record, String),
    /// There is none.
    Nothing,
    /// The API server did not say.
    Failed,
}

/// What became of a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is written, with this resource version.
    Done(Record, String),
    /// Somebody else wrote before, or the Lease has been deleted.
    Refused,
    /// It may have been written or not.
    Unknown,
}

/// The election, as one process sees it.
#[derive(Debug, Clone)]
pub struct Election {
    identity: String,
    timing: Timing,
    /// The record as last seen, and since when it has been so.
    record: Option<(Record, Time)>,
    /// What a write may be based on. `None`: read first.
    basis: Option<Basis>,
    /// When something is to be done next.
    due: Time,
    valid_until: Time,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Basis {
    Version(String),
    Absent,
}

impl Election {
    /// An election in which this process has seen nothing yet. `identity` must be of this process alone: one that comes
    /// after it in the same pod is another.
    pub fn new(identity: impl Into<String>, timing: Timing) -> Self {
        let (record, basis) = (None, None);
        Self { identity: identity.into(), timing, record, basis, due: Time::default(), valid_until: Time::default() }
    }

    /// Until when this process leads; not at all if that is past.
    pub fn valid_until(&self) -> Time {
        self.valid_until
    }

    /// Who was last seen to hold the Lease, if anybody was.
    pub fn holder(&self) -> Option<&str> {
        self.record.as_ref().and_then(|(record, _)| record.holder.as_deref())
    }

    /// What is to be done at `at`.
    pub fn next(&self, at: Time) -> Action {
        if at < self.due {
            return Action::Wait(self.due);
        }
        let Some(basis) = &self.basis else { return Action::Read };
        let version = match basis {
            Basis::Version(version) => Some(version.clone()),
            Basis::Absent => None,
        };
        let transitions = self.record.as_ref().map_or(0, |(record, _)| record.transitions);
        if self.is_ours() && version.is_some() {
            Action::Write(Write { version, transitions, takes_over: false })
        } else if self.is_free(at) {
            let transitions = if self.record.is_some() { transitions.saturating_add(1) } else { 0 };
            Action::Write(Write { version, transitions, takes_over: true })
        } else {
            Action::Read
        }
    }

    /// A read has ended. `jitter` (0 to 1) spreads the next look of those who don't lead.
    pub fn read(&mut self, at: Time, found: Found, jitter: f64) {
        match found {
            Found::Lease(record, version) => {
                if self.record.as_ref().is_none_or(|(known, _)| *known != record) {
                    self.record = Some((record, at));
                }
                if !self.is_ours() {
                    self.valid_until = Time::default();
                }
                self.basis = Some(Basis::Version(version));
            }
            Found::Nothing => {
                // A leader whose Lease is deleted gives up: a newcomer that never saw the Lease creates it at once.
                if self.is_ours() {
                    self.valid_until = Time::default();
                    self.record = None;
                }
                self.basis = Some(Basis::Absent);
            }
            Found::Failed => self.basis = None,
        }
        let acts = self.basis.is_some() && (self.is_ours() || self.is_free(at));
        self.due = if acts { at } else { at + self.timing.retry.mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 4.0) };
    }

    /// A write that was sent at `sent` has ended at `at`.
    pub fn written(&mut self, sent: Time, at: Time, outcome: Outcome) {
        match outcome {
            Outcome::Done(record, version) => {
                self.record = Some((record, at));
                self.basis = Some(Basis::Version(version));
                self.valid_until = sent + self.timing.renew_deadline;
                self.due = sent + self.timing.retry;
            }
            Outcome::Refused => {
                self.basis = None;
                self.due = at;
            }
            Outcome::Unknown => {
                self.basis = None;
                self.due = at + self.timing.retry / 2;
            }
        }
    }

    /// This process stops: it leads no more, from now on. What to write so that another need not wait, if anything.
    pub fn release(&mut self, at: Time) -> Option<Write> {
        let led = at < self.valid_until;
        self.valid_until = Time::default();
        let version = match self.basis.take() {
            Some(Basis::Version(version)) if led && self.is_ours() => version,
            _ => return None,
        };
        let transitions = self.record.as_ref().map_or(0, |(record, _)| record.transitions);
        Some(Write { version: Some(version), transitions, takes_over: false })
    }

    fn is_ours(&self) -> bool {
        self.holder() == Some(self.identity.as_str())
    }

    /// Whether it may be taken over: nobody holds it, or who holds it has not been heard of for too long.
    fn is_free(&self, at: Time) -> bool {
        match &self.record {
            None => true,
            Some((record, _)) if record.holder.is_none() => true,
            Some((_, since)) => at.since(*since) >= self.timing.duration,
        }
    }
}

#[cfg(test)]
mod tests;
