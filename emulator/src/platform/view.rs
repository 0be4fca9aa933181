//! What is shown of a group.

use super::Counts;
use super::client::{Client, ConnectionLine};
use super::depot::Depot;
use super::door::{self, Standing};
use super::figures::{ClientFigures, Figures};
use super::group::Group;
use super::log::State;
use crate::clock::Micros;

impl Group {
    pub(super) fn counts(&self, depot: &Depot) -> Counts {
        let links = || self.clients.iter().filter_map(|client| client.link.as_ref());
        let (connect_attempts, connect_attempts_peak_per_minute) = self.attempts.counts();
        Counts {
            waiting: (self.waiting.len() + links().map(|link| link.bound.len()).sum::<usize>()) as u64,
            backlog: self.backlog.len(),
            unsettled: links().map(|link| link.unsettled as u64).sum(),
            clients: door::places(self.clients.iter(), &depot.terms.profile) as u64,
            surplus: self.clients.iter().filter(|client| client.standing == Standing::Surplus).count() as u64,
            connect_attempts,
            connect_attempts_peak_per_minute,
            ..self.counts
        }
    }

    /// What the platform's own API shows.
    pub(super) fn figures(&self, now: Micros) -> Figures {
        let client = |client: &Client| ClientFigures {
            client_id: client.id.to_string(),
            address: client.address,
            online_unix_ms: client.online_unix_ms,
            speed: client.consumed.per_minute(now),
        };
        let present = self.clients.iter().filter(|client| client.standing != Standing::Evicted);
        Figures {
            backlog: self.backlog.len(),
            speed: self.consumed.per_minute(now),
            last_consumed_unix_ms: self.last_consumed_unix_ms,
            clients: present.map(client).collect(),
        }
    }

    /// The clients, or those with this client ID.
    pub(super) fn serials(&self, client_id: Option<&str>) -> Vec<u64> {
        let meant = self.clients.iter().filter(|client| client_id.is_none_or(|id| *id == *client.id));
        meant.map(|client| client.serial).collect()
    }

    /// The connections.
    pub(super) fn connections(&self) -> impl Iterator<Item = ConnectionLine> {
        self.clients.iter().map(|client| ConnectionLine {
            group: self.name.to_string(),
            client: client.id.to_string(),
            number: client.serial,
            address: client.address,
            credit: client.link.as_ref().map_or(0, |link| link.credit),
            unsettled: client.link.as_ref().map_or(0, |link| link.unsettled as u64),
            surplus: client.standing == Standing::Surplus,
        })
    }

    /// What does not add up: the counts among themselves, and against how many messages the log has in each state.
    pub(super) fn contradictions(&self, depot: &Depot, recounted: &Recount) -> Vec<String> {
        let counts = self.counts(depot);
        let (came, went) = (counts.published + counts.repeated, counts.accepted + counts.dropped);
        let there = [counts.waiting, counts.backlog, counts.unsettled];
        let mut found = Vec::new();
        if came != went + there.iter().sum::<u64>() {
            found.push(format!("group {}: the counts do not add up: {counts:?}", self.name));
        }
        if there != recounted.0 {
            let states = [State::Waiting, State::Backlog, State::Unsettled];
            found.push(format!("group {}: {states:?} are {there:?} by count, {:?} by the log", self.name, recounted.0));
        }
        found
    }
}

/// How many messages of a group the log has waiting, in the backlog and unsettled.
#[derive(Debug, Default)]
pub(super) struct Recount([u64; 3]);

impl Recount {
    pub(super) fn add(&mut self, state: State) {
        match state {
            State::Waiting => self.0[0] += 1,
            State::Backlog => self.0[1] += 1,
            State::Unsettled => self.0[2] += 1,
            State::Accepted | State::Dropped => {}
        }
    }
}
