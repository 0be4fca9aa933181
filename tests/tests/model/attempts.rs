//! Connect attempts. Each takes its time from its permit to the platform, and from there until its sidecar hears that the
//! link stands; it may never hear. What becomes of permit, process and grant meanwhile does not call an attempt back.

use sluice_sidecar::control::requests::LAPSE;

use super::sabotage::Sabotage;
use super::world::{Connection, IDLE, Scene, World};

/// How long the platform may take to answer an attempt that has reached it; then the sidecar gives it up.
const STEP_MS: u64 = 15_000;

/// Longer than an attempt may take to reach the platform, for [`Sabotage::Lapse`].
const TOO_LONG_MS: u64 = 20_000;

/// An attempt that has not reached the platform.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct OnTheWay {
    pub(crate) id: u64,
    pod: usize,
    slot: u32,
    /// By then it has, or the sidecar has given it up.
    until: u64,
}

/// An attempt, as its sidecar knows it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Trying {
    id: u64,
    /// When it is given up.
    until: u64,
}

pub(crate) fn ms(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}

impl World {
    /// A sidecar begins an attempt, which may reach the platform until then.
    pub(crate) fn set_out(&mut self, scene: &Scene, pod: usize, slot: u32, until: u64) {
        let until = if scene.without(Sabotage::Lapse) { until - ms(LAPSE) + TOO_LONG_MS } else { until };
        let Some(process) = &mut self.pods[pod].process else { return };
        let id = self.next_attempt;
        self.next_attempt += 1;
        process.trying.insert(slot, Trying { id, until });
        self.on_the_way.push(OnTheWay { id, pod, slot, until });
    }

    /// An attempt reaches the platform: it counts, whoever made it and whether anybody still wants it.
    pub(crate) fn reach(&mut self, scene: &Scene, id: u64, at: u64) {
        let Some(OnTheWay { pod, slot, .. }) = self.take_off_the_way(id) else { return };
        self.attempt(scene, at);
        let refused = self.refuses || self.pods[pod].unable;
        let Some(process) = &mut self.pods[pod].process else { return };
        // Of one that was dropped, the end follows at once.
        let Some(trying) = process.trying.get_mut(&slot).filter(|trying| trying.id == id) else { return };
        if refused {
            process.trying.remove(&slot);
        } else {
            trying.until = at + STEP_MS;
            self.connections.push(Connection { pod, slot, until: None, unheard: Some(id) });
        }
    }

    /// The sidecar hears that the link of this attempt stands.
    pub(crate) fn hear(&mut self, scene: &Scene, id: u64) {
        let Some(heard) = self.connections.iter_mut().find(|held| held.unheard == Some(id)) else { return };
        heard.unheard = None;
        let (place, slot) = (heard.pod, heard.slot);
        if let Some(process) = &mut self.pods[place].process {
            process.trying.remove(&slot);
            process.was_up = true;
        }
        self.settle(scene, place);
    }

    /// The connections of which sidecars may still hear, by their attempts.
    pub(crate) fn unheard(&self) -> Vec<u64> {
        let open = self.connections.iter().filter(|held| held.until.is_none() && !self.pods[held.pod].cut_off);
        open.filter_map(|held| held.unheard).collect()
    }

    /// Sees to the attempts whose time is over. What has not reached the platform does so at the last moment, unless its
    /// pod is cut off; of what has and is not heard of, the sidecar learns nothing any more.
    pub(crate) fn end_attempts(&mut self, scene: &Scene, at: u64) {
        let mut late: Vec<OnTheWay> = self.on_the_way.iter().filter(|attempt| attempt.until <= at).cloned().collect();
        late.sort_by_key(|attempt| attempt.until);
        for OnTheWay { id, pod, slot, until } in late {
            if !self.pods[pod].cut_off {
                self.reach(scene, id, until);
            } else if self.take_off_the_way(id).is_some()
                && let Some(process) = &mut self.pods[pod].process
                && process.trying.get(&slot).is_some_and(|trying| trying.id == id)
            {
                process.trying.remove(&slot);
            }
        }
        for place in 0..self.pods.len() {
            let Some(process) = &self.pods[place].process else { continue };
            let over = process.trying.values().filter(|trying| trying.until <= at);
            for Trying { id, until } in over.cloned().collect::<Vec<_>>() {
                self.give_up_attempt(scene, place, id, until);
            }
        }
    }

    /// The sidecar gives up all attempts under way, or dies with them.
    pub(crate) fn drop_attempts(&mut self, scene: &Scene, place: usize, at: u64) {
        let Some(process) = &self.pods[place].process else { return };
        for Trying { id, .. } in process.trying.values().cloned().collect::<Vec<_>>() {
            self.give_up_attempt(scene, place, id, at);
        }
    }

    /// The platform may have opened a connection, and nothing tells it of its end.
    fn give_up_attempt(&mut self, scene: &Scene, place: usize, id: u64, at: u64) {
        let lingers_until = at + ms(IDLE);
        for held in self.connections.iter_mut().filter(|held| held.unheard == Some(id)) {
            held.until = held.until.or(Some(lingers_until));
        }
        if let Some(process) = &mut self.pods[place].process {
            process.trying.retain(|_, trying| trying.id != id);
            if !scene.without(Sabotage::Unconfirmed) {
                process.lingers_until = process.lingers_until.max(lingers_until);
            }
        }
    }

    fn take_off_the_way(&mut self, id: u64) -> Option<OnTheWay> {
        let place = self.on_the_way.iter().position(|attempt| attempt.id == id)?;
        Some(self.on_the_way.remove(place))
    }
}
