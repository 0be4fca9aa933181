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
    )
        .prop_map(|(after, replicas, slots, pods, platform)| Moment { after, replicas, slots, pods, platform })
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
        for moment in moments {
            now = now + Duration::from_millis(moment.after);
            replicas = moment.replicas.unwrap_or(replicas);
            let pods: Vec<_> = moment
                .pods
                .iter()
                .map(|pod| pod.map(|pod| PodFigures { at: Time(now.0 - pod.at.0), ..pod }))
                .collect();
            let nobody_up = !pods.iter().flatten().any(|pod| pod.up);
            let silent = nobody_up || pods.iter().any(|pod| pod.is_none_or(|pod| now.since(pod.at) > FRESH));
            let platform = moment.platform.map(|(age, backlog, backlog_per_minute)| PlatformFigures {
                at: Time(now.0 - age),
                stale_at: Time(now.0 - age + 60_000),
                backlog,
                backlog_per_minute,
            });
            let situation = Situation { replicas, slots: moment.slots, pods, platform };
            let decision = decide(now, &policy, &situation, &mut history);

            let budget = moment.slots.map_or(u32::MAX, |slots| (slots / connections).max(1));
            let (low, high) = (policy.min_replicas.min(budget), policy.max_replicas.min(budget));
            prop_assert!((low..=high).contains(&decision.replicas), "{decision:?} outside {low}..={high}");
            prop_assert!(!decision.reason.is_empty());
            if silent && replicas > 0 {
                prop_assert!(decision.blind);
                prop_assert!(decision.replicas >= replicas.min(high), "down without figures: {decision:?}");
                prop_assert!(decision.replicas <= replicas.max(low), "up without figures: {decision:?}");
            }
            if decision.replicas == 0 && replicas > 0 {
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
