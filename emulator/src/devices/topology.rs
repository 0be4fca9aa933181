//! Gateways, and the sub-devices behind them.

use rand::Rng as _;
use rand::rngs::SmallRng;

use super::life::Action;
use super::pool::Pool;

/// The most sub-devices that one message names.
const MOST_NAMED: u32 = 3;

/// Which device is behind which gateway. See the module.
#[derive(Debug)]
pub(super) struct Topology {
    gateway_of: Vec<Option<u32>>,
    /// Whether a sub-device's place is disabled.
    disabled: Vec<bool>,
    subs: Vec<Vec<u32>>,
    /// Those that are behind none.
    free: Pool,
}

/// A change of a gateway's topology.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) gateway: u32,
    pub(super) action: Action,
    pub(super) devices: Vec<u32>,
}

impl Topology {
    /// The first `gateways` of `count` devices are gateways. Of the others, every fourth is yet to be found.
    pub(super) fn new(count: u32, gateways: u32) -> Self {
        let (all, of) = (count as usize, gateways as usize);
        let (gateway_of, disabled, subs) = (vec![None; all], vec![false; all], vec![Vec::new(); of]);
        let mut topology = Self { gateway_of, disabled, subs, free: Pool::below(count) };
        for device in gateways..count {
            match device.checked_rem(gateways) {
                Some(gateway) if device % 4 != 3 => topology.bind(device, gateway),
                _ => topology.free.add(device),
            }
        }
        topology
    }

    fn bind(&mut self, device: u32, gateway: u32) {
        self.free.remove(device);
        self.gateway_of[device as usize] = Some(gateway);
        self.disabled[device as usize] = false;
        self.subs[gateway as usize].push(device);
    }

    fn unbind(&mut self, device: u32) {
        if let Some(gateway) = self.gateway_of[device as usize].take() {
            self.subs[gateway as usize].retain(|sub| *sub != device);
        }
        self.free.add(device);
    }

    /// The gateway that a device is behind.
    pub(super) fn gateway_of(&self, device: u32) -> Option<u32> {
        self.gateway_of[device as usize]
    }

    /// The sub-devices behind a gateway.
    pub(super) fn subs(&self, gateway: u32) -> &[u32] {
        &self.subs[gateway as usize]
    }

    /// A device exists now.
    pub(super) fn add(&mut self, device: u32) {
        self.free.add(device);
    }

    /// A device does not exist any more.
    pub(super) fn forget(&mut self, device: u32) {
        self.unbind(device);
        self.free.remove(device);
    }

    fn gateway(&self, rng: &mut SmallRng) -> Option<u32> {
        if self.subs.is_empty() { None } else { u32::try_from(rng.random_range(0..self.subs.len())).ok() }
    }

    /// A gateway with sub-devices: this one, or the next that has any.
    fn with_subs(&self, from: u32) -> Option<u32> {
        let all = u32::try_from(self.subs.len()).ok()?;
        (0..all).map(|step| (from + step) % all).find(|gateway| !self.subs(*gateway).is_empty())
    }

    /// Different free devices, at most so many.
    fn some_free(&self, rng: &mut SmallRng) -> Vec<u32> {
        let mut devices = Vec::new();
        for _ in 0..rng.random_range(1..=MOST_NAMED) {
            devices.extend(self.free.draw(rng).filter(|device| !devices.contains(device)));
        }
        devices
    }

    /// The next change. `None` only if there is no gateway, or no other device.
    pub(super) fn change(&mut self, rng: &mut SmallRng) -> Option<Change> {
        let gateway = self.gateway(rng)?;
        let full = self.with_subs(gateway);
        let create = !self.free.is_empty() && (full.is_none() || rng.random_bool(0.4));
        if create {
            let devices = self.some_free(rng);
            for device in &devices {
                self.bind(*device, gateway);
            }
            return Some(Change { gateway, action: Action::Create, devices });
        }
        let gateway = full?;
        let subs = self.subs(gateway);
        let device = subs[rng.random_range(0..subs.len())];
        let action = if rng.random_bool(0.5) {
            self.unbind(device);
            Action::Delete
        } else {
            let disabled = &mut self.disabled[device as usize];
            *disabled = !*disabled;
            if *disabled { Action::Disable } else { Action::Enable }
        };
        Some(Change { gateway, action, devices: vec![device] })
    }

    /// What a gateway finds: devices behind none, or else those that it has already. `None` only if there is no gateway,
    /// or no other device.
    pub(super) fn found(&self, rng: &mut SmallRng) -> Option<(u32, Vec<u32>)> {
        let gateway = self.gateway(rng)?;
        if !self.free.is_empty() {
            return Some((gateway, self.some_free(rng)));
        }
        let gateway = self.with_subs(gateway)?;
        Some((gateway, self.subs(gateway).iter().take(MOST_NAMED as usize).copied().collect()))
    }

    /// Makes a change, and checks that it is one.
    #[cfg(test)]
    pub(super) fn check_change(&mut self, rng: &mut SmallRng) -> Result<(), proptest::test_runner::TestCaseError> {
        use proptest::prelude::*;

        let (before, disabled) = (self.gateway_of.clone(), self.disabled.clone());
        let change = self.change(rng);
        prop_assert!(change.is_some());
        let Change { gateway, action, devices } = change.unwrap();
        prop_assert!(!devices.is_empty() && devices.len() <= MOST_NAMED as usize);
        for &device in &devices {
            let (was, is) = (before[device as usize], self.gateway_of(device));
            let off = (disabled[device as usize], self.disabled[device as usize]);
            let right = match action {
                Action::Create => was.is_none() && is == Some(gateway),
                Action::Delete => was == Some(gateway) && is.is_none(),
                Action::Disable => was == is && is == Some(gateway) && off == (false, true),
                Action::Enable => was == is && is == Some(gateway) && off == (true, false),
            };
            prop_assert!(right, "{action:?} {device}: {was:?}, {is:?}, {off:?}");
        }
        for (device, of) in self.gateway_of.iter().enumerate() {
            let listed = self.subs.iter().position(|subs| subs.iter().any(|sub| *sub as usize == device));
            prop_assert_eq!(listed, of.map(|gateway| gateway as usize));
        }
        Ok(())
    }
}
