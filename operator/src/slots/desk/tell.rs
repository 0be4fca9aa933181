//! What sidecars are told. Everything but a permit follows from how things stand, and is told once on each stream; so a
//! message that is lost with its stream is told again on the next.

use std::time::Duration;

use super::super::names::{Epoch, PodUid};
use super::line::Line;
use super::{Action, Desk, RefusedBecause, Request, Say};
use crate::permits::Full;
use crate::time::Time;

/// How long a sidecar may take to give up a grant of which there is no record.
const AT_ONCE: Duration = Duration::ZERO;

/// After which time a request for a slot that is not held may be repeated.
const NOT_HELD_RETRY: Duration = Duration::from_secs(5);

/// After which time a request may be repeated when the table is not known just now.
const NO_TABLE_RETRY: Duration = Duration::from_secs(2);

impl Desk {
    /// Tells everybody what they have not been told yet.
    pub(super) fn tell(&mut self, at: Time, actions: &mut Vec<Action>) {
        let callers: Vec<PodUid> = self.streams.values().cloned().collect();
        for uid in callers {
            self.tell_slot(&uid, actions);
            if let Some(line) = self.lines.get_mut(&uid)
                && let Some(number) = line.ping(at)
                && let Some(stream) = line.stream()
            {
                actions.push(Action::Tell(stream.id, Say::Ping { number }));
            }
        }
    }

    fn tell_slot(&mut self, uid: &PodUid, actions: &mut Vec<Action>) {
        let Some(stream) = self.lines.get(uid).and_then(Line::stream) else { return };
        let (id, report) = (stream.id, stream.report);
        // Told of is what this stream may use: what was recorded for it, or what its sidecar says that it holds already.
        let certain = self.record.certain();
        let granted = certain.and_then(|table| table.of_pod(uid));
        let granted = granted.filter(|holder| holder.told_on == stream.order || holder.epoch == report.held);
        let drain = self.members.get(&stream.consumer_group).map_or(AT_ONCE, |member| member.drain);
        let mut say = Vec::new();
        let (mut told_grant, mut told_yield, mut told_stand_by) =
            (stream.told_grant, stream.told_yield, stream.told_stand_by.clone());
        if let Some(holder) = granted {
            let given_back = report.seen >= holder.epoch && report.held != holder.epoch;
            if told_grant != holder.epoch && !given_back {
                let (epoch, slots, attempts_alone) = (holder.epoch, holder.slots.clone(), holder.attempts_alone);
                say.push(Say::Grant { epoch, slots, attempts_alone });
                told_grant = epoch;
                told_stand_by = None;
            }
            if self.must_yield(holder.epoch) && told_yield != holder.epoch {
                say.push(Say::Yield { epoch: holder.epoch, drain });
                told_yield = holder.epoch;
            }
        }
        let recorded = granted.map_or(Epoch::NONE, |holder| holder.epoch);
        if certain.is_some() && report.held != Epoch::NONE && report.held != recorded && told_yield != report.held {
            say.push(Say::Yield { epoch: report.held, drain: AT_ONCE });
            told_yield = report.held;
        }
        if granted.is_none() && report.held == Epoch::NONE && report.wants_slot && !report.draining {
            let reason = self.why_not(uid, stream);
            if told_stand_by.as_ref() != Some(&reason) {
                say.push(Say::StandBy(reason.clone()));
                told_stand_by = Some(reason);
            }
        } else if !report.wants_slot {
            told_stand_by = None;
        }
        if let Some(stream) = self.lines.get_mut(uid).and_then(Line::stream_mut) {
            (stream.told_grant, stream.told_yield, stream.told_stand_by) = (told_grant, told_yield, told_stand_by);
        }
        actions.extend(say.into_iter().map(|say| Action::Tell(id, say)));
    }

    /// Answers those who have asked for permits.
    pub(super) fn answer(&mut self, at: Time, actions: &mut Vec<Action>) {
        for request in std::mem::take(&mut self.requests) {
            let Some(uid) = self.streams.get(&request.stream).cloned() else { continue };
            let say = match self.permit(at, &uid, &request) {
                Ok(()) => {
                    self.permits_issued += 1;
                    Say::Permit { id: request.id, slot: request.slot }
                }
                Err((because, retry_after)) => {
                    self.permits_refused += 1;
                    Say::RefusePermit { id: request.id, because, retry_after }
                }
            };
            actions.push(Action::Tell(request.stream, say));
        }
    }

    fn permit(&mut self, at: Time, uid: &PodUid, request: &Request) -> Result<(), (RefusedBecause, Duration)> {
        let Some(table) = self.record.certain() else {
            return Err((RefusedBecause::NoTable, NO_TABLE_RETRY));
        };
        let held =
            table.of_pod(uid).filter(|holder| holder.epoch == request.epoch && holder.slots.contains(&request.slot));
        let Some((epoch, slots)) = held.map(|holder| (holder.epoch, holder.slots.len())) else {
            return Err((RefusedBecause::NotHeld, NOT_HELD_RETRY));
        };
        let limits = self.limits();
        let share = limits.share(u32::try_from(slots).unwrap_or(u32::MAX));
        let room = (limits.attempts, self.reserved(at));
        self.permits.issue(at, room, (epoch, share)).map_err(|(full, retry_after): (Full, Duration)| {
            // It is not its fault that its link is not up yet.
            self.trying_since.insert(epoch, at);
            (RefusedBecause::Full(full), retry_after)
        })
    }

    /// What is kept back for holders that may be alone.
    pub(super) fn reserved(&self, at: Time) -> u32 {
        let holders = self.record.table().into_iter().flat_map(|table| &table.holders);
        holders
            .filter(|holder| self.may_be_alone(at, &holder.pod.uid))
            .map(|holder| holder.attempts_alone)
            .fold(0, u32::saturating_add)
    }

    /// Whether the pod's sidecar may be attempting on its own within a span of now. One that has not called in this term
    /// may be.
    pub(super) fn may_be_alone(&self, at: Time, uid: &PodUid) -> bool {
        self.lines.get(uid).is_none_or(|line| line.may_be_alone(at))
    }
}
