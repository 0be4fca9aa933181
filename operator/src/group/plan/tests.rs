use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::credentials::{Fault, Standing};
use crate::group::contest::Contest;
use crate::group::dereference::{Standings, Target};
use crate::group::fixtures::{self, AT};
use crate::group::view::{Evidence, PlatformGroup, Refusal, Sidecars};
use crate::scaling::{PlatformFigures, PodFigures};

fn run_with(change: impl FnOnce(&mut Value), pods: u32, alter: impl FnOnce(&mut World)) -> Plan {
    let mut plans = run_on(&mut Past::default(), [AT], change, pods, alter);
    plans.remove(0)
}

/// The same world, looked at again and again.
fn run_on(
    past: &mut Past,
    at: impl IntoIterator<Item = Time>,
    change: impl FnOnce(&mut Value),
    pods: u32,
    alter: impl FnOnce(&mut World),
) -> Vec<Plan> {
    let object = fixtures::object(change);
    let mut world = fixtures::world(&object, pods);
    let group = Ok(fixtures::validated(&object, &world));
    alter(&mut world);
    at.into_iter().map(|at| plan(&group, &world, past, at)).collect()
}

fn after(seconds: u64) -> Time {
    AT + std::time::Duration::from_secs(seconds)
}

fn run(pods: u32, alter: impl FnOnce(&mut World)) -> Plan {
    run_with(|_| {}, pods, alter)
}

fn said(plan: &Plan, kind: ConditionType) -> (Option<Truth>, Reason) {
    let verdict = plan.verdicts.iter().find(|verdict| verdict.kind == kind).unwrap();
    (verdict.truth, verdict.reason)
}

fn sidecars(world: &mut World) -> &mut Sidecars {
    world.sidecars.as_mut().unwrap()
}

#[test]
fn when_all_is_well_all_says_so() {
    let plan = run(3, |_| {});
    assert_eq!(said(&plan, ConditionType::Ready), (Some(Truth::True), Reason::Consuming));
    assert_eq!(said(&plan, ConditionType::CredentialsValid), (Some(Truth::True), Reason::Verified));
    assert_eq!(said(&plan, ConditionType::Scaling), (Some(Truth::True), Reason::Active));
    assert_eq!(said(&plan, ConditionType::AtCapacity), (Some(Truth::False), Reason::WithinCapacity));
    assert_eq!((plan.scale, plan.costs, plan.advice), (None, vec![], vec![]));
    assert_eq!(plan.figures.slots, Some((3, 64)));
    assert_eq!((plan.figures.rate, plan.figures.sidecars), (Some(150), Some((3, 0, 0))));
}

#[test]
fn bad_keys_are_told_by_their_reason_and_leave_nothing_ready_that_does_not_consume() {
    for (reason, truth) in [
        (Reason::SecretNotFound, Truth::False),
        (Reason::RoleRefused, Truth::False),
        (Reason::Expired, Truth::False),
        (Reason::PlatformUnreachable, Truth::Unknown),
    ] {
        for up in [true, false] {
            let plan = run(3, |world| {
                world.standings.link = Standing::Failed(Fault { reason, words: "these words".into() });
                sidecars(world).pods.values_mut().for_each(|sidecar| sidecar.up = up);
            });
            assert_eq!(said(&plan, ConditionType::CredentialsValid), (Some(truth), reason));
            assert!(plan.verdicts.iter().any(|verdict| verdict.message == "spec.credentials: these words"));
            let (ready, why) = said(&plan, ConditionType::Ready);
            let told = plan.verdicts[0].message.contains("these words");
            match (up, truth) {
                (true, _) => assert_eq!((ready, why), (Some(Truth::True), Reason::Consuming)),
                (false, Truth::False) => assert_eq!((ready, why), (Some(Truth::False), reason)),
                (false, _) => assert_eq!((ready, why), (Some(Truth::False), Reason::Connecting)),
            }
            assert_eq!(told, truth == Truth::False, "{}", plan.verdicts[0].message);
        }
    }
}

#[test]
fn links_that_are_up_consume_although_no_slot_can_be_granted() {
    let fault = |up| {
        run(2, move |world| {
            sidecars(world).fault = Some("the slot table can't be read".into());
            sidecars(world).pods.values_mut().for_each(|sidecar| {
                sidecar.up = up;
                sidecar.figures.as_mut().unwrap().saturation_permille = 1000;
            });
        })
    };
    let plan = fault(true);
    assert_eq!(said(&plan, ConditionType::Ready), (Some(Truth::True), Reason::Consuming));
    assert_eq!(plan.verdicts[0].message, "2 of 2 pods have their links up; but the slot table can't be read");
    assert_eq!(plan.scale, None, "nothing is decided by it");
    assert_eq!(said(&fault(false), ConditionType::Ready), (Some(Truth::False), Reason::NotConnected));
}

#[test]
fn what_the_platform_refuses_is_told_in_its_words() {
    let refused = |credentials| {
        run(2, |world| {
            sidecars(world).pods.values_mut().for_each(|sidecar| sidecar.up = false);
            sidecars(world).verified = false;
            sidecars(world).refusal = Some(Refusal { words: "amqp:unauthorized-access".into(), credentials });
        })
    };
    let plan = refused(true);
    assert_eq!(said(&plan, ConditionType::CredentialsValid), (Some(Truth::False), Reason::Refused));
    assert_eq!(said(&plan, ConditionType::Ready), (Some(Truth::False), Reason::Refused));
    let plan = refused(false);
    assert_eq!(said(&plan, ConditionType::CredentialsValid), (Some(Truth::Unknown), Reason::Unverified));
    assert_eq!(said(&plan, ConditionType::Ready), (Some(Truth::False), Reason::NotConnected));
    assert!(plan.verdicts[0].message.contains("amqp:unauthorized-access"));
}

#[test]
fn the_openapi_vouches_only_for_the_keys_that_it_is_called_with() {
    let answered = |separate: bool| {
        run(0, move |world| {
            sidecars(world).verified = false;
            world.platform = Some(PlatformGroup { api: Evidence::Works, ..PlatformGroup::default() });
            if separate {
                let api = Some(world.standings.link.clone());
                world.standings = Standings { api, ..world.standings.clone() };
            }
        })
    };
    assert_eq!(said(&answered(false), ConditionType::CredentialsValid).1, Reason::Verified);
    assert_eq!(said(&answered(true), ConditionType::CredentialsValid).1, Reason::Unverified);
    let refused = run(1, |world| {
        let api = Evidence::Refused("InvalidAccessKeyId.NotFound".into());
        world.platform = Some(PlatformGroup { api, ..PlatformGroup::default() });
    });
    assert_eq!(said(&refused, ConditionType::CredentialsValid), (Some(Truth::False), Reason::Refused));
}

#[test]
fn a_leader_that_has_just_begun_takes_nothing_back() {
    let plan = run(3, |world| world.sidecars = None);
    let kinds = [
        ConditionType::Ready,
        ConditionType::CredentialsValid,
        ConditionType::Scaling,
        ConditionType::AtCapacity,
        ConditionType::BacklogExpiring,
    ];
    for kind in kinds {
        assert_eq!(said(&plan, kind).0, None, "{kind}");
    }
    assert_eq!((plan.scale, plan.costs), (None, vec![]));
    // The sidecars may be back before the keys are.
    let plan = run(0, |world| world.standings.link = Standing::Pending);
    for kind in [ConditionType::Ready, ConditionType::CredentialsValid] {
        assert_eq!(said(&plan, kind).0, None, "{kind}");
    }
}

#[test]
fn a_group_without_pods_is_ready_for_them() {
    assert_eq!(said(&run(0, |_| {}), ConditionType::Ready), (Some(Truth::True), Reason::NoPods));
    let plan = run(0, |world| world.target = Some(Target::NotFound));
    assert_eq!(said(&plan, ConditionType::Ready), (Some(Truth::False), Reason::TargetNotFound));
}

#[test]
fn pods_without_a_sidecar_and_short_grace_periods_are_told() {
    let plan = run(3, |world| {
        Arc::make_mut(&mut world.pods[0]).sidecar = None;
        Arc::make_mut(&mut world.pods[1]).grace_seconds = 29;
    });
    let reasons: Vec<_> = plan.advice.iter().map(|advice| advice.reason).collect();
    assert_eq!(reasons, ["SidecarMissing", "GracePeriodTooShort"]);
    assert!(plan.advice[1].message.contains("terminationGracePeriodSeconds to 30 or more (pods p1)"));
    assert_eq!(said(&plan, ConditionType::Ready).0, Some(Truth::True), "the others consume");
    assert!(plan.verdicts[0].message.contains("(pods p0)"));

    let plan = run(5, |world| {
        world.pods.iter_mut().for_each(|pod| Arc::make_mut(pod).sidecar = None);
        sidecars(world).pods.clear();
    });
    assert_eq!(said(&plan, ConditionType::Ready), (Some(Truth::False), Reason::SidecarMissing));
    assert!(plan.verdicts[0].message.ends_with("(pods p0, p1, p2 and 2 more)"), "{}", plan.verdicts[0].message);
}

#[test]
fn a_workload_that_others_drive_is_left_alone() {
    for (contest, truth, words) in [
        (Contest::By("HorizontalPodAutoscaler x".into()), Some(Truth::False), "HorizontalPodAutoscaler x drives"),
        (Contest::Older("first".into()), Some(Truth::False), "the older ConsumerGroup first scales Deployment worker"),
        (Contest::Unknown, None, "could not be listed yet"),
    ] {
        for external in [false, true] {
            let change = |object: &mut Value| {
                if external {
                    object["spec"]["scaling"] = json!({"mode": "External", "replicas": 9});
                }
            };
            let plan = run_with(change, 2, |world| {
                world.contest = contest.clone();
                sidecars(world).pods.values_mut().for_each(|s| s.figures.as_mut().unwrap().saturation_permille = 1000);
            });
            assert_eq!(said(&plan, ConditionType::Scaling), (truth, Reason::TargetContested));
            assert!(plan.verdicts.iter().any(|verdict| verdict.message.contains(words)), "{words}");
            assert_eq!(plan.scale, None);
            assert!(plan.figures.plan.unwrap().0 > 2, "what would be done is said all the same");
        }
    }
}

#[test]
fn figures_that_are_missing_for_a_moment_are_no_news() {
    let mut past = Past::default();
    let mut look = |silent: bool, times: &[u64]| {
        let times: Vec<Time> = times.iter().map(|seconds| after(*seconds)).collect();
        let plans = run_on(
            &mut past,
            times,
            |_| {},
            2,
            |world| {
                for sidecar in sidecars(world).pods.values_mut() {
                    sidecar.figures =
                        sidecar.figures.filter(|_| !silent).map(|figures| PodFigures { at: after(60), ..figures });
                }
            },
        );
        plans.iter().map(|plan| said(plan, ConditionType::Scaling).0).collect::<Vec<_>>()
    };
    assert_eq!(look(true, &[0, 25, 30]), [None, None, Some(Truth::Unknown)]);
    assert_eq!(look(false, &[60]), [Some(Truth::True)]);
    assert_eq!(look(true, &[65, 90]), [None, None]);
}

#[test]
fn being_short_of_pods_is_not_taken_back_with_every_look() {
    let mut past = Past::default();
    let mut look = |saturation: u32, seconds: u64| {
        let change = |object: &mut Value| object["spec"]["scaling"] = json!({"maxReplicas": 2});
        let plans = run_on(&mut past, [after(seconds)], change, 2, |world| {
            for sidecar in sidecars(world).pods.values_mut() {
                let figures = sidecar.figures.as_mut().unwrap();
                (figures.at, figures.saturation_permille) = (after(seconds), saturation);
            }
        });
        said(&plans[0], ConditionType::AtCapacity)
    };
    let (room, full) = ((Some(Truth::False), Reason::WithinCapacity), (Some(Truth::True), Reason::ReplicasAtMaximum));
    assert_eq!(look(700, 0), room);
    assert_eq!(look(1000, 5), full, "at once");
    for seconds in (10..300).step_by(5) {
        assert_eq!(look(700, seconds), full);
    }
    assert_eq!(look(700, 305), room, "after the window for scaling down");
}

#[test]
fn a_busy_workload_grows_by_a_write_that_names_its_version() {
    let busy = |world: &mut World| {
        sidecars(world).pods.values_mut().for_each(|s| s.figures.as_mut().unwrap().saturation_permille = 1000);
    };
    let scale = run(4, busy).scale.unwrap();
    assert_eq!((scale.from, scale.version.as_str()), (4, "7"));
    assert!(scale.replicas > 4);
    let paused = run_with(|object| object["spec"]["scaling"] = json!({"pause": "All"}), 4, busy);
    assert_eq!((said(&paused, ConditionType::Scaling).1, paused.scale), (Reason::Paused, None));
    assert!(paused.figures.plan.unwrap().0 > 4);
}

#[test]
fn whoever_writes_scale_is_obeyed_inside_the_bounds() {
    let external = |replicas: i32, free: u32| {
        let change = move |object: &mut Value| {
            object["spec"]["scaling"] = json!({"mode": "External", "replicas": replicas, "maxReplicas": 20});
        };
        run_with(change, 3, move |world| sidecars(world).free = free).scale.map(|scale| scale.replicas)
    };
    assert_eq!(external(3, 61), None);
    assert_eq!(external(9, 61), Some(9));
    assert_eq!(external(90, 61), Some(20));
    assert_eq!(external(9, 2), Some(5), "three slots are held, and two are free");
    assert_eq!(external(0, 61), Some(1));
}

#[test]
fn whoever_writes_scale_gets_no_more_pods_while_the_slots_are_not_known() {
    let external = |replicas: i32, alter: fn(&mut World)| {
        let change = move |object: &mut Value| {
            object["spec"]["scaling"] = json!({"mode": "External", "replicas": replicas, "maxReplicas": 20});
        };
        let plan = run_with(change, 3, alter);
        assert_eq!(said(&plan, ConditionType::Scaling), (Some(Truth::True), Reason::External));
        plan.scale.map(|scale| scale.replicas)
    };
    for alter in [
        |world: &mut World| world.sidecars = None,
        |world: &mut World| {
            sidecars(world).fault = Some("the slot table can't be read".into());
        },
    ] {
        assert_eq!(external(9, alter), None);
        assert_eq!(external(3, alter), None);
        assert_eq!(external(2, alter), Some(2));
    }
}

#[test]
fn pods_that_give_way_are_the_next_to_go_and_marks_of_others_stay() {
    let plan = run(4, |world| {
        sidecars(world).free = 0;
        for (uid, seat) in [("p0", Seat::Yielded), ("p1", Seat::StandBy), ("p2", Seat::Yielded)] {
            sidecars(world).pods.get_mut(uid).unwrap().seat = seat;
        }
        Arc::make_mut(&mut world.pods[2]).deletion_cost = Some(77);
        Arc::make_mut(&mut world.pods[3]).deletion_cost = Some(-1000);
    });
    let costs: Vec<_> = plan.costs.iter().map(|cost| (cost.pod.as_str(), cost.cost)).collect();
    assert_eq!(costs, [("p0", Some(-1000)), ("p1", Some(-500)), ("p3", None)]);
}

#[test]
fn a_backlog_that_expires_is_told_and_figures_of_it_shown() {
    let backlog = |messages, per_minute| {
        let plan = run(2, move |world| world.platform = Some(platform(messages, per_minute, None)));
        let verdict = plan.verdicts.iter().find(|verdict| verdict.kind == ConditionType::BacklogExpiring).unwrap();
        (said(&plan, ConditionType::BacklogExpiring), verdict.message.clone(), plan.figures.backlog.unwrap())
    };
    let (in_time, too_slow) =
        ((Some(Truth::False), Reason::DrainsInTime), (Some(Truth::True), Reason::DrainsTooSlowly));
    // How fast it drains just now changes the words, not the verdict.
    for (per_minute, eta, words) in [
        (Some(12_000), Some(50_000), "takes about 14 hours"),
        (Some(60), Some(10_000_000), "takes about 116 days: see to it"),
        (Some(0), None, "is not being drained just now"),
        (None, None, "is not being drained just now"),
    ] {
        let (said, message, shown) = backlog(10_000_000, per_minute);
        assert_eq!((said, shown), (in_time, (10_000_000, eta)));
        assert!(message.contains(words), "{message}");
        let (said, message, _) = backlog(40_000_000, per_minute);
        assert_eq!(said, too_slow);
        assert!(message.contains("at 200/s, its best, that takes about 56 hours"), "{message}");
    }
    assert_eq!(backlog(0, None).1, "there is no backlog to speak of");
    assert!(backlog(100, Some(60)).1.ends_with("that takes less than an hour"));
}

/// What the platform says of the group, at the time of all tests.
fn platform(backlog: u64, backlog_per_minute: Option<u64>, clients: Option<u32>) -> PlatformGroup {
    let figures = PlatformFigures { at: AT, stale_at: after(60), backlog, backlog_per_minute };
    PlatformGroup { figures: Some(figures), clients, api: Evidence::Works, ..PlatformGroup::default() }
}

#[test]
fn figures_that_are_too_old_give_no_all_clear() {
    let mut past = Past::default();
    let alter = |world: &mut World| world.platform = Some(platform(40_000_000, None, None));
    let plans = run_on(&mut past, [59, 60, 90].map(after), |_| {}, 2, alter);
    let told: Vec<_> = plans.iter().map(|plan| said(plan, ConditionType::BacklogExpiring).0).collect();
    assert_eq!(told, [Some(Truth::True), None, Some(Truth::Unknown)]);
    assert!(plans[0].figures.backlog.is_some() && plans[1].figures.backlog.is_none());
    // Nobody has asked yet: what was said before counts. It was asked and does not answer: that is known.
    for (api, truth) in [(Evidence::Untried, None), (Evidence::Unreachable("no route".into()), Some(Truth::Unknown))] {
        let alter = |world: &mut World| world.platform = Some(PlatformGroup { api, ..PlatformGroup::default() });
        let plans = run_on(&mut Past::default(), [0, 40].map(after), |_| {}, 2, alter);
        assert_eq!(said(&plans[1], ConditionType::BacklogExpiring).0, truth);
    }
}

#[test]
fn clients_of_others_and_rollouts_that_have_stopped_are_told() {
    let told = |clients: u32, stale: bool| {
        let alter = |world: &mut World| {
            let mut group = platform(0, None, Some(clients));
            group.figures.as_mut().unwrap().stale_at = if stale { AT } else { after(600) };
            world.platform = Some(group);
        };
        run_on(&mut Past::default(), [0, 299, 300].map(after), |_| {}, 3, alter)
    };
    let plans = told(5, false);
    assert!(plans[0].advice.is_empty() && plans[1].advice.is_empty(), "the platform counts late");
    assert_eq!(plans[2].advice[0].reason, "ForeignClients");
    let message = &plans[2].advice[0].message;
    assert!(message.ends_with("(the platform counts 5 clients, and 3 client slots are held)"), "{message}");
    assert!(plans[2].verdicts[0].message.contains(message));
    assert!(told(3, false)[2].advice.is_empty() && told(5, true)[2].advice.is_empty());

    let plan = run(2, |world| sidecars(world).stuck = true);
    assert_eq!(plan.advice[0].reason, "RolloutStuck");
    assert!(plan.verdicts[0].message.contains("the rollout has stopped"));
}

#[test]
fn an_object_that_can_t_be_carried_out_says_why_and_does_nothing() {
    let object = fixtures::object(|_| {});
    let world = fixtures::world(&object, 2);
    let problem = |reason, words: &str| Problem { reason, words: words.into(), passing: false };
    let problems = vec![problem(Reason::EndpointNotAllowed, "one"), problem(Reason::Invalid, "two")];
    let plan = plan(&Err(problems), &world, &mut Past::default(), AT);
    assert_eq!(said(&plan, ConditionType::Ready), (Some(Truth::False), Reason::EndpointNotAllowed));
    assert_eq!(plan.verdicts[0].message, "one\ntwo");
    assert_eq!((plan.scale, plan.costs), (None, vec![]));
    assert_eq!((plan.keep, plan.figures.replicas), (Keep::Nothing, Some(2)));
    assert_eq!((plan.figures.slots, plan.figures.rate, plan.figures.sidecars), (None, None, None));
}

#[test]
fn what_may_pass_by_itself_leaves_what_the_sidecars_do_in_sight() {
    let object = fixtures::object(|_| {});
    let world = fixtures::world(&object, 2);
    let problem = Problem { reason: Reason::CaBundleInvalid, words: "no ConfigMap".into(), passing: true };
    let plan = plan(&Err(vec![problem]), &world, &mut Past::default(), AT);
    assert_eq!(said(&plan, ConditionType::Ready), (Some(Truth::False), Reason::CaBundleInvalid));
    assert_eq!((plan.keep, plan.figures.rate, plan.scale), (Keep::All, Some(100), None));
}

proptest! {
    /// Whatever the sidecars say: nothing is written outside the bounds, nothing shrinks without figures, and no pod of
    /// somebody else's marking is marked.
    #[test]
    fn writes_stay_inside_the_bounds(
        pods in 0..12_u32,
        free in 0..10_u32,
        reports in prop::collection::vec((0..5_u8, 0..1001_u32, any::<bool>()), 12),
        marked in prop::collection::vec(prop::option::of(-1001..100_i32), 12),
        bounds in (0..4_u32, 4..9_u32),
    ) {
        let change = |object: &mut Value| {
            object["spec"]["scaling"] = json!({"minReplicas": bounds.0, "maxReplicas": bounds.1});
        };
        let plan = run_with(change, pods, |world| {
            sidecars(world).free = free;
            for (index, (state, saturation, idle)) in reports.iter().take(pods as usize).enumerate() {
                Arc::make_mut(&mut world.pods[index]).deletion_cost = marked[index];
                let sidecar = sidecars(world).pods.get_mut(&format!("p{index}")).unwrap();
                sidecar.idle = *idle;
                sidecar.seat = [Seat::Holding, Seat::StandBy, Seat::Yielded, Seat::Away, Seat::Holding][usize::from(*state)];
                sidecar.figures = sidecar.figures.filter(|_| *state != 4);
                if let Some(figures) = &mut sidecar.figures {
                    figures.saturation_permille = *saturation;
                }
            }
        });
        if let Some(scale) = &plan.scale {
            let budget = (pods + free).max(1);
            prop_assert!(scale.replicas <= bounds.1.min(budget).max(bounds.0.min(budget)), "{scale:?}");
            prop_assert!(scale.replicas >= bounds.0.min(budget), "{scale:?}");
            let blind = reports.iter().take(pods as usize).any(|(state, ..)| *state == 4);
            prop_assert!(!blind || scale.replicas > scale.from || scale.from > bounds.1.min(budget), "{scale:?}");
        }
        for cost in &plan.costs {
            let index: usize = cost.pod[1..].parse().unwrap();
            prop_assert!(marked[index].is_none_or(|mark| [-1000, -500, -100].contains(&mark)));
            prop_assert!(marked[index] != cost.cost);
        }
    }
}
