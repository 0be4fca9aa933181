//! Many groups on one account, in made-up time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use proptest::prelude::*;
use sluice_cloud::pace::{Next, Outcome, Pace, Priority, Rate};

use super::*;

const CLASSES: [ErrorClass; 6] = [
    ErrorClass::Throttled,
    ErrorClass::Credentials,
    ErrorClass::PermissionDenied,
    ErrorClass::NotFound,
    ErrorClass::Invalid,
    ErrorClass::Unavailable,
];

/// What is to happen, in the order of time.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A group joins the line.
    Due(usize),
    /// The answer to a group's call is here.
    Answer(usize),
}

struct Told {
    /// The longest interval between two answers about one group.
    longest: Duration,
    /// Calls that were answered or throttled.
    /// For how long figures counted at most.
    lasted: Duration,
    calls: u32,
    answers: u32,
}

/// Polls `groups` for `span`; `throttled` says of each call whether it is. Panics if figures are stale when the next ones
/// come, unless the platform has slowed the account down in the meantime.
fn simulate(timing: &Timing, groups: usize, span: Duration, mut throttled: impl FnMut(u32) -> bool) -> Told {
    let mut pace: Pace<usize> = Pace::new(timing.rate);
    let mut cycles = vec![Cycle::new(Time(0)); groups];
    let mut figures: Vec<Option<Time>> = vec![None; groups];
    let mut events: BinaryHeap<Reverse<(Time, Event)>> =
        (0..groups).map(|n| Reverse((Time(0), Event::Due(n)))).collect();
    let mut tickets = HashMap::new();
    let mut again = vec![false; groups];
    let mut latest = Duration::ZERO;
    let calm = pace.interval();
    let mut slow: Option<Time> = None;
    let mut told = Told { longest: Duration::ZERO, lasted: Duration::ZERO, calls: 0, answers: 0 };
    let mut now = Time(0);
    while now.since(Time(0)) < span {
        let at = now.since(Time(0));
        let next = loop {
            match pace.next(at) {
                Next::Go(ticket) => {
                    let group = tickets.remove(&ticket).unwrap();
                    events.push(Reverse((now + Duration::from_millis(80), Event::Answer(group))));
                }
                Next::At(next) => break Some(Time(0) + next + Duration::from_millis(1)),
                Next::Idle => break None,
            }
        };
        let happens = events.peek().map(|Reverse((at, _))| *at);
        now = next.into_iter().chain(happens).min().unwrap().max(now);
        while events.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Reverse((_, event)) = events.pop().unwrap();
            match event {
                Event::Due(group) => {
                    let priority = if again[group] { Priority::Interactive } else { Priority::Background };
                    tickets.insert(pace.queue(group, priority), group);
                }
                Event::Answer(group) => {
                    told.calls += 1;
                    slow = if pace.interval() > calm { Some(now) } else { slow };
                    let cycle = &mut cycles[group];
                    again[group] = throttled(told.calls);
                    if again[group] {
                        pace.report(Outcome::Throttled, now.since(Time(0)));
                        cycle.throttled(now);
                    } else {
                        told.answers += 1;
                        let expected = expected(timing, pace.waiting(), pace.interval());
                        if let Some(figures) = figures[group] {
                            let stale =
                                stale_at(timing, figures, [expected, latest].into_iter().chain(cycle.interval()));
                            told.lasted = told.lasted.max(stale.since(figures));
                            let slowed = slow.is_some_and(|slow| slow >= figures);
                            assert!(
                                now < stale || slowed,
                                "figures of {figures} were stale at {stale} when new ones came at {now}"
                            );
                        }
                        pace.report(Outcome::Answered, now.since(Time(0)));
                        figures[group] = Some(now);
                        let measured = cycle.answered.is_some();
                        cycle.answered(now, timing);
                        if measured {
                            latest = cycle.interval().unwrap();
                            told.longest = told.longest.max(latest);
                            assert!(latest >= timing.every, "{latest:?}");
                        }
                    }
                    events.push(Reverse((cycle.due(), Event::Due(group))));
                }
            }
        }
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn nobodys_figures_are_stale_while_answers_come(
        groups in 1usize..300, pace_ms in 100u64..1_500, burst in 1u32..4, share in 0u32..50, seed in any::<u64>(),
    ) {
        let rate = Rate::try_new(Duration::from_millis(pace_ms), burst).unwrap();
        let timing = Timing { rate, ..Timing::default() };
        let mut bits = seed | 1;
        // Some calls are throttled, all over the time.
        let told = simulate(&timing, groups, Duration::from_secs(3_000), |_| {
            bits ^= bits << 13;
            bits ^= bits >> 7;
            bits ^= bits << 17;
            bits % 100 < u64::from(share)
        });
        prop_assert!(told.answers > 0 && told.calls >= told.answers);
    }

    #[test]
    fn throttling_stretches_the_cycle_and_figures_last_longer(groups in 1usize..300) {
        let timing = Timing::default();
        let span = Duration::from_secs(3_000);
        let calm = simulate(&timing, groups, span, |_| false);
        // One call in twelve: about what the pace makes good again in the meantime.
        let busy = simulate(&timing, groups, span, |call| call % 12 == 0);
        prop_assert!(busy.longest > calm.longest, "{:?} and {:?}", busy.longest, calm.longest);
        // A minute is the least, which is what a short line gets in any case.
        prop_assert!(busy.lasted > calm.lasted || (groups < 60 && busy.lasted == calm.lasted));
        prop_assert!(busy.answers < calm.answers);
    }

    #[test]
    fn figures_last_a_minute_and_three_rounds_at_least(
        at in 0u64..1_000_000, own in prop::option::of(0u64..600_000), waiting in 0usize..5_000, pace_ms in 1u64..60_000,
    ) {
        let timing = Timing::default();
        let own = own.map(Duration::from_millis);
        let expected = expected(&timing, waiting, Duration::from_millis(pace_ms));
        let lasts = stale_at(&timing, Time(at), own.into_iter().chain([expected])).since(Time(at));
        prop_assert!(lasts >= timing.fresh && lasts >= expected * 3 && own.is_none_or(|own| lasts >= own * 3));
        prop_assert!(lasts == timing.fresh || lasts == expected * 3 || own.is_some_and(|own| lasts == own * 3));
    }

    #[test]
    fn pauses_grow_and_stay_within_bounds(class in prop::sample::select(&CLASSES[..]), failures in 1u32..1_000, chance in 0.0..1.0) {
        let timing = Timing::default();
        let this = pause(class, failures, &timing, chance);
        let most = if class.is_transient() { timing.retry_at_most } else { timing.probe };
        prop_assert!(this >= timing.retry.mul_f64(0.79) && this <= most, "{this:?}");
        prop_assert!(pause(class, failures + 1, &timing, chance) >= this);
    }
}

#[test]
fn an_outage_is_no_interval() {
    let timing = Timing::default();
    let mut cycle = Cycle::new(Time(0));
    for second in [0, 10, 20] {
        cycle.answered(Time(second * 1_000), &timing);
    }
    assert_eq!(cycle.interval(), Some(Duration::from_secs(10)));
    cycle.failed(Time(30_000), ErrorClass::Unavailable, &timing, 1.0);
    assert_eq!((cycle.due(), cycle.failures()), (Time(40_000), 1));
    cycle.answered(Time(900_000), &timing);
    assert_eq!(cycle.interval(), Some(Duration::from_secs(10)), "nobody polled at intervals of 880 s");
    cycle.answered(Time(912_000), &timing);
    assert_eq!((cycle.interval(), cycle.failures()), (Some(Duration::from_secs(12)), 0));
}

#[test]
fn what_has_changed_is_tried_at_once() {
    let timing = Timing::default();
    let mut cycle = Cycle::new(Time(0));
    cycle.failed(Time(0), ErrorClass::Credentials, &timing, 1.0);
    assert_eq!(cycle.due(), Time(300_000));
    cycle.now(Time(5_000));
    assert_eq!((cycle.due(), cycle.failures()), (Time(5_000), 0));
}
