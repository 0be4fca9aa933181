use proptest::prelude::*;

use super::*;

/// Any grant, with all the share that it could want.
const ANY: (Epoch, u32) = (Epoch(1), u32::MAX);

fn ready(at: Time) -> Log {
    let mut log = Log::new(Time(0));
    log.since = Time(at.0.saturating_sub(65_001));
    log
}

#[test]
fn those_refused_are_sent_to_different_moments() {
    let start = Time(100_000);
    let mut log = ready(start);
    for n in 0..3 {
        assert_eq!(log.issue(Time(start.0 + n * 1_000), (3, 0), ANY), Ok(()));
    }
    let now = Time(start.0 + 10_000);
    let later: Vec<u64> = (0..3).map(|_| now.0 + millis(log.issue(now, (3, 0), ANY).unwrap_err().1)).collect();
    assert_eq!(later, [165_001, 166_001, 167_001]);
    assert_eq!(log.issue(Time(165_000), (3, 0), ANY).unwrap_err().0, Full::UsedUp);
    assert_eq!(log.issue(Time(165_001), (3, 0), ANY), Ok(()));
}

#[test]
fn what_is_reserved_is_not_issued() {
    let mut log = ready(Time(100_000));
    assert_eq!(log.issue(Time(100_000), (3, 2), ANY), Ok(()));
    assert_eq!(log.issue(Time(100_000), (3, 2), ANY).unwrap_err().0, Full::Reserved);
    log.keep(Time(100_000), 1);
    assert_eq!(log.issue(Time(100_000), (3, 1), ANY).unwrap_err().0, Full::Reserved);
    assert_eq!(log.issue(Time(165_001), (3, 2), ANY), Ok(()));
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap()
}

proptest! {
    #[test]
    fn no_span_gets_more_than_the_limit_less_what_is_reserved(
        limit in 1_u32..20,
        steps in prop::collection::vec((0_u64..20_000, 0_u32..10, 0_u32..3), 1..300),
    ) {
        let mut log = Log::new(Time(0));
        let mut at = Time(0);
        let mut issued: Vec<(Time, u32)> = Vec::new();
        let mut kept: Vec<(Time, u32)> = Vec::new();
        for (ms, reserved, keep) in steps {
            at = Time(at.0 + ms);
            if keep > 0 && ms % 7 == 0 {
                log.keep(at, keep);
                kept.push((at, keep));
            }
            match log.issue(at, (limit, reserved), ANY) {
                Ok(()) => {
                    prop_assert!(at > Time(0) + SPAN);
                    let leftovers: u32 = kept.iter().filter(|(since, _)| at.since(*since) <= SPAN).map(|(_, share)| *share).sum();
                    issued.push((at, reserved + leftovers));
                    let within = issued.iter().filter(|(then, _)| at.since(*then) <= SPAN).count();
                    prop_assert!(u32::try_from(within).unwrap() + reserved + leftovers <= limit);
                }
                Err((_, retry_after)) => prop_assert!(!retry_after.is_zero() && retry_after <= SPAN + Duration::from_millis(1)),
            }
        }
    }

    #[test]
    fn whoever_asks_when_told_gets_one_in_the_end(limit in 1_u32..20, callers in 1_usize..60) {
        let mut log = Log::new(Time(0));
        let mut waiting: Vec<u64> = vec![0; callers];
        let mut turns = 0;
        while let Some((place, at)) = waiting.iter().copied().enumerate().min_by_key(|(_, at)| *at) {
            match log.issue(Time(at), (limit, 0), ANY) {
                Ok(()) => {
                    waiting.swap_remove(place);
                }
                Err((_, retry_after)) => waiting[place] = at + millis(retry_after),
            }
            turns += 1;
            prop_assert!(turns < callers * callers + 200, "they ask for ever");
        }
    }
}

#[test]
fn one_grant_can_not_use_up_what_others_want() {
    let at = Time(100_000);
    let mut log = ready(at);
    let (greedy, other) = ((Epoch(1), 3), (Epoch(2), 3));
    for _ in 0..5 {
        assert_eq!(log.issue(at, (10, 0), greedy), Ok(()), "nobody else wants any yet");
    }
    assert_eq!(log.issue(at, (10, 0), greedy).unwrap_err().0, Full::Share);
    for _ in 0..3 {
        assert_eq!(log.issue(at, (10, 0), other), Ok(()));
    }
    assert_eq!(log.issue(Time(165_001), (10, 0), greedy), Ok(()));
}
