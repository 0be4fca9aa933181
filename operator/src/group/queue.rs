//! What is to be reconciled, and when: a pure queue of keys with due times. No key is in hand twice at once, and never more
//! keys than the bound; a key that comes up again while it is in hand is taken up again afterwards. What a person has just
//! changed goes before what is looked at in passing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;
use std::time::Duration;

use crate::time::Time;

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Something has changed.
    Change,
    /// It is time to look again.
    Routine,
}

/// The queue.
#[derive(Debug, Clone)]
pub struct Queue<K> {
    /// When each waiting key is due, and in which lane.
    waiting: HashMap<K, (Lane, Time)>,
    order: BTreeMap<Lane, BTreeSet<(Time, K)>>,
    /// Keys in hand, since when.
    running: HashMap<K, Time>,
    most: usize,
}

impl<K: Clone + Eq + Hash + Ord> Queue<K> {
    /// An empty queue that hands out at most `most` keys at once.
    pub fn new(most: usize) -> Self {
        Self { waiting: HashMap::new(), order: BTreeMap::new(), running: HashMap::new(), most }
    }

    /// Has `key` handed out at `due`, or earlier if it waits for an earlier moment already. If it is in hand, it is handed
    /// out again once it is not.
    pub fn add(&mut self, key: &K, lane: Lane, due: Time) {
        let (lane, due) = match self.waiting.get(key) {
            Some((known, at)) => (lane.min(*known), due.min(*at)),
            None => (lane, due),
        };
        self.remove(key);
        self.waiting.insert(key.clone(), (lane, due));
        self.order.entry(lane).or_default().insert((due, key.clone()));
    }

    /// Forgets what `key` waits for.
    pub fn remove(&mut self, key: &K) {
        if let Some((lane, due)) = self.waiting.remove(key)
            && let Some(order) = self.order.get_mut(&lane)
        {
            order.remove(&(due, key.clone()));
        }
    }

    /// The next key that is due, if there is one and a hand is free.
    pub fn take(&mut self, at: Time) -> Option<K> {
        if self.running.len() >= self.most {
            return None;
        }
        let key = self.order.values().find_map(|order| {
            let due = order.iter().take_while(|(due, _)| *due <= at);
            due.map(|(_, key)| key).find(|key| !self.running.contains_key(*key)).cloned()
        })?;
        self.remove(&key);
        self.running.insert(key.clone(), at);
        Some(key)
    }

    /// `key` is not in hand any more.
    pub fn done(&mut self, key: &K) {
        self.running.remove(key);
    }

    /// When [`Queue::take`] may next give something, if no key is added or done before.
    pub fn wake_at(&self) -> Option<Time> {
        if self.running.len() >= self.most {
            return None;
        }
        let firsts = self
            .order
            .values()
            .filter_map(|order| order.iter().find(|(_, key)| !self.running.contains_key(key)).map(|(due, _)| *due));
        firsts.min()
    }

    /// Keys that are due and not in hand.
    pub fn depth(&self, at: Time) -> usize {
        self.order.values().map(|order| order.iter().take_while(|(due, _)| *due <= at).count()).sum()
    }

    /// Keys in hand.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// For how long the key that has been in hand longest has been.
    pub fn oldest(&self, at: Time) -> Duration {
        self.running.values().map(|since| at.since(*since)).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn queue(most: usize) -> Queue<u8> {
        Queue::new(most)
    }

    #[test]
    fn a_change_goes_before_routine_that_was_due_earlier() {
        let mut queue = queue(9);
        queue.add(&1, Lane::Routine, Time(1));
        queue.add(&2, Lane::Change, Time(5));
        queue.add(&3, Lane::Change, Time(4));
        let order: Vec<_> = std::iter::from_fn(|| queue.take(Time(10))).collect();
        assert_eq!(order, [3, 2, 1]);
    }

    #[test]
    fn a_key_that_comes_up_again_while_in_hand_is_handed_out_again_afterwards() {
        let mut queue = queue(9);
        queue.add(&1, Lane::Change, Time(0));
        assert_eq!(queue.take(Time(0)), Some(1));
        queue.add(&1, Lane::Change, Time(0));
        assert_eq!((queue.take(Time(5)), queue.wake_at()), (None, None));
        queue.done(&1);
        assert_eq!(queue.wake_at(), Some(Time(0)));
        assert_eq!(queue.take(Time(5)), Some(1));
    }

    #[test]
    fn a_later_wish_does_not_put_off_an_earlier_one() {
        let mut queue = queue(9);
        queue.add(&1, Lane::Routine, Time(10));
        queue.add(&1, Lane::Routine, Time(20));
        assert_eq!((queue.take(Time(9)), queue.take(Time(10)), queue.take(Time(30))), (None, Some(1), None));
    }

    #[derive(Debug, Clone)]
    enum Op {
        Add(u8, bool, u64),
        Take,
        Done,
        Remove(u8),
        Pass(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..6_u8, any::<bool>(), 0..50_u64).prop_map(|(key, change, after)| Op::Add(key, change, after)),
            Just(Op::Take),
            Just(Op::Done),
            (0..6_u8).prop_map(Op::Remove),
            (0..20_u64).prop_map(Op::Pass),
        ]
    }

    proptest! {
        /// Nothing is handed out twice at once, too early, above the bound, or without having been asked for; nothing that
        /// was asked for is forgotten.
        #[test]
        fn what_is_asked_for_comes_once_and_in_time(ops in prop::collection::vec(op(), 1..200)) {
            let mut queue = queue(3);
            let mut wanted: HashMap<u8, Time> = HashMap::new();
            let mut running: Vec<u8> = Vec::new();
            let mut now = Time(0);
            for op in ops {
                match op {
                    Op::Add(key, change, after) => {
                        let due = now + Duration::from_millis(after);
                        queue.add(&key, if change { Lane::Change } else { Lane::Routine }, due);
                        let known = wanted.entry(key).or_insert(due);
                        *known = due.min(*known);
                    }
                    Op::Take => {
                        let taken = queue.take(now);
                        let ready = wanted.iter().any(|(key, due)| *due <= now && !running.contains(key));
                        prop_assert_eq!(taken.is_some(), ready && running.len() < 3);
                        if let Some(key) = taken {
                            prop_assert!(wanted.remove(&key).is_some_and(|due| due <= now) && !running.contains(&key));
                            running.push(key);
                        }
                    }
                    Op::Done => if let Some(key) = running.pop() { queue.done(&key) },
                    Op::Remove(key) => {
                        queue.remove(&key);
                        wanted.remove(&key);
                    }
                    Op::Pass(ms) => now = now + Duration::from_millis(ms),
                }
                prop_assert_eq!(queue.running(), running.len());
                prop_assert_eq!(queue.depth(now), wanted.values().filter(|due| **due <= now).count());
                let next = wanted.iter().filter(|(key, _)| !running.contains(key)).map(|(_, due)| *due).min();
                prop_assert_eq!(queue.wake_at(), next.filter(|_| running.len() < 3));
            }
        }
    }
}
