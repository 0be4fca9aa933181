//! One client of a group, as the platform sees it: its link's credit, what it holds unsettled, what waits to be written
//! to it. Deliveries are numbered from 0 on every link; the AMQP edge maps those numbers to delivery-ids.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::bucket::Bucket;
use super::door::Standing;
use super::figures::Meter;
use super::log::Seq;
use super::names::NameId;
use crate::clock::Micros;

/// How many deliveries that ran into the ACK timeout a link remembers, for answers that come late.
const EXPIRED_REMEMBERED: usize = 1_024;

/// How much may wait for a client to read it: one that does not read is given nothing, whatever credit it gave.
const OUTBOX: usize = 10_000;

/// Names one client: one connection that has opened. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientKey {
    pub(super) group: usize,
    pub(super) serial: u64,
}

impl ClientKey {
    /// The connection's number, as [`ConnectionLine`] has it.
    #[must_use]
    pub fn number(self) -> u64 {
        self.serial
    }
}

/// One connection, as the admin API lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionLine {
    /// Its group.
    pub group: String,
    /// Its client ID.
    pub client: String,
    /// Its number: no other connection has it or had it.
    pub number: u64,
    /// Where it comes from.
    pub address: SocketAddr,
    /// How much its link takes at the moment.
    pub credit: u32,
    /// What was pushed to it and is not answered.
    pub unsettled: u64,
    /// Whether it is beyond the limit of its group, and gets no message.
    pub surplus: bool,
}

/// What a client's connection has to write next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A message.
    Push {
        /// Its number on this link.
        number: u32,
        /// Its sections, as they go over the wire.
        body: Bytes,
    },
    /// A drain was asked for and everything that was there has been pushed: this much credit was given up.
    Drained {
        /// The credit given up; the delivery-count moves on by it.
        by: u32,
    },
}

/// A client's credit, as its flow frame says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credit {
    /// The receiver's view of the delivery-count: how many deliveries it had seen when it said this. `None` before the
    /// attach reply reached it: none.
    pub delivery_count: Option<u32>,
    /// How many more it takes from there.
    pub link_credit: u32,
    /// Whether what can't be used at once is to be given up.
    pub drain: bool,
}

/// The queue that a message is pushed from; it decides which rate applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lane {
    RealTime,
    Backlog,
}

/// A delivery that is not settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    pub(super) seq: Seq,
    pub(super) deadline: Micros,
    pub(super) lane: Lane,
    /// How often the message had been pushed then, this time included.
    pub(super) pushes: u32,
}

/// A client's receiver link.
#[derive(Debug, Default)]
pub(super) struct Link {
    pub(super) credit: u32,
    /// Deliveries pushed and credit given up since the attach: the sender's delivery-count, from 0.
    delivery_count: u32,
    /// The number of the first in `held`.
    first: u32,
    /// In the order of pushing, so of their deadlines too. A settled one leaves a hole until it is at the front.
    held: VecDeque<Option<Held>>,
    /// How many in `held` are not holes.
    pub(super) unsettled: usize,
    outbox: VecDeque<Outgoing>,
    /// What ran into the ACK timeout, with its number; the last ones.
    expired: VecDeque<(u32, Held)>,
    /// Real-time messages that are for this link and no other, and when each gives up waiting for it.
    pub(super) bound: VecDeque<(Micros, Seq)>,
}

impl Link {
    /// Takes a flow frame's word for the credit. Deliveries that were under way when it was written count against it.
    pub(super) fn grant(&mut self, credit: Credit) {
        let under_way = self.delivery_count.wrapping_sub(credit.delivery_count.unwrap_or(0));
        self.credit = credit.link_credit.saturating_sub(under_way);
    }

    pub(super) fn push(&mut self, held: Held, body: Bytes) {
        let number = self.first.wrapping_add(u32::try_from(self.held.len()).unwrap_or(u32::MAX));
        self.credit -= 1;
        self.delivery_count = self.delivery_count.wrapping_add(1);
        self.held.push_back(Some(held));
        self.unsettled += 1;
        self.outbox.push_back(Outgoing::Push { number, body });
    }

    /// Gives up what credit is left.
    pub(super) fn drain(&mut self) {
        let by = std::mem::take(&mut self.credit);
        self.delivery_count = self.delivery_count.wrapping_add(by);
        // Who asks again before having read the answer gets one answer to both: what waits stays bounded.
        match self.outbox.back_mut() {
            Some(Outgoing::Drained { by: before }) => *before = before.wrapping_add(by),
            _ => self.outbox.push_back(Outgoing::Drained { by }),
        }
    }

    /// Whether it can be given one more.
    fn has_room(&self) -> bool {
        self.credit > 0 && self.outbox.len() < OUTBOX
    }

    /// Moves at most `limit` things from the outbox to `into`. Says whether it has become half empty by that, so
    /// that a client that could be given no more can be given something again.
    pub(super) fn take_outgoing(&mut self, limit: usize, into: &mut impl Extend<Outgoing>) -> bool {
        let was_full = self.outbox.len() > OUTBOX / 2;
        let count = limit.min(self.outbox.len());
        into.extend(self.outbox.drain(..count));
        was_full && self.outbox.len() <= OUTBOX / 2
    }

    /// Settles the deliveries `first` to `last`, both included, and returns them; numbers that name nothing unsettled
    /// are passed over. The range is cut to what is held before it is walked, so a peer can't make it long.
    pub(super) fn settle(&mut self, first: u32, last: u32) -> Vec<Held> {
        // Serial numbers: a distance of less than 2³¹ ahead is later, the rest is earlier.
        let (start, end) = (distance(self.first, first).max(0), distance(self.first, last));
        let end = usize::try_from(end.saturating_add(1)).unwrap_or(0).min(self.held.len());
        let start = usize::try_from(start).unwrap_or(0).min(end);
        let settled: Vec<Held> = self.held.range_mut(start..end).filter_map(Option::take).collect();
        self.unsettled -= settled.len();
        while let Some(None) = self.held.front() {
            self.pop();
        }
        settled
    }

    /// Takes out a delivery whose ACK timeout has passed.
    pub(super) fn expire(&mut self, now: Micros) -> Option<Held> {
        let overdue = self.held.front().copied().flatten().filter(|held| held.deadline <= now)?;
        if self.expired.len() == EXPIRED_REMEMBERED {
            self.expired.pop_front();
        }
        self.expired.push_back((self.first, overdue));
        self.settle(self.first, self.first);
        Some(overdue)
    }

    /// Those of the deliveries `first` to `last` that ran into the ACK timeout, and for which no answer has come since.
    pub(super) fn settle_late(&mut self, first: u32, last: u32) -> Vec<Held> {
        let is_meant = |number: u32| distance(first, number) >= 0 && distance(number, last) >= 0;
        let late = self.expired.iter().filter(|(number, _)| is_meant(*number)).map(|(_, held)| *held).collect();
        self.expired.retain(|(number, _)| !is_meant(*number));
        late
    }

    /// When the next ACK timeout passes.
    pub(super) fn deadline(&self) -> Option<Micros> {
        self.held.front().copied().flatten().map(|held| held.deadline)
    }

    /// What is not settled, when the link goes.
    pub(super) fn into_unsettled(self) -> impl Iterator<Item = Held> {
        self.held.into_iter().flatten()
    }

    fn pop(&mut self) {
        self.held.pop_front();
        self.first = self.first.wrapping_add(1);
    }
}

/// How far `to` is ahead of `from` in RFC 1982's serial numbers.
fn distance(from: u32, to: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

/// A client: one connection, with a link or without.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) serial: u64,
    pub(super) id: Arc<str>,
    pub(super) name: NameId,
    pub(super) standing: Standing,
    pub(super) address: SocketAddr,
    pub(super) online_unix_ms: u64,
    pub(super) consumed: Meter,
    /// The real-time push rate, kept per connection (PLATFORM.md 1.8).
    pub(super) pace: Bucket,
    pub(super) link: Option<Link>,
}

impl Client {
    /// Whether messages can go to it, as far as its link is concerned.
    pub(super) fn is_served(&self) -> bool {
        self.standing == Standing::Placed && self.link.is_some()
    }

    /// Whether it can be given a message, as far as it says itself.
    pub(super) fn has_credit(&self) -> bool {
        self.standing == Standing::Placed && self.link.as_ref().is_some_and(Link::has_room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link_with(count: u32, first: u32) -> Link {
        let mut link = Link { first, credit: count, ..Link::default() };
        for seq in 0..u64::from(count) {
            link.push(Held { seq, deadline: Micros::new(seq), lane: Lane::RealTime, pushes: 1 }, Bytes::new());
        }
        link
    }

    fn seqs(held: &[Held]) -> Vec<Seq> {
        held.iter().map(|held| held.seq).collect()
    }

    #[test]
    fn a_range_settles_what_it_covers_even_across_the_wrap() {
        let mut link = link_with(6, u32::MAX - 2);
        assert_eq!(seqs(&link.settle(u32::MAX - 1, 1)), [1, 2, 3, 4]);
        assert_eq!(link.unsettled, 2);
        assert_eq!(seqs(&link.settle(u32::MAX - 2, 2)), [0, 5]);
    }

    #[test]
    fn a_range_beyond_what_is_held_is_cut() {
        let mut link = link_with(3, 10);
        assert_eq!(seqs(&link.settle(0, 10)), [0]);
        assert_eq!(seqs(&link.settle(11, 11 + (1 << 30))), [1, 2]);
        assert!(link.settle(0, u32::MAX >> 1).is_empty());
        assert!(link.settle(5, 4).is_empty(), "an inverted range is empty");
    }

    #[test]
    fn deliveries_under_way_count_against_a_grant() {
        let mut link = link_with(4, 0);
        link.grant(Credit { delivery_count: Some(1), link_credit: 5, drain: false });
        assert_eq!(link.credit, 2);
        link.grant(Credit { delivery_count: Some(0), link_credit: 3, drain: false });
        assert_eq!(link.credit, 0, "lowered below what is under way");
        link.grant(Credit { delivery_count: Some(4), link_credit: u32::MAX, drain: false });
        assert_eq!(link.credit, u32::MAX);
    }

    #[test]
    fn expiry_goes_by_deadline_and_skips_what_is_settled() {
        let mut link = link_with(3, 0);
        link.settle(0, 0);
        assert_eq!(link.deadline(), Some(Micros::new(1)));
        assert_eq!(link.expire(Micros::new(1)).map(|held| held.seq), Some(1));
        assert!(link.expire(Micros::new(1)).is_none());
        assert_eq!(link.unsettled, 1);
    }

    #[test]
    fn an_answer_that_comes_late_is_known_once() {
        let mut link = link_with(4, u32::MAX - 1);
        for now in 0..3 {
            link.expire(Micros::new(now));
        }
        assert_eq!(seqs(&link.settle(u32::MAX - 1, 5)), [3]);
        assert_eq!(seqs(&link.settle_late(u32::MAX, 5)), [1, 2]);
        assert!(link.settle_late(u32::MAX, 5).is_empty());
        assert_eq!(seqs(&link.settle_late(u32::MAX - 1, u32::MAX)), [0]);
    }
}
