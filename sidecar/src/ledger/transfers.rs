//! The transfers that have no outcome yet, in the order of their deadlines. Each belongs to an item; the transfers of
//! one item are linked to each other. A transfer whose link is gone stays as a mark, no longer live, while its item is
//! leased: it holds the lease's end.

use std::time::{Duration, Instant};

use super::chain::{Arena, Chain, Linked, Links, Slot};
use super::settlement::{LinkEpoch, Transfer};

/// One transfer of an item.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) transfer: Transfer,
    pub(super) item: Slot,
    /// When it must have its outcome.
    pub(super) deadline: Instant,
    /// Whether its link is still up and it has no outcome.
    pub(super) live: bool,
    /// Whether no useful lease is left of it: it is in `late`, else in `fresh`.
    late: bool,
    links: Links,
    /// The next transfer of the same item.
    sibling: Slot,
}

impl Linked for Entry {
    fn links(&self) -> &Links {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// All transfers without an outcome.
#[derive(Debug)]
pub(super) struct Transfers {
    arena: Arena<Entry>,
    /// Those that leave a useful lease, the next deadline first.
    fresh: Chain,
    /// Those that don't, the next deadline first.
    late: Chain,
}

impl Transfers {
    pub(super) fn new() -> Self {
        Self { arena: Arena::new(), fresh: Chain::new(), late: Chain::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    pub(super) fn get(&self, slot: Slot) -> &Entry {
        &self.arena[slot]
    }

    /// Enters a transfer of the item whose other transfers start at `sibling`. Constant time unless the lease has just
    /// been shortened, in which case those with a later deadline are passed over.
    pub(super) fn insert(&mut self, transfer: Transfer, item: Slot, deadline: Instant, sibling: Slot) -> Slot {
        let entry = Entry { transfer, item, deadline, live: true, late: false, links: Links::NONE, sibling };
        let slot = self.arena.insert(entry);
        self.fresh.insert_ordered(&mut self.arena, slot, by_deadline);
        slot
    }

    /// Takes the entry out. Returns it if it is live, and the next of the same item: their list is the caller's to mend.
    pub(super) fn remove(&mut self, slot: Slot) -> (Option<Transfer>, Slot) {
        let chain = if self.arena[slot].late { &mut self.late } else { &mut self.fresh };
        chain.remove(&mut self.arena, slot);
        self.arena.release(slot);
        let entry = &mut self.arena[slot];
        let live = std::mem::replace(&mut entry.live, false);
        (live.then_some(entry.transfer), entry.sibling)
    }

    /// Takes `gone` out of the item's list, which starts at `first`, and out of the table; returns the list's new
    /// start.
    pub(super) fn remove_from(&mut self, first: Slot, gone: Slot) -> Slot {
        let (_, after) = self.remove(gone);
        if first == gone {
            return after;
        }
        let mut slot = first;
        while self.arena[slot].sibling != gone {
            slot = self.arena[slot].sibling;
        }
        self.arena[slot].sibling = after;
        first
    }

    /// Marks that the link is gone.
    pub(super) fn orphan(&mut self, slot: Slot) {
        self.arena[slot].live = false;
    }

    /// The transfers of an item.
    pub(super) fn of_item(&self, first: Slot) -> impl Iterator<Item = (Slot, &Entry)> {
        std::iter::successors(first.some(), |slot| self.arena[*slot].sibling.some())
            .map(|slot| (slot, &self.arena[slot]))
    }

    /// The live transfers of a link, in no order. For what happens rarely: the cost grows with the window.
    pub(super) fn of_link(&self, epoch: LinkEpoch) -> impl Iterator<Item = (Slot, &Entry)> {
        self.arena.iter().filter(move |(_, entry)| entry.live && entry.transfer.epoch == epoch)
    }

    /// The next transfer that has come to leave no useful lease; it is reported once.
    pub(super) fn next_late(&mut self, now: Instant, useful: Duration) -> Option<Slot> {
        let slot = self.fresh.first().filter(|slot| self.get(*slot).deadline <= now + useful)?;
        self.fresh.remove(&mut self.arena, slot);
        self.arena[slot].late = true;
        self.late.insert_ordered(&mut self.arena, slot, by_deadline);
        Some(slot)
    }

    /// A transfer whose deadline has come. Look for late ones first ([`Transfers::next_late`]).
    pub(super) fn next_due(&self, now: Instant) -> Option<Slot> {
        self.late.first().filter(|slot| self.get(*slot).deadline <= now)
    }

    /// When one of the two above has something to report next.
    pub(super) fn next_deadline(&self, useful: Duration) -> Option<Instant> {
        let due = self.late.first().map(|slot| self.get(slot).deadline);
        let late = self.fresh.first().map(|slot| {
            let deadline = self.get(slot).deadline;
            deadline.checked_sub(useful).unwrap_or(deadline)
        });
        due.into_iter().chain(late).min()
    }
}

fn by_deadline(one: &Entry, other: &Entry) -> bool {
    one.deadline <= other.deadline
}
