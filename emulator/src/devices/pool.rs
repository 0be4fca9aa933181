//! A set of devices that one can be drawn from.

use rand::Rng as _;
use rand::rngs::SmallRng;

/// Numbers below a bound, each at most once. Everything takes the same time however many there are.
#[derive(Debug, Clone)]
pub(super) struct Pool {
    members: Vec<u32>,
    /// Where a number is among the members.
    places: Vec<Option<u32>>,
}

impl Pool {
    /// An empty one, for numbers below `bound`.
    pub(super) fn below(bound: u32) -> Self {
        Self { members: Vec::new(), places: vec![None; bound as usize] }
    }

    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    #[cfg(test)]
    pub(super) fn has(&self, number: u32) -> bool {
        self.places[number as usize].is_some()
    }

    pub(super) fn add(&mut self, number: u32) {
        let place = &mut self.places[number as usize];
        if place.is_none() {
            *place = u32::try_from(self.members.len()).ok();
            self.members.push(number);
        }
    }

    /// Makes it a member or not.
    pub(super) fn set(&mut self, number: u32, member: bool) {
        if member { self.add(number) } else { self.remove(number) }
    }

    pub(super) fn remove(&mut self, number: u32) {
        if let Some(place) = self.places[number as usize].take() {
            self.members.swap_remove(place as usize);
            if let Some(&moved) = self.members.get(place as usize) {
                self.places[moved as usize] = Some(place);
            }
        }
    }

    /// Any of them.
    pub(super) fn draw(&self, rng: &mut SmallRng) -> Option<u32> {
        if self.members.is_empty() { None } else { Some(self.members[rng.random_range(0..self.members.len())]) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rand::SeedableRng as _;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_set_holds(steps in prop::collection::vec((any::<bool>(), 0..8_u32), 0..60)) {
            let (mut pool, mut set) = (Pool::below(8), BTreeSet::new());
            let mut rng = SmallRng::seed_from_u64(1);
            for (add, number) in steps {
                if add {
                    pool.add(number);
                    set.insert(number);
                } else {
                    pool.remove(number);
                    set.remove(&number);
                }
                prop_assert_eq!((0..8).filter(|&it| pool.has(it)).collect::<BTreeSet<_>>(), set.clone());
                prop_assert_eq!((pool.len(), pool.is_empty()), (set.len(), set.is_empty()));
                prop_assert!(pool.draw(&mut rng).map_or(set.is_empty(), |drawn| set.contains(&drawn)));
            }
        }
    }
}
