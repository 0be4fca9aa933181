//! Things that are handed on out of order, but not by much.

use std::cmp::Reverse;

use rand::Rng as _;
use rand::rngs::SmallRng;

/// Hands on what is put in; nothing is overtaken by more than `bound` things that were put in after it. To know that, it
/// keeps `bound` things back.
#[derive(Debug)]
pub(super) struct Shuffle<T> {
    bound: u32,
    put: u64,
    kept: Vec<(u64, u64, T)>,
}

impl<T> Shuffle<T> {
    pub(super) fn new(bound: u32) -> Self {
        Self { bound, put: 0, kept: Vec::new() }
    }

    /// Whether more must be put in before anything can be taken out.
    pub(super) fn wants_more(&self) -> bool {
        self.kept.len() <= self.bound as usize
    }

    pub(super) fn put(&mut self, thing: T, rng: &mut SmallRng) {
        // The n-th has its turn with one of the n-th to the n+bound-th; of two that have the same, the later goes first.
        let delay = if self.bound == 0 { 0 } else { rng.random_range(0..=u64::from(self.bound)) };
        self.kept.push((self.put + delay, self.put, thing));
        self.put += 1;
    }

    /// The next, or nothing as long as it wants more.
    pub(super) fn take(&mut self) -> Option<T> {
        if self.wants_more() {
            return None;
        }
        let (next, _) = self.kept.iter().enumerate().min_by_key(|(_, (turn, put, _))| (*turn, Reverse(*put)))?;
        Some(self.kept.swap_remove(next).2)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;

    use super::*;

    fn order(bound: u32, count: u64, seed: u64) -> Vec<u64> {
        let (mut shuffle, mut rng) = (Shuffle::new(bound), SmallRng::seed_from_u64(seed));
        let mut taken = Vec::new();
        for thing in 0..count {
            shuffle.put(thing, &mut rng);
            taken.extend(shuffle.take());
        }
        taken
    }

    proptest! {
        #[test]
        fn nothing_is_overtaken_by_more_than_the_bound(bound in 0..20_u32, seed in any::<u64>()) {
            let taken = order(bound, 400, seed);
            prop_assert_eq!(taken.len(), 400 - bound as usize, "it keeps no more back than it must");
            for (place, thing) in taken.iter().enumerate() {
                let overtaken_by = taken[..place].iter().filter(|&earlier| earlier > thing).count();
                prop_assert!(overtaken_by <= bound as usize, "{thing} by {overtaken_by}");
                prop_assert!(place as u64 <= thing + u64::from(bound), "{thing} at {place}");
            }
        }
    }

    #[test]
    fn it_does_shuffle_unless_it_may_not() {
        let sorted = |taken: &[u64]| taken.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(sorted(&order(0, 100, 1)));
        assert!(!sorted(&order(1, 100, 1)) && !sorted(&order(8, 100, 1)));
    }
}
