//! How unevenly a group's messages are spread after its membership has changed: "traffic imbalance among consumers is
//! normal and recovers within 10 minutes" (PLATFORM.md 1.7). What the imbalance looks like is documented nowhere. Here a
//! client that is new gets less than its share at first, and when one leaves, one of those that stay gets more; both comes
//! back to even in a straight line.
//!
//! The dice are its own, so that those of the dispatch fall the same with it and without.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng as _, SeedableRng as _};

use crate::clock::Micros;

/// The weight of a client that has its share.
const EVEN: i128 = 4_096;
/// How far from its share a client is at most.
const SKEW: i128 = 4;

#[derive(Debug)]
struct Tilt {
    serial: u64,
    weight: i128,
    since: Micros,
    until: Micros,
}

impl Tilt {
    fn weight(&self, now: Micros) -> i128 {
        let (length, gone) = (self.until.since(self.since), now.since(self.since));
        if gone >= length {
            return EVEN;
        }
        self.weight + (EVEN - self.weight) * i128::from(gone) / i128::from(length)
    }
}

#[derive(Debug)]
pub(super) struct Balance {
    tilts: Vec<Tilt>,
    /// When the last of them is over.
    even_from: Micros,
    rng: SmallRng,
}

impl Balance {
    pub(super) fn new(seed: u64) -> Self {
        Self { tilts: Vec::new(), even_from: Micros::default(), rng: SmallRng::seed_from_u64(seed) }
    }

    fn tilt(&mut self, serial: u64, weight: i128, now: Micros, lasts: Duration) {
        self.tilts.retain(|tilt| tilt.serial != serial && tilt.until > now);
        let until = now.after(lasts);
        self.tilts.push(Tilt { serial, weight, since: now, until });
        self.even_from = self.even_from.max(until);
    }

    /// A client has come to `others`.
    pub(super) fn joined(&mut self, serial: u64, others: usize, now: Micros, lasts: Duration) {
        if others > 0 && !lasts.is_zero() {
            self.tilt(serial, EVEN / SKEW, now, lasts);
        }
    }

    /// A client has left these.
    pub(super) fn left(&mut self, serial: u64, others: &[u64], now: Micros, lasts: Duration) {
        self.tilts.retain(|tilt| tilt.serial != serial);
        if others.len() > 1 && !lasts.is_zero() {
            let lucky = others[self.rng.random_range(0..others.len())];
            let weight = (self.weight(lucky, now) * SKEW).min(EVEN * SKEW);
            self.tilt(lucky, weight, now, lasts);
        }
    }

    /// Whether everybody has the same weight.
    pub(super) fn is_even(&self, now: Micros) -> bool {
        now >= self.even_from
    }

    fn weight(&self, serial: u64, now: Micros) -> i128 {
        weight(&self.tilts, serial, now)
    }

    /// Draws one of these by their weights: its index.
    pub(super) fn draw(&mut self, serials: impl Iterator<Item = u64> + Clone, now: Micros) -> usize {
        let weights = serials.map(|serial| weight(&self.tilts, serial, now));
        let sum: i128 = weights.clone().sum();
        let mut left = self.rng.random_range(0..sum.max(1));
        let passed = weights.take_while(|weight| {
            left -= weight;
            left >= 0
        });
        passed.count()
    }
}

fn weight(tilts: &[Tilt], serial: u64, now: Micros) -> i128 {
    tilts.iter().find(|tilt| tilt.serial == serial).map_or(EVEN, |tilt| tilt.weight(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTS: Duration = Duration::from_secs(600);

    fn at(seconds: u64) -> Micros {
        Micros::new(seconds * 1_000_000)
    }

    #[test]
    fn who_is_new_gets_little_and_comes_to_its_share_in_a_straight_line() {
        let mut balance = Balance::new(1);
        balance.joined(1, 0, at(0), LASTS);
        assert!(balance.is_even(at(0)), "whoever comes first has everything");
        balance.joined(2, 1, at(0), LASTS);
        let weights = [0, 300, 600, 700].map(|seconds| balance.weight(2, at(seconds)));
        assert_eq!(weights, [1_024, 2_560, 4_096, 4_096]);
        assert!(!balance.is_even(at(599)) && balance.is_even(at(600)));
        balance.joined(3, 2, at(700), Duration::ZERO);
        assert!(balance.is_even(at(700)));
    }

    #[test]
    fn when_one_leaves_one_of_the_others_gets_more_for_a_while() {
        let mut balance = Balance::new(1);
        balance.left(1, &[2, 3, 4], at(0), LASTS);
        let mut weights = [2, 3, 4].map(|serial| balance.weight(serial, at(0)));
        weights.sort_unstable();
        assert_eq!(weights, [EVEN, EVEN, EVEN * SKEW]);
        assert!([2, 3, 4].into_iter().all(|serial| balance.weight(serial, at(600)) == EVEN));
        balance.left(2, &[3], at(600), LASTS);
        assert!(balance.is_even(at(600)), "one alone has everything anyway");
        for serial in 10..1_000 {
            balance.joined(serial, 2, at(700 + serial * 10), LASTS);
        }
        assert!(balance.tilts.len() <= 61, "what is over is forgotten");
    }

    #[test]
    fn draws_follow_the_weights_and_nobody_goes_without() {
        let mut balance = Balance::new(7);
        balance.joined(2, 1, at(0), LASTS);
        let mut drawn = [0; 2];
        for _ in 0..10_000 {
            drawn[balance.draw([1, 2].into_iter(), at(0))] += 1;
        }
        assert!((1_800..2_200).contains(&drawn[1]), "{drawn:?}: a fifth");
    }
}
