//! A doubly linked list through the entries of a slab: what is queued, and what is due, in order, with removal from the
//! middle in constant time and no memory beside the slab's. An entry is in at most one chain at a time.

use slab::Slab;

/// The place of an entry in its slab, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u32);

impl Slot {
    /// No entry.
    pub(super) const NONE: Self = Self(u32::MAX);

    /// The slot of a slab's key. The window keeps keys far below `u32::MAX`.
    pub(super) fn of(key: usize) -> Self {
        Self(u32::try_from(key).unwrap_or(u32::MAX))
    }

    /// The slab's key.
    pub(super) fn key(self) -> usize {
        self.0 as usize
    }

    /// None for [`Slot::NONE`].
    pub(super) fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// An entry's neighbours in its chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Links {
    before: Slot,
    after: Slot,
}

impl Links {
    /// Those of an entry in no chain.
    pub(super) const NONE: Self = Self { before: Slot::NONE, after: Slot::NONE };
}

/// What can stand in a chain.
pub(super) trait Linked {
    fn links(&self) -> &Links;
    fn links_mut(&mut self) -> &mut Links;
}

/// The ends of a list.
#[derive(Debug)]
pub(super) struct Chain {
    first: Slot,
    last: Slot,
}

impl Chain {
    pub(super) const fn new() -> Self {
        Self { first: Slot::NONE, last: Slot::NONE }
    }

    pub(super) fn first(&self) -> Option<Slot> {
        self.first.some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first == Slot::NONE
    }

    /// The entry that follows `slot`.
    pub(super) fn after<T: Linked>(slab: &Slab<T>, slot: Slot) -> Option<Slot> {
        slab[slot.key()].links().after.some()
    }

    pub(super) fn push_front<T: Linked>(&mut self, slab: &mut Slab<T>, slot: Slot) {
        self.link(slab, Slot::NONE, slot, self.first);
    }

    pub(super) fn push_back<T: Linked>(&mut self, slab: &mut Slab<T>, slot: Slot) {
        self.link(slab, self.last, slot, Slot::NONE);
    }

    /// Puts the entry behind the last one that `stays_before` it, seen from the end. Constant time when entries come in
    /// order.
    pub(super) fn insert_ordered<T: Linked>(
        &mut self,
        slab: &mut Slab<T>,
        slot: Slot,
        stays_before: impl Fn(&T, &T) -> bool,
    ) {
        let mut before = self.last;
        let mut after = Slot::NONE;
        while before != Slot::NONE && !stays_before(&slab[before.key()], &slab[slot.key()]) {
            after = before;
            before = slab[before.key()].links().before;
        }
        self.link(slab, before, slot, after);
    }

    /// Takes the entry out of this chain, which it must be in.
    pub(super) fn remove<T: Linked>(&mut self, slab: &mut Slab<T>, slot: Slot) {
        let Links { before, after } = std::mem::replace(slab[slot.key()].links_mut(), Links::NONE);
        self.join(slab, before, after);
    }

    fn link<T: Linked>(&mut self, slab: &mut Slab<T>, before: Slot, slot: Slot, after: Slot) {
        self.join(slab, before, slot);
        self.join(slab, slot, after);
    }

    /// Makes the two neighbours; none stands for the chain's end.
    fn join<T: Linked>(&mut self, slab: &mut Slab<T>, before: Slot, after: Slot) {
        match before.some() {
            Some(before) => slab[before.key()].links_mut().after = after,
            None => self.first = after,
        }
        match after.some() {
            Some(after) => slab[after.key()].links_mut().before = before,
            None => self.last = before,
        }
    }
}
