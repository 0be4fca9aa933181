//! Storage that is reused, and doubly linked lists through its entries: what is queued, and what is due, in order, with
//! removal from the middle in constant time and no further memory. An entry is in at most one chain at a time.

use std::ops::{Index, IndexMut};

/// The place of an entry in its arena, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u32);

impl Slot {
    /// No entry.
    pub(super) const NONE: Self = Self(u32::MAX);

    /// The window keeps indices far below `u32::MAX`.
    fn at(index: usize) -> Self {
        Self(u32::try_from(index).unwrap_or(u32::MAX))
    }

    /// None for [`Slot::NONE`].
    pub(super) fn some(self) -> Option<Self> {
        (self != Self::NONE).then_some(self)
    }
}

/// Entries in places that are used again, the last one left first: it is warm. An entry that is not in use stays where
/// it is, so nothing is moved to free it; what it owns is its user's to drop.
#[derive(Debug)]
pub(super) struct Arena<T> {
    entries: Vec<T>,
    vacant: Vec<Slot>,
}

impl<T> Arena<T> {
    pub(super) const fn new() -> Self {
        Self { entries: Vec::new(), vacant: Vec::new() }
    }

    /// How many entries are in use.
    pub(super) fn len(&self) -> usize {
        self.entries.len() - self.vacant.len()
    }

    /// Where the next entry will be.
    pub(super) fn vacant(&self) -> Slot {
        self.vacant.last().copied().unwrap_or_else(|| Slot::at(self.entries.len()))
    }

    pub(super) fn insert(&mut self, entry: T) -> Slot {
        if let Some(slot) = self.vacant.pop() {
            self[slot] = entry;
            slot
        } else {
            self.entries.push(entry);
            Slot::at(self.entries.len() - 1)
        }
    }

    /// Frees the place of an entry.
    pub(super) fn release(&mut self, slot: Slot) {
        self.vacant.push(slot);
    }

    /// All entries, those that are not in use too.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &T)> {
        self.entries.iter().enumerate().map(|(index, entry)| (Slot::at(index), entry))
    }
}

impl<T> Index<Slot> for Arena<T> {
    type Output = T;

    fn index(&self, slot: Slot) -> &T {
        &self.entries[slot.0 as usize]
    }
}

impl<T> IndexMut<Slot> for Arena<T> {
    fn index_mut(&mut self, slot: Slot) -> &mut T {
        &mut self.entries[slot.0 as usize]
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
    pub(super) fn after<T: Linked>(arena: &Arena<T>, slot: Slot) -> Option<Slot> {
        arena[slot].links().after.some()
    }

    pub(super) fn push_front<T: Linked>(&mut self, arena: &mut Arena<T>, slot: Slot) {
        self.link(arena, Slot::NONE, slot, self.first);
    }

    pub(super) fn push_back<T: Linked>(&mut self, arena: &mut Arena<T>, slot: Slot) {
        self.link(arena, self.last, slot, Slot::NONE);
    }

    /// Puts the entry behind the last one that `stays_before` it, seen from the end. Constant time when entries come in
    /// order.
    pub(super) fn insert_ordered<T: Linked>(
        &mut self,
        arena: &mut Arena<T>,
        slot: Slot,
        stays_before: impl Fn(&T, &T) -> bool,
    ) {
        let mut before = self.last;
        let mut after = Slot::NONE;
        while before != Slot::NONE && !stays_before(&arena[before], &arena[slot]) {
            after = before;
            before = arena[before].links().before;
        }
        self.link(arena, before, slot, after);
    }

    /// Takes the entry out of this chain, which it must be in.
    pub(super) fn remove<T: Linked>(&mut self, arena: &mut Arena<T>, slot: Slot) {
        let Links { before, after } = std::mem::replace(arena[slot].links_mut(), Links::NONE);
        self.join(arena, before, after);
    }

    fn link<T: Linked>(&mut self, arena: &mut Arena<T>, before: Slot, slot: Slot, after: Slot) {
        self.join(arena, before, slot);
        self.join(arena, slot, after);
    }

    /// Makes the two neighbours; none stands for the chain's end.
    fn join<T: Linked>(&mut self, arena: &mut Arena<T>, before: Slot, after: Slot) {
        match before.some() {
            Some(before) => arena[before].links_mut().after = after,
            None => self.first = after,
        }
        match after.some() {
            Some(after) => arena[after].links_mut().before = before,
            None => self.last = before,
        }
    }
}
