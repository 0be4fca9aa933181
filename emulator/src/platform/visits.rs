//! Clients on their way in and out.

use super::door::{self, Door, Eviction, Refusal, Visit};
use super::{ClientKey, Platform, UnknownGroup};
use crate::clock::Now;

impl Platform {
    /// Someone tries to connect to `group`. Attempts to a group that does not exist are not counted anywhere.
    pub fn attempt(&mut self, group: &str, now: Now) -> Result<(), Refusal> {
        match self.group_mut(group) {
            Ok((_, group, depot)) => group.attempt(depot, now),
            Err(_) => Ok(()),
        }
    }

    /// Has the next attempts to connect to `group` (to every group when `None`) refused, as though they were beyond the
    /// limit of a minute; 0 ends it.
    pub fn refuse_next(&mut self, group: Option<&str>, attempts: u32) -> Result<(), UnknownGroup> {
        match group {
            Some(group) => self.group_mut(group)?.1.refuse_next(attempts),
            None => self.groups.values_mut().for_each(|group| group.refuse_next(attempts)),
        }
        Ok(())
    }

    /// A client passes a door, or is refused at it. It comes to all of them, in their order, and hands in the key that it
    /// `held` since the one before. At which it gets its key, and at which it is refused, the profile decides.
    pub fn pass(
        &mut self,
        visit: &Visit<'_>,
        held: Option<ClientKey>,
        door: Door,
        now: Now,
    ) -> Result<Option<ClientKey>, Refusal> {
        let profile = &self.depot.terms.profile;
        if let Some(refusal) = visit.refused {
            return if door::refuses_attempts(door, profile) { Err(refusal) } else { Ok(held) };
        }
        let Some(client) = held else {
            let gets_in = door::gives_places(door, profile);
            return if gets_in { self.come_in(visit, now).map(Some) } else { Ok(None) };
        };
        if door == Door::Attach
            && let Some((group, depot)) = self.of(client)
        {
            group.pass_link(client.serial, depot, now)?;
        }
        Ok(held)
    }

    fn come_in(&mut self, visit: &Visit<'_>, now: Now) -> Result<ClientKey, Refusal> {
        let serial = self.next_serial;
        let (index, group, depot) = self.group_mut(visit.group)?;
        let evicted = group.join(serial, visit, depot, now)?;
        let key = |serial: u64| ClientKey { group: index, serial };
        self.evicted.extend(evicted.into_iter().map(|(serial, why)| (key(serial), why)));
        self.next_serial += 1;
        Ok(key(serial))
    }

    /// A client's connection is gone. What it held goes to the backlog.
    pub fn leave(&mut self, client: ClientKey, now: Now) {
        if let Some((group, depot)) = self.of(client) {
            group.leave(client.serial, depot, now);
            self.forget_if_over(client.group);
        }
    }

    /// The clients whose connections the platform wants to end, and why; those found since this was last asked.
    pub fn take_evicted(&mut self) -> Vec<(ClientKey, Eviction)> {
        std::mem::take(&mut self.evicted)
    }
}
