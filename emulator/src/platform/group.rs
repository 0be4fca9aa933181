//! One consumer group: its clients and its two queues. Here is what comes in and what goes; how a client gets in is in
//! `door.rs` and `membership.rs`, who gets which message in `dispatch.rs`, what an answer means in `verdicts.rs`, and what is
//! shown of it in `view.rs`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::backlog::Backlog;
use super::balance::Balance;
use super::bucket::Bucket;
use super::client::{Client, Link};
use super::cloud_log::Code;
use super::depot::Depot;
use super::door::{Attempts, GroupLimits, Refusal, Standing};
use super::figures::Meter;
use super::log::{Seq, State};
use super::marks::{Event, Why};
use super::{ClientKey, Counts, Credit};
use crate::clock::{Micros, Now};
use crate::rules::Rule;

#[derive(Debug)]
pub(super) struct Group {
    pub(super) index: usize,
    pub(super) name: Arc<str>,
    /// In the order of their coming.
    pub(super) clients: Vec<Client>,
    /// Real-time messages that nobody can take at the moment, in order, and when each gives up waiting.
    pub(super) waiting: VecDeque<(Micros, Seq)>,
    pub(super) backlog: Backlog,
    pub(super) backlog_pace: Bucket,
    /// The real-time rate, where the group has it.
    pub(super) pace: Bucket,
    pub(super) balance: Balance,
    pub(super) attempts: Attempts,
    pub(super) counts: Counts,
    pub(super) limits: GroupLimits,
    pub(super) consumed: Meter,
    pub(super) last_consumed_unix_ms: Option<u64>,
    /// A group that was deleted takes no message any more; what its clients still held is dropped as it comes back.
    pub(super) deleted: bool,
    /// When it is to be looked at again.
    pub(super) armed: Micros,
}

impl Group {
    pub(super) fn new(index: usize, name: &str, depot: &Depot, now: Micros) -> Self {
        let limits = &depot.terms.limits;
        Self {
            index,
            name: name.into(),
            clients: Vec::new(),
            waiting: VecDeque::new(),
            backlog: Backlog::new(depot.terms.profile.backlog_order),
            backlog_pace: Bucket::new(limits.backlog_per_group, now),
            pace: Bucket::new(limits.real_time_per_connection, now),
            balance: Balance::new(depot.seed ^ (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            attempts: Attempts::default(),
            counts: Counts::default(),
            limits: GroupLimits::from(limits),
            consumed: Meter::default(),
            last_consumed_unix_ms: None,
            deleted: false,
            armed: Micros::NEVER,
        }
    }

    pub(super) fn attempt(&mut self, depot: &Depot, now: Now) -> Result<(), Refusal> {
        self.attempts.count(self.limits.connect_attempts_per_minute, &depot.terms, now.mono)
    }

    pub(super) fn refuse_next(&mut self, attempts: u32) {
        self.attempts.refuse_next(attempts);
    }

    pub(super) fn attach(&mut self, serial: u64) {
        if let Some(client) = self.client_mut(serial).filter(|client| client.standing != Standing::Evicted) {
            client.link = Some(Link::default());
        }
    }

    /// The link is gone. What it held goes to the backlog like any other failure.
    pub(super) fn detach(&mut self, serial: u64, depot: &mut Depot, now: Now) {
        let Some(index) = self.position(serial) else { return };
        let Some(mut link) = self.clients[index].link.take() else { return };
        let retry_at = depot.terms.retry_at_after_link_loss(now.mono);
        for (_, seq) in std::mem::take(&mut link.bound) {
            self.fail_real_time(seq, depot, now);
        }
        for held in link.into_unsettled() {
            depot.record(held.seq, State::Backlog, Event::LinkLost, &mut self.clients[index], now);
            self.set_back(held.seq, retry_at, Why::LinkLost, depot, now);
        }
        if !self.clients.iter().any(Client::is_served) {
            while let Some((_, seq)) = self.waiting.pop_front() {
                self.set_back(seq, now.mono, Why::NoLink, depot, now);
            }
        }
    }

    pub(super) fn grant(&mut self, serial: u64, credit: Credit, depot: &mut Depot, now: Now) {
        let Some(link) = self.client_mut(serial).and_then(|client| client.link.as_mut()) else { return };
        link.grant(credit);
        self.dispatch(depot, now);
        if credit.drain
            && let Some(link) = self.client_mut(serial).and_then(|client| client.link.as_mut())
        {
            link.drain();
            depot.wake(ClientKey { group: self.index, serial });
        }
    }

    /// A message that has grown too old. Only the backlog gives messages up; one that is under way is looked at again
    /// when it comes back.
    pub(super) fn retire(&mut self, seq: Seq, depot: &mut Depot, now: Now) {
        let Some(place) = depot.log.get(seq).map(|record| record.place) else { return };
        if self.backlog.remove(seq, place) {
            // What it may have blocked can go.
            self.arm(now.mono, depot);
            self.drop_message(seq, Why::TooOld, depot, now);
        }
    }

    /// Lets ACK timeouts pass and pushes what can be pushed.
    pub(super) fn tick(&mut self, depot: &mut Depot, now: Now) {
        self.armed = Micros::NEVER;
        let retry_at = depot.terms.retry_at(now.mono);
        for index in 0..self.clients.len() {
            while let Some(held) = self.clients[index].link.as_mut().and_then(|link| link.expire(now.mono)) {
                self.counts.expired += 1;
                let words = format!("message {}: no answer within the ACK timeout", depot.log.id(held.seq));
                depot.cloud_log.write(Code::AckTimeout, &self.name, &self.clients[index].id, &words, now.unix_us);
                depot.record(held.seq, State::Backlog, Event::Expired, &mut self.clients[index], now);
                self.set_back(held.seq, retry_at, Why::NotAccepted, depot, now);
            }
        }
        self.dispatch(depot, now);
    }

    /// A message goes to the backlog, unless it is too old or there is no room.
    pub(super) fn set_back(&mut self, seq: Seq, eligible_at: Micros, why: Why, depot: &mut Depot, now: Now) {
        let Some((published, place)) = depot.log.get(seq).map(|record| (record.published.mono, record.place)) else {
            return;
        };
        let limits = &depot.terms.limits;
        let is_full = depot.terms.keeps(Rule::BacklogCapacity) && self.backlog.len() >= limits.backlog_capacity;
        if self.deleted {
            self.drop_message(seq, Why::GroupDeleted, depot, now);
        } else if depot.terms.kept_until(published) <= now.mono {
            self.drop_message(seq, Why::TooOld, depot, now);
        } else if is_full {
            self.drop_message(seq, Why::BacklogFull, depot, now);
        } else {
            depot.log.record_alone(seq, State::Backlog, Event::Backlogged(why), now);
            let place = self.backlog.put(seq, place, eligible_at);
            depot.log.set_place(seq, place);
            self.arm(eligible_at, depot);
        }
    }

    pub(super) fn drop_message(&mut self, seq: Seq, why: Why, depot: &mut Depot, now: Now) {
        self.counts.dropped += 1;
        depot.log.record_alone(seq, State::Dropped, Event::Dropped(why), now);
    }

    /// Gives up the whole backlog. Returns how many messages that were.
    pub(super) fn clear_backlog(&mut self, why: Why, depot: &mut Depot, now: Now) -> u64 {
        let cleared = self.backlog.len();
        for seq in self.backlog.clear() {
            self.drop_message(seq, why, depot, now);
        }
        cleared
    }

    /// The group is no more. Its clients' connections are the caller's to end.
    pub(super) fn delete(&mut self, depot: &mut Depot, now: Now) {
        self.deleted = true;
        self.clear_backlog(Why::GroupDeleted, depot, now);
        let bound = self.clients.iter_mut().filter_map(|client| client.link.as_mut());
        let bound: Vec<_> = bound.flat_map(|link| std::mem::take(&mut link.bound)).collect();
        for (_, seq) in std::mem::take(&mut self.waiting).into_iter().chain(bound) {
            self.drop_message(seq, Why::GroupDeleted, depot, now);
        }
    }

    /// Whether nobody will ask for this group again.
    pub(super) fn is_over(&self) -> bool {
        self.deleted && self.clients.is_empty()
    }

    pub(super) fn position(&self, serial: u64) -> Option<usize> {
        self.clients.iter().position(|client| client.serial == serial)
    }

    pub(super) fn client_mut(&mut self, serial: u64) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.serial == serial)
    }
}
