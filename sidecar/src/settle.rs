//! From single settlements to ranges of deliveries: one frame for a batch instead of one a message. Pure.

use crate::amqp::serial::Serial;
use crate::ledger::{LinkEpoch, Outcome, Settlement};

/// Deliveries that follow one another on one link and have one outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// Their link.
    pub epoch: LinkEpoch,
    /// The first delivery.
    pub first: u32,
    /// The last delivery; before the first as a plain number if the range spans the wrap at 2³².
    pub last: u32,
    /// What becomes of them.
    pub outcome: Outcome,
}

impl Range {
    /// How many deliveries it spans.
    pub fn count(&self) -> u32 {
        Serial(self.last).since(Serial(self.first)).saturating_add(1)
    }
}

/// Takes `settlements` and appends the ranges that they make up to `ranges`. An application answers mostly in the order
/// of delivery, so those come ordered already; what is not is sorted, by distance from the first, since delivery-ids wrap.
pub fn into_ranges(settlements: &mut Vec<Settlement>, ranges: &mut Vec<Range>) {
    let Some(origin) = settlements.first().map(|first| first.transfer.delivery_id) else {
        return;
    };
    let place = |settlement: &Settlement| {
        // Half a circle is added so that those before the origin come before it.
        let ahead = Serial(settlement.transfer.delivery_id).since(Serial(origin)).wrapping_add(1 << 31);
        (settlement.transfer.epoch, ahead)
    };
    if !settlements.is_sorted_by_key(place) {
        settlements.sort_unstable_by_key(place);
    }
    for Settlement { transfer, outcome } in settlements.drain(..) {
        match ranges.last_mut() {
            Some(range)
                if range.epoch == transfer.epoch
                    && range.outcome == outcome
                    && Serial(range.last).plus(1) == Serial(transfer.delivery_id) =>
            {
                range.last = transfer.delivery_id;
            }
            _ => ranges.push(Range {
                epoch: transfer.epoch,
                first: transfer.delivery_id,
                last: transfer.delivery_id,
                outcome,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::ledger::Transfer;

    fn settlement(epoch: u64, delivery_id: u32, outcome: Outcome) -> Settlement {
        Settlement { transfer: Transfer { epoch: LinkEpoch(epoch), delivery_id }, outcome }
    }

    fn ranges(mut settlements: Vec<Settlement>) -> Vec<Range> {
        let mut ranges = Vec::new();
        into_ranges(&mut settlements, &mut ranges);
        assert!(settlements.is_empty());
        ranges
    }

    #[test]
    fn a_range_spans_the_wrap() {
        let ids = [u32::MAX - 1, u32::MAX, 0, 1];
        let all = ranges(ids.iter().map(|id| settlement(1, *id, Outcome::Accepted)).collect());
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].first, all[0].last, all[0].count()), (u32::MAX - 1, 1, 4));
    }

    proptest! {
        #[test]
        fn every_settlement_is_in_one_range_and_no_other_delivery_is(
            start: u32,
            picks in prop::collection::btree_map((0_u64..2, 0_u32..60), any::<bool>(), 0..50),
            seed: u64,
        ) {
            let outcome = |accepted: bool| if accepted { Outcome::Accepted } else { Outcome::Released };
            let mut settlements: Vec<Settlement> = picks
                .iter()
                .map(|((epoch, id), accepted)| settlement(*epoch, start.wrapping_add(*id), outcome(*accepted)))
                .collect();
            settlements.sort_by_cached_key(|settlement| seed.wrapping_mul(u64::from(settlement.transfer.delivery_id) | 1));
            let mut found = BTreeMap::new();
            for range in ranges(settlements) {
                for step in 0..range.count() {
                    let id = range.first.wrapping_add(step).wrapping_sub(start);
                    let before = found.insert((range.epoch.0, id), range.outcome == Outcome::Accepted);
                    prop_assert_eq!(before, None);
                }
            }
            prop_assert_eq!(found, picks);
        }
    }
}
