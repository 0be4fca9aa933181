//! What holds whatever the figures are.

use proptest::prelude::*;

use super::tests::policy;
use super::*;

fn pod() -> impl Strategy<Value = Option<PodFigures>> {
    prop::option::weighted(
        0.9,
        (0_u64..40_000, any::<bool>(), 0_u32..=1200, 0_u32..2000, 0_u32..2000).prop_map(
            |(age, up, saturation_permille, accepted_per_second, received_per_second)| PodFigures {
                // An age, until the test knows the time.
                at: Time(age),
                up,
                saturation_permille,
                accepted_per_second,
                received_per_second,
            },
        ),
    )
}

#[derive(Debug, Clone)]
struct Moment {
    after: u64,
    replicas: Option<u32>,
    slots: Option<u32>,
    pods: Vec<Option<PodFigures>>,
    platform: Option<(u64, u64, Option<u64>)>,
    asked: Option<u32>,
}

fn moment() -> impl Strategy<Value = Moment> {
    (
        0_u64..400_000,
        prop::option::weighted(0.1, 0_u32..80),
        prop::option::weighted(0.9, 0_u32..=128),
        prop::collection::vec(pod(), 0..12),
        prop::option::weighted(
            0.8,
            (0_u64..120_000, prop_oneof![Just(0), 1_u64..100_000_000], prop::option::of(0_u64..12_000)),
        ),
        prop::option::weighted(0.2, 0_u32..80),
    )
        .prop_map(|(after, replicas, slots, pods, platform, asked)| Moment {
            after,
            replicas,
            slots,
            pods,
            platform,
            asked,
        })
}

proptest! {
    #[test]
    fn bounds_and_caution_hold_in_every_history(
        min in 0_u32..5,
        spare in 0_u32..70,
        connections in 1_u32..4,
        pause in prop_oneof![Just(Pause::None), Just(Pause::ScaleDown), Just(Pause::All)],
        moments in prop::collection::vec(moment(), 1..40),
    ) {
        let policy = Policy {
            min_replicas: min,
            max_replicas: (min + spare).max(1),
            connections_per_pod: connections,
            pause,
            ..policy()
        };
        let mut history = History::default();
        let mut now = Time(10_000_000);
        let mut replicas = 1_u32;
        let mut membership = None;
        for moment in moments {
            now = now + Duration::from_millis(moment.after);
            replicas = moment.replicas.unwrap_or(replicas);
            let pods: Vec<_> = moment
                .pods
                .iter()
                .map(|pod| pod.map(|pod| PodFigures { at: Time(now.0 - pod.at.0), ..pod }))
                .collect();
            let fresh = pods.iter().flatten().filter(|pod| now.since(pod.at) <= FRESH);
            let up = fresh.filter(|pod| pod.up).count();
            let silent = pods.iter().any(|pod| pod.is_none_or(|pod| now.since(pod.at) > FRESH));
            if membership.is_none_or(|(_, known)| known != up) {
                membership = Some((now, up));
            }
            let platform = moment.platform.map(|(age, backlog, backlog_per_minute)| PlatformFigures {
                at: Time(now.0 - age),
                stale_at: Time(now.0 - age + 60_000),
                backlog,
                backlog_per_minute,
            });
            let situation = Situation { replicas, slots: moment.slots, pods, platform, asked: moment.asked };
            let decision = decide(now, &policy, &situation, &mut history);

            let budget = moment.slots.map_or(replicas, |slots| (slots / connections).max(1));
            let (low, high) = (policy.min_replicas.min(budget), policy.max_replicas.min(budget));
            // More than the slots allow there may be for a while, but never is one added.
            let most = high.max(replicas.min(policy.max_replicas));
            prop_assert!((low..=most).contains(&decision.replicas), "{decision:?} outside {low}..={most}");
            prop_assert!(!decision.reason.is_empty());
            let blind = moment.slots.is_none() || (up == 0 && replicas > 0);
            if let Some(asked) = moment.asked {
                let obeyed = asked.clamp(policy.min_replicas, policy.max_replicas);
                prop_assert!(decision.replicas <= obeyed && decision.replicas >= obeyed.min(high), "{decision:?}");
            } else {
                prop_assert!(!blind || decision.blind, "{decision:?}");
                if blind {
                    prop_assert!(decision.replicas <= replicas.max(low), "up without figures: {decision:?}");
                }
                if replicas > 0 && (blind || silent) {
                    prop_assert!(decision.replicas >= replicas.min(high), "down without figures: {decision:?}");
                }
                if decision.replicas < replicas.min(policy.max_replicas) {
                    let stable = membership.is_some_and(|(since, _)| now.since(since) >= policy.settle);
                    prop_assert!(stable, "down while membership changes: {decision:?}");
                }
            }
            if decision.replicas == 0 && replicas > 0 && moment.asked.is_none() {
                prop_assert!(platform.is_some_and(|figures| now < figures.stale_at), "asleep without anybody to wake it");
            }
            match pause {
                Pause::All => prop_assert!(!decision.write),
                Pause::ScaleDown => prop_assert!(!decision.write || decision.replicas > replicas),
                Pause::None => prop_assert_eq!(decision.write, decision.replicas != replicas),
            }
            if decision.write {
                replicas = decision.replicas;
            }
        }
    }
}
