//! Which messages were seen before. The platform repeats messages (PLATFORM.md 1.7); a repeat of one that is in hand
//! belongs to the same work item, and a repeat of one that was acked is done already. A message is known by its ID, its
//! topic and a hash of its payload: taking a new message for an old one would lose it, so the hash is keyed anew in
//! every process and 128 bits wide. A message without an ID is never taken for a repeat.
//!
//! The window lives in this process, so this holds for one pod.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use ahash::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// How much the window remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepeatPolicy {
    /// How long a message is remembered, to the second. Default: 10 min.
    pub window: Duration,
    /// The most messages remembered beside those in hand; the oldest goes first. Default: 100,000.
    pub max_entries: u32,
}

impl Default for RepeatPolicy {
    fn default() -> Self {
        Self { window: Duration::from_mins(10), max_entries: 100_000 }
    }
}

/// What two deliveries of the same message have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RepeatKey {
    /// Keyed hash of message ID and topic.
    pub identity: u64,
    /// Keyed hash of the payload.
    pub payload: u64,
}

/// Makes the keys of one process.
#[derive(Debug, Clone)]
pub struct RepeatHasher {
    identity: RandomState,
    payload: RandomState,
}

impl RepeatHasher {
    /// Seeds itself at random.
    pub fn new() -> Self {
        Self { identity: RandomState::new(), payload: RandomState::new() }
    }

    /// The key of a message; none if its ID is empty.
    pub fn key(&self, message_id: &[u8], topic: &[u8], payload: &[u8]) -> Option<RepeatKey> {
        if message_id.is_empty() {
            return None;
        }
        Some(RepeatKey {
            identity: self.identity.hash_one((message_id, topic)),
            payload: self.payload.hash_one(payload),
        })
    }
}

impl Default for RepeatHasher {
    fn default() -> Self {
        Self::new()
    }
}

/// What the window knows of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// Nothing.
    New,
    /// An application had it, and its verdict is not known.
    Given,
    /// It is in hand, in this slot.
    InHand(u32),
    /// An application acked it.
    Acked,
}

/// What to remember of a message that leaves the hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Nothing: it was not given out, or failed.
    Nothing,
    /// An application had it, and its verdict is not known.
    Given,
    /// An application acked it.
    Acked,
}

/// The messages in hand, by slot, and those of the past, inside the bounds.
///
/// One table leads to both: its entries are 4 bytes, so that the table of 100,000 messages stays in the cache.
#[derive(Debug)]
pub(crate) struct RepeatWindow {
    policy: RepeatPolicy,
    table: HashTable<Place>,
    /// The keys of messages in hand, by slot.
    in_hand: Vec<RepeatKey>,
    /// Oldest first. A record whose message has come into hand again stays here until it ages out.
    past: VecDeque<Past>,
    /// The serial of the first record in `past`.
    first: u32,
    /// When time began.
    start: Option<Instant>,
}

/// The most entries for which memory is reserved beforehand: growing later copies the table, which takes milliseconds.
const RESERVED: usize = 1 << 17;

/// Serials of past records wrap here, and slots stay below: the bit above tells the two apart.
const IN_HAND: u32 = 1 << 31;

/// Where a message is: in a slot in hand, or in the past, by serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place(u32);

impl Place {
    fn in_hand(slot: u32) -> Self {
        Self(slot | IN_HAND)
    }
}

#[derive(Debug, Clone, Copy)]
struct Past {
    key: RepeatKey,
    /// Seconds since `start`.
    at: u32,
    acked: bool,
}

impl RepeatWindow {
    pub(crate) fn new(policy: RepeatPolicy) -> Self {
        let reserved = (policy.max_entries as usize).min(RESERVED);
        Self {
            policy,
            // Twice as much: a table that is never nearly full needs no clearing up.
            table: HashTable::with_capacity(2 * reserved),
            in_hand: Vec::new(),
            past: VecDeque::with_capacity(reserved),
            first: 0,
            start: None,
        }
    }

    /// Changes the bounds; what is beyond them goes with the next message that leaves the hand.
    pub(crate) fn set_policy(&mut self, policy: RepeatPolicy) {
        self.policy = policy;
    }

    /// What is known of a message that has come. If it is neither in hand nor acked, and a slot is given, then it is in
    /// hand from now on, in that slot.
    pub(crate) fn enter(&mut self, now: Instant, key: RepeatKey, slot: Option<u32>) -> Known {
        let now = self.seconds(now);
        let Self { table, in_hand, past, first, policy, .. } = self;
        let entry = table.entry(
            key.identity,
            |place| key_at(*place, in_hand, past, *first) == key,
            |place| key_at(*place, in_hand, past, *first).identity,
        );
        let known = match &entry {
            Entry::Vacant(_) => Known::New,
            Entry::Occupied(entry) => match *entry.get() {
                Place(place) if place >= IN_HAND => return Known::InHand(place ^ IN_HAND),
                Place(serial) => match past[index(serial, *first)] {
                    record if is_over(&record, now, policy.window) => Known::New,
                    Past { acked: true, .. } => return Known::Acked,
                    Past { acked: false, .. } => Known::Given,
                },
            },
        };
        if let Some(slot) = slot {
            entry.insert(Place::in_hand(slot));
            if in_hand.len() <= slot as usize {
                in_hand.resize(slot as usize + 1, RepeatKey { identity: 0, payload: 0 });
            }
            in_hand[slot as usize] = key;
        }
        known
    }

    /// The key of the message in a slot.
    pub(crate) fn key(&self, slot: u32) -> RepeatKey {
        self.in_hand[slot as usize]
    }

    /// Lets the message in a slot leave the hand.
    pub(crate) fn leave(&mut self, now: Instant, slot: u32, memory: Memory) {
        let key = self.key(slot);
        let place = Place::in_hand(slot);
        if memory == Memory::Nothing {
            if let Ok(entry) = self.table.find_entry(key.identity, |other| *other == place) {
                entry.remove();
            }
            return;
        }
        let next = self.next_serial();
        if let Some(entry) = self.table.find_mut(key.identity, |other| *other == place) {
            *entry = Place(next);
            self.record(now, key, memory == Memory::Acked);
        }
    }

    /// Takes note of an ack for a message whose lease was over. If the message is in hand, again or still, nothing
    /// changes and its slot is returned: it is the caller's to act on.
    pub(crate) fn late_ack(&mut self, now: Instant, key: RepeatKey) -> Option<u32> {
        let next = self.next_serial();
        let Self { table, in_hand, past, first, .. } = self;
        let entry = table.entry(
            key.identity,
            |place| key_at(*place, in_hand, past, *first) == key,
            |place| key_at(*place, in_hand, past, *first).identity,
        );
        match entry {
            Entry::Occupied(entry) => match *entry.get() {
                Place(place) if place >= IN_HAND => return Some(place ^ IN_HAND),
                // Its window runs from the end of the lease.
                Place(serial) => past[index(serial, *first)].acked = true,
            },
            Entry::Vacant(entry) => {
                entry.insert(Place(next));
                self.record(now, key, true);
            }
        }
        None
    }

    fn next_serial(&self) -> u32 {
        // Far fewer records than serials: `max_entries` is bounded by memory.
        #[allow(clippy::cast_possible_truncation, reason = "serials wrap")]
        let length = self.past.len() as u32;
        self.first.wrapping_add(length) & !IN_HAND
    }

    fn record(&mut self, now: Instant, key: RepeatKey, acked: bool) {
        let at = self.seconds(now);
        self.past.push_back(Past { key, at, acked });
        while let Some(oldest) = self.past.front()
            && (self.past.len() > self.policy.max_entries as usize || is_over(oldest, at, self.policy.window))
        {
            let place = Place(self.first);
            if let Ok(entry) = self.table.find_entry(oldest.key.identity, |other| *other == place) {
                entry.remove();
            }
            self.past.pop_front();
            self.first = (self.first + 1) & !IN_HAND;
        }
    }

    fn seconds(&mut self, now: Instant) -> u32 {
        let start = *self.start.get_or_insert(now);
        u32::try_from(now.saturating_duration_since(start).as_secs()).unwrap_or(u32::MAX)
    }
}

fn is_over(record: &Past, now: u32, window: Duration) -> bool {
    u64::from(now.saturating_sub(record.at)) >= window.as_secs()
}

fn index(serial: u32, first: u32) -> usize {
    (serial.wrapping_sub(first) & !IN_HAND) as usize
}

fn key_at(place: Place, in_hand: &[RepeatKey], past: &VecDeque<Past>, first: u32) -> RepeatKey {
    match place.0 {
        slot if slot >= IN_HAND => in_hand[(slot ^ IN_HAND) as usize],
        serial => past[index(serial, first)].key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> RepeatKey {
        RepeatKey { identity: number % 3, payload: number }
    }

    fn window(max_entries: u32) -> RepeatWindow {
        RepeatWindow::new(RepeatPolicy { window: Duration::from_mins(1), max_entries })
    }

    #[test]
    fn a_message_is_known_by_id_topic_and_payload_together() {
        let hasher = RepeatHasher::new();
        let key = hasher.key(b"1", b"/a", b"x");
        assert_eq!(key, hasher.key(b"1", b"/a", b"x"));
        for other in [hasher.key(b"2", b"/a", b"x"), hasher.key(b"1", b"/b", b"x"), hasher.key(b"1", b"/a", b"y")] {
            assert!(other.is_some() && other != key);
        }
        assert_ne!(hasher.key(b"1/", b"a", b"x"), key, "the border between ID and topic counts");
    }

    #[test]
    fn a_message_without_an_id_has_no_key() {
        assert_eq!(RepeatHasher::new().key(b"", b"/a", b"x"), None);
    }

    #[test]
    fn keys_differ_from_process_to_process() {
        assert_ne!(RepeatHasher::new().key(b"1", b"/a", b"x"), RepeatHasher::new().key(b"1", b"/a", b"x"));
    }

    #[test]
    fn the_window_forgets_by_time() {
        let now = Instant::now();
        let mut window = window(10);
        assert_eq!(window.enter(now, key(1), Some(0)), Known::New);
        window.leave(now, 0, Memory::Acked);
        assert_eq!(window.enter(now + Duration::from_secs(59), key(1), Some(0)), Known::Acked);
        assert_eq!(window.enter(now + Duration::from_mins(1), key(1), Some(0)), Known::New);
        assert_eq!(window.enter(now + Duration::from_mins(1), key(1), Some(1)), Known::InHand(0));
    }

    #[test]
    fn the_window_forgets_by_number_the_oldest_first() {
        let now = Instant::now();
        let mut window = window(10);
        for number in 0..1_000 {
            assert_eq!(window.enter(now, key(number), Some(7)), Known::New);
            window.leave(now, 7, if number % 2 == 0 { Memory::Acked } else { Memory::Given });
        }
        assert_eq!(window.enter(now, key(989), None), Known::New);
        for number in 990..1_000 {
            let known = if number % 2 == 0 { Known::Acked } else { Known::Given };
            assert_eq!(window.enter(now, key(number), None), known);
        }
        assert_eq!((window.table.len(), window.past.len()), (10, 10));
    }

    #[test]
    fn a_message_that_came_into_hand_again_outlives_its_former_record() {
        let now = Instant::now();
        let mut window = window(1);
        window.enter(now, key(1), Some(0));
        window.leave(now, 0, Memory::Given);
        assert_eq!(window.enter(now, key(1), Some(3)), Known::Given);
        window.enter(now, key(2), Some(4));
        window.leave(now, 4, Memory::Acked);
        assert_eq!(window.enter(now, key(1), None), Known::InHand(3));
        assert_eq!(window.late_ack(now, key(1)), Some(3));
        window.leave(now, 3, Memory::Nothing);
        assert_eq!(window.enter(now, key(1), None), Known::New);
        assert_eq!(window.enter(now, key(2), None), Known::Acked);
    }

    #[test]
    fn a_late_ack_is_remembered_whether_the_message_is_or_not() {
        let now = Instant::now();
        let mut window = window(10);
        assert_eq!(window.late_ack(now, key(1)), None);
        window.enter(now, key(2), Some(0));
        window.leave(now, 0, Memory::Given);
        assert_eq!(window.late_ack(now, key(2)), None);
        assert_eq!(window.enter(now, key(1), None), Known::Acked);
        assert_eq!(window.enter(now, key(2), None), Known::Acked);
    }
}
