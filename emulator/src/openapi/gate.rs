//! What the gateway remembers from call to call: nonces it has seen, calls per second, counts, and the faults an admin has
//! asked for. Without a clock of its own.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use serde::Serialize;

use super::Product;
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
}

/// The calls of one action by one account, by how they ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    pub(crate) refused: u64,
    pub(crate) throttled: u64,
    pub(crate) unavailable: u64,
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

/// How hard one account calls one product.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rate {
    pub(crate) account: String,
    pub(crate) product: Product,
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
    nonce_life: Duration,
    nonces: HashSet<(String, String)>,
    nonce_order: VecDeque<(Micros, (String, String))>,
    recent: HashMap<(String, Product, Option<&'static str>), Recent>,
    tallies: BTreeMap<(Option<String>, Product, Option<&'static str>), Tally>,
    fault: Option<(ApiFault, Option<Product>, Micros)>,
}

impl Gate {
    /// `timestamp_window` is how far a timestamp may be off: a nonce is remembered for as long as its call could be
    /// repeated.
    pub(super) fn new(scope: ThrottleScope, timestamp_window: Duration) -> Self {
        Self {
            scope,
            nonce_life: timestamp_window.saturating_mul(2),
            nonces: HashSet::new(),
            nonce_order: VecDeque::new(),
            recent: HashMap::new(),
            tallies: BTreeMap::new(),
            fault: None,
        }
    }

    /// Remembers a nonce of an access key, and says whether it is new. Only for calls whose signature is right, so that
    /// nobody else can fill this.
    pub(super) fn is_new(&mut self, key_id: &str, nonce: &str, now: Micros) -> bool {
        while let Some((at, _)) = self.nonce_order.front()
            && at.after(self.nonce_life) < now
        {
            if let Some((_, nonce)) = self.nonce_order.pop_front() {
                self.nonces.remove(&nonce);
            }
        }
        let nonce = (key_id.to_owned(), nonce.to_owned());
        let new = self.nonces.insert(nonce.clone());
        if new {
            self.nonce_order.push_back((now, nonce));
        }
        new
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

    /// How hard each account has called; one line per action where that is what is throttled.
    pub(super) fn rates(&self) -> Vec<Rate> {
        let mut rates: Vec<Rate> = self
            .recent
            .iter()
            .map(|((account, product, _), recent)| Rate {
                account: account.clone(),
                product: *product,
                peak_per_second: recent.peak,
            })
            .collect();
        rates.sort_by(|a, b| {
            (&a.account, a.product, b.peak_per_second).cmp(&(&b.account, b.product, a.peak_per_second))
        });
        rates
    }

    /// Makes the gateway misbehave until `until`, towards one product's callers or all.
    pub(super) fn misbehave(&mut self, fault: ApiFault, product: Option<Product>, until: Micros) {
        self.fault = Some((fault, product, until));
    }

    /// What the gateway is to do to a call of this product instead of serving it.
    pub(super) fn fault(&self, product: Product, now: Micros) -> Option<ApiFault> {
        let (fault, only, until) = self.fault?;
        (now < until && only.is_none_or(|only| only == product)).then_some(fault)
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
    fn a_nonce_is_good_once_for_as_long_as_its_call_could_be_repeated() {
        let mut gate = gate(ThrottleScope::Account);
        let at = |seconds: u64| Micros::new(seconds * 1_000_000);
        assert!(gate.is_new("k", "n", at(0)));
        assert!(!gate.is_new("k", "n", at(1_800)));
        assert!(gate.is_new("other", "n", at(1_800)));
        assert!(gate.is_new("k", "n", at(1_801)));
        assert_eq!((gate.nonces.len(), gate.nonce_order.len()), (2, 2), "what is forgotten takes no room");
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
    }
}
