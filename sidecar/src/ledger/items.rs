//! The work items in hand: storage that is reused, the queue, and the way from a lease's ID to its item. Memory is
//! bounded by the most items ever held at a time, not by how many pass through.

use std::collections::BTreeMap;
use std::time::Instant;

use super::InFlight;
use super::chain::{Arena, Chain, Linked, Links, Slot};
use super::settlement::{LeaseId, StreamId};

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Ready to be leased.
    Queued,
    /// Ready to be leased, and found too large for a stream that asked.
    Aside,
    /// Lent to a stream.
    Leased(StreamId, LeaseId),
    /// To be queued again at that time.
    Waiting(Instant),
    /// Not in hand any more.
    Gone,
}

/// A message as the application sees it.
#[derive(Debug)]
pub(super) struct Item<M> {
    /// None once the item is gone.
    pub(super) message: Option<M>,
    /// Bytes, as its owner counts them.
    pub(super) size: u32,
    /// How often it has been leased.
    pub(super) attempt: u32,
    /// Whether the repeat window holds it under its slot.
    pub(super) keyed: bool,
    /// Whether an application had it before and its verdict is not known.
    pub(super) possible_repeat: bool,
    /// Whether a former holder's ack arrived while another stream has it: it is done as soon as that lease ends.
    pub(super) acked: bool,
    /// The first of its transfers.
    pub(super) transfers: Slot,
    stage: Stage,
    links: Links,
}

impl<M> Item<M> {
    pub(super) fn new(message: M, size: u32, keyed: bool, possible_repeat: bool) -> Self {
        Self {
            message: Some(message),
            size,
            attempt: 0,
            keyed,
            possible_repeat,
            acked: false,
            transfers: Slot::NONE,
            stage: Stage::Queued,
            links: Links::NONE,
        }
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage
    }

    pub(super) fn is_leased(&self) -> bool {
        matches!(self.stage, Stage::Leased(..))
    }
}

impl<M> Linked for Item<M> {
    fn links(&self) -> &Links {
        &self.links
    }

    fn links_mut(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// All items in hand.
#[derive(Debug)]
pub(super) struct Items<M> {
    arena: Arena<Item<M>>,
    leases: LeaseIndex,
    queue: Chain,
    /// Queued items that were too large for a stream that asked, so that it does not look at them each time.
    aside: Chain,
    /// Every item set aside is larger than this.
    aside_above: u32,
    bytes: u64,
    queued: usize,
    leased: usize,
    /// What each stream has: few, so a list does.
    holders: Vec<(StreamId, InFlight)>,
}

impl<M> Items<M> {
    /// `first` is the ID of the first lease; the others follow in sequence.
    pub(super) fn new(first: LeaseId) -> Self {
        Self {
            arena: Arena::new(),
            leases: LeaseIndex::new(first),
            queue: Chain::new(),
            aside: Chain::new(),
            aside_above: u32::MAX,
            bytes: 0,
            queued: 0,
            leased: 0,
            holders: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.arena.len()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// What a stream has.
    pub(super) fn in_flight(&self, stream: StreamId) -> InFlight {
        self.holders.iter().find(|(holder, _)| *holder == stream).map(|(_, in_flight)| *in_flight).unwrap_or_default()
    }

    pub(super) fn leased(&self) -> usize {
        self.leased
    }

    pub(super) fn get(&self, slot: Slot) -> &Item<M> {
        &self.arena[slot]
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Item<M> {
        &mut self.arena[slot]
    }

    /// Whether there is an item in this slot.
    pub(super) fn contains(&self, slot: Slot) -> bool {
        self.get(slot).stage != Stage::Gone
    }

    /// The slot that the next [`Items::push`] will use.
    pub(super) fn vacant(&self) -> Slot {
        self.arena.vacant()
    }

    /// Takes a new item in, at the end of the queue.
    pub(super) fn push(&mut self, item: Item<M>) -> Slot {
        self.bytes += u64::from(item.size);
        self.queued += 1;
        let slot = self.arena.insert(item);
        self.queue.push_back(&mut self.arena, slot);
        slot
    }

    /// The next queued item of at most `largest` bytes. What is passed over is set aside, so that asking again costs
    /// nothing as long as `largest` stays what it is.
    pub(super) fn next_queued(&mut self, largest: u32) -> Option<Slot> {
        if self.aside_above < largest && !self.aside.is_empty() {
            let mut slot = self.aside.first();
            while let Some(candidate) = slot {
                if self.get(candidate).size <= largest {
                    return Some(candidate);
                }
                slot = Chain::after(&self.arena, candidate);
            }
            self.aside_above = largest;
        }
        loop {
            let slot = self.queue.first()?;
            if self.get(slot).size <= largest {
                return Some(slot);
            }
            self.aside_above = if self.aside.is_empty() { largest } else { self.aside_above.min(largest) };
            self.queue.remove(&mut self.arena, slot);
            self.aside.push_back(&mut self.arena, slot);
            self.arena[slot].stage = Stage::Aside;
        }
    }

    /// Lends the item to a stream, under a new ID.
    pub(super) fn lease(&mut self, slot: Slot, stream: StreamId) -> LeaseId {
        self.leave(slot);
        let Self { arena, leases, .. } = self;
        let id = leases.assign(
            slot,
            arena.len(),
            |other, id| matches!(arena[other].stage, Stage::Leased(_, lease) if lease == id),
        );
        self.leased += 1;
        let item = &mut self.arena[slot];
        item.attempt = item.attempt.saturating_add(1);
        item.stage = Stage::Leased(stream, id);
        let size = item.size;
        self.given(stream, size);
        id
    }

    /// The item that is leased under this ID.
    pub(super) fn find(&self, id: LeaseId) -> Option<(Slot, StreamId)> {
        let slot = self.leases.find(id)?;
        match self.get(slot).stage {
            Stage::Leased(stream, lease) if lease == id => Some((slot, stream)),
            _ => None,
        }
    }

    /// Queues an item again, before all that came later than it.
    pub(super) fn requeue(&mut self, slot: Slot) {
        self.leave(slot);
        self.queued += 1;
        self.arena[slot].stage = Stage::Queued;
        self.queue.push_front(&mut self.arena, slot);
    }

    /// Has an item wait for `due`, out of the queue.
    pub(super) fn wait(&mut self, slot: Slot, due: Instant) {
        self.leave(slot);
        self.arena[slot].stage = Stage::Waiting(due);
    }

    /// Lets the item go.
    pub(super) fn remove(&mut self, slot: Slot) {
        self.leave(slot);
        let item = &mut self.arena[slot];
        item.message = None;
        item.stage = Stage::Gone;
        self.bytes -= u64::from(item.size);
        self.arena.release(slot);
    }

    /// All items, in no order. For what happens rarely: the cost grows with the window.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Slot, &Item<M>)> {
        self.arena.iter().filter(|(_, item)| item.stage != Stage::Gone)
    }

    /// A stream has one item more.
    fn given(&mut self, stream: StreamId, size: u32) {
        let place = self.holders.iter().position(|(holder, _)| *holder == stream).unwrap_or_else(|| {
            self.holders.push((stream, InFlight::default()));
            self.holders.len() - 1
        });
        let (_, in_flight) = &mut self.holders[place];
        in_flight.messages += 1;
        in_flight.bytes += u64::from(size);
    }

    /// A stream has one item less.
    fn returned(&mut self, stream: StreamId, size: u32) {
        if let Some(place) = self.holders.iter().position(|(holder, _)| *holder == stream) {
            let (_, in_flight) = &mut self.holders[place];
            in_flight.messages -= 1;
            in_flight.bytes -= u64::from(size);
            if in_flight.messages == 0 {
                self.holders.swap_remove(place);
            }
        }
    }

    /// Takes the item out of the chain and the counts of its stage.
    fn leave(&mut self, slot: Slot) {
        match self.arena[slot].stage {
            Stage::Queued => {
                self.queue.remove(&mut self.arena, slot);
                self.queued -= 1;
            }
            Stage::Aside => {
                self.aside.remove(&mut self.arena, slot);
                self.queued -= 1;
            }
            Stage::Leased(stream, id) => {
                self.leases.forget(id);
                self.leased -= 1;
                self.returned(stream, self.arena[slot].size);
            }
            Stage::Waiting(_) | Stage::Gone => {}
        }
    }
}

/// From a lease's ID to its slot, without hashing: IDs are sequential, so a ring holds the latest of them. A lease that
/// is still held when its place in the ring comes round again moves to a tree of stragglers. An entry of the ring may
/// be out of date: who looks there checks the item.
#[derive(Debug)]
struct LeaseIndex {
    next: u64,
    /// A power of two long.
    ring: Vec<Slot>,
    stragglers: BTreeMap<LeaseId, Slot>,
}

/// The ring's first length.
const RING: usize = 1 << 10;

impl LeaseIndex {
    fn new(first: LeaseId) -> Self {
        Self { next: first.0, ring: vec![Slot::NONE; RING], stragglers: BTreeMap::new() }
    }

    /// Names a lease of the item in `slot`. `held` is the number of items; `is_leased` tells whether a slot is leased
    /// under an ID.
    fn assign(&mut self, slot: Slot, held: usize, is_leased: impl Fn(Slot, LeaseId) -> bool) -> LeaseId {
        let id = LeaseId(self.next);
        self.next += 1;
        // The ring holds as many IDs as it is long, so the coming one takes the place of that many before.
        let former = LeaseId(id.0.wrapping_sub(self.ring.len() as u64));
        let occupant = self.ring[self.place(id)];
        if occupant != Slot::NONE && is_leased(occupant, former) {
            if self.ring.len() < 4 * held {
                self.grow(id);
            } else {
                self.stragglers.insert(former, occupant);
            }
        }
        let place = self.place(id);
        self.ring[place] = slot;
        id
    }

    fn find(&self, id: LeaseId) -> Option<Slot> {
        // The ring covers the latest IDs: each place stands for exactly one of them.
        let age = self.next.checked_sub(id.0).filter(|age| *age > 0)?;
        if age <= self.ring.len() as u64 {
            self.ring[self.place(id)].some()
        } else if self.stragglers.is_empty() {
            None
        } else {
            self.stragglers.get(&id).copied()
        }
    }

    fn forget(&mut self, id: LeaseId) {
        if !self.stragglers.is_empty() {
            self.stragglers.remove(&id);
        }
    }

    /// Doubles the ring, which is about to take `next`.
    fn grow(&mut self, next: LeaseId) {
        let length = self.ring.len() * 2;
        let mut ring = vec![Slot::NONE; length];
        for id in next.0.saturating_sub(self.ring.len() as u64)..next.0 {
            ring[index(id, length)] = self.ring[self.place(LeaseId(id))];
        }
        let covered = LeaseId(next.0.saturating_sub(length as u64 - 1));
        for (id, slot) in self.stragglers.split_off(&covered) {
            ring[index(id.0, length)] = slot;
        }
        self.ring = ring;
    }

    fn place(&self, id: LeaseId) -> usize {
        index(id.0, self.ring.len())
    }
}

#[allow(clippy::cast_possible_truncation, reason = "masked to the ring's length")]
fn index(id: u64, length: usize) -> usize {
    (id & (length as u64 - 1)) as usize
}
