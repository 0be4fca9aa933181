//! The platform as a state machine: consumer groups, their clients and queues, and the fate of every message. It does no
//! I/O, reads no clock and never sleeps: every call is handed the time. After any call the caller looks at two things:
//! [`Platform::take_woken`], the clients that have something to write, and [`Platform::alarm`], when to call
//! [`Platform::tick`] at the latest.
//!
//! At every moment, for every group:
//! `published + repeated = accepted + dropped + waiting + backlog + unsettled`. [`Platform::audit`] looks.

mod alarms;
mod audit;
mod backlog;
mod balance;
mod bucket;
mod client;
mod cloud_log;
mod counts;
mod depot;
mod dispatch;
mod door;
mod figures;
mod group;
mod log;
mod marks;
mod membership;
mod names;
mod publication;
mod recent;
mod shelf;
#[cfg(test)]
pub(crate) mod tests;
mod verdicts;
mod view;
mod visits;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

pub use self::audit::Audit;
pub use self::client::{ClientKey, ConnectionLine, Credit, Outgoing};
pub use self::cloud_log::{CloudLine, Code, LogQuery};
pub use self::counts::Counts;
pub use self::door::{Door, Eviction, GroupLimits, Refusal, Visit};
pub use self::figures::{ClientFigures, Figures, Speed};
pub use self::log::{FateLine, FateSummary, Seq, State};
pub use self::verdicts::Outcome;

use self::depot::Depot;
use self::group::Group;
use self::marks::Why;
use self::view::Recount;
use crate::clock::{Micros, Now};
use crate::terms::Terms;

/// There is no such group.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no consumer group {0:?}")]
pub struct UnknownGroup(pub String);

/// The state machine. See the module.
#[derive(Debug)]
pub struct Platform {
    depot: Depot,
    /// By their numbers, which are never used twice. One that was deleted stays until its last client has left.
    groups: BTreeMap<usize, Group>,
    by_name: HashMap<String, usize>,
    next_group: usize,
    next_serial: u64,
    /// The first message whose age has not been looked at.
    unretired: Seq,
    /// When it will be too old.
    retires_at: Micros,
    /// Clients that have to go, and who have not been told.
    evicted: Vec<(ClientKey, Eviction)>,
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
        let mut platform = Self {
            depot: Depot::new(terms, id_base, seed),
            groups: BTreeMap::new(),
            by_name: HashMap::new(),
            next_group: 0,
            next_serial: 0,
            unretired: 1,
            retires_at: Micros::NEVER,
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
            let index = self.next_group;
            self.next_group += 1;
            self.groups.insert(index, Group::new(index, name, &self.depot, now));
            self.by_name.insert(name.to_owned(), index);
        }
    }

    /// Deletes a group with all its messages. What becomes of its clients is documented nowhere; here they are to be
    /// closed, see [`Platform::take_evicted`].
    pub fn delete_group(&mut self, name: &str, now: Now) -> Result<(), UnknownGroup> {
        let (index, group, depot) = self.group_mut(name)?;
        group.delete(depot, now);
        let gone = group.serials(None).into_iter();
        self.evicted.extend(gone.map(|serial| (ClientKey { group: index, serial }, Eviction::GroupDeleted)));
        self.by_name.remove(name);
        self.forget_if_over(index);
        Ok(())
    }

    fn forget_if_over(&mut self, index: usize) {
        if let Some(group) = self.groups.get(&index).filter(|group| group.is_over()) {
            self.depot.alarms.replace(index, group.armed, Micros::NEVER);
            self.groups.remove(&index);
        }
    }

    /// Whether the messages that are not settled take as much memory as they may.
    pub fn is_full(&self) -> bool {
        self.depot.log.held_bytes() >= self.depot.terms.limits.held_bytes
    }

    /// Gives up a group's whole backlog, and returns how many messages that were.
    pub fn clear_backlog(&mut self, group: &str, now: Now) -> Result<u64, UnknownGroup> {
        let (_, group, depot) = self.group_mut(group)?;
        Ok(group.clear_backlog(Why::PositionReset, depot, now))
    }

    /// What the platform's own API shows of a group.
    pub fn figures(&self, group: &str, now: Micros) -> Result<Figures, UnknownGroup> {
        Ok(self.group(group)?.figures(now))
    }

    /// The counts of every group.
    pub fn all_counts(&self) -> impl Iterator<Item = (&str, Counts)> {
        self.by_name
            .iter()
            .filter_map(|(name, index)| Some((name.as_str(), self.groups.get(index)?.counts(&self.depot))))
    }

    /// A group's own limits.
    pub fn group_limits(&self, group: &str) -> Result<GroupLimits, UnknownGroup> {
        Ok(self.group(group)?.limits)
    }

    /// Gives a group limits of its own. Connections that are there stay, even when there are too many of them now.
    pub fn set_group_limits(&mut self, group: &str, limits: GroupLimits) -> Result<(), UnknownGroup> {
        let (_, group, _) = self.group_mut(group)?;
        group.limits = limits;
        Ok(())
    }

    fn index(&self, group: &str) -> Result<usize, UnknownGroup> {
        self.by_name.get(group).copied().ok_or_else(|| UnknownGroup(group.to_owned()))
    }

    fn group(&self, name: &str) -> Result<&Group, UnknownGroup> {
        self.groups.get(&self.index(name)?).ok_or_else(|| UnknownGroup(name.to_owned()))
    }

    fn group_mut(&mut self, name: &str) -> Result<(usize, &mut Group, &mut Depot), UnknownGroup> {
        let index = self.index(name)?;
        let group = self.groups.get_mut(&index).ok_or_else(|| UnknownGroup(name.to_owned()))?;
        Ok((index, group, &mut self.depot))
    }

    /// A client's group. It is there for as long as the client is.
    fn of(&mut self, client: ClientKey) -> Option<(&mut Group, &mut Depot)> {
        Some((self.groups.get_mut(&client.group)?, &mut self.depot))
    }

    /// Whether there is such a group.
    #[must_use]
    pub fn has_group(&self, group: &str) -> bool {
        self.by_name.contains_key(group)
    }

    /// Writes a line about a client into the platform's own log.
    ///
    /// By its group and its ID: a client whose Open was refused has no place, and is written about all the same.
    pub fn note(&mut self, code: Code, group: &str, client_id: &str, words: &str, now: Now) {
        tracing::info!(code = code as u16, group, client = client_id, words, "cloud log");
        self.depot.cloud_log.write(code, &group.into(), &client_id.into(), words, now.unix_us);
    }

    /// The lines of the platform's own log that are wanted, oldest first.
    #[must_use]
    pub fn cloud_log(&self, wanted: &LogQuery) -> Vec<CloudLine> {
        self.depot.cloud_log.read(wanted)
    }

    /// A client attaches its receiver link. It has no credit yet.
    pub fn attach(&mut self, client: ClientKey) {
        if let Some((group, _)) = self.of(client) {
            group.attach(client.serial);
        }
    }

    /// A client's link is gone. What it held goes to the backlog, and so does what waits if it was the last link.
    pub fn detach(&mut self, client: ClientKey, now: Now) {
        if let Some((group, depot)) = self.of(client) {
            group.detach(client.serial, depot, now);
        }
    }

    /// A client says how much it takes.
    pub fn grant(&mut self, client: ClientKey, credit: Credit, now: Now) {
        if let Some((group, depot)) = self.of(client) {
            group.grant(client.serial, credit, depot, now);
        }
    }

    /// A client answers for the deliveries `first` to `last` of its link, both included. Deliveries that are not there,
    /// not yet or no longer, are passed over.
    pub fn settle(&mut self, client: ClientKey, first: u32, last: u32, outcome: Outcome, now: Now) {
        if let Some((group, depot)) = self.of(client) {
            group.settle(client.serial, first, last, outcome, depot, now);
        }
    }

    /// Lets the time that has passed do its work: ACK timeouts, retries, rates, retention. Calling it at
    /// [`Platform::alarm`] is enough, more often is harmless.
    pub fn tick(&mut self, now: Now) {
        self.retire(now);
        for index in self.depot.alarms.take_due(now.mono) {
            if let Some(group) = self.groups.get_mut(&index) {
                group.tick(&mut self.depot, now);
            }
        }
    }

    /// When [`Platform::tick`] is due at the latest.
    #[must_use]
    pub fn alarm(&self) -> Micros {
        self.depot.alarms.next().min(self.retires_at)
    }

    /// The clients that got something to write since this was last asked.
    pub fn take_woken(&mut self) -> Vec<ClientKey> {
        self.depot.take_woken()
    }

    /// Moves at most `limit` things from a client's outbox to `into`. Whatever is left is there for the next call; no
    /// new wake-up comes for it.
    pub fn take_outgoing(&mut self, client: ClientKey, limit: usize, into: &mut impl Extend<Outgoing>) {
        let Some((group, depot)) = self.of(client) else { return };
        let link = group.client_mut(client.serial).and_then(|client| client.link.as_mut());
        if link.is_some_and(|link| link.take_outgoing(limit, into)) {
            group.arm(Micros::default(), depot);
        }
    }

    /// A group's counts.
    pub fn counts(&self, group: &str) -> Result<Counts, UnknownGroup> {
        Ok(self.group(group)?.counts(&self.depot))
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

    /// Whether everything adds up: no message that is done with was pushed again, none is in two places, and every group's
    /// counts agree among themselves and with the log. It looks at every record that there is.
    #[must_use]
    pub fn audit(&self) -> Audit {
        let mut recounts: HashMap<usize, Recount> = HashMap::new();
        let mut held_bytes = 0;
        for (_, record) in self.depot.log.all().filter(|(_, record)| !record.state.is_final()) {
            recounts.entry(record.group).or_default().add(record.state);
            held_bytes += record.held_bytes();
        }
        let counted = self.depot.log.held_bytes();
        let miscounted = (counted != held_bytes)
            .then(|| format!("messages that are not settled take {held_bytes} bytes, and {counted} are counted"));
        let groups = self.groups.iter();
        let contradictions = groups.flat_map(|(index, group)| {
            group.contradictions(&self.depot, recounts.get(index).unwrap_or(&Recount::default()))
        });
        self.depot.log.violations.report(contradictions.chain(miscounted))
    }

    /// The open connections of `group` (of all groups when `None`).
    pub fn connections(&self, group: Option<&str>) -> Result<Vec<ConnectionLine>, UnknownGroup> {
        Ok(self.chosen(group)?.flat_map(|(_, group)| group.connections()).collect())
    }

    /// The open connections of `group` (of all groups when `None`), or those of them with this client ID.
    pub fn clients(&self, group: Option<&str>, client_id: Option<&str>) -> Result<Vec<ClientKey>, UnknownGroup> {
        let keys = self.chosen(group)?.flat_map(|(group, state)| {
            state.serials(client_id).into_iter().map(move |serial| ClientKey { group, serial })
        });
        Ok(keys.collect())
    }

    fn chosen(&self, group: Option<&str>) -> Result<impl Iterator<Item = (usize, &Group)>, UnknownGroup> {
        let chosen = group.map(|name| self.index(name)).transpose()?;
        let groups = self.groups.iter().map(|(index, group)| (*index, group));
        Ok(groups.filter(move |(index, _)| chosen.is_none_or(|chosen| chosen == *index)))
    }
}
