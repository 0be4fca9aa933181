//! What a client's answers mean: the documents know the outcomes and codes for the log (PLATFORM.md 1.7, 1.9), and say of
//! none but acceptance what follows from it. That is a question of the profile.

use super::client::Held;
use super::cloud_log::Code;
use super::depot::Depot;
use super::group::Group;
use super::log::State;
use super::marks::{Event, Why};
use crate::clock::{Micros, Now};
use crate::profile::{DispositionRanges, LateAnswer, Redelivery};
use crate::terms::Terms;

/// What a client answers for a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the platform forgets the message.
    Accepted,
    /// Given back.
    Released,
    /// Refused.
    Rejected,
    /// Refused with changes.
    Modified,
    /// Settled, and no outcome said. Treated and counted as released.
    Unspecified,
}

impl Outcome {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Released => "released",
            Self::Rejected => "rejected",
            Self::Modified => "modified",
            Self::Unspecified => "settled without an outcome",
        }
    }

    /// The platform's number for it, if its log has one.
    fn code(self) -> Option<Code> {
        match self {
            Self::Released | Self::Unspecified => Some(Code::Released),
            Self::Rejected => Some(Code::Rejected),
            Self::Accepted | Self::Modified => None,
        }
    }
}

/// What becomes of a message that was answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Done,
    /// It goes to the backlog, and may be pushed from then on.
    Back(Micros),
    Dropped,
}

fn verdict(outcome: Outcome, terms: &Terms, now: Micros) -> Verdict {
    let redelivery = match outcome {
        Outcome::Accepted => return Verdict::Done,
        Outcome::Released | Outcome::Unspecified => terms.profile.released,
        Outcome::Rejected => terms.profile.rejected,
        Outcome::Modified => terms.profile.modified,
    };
    match redelivery {
        Redelivery::AfterRetry => Verdict::Back(terms.retry_at(now)),
        Redelivery::AtOnce => Verdict::Back(now),
        Redelivery::Never => Verdict::Dropped,
    }
}

impl Group {
    /// What a client says about the deliveries `first` to `last` of its link.
    pub(super) fn settle(&mut self, serial: u64, first: u32, last: u32, outcome: Outcome, depot: &mut Depot, now: Now) {
        let last = match depot.terms.profile.disposition_ranges {
            DispositionRanges::All => last,
            DispositionRanges::FirstOnly => first,
        };
        let Some(index) = self.position(serial) else { return };
        let Some(link) = self.clients[index].link.as_mut() else { return };
        let (settled, late) = (link.settle(first, last), link.settle_late(first, last));
        for held in settled {
            depot.record(held.seq, answered(outcome), Event::Settled(outcome), &mut self.clients[index], now);
            self.conclude(index, held, outcome, depot, now);
        }
        for held in late {
            self.settle_late(index, held, outcome, depot, now);
        }
    }

    /// An answer after the ACK timeout.
    fn settle_late(&mut self, index: usize, held: Held, outcome: Outcome, depot: &mut Depot, now: Now) {
        let standing = depot.log.get(held.seq).map(|record| (record.state, record.pushes(), record.place));
        let counts = depot.terms.profile.late_answer == LateAnswer::Counts;
        match standing {
            Some((State::Backlog, pushes, place)) if counts && pushes == held.pushes => {
                self.backlog.remove(held.seq, place);
                // What it may have blocked can go.
                self.arm(now.mono, depot);
                depot.record(held.seq, answered(outcome), Event::SettledLate(outcome), &mut self.clients[index], now);
                self.conclude(index, held, outcome, depot, now);
            }
            _ => depot.log.annotate(held.seq, Event::Late(outcome), self.clients[index].name, now),
        }
    }

    /// Carries out what follows from an outcome that has been written down.
    fn conclude(&mut self, index: usize, held: Held, outcome: Outcome, depot: &mut Depot, now: Now) {
        let counter = match outcome {
            Outcome::Accepted => &mut self.counts.accepted,
            Outcome::Released | Outcome::Unspecified => &mut self.counts.released,
            Outcome::Rejected => &mut self.counts.rejected,
            Outcome::Modified => &mut self.counts.modified,
        };
        *counter += 1;
        if let Some(code) = outcome.code() {
            let words = format!("message {}: {}", depot.log.id(held.seq), outcome.name());
            depot.cloud_log.write(code, &self.name, &self.clients[index].id, &words, now.unix_us);
        }
        match verdict(outcome, &depot.terms, now.mono) {
            Verdict::Done => {
                self.clients[index].consumed.add(held.lane, now.mono);
                self.consumed.add(held.lane, now.mono);
                self.last_consumed_unix_ms = Some(now.unix_us / 1_000);
            }
            Verdict::Back(eligible_at) => self.set_back(held.seq, eligible_at, Why::NotAccepted, depot, now),
            Verdict::Dropped => self.drop_message(held.seq, Why::NeverAgain, depot, now),
        }
    }
}

/// Where a message stands that was answered for.
fn answered(outcome: Outcome) -> State {
    if outcome == Outcome::Accepted { State::Accepted } else { State::Backlog }
}
