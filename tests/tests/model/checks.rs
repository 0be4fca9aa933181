//! What must hold in every world.

use std::collections::BTreeSet;

use sluice_sidecar::control::seat::Order;

use super::world::{Scene, What, World};

/// The span in which the platform counts attempts.
const MINUTE_MS: u64 = 60_000;

impl World {
    /// Who holds which slot: every connection that the platform counts, and every process that has one or may open one.
    /// Two connections of one pod on one slot are one client: they have the same client ID.
    pub(crate) fn clients(&self) -> BTreeSet<(usize, u32)> {
        let linked = self.connections.iter().map(|held| (held.pod, held.slot));
        let seated = self.pods.iter().enumerate().flat_map(|(place, pod)| {
            let process = pod.process.as_ref();
            let grant = process.and_then(|process| process.seat.held().filter(|held| process.left != held.epoch));
            grant.into_iter().flat_map(move |grant| grant.slots.iter().map(move |slot| (place, *slot)))
        });
        linked.chain(seated).collect()
    }

    /// How many slots are held, recorded, or about to be.
    pub(crate) fn granted(&self) -> usize {
        let recorded = self.stored.iter().map(|(table, _)| table.held());
        let under_way = self.calls.iter().map(|call| match &call.what {
            What::Write { table, .. } => table.held(),
            What::Read => 0,
        });
        recorded.chain(under_way).chain([self.clients().len()]).max().unwrap_or(0)
    }

    /// Notes the first promise that is broken.
    pub(crate) fn check(&mut self) {
        if self.broken.is_none() {
            self.broken = self.broken_promise();
        }
    }

    fn broken_promise(&self) -> Option<String> {
        let clients = self.clients();
        let slots: BTreeSet<u32> = clients.iter().map(|(_, slot)| *slot).collect();
        if slots.len() < clients.len() {
            return Some(format!("two pods on one slot: {clients:?}"));
        }
        let most = usize::try_from(self.slots.max(self.slots_before)).unwrap();
        if clients.len() > most {
            return Some(format!("{} clients, and {most} slots: {clients:?}", clients.len()));
        }
        for pod in &self.pods {
            let Some(process) = &pod.process else { continue };
            let known_dead = !pod.exists || pod.ended || pod.node_lost;
            if let Order::Use(grant) = process.seat.order()
                && !known_dead
                && !self.stored.as_ref().is_some_and(|(table, _)| {
                    table.holders.iter().any(|holder| holder.epoch.0 == grant.epoch && holder.pod == pod.pod)
                })
            {
                return Some(format!("{} holds the grant {} that is in no table", pod.pod, grant.epoch));
            }
        }
        None
    }

    /// The platform sees an attempt: none may be too many.
    pub(crate) fn attempt(&mut self, scene: &Scene, at: u64) {
        self.attempts.push_back(at);
        let within = self.attempts.iter().filter(|before| at - **before < MINUTE_MS).count();
        if within > usize::try_from(scene.attempts).unwrap() && self.broken.is_none() {
            self.broken = Some(format!("{within} attempts in a minute, and {} are allowed", scene.attempts));
        }
    }
}
