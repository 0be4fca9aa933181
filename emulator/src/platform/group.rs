//! One consumer group: its clients, its real-time and its backlog queue, and the rules of PLATFORM.md 1.6 to 1.8 by which
//! messages move between them. What the reference does not say is written down where it is decided.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::SocketAddr;

use rand::Rng as _;

use super::bucket::Bucket;
use super::client::{Client, Held, Lane, Link};
use super::depot::Depot;
use super::figures::{ClientFigures, Figures, Meter};
use super::log::{Event, Seq, State};
use super::{ClientKey, Counts, Credit, GroupLimits, Outcome, Refusal};
use crate::clock::{Micros, Now};
use crate::profile::Overflow;

/// The window of the limit on connection attempts, in µs.
const ATTEMPT_WINDOW_US: u64 = 60_000_000;

#[derive(Debug)]
pub(super) struct Group {
    index: usize,
    clients: Vec<Client>,
    /// Real-time messages that nobody can take at the moment, in order, and when each gives up waiting.
    waiting: VecDeque<(Micros, Seq)>,
    /// The backlog by the time from which a message may be pushed. A message that is not in the state `Backlog` any more
    /// (it was dropped for its age) is passed over when it comes up.
    backlog: BinaryHeap<Reverse<(Micros, Seq)>>,
    backlog_pace: Bucket,
    attempts: VecDeque<Micros>,
    counts: Counts,
    limits: GroupLimits,
    consumed: Meter,
    last_consumed_unix_ms: Option<u64>,
    /// A group that was deleted takes no message any more; what its clients still held is dropped as it comes back.
    deleted: bool,
}

impl Group {
    pub(super) fn new(index: usize, depot: &Depot, now: Micros) -> Self {
        Self {
            index,
            clients: Vec::new(),
            waiting: VecDeque::new(),
            backlog: BinaryHeap::new(),
            backlog_pace: Bucket::new(depot.terms.limits.backlog_per_group, now),
            attempts: VecDeque::new(),
            counts: Counts::default(),
            limits: GroupLimits::from(&depot.terms.limits),
            consumed: Meter::default(),
            last_consumed_unix_ms: None,
            deleted: false,
        }
    }

    pub(super) fn counts(&self) -> Counts {
        let unsettled =
            self.clients.iter().filter_map(|client| client.link.as_ref()).map(|link| link.unsettled as u64).sum();
        Counts { waiting: self.waiting.len() as u64, unsettled, clients: self.clients.len() as u64, ..self.counts }
    }

    /// Counts an attempt to connect; refused ones count as well, for the platform can't tell beforehand.
    pub(super) fn attempt(&mut self, now: Now) -> Result<(), Refusal> {
        while self.attempts.front().is_some_and(|&at| now.mono.since(at) >= ATTEMPT_WINDOW_US) {
            self.attempts.pop_front();
        }
        self.attempts.push_back(now.mono);
        self.counts.connect_attempts += 1;
        let in_window = self.attempts.len() as u64;
        self.counts.connect_attempts_peak_per_minute = self.counts.connect_attempts_peak_per_minute.max(in_window);
        let limit = self.limits.connect_attempts_per_minute;
        if in_window > u64::from(limit) { Err(Refusal::TooManyAttempts { limit }) } else { Ok(()) }
    }

    pub(super) fn join(
        &mut self,
        serial: u64,
        client_id: &str,
        address: SocketAddr,
        depot: &mut Depot,
        now: Now,
    ) -> Result<(), Refusal> {
        let limit = self.limits.clients_per_group;
        if self.clients.len() >= limit as usize {
            return Err(Refusal::TooManyClients { limit });
        }
        self.clients.push(Client {
            serial,
            id: client_id.to_owned(),
            name: depot.log.name(client_id),
            address,
            online_unix_ms: now.unix_us / 1_000,
            consumed: Meter::default(),
            pace: Bucket::new(depot.terms.limits.real_time_per_connection, now.mono),
            link: None,
        });
        self.counts.clients_peak = self.counts.clients_peak.max(self.clients.len() as u64);
        Ok(())
    }

    pub(super) fn leave(&mut self, serial: u64, depot: &mut Depot, now: Now) {
        self.detach(serial, depot, now);
        self.clients.retain(|client| client.serial != serial);
    }

    pub(super) fn attach(&mut self, serial: u64) {
        if let Some(client) = self.client(serial) {
            client.link = Some(Link::default());
        }
    }

    /// The link is gone. What it held goes to the backlog like any other failure.
    pub(super) fn detach(&mut self, serial: u64, depot: &mut Depot, now: Now) {
        let Some(client) = self.client(serial) else { return };
        let (name, Some(link)) = (client.name, client.link.take()) else { return };
        let retry_at = now.mono.after(depot.terms.limits.retry_after_link_loss);
        for held in link.into_unsettled() {
            depot.log.record(held.seq, State::Backlog, Event::LinkLost, Some(name), now);
            self.set_back(held.seq, retry_at, "its link was lost", depot, now);
        }
        if self.clients.iter().all(|client| client.link.is_none()) {
            while let Some((_, seq)) = self.waiting.pop_front() {
                self.set_back(seq, now.mono, "no client has a link", depot, now);
            }
        }
    }

    pub(super) fn grant(&mut self, serial: u64, credit: Credit, depot: &mut Depot, now: Now) {
        let Some(link) = self.client(serial).and_then(|client| client.link.as_mut()) else { return };
        link.grant(credit);
        self.dispatch(depot, now);
        if credit.drain
            && let Some(link) = self.client(serial).and_then(|client| client.link.as_mut())
        {
            link.drain();
            depot.wake(ClientKey { group: self.index, serial });
        }
    }

    /// A message of this group was published.
    pub(super) fn place(&mut self, seq: Seq, depot: &mut Depot, now: Now) {
        self.counts.published += 1;
        if self.waiting.is_empty()
            && let Some(client) = self.taker(Lane::RealTime, depot, now)
        {
            self.push(client, seq, Lane::RealTime, depot, now);
        } else if self.clients.iter().all(|client| client.link.is_none()) {
            self.set_back(seq, now.mono, "no client has a link", depot, now);
        } else {
            match depot.terms.profile.without_credit {
                Overflow::Wait => {
                    let until = now.mono.after(depot.terms.limits.real_time_wait);
                    depot.log.record(seq, State::Waiting, Event::Waiting, None, now);
                    self.waiting.push_back((until, seq));
                    self.arm(depot, now.mono);
                }
                Overflow::Backlog => self.fail_real_time(seq, depot, now),
            }
        }
    }

    /// A real-time message that nobody could take in time goes to the backlog, and is tried again after the retry time.
    fn fail_real_time(&mut self, seq: Seq, depot: &mut Depot, now: Now) {
        let retry_at = now.mono.after(depot.terms.limits.retry_after);
        self.set_back(seq, retry_at, "no client could take it in time", depot, now);
    }

    /// What a client says about the deliveries `first` to `last` of its link.
    pub(super) fn settle(&mut self, serial: u64, first: u32, last: u32, outcome: Outcome, depot: &mut Depot, now: Now) {
        let Some(client) = self.client(serial) else { return };
        let (name, Some(link)) = (client.name, client.link.as_mut()) else { return };
        let settled = link.settle(first, last);
        if outcome == Outcome::Accepted && !settled.is_empty() {
            for held in &settled {
                client.consumed.add(held.lane, now.mono);
            }
            for held in &settled {
                self.consumed.add(held.lane, now.mono);
            }
            self.last_consumed_unix_ms = Some(now.unix_us / 1_000);
        }
        let count = settled.len() as u64;
        let (counter, event) = match outcome {
            Outcome::Accepted => (&mut self.counts.accepted, Event::Accepted),
            Outcome::Released => (&mut self.counts.released, Event::Released("by the client")),
            Outcome::Rejected => (&mut self.counts.rejected, Event::Rejected),
            Outcome::Modified => (&mut self.counts.modified, Event::Modified),
            Outcome::Unspecified => (&mut self.counts.released, Event::Released("settled without an outcome")),
        };
        *counter += count;
        let retry_at = now.mono.after(depot.terms.limits.retry_after);
        for held in settled {
            if outcome == Outcome::Accepted {
                depot.log.record(held.seq, State::Accepted, event, Some(name), now);
            } else {
                depot.log.record(held.seq, State::Backlog, event, Some(name), now);
                self.set_back(held.seq, retry_at, "not accepted", depot, now);
            }
        }
    }

    /// A message that has grown too old. Only the backlog gives messages up; one that is under way is looked at again
    /// when it comes back.
    pub(super) fn retire(&mut self, seq: Seq, depot: &mut Depot, now: Now) {
        if depot.log.get(seq).is_some_and(|record| record.state == State::Backlog) {
            self.counts.backlog -= 1;
            self.drop_message(seq, "older than the retention time", depot, now);
        }
    }

    /// Lets ACK timeouts pass and pushes what can be pushed.
    pub(super) fn tick(&mut self, depot: &mut Depot, now: Now) {
        let retry_at = now.mono.after(depot.terms.limits.retry_after);
        for index in 0..self.clients.len() {
            let name = self.clients[index].name;
            while let Some(held) = self.clients[index].link.as_mut().and_then(|link| link.expire(now.mono)) {
                self.counts.expired += 1;
                depot.log.record(held.seq, State::Backlog, Event::Expired, Some(name), now);
                self.set_back(held.seq, retry_at, "not accepted", depot, now);
            }
        }
        self.dispatch(depot, now);
    }

    /// Pushes everything that can be pushed now, real-time messages first: the platform serves both queues side by side,
    /// and the backlog has a rate of its own.
    fn dispatch(&mut self, depot: &mut Depot, now: Now) {
        while let Some(&(until, seq)) = self.waiting.front() {
            if let Some(client) = self.taker(Lane::RealTime, depot, now) {
                self.waiting.pop_front();
                self.push(client, seq, Lane::RealTime, depot, now);
            } else if until <= now.mono {
                self.waiting.pop_front();
                self.fail_real_time(seq, depot, now);
            } else {
                break;
            }
        }
        while let Some(&Reverse((eligible_at, seq))) = self.backlog.peek() {
            if depot.log.get(seq).is_none_or(|record| record.state != State::Backlog) {
                self.backlog.pop();
                continue;
            }
            if eligible_at > now.mono || !self.backlog_pace.ready(now.mono) {
                break;
            }
            let Some(client) = self.taker(Lane::Backlog, depot, now) else { break };
            self.backlog.pop();
            self.counts.backlog -= 1;
            self.backlog_pace.take(now.mono);
            self.push(client, seq, Lane::Backlog, depot, now);
        }
        self.arm(depot, now.mono);
    }

    /// A random client of those that can take a message from `lane` now ("randomly forwarded to one of the servers").
    fn taker(&self, lane: Lane, depot: &mut Depot, now: Now) -> Option<usize> {
        let can_take = |client: &Client| client.has_credit() && (lane == Lane::Backlog || client.pace.ready(now.mono));
        match self.clients.iter().filter(|client| can_take(client)).count() {
            0 => None,
            count => {
                let chosen = depot.rng.random_range(0..count);
                self.clients
                    .iter()
                    .enumerate()
                    .filter(|(_, client)| can_take(client))
                    .nth(chosen)
                    .map(|(index, _)| index)
            }
        }
    }

    fn push(&mut self, index: usize, seq: Seq, lane: Lane, depot: &mut Depot, now: Now) {
        let client = &mut self.clients[index];
        let (Some(link), Some(record)) = (client.link.as_mut(), depot.log.get(seq)) else { return };
        let body = record.body.clone();
        let lane_name = match lane {
            Lane::RealTime => {
                client.pace.take(now.mono);
                "real-time"
            }
            Lane::Backlog => "backlog",
        };
        let deadline = now.mono.after(depot.terms.limits.ack_timeout);
        link.push(Held { seq, deadline, lane }, body);
        self.counts.pushed += 1;
        depot.log.record(seq, State::Unsettled, Event::Pushed(lane_name), Some(client.name), now);
        depot.arm(deadline);
        depot.wake(ClientKey { group: self.index, serial: client.serial });
    }

    fn set_back(&mut self, seq: Seq, eligible_at: Micros, why: &'static str, depot: &mut Depot, now: Now) {
        let Some(record) = depot.log.get(seq) else { return };
        if self.deleted {
            self.drop_message(seq, "the group was deleted", depot, now);
        } else if record.published.mono.after(depot.terms.limits.retention) <= now.mono {
            self.drop_message(seq, "older than the retention time", depot, now);
        } else if self.counts.backlog >= depot.terms.limits.backlog_capacity {
            self.drop_message(seq, "the backlog is full", depot, now);
        } else {
            depot.log.record(seq, State::Backlog, Event::Backlogged(why), None, now);
            self.backlog.push(Reverse((eligible_at, seq)));
            self.counts.backlog += 1;
            depot.arm(eligible_at);
        }
    }

    fn drop_message(&mut self, seq: Seq, why: &'static str, depot: &mut Depot, now: Now) {
        self.counts.dropped += 1;
        depot.log.record(seq, State::Dropped, Event::Dropped(why), None, now);
    }

    /// Says when something happens next in this group, if nobody calls before.
    pub(super) fn arm(&self, depot: &mut Depot, now: Micros) {
        if let Some(deadline) = self.clients.iter().filter_map(|client| client.link.as_ref()?.deadline()).min() {
            depot.arm(deadline);
        }
        let with_credit = || self.clients.iter().filter(|client| client.has_credit());
        if let Some(&(until, _)) = self.waiting.front() {
            depot.arm(until);
            if let Some(at) = with_credit().map(|client| client.pace.ready_at(now)).min() {
                depot.arm(at);
            }
        }
        if let Some(&Reverse((eligible_at, _))) = self.backlog.peek()
            && with_credit().next().is_some()
        {
            depot.arm(eligible_at.max(self.backlog_pace.ready_at(now)));
        }
    }

    /// Gives up the whole backlog. Returns how many messages that were.
    pub(super) fn clear_backlog(&mut self, why: &'static str, depot: &mut Depot, now: Now) -> u64 {
        let cleared = std::mem::take(&mut self.counts.backlog);
        for Reverse((_, seq)) in std::mem::take(&mut self.backlog) {
            if depot.log.get(seq).is_some_and(|record| record.state == State::Backlog) {
                self.drop_message(seq, why, depot, now);
            }
        }
        cleared
    }

    /// The group is no more. Its clients' connections are the caller's to end.
    pub(super) fn delete(&mut self, depot: &mut Depot, now: Now) {
        self.deleted = true;
        self.clear_backlog("the group was deleted", depot, now);
        while let Some((_, seq)) = self.waiting.pop_front() {
            self.drop_message(seq, "the group was deleted", depot, now);
        }
    }

    pub(super) fn set_limits(&mut self, limits: GroupLimits) {
        self.limits = limits;
    }

    pub(super) fn limits(&self) -> GroupLimits {
        self.limits
    }

    pub(super) fn figures(&self, now: Micros) -> Figures {
        let client = |client: &Client| ClientFigures {
            client_id: client.id.clone(),
            address: client.address,
            online_unix_ms: client.online_unix_ms,
            speed: client.consumed.per_minute(now),
        };
        Figures {
            backlog: self.counts.backlog,
            speed: self.consumed.per_minute(now),
            last_consumed_unix_ms: self.last_consumed_unix_ms,
            clients: self.clients.iter().map(client).collect(),
        }
    }

    fn client(&mut self, serial: u64) -> Option<&mut Client> {
        self.clients.iter_mut().find(|client| client.serial == serial)
    }

    pub(super) fn client_mut(&mut self, serial: u64) -> Option<&mut Client> {
        self.client(serial)
    }

    /// The clients, or those with this client ID.
    pub(super) fn serials(&self, client_id: Option<&str>) -> Vec<u64> {
        self.clients
            .iter()
            .filter(|client| client_id.is_none_or(|id| id == client.id))
            .map(|client| client.serial)
            .collect()
    }
}
