//! The application's side of the account: what its journal says was delivered and acknowledged, and how fast.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use serde::Deserialize;

/// How many latencies the live figures are taken from.
const RECENT: usize = 4096;
/// How many latencies the final figures are taken from: all of them up to here, beyond that a sample.
const SAMPLE: usize = 1 << 16;
/// How many settled messages are remembered, for the repeats that come late: a minute's worth at the highest rate.
const SETTLED: usize = 60_000;

/// A line of the application's journal, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Event {
    Delivered {
        id: String,
        sent_at_us: Option<u64>,
        at_us: u64,
    },
    Acked {
        id: String,
        at_us: u64,
    },
    LinkUp {},
    #[serde(other)]
    Other,
}

/// What the application did with a message.
#[derive(Debug, Default)]
struct Seen {
    delivered: bool,
    first_ack_us: Option<u64>,
}

/// Percentiles of the time from a device's publishing to the application, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Latency {
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
}

/// The account of all messages. Its size has a bound, for a demo may run for days.
#[derive(Default)]
pub(crate) struct Tally {
    /// What is under way or was settled lately, by a hash of the message ID.
    messages: HashMap<u64, Seen>,
    /// The settled ones among them, oldest first.
    settled: VecDeque<u64>,
    hasher: RandomState,
    delivered: u64,
    acked: u64,
    repeats: u64,
    link_up: bool,
    /// When the first and the last message were acknowledged, in microseconds since the Unix epoch.
    acks_us: Option<(u64, u64)>,
    /// How many latencies there were.
    measured: u64,
    /// A uniform sample of them.
    sample_us: Vec<u32>,
    recent_us: VecDeque<u32>,
}

impl Tally {
    /// Takes up a line of the journal. Fails if it is none.
    pub(crate) fn take(&mut self, line: &str) -> serde_json::Result<()> {
        match serde_json::from_str(line)? {
            Event::Delivered { id, sent_at_us, at_us } => {
                if std::mem::replace(&mut self.seen(&id).delivered, true) {
                    self.repeats += 1;
                } else {
                    self.delivered += 1;
                    if let Some(sent_at_us) = sent_at_us {
                        self.latency(at_us.saturating_sub(sent_at_us));
                    }
                }
            }
            Event::Acked { id, at_us } => {
                if self.seen(&id).first_ack_us.is_none() {
                    self.seen(&id).first_ack_us = Some(at_us);
                    self.acked += 1;
                    let (first, last) = self.acks_us.unwrap_or((at_us, at_us));
                    self.acks_us = Some((first.min(at_us), last.max(at_us)));
                }
            }
            Event::LinkUp {} => self.link_up = true,
            Event::Other => {}
        }
        Ok(())
    }

    /// Messages that the application was given, each counted once.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Messages that the application acknowledged, each counted once.
    pub(crate) fn acked(&self) -> u64 {
        self.acked
    }

    /// The time from the first ack to the last.
    pub(crate) fn acking_time(&self) -> Duration {
        self.acks_us.map_or(Duration::ZERO, |(first, last)| Duration::from_micros(last - first))
    }

    /// Deliveries beyond the first of a message.
    pub(crate) fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Whether the application has a stream and has heard that the link is up.
    pub(crate) fn link_up(&self) -> bool {
        self.link_up
    }

    /// When the application first acknowledged the message, in microseconds since the Unix epoch.
    pub(crate) fn first_ack_us(&self, message_id: &str) -> Option<u64> {
        self.messages.get(&self.hasher.hash_one(message_id))?.first_ack_us
    }

    /// Nothing more is to be asked of this message: it can be forgotten in time.
    pub(crate) fn settled(&mut self, message_id: &str) {
        self.settled.push_back(self.hasher.hash_one(message_id));
        if self.settled.len() > SETTLED
            && let Some(oldest) = self.settled.pop_front()
        {
            self.messages.remove(&oldest);
        }
    }

    /// The latency of all first deliveries.
    pub(crate) fn latency_of_all(&self) -> Latency {
        percentiles(self.sample_us.clone())
    }

    /// The latency of the latest first deliveries.
    pub(crate) fn latency_of_late(&self) -> Latency {
        percentiles(self.recent_us.iter().copied().collect())
    }

    fn seen(&mut self, message_id: &str) -> &mut Seen {
        self.messages.entry(self.hasher.hash_one(message_id)).or_default()
    }

    fn latency(&mut self, us: u64) {
        let us = u32::try_from(us).unwrap_or(u32::MAX);
        self.measured += 1;
        if self.sample_us.len() < SAMPLE {
            self.sample_us.push(us);
        } else {
            // Reservoir sampling (Vitter's algorithm R). The hash of a counter is as random as this needs.
            let place = self.hasher.hash_one(self.measured) % self.measured;
            if let Some(sampled) = usize::try_from(place).ok().and_then(|place| self.sample_us.get_mut(place)) {
                *sampled = us;
            }
        }
        if self.recent_us.len() == RECENT {
            self.recent_us.pop_front();
        }
        self.recent_us.push_back(us);
    }
}

/// The nearest-rank percentiles of `values`; 0 of none.
fn percentiles(mut values: Vec<u32>) -> Latency {
    values.sort_unstable();
    let at = |percent: usize| {
        let rank = (values.len() * percent).div_ceil(100);
        values.get(rank.saturating_sub(1)).copied().map_or(0, u64::from)
    };
    Latency { p50_us: at(50), p99_us: at(99) }
}

#[cfg(test)]
impl Tally {
    /// An account of these journal lines.
    pub(crate) fn of(lines: &[&str]) -> Self {
        let mut tally = Self::default();
        for line in lines {
            tally.take(line).unwrap();
        }
        tally
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        assert_eq!(percentiles((1..=100).rev().collect()), Latency { p50_us: 50, p99_us: 99 });
        assert_eq!(percentiles(vec![7]), Latency { p50_us: 7, p99_us: 7 });
        assert_eq!(percentiles(vec![1, 2, 3]), Latency { p50_us: 2, p99_us: 3 });
        assert_eq!(percentiles(Vec::new()), Latency::default());
    }

    #[test]
    fn a_message_delivered_twice_counts_once_and_as_a_repeat() {
        let tally = Tally::of(&[
            r#"{"event":"delivered","id":"a","attempt":1,"sentAtUs":1000,"atUs":1500}"#,
            r#"{"event":"delivered","id":"a","attempt":2,"sentAtUs":1000,"atUs":9000}"#,
            r#"{"event":"delivered","id":"b","attempt":1,"sentAtUs":null,"atUs":2000}"#,
        ]);
        assert_eq!((tally.delivered(), tally.repeats(), tally.acked()), (2, 1, 0));
        assert_eq!(tally.latency_of_all(), Latency { p50_us: 500, p99_us: 500 });
        assert_eq!(tally.latency_of_late(), tally.latency_of_all());
    }

    #[test]
    fn settled_messages_are_forgotten_in_time_and_stay_counted() {
        let mut tally = Tally::of(&[
            r#"{"event":"delivered","id":"first","attempt":1,"sentAtUs":1,"atUs":2}"#,
            r#"{"event":"acked","id":"first","atUs":10}"#,
        ]);
        tally.settled("first");
        for id in 1..SETTLED {
            tally.settled(&id.to_string());
        }
        assert_eq!(tally.first_ack_us("first"), Some(10));
        tally.settled("last");
        assert_eq!((tally.first_ack_us("first"), tally.messages.len(), tally.settled.len()), (None, 0, SETTLED));
        assert_eq!((tally.delivered(), tally.acked()), (1, 1));
    }

    #[test]
    fn latencies_beyond_the_sample_replace_some_of_it() {
        let mut tally = Tally::default();
        for us in [10, 20, 20, 20] {
            (0..SAMPLE).for_each(|_| tally.latency(us));
        }
        assert_eq!(tally.sample_us.len(), SAMPLE);
        let early = tally.sample_us.iter().filter(|&&us| us == 10).count();
        assert!((SAMPLE / 5..SAMPLE * 3 / 10).contains(&early), "a quarter of all, so about {} of {early}", SAMPLE / 4);
    }

    #[test]
    fn the_first_ack_of_a_message_counts() {
        let tally = Tally::of(&[
            r#"{"event":"acked","id":"a","atUs":10}"#,
            r#"{"event":"acked","id":"a","atUs":20}"#,
            r#"{"event":"settled","id":"a","atUs":30}"#,
        ]);
        assert_eq!(tally.acked(), 1);
        assert_eq!(tally.acking_time(), Duration::ZERO);
        assert_eq!(tally.first_ack_us("a"), Some(10));
        assert_eq!(tally.first_ack_us("b"), None);
    }

    #[test]
    fn the_link_is_up_once_the_journal_says_so() {
        assert!(!Tally::default().link_up());
        assert!(Tally::of(&[r#"{"event":"linkUp","atUs":1}"#]).link_up());
    }

    #[test]
    fn a_line_that_is_no_event_is_refused() {
        assert!(Tally::default().take("panicked at").is_err());
    }
}
