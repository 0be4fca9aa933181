//! Lives of many steps, and what a consumer is told of them.

use std::collections::HashMap;

use proptest::prelude::*;
use rand::SeedableRng as _;

use super::*;

/// What a consumer makes of everything that it is told.
#[derive(Default)]
struct Told {
    last: HashMap<u32, StatusChange>,
}

impl Told {
    fn hear(&mut self, change: StatusChange) -> Result<(), TestCaseError> {
        prop_assert!(change.last_ms <= change.at_ms, "{change:?}");
        prop_assert!(!change.online || change.reason.is_none());
        if let Some(before) = self.last.insert(change.device, change) {
            prop_assert!(before.at_ms < change.at_ms && before.last_ms < change.last_ms, "{before:?}, {change:?}");
            prop_assert_ne!(before.online, change.online, "online and offline take turns: {:?}", change);
        } else {
            prop_assert!(!change.online, "all were online at first");
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Status,
    Lifecycle,
    Topology,
    Found,
    Speak,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => Just(Step::Status),
        2 => Just(Step::Lifecycle),
        1 => Just(Step::Topology),
        1 => Just(Step::Found),
        2 => Just(Step::Speak),
        1 => prop_oneof![0..20_u64, Just(HEARTBEAT_MS)].prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..300)
}

proptest! {
    #[test]
    fn whatever_happens_is_consistent(
        steps in steps(),
        gateways in 0..4_u32,
        others in 2..40_u32,
        seed in any::<u64>(),
    ) {
        let mut rng = SmallRng::seed_from_u64(seed);
        let count = gateways + others;
        let mut life = Life::new(count, gateways, true);
        let mut states = vec![State::Absent; count as usize];
        let (mut told, mut now) = (Told::default(), 1_573_489_088_171);
        for step in steps {
            match step {
                Step::Pass(ms) => now += ms,
                Step::Speak => {
                    if let Some(device) = life.speaker(now, &mut rng) {
                        prop_assert_eq!(life.state(device), State::Online);
                    }
                }
                Step::Status => {
                    let change = life.status(now, &mut rng);
                    prop_assert!(change.is_some(), "somebody always serves");
                    told.hear(change.unwrap())?;
                }
                Step::Lifecycle => {
                    let before: Vec<State> = life.devices.iter().map(|device| device.state).collect();
                    if let Some((device, action)) = life.lifecycle(now, &mut rng) {
                        prop_assert!(device >= gateways);
                        let legal = match (before[device as usize], action) {
                            (State::Absent, action) => action == Action::Create,
                            (State::Disabled, action) => action == Action::Enable,
                            (_, action) => matches!(action, Action::Delete | Action::Disable),
                        };
                        prop_assert!(legal, "{:?} {action:?}", before[device as usize]);
                    }
                }
                Step::Topology if gateways > 0 => life.topology.check_change(&mut rng)?,
                Step::Found if gateways > 0 => {
                    prop_assert!(life.topology.found(&mut rng).is_some());
                }
                Step::Topology | Step::Found => {}
            }
            for (device, state) in life.changed() {
                states[device as usize] = state;
            }
            for device in 0..count {
                let state = life.state(device);
                prop_assert_eq!(state, states[device as usize], "every change is reported");
                prop_assert_eq!(life.online.has(device), state == State::Online);
                prop_assert_eq!(life.resting.has(device), matches!(state, State::Offline | State::Unactive));
                prop_assert_eq!(life.lost.iter().any(|(lost, _)| *lost == device), state == State::Lost);
                prop_assert!(device >= gateways || matches!(state, State::Online | State::Offline));
            }
            prop_assert!(!life.serving.is_empty());
            prop_assert!(life.untold.len() <= MOST_UNTOLD + others as usize);
        }
        // Once everything is told, what was told last is what is.
        while let Some(change) = life.untold.pop_front() {
            told.hear(change)?;
        }
        for (device, change) in told.last {
            let online = matches!(life.state(device), State::Online | State::Lost);
            prop_assert_eq!(online, change.online, "{:?}", change);
        }
    }
}

#[test]
fn a_gateway_takes_its_sub_devices_along_and_comes_back_before_them() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut life = Life::new(9, 1, true);
    let subs = life.topology.subs(0).to_vec();
    assert!(!subs.is_empty());
    let gone = life.goes(0, 1_000, 900, None);
    assert_eq!((gone.at_ms, gone.last_ms), (1_000, 900));
    for _ in &subs {
        let change = life.status(2_000, &mut rng).unwrap();
        assert!(subs.contains(&change.device) && !change.online && change.at_ms == 1_000, "{change:?}");
    }
    assert_eq!(life.comes(subs[0], 3_000).device, 0);
    assert_eq!(life.comes(subs[0], 3_000).device, subs[0]);
}

#[test]
fn a_device_that_falls_silent_is_missed_a_heartbeat_and_a_half_later() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut life = Life::new(64, 0, true);
    life.lose(1_000, &mut rng);
    let (lost, _) = life.lost[0];
    assert_eq!(life.state(lost), State::Lost);
    let change = life.status(1_000 + HEARTBEAT_MS, &mut rng).unwrap();
    assert_eq!((change.device, change.online, change.last_ms), (lost, false, 1_000));
    assert_eq!((change.at_ms, life.state(lost)), (1_000 + HEARTBEAT_MS, State::Offline));
}

#[test]
fn who_goes_without_ever_having_spoken_was_last_heard_of_then() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut life = Life::new(64, 0, true);
    let now_ms = 1_800_000_000_000;
    let change = (0..1_000).find_map(|_| life.status(now_ms, &mut rng).filter(|change| !change.online)).unwrap();
    assert_eq!((change.at_ms, change.last_ms), (now_ms, now_ms));
}

#[test]
fn where_status_is_not_told_there_is_always_somebody_to_speak() {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut life = Life::new(2, 0, false);
    for now in 0..1_000 {
        life.lifecycle(now, &mut rng);
        assert!(life.speaker(now, &mut rng).is_some());
        assert!(life.untold.is_empty());
    }
}
