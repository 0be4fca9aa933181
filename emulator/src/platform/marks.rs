//! What happened to one message, in few bytes: most have two or three marks, some that keep failing would have thousands.
//! The first sixteen and the last forty-eight are kept.

use std::collections::VecDeque;

use super::client::Lane;
use super::names::NameId;
use super::verdicts::Outcome;

/// Marks that need no memory of their own.
const INLINE: usize = 3;
/// Further marks from the beginning.
const EARLY: usize = 13;
/// Marks from the end.
const LATE: usize = 48;

/// Why a message goes where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    NoLink,
    NoCredit,
    AtRate,
    NotInTime,
    NotAccepted,
    LinkLost,
    TooOld,
    BacklogFull,
    GroupDeleted,
    PositionReset,
    TooLarge,
    NeverAgain,
}

impl Why {
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::NoLink => "no client has a link",
            Self::NoCredit => "no client has credit",
            Self::AtRate => "every client is at its rate",
            Self::NotInTime => "no client could take it in time",
            Self::NotAccepted => "not accepted",
            Self::LinkLost => "its link was lost",
            Self::TooOld => "older than the retention time",
            Self::BacklogFull => "the backlog is full",
            Self::GroupDeleted => "the group was deleted",
            Self::PositionReset => "the position was reset",
            Self::TooLarge => "the payload is larger than the platform takes",
            Self::NeverAgain => "what comes back is not pushed again",
        }
    }
}

/// Something that happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Waiting(Why),
    Backlogged(Why),
    Pushed(Lane),
    Settled(Outcome),
    /// Settled after the ACK timeout, and it counted.
    SettledLate(Outcome),
    /// Answered for when that did not count any more.
    Late(Outcome),
    Expired,
    LinkLost,
    Dropped(Why),
}

impl Event {
    /// What the fate log calls it, and what more there is to say.
    pub(super) fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Waiting(why) => ("waiting", Some(why.words())),
            Self::Backlogged(why) => ("backlog", Some(why.words())),
            Self::Pushed(Lane::RealTime) => ("pushed", Some("real-time")),
            Self::Pushed(Lane::Backlog) => ("pushed", Some("backlog")),
            Self::Settled(Outcome::Released) => ("released", Some("by the client")),
            Self::Settled(Outcome::Unspecified) => ("released", Some("settled without an outcome")),
            Self::Settled(outcome) => (outcome.name(), None),
            Self::SettledLate(outcome) => (outcome.name(), Some("after the ACK timeout")),
            Self::Late(outcome) => ("late", Some(outcome.name())),
            Self::Expired => ("expired", Some("no answer within the ACK timeout")),
            Self::LinkLost => ("linkLost", None),
            Self::Dropped(why) => ("dropped", Some(why.words())),
        }
    }
}

/// One event, with its time since the publication in 48 bits of µs: nine years.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) client: NameId,
    after_low: u32,
    after_high: u16,
    pub(super) event: Event,
}

impl Mark {
    pub(super) fn new(after_us: u64, event: Event, client: NameId) -> Self {
        let after_us = after_us.min((1 << 48) - 1);
        // Both fit: the rest was cut off.
        let after_low = u32::try_from(after_us & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        let after_high = u16::try_from(after_us >> 32).unwrap_or(u16::MAX);
        Self { client, after_low, after_high, event }
    }

    pub(super) fn after_us(self) -> u64 {
        u64::from(self.after_high) << 32 | u64::from(self.after_low)
    }
}

#[derive(Debug, Default)]
struct More {
    early: Vec<Mark>,
    late: VecDeque<Mark>,
    left_out: u64,
}

/// The marks of a message, oldest first.
#[derive(Debug, Default)]
pub(super) struct Marks {
    inline: [Option<Mark>; INLINE],
    more: Option<Box<More>>,
}

impl Marks {
    pub(super) fn push(&mut self, mark: Mark) {
        if let Some(free) = self.inline.iter_mut().find(|it| it.is_none()) {
            *free = Some(mark);
            return;
        }
        let more = self.more.get_or_insert_default();
        if more.early.len() < EARLY {
            more.early.push(mark);
            return;
        }
        if more.late.len() == LATE {
            more.late.pop_front();
            more.left_out += 1;
        }
        more.late.push_back(mark);
    }

    /// The first ones, how many were left out after them, and the last ones.
    pub(super) fn all(&self) -> (impl Iterator<Item = Mark>, u64, impl Iterator<Item = Mark>) {
        let more = self.more.as_deref();
        let early = self.inline.iter().flatten().chain(more.into_iter().flat_map(|more| &more.early));
        let late = more.into_iter().flat_map(|more| &more.late);
        (early.copied(), more.map_or(0, |more| more.left_out), late.copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_has_twelve_bytes_and_three_need_no_memory() {
        assert_eq!(size_of::<Mark>(), 12);
        assert_eq!(size_of::<Marks>(), 48);
        let long = Mark::new((1 << 47) + 5, Event::Expired, NameId::NOBODY);
        assert_eq!(long.after_us(), (1 << 47) + 5);
        assert_eq!(Mark::new(u64::MAX, Event::Expired, NameId::NOBODY).after_us(), (1 << 48) - 1);
    }

    #[test]
    fn the_first_and_the_last_are_kept() {
        let mut marks = Marks::default();
        for at in 0..1_000 {
            marks.push(Mark::new(at, Event::Expired, NameId::NOBODY));
        }
        let (early, left_out, late) = marks.all();
        assert_eq!(early.map(Mark::after_us).collect::<Vec<_>>(), (0..16).collect::<Vec<_>>());
        assert_eq!(left_out, 1_000 - 64);
        assert_eq!(late.map(Mark::after_us).collect::<Vec<_>>(), (952..1_000).collect::<Vec<_>>());
    }
}
