//! Where the records of messages lie, by their place in the order of publication. Those that are settled leave in the order
//! of their settling once there are too many, wherever they lie: one message that is never settled keeps nothing but itself,
//! and eight bytes for each that came with it.

use std::collections::VecDeque;

use super::log::Seq;

/// How many places are made and given up together.
const CHUNK: u64 = 1_024;

#[derive(Debug)]
struct Chunk<T> {
    taken: usize,
    places: Box<[Option<Box<T>>]>,
}

impl<T> Chunk<T> {
    fn new() -> Self {
        Self { taken: 0, places: (0..CHUNK).map(|_| None).collect() }
    }
}

#[derive(Debug)]
pub(super) struct Shelf<T> {
    next: Seq,
    /// The number of the first in `chunks`.
    first_chunk: u64,
    /// `None` where nothing is left.
    chunks: VecDeque<Option<Chunk<T>>>,
    /// What is settled and still here, in the order of settling.
    settled: VecDeque<Seq>,
    capacity: usize,
}

impl<T> Shelf<T> {
    /// An empty shelf for `capacity` settled records, and any number of others. The first place is 1.
    pub(super) fn new(capacity: usize) -> Self {
        Self { next: 1, first_chunk: 0, chunks: VecDeque::new(), settled: VecDeque::new(), capacity }
    }

    /// The place of the next record.
    pub(super) fn next(&self) -> Seq {
        self.next
    }

    pub(super) fn add(&mut self, record: T) -> Seq {
        let seq = self.next;
        self.next += 1;
        if self.chunks.is_empty() {
            self.first_chunk = seq / CHUNK;
        }
        let index = usize::try_from(seq / CHUNK - self.first_chunk).unwrap_or(usize::MAX);
        while self.chunks.len() <= index {
            self.chunks.push_back(Some(Chunk::new()));
        }
        let chunk = self.chunks[index].get_or_insert_with(Chunk::new);
        chunk.taken += 1;
        chunk.places[within(seq)] = Some(Box::new(record));
        seq
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        usize::try_from((seq / CHUNK).checked_sub(self.first_chunk)?).ok()
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&T> {
        self.chunks.get(self.index(seq)?)?.as_ref()?.places[within(seq)].as_deref()
    }

    pub(super) fn get_mut(&mut self, seq: Seq) -> Option<&mut T> {
        let index = self.index(seq)?;
        self.chunks.get_mut(index)?.as_mut()?.places[within(seq)].as_deref_mut()
    }

    /// A record is settled, which happens once. Returns the one that leaves for it, if one has to.
    pub(super) fn settle(&mut self, seq: Seq) -> Option<(Seq, Box<T>)> {
        self.settled.push_back(seq);
        if self.settled.len() <= self.capacity {
            return None;
        }
        let oldest = self.settled.pop_front()?;
        Some((oldest, self.remove(oldest)?))
    }

    fn remove(&mut self, seq: Seq) -> Option<Box<T>> {
        let index = self.index(seq)?;
        let slot = self.chunks.get_mut(index)?;
        let chunk = slot.as_mut()?;
        let record = chunk.places[within(seq)].take()?;
        chunk.taken -= 1;
        // One that is being filled stays.
        if chunk.taken == 0 && seq / CHUNK < self.next / CHUNK {
            *slot = None;
        }
        while let Some(None) = self.chunks.front() {
            self.chunks.pop_front();
            self.first_chunk += 1;
        }
        Some(record)
    }

    /// The records from `seq` on, in their order.
    pub(super) fn range(&self, seq: Seq) -> impl Iterator<Item = (Seq, &T)> {
        let first = self.index(seq).unwrap_or(0).min(self.chunks.len());
        self.chunks.range(first..).zip(self.first_chunk + first as u64..).flat_map(move |(chunk, number)| {
            let places = chunk.iter().flat_map(|chunk| chunk.places.iter()).zip(number * CHUNK..);
            places.filter_map(move |(record, at)| Some((at, record.as_deref()?)).filter(|_| at >= seq))
        })
    }

    /// How many chunks there are, those included of which nothing is left, and how many of them have something.
    #[cfg(test)]
    pub(super) fn chunks(&self) -> (usize, usize) {
        (self.chunks.len(), self.chunks.iter().flatten().count())
    }

    #[cfg(test)]
    pub(super) fn settled(&self) -> usize {
        self.settled.len()
    }
}

fn within(seq: Seq) -> usize {
    usize::try_from(seq % CHUNK).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_that_is_never_settled_keeps_no_other() {
        let mut shelf = Shelf::new(10);
        let poison = shelf.add(0);
        for number in 1..=100_000_u64 {
            let seq = shelf.add(number);
            shelf.settle(seq);
        }
        assert_eq!(shelf.range(0).count(), 11);
        assert_eq!(shelf.get(poison), Some(&0));
        assert!(shelf.chunks().1 <= 3, "{:?}", shelf.chunks());
        shelf.settle(poison);
        for number in 0..10 {
            let seq = shelf.add(number);
            shelf.settle(seq);
        }
        assert_eq!(shelf.get(poison), None);
        assert!(shelf.chunks().0 <= 2, "{:?}", shelf.chunks());
    }

    proptest! {
        #[test]
        fn a_shelf_is_a_map_that_forgets_what_was_settled_first(
            capacity in 0..40_usize,
            steps in prop::collection::vec((1..600_usize, any::<u16>(), 0..700_usize), 1..12),
        ) {
            let (mut shelf, mut open, mut settled) = (Shelf::new(capacity), BTreeSet::new(), Vec::new());
            for (added, salt, count) in steps {
                for _ in 0..added {
                    let seq = shelf.next();
                    prop_assert_eq!(shelf.add(seq), seq);
                    open.insert(seq);
                }
                for _ in 0..count.min(open.len()) {
                    let nth = usize::from(salt) % open.len();
                    let seq = open.iter().copied().nth(nth).unwrap();
                    open.remove(&seq);
                    settled.push(seq);
                    let left = shelf.settle(seq);
                    let expected = settled.len().checked_sub(capacity + 1).map(|index| settled[index]);
                    prop_assert_eq!(left.map(|(seq, record)| (seq, *record)), expected.map(|seq| (seq, seq)));
                }
                let kept = &settled[settled.len().saturating_sub(capacity)..];
                let mut expected: Vec<Seq> = open.iter().copied().chain(kept.iter().copied()).collect();
                expected.sort_unstable();
                prop_assert_eq!(shelf.range(0).map(|(seq, _)| seq).collect::<Vec<_>>(), expected.clone());
                let from = u64::from(salt) % shelf.next();
                expected.retain(|&seq| seq >= from);
                prop_assert_eq!(shelf.range(from).map(|(_, record)| *record).collect::<Vec<_>>(), expected);
            }
        }
    }
}
