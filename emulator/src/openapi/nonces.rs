//! The nonces of calls that were served, for as long as one of them could be made again. Bounded: of more than
//! [`MOST`] the oldest are forgotten. Without a clock of its own.

use std::collections::hash_map::RandomState;
use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher as _;
use std::time::Duration;

use crate::clock::Micros;

/// How many are remembered at most. STS at its full rate makes 180,000 in the half hour that they are good for.
const MOST: usize = 1_000_000;

/// See the module.
#[derive(Debug)]
pub(super) struct Nonces {
    life: Duration,
    /// Hashes of access key and nonce under a random key, instead of both: a hundred bytes less for each.
    seen: HashSet<u64>,
    order: VecDeque<(Micros, u64)>,
    hasher: RandomState,
}

impl Nonces {
    /// `life` is how long a nonce is remembered.
    pub(super) fn new(life: Duration) -> Self {
        Self { life, seen: HashSet::new(), order: VecDeque::new(), hasher: RandomState::new() }
    }

    fn forget(&mut self, now: Micros) {
        while let Some(&(at, hash)) = self.order.front()
            && (at.after(self.life) < now || self.order.len() > MOST)
        {
            self.order.pop_front();
            self.seen.remove(&hash);
        }
    }

    /// Whether an access key has used this nonce before.
    pub(super) fn knows(&mut self, key_id: &str, nonce: &str, now: Micros) -> bool {
        self.forget(now);
        self.seen.contains(&self.hasher.hash_one((key_id, nonce)))
    }

    /// Remembers a nonce of an access key. Only for calls that are served, so that nobody else can fill this.
    pub(super) fn add(&mut self, key_id: &str, nonce: &str, now: Micros) {
        let hash = self.hasher.hash_one((key_id, nonce));
        if self.seen.insert(hash) {
            self.order.push_back((now, hash));
        }
        self.forget(now);
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.seen.len(), self.order.len());
        self.seen.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Micros {
        Micros::new(seconds * 1_000_000)
    }

    #[test]
    fn a_nonce_is_good_once_for_as_long_as_its_call_could_be_repeated() {
        let mut nonces = Nonces::new(Duration::from_secs(1_800));
        assert!(!nonces.knows("k", "n", at(0)));
        nonces.add("k", "n", at(0));
        assert!(nonces.knows("k", "n", at(1_800)));
        assert!(!nonces.knows("other", "n", at(1_800)) && !nonces.knows("kn", "", at(1_800)));
        nonces.add("other", "n", at(1_800));
        assert!(!nonces.knows("k", "n", at(1_801)) && nonces.knows("other", "n", at(1_801)));
        assert_eq!(nonces.len(), 1, "what is forgotten takes no room");
    }

    #[test]
    fn beyond_a_million_the_oldest_is_forgotten() {
        let mut nonces = Nonces::new(Duration::from_secs(1_800));
        for nonce in 0..=MOST {
            nonces.add("k", &nonce.to_string(), at(0));
        }
        assert_eq!(nonces.len(), MOST);
        assert!(!nonces.knows("k", "0", at(0)) && nonces.knows("k", "1", at(0)));
    }
}
