//! The consumer towards those who decide about slots: which links there may be, and how they are left.

use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use super::Consumer;
use super::attempt::Link;
use super::uplink::Uplink;
use crate::ledger::Policy;
use crate::orders::Seating;
use crate::permit::{Permits, Place};
use crate::source::Connect;

impl<C: Connect, P: Permits> Consumer<C, P> {
    /// Follows the orders as they are now.
    pub(super) fn obey(&mut self, now: Instant) {
        let orders = Arc::clone(&self.orders.borrow_and_update());
        self.connector.clone_from(&orders.connector);
        self.take_policy(&orders.policy);
        if std::mem::replace(&mut self.credentials_version, orders.credentials_version) != orders.credentials_version {
            self.try_refused_again(now);
        }
        let present = self.uplinks.first().map(|uplink| uplink.place.epoch);
        let wanted = orders.seat.epoch();
        self.standing_by = match &orders.seat {
            Seating::Use { .. } => String::new(),
            Seating::StandBy { reason } | Seating::Leave { reason, .. } => reason.clone(),
        };
        match &orders.seat {
            Seating::Use { epoch, slots } if present.is_none() && self.draining.is_none() => {
                self.leaving = None;
                let places = slots.iter().map(|slot| Place { epoch: *epoch, slot: *slot });
                self.uplinks = places.map(|place| Uplink::new(place, now)).collect();
                info!(epoch, ?slots, "client slots held");
            }
            Seating::Leave { until, .. } if present == wanted => self.leave_by(*until),
            // Those of another grant, or of none, have no right to be.
            _ if present.is_some() && present != wanted => self.leave_by(now),
            _ => {}
        }
        self.followed = orders.number;
        self.announce_links();
        self.say_whether_seated();
        self.connect_idle(now);
    }

    /// New links are opened for slots that have none, if somebody is there to read. Returns whether there were any.
    pub(super) fn connect_idle(&mut self, now: Instant) -> bool {
        let mut any = false;
        if self.streams.is_empty() || self.leaving.is_some() {
            return any;
        }
        for place in 0..self.uplinks.len() {
            if matches!(self.uplinks[place].link, Link::Idle) {
                self.connect(now, place);
                any = true;
            }
        }
        any
    }

    /// The links are left by then at the latest.
    pub(super) fn leave_by(&mut self, until: Instant) {
        self.leaving = Some(self.leaving.map_or(until, |before| before.min(until)));
        self.announce_links();
    }

    /// Goes on with leaving: closes the links once nothing is to be waited for, and says so once they are closed.
    pub(super) fn leave(&mut self, now: Instant) {
        if self.leaving.is_none() || self.uplinks.is_empty() || !self.is_answered(now) {
            return;
        }
        if self.uplinks.iter().any(|uplink| !matches!(uplink.link, Link::Idle | Link::Closing(..))) {
            self.close_links(now);
        }
        if self.uplinks.iter().all(|uplink| matches!(uplink.link, Link::Idle)) {
            self.vacate();
            // The next grant may have been waiting for that.
            self.obey(now);
        }
    }

    /// No link is left.
    pub(super) fn vacate(&mut self) {
        info!("client slots left");
        self.uplinks.clear();
        if self.draining.is_none() {
            self.leaving = None;
        }
        self.announce_links();
        self.say_whether_seated();
    }

    fn say_whether_seated(&mut self) {
        let (followed, seated, unconfirmed) = (self.followed, !self.uplinks.is_empty(), self.unconfirmed);
        self.status.send_modify(|snapshot| {
            snapshot.followed = followed;
            snapshot.seated = seated;
            snapshot.unconfirmed = unconfirmed;
        });
    }

    /// What is in hand stays; what is given from now on is given by the new rules. A window that has become smaller grants
    /// no more until it has room.
    fn take_policy(&mut self, policy: &Policy) {
        if policy == self.ledger.policy() {
            return;
        }
        self.rate.set_limits(policy.max_in_flight, policy.lease);
        let credit = self.credit();
        self.ledger.set_policy(policy.clone(), credit);
        let bounds = (policy.max_in_flight, policy.max_in_flight_bytes);
        for (_, stream) in self.streams.iter_mut() {
            stream.limits = stream.asked.within(bounds);
        }
        info!(?policy, "delivery policy changed");
    }
}
