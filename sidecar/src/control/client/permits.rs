//! Permits: asking the broker for them, giving them to links that wait, and doing without.

use std::time::Duration;

use sluice_cloud::sign::SaslCredentials;
use sluice_proto::control::v1::{self, sidecar_message};
use tracing::{debug, error, warn};

use super::{Asking, Control};
use crate::control::alone::Next;
use crate::control::dial::Dial;
use crate::control::requests::WRITTEN_WITHIN;
use crate::control::seat::Order;
use crate::control::time::Time;
use crate::permit::Permit;

impl<D: Dial, C: Send + Sync + 'static> Control<D, C> {
    pub(super) fn on_permit(&mut self, at: Time, permit: v1::Permit) {
        let v1::Permit { id, user_name, password, usable_ms } = permit;
        let Some((slot, until)) = self.requests.answered(at, id) else {
            self.settings.metrics.permit_lapsed();
            debug!(id, "a permit came too late and is thrown away");
            return;
        };
        let usable = (usable_ms > 0).then(|| Duration::from_millis(usable_ms));
        let sent = Time(until.0.saturating_sub(u64::try_from(WRITTEN_WITHIN.as_millis()).unwrap_or(0)));
        self.alone.signed(slot, sent, usable);
        self.settings.metrics.permit_used(false);
        self.pairs
            .insert(slot, SaslCredentials { user_name: user_name.clone().into(), password: password.clone().into() });
        let credentials = SaslCredentials { user_name: user_name.into(), password: password.into() };
        self.give(slot, credentials, until);
    }

    /// Whether the ask is for a slot that is held and in use.
    pub(super) fn is_seated(&self, asking: &Asking) -> bool {
        let place = asking.ask.place;
        matches!(self.seat.order(), Order::Use(grant) if grant.epoch == place.epoch && grant.slots.contains(&place.slot))
    }

    pub(super) fn serve_asks(&mut self, at: Time) {
        self.asking.retain(|asking| !asking.ask.reply.is_closed());
        for slot in self.requests.lapsed(at) {
            self.settings.metrics.permit_lapsed();
            self.ask_again(slot, at + WRITTEN_WITHIN.mul_f64(rand::random()));
        }
        let slots: Vec<u32> =
            self.asking.iter().filter(|asking| self.is_seated(asking)).map(|asking| asking.ask.place.slot).collect();
        for slot in slots {
            if self.alone.next_at(at, slot) == Next::At(at) && !self.line.is_greeted() {
                self.attempt_alone(at, slot);
            } else {
                self.request(at, slot);
            }
        }
    }

    /// Asks the broker for a permit, if that has not been done, and is not to wait.
    pub(super) fn request(&mut self, at: Time, slot: u32) {
        let due = |asking: &&mut Asking| asking.ask.place.slot == slot && !asking.sent && asking.not_before <= at;
        let Some(asking) = self.asking.iter_mut().find(due) else { return };
        if self.line.open().is_some() {
            asking.sent = true;
            let epoch = asking.ask.place.epoch;
            let id = self.requests.ask(at, slot);
            self.say(at, sidecar_message::Message::PermitRequest(v1::PermitRequest { id, epoch, slot }));
        }
    }

    /// Makes an attempt of its own. A successor of this process must know of it before it is made.
    pub(super) fn attempt_alone(&mut self, at: Time, slot: u32) {
        if !self.alone.attempt(at, slot) {
            return;
        }
        self.remembers = true;
        if let Err(error) = self.settings.memory.save(&self.alone.remembered()) {
            error!(%error, "no attempt is made that could not be remembered");
            return;
        }
        if let Some(pair) = self.pairs.get(&slot) {
            warn!(slot, "connecting without a permit, as no broker is heard");
            let credentials = SaslCredentials { user_name: pair.user_name.clone(), password: pair.password.clone() };
            self.settings.metrics.permit_used(true);
            self.give(slot, credentials, at + WRITTEN_WITHIN);
        }
    }

    pub(super) fn give(&mut self, slot: u32, credentials: SaslCredentials, until: Time) {
        let wanted = |asking: &Asking| asking.ask.place.slot == slot && self.is_seated(asking);
        if let Some(place) = self.asking.iter().position(wanted) {
            let asking = self.asking.swap_remove(place);
            // A link that is not wanted any more needs no permit.
            let _ = asking.ask.reply.send(Permit { credentials, until: Some(self.clock.instant(until)) });
        }
    }

    pub(super) fn ask_again(&mut self, slot: u32, not_before: Time) {
        for asking in self.asking.iter_mut().filter(|asking| asking.ask.place.slot == slot) {
            asking.sent = false;
            asking.not_before = not_before;
        }
    }
}
