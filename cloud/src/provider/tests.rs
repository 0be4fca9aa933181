//! The promises of a credential's life.

use proptest::prelude::*;

use super::*;

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn key(id: &str) -> AccessKey {
    AccessKey::try_new(id, "secret".into(), Some("token".into())).unwrap()
}

/// A life whose first lease was asked for at `at` and lasts an hour.
fn living(at: Duration) -> Life {
    let mut life = Life::new(7);
    let attempt = life.begin();
    life.succeeded(attempt, Lease::temporary(key("one"), at, s(3600)));
    life
}

#[test]
fn the_first_credential_is_fetched_at_once() {
    let mut life = Life::new(1);
    assert_eq!((life.state(s(5)), life.due()), (State::Empty, Some(s(0))));
    assert!(life.key(s(5)).is_none());
    let attempt = life.begin();
    assert_eq!((life.state(s(5)), life.due()), (State::Empty, None));
    life.succeeded(attempt, Lease::temporary(key("one"), s(4), s(3600)));
    assert_eq!(life.state(s(6)), State::Fresh);
    assert_eq!(life.key(s(6)).unwrap().id(), "one");
    assert_eq!(life.until(), Some(s(3604)));
}

#[test]
fn the_next_one_is_fetched_well_before_the_end_and_the_old_one_serves_meanwhile() {
    let mut life = living(s(0));
    let due = life.due().unwrap();
    assert!((s(3600 - 180 - 360)..=s(3600 - 180)).contains(&due), "{due:?}");
    assert_eq!(life.state(due), State::Stale);
    let attempt = life.begin();
    assert_eq!((life.state(due), life.key(due).unwrap().id()), (State::Refreshing, "one"));
    life.succeeded(attempt, Lease::temporary(key("two"), due, s(3600)));
    assert_eq!((life.state(due), life.key(due).unwrap().id()), (State::Fresh, "two"));
}

#[test]
fn failures_keep_their_words_and_the_old_one_until_it_ends() {
    let mut life = living(s(0));
    let attempt = life.begin();
    life.failed(attempt, ErrorClass::PermissionDenied, "NoPermission: you may not", s(3400));
    assert_eq!((life.state(s(3401)), life.key(s(3401)).unwrap().id()), (State::Stale, "one"));
    let failure = life.failure().unwrap();
    assert_eq!((failure.words.as_str(), failure.in_a_row), ("NoPermission: you may not", 1));
    assert!((s(3415)..=s(3430)).contains(&life.due().unwrap()));
    assert_eq!(life.state(s(3600)), State::Expired);
    assert!(life.key(s(3600)).is_none());
    let attempt = life.begin();
    assert_eq!(life.state(s(3600)), State::Expired);
    life.succeeded(attempt, Lease::temporary(key("two"), s(3600), s(3600)));
    assert_eq!((life.state(s(3601)), life.failure()), (State::Fresh, None));
}

#[test]
fn who_had_trouble_begins_earlier_the_next_time() {
    let mut life = living(s(0));
    for second in 0..3 {
        let attempt = life.begin();
        life.failed(attempt, ErrorClass::Unavailable, "no answer", s(3000 + second));
    }
    let attempt = life.begin();
    life.succeeded(attempt, Lease::temporary(key("two"), s(3010), s(3600)));
    let lead = life.until().unwrap().saturating_sub(life.due().unwrap());
    assert!((s(720)..=s(1080)).contains(&lead), "{lead:?}");
}

#[test]
fn a_short_lease_is_renewed_at_half_of_it() {
    let mut life = Life::new(3);
    let attempt = life.begin();
    life.succeeded(attempt, Lease::temporary(key("one"), s(100), s(10)));
    assert_eq!(life.due(), Some(s(105)));
    let attempt = life.begin();
    life.succeeded(attempt, Lease::temporary(key("one"), s(100), s(0)));
    // Even one that is over before it is here does not make for a call after the other.
    assert_eq!((life.due(), life.state(s(100))), (Some(s(101)), State::Expired));
}

#[test]
fn a_permanent_key_is_never_due() {
    let mut life = Life::new(3);
    let attempt = life.begin();
    life.succeeded(attempt, Lease::permanent(key("ever")));
    assert_eq!((life.due(), life.until(), life.state(s(1_000_000))), (None, None, State::Fresh));
    life.refused(&key("ever"), s(1));
    assert_eq!(life.due(), None);
}

#[test]
fn a_refused_key_is_replaced_at_once_and_only_if_it_is_the_present_one() {
    let mut life = living(s(0));
    let before = life.due();
    life.refused(&key("another"), s(10));
    assert_eq!(life.due(), before);
    life.refused(&key("one"), s(50));
    assert_eq!(life.due(), Some(s(50)));
    // One that is refused as soon as it is here makes no storm of calls.
    let attempt = life.begin();
    life.succeeded(attempt, Lease::temporary(key("one"), s(50), s(3600)));
    life.refused(&key("one"), s(51));
    assert_eq!(life.due(), Some(s(80)));
    let attempt = life.begin();
    life.failed(attempt, ErrorClass::Unavailable, "no answer", s(11));
    let pause = life.due();
    life.refused(&key("one"), s(11));
    assert_eq!(life.due(), pause, "a refusal does not shorten the pause after a failure");
}

#[test]
fn what_came_of_an_older_attempt_is_passed_over() {
    let mut life = living(s(0));
    let old = life.begin();
    life.renew(s(20));
    assert_eq!((life.due(), life.state(s(20))), (Some(s(20)), State::Stale));
    life.succeeded(old, Lease::temporary(key("old"), s(19), s(3600)));
    life.failed(old, ErrorClass::Credentials, "old", s(21));
    assert_eq!((life.key(s(22)).unwrap().id(), life.failure()), ("one", None));
    let new = life.begin();
    life.succeeded(new, Lease::temporary(key("new"), s(22), s(3600)));
    life.succeeded(new, Lease::temporary(key("twice"), s(22), s(3600)));
    assert_eq!(life.key(s(22)).unwrap().id(), "new");
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Succeed(u64),
    Fail(u8),
    Refuse,
    Renew,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_key_serves_beyond_its_end_and_an_attempt_is_always_due_or_under_way(
        seed in any::<u64>(),
        steps in proptest::collection::vec(prop_oneof![
            3 => (0u64..2000).prop_map(Step::Wait),
            2 => prop_oneof![Just(0), 2u64..5000].prop_map(Step::Succeed),
            2 => (0u8..6).prop_map(Step::Fail),
            1 => Just(Step::Refuse),
            1 => Just(Step::Renew),
        ], 0..60),
    ) {
        let mut life = Life::new(seed);
        let mut at = s(0);
        for step in steps {
            match step {
                Step::Wait(seconds) => at += s(seconds),
                Step::Succeed(lifetime) => {
                    let attempt = life.begin();
                    life.succeeded(attempt, Lease::temporary(key("k"), at, s(lifetime)));
                    let (due, until) = (life.due().unwrap(), life.until().unwrap());
                    prop_assert!(at + s(1) <= due && due <= until.max(at + s(1)));
                    prop_assert!(until.saturating_sub(due) >= LEAD.min(s(lifetime) / 2), "renewed too late");
                }
                Step::Fail(class) => {
                    use ErrorClass::{Credentials, Invalid, NotFound, PermissionDenied, Throttled, Unavailable};
                    let class = [Credentials, Invalid, NotFound, PermissionDenied, Throttled, Unavailable][usize::from(class)];
                    let attempt = life.begin();
                    life.failed(attempt, class, "words", at);
                    let pause = life.due().unwrap().saturating_sub(at);
                    prop_assert!((Duration::from_millis(500)..=s(300)).contains(&pause), "{:?}", pause);
                }
                Step::Refuse => life.refused(&key("k"), at),
                Step::Renew => life.renew(at),
            }
            prop_assert!(life.due().is_some());
            prop_assert_eq!(life.key(at).is_some(), life.until().is_some_and(|until| at < until));
            let serves = matches!(life.state(at), State::Fresh | State::Refreshing | State::Stale);
            prop_assert_eq!(life.key(at).is_some(), serves);
        }
    }
}
