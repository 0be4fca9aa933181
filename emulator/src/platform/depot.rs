//! What all groups share: the messages with their log, the terms, the dice, the cloud log, and the two alarms that the edge
//! reads after every call: who has something to write, and when to look again.

use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::ClientKey;
use super::alarms::Alarms;
use super::client::Client;
use super::cloud_log::CloudLog;
use super::log::{Log, Seq, State};
use super::marks::Event;
use crate::clock::{Micros, Now};
use crate::rules::Rule;
use crate::terms::Terms;

#[derive(Debug)]
pub(super) struct Depot {
    pub(super) terms: Arc<Terms>,
    pub(super) log: Log,
    pub(super) cloud_log: CloudLog,
    pub(super) rng: SmallRng,
    pub(super) seed: u64,
    pub(super) alarms: Alarms,
    /// Scratch: the clients that a message can go to.
    pub(super) able: Vec<usize>,
    woken: Vec<ClientKey>,
}

impl Depot {
    pub(super) fn new(terms: Arc<Terms>, id_base: u64, seed: u64) -> Self {
        Self {
            log: Log::new(terms.limits.fate_log_messages, id_base),
            terms,
            cloud_log: CloudLog::default(),
            rng: SmallRng::seed_from_u64(seed),
            seed,
            alarms: Alarms::default(),
            able: Vec::new(),
            woken: Vec::new(),
        }
    }

    /// Writes down that `event` happened to `seq` with `client`, and that this left it in `state`.
    pub(super) fn record(&mut self, seq: Seq, state: State, event: Event, client: &mut Client, now: Now) {
        client.name = self.log.names.renew(client.name, &client.id);
        self.log.record(seq, state, event, client.name, now);
    }

    /// `client` has something in its outbox.
    pub(super) fn wake(&mut self, client: ClientKey) {
        if self.woken.last() != Some(&client) && !self.woken.contains(&client) {
            self.woken.push(client);
        }
    }

    pub(super) fn take_woken(&mut self) -> Vec<ClientKey> {
        std::mem::take(&mut self.woken)
    }
}

/// The times of the platform, by its rules.
impl Terms {
    /// When a message is pushed again that failed now.
    pub(super) fn retry_at(&self, now: Micros) -> Micros {
        if self.keeps(Rule::RetryAfter) { now.after(self.limits.retry_after) } else { now }
    }

    /// When a message is pushed again whose link was lost now.
    pub(super) fn retry_at_after_link_loss(&self, now: Micros) -> Micros {
        if self.keeps(Rule::RetryAfterLinkLoss) { now.after(self.limits.retry_after_link_loss) } else { now }
    }

    /// Until when a delivery pushed now must be answered for.
    pub(super) fn answer_by(&self, now: Micros) -> Micros {
        if self.keeps(Rule::AckTimeout) { now.after(self.limits.ack_timeout) } else { Micros::NEVER }
    }

    /// Until when a real-time message of now waits for somebody to take it.
    pub(super) fn wait_until(&self, now: Micros) -> Micros {
        if self.keeps(Rule::RealTimeWait) { now.after(self.limits.real_time_wait) } else { Micros::NEVER }
    }

    /// Until when the backlog keeps a message published then.
    pub(super) fn kept_until(&self, published: Micros) -> Micros {
        if self.keeps(Rule::Retention) { published.after(self.limits.retention) } else { Micros::NEVER }
    }
}
