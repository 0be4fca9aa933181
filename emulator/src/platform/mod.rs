//! The platform as a state machine: consumer groups, their clients and queues, and the fate of every message. It does no
//! I/O, reads no clock and never sleeps: every call is handed the time. After any call the caller looks at two things:
//! [`Platform::take_woken`], the clients that have something to write, and [`Platform::alarm`], when to call
//! [`Platform::tick`] at the latest.
//!
//! At every moment, for every group:
//! `published = accepted + dropped + waiting + backlog + unsettled`.

mod bucket;
mod client;
mod depot;
mod figures;
mod group;
mod log;
// STAND-IN for package A: this line, its `pub use`, and the file.
mod standin;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

pub use self::client::{ClientKey, Credit, Outgoing};
pub use self::figures::{ClientFigures, Figures, Speed};
pub use self::log::{FateLine, FateSummary, Seq, State};
pub use self::standin::{Audit, CloudLine, ConnectionLine, LogQuery};

use self::depot::Depot;
use self::group::Group;
use crate::clock::{Micros, Now};
use crate::limits::Limits;
use crate::message::{Draft, DraftId};
use crate::terms::Terms;

/// What a client answers for a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the platform forgets the message.
    Accepted,
    /// Given back. What the platform does then is undocumented (PLATFORM.md 1.7); here it goes to the backlog and is
    /// pushed again after the retry time.
    Released,
    /// Refused. Treated as released, counted apart.
    Rejected,
    /// Refused with changes. Treated as released, counted apart.
    Modified,
    /// Settled, and no outcome said. Treated and counted as released.
    Unspecified,
}

/// Why a client may not come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The group has its full number of clients (PLATFORM.md 1.8).
    #[error("connections in the group exceed the limit of {limit} (9600)")]
    TooManyClients {
        /// The limit.
        limit: u32,
    },
    /// Too many attempts to connect in the last minute (PLATFORM.md 1.8).
    /// The group was deleted meanwhile.
    #[error("the consumer group is gone")]
    NoGroup,
    #[error("more than {limit} connection attempts of the group in one minute")]
    TooManyAttempts {
        /// The limit.
        limit: u32,
    },
}

impl From<UnknownGroup> for Refusal {
    fn from(_: UnknownGroup) -> Self {
        Self::NoGroup
    }
}

/// Where a client can be refused on its way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// Its credentials are right, and SASL has no outcome yet.
    Sasl,
    /// Its Open has come.
    Open,
    /// It attaches its link.
    Attach,
}

/// What the platform writes into its own log about clients (PLATFORM.md 1.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// One connection too many in the group.
    Surplus = 9600,
    /// The idle-time-out is not acceptable.
    Heartbeat = 9601,
    /// The platform closes the connection of its own accord.
    Closed = 9602,
    /// A delivery was not answered for in time.
    AckTimeout = 9650,
    /// A delivery was released.
    Released = 9651,
    /// A delivery was rejected.
    Rejected = 9652,
}

/// The limits that one group may have for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GroupLimits {
    /// Connections at a time.
    pub clients_per_group: u32,
    /// Attempts to connect in any 60 s.
    pub connect_attempts_per_minute: u32,
}

impl From<&Limits> for GroupLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            clients_per_group: limits.clients_per_group,
            connect_attempts_per_minute: limits.connect_attempts_per_minute,
        }
    }
}

/// There is no such group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no consumer group {0:?}")]
pub struct UnknownGroup(pub String);

/// A group's counts. `published`, `pushed`, `accepted`, `released`, `rejected`, `modified`, `expired` and `dropped` are
/// totals since the start; `waiting`, `backlog`, `unsettled` and `clients` are what is there now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Messages published.
    pub published: u64,
    /// Pushes, repeated ones included.
    pub pushed: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Deliveries released, or settled without an outcome.
    pub released: u64,
    /// Deliveries rejected.
    pub rejected: u64,
    /// Deliveries modified.
    pub modified: u64,
    /// Deliveries not answered within the ACK timeout.
    pub expired: u64,
    /// Messages given up: too old, or the backlog was full.
    pub dropped: u64,
    /// Real-time messages that wait for credit or for the push rate.
    pub waiting: u64,
    /// Messages in the backlog.
    pub backlog: u64,
    /// Deliveries pushed and not answered.
    pub unsettled: u64,
    /// Open connections.
    pub clients: u64,
    /// The most connections there were at a time.
    pub clients_peak: u64,
    /// Attempts to connect, refused ones included.
    pub connect_attempts: u64,
    /// The most attempts in any 60 s.
    pub connect_attempts_peak_per_minute: u64,
}

/// The state machine. See the module.
#[derive(Debug)]
pub struct Platform {
    depot: Depot,
    groups: Vec<Group>,
    by_name: HashMap<String, usize>,
    next_serial: u64,
    /// The first message whose age has not been looked at.
    unretired: Seq,
    /// Clients whose group is gone, and who have not been told.
    evicted: Vec<ClientKey>,
}

impl Platform {
    /// A platform with these groups. Message IDs are numbers from `id_base` on; `seed` decides the random dispatch.
    #[must_use]
    pub(crate) fn new<'a>(
        terms: Arc<Terms>,
        groups: impl IntoIterator<Item = &'a str>,
        id_base: u64,
        seed: u64,
    ) -> Self {
        let depot = Depot::new(terms, id_base, seed);
        let mut platform = Self {
            depot,
            groups: Vec::new(),
            by_name: HashMap::new(),
            next_serial: 0,
            unretired: 1,
            evicted: Vec::new(),
        };
        for name in groups {
            platform.add_group(name, Micros::default());
        }
        platform
    }

    /// Adds a group, unless it is there.
    pub fn add_group(&mut self, name: &str, now: Micros) {
        if !self.by_name.contains_key(name) {
            let index = self.groups.len();
            self.groups.push(Group::new(index, &self.depot, now));
            self.by_name.insert(name.to_owned(), index);
        }
    }

    /// Deletes a group with all its messages. What becomes of its clients is documented nowhere; here they are to be
    /// closed, see [`Platform::take_evicted`].
    pub fn delete_group(&mut self, name: &str, now: Now) -> Result<(), UnknownGroup> {
        let index = self.index(name)?;
        self.by_name.remove(name);
        self.groups[index].delete(&mut self.depot, now);
        let serials = self.groups[index].serials(None);
        self.evicted.extend(serials.into_iter().map(|serial| ClientKey { group: index, serial }));
        Ok(())
    }

    /// The clients whose group was deleted since this was last asked.
    pub fn take_evicted(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.evicted)
    }

    /// Gives up a group's whole backlog, and returns how many messages that were.
    pub fn clear_backlog(&mut self, group: &str, now: Now) -> Result<u64, UnknownGroup> {
        let index = self.index(group)?;
        Ok(self.groups[index].clear_backlog("the position was reset", &mut self.depot, now))
    }

    /// What the platform's own API shows of a group.
    pub fn figures(&self, group: &str, now: Micros) -> Result<Figures, UnknownGroup> {
        Ok(self.groups[self.index(group)?].figures(now))
    }

    /// The figures of every group.
    pub fn all_figures(&self, now: Micros) -> impl Iterator<Item = (&str, Figures)> {
        self.by_name.iter().map(move |(name, &index)| (name.as_str(), self.groups[index].figures(now)))
    }

    /// The counts of every group.
    pub fn all_counts(&self) -> impl Iterator<Item = (&str, Counts)> {
        self.by_name.iter().map(|(name, &index)| (name.as_str(), self.groups[index].counts()))
    }

    /// A group's own limits.
    pub fn group_limits(&self, group: &str) -> Result<GroupLimits, UnknownGroup> {
        Ok(self.groups[self.index(group)?].limits())
    }

    /// Gives a group limits of its own. Connections that are there stay, even when there are too many of them now.
    pub fn set_group_limits(&mut self, group: &str, limits: GroupLimits) -> Result<(), UnknownGroup> {
        let index = self.index(group)?;
        self.groups[index].set_limits(limits);
        Ok(())
    }

    fn index(&self, group: &str) -> Result<usize, UnknownGroup> {
        self.by_name.get(group).copied().ok_or_else(|| UnknownGroup(group.to_owned()))
    }

    /// Whether there is such a group.
    #[must_use]
    pub fn has_group(&self, group: &str) -> bool {
        self.by_name.contains_key(group)
    }

    /// Someone tries to connect to `group`. Attempts to a group that does not exist are not counted anywhere.
    pub fn attempt(&mut self, group: &str, now: Now) -> Result<(), Refusal> {
        match self.by_name.get(group) {
            Some(&index) => self.groups[index].attempt(now),
            None => Ok(()),
        }
    }

    /// A client's connection opens. The outer error is an unknown group.
    pub fn join(
        &mut self,
        group: &str,
        client_id: &str,
        address: SocketAddr,
        now: Now,
    ) -> Result<Result<ClientKey, Refusal>, UnknownGroup> {
        let index = self.index(group)?;
        let serial = self.next_serial;
        self.next_serial += 1;
        let joined = self.groups[index].join(serial, client_id, address, &mut self.depot, now);
        Ok(joined.map(|()| ClientKey { group: index, serial }))
    }

    /// Writes a line about a client into the platform's own log.
    pub fn note(&mut self, code: Code, client: ClientKey, words: &str, _now: Now) {
        tracing::info!(code = code as u16, ?client, words, "cloud log");
    }

    /// A client's connection is gone. What it held goes to the backlog.
    pub fn leave(&mut self, client: ClientKey, now: Now) {
        self.groups[client.group].leave(client.serial, &mut self.depot, now);
    }

    /// A client attaches its receiver link. It has no credit yet.
    pub fn attach(&mut self, client: ClientKey) {
        self.groups[client.group].attach(client.serial);
    }

    /// A client's link is gone. What it held goes to the backlog, and so does what waits if it was the last link.
    pub fn detach(&mut self, client: ClientKey, now: Now) {
        self.groups[client.group].detach(client.serial, &mut self.depot, now);
    }

    /// A client says how much it takes.
    pub fn grant(&mut self, client: ClientKey, credit: Credit, now: Now) {
        self.groups[client.group].grant(client.serial, credit, &mut self.depot, now);
    }

    /// A client answers for the deliveries `first` to `last` of its link, both included. Deliveries that are not there,
    /// not yet or no longer, are passed over.
    pub fn settle(&mut self, client: ClientKey, first: u32, last: u32, outcome: Outcome, now: Now) {
        self.groups[client.group].settle(client.serial, first, last, outcome, &mut self.depot, now);
    }

    /// Publishes messages to `group`, in this order, and returns their IDs.
    pub fn publish(&mut self, group: &str, drafts: &[Draft], now: Now) -> Result<Vec<String>, UnknownGroup> {
        let index = self.index(group)?;
        self.depot.arm(now.mono.after(self.depot.terms.limits.retention));
        let published_ms = i64::try_from(now.unix_us / 1_000).unwrap_or(i64::MAX);
        let ids = drafts.iter().map(|draft| {
            let given = match &draft.id {
                DraftId::Given(id) => Some(id.as_str()),
                DraftId::Assigned | DraftId::Hidden => None,
            };
            let (_, id) = self.depot.log.next(given);
            let seq = self.depot.log.add(index, given, draft.encode(&id, published_ms, &self.depot.terms.profile), now);
            self.groups[index].place(seq, &mut self.depot, now);
            id
        });
        Ok(ids.collect())
    }

    /// Publishes one message to several groups, each of which gets a copy under the same ID (PLATFORM.md 1.6). Returns
    /// that ID, or `None` when there was no group to publish it to. Groups that do not exist are passed over.
    pub fn publish_to(&mut self, groups: &[String], draft: &Draft, now: Now) -> Option<String> {
        let groups: Vec<&String> = groups.iter().filter(|group| self.has_group(group)).collect();
        let assigned = groups.len() > 1 && draft.id == DraftId::Assigned;
        let id = if assigned { DraftId::Given(self.depot.log.next(None).1) } else { draft.id.clone() };
        let copy = Draft { id, ..draft.clone() };
        let ids = groups.iter().filter_map(|group| self.publish(group, std::slice::from_ref(&copy), now).ok()?.pop());
        ids.fold(None, |first, id| first.or(Some(id)))
    }

    /// Lets the time that has passed do its work: ACK timeouts, retries, rates, retention. Calling it at
    /// [`Platform::alarm`] is enough, more often is harmless.
    pub fn tick(&mut self, now: Now) {
        self.depot.disarm();
        loop {
            // What has left the log was settled for good.
            self.unretired = self.unretired.max(self.depot.log.first());
            let Some(record) = self.depot.log.get(self.unretired) else { break };
            let due = record.published.mono.after(self.depot.terms.limits.retention);
            if due > now.mono {
                self.depot.arm(due);
                break;
            }
            let group = record.group;
            self.groups[group].retire(self.unretired, &mut self.depot, now);
            self.unretired += 1;
        }
        for group in &mut self.groups {
            group.tick(&mut self.depot, now);
        }
    }

    /// When [`Platform::tick`] is due at the latest.
    #[must_use]
    pub fn alarm(&self) -> Micros {
        self.depot.alarm()
    }

    /// The clients that got something to write since this was last asked.
    pub fn take_woken(&mut self) -> Vec<ClientKey> {
        self.depot.take_woken()
    }

    /// Moves at most `limit` things from a client's outbox to `into`. Whatever is left is there for the next call; no
    /// new wake-up comes for it.
    pub fn take_outgoing(&mut self, client: ClientKey, limit: usize, into: &mut impl Extend<Outgoing>) {
        if let Some(link) = self.groups[client.group].client_mut(client.serial).and_then(|client| client.link.as_mut())
        {
            let count = limit.min(link.outbox.len());
            into.extend(link.outbox.drain(..count));
        }
    }

    /// A group's counts.
    pub fn counts(&self, group: &str) -> Result<Counts, UnknownGroup> {
        Ok(self.groups[self.index(group)?].counts())
    }

    /// What happened to the message with this ID, oldest line first; `None` when the log does not know it (any more).
    #[must_use]
    pub fn fate(&self, id: &str) -> Option<Vec<FateLine>> {
        self.depot.log.fate(id)
    }

    /// The next at most `limit` messages of `group` after `after`, and the place to go on after.
    pub fn fates(&self, group: &str, after: Seq, limit: usize) -> Result<(Vec<FateSummary>, Seq), UnknownGroup> {
        Ok(self.depot.log.summaries(self.index(group)?, after, limit))
    }

    /// The open connections of `group` (of all groups when `None`), or those of them with this client ID.
    pub fn clients(&self, group: Option<&str>, client_id: Option<&str>) -> Result<Vec<ClientKey>, UnknownGroup> {
        let chosen = group.map(|name| self.index(name)).transpose()?;
        let groups = self.groups.iter().enumerate().filter(|(index, _)| chosen.is_none_or(|chosen| chosen == *index));
        Ok(groups
            .flat_map(|(group, state)| {
                state.serials(client_id).into_iter().map(move |serial| ClientKey { group, serial })
            })
            .collect())
    }
}
