//! What the broker says, and what it means.

use std::sync::Arc;
use std::time::Duration;

use sluice_proto::control::v1::{self, broker_message, sidecar_message};
use tracing::{debug, error, info};

use super::Control;
use crate::control::dial::Dial;
use crate::control::seat::Grant;
use crate::control::terms::Terms;
use crate::control::time::Time;

/// More slots than a pod is ever given.
const MOST_SLOTS: usize = 64;

impl<D: Dial, C: Send + Sync + 'static> Control<D, C> {
    pub(super) fn on_message(&mut self, at: Time, message: Option<broker_message::Message>) {
        let Some(stream) = self.line.open().map(|open| open.number) else { return };
        match message {
            Some(broker_message::Message::Policy(policy)) => self.on_policy(policy),
            Some(broker_message::Message::SlotGranted(granted)) => {
                let v1::SlotGranted { epoch, mut slots, attempts_alone } = granted;
                slots.sort_unstable();
                slots.dedup();
                if epoch == 0 || slots.is_empty() || slots.len() > MOST_SLOTS {
                    error!(epoch, slots = slots.len(), "the broker grants what can't be; check the operator's version");
                    return;
                }
                self.standing_by.clear();
                self.seat.granted(at, stream, Grant { epoch, slots, attempts_alone });
            }
            Some(broker_message::Message::StandBy(v1::StandBy { reason })) => {
                if reason != self.standing_by {
                    info!(%reason, "standing by");
                }
                self.standing_by = reason;
            }
            Some(broker_message::Message::Yield(v1::Yield { epoch, drain_ms })) => {
                info!(epoch, drain_ms, "told to yield");
                self.seat.yield_up(at, stream, epoch, Duration::from_millis(drain_ms.into()));
            }
            Some(broker_message::Message::Permit(permit)) => self.on_permit(at, permit),
            Some(broker_message::Message::PermitRefused(refused)) => {
                let v1::PermitRefused { id, reason, retry_after_ms } = refused;
                if let Some((slot, _)) = self.requests.answered(at, id) {
                    debug!(slot, %reason, retry_after_ms, "permit refused");
                    // Those that are refused together don't come back together.
                    let wait = Duration::from_millis(retry_after_ms.into()).mul_f64(1.0 + 0.25 * rand::random::<f64>());
                    self.ask_again(slot, at + wait);
                }
            }
            Some(broker_message::Message::Ping(v1::Ping { number })) => {
                self.say(at, sidecar_message::Message::Pong(v1::Pong { number }));
            }
            // It was welcomed already.
            Some(broker_message::Message::Welcome(_)) => {}
            None => debug!("the broker said something that this version does not know"),
        }
    }

    pub(super) fn on_policy(&mut self, policy: v1::Policy) {
        let terms = Terms::try_new(policy).map_err(|error| error.to_string());
        let known = self.terms.as_ref();
        let taken = terms.and_then(|terms| {
            let same = known.is_some_and(|known| known.endpoint == terms.endpoint) && self.connector.is_some();
            let connector = if same { None } else { Some(Arc::new((self.settings.connector)(&terms.endpoint)?)) };
            Ok((terms, connector))
        });
        match taken {
            Ok((terms, connector)) => {
                if let Some(connector) = connector {
                    info!(host = terms.endpoint.host, port = terms.endpoint.port, "links go here from now on");
                    self.connector = Some(connector);
                }
                self.longest_idle = self.longest_idle.max(terms.endpoint.idle_timeout);
                self.readiness.send_replace(terms.readiness);
                self.bad_policy.clear();
                let (max_in_flight, lease) = (terms.delivery.max_in_flight, terms.delivery.lease);
                info!(max_in_flight, ?lease, readiness = ?terms.readiness, "the broker's policy is in force");
                self.terms = Some(terms);
            }
            Err(reason) => {
                error!(%reason, "the policy before stays in force");
                self.bad_policy = reason;
            }
        }
    }
}
