//! How the clients of a group come and go: what [`door`](super::door) has decided is carried out here.

use std::sync::Arc;

use super::bucket::Bucket;
use super::client::Client;
use super::cloud_log::Code;
use super::depot::Depot;
use super::door::{self, Eviction, Refusal, Standing, Visit};
use super::figures::Meter;
use super::group::Group;
use crate::clock::Now;
use crate::profile::SurplusClient;

impl Group {
    /// A client comes in, if it may. Returns those that have to go for it.
    pub(super) fn join(
        &mut self,
        serial: u64,
        visit: &Visit<'_>,
        depot: &mut Depot,
        now: Now,
    ) -> Result<Vec<(u64, Eviction)>, Refusal> {
        let id: Arc<str> = visit.client_id.into();
        let admission = door::admit(&self.clients, &id, self.limits.clients_per_group, &depot.terms)
            .inspect_err(|refusal| self.note_surplus(&id, &refusal.to_string(), depot, now))?;
        for (gone, reason) in &admission.evicts {
            self.evict(*gone, *reason, depot, now);
        }
        if admission.standing == Standing::Surplus {
            self.note_surplus(&id, "it is beyond the limit", depot, now);
        }
        self.clients.push(Client {
            serial,
            name: depot.log.names.keep(&id),
            id,
            standing: Standing::Surplus,
            address: visit.address,
            online_unix_ms: now.unix_us / 1_000,
            consumed: Meter::default(),
            pace: Bucket::new(depot.terms.limits.real_time_per_connection, now.mono),
            link: None,
        });
        if admission.standing == Standing::Placed {
            self.give_place(self.clients.len() - 1, depot, now);
        }
        Ok(admission.evicts)
    }

    fn give_place(&mut self, index: usize, depot: &Depot, now: Now) {
        let others = self.placed().len();
        self.clients[index].standing = Standing::Placed;
        let uneven_for = depot.terms.limits.uneven_for;
        self.balance.joined(self.clients[index].serial, others, now.mono, uneven_for);
        let clients = door::places(self.clients.iter(), &depot.terms.profile) as u64;
        self.counts.clients_peak = self.counts.clients_peak.max(clients);
    }

    /// A client wants to attach its link, which the profile may refuse to one beyond the limit.
    pub(super) fn pass_link(&mut self, serial: u64, depot: &mut Depot, now: Now) -> Result<(), Refusal> {
        let Some(index) = self.position(serial) else { return Ok(()) };
        let is_surplus = self.clients[index].standing == Standing::Surplus;
        if !is_surplus || depot.terms.profile.surplus_client != SurplusClient::Attach {
            return Ok(());
        }
        let (id, limit) = (Arc::clone(&self.clients[index].id), self.limits.clients_per_group);
        if door::has_room(self.clients.iter(), &id, limit, &depot.terms) {
            self.give_place(index, depot, now);
            return Ok(());
        }
        let refusal = Refusal::TooManyClients { limit };
        self.note_surplus(&id, &refusal.to_string(), depot, now);
        Err(refusal)
    }

    fn note_surplus(&self, client: &Arc<str>, words: &str, depot: &mut Depot, now: Now) {
        tracing::info!(code = Code::Surplus as u16, group = %self.name, %client, words, "cloud log");
        depot.cloud_log.write(Code::Surplus, &self.name, client, words, now.unix_us);
    }

    /// A client has to go. Nothing goes to it any more; its connection is the caller's to end.
    fn evict(&mut self, serial: u64, reason: Eviction, depot: &mut Depot, now: Now) {
        self.detach(serial, depot, now);
        let Some(index) = self.position(serial) else { return };
        if reason == Eviction::Surplus {
            let id = Arc::clone(&self.clients[index].id);
            self.note_surplus(&id, "a newer client took its place", depot, now);
        }
        let was = std::mem::replace(&mut self.clients[index].standing, Standing::Evicted);
        self.lose_place(serial, was, depot, now);
    }

    fn lose_place(&mut self, serial: u64, was: Standing, depot: &Depot, now: Now) {
        if was == Standing::Placed {
            self.balance.left(serial, &self.placed(), now.mono, depot.terms.limits.uneven_for);
        }
    }

    fn placed(&self) -> Vec<u64> {
        let placed = self.clients.iter().filter(|client| client.standing == Standing::Placed);
        placed.map(|client| client.serial).collect()
    }

    pub(super) fn leave(&mut self, serial: u64, depot: &mut Depot, now: Now) {
        self.detach(serial, depot, now);
        if let Some(index) = self.position(serial) {
            let client = self.clients.remove(index);
            self.lose_place(serial, client.standing, depot, now);
        }
    }
}
