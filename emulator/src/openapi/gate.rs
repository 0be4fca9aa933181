//! What the gateway remembers from call to call: nonces it has seen, calls per second, counts, and the faults an admin has
//! asked for. Without a clock of its own.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::Product;
use super::nonces::Nonces;
use crate::clock::Micros;
use crate::config::ThrottleScope;

/// The window of "calls per second", in µs.
const SECOND_US: u64 = 1_000_000;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was done.
    Succeeded,
    /// Its action said no (`Success: false`).
    Failed,
    /// The gateway said no: signature, parameters, permission.
    Refused,
    /// One too many in its second.
    Throttled,
    /// The service was not available, as an admin had asked for.
    Unavailable,
    /// It had to wait, as an admin had asked for, whatever became of it then.
    Frozen,
}

/// The calls of one action by one account, by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    pub(crate) throttled: u64,
    pub(crate) unavailable: u64,
    pub(crate) frozen: u64,
}

/// A line of the counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Counted {
    /// The account; `null` for calls that did not say whose they are, or not credibly.
    pub(crate) account: Option<String>,
    pub(crate) product: Product,
    /// The action; `null` when there is none of that name.
    pub(crate) action: Option<&'static str>,
    #[serde(flatten)]
    pub(crate) tally: Tally,
}

/// How hard one account calls one product, or one action of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rate {
    pub(crate) account: String,
    pub(crate) product: Product,
    /// The action, where it has a second of its own; `null` for all those that share one.
    pub(crate) action: Option<&'static str>,
    /// The most calls in any one second, throttled ones included.
    pub(crate) peak_per_second: u64,
}

/// What an admin makes the gateway do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ApiFault {
    /// Every call of an account is one too many.
    Throttle,
    /// Nothing works (503).
    Unavailable,
    /// Calls hang.
    Freeze,
}

/// The calls of the last second.
#[derive(Debug, Default)]
struct Recent {
    admitted: VecDeque<Micros>,
    all: VecDeque<Micros>,
    peak: u64,
}

fn forget(calls: &mut VecDeque<Micros>, now: Micros) {
    while calls.front().is_some_and(|&at| now.since(at) >= SECOND_US) {
        calls.pop_front();
    }
}

/// The memory. See the module.
#[derive(Debug)]
pub(super) struct Gate {
    scope: ThrottleScope,
    nonces: Nonces,
    recent: HashMap<(String, Product, Option<&'static str>), Recent>,
    tallies: BTreeMap<(Option<String>, Product, Option<&'static str>), Tally>,
    /// What each product's callers meet, and until when.
    faults: [(Product, Option<(ApiFault, Micros)>); 2],
}

impl Gate {
    /// `timestamp_window` is how far a timestamp may be off: a nonce is remembered for as long as its call could be
    /// repeated.
    pub(super) fn new(scope: ThrottleScope, timestamp_window: Duration) -> Self {
        Self {
            scope,
            nonces: Nonces::new(timestamp_window.saturating_mul(2)),
            recent: HashMap::new(),
            tallies: BTreeMap::new(),
            faults: [(Product::Sts, None), (Product::Iot, None)],
        }
    }

    /// The nonces of the calls that were served.
    pub(super) fn nonces(&mut self) -> &mut Nonces {
        &mut self.nonces
    }

    /// Whether one more call fits into its second. Calls that are counted `apart` have a second of their own.
    pub(super) fn admits(
        &mut self,
        account: &str,
        product: Product,
        action: &'static str,
        per_second: u32,
        apart: bool,
        now: Micros,
    ) -> bool {
        let action = (apart || self.scope == ThrottleScope::Action).then_some(action);
        let recent = self.recent.entry((account.to_owned(), product, action)).or_default();
        forget(&mut recent.all, now);
        forget(&mut recent.admitted, now);
        recent.all.push_back(now);
        recent.peak = recent.peak.max(recent.all.len() as u64);
        let fits = recent.admitted.len() < per_second as usize;
        if fits {
            recent.admitted.push_back(now);
        }
        fits
    }

    /// Counts a call.
    pub(super) fn count(
        &mut self,
        account: Option<&str>,
        product: Product,
        action: Option<&'static str>,
        outcome: Outcome,
    ) {
        let tally = self.tallies.entry((account.map(str::to_owned), product, action)).or_default();
        *match outcome {
            Outcome::Succeeded => &mut tally.succeeded,
            Outcome::Failed => &mut tally.failed,
            Outcome::Refused => &mut tally.refused,
            Outcome::Throttled => &mut tally.throttled,
            Outcome::Unavailable => &mut tally.unavailable,
            Outcome::Frozen => &mut tally.frozen,
        } += 1;
    }

    /// All counts since the start.
    pub(super) fn counted(&self) -> Vec<Counted> {
        let lines = self.tallies.iter();
        lines
            .map(|((account, product, action), tally)| Counted {
                account: account.clone(),
                product: *product,
                action: *action,
                tally: *tally,
            })
            .collect()
    }

    /// How hard each account has called: a line for what shares a second.
    pub(super) fn rates(&self) -> Vec<Rate> {
        let mut rates: Vec<Rate> = self
            .recent
            .iter()
            .map(|((account, product, action), recent)| Rate {
                account: account.clone(),
                product: *product,
                action: *action,
                peak_per_second: recent.peak,
            })
            .collect();
        rates.sort_by(|a, b| {
            let (most, least) = (b.peak_per_second, a.peak_per_second);
            (&a.account, a.product, most, a.action).cmp(&(&b.account, b.product, least, b.action))
        });
        rates
    }

    /// Makes the gateway misbehave until `until`, towards one product's callers or all.
    pub(super) fn misbehave(&mut self, fault: ApiFault, only: Option<Product>, until: Micros) {
        for (product, meets) in &mut self.faults {
            if only.is_none_or(|only| only == *product) {
                *meets = Some((fault, until));
            }
        }
    }

    /// What the gateway is to do to a call of this product instead of serving it.
    pub(super) fn fault(&self, product: Product, now: Micros) -> Option<ApiFault> {
        let (_, meets) = self.faults.iter().find(|(of, _)| *of == product)?;
        meets.filter(|(_, until)| now < *until).map(|(fault, _)| fault)
    }

    /// Until when a call of this product hangs; one of no product that is known hangs while all do.
    pub(super) fn frozen_until(&self, product: Option<Product>, now: Micros) -> Option<Micros> {
        let concerned = self.faults.iter().filter(|(of, _)| product.is_none_or(|product| product == *of));
        let ends = concerned.map(|(_, meets)| match meets {
            Some((ApiFault::Freeze, until)) if now < *until => Some(*until),
            _ => None,
        });
        ends.min().flatten()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gate(scope: ThrottleScope) -> Gate {
        Gate::new(scope, Duration::from_secs(900))
    }

    proptest! {
        #[test]
        fn never_more_than_the_rate_in_any_second_and_no_fewer_than_it_for_want_of_trying(
            steps in prop::collection::vec(0..400_000_u64, 1..200),
            per_second in 1..8_u32,
        ) {
            let mut gate = gate(ThrottleScope::Account);
            let (mut now, mut admitted) = (0, Vec::new());
            for step in steps {
                now += step;
                let before = admitted.iter().filter(|&&at| at + SECOND_US > now).count();
                let admits = gate.admits("a", Product::Iot, "X", per_second, false, Micros::new(now));
                prop_assert_eq!(admits, before < per_second as usize);
                if admits {
                    admitted.push(now);
                }
            }
        }
    }

    #[test]
    fn accounts_products_and_if_so_configured_actions_do_not_share_their_seconds() {
        let now = Micros::new(0);
        for (scope, other_action) in [(ThrottleScope::Account, false), (ThrottleScope::Action, true)] {
            let mut gate = gate(scope);
            assert!(gate.admits("a", Product::Iot, "X", 1, false, now));
            assert!(!gate.admits("a", Product::Iot, "X", 1, false, now));
            assert_eq!(gate.admits("a", Product::Iot, "Y", 1, false, now), other_action);
            assert!(gate.admits("b", Product::Iot, "X", 1, false, now));
            assert!(gate.admits("a", Product::Iot, "Z", 1, true, now));
            assert!(!gate.admits("a", Product::Iot, "Z", 1, true, now));
            assert!(gate.admits("a", Product::Sts, "X", 1, false, now));
            assert!(gate.admits("a", Product::Iot, "X", 1, false, Micros::new(SECOND_US)));
        }
    }

    #[test]
    fn a_rate_names_the_action_that_has_a_second_of_its_own() {
        for (scope, expected) in [
            (ThrottleScope::Account, [(None, 3), (Some("Z"), 1)]),
            (ThrottleScope::Action, [(Some("X"), 2), (Some("Y"), 1)]),
        ] {
            let mut gate = gate(scope);
            for (action, apart) in [("X", false), ("X", false), ("Y", false), ("Z", true)] {
                gate.admits("a", Product::Iot, action, 5, apart, Micros::new(0));
            }
            let rates: Vec<_> = gate.rates().iter().map(|rate| (rate.action, rate.peak_per_second)).collect();
            assert_eq!(rates[..2], expected);
            let lines = serde_json::to_value(gate.rates()).unwrap();
            assert_eq!(
                lines[0],
                serde_json::json!({
                    "account": "a", "product": "Iot", "action": expected[0].0, "peakPerSecond": expected[0].1,
                })
            );
        }
    }

    #[test]
    fn counts_are_kept_by_account_product_and_action() {
        let mut gate = gate(ThrottleScope::Account);
        gate.count(Some("a"), Product::Iot, Some("X"), Outcome::Succeeded);
        gate.count(Some("a"), Product::Iot, Some("X"), Outcome::Throttled);
        gate.count(None, Product::Sts, None, Outcome::Refused);
        let lines = serde_json::to_value(gate.counted()).unwrap();
        assert_eq!(lines[0]["product"], "Sts");
        assert_eq!((&lines[1]["account"], &lines[1]["action"]), (&"a".into(), &"X".into()));
        assert_eq!(
            (&lines[1]["succeeded"], &lines[1]["throttled"], &lines[1]["failed"]),
            (&1.into(), &1.into(), &0.into())
        );
    }

    #[test]
    fn a_fault_ends_and_keeps_to_its_product() {
        let mut gate = gate(ThrottleScope::Account);
        gate.misbehave(ApiFault::Unavailable, Some(Product::Iot), Micros::new(10));
        assert_eq!(gate.fault(Product::Iot, Micros::new(9)), Some(ApiFault::Unavailable));
        assert_eq!(gate.fault(Product::Sts, Micros::new(9)), None);
        assert_eq!(gate.fault(Product::Iot, Micros::new(10)), None);
        gate.misbehave(ApiFault::Throttle, None, Micros::new(20));
        gate.misbehave(ApiFault::Unavailable, Some(Product::Sts), Micros::new(30));
        assert_eq!(gate.fault(Product::Iot, Micros::new(15)), Some(ApiFault::Throttle), "each product has its own");
        assert_eq!(gate.fault(Product::Sts, Micros::new(15)), Some(ApiFault::Unavailable));
        gate.misbehave(ApiFault::Throttle, None, Micros::new(15));
        assert_eq!(
            (gate.fault(Product::Iot, Micros::new(15)), gate.fault(Product::Sts, Micros::new(15))),
            (None, None)
        );
    }

    #[test]
    fn a_call_of_no_product_hangs_while_all_do() {
        let mut gate = gate(ThrottleScope::Account);
        let now = Micros::new(0);
        gate.misbehave(ApiFault::Freeze, Some(Product::Iot), Micros::new(10));
        assert_eq!(gate.frozen_until(Some(Product::Iot), now), Some(Micros::new(10)));
        assert_eq!((gate.frozen_until(Some(Product::Sts), now), gate.frozen_until(None, now)), (None, None));
        gate.misbehave(ApiFault::Freeze, Some(Product::Sts), Micros::new(20));
        assert_eq!(gate.frozen_until(None, now), Some(Micros::new(10)));
        assert_eq!(gate.frozen_until(Some(Product::Iot), Micros::new(10)), None);
    }
}
