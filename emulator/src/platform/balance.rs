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
const EVEN: i64 = 4_096;
/// How far from its share a client is at most.
const SKEW: i64 = 4;

#[derive(Debug)]
struct Tilt {
    serial: u64,
    /// Its weight at `since`; at `until` it is even.
    start: i64,
    since: Micros,
    until: Micros,
    /// Its weight when the tilts were last looked at.
    weight: i64,
}

impl Tilt {
    /// The weight at `now`, and when it is another.
    fn at(&self, now: Micros) -> (i64, Micros) {
        let (length, gone) = (self.until.since(self.since), now.since(self.since));
        if gone >= length {
            return (EVEN, Micros::NEVER);
        }
        let (way, long) = (u128::from((EVEN - self.start).unsigned_abs()).max(1), u128::from(length));
        let steps = way * u128::from(gone) / long;
        let next = u64::try_from(((steps + 1) * long).div_ceil(way)).unwrap_or(length);
        let steps = i64::try_from(steps).unwrap_or(0);
        (self.start + steps * (EVEN - self.start).signum(), Micros::new(self.since.get() + next.min(length)))
    }
}

#[derive(Debug)]
pub(super) struct Balance {
    /// By their serials.
    tilts: Vec<Tilt>,
    /// Until when their weights are what they were when they were last looked at. It is some milliseconds at least, so
    /// that most draws need not reckon.
    same_until: Micros,
    /// When the last of them is over.
    even_from: Micros,
    rng: SmallRng,
}

impl Balance {
    pub(super) fn new(seed: u64) -> Self {
        let (same_until, even_from) = (Micros::NEVER, Micros::default());
        Self { tilts: Vec::new(), same_until, even_from, rng: SmallRng::seed_from_u64(seed) }
    }

    fn tilt(&mut self, serial: u64, start: i64, now: Micros, lasts: Duration) {
        self.tilts.retain(|tilt| tilt.serial != serial && tilt.until > now);
        let until = now.after(lasts);
        let at = self.tilts.partition_point(|tilt| tilt.serial < serial);
        self.tilts.insert(at, Tilt { serial, start, since: now, until, weight: start });
        self.look(now);
        self.even_from = self.even_from.max(until);
    }

    fn look(&mut self, now: Micros) {
        self.same_until = Micros::NEVER;
        for tilt in &mut self.tilts {
            let (weight, until) = tilt.at(now);
            tilt.weight = weight;
            self.same_until = self.same_until.min(until);
        }
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

    fn weight(&self, serial: u64, now: Micros) -> i64 {
        self.tilts.iter().find(|tilt| tilt.serial == serial).map_or(EVEN, |tilt| tilt.at(now).0)
    }

    /// Draws one of these, which are in ascending order, by their weights: its index.
    pub(super) fn draw(&mut self, serials: impl Iterator<Item = u64> + Clone, now: Micros) -> usize {
        if now >= self.same_until {
            self.look(now);
        }
        let sum: i64 = weights(&self.tilts, serials.clone()).sum();
        let mut left = self.rng.random_range(0..sum.max(1));
        let passed = weights(&self.tilts, serials).take_while(|weight| {
            left -= weight;
            left >= 0
        });
        passed.count()
    }
}

/// Both in ascending order.
fn weights(tilts: &[Tilt], serials: impl Iterator<Item = u64>) -> impl Iterator<Item = i64> {
    let mut tilts = tilts.iter().peekable();
    serials.map(move |serial| {
        while tilts.next_if(|tilt| tilt.serial < serial).is_some() {}
        tilts.next_if(|tilt| tilt.serial == serial).map_or(EVEN, |tilt| tilt.weight)
    })
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

    /// The straight line itself, reckoned anew.
    fn line(tilt: &Tilt, now: Micros) -> i128 {
        let (length, gone) = (i128::from(tilt.until.since(tilt.since)), i128::from(now.since(tilt.since)));
        let start = i128::from(tilt.start);
        if gone >= length { i128::from(EVEN) } else { start + (i128::from(EVEN) - start) * gone / length }
    }

    #[test]
    fn a_draw_goes_by_the_weights_of_its_moment() {
        let mut balance = Balance::new(1);
        for serial in [5, 2, 9] {
            balance.joined(serial, 1, at(serial), LASTS);
        }
        balance.left(1, &[3, 7], at(20), LASTS);
        for micros in (20_000_000..640_000_000).step_by(7_919) {
            let now = Micros::new(micros);
            balance.draw([2, 3, 5, 7, 9].into_iter(), now);
            let wrong = balance.tilts.iter().find(|tilt| i128::from(tilt.weight) != line(tilt, now));
            assert!(wrong.is_none(), "at {micros}: {wrong:?}");
        }
        let drawn: Vec<i64> = weights(&balance.tilts, [1, 2, 5, 8, 9].into_iter()).collect();
        assert_eq!(drawn, [EVEN; 5]);
    }

    #[test]
    fn a_weight_is_the_same_until_it_says() {
        let tilt = |start, lasts| Tilt { serial: 1, start, since: at(1), until: at(1).after(lasts), weight: start };
        for tilt in [tilt(EVEN / SKEW, LASTS), tilt(EVEN * SKEW, LASTS), tilt(EVEN + 1, LASTS), tilt(EVEN, LASTS)] {
            let mut now = tilt.since;
            for _ in 0..1_000 {
                let (weight, until) = tilt.at(now);
                if until == Micros::NEVER {
                    break;
                }
                assert_eq!(tilt.at(Micros::new(until.get() - 1)).0, weight, "{tilt:?} until {until:?}");
                assert!(until > now && (tilt.at(until).0 != weight || until == tilt.until), "{tilt:?} from {until:?}");
                now = until;
            }
        }
        let long = tilt(EVEN * SKEW, Duration::MAX);
        let half = Micros::new(u64::MAX / 2);
        assert_eq!(i128::from(long.at(half).0), line(&long, half));
    }
}
