//! The devices that there are, for those who ask about them or have something to say to them: their states, and what has
//! reached them. The generator changes the states; it and the actions of the OpenAPI share this under a lock of its own,
//! which is never held together with the platform's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use super::life::State;
use super::names::{Name, Names};
use super::plan::Plan;

/// How many messages wait for a device that is offline. The documents have a time, seven days, and no number.
const MOST_WAITING: usize = 100;
/// How long devices take to answer when nothing else is asked for, in ms.
const ANSWER_MS: std::ops::Range<u64> = 20..200;
/// The first message ID is the one after it.
const FIRST_MESSAGE: u64 = 889_455_942_124_347_328;

/// A device's status as the OpenAPI says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceStatus {
    Online,
    Offline,
    Unactive,
    Disable,
}

impl DeviceStatus {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Online => "ONLINE",
            Self::Offline => "OFFLINE",
            Self::Unactive => "UNACTIVE",
            Self::Disable => "DISABLE",
        }
    }
}

/// How a call to a device ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RrpcCode {
    Success,
    Timeout,
    Offline,
    /// It is gone, for less than a heartbeat.
    HalfConn,
}

impl RrpcCode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Timeout => "TIMEOUT",
            Self::Offline => "OFFLINE",
            Self::HalfConn => "HALFCONN",
        }
    }
}

/// A message to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Downlink {
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
}

/// What comes of a call to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Called {
    /// The ID of the message that the device got, or would have.
    pub(crate) message: u64,
    pub(crate) code: RrpcCode,
    /// What it answered.
    pub(crate) payload: Bytes,
    /// How long after the call this is known.
    pub(crate) after: Duration,
}

#[derive(Debug, Clone)]
struct Device {
    state: State,
    received: u64,
    last: Option<Downlink>,
    waiting: VecDeque<Downlink>,
}

impl Device {
    fn receive(&mut self, downlink: Downlink) {
        self.received += 1;
        self.last = Some(downlink);
    }
}

#[derive(Debug)]
struct Crowd {
    names: Arc<Names>,
    devices: Vec<Device>,
    answer_after: Option<Duration>,
}

/// What is known of one device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Known<'a> {
    pub(crate) name: &'a Name,
    pub(crate) status: DeviceStatus,
    /// How many messages have reached it, and the last of them.
    pub(crate) received: u64,
    pub(crate) last: Option<&'a Downlink>,
    /// How many wait until it is online.
    pub(crate) waiting: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Registry {
    /// By product.
    crowds: HashMap<String, Crowd>,
    messages: u64,
    rng: SmallRng,
}

/// The registry as it is shared.
pub(crate) type SharedRegistry = Arc<Mutex<Registry>>;

impl Default for Registry {
    fn default() -> Self {
        Self { crowds: HashMap::new(), messages: FIRST_MESSAGE, rng: SmallRng::seed_from_u64(0) }
    }
}

impl Registry {
    /// A crowd begins. It takes the place of the one of the same product, if there was one.
    pub(super) fn enter(&mut self, plan: &Plan, names: &Arc<Names>) {
        let device = Device { state: State::Absent, received: 0, last: None, waiting: VecDeque::new() };
        let devices = vec![device; names.count() as usize];
        let crowd = Crowd { names: Arc::clone(names), devices, answer_after: plan.answer_after };
        self.crowds.insert(plan.product_key.clone(), crowd);
        self.rng = SmallRng::seed_from_u64(plan.seed);
    }

    /// The states of devices have changed. What waited for one that is online now reaches it.
    pub(super) fn change(&mut self, product: &str, changes: impl Iterator<Item = (u32, State)>) {
        let Some(crowd) = self.crowds.get_mut(product) else { return };
        for (device, state) in changes {
            if let Some(device) = crowd.devices.get_mut(device as usize) {
                device.state = state;
                if state == State::Online {
                    while let Some(downlink) = device.waiting.pop_front() {
                        device.receive(downlink);
                    }
                } else if state == State::Absent {
                    (device.received, device.last) = (0, None);
                    device.waiting.clear();
                }
            }
        }
    }

    /// The product and the device that have this ID.
    pub(crate) fn find(&self, iot_id: &str) -> Option<(&str, &str)> {
        self.crowds.iter().find_map(|(product, crowd)| {
            let name = crowd.names.get(crowd.names.find_iot_id(iot_id)?);
            Some((product.as_str(), name.device.as_str()))
        })
    }

    /// What is known of a device; `None` if it does not exist.
    pub(crate) fn look_up(&self, product: &str, device: &str) -> Option<Known<'_>> {
        let crowd = self.crowds.get(product)?;
        let index = crowd.names.find(device)?;
        let device = crowd.devices.get(index as usize)?;
        let status = match device.state {
            State::Absent => return None,
            State::Unactive => DeviceStatus::Unactive,
            State::Online | State::Lost => DeviceStatus::Online,
            State::Offline => DeviceStatus::Offline,
            State::Disabled => DeviceStatus::Disable,
        };
        let (received, last, waiting) = (device.received, device.last.as_ref(), device.waiting.len());
        Some(Known { name: crowd.names.get(index), status, received, last, waiting })
    }

    /// A device's status; `None` if it does not exist.
    pub(crate) fn status(&self, product: &str, device: &str) -> Option<DeviceStatus> {
        self.look_up(product, device).map(|known| known.status)
    }

    fn next_message(&mut self) -> u64 {
        self.messages += 1;
        self.messages
    }

    fn device(&mut self, product: &str, device: &str) -> Option<&mut Device> {
        let crowd = self.crowds.get_mut(product)?;
        let index = crowd.names.find(device)?;
        crowd.devices.get_mut(index as usize)
    }

    /// Sends a message to a device, if it is there and online; one that is to arrive at least once waits until it is.
    /// Returns the message's ID.
    pub(crate) fn downlink(&mut self, product: &str, device: &str, downlink: Downlink, at_least_once: bool) -> u64 {
        let id = self.next_message();
        if let Some(device) = self.device(product, device) {
            match device.state {
                State::Online => device.receive(downlink),
                State::Lost | State::Offline if at_least_once => {
                    if device.waiting.len() >= MOST_WAITING {
                        device.waiting.pop_front();
                    }
                    device.waiting.push_back(downlink);
                }
                _ => {}
            }
        }
        id
    }

    /// Sends a message to a device and has it answer, which it does with the same payload; `None` if it does not exist.
    /// What comes of it is decided here and now, and is known to the caller after a while.
    pub(crate) fn call(
        &mut self,
        product: &str,
        device: &str,
        downlink: Downlink,
        time_out: Duration,
    ) -> Option<Called> {
        self.look_up(product, device)?;
        let message = self.next_message();
        let after = self.crowds.get(product).and_then(|crowd| crowd.answer_after);
        let after = after.unwrap_or_else(|| Duration::from_millis(self.rng.random_range(ANSWER_MS)));
        let device = self.device(product, device)?;
        let payload = downlink.payload.clone();
        let unanswered = |code, after| Called { message, code, payload: Bytes::new(), after };
        Some(match device.state {
            State::Online => {
                device.receive(downlink);
                if after < time_out {
                    Called { message, code: RrpcCode::Success, payload, after }
                } else {
                    unanswered(RrpcCode::Timeout, time_out)
                }
            }
            State::Lost => unanswered(RrpcCode::HalfConn, Duration::ZERO),
            State::Offline | State::Unactive | State::Disabled | State::Absent => {
                unanswered(RrpcCode::Offline, Duration::ZERO)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(answer_after: Option<Duration>, state: State) -> Registry {
        let mut registry = Registry::default();
        let plan = Plan { answer_after, ..Plan::new("pk", 1, 3, 1) };
        registry.enter(&plan, &Arc::new(Names::new("pk", 3)));
        registry.change("pk", [(1, state)].into_iter());
        registry
    }

    fn downlink(payload: &'static [u8]) -> Downlink {
        Downlink { topic: "/pk/device-0001/user/get".into(), payload: payload.into() }
    }

    #[test]
    fn the_status_is_that_of_the_life_as_far_as_the_platform_knows() {
        for (state, status) in [
            (State::Absent, None),
            (State::Unactive, Some("UNACTIVE")),
            (State::Online, Some("ONLINE")),
            (State::Lost, Some("ONLINE")),
            (State::Offline, Some("OFFLINE")),
            (State::Disabled, Some("DISABLE")),
        ] {
            assert_eq!(registry(None, state).status("pk", "device-0001").map(DeviceStatus::as_str), status);
        }
        let registry = registry(None, State::Online);
        assert_eq!(registry.status("other", "device-0001"), None);
        assert_eq!(registry.status("pk", "device-0003"), None);
        let id = Names::new("pk", 3).get(1).iot_id.clone();
        assert_eq!(registry.find(&id), Some(("pk", "device-0001")));
        assert_eq!(registry.find("device-0001"), None);
    }

    #[test]
    fn a_message_reaches_who_is_online_and_waits_for_who_is_not_if_it_must_arrive() {
        let seen = |registry: &Registry| {
            let known = registry.look_up("pk", "device-0001").unwrap();
            (known.received, known.waiting, known.last.map(|last| last.payload.clone()))
        };
        let mut registry = registry(None, State::Online);
        let first = registry.downlink("pk", "device-0001", downlink(b"a"), false);
        assert_eq!(seen(&registry), (1, 0, Some(Bytes::from_static(b"a"))));
        registry.change("pk", [(1, State::Offline)].into_iter());
        let second = registry.downlink("pk", "device-0001", downlink(b"b"), false);
        assert_eq!(seen(&registry).0, 1, "it need not arrive");
        registry.downlink("pk", "device-0001", downlink(b"c"), true);
        assert_eq!(seen(&registry), (1, 1, Some(Bytes::from_static(b"a"))));
        registry.change("pk", [(1, State::Online)].into_iter());
        assert_eq!(seen(&registry), (2, 0, Some(Bytes::from_static(b"c"))));
        registry.downlink("pk", "nobody", downlink(b"d"), true);
        assert_eq!(second, first + 1);
    }

    #[test]
    fn no_more_than_so_many_messages_wait() {
        let mut registry = registry(None, State::Offline);
        for _ in 0..1_000 {
            registry.downlink("pk", "device-0001", downlink(b"a"), true);
        }
        assert_eq!(registry.look_up("pk", "device-0001").unwrap().waiting, MOST_WAITING);
    }

    #[test]
    fn a_call_is_answered_in_time_or_not() {
        let second = Duration::from_secs(1);
        let call =
            |answer_after, state| registry(answer_after, state).call("pk", "device-0001", downlink(b"hello"), second);
        let quick = call(None, State::Online).unwrap();
        assert_eq!((quick.code, quick.payload.as_ref()), (RrpcCode::Success, b"hello".as_slice()));
        assert!(!quick.after.is_zero() && quick.after < second);
        let slow = call(Some(second), State::Online).unwrap();
        assert_eq!((slow.code, slow.payload.len(), slow.after), (RrpcCode::Timeout, 0, second));
        for (state, code) in [
            (State::Lost, RrpcCode::HalfConn),
            (State::Offline, RrpcCode::Offline),
            (State::Unactive, RrpcCode::Offline),
            (State::Disabled, RrpcCode::Offline),
        ] {
            let called = call(None, state).unwrap();
            assert_eq!((called.code, called.after), (code, Duration::ZERO), "{state:?}");
        }
        assert_eq!(call(None, State::Absent), None);
    }
}
