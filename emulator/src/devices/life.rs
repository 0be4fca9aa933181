//! What becomes of devices: they go online and offline, silently at times; they are created, deleted, enabled and disabled.
//! Every device is a state machine. What it tells of itself is consistent, whatever order it is told in later.

use std::collections::VecDeque;

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::pool::Pool;
use super::topology::Topology;

/// How long the platform takes to notice that a device is gone: one and a half of its heartbeats.
const HEARTBEAT_MS: u64 = 90_000;
/// From a device's first packet to the platform's word that it is online.
const CONNECTING_MS: u64 = 10;
/// One of so many devices may be gone without the platform knowing.
const LOST_AMONG: usize = 16;
/// So many changes may wait for being told before the platform does nothing that makes more of them.
const MOST_UNTOLD: usize = 16;
/// The one reason for going offline that the documents give a number for: the device has connected elsewhere. The others,
/// and whether the number is always there, are not known.
const CONNECTED_ELSEWHERE: u16 = 427;

/// Where a device is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// It does not exist, not yet or not any more.
    Absent,
    /// It exists, and has never been online.
    Unactive,
    Online,
    /// It is gone, and the platform has not noticed.
    Lost,
    Offline,
    Disabled,
}

/// What is done to a device, or to its place in a topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    Create,
    Delete,
    Enable,
    Disable,
}

impl Action {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Delete => "delete",
            Self::Enable => "enable",
            Self::Disable => "disable",
        }
    }
}

/// A device has gone online or offline. Of one device, both times of a later change are later than those of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StatusChange {
    pub(super) device: u32,
    pub(super) online: bool,
    /// When, in Unix ms.
    pub(super) at_ms: u64,
    /// When the platform last heard from the device before.
    pub(super) last_ms: u64,
    /// Why it has gone, if the platform says so.
    pub(super) reason: Option<u16>,
}

/// Why a device can't be asked anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreached {
    /// It has never been online.
    Unactive,
    Offline,
}

#[derive(Debug, Clone)]
struct Device {
    state: State,
    /// The times of the last change.
    told_ms: u64,
    last_ms: u64,
    /// When it last said something.
    spoke_ms: u64,
}

/// All devices of a crowd. See the module.
#[derive(Debug)]
pub(super) struct Life {
    devices: Vec<Device>,
    /// Those that are gateways come first. Nothing but going offline ever happens to them.
    gateways: u32,
    online: Pool,
    /// Those that could go online.
    resting: Pool,
    /// The devices but gateways that exist and are enabled, and those that are not.
    serving: Pool,
    out: Pool,
    lost: VecDeque<(u32, u64)>,
    untold: VecDeque<StatusChange>,
    /// Whether changes are told at all.
    tells: bool,
    pub(super) topology: Topology,
    changed: Vec<(u32, State)>,
}

impl Life {
    /// All devices exist and are online.
    pub(super) fn new(count: u32, gateways: u32, tells: bool) -> Self {
        let device = Device { state: State::Absent, told_ms: 0, last_ms: 0, spoke_ms: 0 };
        let pool = || Pool::below(count);
        let mut life = Self {
            devices: vec![device; count as usize],
            gateways,
            online: pool(),
            resting: pool(),
            serving: pool(),
            out: pool(),
            lost: VecDeque::new(),
            untold: VecDeque::new(),
            tells,
            topology: Topology::new(count, gateways),
            changed: Vec::new(),
        };
        (0..count).for_each(|device| life.set(device, State::Online));
        life
    }

    fn state(&self, device: u32) -> State {
        self.devices[device as usize].state
    }

    fn set(&mut self, device: u32, state: State) {
        if self.state(device) == State::Lost {
            self.lost.retain(|(lost, _)| *lost != device);
        }
        self.devices[device as usize].state = state;
        self.online.set(device, state == State::Online);
        self.resting.set(device, matches!(state, State::Offline | State::Unactive));
        if device >= self.gateways {
            let out = matches!(state, State::Absent | State::Disabled);
            self.out.set(device, out);
            self.serving.set(device, !out);
        }
        self.changed.push((device, state));
    }

    /// The states that have changed since this was last asked.
    pub(super) fn changed(&mut self) -> std::vec::Drain<'_, (u32, State)> {
        self.changed.drain(..)
    }

    /// Whether there is anything in [`Life::changed`].
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// A device that is online and says something now. If there is none: a device is made to be online when nobody would
    /// tell of that anyway.
    pub(super) fn speaker(&mut self, now_ms: u64, rng: &mut SmallRng) -> Option<u32> {
        if self.online.is_empty() && !self.tells {
            let resting = self.resting.draw(rng)?;
            self.comes(resting, now_ms);
        }
        let speaker = self.online.draw(rng)?;
        self.devices[speaker as usize].spoke_ms = now_ms;
        Some(speaker)
    }

    /// A device that exists, online or not.
    pub(super) fn someone(&self, rng: &mut SmallRng) -> u32 {
        let device = self.serving.draw(rng).or_else(|| self.online.draw(rng)).or_else(|| self.resting.draw(rng));
        device.unwrap_or_default()
    }

    /// A device that can't be reached, and why; nothing if there is none.
    pub(super) fn unreached(&self, rng: &mut SmallRng) -> Option<(u32, Unreached)> {
        let device = self.resting.draw(rng)?;
        let never = self.state(device) == State::Unactive;
        Some((device, if never { Unreached::Unactive } else { Unreached::Offline }))
    }

    /// The next change of a device's status: one that waits for being told, or else a new one. `None` only if every device
    /// is gone without the platform knowing, or out of service.
    pub(super) fn status(&mut self, now_ms: u64, rng: &mut SmallRng) -> Option<StatusChange> {
        if let Some(change) = self.untold.pop_front() {
            return Some(change);
        }
        if let Some(&(device, since_ms)) = self.lost.front()
            && now_ms >= since_ms.saturating_add(HEARTBEAT_MS)
        {
            return Some(self.goes(device, now_ms, since_ms, None));
        }
        // Most are online: coming back is likelier than going.
        let comes = self.online.is_empty() || rng.random_bool(0.6);
        if comes && let Some(device) = self.resting.draw(rng) {
            return Some(self.comes(device, now_ms));
        }
        if self.lost.len() < self.devices.len() / LOST_AMONG && rng.random_bool(0.125) {
            self.lose(now_ms, rng);
        }
        let device = self.online.draw(rng);
        let Some(device) = device else { return self.resting.draw(rng).map(|device| self.comes(device, now_ms)) };
        let heard_ms = self.devices[device as usize].spoke_ms;
        let reason = rng.random_bool(0.25).then_some(CONNECTED_ELSEWHERE);
        Some(self.goes(device, now_ms, heard_ms, reason))
    }

    /// A device falls silent. Gateways do not.
    fn lose(&mut self, now_ms: u64, rng: &mut SmallRng) {
        if let Some(device) = self.online.draw(rng).filter(|device| *device >= self.gateways) {
            self.set(device, State::Lost);
            self.lost.push_back((device, now_ms));
        }
    }

    /// A device goes online; its gateway instead, where that is not.
    fn comes(&mut self, device: u32, now_ms: u64) -> StatusChange {
        let gateway = self.topology.gateway_of(device).filter(|gateway| self.state(*gateway) != State::Online);
        let device = gateway.unwrap_or(device);
        self.set(device, State::Online);
        let it = &mut self.devices[device as usize];
        let at_ms = now_ms.max(it.told_ms + 1);
        let last_ms = at_ms.saturating_sub(CONNECTING_MS).max(it.last_ms + 1);
        (it.told_ms, it.last_ms, it.spoke_ms) = (at_ms, last_ms, at_ms);
        StatusChange { device, online: true, at_ms, last_ms, reason: None }
    }

    /// A device goes offline, and with a gateway all that are behind it.
    fn goes(&mut self, device: u32, now_ms: u64, heard_ms: u64, reason: Option<u16>) -> StatusChange {
        let change = self.leaves(device, State::Offline, now_ms, heard_ms, reason);
        if device < self.gateways {
            for sub in self.topology.subs(device).to_vec() {
                if self.state(sub) == State::Online {
                    let heard_ms = self.devices[sub as usize].spoke_ms;
                    let change = self.leaves(sub, State::Offline, now_ms, heard_ms, None);
                    self.tell_later(change);
                }
            }
        }
        change
    }

    fn leaves(&mut self, device: u32, to: State, now_ms: u64, heard_ms: u64, reason: Option<u16>) -> StatusChange {
        self.set(device, to);
        let it = &mut self.devices[device as usize];
        let at_ms = now_ms.max(it.told_ms + 1);
        // One that has never said anything was last heard of when it went.
        let heard_ms = if heard_ms == 0 { now_ms } else { heard_ms };
        let last_ms = heard_ms.clamp(it.last_ms + 1, at_ms);
        (it.told_ms, it.last_ms) = (at_ms, last_ms);
        StatusChange { device, online: false, at_ms, last_ms, reason }
    }

    fn tell_later(&mut self, change: StatusChange) {
        if self.tells {
            self.untold.push_back(change);
        }
    }

    /// The next thing that is done to a device. `None` only if there is none that anything may be done to.
    pub(super) fn lifecycle(&mut self, now_ms: u64, rng: &mut SmallRng) -> Option<(u32, Action)> {
        // At least half of them serve, and never less than one.
        let all = self.serving.len() + self.out.len();
        let few = self.serving.len() <= (all / 2).max(1) || self.untold.len() >= MOST_UNTOLD;
        if (few || rng.random_bool(0.5))
            && let Some(device) = self.out.draw(rng)
        {
            return Some(self.bring_back(device, now_ms));
        }
        if self.serving.len() <= 1 {
            return None;
        }
        let device = self.serving.draw(rng)?;
        let delete = rng.random_bool(0.5);
        let state = if delete { State::Absent } else { State::Disabled };
        if matches!(self.state(device), State::Online | State::Lost) {
            let heard_ms = self.devices[device as usize].spoke_ms;
            let change = self.leaves(device, state, now_ms, heard_ms, None);
            self.tell_later(change);
        } else {
            self.set(device, state);
        }
        if delete {
            self.topology.forget(device);
        }
        Some((device, if delete { Action::Delete } else { Action::Disable }))
    }

    fn bring_back(&mut self, device: u32, now_ms: u64) -> (u32, Action) {
        let (state, action) = match self.state(device) {
            State::Disabled => (State::Offline, Action::Enable),
            _ => (State::Unactive, Action::Create),
        };
        self.set(device, state);
        if action == Action::Create {
            self.topology.add(device);
        }
        if !self.tells {
            self.comes(device, now_ms);
        }
        (device, action)
    }
}

#[cfg(test)]
mod tests;
