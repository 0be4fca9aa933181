//! How messages come in, and how those go that nobody took in time.

use bytes::Bytes;

use super::log::Arrival;
use super::marks::Why;
use super::{Platform, UnknownGroup};
use crate::clock::{Micros, Now};
use crate::message::{Draft, DraftId};
use crate::rules::Rule;

impl Platform {
    /// Publishes messages to `group`, in this order, and returns their IDs. One whose payload is larger than the platform
    /// takes gets an ID and is dropped at once: its fate says why.
    pub fn publish(&mut self, group: &str, drafts: &[Draft], now: Now) -> Result<Vec<String>, UnknownGroup> {
        self.retire_at(now.mono);
        let (index, group, depot) = self.group_mut(group)?;
        let published_ms = i64::try_from(now.unix_us / 1_000).unwrap_or(i64::MAX);
        let largest =
            if depot.terms.keeps(Rule::MaxPayload) { depot.terms.limits.max_payload_bytes } else { usize::MAX };
        let ids = drafts.iter().map(|draft| {
            let given_id = match &draft.id {
                DraftId::Given(id) => Some(id.as_str()),
                DraftId::Assigned | DraftId::Hidden => None,
            };
            let id = given_id.map_or_else(|| depot.log.next_id(), str::to_owned);
            let fits = draft.payload.len() <= largest;
            let body = if fits { draft.encode(&id, published_ms, &depot.terms.profile) } else { Bytes::new() };
            let seq = depot.log.add(Arrival { group: index, given_id, body, repeated: false }, now);
            group.counts.published += 1;
            if fits {
                group.place(seq, depot, now);
            } else {
                group.drop_message(seq, Why::TooLarge, depot, now);
            }
            id
        });
        Ok(ids.collect())
    }

    /// Pushes the message with this ID again: a new copy under the same ID, to each group that had it. Returns the ID, or
    /// `None` when the message is not known, or its body is not there any more: that of a settled message is kept for a
    /// while only.
    pub fn repeat(&mut self, id: &str, now: Now) -> Option<String> {
        let bodies = self.depot.log.bodies(id).into_iter();
        let bodies: Vec<_> = bodies.filter(|(group, _)| self.groups.get(group).is_some_and(|it| !it.deleted)).collect();
        if bodies.is_empty() {
            return None;
        }
        self.retire_at(now.mono);
        for (index, body) in bodies {
            let seq = self.depot.log.add(Arrival { group: index, given_id: Some(id), body, repeated: true }, now);
            if let Some(group) = self.groups.get_mut(&index) {
                group.counts.repeated += 1;
                group.place(seq, &mut self.depot, now);
            }
        }
        Some(id.to_owned())
    }

    /// Publishes one message to several groups, each of which gets a copy under the same ID (PLATFORM.md 1.6). Returns
    /// that ID, or `None` when there was no group to publish it to. Groups that do not exist are passed over.
    pub fn publish_to(&mut self, groups: &[String], draft: &Draft, now: Now) -> Option<String> {
        let groups: Vec<&String> = groups.iter().filter(|group| self.has_group(group)).collect();
        let assigned = groups.len() > 1 && draft.id == DraftId::Assigned;
        let id = if assigned { DraftId::Given(self.depot.log.next_id()) } else { draft.id.clone() };
        let copy = Draft { id, ..draft.clone() };
        let ids = groups.iter().filter_map(|group| self.publish(group, std::slice::from_ref(&copy), now).ok()?.pop());
        ids.fold(None, |first, id| first.or(Some(id)))
    }

    /// Messages come in now: they are to be looked at when they are too old.
    fn retire_at(&mut self, now: Micros) {
        self.retires_at = self.retires_at.min(self.depot.terms.kept_until(now));
    }

    /// Has messages dropped that are too old.
    pub(super) fn retire(&mut self, now: Now) {
        if self.retires_at > now.mono {
            return;
        }
        self.retires_at = Micros::NEVER;
        while let Some((seq, record)) = self.depot.log.next_from(self.unretired) {
            let due = self.depot.terms.kept_until(record.published.mono);
            if due > now.mono {
                self.retires_at = due;
                break;
            }
            if let Some(group) = self.groups.get_mut(&record.group) {
                group.retire(seq, &mut self.depot, now);
            }
            self.unretired = seq + 1;
        }
    }
}
