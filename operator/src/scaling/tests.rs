//! Each rule by itself.

use std::time::Duration;

use super::*;

pub(super) fn policy() -> Policy {
    Policy {
        min_replicas: 1,
        max_replicas: 64,
        target_saturation: 70,
        backlog_activation: 0,
        drain_within: Duration::from_secs(1800),
        scale_up: Behavior { stabilization: Duration::ZERO, pods: 4, percent: 100, period: Duration::from_secs(15) },
        scale_down: Behavior {
            stabilization: Duration::from_secs(300),
            pods: 0,
            percent: 100,
            period: Duration::from_secs(15),
        },
        settle: Duration::from_secs(600),
        connections_per_pod: 1,
        pause: Pause::None,
    }
}

/// A workload over time: what it does is decided by the test, what it gets by [`decide`].
struct Scene {
    now: Time,
    policy: Policy,
    history: History,
    replicas: u32,
    slots: Option<u32>,
    platform: Option<(u64, Option<u64>)>,
    asked: Option<u32>,
}

impl Scene {
    fn of(replicas: u32) -> Self {
        let now = Time(1_000_000);
        Self {
            now,
            policy: policy(),
            history: History::default(),
            replicas,
            slots: Some(64),
            platform: Some((0, None)),
            asked: None,
        }
    }

    fn pod(&self, saturation_permille: u32, rate: u32) -> PodFigures {
        PodFigures { at: self.now, up: true, saturation_permille, accepted_per_second: rate, received_per_second: rate }
    }

    fn look(&mut self, pods: Vec<Option<PodFigures>>) -> Decision {
        let platform = self.platform.map(|(backlog, backlog_per_minute)| PlatformFigures {
            at: self.now,
            stale_at: self.now + Duration::from_secs(60),
            backlog,
            backlog_per_minute,
        });
        let situation = Situation { replicas: self.replicas, slots: self.slots, pods, platform, asked: self.asked };
        let decision = decide(self.now, &self.policy, &situation, &mut self.history);
        if decision.write {
            self.replicas = decision.replicas;
        }
        decision
    }

    /// One decision, all pods doing the same.
    fn step(&mut self, saturation_permille: u32, rate: u32) -> Decision {
        let pods = vec![Some(self.pod(saturation_permille, rate)); self.replicas as usize];
        self.look(pods)
    }

    /// The same for a while, every 5 s; the last decision.
    fn go_on(&mut self, seconds: u64, saturation_permille: u32, rate: u32) -> Decision {
        for _ in 0..seconds / 5 {
            self.step(saturation_permille, rate);
            self.now = self.now + Duration::from_secs(5);
        }
        self.step(saturation_permille, rate)
    }
}

#[test]
fn saturation_above_the_target_adds_what_is_needed_at_once() {
    let mut scene = Scene::of(4);
    let decision = scene.step(1000, 100);
    assert!(decision.write);
    assert_eq!(decision.replicas, 6, "{}", decision.reason);
    assert!(decision.reason.contains("saturation is 100 % of 4 pods (target 70 %)"), "{}", decision.reason);
}

#[test]
fn near_the_target_nothing_changes() {
    let mut scene = Scene::of(4);
    for saturation in [640, 700, 760] {
        assert!(!scene.step(saturation, 100).write);
    }
}

#[test]
fn a_connection_near_its_cap_is_relieved_however_idle_the_application_is() {
    let mut scene = Scene::of(2);
    let decision = scene.step(50, 950);
    assert_eq!(decision.replicas, 3, "{}", decision.reason);
    assert!(decision.reason.contains("800/s a connection"), "{}", decision.reason);
}

#[test]
fn a_climb_goes_in_steps() {
    let mut scene = Scene::of(10);
    scene.policy.scale_up = Behavior { pods: 2, percent: 0, ..scene.policy.scale_up };
    assert_eq!(scene.step(1000, 100).replicas, 12);
    assert_eq!(scene.step(1000, 100).replicas, 12, "not twice in a period");
    assert_eq!(scene.go_on(15, 1000, 100).replicas, 14);
}

#[test]
fn a_backlog_that_more_pods_drain_faster_adds_them() {
    let mut scene = Scene::of(2);
    // 2 pods at 70 % do 20/s; 36,000 in half an hour are 20/s more.
    scene.platform = Some((36_000, Some(0)));
    let decision = scene.step(700, 10);
    assert_eq!(decision.replicas, 4, "{}", decision.reason);
    assert!(decision.reason.contains("a backlog of 36000 drains at 20/s only with 4 pods"), "{}", decision.reason);
}

#[test]
fn no_pod_is_added_for_a_backlog_that_the_platform_drains_no_faster() {
    let mut scene = Scene::of(2);
    // They are half busy with the 200/s that the platform drains, and 200/s is all that there will ever be.
    scene.platform = Some((10_000_000, Some(12_000)));
    for _ in 0..100 {
        let decision = scene.go_on(30, 500, 100);
        assert!(!decision.write || decision.replicas <= 2, "{}", decision.reason);
        assert!(decision.reason.contains("more pods would not drain the backlog"), "{}", decision.reason);
    }
}

#[test]
fn a_backlog_that_does_not_wait_for_consumers_changes_nothing() {
    let mut scene = Scene::of(3);
    scene.platform = Some((50_000, None));
    let decision = scene.go_on(3000, 20, 60);
    assert_eq!(decision.replicas, 3, "{}", decision.reason);
    assert!(decision.reason.contains("does not wait for consumers"), "{}", decision.reason);
}

#[test]
fn a_backlog_that_outlives_its_day_is_said_aloud() {
    let mut scene = Scene::of(2);
    scene.platform = Some((20_000_000, Some(12_000)));
    let decision = scene.step(500, 100);
    assert!(decision.expiring);
    assert_eq!(decision.drain_eta, Some(Duration::from_secs(100_000)));
    // By the best that the platform does, at whatever rate it drains just now.
    for per_minute in [Some(12_000), Some(60), Some(0), None] {
        scene.platform = Some((10_000_000, per_minute));
        assert!(!scene.step(500, 100).expiring);
        scene.platform = Some((20_000_000, per_minute));
        assert!(scene.step(500, 100).expiring);
    }
}

#[test]
fn how_long_a_backlog_lasts_is_told_by_the_rate_that_it_drains_at() {
    let mut scene = Scene::of(2);
    for (per_minute, eta) in [(Some(600), Some(360)), (Some(30), Some(7_200)), (Some(0), None), (None, None)] {
        scene.platform = Some((3_600, per_minute));
        assert_eq!(scene.step(500, 100).drain_eta, eta.map(Duration::from_secs));
    }
    scene.platform = Some((0, Some(600)));
    assert_eq!(scene.step(500, 100).drain_eta, None, "there is none");
}

#[test]
fn scale_in_waits_until_membership_has_been_stable() {
    let mut scene = Scene::of(10);
    assert!(!scene.go_on(590, 70, 10).write);
    assert_eq!(scene.replicas, 10);
    let decision = scene.go_on(30, 70, 10);
    assert_eq!(scene.replicas, 1, "{}", decision.reason);
}

#[test]
fn a_busy_moment_within_the_window_keeps_the_pods() {
    let mut scene = Scene::of(10);
    scene.go_on(400, 100, 10);
    scene.step(700, 10);
    assert!(!scene.go_on(290, 100, 10).write);
    scene.go_on(60, 100, 10);
    assert_eq!(scene.replicas, 2);
}

#[test]
fn missing_or_stale_figures_hold_the_count() {
    let mut scene = Scene::of(3);
    let busy = scene.pod(700, 100);
    let idle = scene.pod(0, 0);
    let old = PodFigures { at: Time(scene.now.0 - 21_000), ..scene.pod(1000, 1000) };
    let look = [
        vec![],
        vec![None, Some(busy), Some(busy)],
        vec![Some(idle), Some(idle), Some(old)],
        vec![Some(old); 3],
        vec![None; 3],
    ];
    for pods in look {
        let decision = scene.look(pods);
        assert!(decision.blind && !decision.write, "{}", decision.reason);
        assert!(decision.reason.contains("held"), "{}", decision.reason);
    }
}

#[test]
fn a_pod_that_falls_silent_does_not_keep_the_others_from_getting_help() {
    let mut scene = Scene::of(8);
    let mut pods = vec![Some(scene.pod(1000, 100)); 8];
    pods[3] = None;
    let decision = scene.look(pods);
    // Seven that are busy are work for ten, and the eighth for itself.
    assert_eq!((decision.replicas, decision.write, decision.blind), (11, true, false), "{}", decision.reason);
    assert!(decision.reason.contains("1 of 8 pods have no fresh figures"), "{}", decision.reason);
    // By their connections too.
    let mut scene = Scene::of(3);
    let near = Some(scene.pod(50, 950));
    assert_eq!(scene.look(vec![near, near, None]).replicas, 4);
    // And none goes while it is silent, however idle the others are.
    let mut scene = Scene::of(3);
    for _ in 0..400 {
        let idle = Some(scene.pod(0, 0));
        let decision = scene.look(vec![idle, idle, None]);
        assert!(decision.blind && !decision.write, "{}", decision.reason);
        scene.now = scene.now + Duration::from_secs(5);
    }
}

#[test]
fn pods_that_are_not_up_yet_are_no_reason_to_take_any_away() {
    let mut scene = Scene::of(3);
    for _ in 0..300 {
        let starting = PodFigures { up: false, ..scene.pod(0, 0) };
        let decision = scene.look(vec![Some(starting); 3]);
        assert!(decision.blind && !decision.write, "{}", decision.reason);
        scene.now = scene.now + Duration::from_secs(5);
    }
    // One idle pod is up: the others may be needed as soon as they are.
    for _ in 0..300 {
        let starting = PodFigures { up: false, ..scene.pod(0, 0) };
        let pods = vec![Some(scene.pod(0, 0)), Some(starting), Some(starting)];
        assert!(!scene.look(pods).write);
        scene.now = scene.now + Duration::from_secs(5);
    }
}

#[test]
fn bounds_hold_even_without_figures() {
    let mut scene = Scene::of(70);
    scene.slots = None;
    assert_eq!(scene.look(vec![]).replicas, 64);
    scene.slots = Some(128);
    scene.policy.max_replicas = 60;
    assert_eq!(scene.look(vec![]).replicas, 60);
    scene.replicas = 0;
    assert_eq!(scene.look(vec![]).replicas, 1);
}

#[test]
fn while_the_slots_are_not_known_the_count_is_held() {
    let mut scene = Scene::of(4);
    scene.slots = None;
    for saturation in [1000, 0] {
        let decision = scene.go_on(2000, saturation, 100);
        assert!(decision.blind && scene.replicas == 4, "{}", decision.reason);
    }
    scene.asked = Some(9);
    let decision = scene.step(0, 0);
    assert!(!decision.write && !decision.at_capacity, "{}", decision.reason);
    assert!(decision.reason.contains("it is not known whether the client slots allow 9"), "{}", decision.reason);
    scene.asked = Some(2);
    assert_eq!(scene.step(0, 0).replicas, 2, "fewer need no slots");
}

#[test]
fn slots_that_others_take_away_are_given_up_at_leisure() {
    for asked in [None, Some(10)] {
        let mut scene = Scene::of(10);
        scene.asked = asked;
        scene.go_on(1000, 700, 10);
        scene.slots = Some(4);
        let decision = scene.step(700, 10);
        assert!(!decision.write && decision.at_capacity, "{}", decision.reason);
        assert!(decision.reason.contains("the client slots allow 4 of 10"), "{}", decision.reason);
        assert!(!scene.go_on(290, 700, 10).write, "not before the window for scaling down has passed");
        // A moment with more begins it anew.
        scene.slots = Some(10);
        scene.step(700, 10);
        scene.slots = Some(4);
        assert!(!scene.go_on(290, 700, 10).write);
        scene.go_on(60, 700, 10);
        assert_eq!(scene.replicas, 4);
        // What the user says counts at once.
        scene.policy.max_replicas = 3;
        assert_eq!(scene.step(700, 10).replicas, 3);
    }
}

#[test]
fn slots_that_are_gone_are_given_up_without_figures_too() {
    // All stand by: none of them should be consuming, so none is heard.
    let mut scene = Scene::of(6);
    scene.slots = Some(0);
    for _ in 0..200 {
        scene.look(vec![]);
        scene.now = scene.now + Duration::from_secs(5);
    }
    assert_eq!(scene.replicas, 1);
}

#[test]
fn whoever_decides_instead_is_obeyed_at_once_inside_the_bounds() {
    let mut scene = Scene::of(3);
    scene.slots = Some(30);
    scene.policy.max_replicas = 20;
    for (asked, replicas) in [(9, 9), (2, 2), (90, 20), (0, 1)] {
        scene.asked = Some(asked);
        let decision = scene.look(vec![]);
        assert_eq!((decision.replicas, decision.blind), (replicas, false), "{}", decision.reason);
        assert!(decision.reason.starts_with(&format!("spec.scaling.replicas is {asked}")), "{}", decision.reason);
        assert_eq!(decision.at_capacity, asked == 90);
    }
}

#[test]
fn what_the_slots_do_not_allow_is_said() {
    let mut scene = Scene::of(8);
    scene.slots = Some(9);
    let decision = scene.step(1000, 10);
    assert_eq!(decision.replicas, 9);
    assert!(decision.at_capacity);
    assert!(decision.reason.contains("the client slots allow 9 of 12"), "{}", decision.reason);
}

#[test]
fn a_group_whose_slots_others_hold_keeps_one_pod() {
    let mut scene = Scene::of(1);
    scene.slots = Some(0);
    assert_eq!(scene.step(1000, 10).replicas, 1);
}

#[test]
fn zero_needs_the_platforms_word_and_wakes_by_it() {
    let mut scene = Scene::of(1);
    scene.policy.min_replicas = 0;
    scene.platform = None;
    assert_eq!(scene.go_on(1000, 0, 0).replicas, 1, "nobody could wake it");
    scene.platform = Some((0, None));
    assert_eq!(scene.go_on(1000, 0, 0).replicas, 0);
    scene.platform = None;
    let decision = scene.look(vec![]);
    assert!(decision.blind && decision.replicas == 0, "{}", decision.reason);
    scene.platform = Some((5, None));
    let decision = scene.look(vec![]);
    assert_eq!(decision.replicas, 1);
    assert_eq!(decision.reason, "woken by a backlog of 5");
}

#[test]
fn zero_is_only_for_those_who_ask_for_it() {
    let mut scene = Scene::of(3);
    scene.go_on(2000, 0, 0);
    assert_eq!(scene.replicas, 1);
}

#[test]
fn a_scale_up_that_gained_nothing_keeps_others_back() {
    let mut scene = Scene::of(4);
    scene.step(1000, 100);
    assert_eq!(scene.replicas, 6);
    // Six pods now do together what four did: a database behind them is the bottleneck.
    let decision = scene.go_on(300, 1000, 66);
    assert!(decision.reason.contains("gained nothing"), "{}", decision.reason);
    let held = scene.replicas;
    assert_eq!(scene.go_on(300, 1000, 400 / held).replicas, held);
    // After a while it is tried again.
    scene.go_on(900, 1000, 400 / held);
    assert!(scene.replicas > held);
}

#[test]
fn a_pause_leaves_the_plan_visible() {
    let mut scene = Scene::of(4);
    scene.policy.pause = Pause::All;
    let decision = scene.step(1000, 100);
    assert!(!decision.write);
    assert_eq!(decision.replicas, 6);
    assert!(decision.reason.ends_with("paused"), "{}", decision.reason);
    scene.policy.pause = Pause::ScaleDown;
    assert!(scene.step(1000, 100).write);
}
