//! When the authority is made, when its successor is, and when that one takes over. Pure: times in, a decision out.

use jiff::{SignedDuration, Timestamp};

use super::authority::Validity;

const DAY: SignedDuration = SignedDuration::from_hours(24);

/// When so much of an authority's time is left, its successor is made.
pub const PREPARE: SignedDuration = SignedDuration::from_hours(2 * 365 * 24);
/// A successor is trusted for so long before it signs: pods that are younger know it.
pub const TRUSTED_FIRST: SignedDuration = SignedDuration::from_hours(365 * 24);
/// When so much is left, a successor signs however young it is. More than the life of what it signs.
pub const LAST_MOMENT: SignedDuration = SignedDuration::from_hours(60 * 24);

/// The times of what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Of the authority that signs.
    pub signing: Validity,
    /// Of its successor.
    pub next: Option<Validity>,
    /// Of its predecessor.
    pub previous: Option<Validity>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Keep,
    /// Make an authority: there is none, or none that counts any more.
    Create,
    /// Make a successor, which is trusted and does not sign yet.
    Prepare,
    /// The successor signs from now on; the one that did is trusted until it ends.
    Promote,
    /// Forget the predecessor, whose time is over.
    Forget,
    /// Nothing, and say that the clock can't be right: what is kept begins in the future. Whoever rotates by a wrong clock
    /// breaks the trust of every pod.
    DistrustClock,
}

/// Decides, one step at a time.
pub fn plan(now: Timestamp, kept: Option<&Kept>) -> Action {
    let Some(kept) = kept else { return Action::Create };
    if now + DAY < kept.signing.not_before {
        return Action::DistrustClock;
    }
    let left = kept.signing.not_after.duration_since(now);
    match kept.next {
        Some(next) if next.not_after <= now => Action::Create,
        Some(next) if left <= LAST_MOMENT || now.duration_since(next.not_before) >= TRUSTED_FIRST => Action::Promote,
        None if left <= SignedDuration::ZERO => Action::Create,
        None if left <= PREPARE => Action::Prepare,
        _ if kept.previous.is_some_and(|previous| previous.not_after <= now) => Action::Forget,
        _ => Action::Keep,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::certificates::authority::AUTHORITY_LIFE;

    const START: Timestamp = Timestamp::constant(1_800_000_000, 0);

    fn days(days: i64) -> SignedDuration {
        DAY * i32::try_from(days).unwrap()
    }

    fn from(moment: Timestamp) -> Validity {
        Validity { not_before: moment, not_after: moment + AUTHORITY_LIFE }
    }

    fn alone() -> Kept {
        Kept { signing: from(START), next: None, previous: None }
    }

    #[test]
    fn the_life_of_an_authority() {
        assert_eq!(plan(START, None), Action::Create);
        assert_eq!(plan(START, Some(&alone())), Action::Keep);
        assert_eq!(plan(START + days(8 * 365 - 1), Some(&alone())), Action::Keep);
        assert_eq!(plan(START + days(8 * 365), Some(&alone())), Action::Prepare);
        let prepared = Kept { next: Some(from(START + days(8 * 365))), ..alone() };
        assert_eq!(plan(START + days(8 * 365), Some(&prepared)), Action::Keep);
        assert_eq!(plan(START + days(9 * 365 - 1), Some(&prepared)), Action::Keep);
        assert_eq!(plan(START + days(9 * 365), Some(&prepared)), Action::Promote);
        let promoted = Kept { signing: from(START + days(8 * 365)), next: None, previous: Some(from(START)) };
        assert_eq!(plan(START + days(9 * 365), Some(&promoted)), Action::Keep);
        assert_eq!(plan(START + days(10 * 365), Some(&promoted)), Action::Forget);
    }

    #[test]
    fn an_operator_that_was_away_makes_the_best_of_what_is_left() {
        let late = START + days(10 * 365 - 59);
        assert_eq!(plan(late, Some(&alone())), Action::Prepare);
        assert_eq!(plan(late, Some(&Kept { next: Some(from(late)), ..alone() })), Action::Promote);
        let over = START + days(10 * 365);
        assert_eq!(plan(over, Some(&alone())), Action::Create);
        assert_eq!(plan(over, Some(&Kept { next: Some(from(START + days(3000))), ..alone() })), Action::Promote);
    }

    #[test]
    fn a_clock_that_must_be_wrong_changes_nothing() {
        assert_eq!(plan(START - days(2), Some(&alone())), Action::DistrustClock);
        assert_eq!(plan(Timestamp::UNIX_EPOCH, Some(&alone())), Action::DistrustClock);
    }

    /// What is kept after the step.
    fn after(action: Action, now: Timestamp, kept: Option<Kept>) -> Option<Kept> {
        match (action, kept) {
            (Action::Create, _) => Some(Kept { signing: from(now), next: None, previous: None }),
            (Action::Prepare, Some(kept)) => Some(Kept { next: Some(from(now)), ..kept }),
            (Action::Promote, Some(Kept { signing, next: Some(next), .. })) => {
                Some(Kept { signing: next, next: None, previous: Some(signing) })
            }
            (Action::Forget, Some(kept)) => Some(Kept { previous: None, ..kept }),
            (_, kept) => kept,
        }
    }

    proptest! {
        /// The operator runs now and then over some decades, and at least once a month.
        #[test]
        fn who_signs_is_always_valid_and_has_been_trusted_for_a_year(steps in prop::collection::vec(1_i64..30, 100..1000)) {
            let mut now = START;
            let mut kept = None;
            let mut bundle_since: Vec<(Timestamp, Timestamp)> = Vec::new();
            for step in steps {
                now += days(step);
                loop {
                    let action = plan(now, kept.as_ref());
                    prop_assert_ne!(action, Action::DistrustClock);
                    prop_assert!(action != Action::Create || kept.is_none(), "never anew while it runs");
                    kept = after(action, now, kept);
                    let Some(kept) = kept else { unreachable!() };
                    for trusted in [Some(kept.signing), kept.next].into_iter().flatten() {
                        if bundle_since.iter().all(|(authority, _)| *authority != trusted.not_before) {
                            bundle_since.push((trusted.not_before, now));
                        }
                    }
                    if action == Action::Promote {
                        let (_, since) = bundle_since.iter().find(|(it, _)| *it == kept.signing.not_before).unwrap();
                        prop_assert!(now.duration_since(*since) >= TRUSTED_FIRST);
                    }
                    if action == Action::Keep {
                        break;
                    }
                }
                let signing = kept.unwrap().signing;
                prop_assert!(signing.not_before <= now && now + LAST_MOMENT < signing.not_after);
            }
        }

        /// Whatever is found, a few steps lead to rest.
        #[test]
        fn every_state_comes_to_rest(
            now in 0_i64..20_000, signing in 0_i64..20_000,
            next in prop::option::of(0_i64..20_000), previous in prop::option::of(0_i64..20_000),
        ) {
            let at = |day| from(START + days(day));
            let now = START + days(now);
            let mut kept = Some(Kept { signing: at(signing), next: next.map(at), previous: previous.map(at) });
            for _ in 0..6 {
                kept = after(plan(now, kept.as_ref()), now, kept);
            }
            prop_assert!(matches!(plan(now, kept.as_ref()), Action::Keep | Action::DistrustClock));
        }
    }
}
