//! The sidecar on its own: what it may do about lost links while no broker is heard. Pure.
//!
//! A sidecar is *alone* once it has heard nothing for [`ALONE_AFTER`]. Then it may make as many attempts in any
//! [`COUNTED_FOR`] as its grant says, with the last user name and password that were signed for the slot by that grant, for
//! as long as these can be used. An attempt reaches the platform up to [`LAPSE`] after it was entered here, so what is to
//! fit into the platform's minute is counted over a minute and that.
//!
//! The broker keeps that share back for every grant whose sidecar might be alone, by the same constants as stand here; so
//! whoever changes one of them changes it there too. One more rule is its owner's to keep: while a `Hello` has been said on
//! a stream that has not ended, no attempt is made, since it says how things were before.
//!
//! Attempts made alone are remembered over restarts of the process: write [`Alone::remembered`] down before an attempt is
//! made. After a restart they count as made at its very moment, since nothing tells how long ago they were.

use std::collections::BTreeMap;
use std::time::Duration;

use super::requests::LAPSE;
use super::seat::Grant;
use super::time::Time;

/// A sidecar that has heard nothing from the broker for so long is alone.
pub const ALONE_AFTER: Duration = Duration::from_secs(90);

/// The span in which the platform counts attempts (`PLATFORM.md 1.8`).
pub const SPAN: Duration = Duration::from_secs(60);

/// An attempt made alone counts for so long, and the broker is told of it for so long: the span, and the time that the
/// attempt may take to reach the platform.
pub const COUNTED_FOR: Duration = SPAN.saturating_add(LAPSE);

/// When the next attempt of a slot's own may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Next {
    /// Then, or now if that is past.
    At(Time),
    /// Not before the broker is heard again: the grant allows none, or there is no pair that could be used.
    Never,
}

/// See the module's description.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Alone {
    /// When the last message of a broker came, or the process began.
    heard: Time,
    /// The present grant's epoch; 0 before the first.
    epoch: u64,
    /// Attempts in any [`COUNTED_FOR`] that it allows.
    share: u32,
    /// Those of the last [`COUNTED_FOR`], oldest first, with their slots.
    attempts: Vec<(Time, u32)>,
    /// The slots for which there is a pair of the present grant, and until when it can be used.
    pairs: BTreeMap<u32, Time>,
}

impl Alone {
    /// As the process begins, with the slots of the attempts that its predecessors remembered.
    pub fn new(at: Time, remembered: &[u32]) -> Self {
        let attempts = remembered.iter().map(|slot| (at, *slot)).collect();
        Self { heard: at, epoch: 0, share: 0, attempts, pairs: BTreeMap::new() }
    }

    /// A message of the broker has come, whatever it was.
    pub fn heard(&mut self, at: Time) {
        self.heard = at;
    }

    /// The grant that is in use. What was signed under another one is forgotten: it may name another group of the platform.
    pub fn granted(&mut self, grant: &Grant) {
        if self.epoch != grant.epoch {
            self.epoch = grant.epoch;
            self.pairs.clear();
        }
        self.share = grant.attempts_alone;
    }

    /// A pair was signed for a slot, upon a request that was sent at `sent`. `None`: it can be used without end.
    pub fn signed(&mut self, slot: u32, sent: Time, usable: Option<Duration>) {
        self.pairs.insert(slot, usable.map_or(Time::NEVER, |usable| sent + usable));
    }

    /// Whether nothing has been heard for so long that the broker expects it to pace itself.
    pub fn is_alone(&self, at: Time) -> bool {
        at >= self.alone_at()
    }

    /// When it will be alone, if nothing is heard before.
    pub fn alone_at(&self) -> Time {
        self.heard + ALONE_AFTER
    }

    /// When an attempt of its own may next be made for a slot.
    pub fn next_at(&self, at: Time, slot: u32) -> Next {
        let share = self.share as usize;
        let Some(usable) = self.pairs.get(&slot).filter(|_| share > 0) else {
            return Next::Never;
        };
        // The one that must count no more for another to fit in.
        let room =
            self.attempts.len().checked_sub(share).map_or(Time(0), |oldest| self.attempts[oldest].0 + COUNTED_FOR);
        let next = at.max(self.alone_at()).max(room);
        if next < *usable { Next::At(next) } else { Next::Never }
    }

    /// An attempt of a slot's own is about to be made: it reaches the platform within [`LAPSE`], or not at all. False, and
    /// it must not be made, if it may not.
    pub fn attempt(&mut self, at: Time, slot: u32) -> bool {
        self.forget(at);
        let may = self.next_at(at, slot) == Next::At(at);
        if may {
            self.attempts.push((at, slot));
        }
        may
    }

    /// Whether an attempt was made alone of late: `Hello.attempted_alone`.
    pub fn attempted(&mut self, at: Time) -> bool {
        self.forget(at);
        !self.attempts.is_empty()
    }

    /// The slots of the attempts that a successor of this process must know of.
    pub fn remembered(&self) -> Vec<u32> {
        self.attempts.iter().map(|(_, slot)| *slot).collect()
    }

    fn forget(&mut self, at: Time) {
        self.attempts.retain(|(made, _)| at < *made + COUNTED_FOR);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn alone(share: u32, of: &[u32]) -> Alone {
        let mut alone = Alone::new(Time(0), &[]);
        alone.granted(&Grant { epoch: 1, slots: of.to_vec(), attempts_alone: share });
        for slot in of {
            alone.signed(*slot, Time(0), None);
        }
        alone
    }

    #[test]
    fn attempts_of_its_own_begin_ninety_seconds_after_the_last_word() {
        let mut sidecar = alone(1, &[3]);
        sidecar.heard(Time(10_000));
        assert_eq!(sidecar.next_at(Time(20_000), 3), Next::At(Time(100_000)));
        assert!(!sidecar.attempt(Time(99_999), 3) && !sidecar.is_alone(Time(99_999)));
        assert!(sidecar.attempt(Time(100_000), 3) && sidecar.attempted(Time(100_000)));
        assert_eq!(sidecar.next_at(Time(100_001), 3), Next::At(Time(165_000)), "one in a minute and five seconds");
        sidecar.heard(Time(120_000));
        assert_eq!(sidecar.next_at(Time(160_000), 3), Next::At(Time(210_000)));
        assert!(sidecar.attempted(Time(164_999)) && !sidecar.attempted(Time(165_000)));
    }

    #[test]
    fn a_grant_without_a_share_allows_no_attempt() {
        assert_eq!(alone(0, &[94]).next_at(Time(0), 94), Next::Never);
    }

    #[test]
    fn only_a_pair_that_still_holds_is_used_and_only_for_its_slot() {
        let mut sidecar = alone(1, &[]);
        assert_eq!(sidecar.next_at(Time(0), 1), Next::Never);
        sidecar.signed(1, Time(0), Some(Duration::from_secs(100)));
        assert_eq!(sidecar.next_at(Time(99_999), 1), Next::At(Time(99_999)));
        assert_eq!(sidecar.next_at(Time(100_000), 1), Next::Never);
        assert_eq!(sidecar.next_at(Time(0), 2), Next::Never);
    }

    #[test]
    fn a_pair_of_another_grant_is_not_used() {
        let mut sidecar = alone(1, &[3]);
        assert_eq!(sidecar.next_at(Time(0), 3), Next::At(Time(90_000)));
        // The same again, as after a reconnect.
        sidecar.granted(&Grant { epoch: 1, slots: vec![3], attempts_alone: 1 });
        assert_eq!(sidecar.next_at(Time(0), 3), Next::At(Time(90_000)));
        sidecar.granted(&Grant { epoch: 2, slots: vec![3], attempts_alone: 1 });
        assert_eq!(sidecar.next_at(Time(0), 3), Next::Never);
        assert!(!sidecar.attempt(Time(100_000), 3));
        sidecar.signed(3, Time(0), None);
        assert!(sidecar.attempt(Time(100_000), 3));
    }

    #[test]
    fn remembered_attempts_count_as_made_at_the_start() {
        let mut before = alone(2, &[1]);
        assert!(before.attempt(Time(100_000), 1) && before.attempt(Time(100_000), 1));
        let mut after = Alone::new(Time(0), &before.remembered());
        assert_eq!(after.remembered(), [1, 1]);
        assert!(after.attempted(Time(64_999)) && !after.attempted(Time(65_000)));
    }

    proptest! {
        #[test]
        fn no_minute_of_the_platform_sees_more_attempts_than_the_grant_allows(
            share in 0_u32..4,
            steps in prop::collection::vec((0_u32..3, 0_u64..30_000, prop::bool::weighted(0.05), 0_u64..=5_000), 1..100),
        ) {
            let mut sidecar = alone(share, &[0, 1, 2]);
            let mut arrived: Vec<Time> = Vec::new();
            let mut at = Time(0);
            for (slot, ms, restarts, on_its_way) in steps {
                at = Time(at.0 + ms);
                if restarts {
                    // It hears the broker at once, and never again.
                    let remembered = sidecar.remembered();
                    sidecar = Alone { heard: at, ..alone(share, &[0, 1, 2]) };
                    sidecar.attempts = Alone::new(at, &remembered).attempts;
                }
                let Next::At(next) = sidecar.next_at(at, slot) else {
                    prop_assert_eq!(share, 0);
                    continue;
                };
                prop_assert_eq!(sidecar.attempt(at, slot), next == at);
                if next == at {
                    prop_assert!(sidecar.is_alone(at));
                    arrived.push(Time(at.0 + on_its_way));
                }
            }
            arrived.sort();
            for (n, first) in arrived.iter().enumerate() {
                let within = arrived[n..].iter().take_while(|at| **at < *first + SPAN).count();
                prop_assert!(within <= share as usize, "{} attempts in a minute", within);
            }
        }
    }
}
