//! The promises of the pace: the rate is never exceeded, throttling slows it, and nobody waits for ever.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::Priority::{Background, Interactive};
use super::*;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Lets everybody go who waits, from `at` on, without anybody throttling; the tickets with their times.
fn run<C: Ord + Clone>(pace: &mut Pace<C>, mut at: Duration) -> Vec<(Ticket, Duration)> {
    let mut went = Vec::new();
    loop {
        match pace.next(at) {
            Next::Go(ticket) => went.push((ticket, at)),
            Next::At(later) => at = later,
            Next::Idle => return went,
        }
    }
}

#[test]
fn calls_go_out_at_the_rate_after_a_burst() {
    let mut pace = Pace::new(Rate::default());
    for _ in 0..5 {
        pace.queue("a", Background);
    }
    let times: Vec<_> = run(&mut pace, ms(10_000)).into_iter().map(|(_, at)| at).collect();
    assert_eq!(times, [10_000, 10_000, 10_500, 11_000, 11_500].map(ms));
}

#[test]
fn throttling_halves_the_rate_once_for_what_was_under_way_together() {
    let mut pace = Pace::new(Rate::default());
    for _ in 0..3 {
        pace.queue("a", Background);
    }
    assert!(matches!(pace.next(ms(0)), Next::Go(_)));
    assert!(matches!(pace.next(ms(0)), Next::Go(_)));
    pace.report(Outcome::Throttled, ms(100));
    pace.report(Outcome::Throttled, ms(110));
    assert_eq!((pace.interval(), pace.is_slowed()), (ms(1000), true));
    assert_eq!(pace.next(ms(120)), Next::At(ms(1110)));
    assert!(matches!(pace.next(ms(1110)), Next::Go(_)));
    pace.report(Outcome::Throttled, ms(1200));
    assert_eq!(pace.interval(), ms(2000));
    pace.report(Outcome::Unknown, ms(1300));
    assert_eq!(pace.interval(), ms(2000));
}

#[test]
fn the_rate_recovers_slowly_and_fully() {
    let mut pace = Pace::<()>::new(Rate::default());
    for second in 0..1000 {
        pace.report(Outcome::Throttled, Duration::from_secs(second * 100));
    }
    assert_eq!(pace.interval(), Duration::from_secs(60));
    let mut calls = 0;
    while pace.is_slowed() {
        pace.report(Outcome::Answered, ms(0));
        calls += 1;
    }
    assert_eq!(pace.interval(), ms(500));
    assert!((60..100).contains(&calls), "{calls}");
}

#[test]
fn callers_take_turns_and_each_keeps_its_order() {
    let mut pace = Pace::new(Rate::default());
    let a: Vec<_> = (0..3).map(|_| pace.queue("a", Background)).collect();
    let b = pace.queue("b", Background);
    let c = pace.queue("c", Background);
    let went: Vec<_> = run(&mut pace, ms(0)).into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(went, [a[0], b, c, a[1], a[2]]);
}

#[test]
fn checks_go_before_polls_but_polls_are_not_starved() {
    let mut pace = Pace::new(Rate::default());
    let polls: Vec<_> = (0..2).map(|_| pace.queue("poller", Background)).collect();
    let checks: Vec<_> = (0..7).map(|_| pace.queue("check", Interactive)).collect();
    let went: Vec<_> = run(&mut pace, ms(0)).into_iter().map(|(ticket, _)| ticket).collect();
    assert_eq!(went[..3], checks[..3]);
    assert_eq!(went[3], polls[0]);
    assert_eq!(went[4..7], checks[3..6]);
    assert_eq!(went[7], polls[1]);
    assert_eq!(went[8], checks[6]);
}

#[test]
fn who_left_the_queue_is_not_called() {
    let mut pace = Pace::new(Rate::default());
    let (a, b) = (pace.queue("a", Background), pace.queue("b", Interactive));
    pace.cancel(b);
    pace.cancel(b);
    assert_eq!(pace.waiting(), 1);
    assert_eq!(run(&mut pace, ms(0)), [(a, ms(0))]);
    assert_eq!(pace.next(ms(0)), Next::Idle);
}

#[test]
fn a_rate_has_bounds() {
    for (interval, burst) in [(ms(0), 1), (ms(60_001), 1), (ms(500), 0)] {
        assert!(Rate::try_new(interval, burst).is_err());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Queue(u8, bool),
    Cancel(usize),
    Wait(u64),
    Report(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u8..4, any::<bool>()).prop_map(|(caller, soon)| Step::Queue(caller, soon)),
        1 => any::<usize>().prop_map(Step::Cancel),
        3 => (0u64..1500).prop_map(Step::Wait),
        1 => (0u8..6).prop_map(Step::Report),
    ];
    proptest::collection::vec(step, 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_rate_holds_in_every_window_and_each_ticket_goes_once(
        steps in steps(), interval in 1u64..1000, burst in 1u32..4,
    ) {
        let rate = Rate::try_new(ms(interval), burst).unwrap();
        let mut pace = Pace::new(rate);
        let mut at = ms(0);
        let mut open = BTreeSet::new();
        let mut went = Vec::new();
        let mut tickets = Vec::new();
        for step in steps {
            match step {
                Step::Queue(caller, soon) => {
                    let ticket = pace.queue(caller, if soon { Interactive } else { Background });
                    prop_assert!(open.insert(ticket));
                    tickets.push(ticket);
                }
                Step::Cancel(index) if !tickets.is_empty() => {
                    let ticket = tickets[index % tickets.len()];
                    pace.cancel(ticket);
                    open.remove(&ticket);
                }
                Step::Wait(more) => at += ms(more),
                Step::Report(0) => {
                    pace.report(Outcome::Throttled, at);
                    prop_assert!(pace.is_slowed());
                    // Nobody goes right after that.
                    prop_assert!(!matches!(pace.next(at), Next::Go(_)));
                }
                Step::Report(1) => pace.report(Outcome::Unknown, at),
                Step::Report(_) => pace.report(Outcome::Answered, at),
                Step::Cancel(_) => {}
            }
            while let Next::Go(ticket) = pace.next(at) {
                prop_assert!(open.remove(&ticket), "it went twice, or after it was cancelled");
                went.push(at);
            }
            prop_assert_eq!(pace.waiting(), open.len());
            prop_assert!(pace.interval() >= ms(interval));
        }
        for (first, start) in went.iter().enumerate() {
            for (last, end) in went.iter().enumerate().skip(first) {
                let window = end.saturating_sub(*start).as_millis();
                let allowed = u128::from(burst) + window / u128::from(interval);
                prop_assert!((last - first + 1) as u128 <= allowed, "{} calls in {window} ms", last - first + 1);
            }
        }
        let rest: BTreeSet<_> = run(&mut pace, at).into_iter().map(|(ticket, _)| ticket).collect();
        prop_assert_eq!(rest, open);
    }

    #[test]
    fn nobody_waits_longer_than_the_others_make_necessary(others in 0usize..20, busy in 0usize..60) {
        let mut pace = Pace::new(Rate::default());
        for _ in 0..busy {
            pace.queue(usize::MAX, Interactive);
        }
        for other in 0..others {
            for _ in 0..10 {
                pace.queue(other, Background);
            }
        }
        let mine = pace.queue(usize::MAX - 1, Background);
        let went = run(&mut pace, ms(0));
        let place = went.iter().position(|(ticket, _)| *ticket == mine).unwrap();
        // One of each other caller goes before, and three interactive ones before each of those.
        prop_assert!(place < (others + 1) * SHARE as usize, "{place}");
    }
}
