//! Which message goes to which client, and when: "randomly forwarded to one of the servers" (PLATFORM.md 1.6), real-time
//! messages first, both queues side by side and each within its rate (1.7, 1.8).

use rand::Rng as _;

use super::ClientKey;
use super::client::{Client, Held, Lane, Link};
use super::depot::Depot;
use super::group::Group;
use super::log::{Seq, State};
use super::marks::{Event, Why};
use crate::clock::{Micros, Now};
use crate::profile::{ChosenClient, Overflow, PushRate};
use crate::rules::Rule;
use crate::terms::Terms;

impl Group {
    /// A new message of this group: somebody gets it, or it overflows.
    pub(super) fn place(&mut self, seq: Seq, depot: &mut Depot, now: Now) {
        match depot.terms.profile.chosen_client {
            ChosenClient::Able => self.place_with_able(seq, depot, now),
            ChosenClient::Any => self.place_with_any(seq, depot, now),
        }
    }

    fn place_with_able(&mut self, seq: Seq, depot: &mut Depot, now: Now) {
        // Nobody passes those who wait.
        self.push_waiting(depot, now);
        if self.waiting.is_empty()
            && let Some(index) = self.taker(Lane::RealTime, depot, now)
        {
            self.push(index, seq, Lane::RealTime, depot, now);
        } else if self.clients.iter().any(Client::has_credit) {
            self.overflow(seq, None, Why::AtRate, depot, now);
        } else if self.clients.iter().any(Client::is_served) {
            self.overflow(seq, None, Why::NoCredit, depot, now);
        } else {
            self.set_back(seq, now.mono, Why::NoLink, depot, now);
        }
    }

    fn place_with_any(&mut self, seq: Seq, depot: &mut Depot, now: Now) {
        let Some(index) = self.draw(Client::is_served, depot, now) else {
            return self.set_back(seq, now.mono, Why::NoLink, depot, now);
        };
        self.push_bound(index, depot, now);
        let client = &self.clients[index];
        let is_first = client.link.as_ref().is_some_and(|link| link.bound.is_empty());
        if is_first && self.can_take(client, Lane::RealTime, &depot.terms, now.mono) {
            self.push(index, seq, Lane::RealTime, depot, now);
        } else {
            let why = if client.has_credit() { Why::AtRate } else { Why::NoCredit };
            self.overflow(seq, Some(index), why, depot, now);
        }
    }

    /// Nobody can be given this message at the moment, or not the client that it is for.
    fn overflow(&mut self, seq: Seq, client: Option<usize>, why: Why, depot: &mut Depot, now: Now) {
        let profile = &depot.terms.profile;
        let overflow = if why == Why::AtRate { profile.throttled } else { profile.without_credit };
        if overflow == Overflow::Backlog {
            return self.set_back(seq, depot.terms.retry_at(now.mono), why, depot, now);
        }
        let until = depot.terms.wait_until(now.mono);
        let link = client.and_then(|index| self.clients[index].link.as_mut());
        link.map_or(&mut self.waiting, |link| &mut link.bound).push_back((until, seq));
        depot.log.record_alone(seq, State::Waiting, Event::Waiting(why), now);
        self.arm_next(depot, now.mono);
    }

    /// Pushes everything that can be pushed now.
    pub(super) fn dispatch(&mut self, depot: &mut Depot, now: Now) {
        let real_time_first = depot.terms.keeps(Rule::RealTimeFirst);
        if !real_time_first {
            self.push_backlog(depot, now);
        }
        self.push_waiting(depot, now);
        for index in 0..self.clients.len() {
            self.push_bound(index, depot, now);
        }
        if real_time_first {
            self.push_backlog(depot, now);
        }
        self.arm_next(depot, now.mono);
    }

    fn push_waiting(&mut self, depot: &mut Depot, now: Now) {
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
    }

    /// The same for what is for one client alone.
    fn push_bound(&mut self, index: usize, depot: &mut Depot, now: Now) {
        while let Some((until, seq)) = self.clients[index].link.as_ref().and_then(|link| link.bound.front().copied()) {
            let can_take = self.can_take(&self.clients[index], Lane::RealTime, &depot.terms, now.mono);
            if !can_take && until > now.mono {
                break;
            }
            if let Some(link) = self.clients[index].link.as_mut() {
                link.bound.pop_front();
            }
            if can_take {
                self.push(index, seq, Lane::RealTime, depot, now);
            } else {
                self.fail_real_time(seq, depot, now);
            }
        }
    }

    /// A real-time message that nobody could take in time goes to the backlog, and is tried again after the retry time.
    pub(super) fn fail_real_time(&mut self, seq: Seq, depot: &mut Depot, now: Now) {
        self.set_back(seq, depot.terms.retry_at(now.mono), Why::NotInTime, depot, now);
    }

    /// From the backlog a message goes to somebody who can take it, whatever the profile says of new ones.
    fn push_backlog(&mut self, depot: &mut Depot, now: Now) {
        let keeps_rate = depot.terms.keeps(Rule::BacklogRate);
        while let Some((seq, place)) = self.backlog.next(now.mono) {
            if keeps_rate && !self.backlog_pace.ready(now.mono) {
                break;
            }
            let Some(client) = self.taker(Lane::Backlog, depot, now) else { break };
            self.backlog.remove(seq, place);
            self.backlog_pace.take(now.mono);
            self.push(client, seq, Lane::Backlog, depot, now);
        }
    }

    /// From when a client's rate, or that of the group, has room for a real-time message.
    fn real_time_at(&self, client: &Client, terms: &Terms, now: Micros) -> Micros {
        match terms.profile.push_rate {
            _ if !terms.keeps(Rule::RealTimeRate) => now,
            PushRate::PerConnection => client.pace.ready_at(now),
            PushRate::PerGroup => self.pace.ready_at(now),
        }
    }

    fn can_take(&self, client: &Client, lane: Lane, terms: &Terms, now: Micros) -> bool {
        client.has_credit() && (lane == Lane::Backlog || self.real_time_at(client, terms, now) <= now)
    }

    /// One of the clients that can take a message from `lane` now.
    fn taker(&mut self, lane: Lane, depot: &mut Depot, now: Now) -> Option<usize> {
        let mut able = std::mem::take(&mut depot.able);
        able.clear();
        let clients = self.clients.iter().enumerate();
        able.extend(clients.filter(|(_, it)| self.can_take(it, lane, &depot.terms, now.mono)).map(|(index, _)| index));
        let chosen = self.draw_of(&able, depot, now);
        depot.able = able;
        chosen
    }

    fn draw(&mut self, from: fn(&Client) -> bool, depot: &mut Depot, now: Now) -> Option<usize> {
        let clients = self.clients.iter().enumerate();
        let able: Vec<usize> = clients.filter(|(_, client)| from(client)).map(|(index, _)| index).collect();
        self.draw_of(&able, depot, now)
    }

    /// A random one of these, evenly but for the time after a change of membership.
    fn draw_of(&mut self, able: &[usize], depot: &mut Depot, now: Now) -> Option<usize> {
        let nth = match able.len() {
            0 => return None,
            count if self.balance.is_even(now.mono) || !depot.terms.keeps(Rule::Uneven) => {
                depot.rng.random_range(0..count)
            }
            _ => self.balance.draw(able.iter().map(|&index| self.clients[index].serial), now.mono),
        };
        able.get(nth).copied()
    }

    fn push(&mut self, index: usize, seq: Seq, lane: Lane, depot: &mut Depot, now: Now) {
        let client = &mut self.clients[index];
        let deadline = depot.terms.answer_by(now.mono);
        depot.record(seq, State::Unsettled, Event::Pushed(lane), client, now);
        let (Some(link), Some(record)) = (client.link.as_mut(), depot.log.get(seq)) else { return };
        if lane == Lane::RealTime {
            client.pace.take(now.mono);
            self.pace.take(now.mono);
        }
        link.push(Held { seq, deadline, lane, pushes: record.pushes() }, record.body.clone());
        self.counts.pushed += 1;
        depot.wake(ClientKey { group: self.index, serial: client.serial });
        self.arm(deadline, depot);
    }

    /// Says when something happens next in this group, if nobody calls before.
    pub(super) fn arm_next(&mut self, depot: &mut Depot, now: Micros) {
        let links = || self.clients.iter().filter_map(|client| client.link.as_ref());
        let mut next = links().filter_map(Link::deadline).min().unwrap_or(Micros::NEVER);
        let with_credit = || self.clients.iter().filter(|client| client.has_credit());
        let ready_at = |client: &Client| self.real_time_at(client, &depot.terms, now);
        if let Some(&(until, _)) = self.waiting.front() {
            next = with_credit().map(ready_at).min().unwrap_or(until).min(until).min(next);
        }
        for client in &self.clients {
            if let Some(&(until, _)) = client.link.as_ref().and_then(|link| link.bound.front()) {
                next = next.min(until).min(if client.has_credit() { ready_at(client) } else { until });
            }
        }
        if let Some(eligible_at) = self.backlog.next_at()
            && with_credit().next().is_some()
        {
            let keeps_rate = depot.terms.keeps(Rule::BacklogRate);
            next = next.min(eligible_at.max(if keeps_rate { self.backlog_pace.ready_at(now) } else { now }));
        }
        self.arm(next, depot);
    }

    /// This group is to be looked at then, or before.
    pub(super) fn arm(&mut self, at: Micros, depot: &mut Depot) {
        if at < self.armed {
            depot.alarms.replace(self.index, self.armed, at);
            self.armed = at;
        }
    }
}
