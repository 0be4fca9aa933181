//! The backlog of a group: what is in it, from when each message may be pushed, and which is the next. Whether one that keeps
//! failing lets others pass is a question of the profile (PLATFORM.md 1.7: failing messages "may block the queue").

use std::collections::BTreeMap;

use super::log::Seq;
use crate::clock::Micros;
use crate::profile::BacklogOrder;

/// A message's place in the backlog. A message that comes back tells the one it had.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place(u64);

#[derive(Debug)]
pub(super) struct Backlog {
    order: BacklogOrder,
    /// From when each message may be pushed, in the order of pushing.
    entries: BTreeMap<(Place, Seq), Micros>,
    /// How many have come so far, in [`BacklogOrder::FailedBlock`].
    came: u64,
}

impl Backlog {
    pub(super) fn new(order: BacklogOrder) -> Self {
        Self { order, entries: BTreeMap::new(), came: 0 }
    }

    /// Takes a message in, and says what its place is.
    pub(super) fn put(&mut self, seq: Seq, before: Place, eligible_at: Micros) -> Place {
        let place = match self.order {
            BacklogOrder::FailedPass => Place(eligible_at.get()),
            BacklogOrder::FailedBlock if before == Place::default() => {
                self.came += 1;
                Place(self.came)
            }
            BacklogOrder::FailedBlock => before,
        };
        self.entries.insert((place, seq), eligible_at);
        place
    }

    /// Takes a message out. Says whether it was there.
    pub(super) fn remove(&mut self, seq: Seq, place: Place) -> bool {
        self.entries.remove(&(place, seq)).is_some()
    }

    /// The message that is to be pushed next, if it may be by now.
    pub(super) fn next(&self, now: Micros) -> Option<(Seq, Place)> {
        let (&(place, seq), &eligible_at) = self.entries.first_key_value()?;
        (eligible_at <= now).then_some((seq, place))
    }

    /// From when the next message may be pushed.
    pub(super) fn next_at(&self) -> Option<Micros> {
        self.entries.first_key_value().map(|(_, &eligible_at)| eligible_at)
    }

    pub(super) fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Takes everything out.
    pub(super) fn clear(&mut self) -> impl Iterator<Item = Seq> + use<> {
        std::mem::take(&mut self.entries).into_keys().map(|(_, seq)| seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Place = Place(0);

    #[test]
    fn what_failed_is_passed_by_others_or_blocks_them() {
        for (order, expected) in [(BacklogOrder::FailedPass, Some(2)), (BacklogOrder::FailedBlock, None)] {
            let mut backlog = Backlog::new(order);
            let first = backlog.put(1, NEW, Micros::new(0));
            backlog.put(2, NEW, Micros::new(0));
            assert_eq!(backlog.next(Micros::new(0)), Some((1, first)));
            assert!(backlog.remove(1, first) && !backlog.remove(1, first));
            let again = backlog.put(1, first, Micros::new(60));
            assert_eq!(backlog.next(Micros::new(0)).map(|(seq, _)| seq), expected);
            assert_eq!(backlog.next_at(), Some(Micros::new(if expected.is_some() { 0 } else { 60 })));
            assert!(backlog.remove(1, again));
            assert_eq!(backlog.next(Micros::new(0)).map(|(seq, _)| seq), Some(2), "what blocked is gone");
            assert_eq!((backlog.clear().collect::<Vec<_>>(), backlog.len()), (vec![2], 0));
        }
    }
}
