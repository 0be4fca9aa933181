//! What all groups share: the messages with their log, the limits, the dice, and the two alarms that the edge reads after
//! every call: who has something to write, and when to look again.

use std::sync::Arc;

use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::ClientKey;
use super::log::Log;
use crate::clock::Micros;
use crate::terms::Terms;

#[derive(Debug)]
pub(super) struct Depot {
    pub(super) terms: Arc<Terms>,
    pub(super) log: Log,
    pub(super) rng: SmallRng,
    woken: Vec<ClientKey>,
    alarm: Micros,
}

impl Depot {
    pub(super) fn new(terms: Arc<Terms>, id_base: u64, seed: u64) -> Self {
        let log = Log::new(terms.limits.fate_log_messages, id_base);
        Self { terms, log, rng: SmallRng::seed_from_u64(seed), woken: Vec::new(), alarm: Micros::NEVER }
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

    /// Something is due at `at`.
    pub(super) fn arm(&mut self, at: Micros) {
        self.alarm = self.alarm.min(at);
    }

    pub(super) fn alarm(&self) -> Micros {
        self.alarm
    }

    pub(super) fn disarm(&mut self) {
        self.alarm = Micros::NEVER;
    }
}
