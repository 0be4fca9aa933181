//! What became of every message: one record each, in the order of publication, with everything that happened to it.
//! Also the place that message bodies live in. Records that are settled for good are dropped, oldest first, once there
//! are more than the log is allowed to hold.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use serde::Serialize;

use crate::clock::Now;

/// The position of a message in the order of publication, over all groups; the first is 1.
pub type Seq = u64;

/// Where a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// In the real-time queue, for want of credit or because of the push rate.
    Waiting,
    /// In the backlog (the platform's *accumulated* messages).
    Backlog,
    /// Pushed, and not answered yet.
    Unsettled,
    /// Accepted by a client. Final.
    Accepted,
    /// Given up by the platform: too old, or the backlog was full. Final.
    Dropped,
}

impl State {
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Accepted | Self::Dropped)
    }
}

/// Something that happened to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    Published,
    Waiting,
    Backlogged(&'static str),
    Pushed(&'static str),
    Accepted,
    Released(&'static str),
    Rejected,
    Modified,
    Expired,
    LinkLost,
    Dropped(&'static str),
}

impl Event {
    fn words(self) -> (&'static str, Option<&'static str>) {
        match self {
            Self::Published => ("published", None),
            Self::Waiting => ("waiting", None),
            Self::Backlogged(why) => ("backlog", Some(why)),
            Self::Pushed(lane) => ("pushed", Some(lane)),
            Self::Accepted => ("accepted", None),
            Self::Released(how) => ("released", Some(how)),
            Self::Rejected => ("rejected", None),
            Self::Modified => ("modified", None),
            Self::Expired => ("expired", Some("no answer within the ACK timeout")),
            Self::LinkLost => ("linkLost", None),
            Self::Dropped(why) => ("dropped", Some(why)),
        }
    }
}

/// A client's place in the table of names: the log keeps this instead of the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameId(u32);

#[derive(Debug, Clone, Copy)]
struct Entry {
    unix_us: u64,
    client: Option<NameId>,
    event: Event,
}

/// One message, as the platform holds it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) group: usize,
    pub(crate) state: State,
    pub(crate) published: Now,
    pub(crate) body: Bytes,
    given_id: Option<Box<str>>,
    pushes: u32,
    accepted_unix_us: Option<u64>,
    entries: Vec<Entry>,
}

/// One line of a message's fate, as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FateLine {
    /// When, in Unix µs.
    pub at: u64,
    /// What happened: `published`, `waiting`, `backlog`, `pushed`, `accepted`, `released`, `rejected`, `modified`,
    /// `expired`, `linkLost`, `dropped`.
    pub event: &'static str,
    /// The client it happened with, by its client ID.
    pub client: Option<String>,
    /// More about it, if there is more: the queue it was pushed from, the reason it went to the backlog.
    pub detail: Option<&'static str>,
}

/// The short form of a message's fate, for reading many at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FateSummary {
    /// Its place in the order of publication, over all groups.
    pub seq: Seq,
    /// Its message ID.
    pub id: String,
    /// When it was published, in Unix µs.
    pub published_at_us: u64,
    /// How often it was pushed.
    pub pushes: u32,
    /// When it was accepted, in Unix µs.
    pub accepted_at_us: Option<u64>,
    /// Where it stands.
    pub state: State,
}

/// The log. See the module.
#[derive(Debug)]
pub(crate) struct Log {
    capacity: usize,
    /// A message's ID, unless one was given, is this plus its `Seq`.
    id_base: u64,
    first: Seq,
    records: VecDeque<Record>,
    given_ids: HashMap<Box<str>, Vec<Seq>>,
    names: Vec<String>,
}

impl Log {
    pub(crate) fn new(capacity: usize, id_base: u64) -> Self {
        Self { capacity, id_base, first: 1, records: VecDeque::new(), given_ids: HashMap::new(), names: Vec::new() }
    }

    /// Remembers a client's name.
    pub(crate) fn name(&mut self, client_id: &str) -> NameId {
        let id = NameId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.names.push(client_id.to_owned());
        id
    }

    /// The `Seq` and the message ID of the next message.
    pub(crate) fn next(&self, given: Option<&str>) -> (Seq, String) {
        let seq = self.first + self.records.len() as u64;
        (seq, given.map_or_else(|| (self.id_base + seq).to_string(), str::to_owned))
    }

    /// Adds the message that [`Log::next`] was asked about.
    pub(crate) fn add(&mut self, group: usize, given_id: Option<&str>, body: Bytes, now: Now) -> Seq {
        let (seq, _) = self.next(None);
        let given_id = given_id.map(Box::<str>::from);
        if let Some(id) = &given_id {
            self.given_ids.entry(id.clone()).or_default().push(seq);
        }
        self.records.push_back(Record {
            group,
            state: State::Waiting,
            published: now,
            body,
            given_id,
            pushes: 0,
            accepted_unix_us: None,
            entries: vec![Entry { unix_us: now.unix_us, client: None, event: Event::Published }],
        });
        seq
    }

    fn index(&self, seq: Seq) -> Option<usize> {
        seq.checked_sub(self.first).and_then(|offset| usize::try_from(offset).ok())
    }

    /// The record of `seq`, unless it was dropped from the log (then it was settled for good).
    pub(crate) fn get(&self, seq: Seq) -> Option<&Record> {
        self.records.get(self.index(seq)?)
    }

    /// Writes down that `event` happened to `seq`, and that this left it in `state`. A message that has reached a final
    /// state stays there.
    pub(crate) fn record(&mut self, seq: Seq, state: State, event: Event, client: Option<NameId>, now: Now) {
        let Some(record) = self.index(seq).and_then(|index| self.records.get_mut(index)) else { return };
        if record.state.is_final() {
            return;
        }
        record.state = state;
        record.entries.push(Entry { unix_us: now.unix_us, client, event });
        match event {
            Event::Pushed(_) => record.pushes += 1,
            Event::Accepted => record.accepted_unix_us = Some(now.unix_us),
            _ => {}
        }
        if state.is_final() {
            record.body = Bytes::new();
            record.entries.shrink_to_fit();
            self.trim();
        }
    }

    fn trim(&mut self) {
        while self.records.len() > self.capacity && self.records.front().is_some_and(|record| record.state.is_final()) {
            let Some(record) = self.records.pop_front() else { return };
            if let Some(id) = record.given_id
                && let Some(seqs) = self.given_ids.get_mut(&id)
            {
                seqs.retain(|&seq| seq != self.first);
                if seqs.is_empty() {
                    self.given_ids.remove(&id);
                }
            }
            self.first += 1;
        }
    }

    /// The first `Seq` that is still in the log.
    pub(crate) fn first(&self) -> Seq {
        self.first
    }

    fn id(&self, seq: Seq, record: &Record) -> String {
        record.given_id.as_deref().map_or_else(|| (self.id_base + seq).to_string(), str::to_owned)
    }

    /// The fate of the message with this ID, oldest line first; of all of them, if the ID was given more than once.
    pub(crate) fn fate(&self, id: &str) -> Option<Vec<FateLine>> {
        let numbered = id.parse::<u64>().ok().and_then(|number| number.checked_sub(self.id_base));
        let seqs = self.given_ids.get(id).cloned().unwrap_or_else(|| numbered.into_iter().collect());
        let mut lines: Vec<FateLine> = seqs
            .iter()
            .filter_map(|&seq| Some((seq, self.get(seq)?)))
            .filter(|(seq, record)| self.id(*seq, record) == id)
            .flat_map(|(_, record)| &record.entries)
            .map(|entry| {
                let (event, detail) = entry.event.words();
                let client = entry.client.and_then(|name| self.names.get(name.0 as usize)).cloned();
                FateLine { at: entry.unix_us, event, client, detail }
            })
            .collect();
        lines.sort_by_key(|line| line.at);
        (!lines.is_empty()).then_some(lines)
    }

    /// The next at most `limit` messages of `group` after `after`, and the `Seq` to go on after.
    pub(crate) fn summaries(&self, group: usize, after: Seq, limit: usize) -> (Vec<FateSummary>, Seq) {
        let start = self.index(after.saturating_add(1)).unwrap_or(0).min(self.records.len());
        let mut next = after.max(self.first - 1);
        let mut summaries = Vec::new();
        for (record, seq) in self.records.range(start..).zip(self.first + start as u64..) {
            if summaries.len() == limit {
                break;
            }
            next = seq;
            if record.group == group {
                summaries.push(FateSummary {
                    seq,
                    id: self.id(seq, record),
                    published_at_us: record.published.unix_us,
                    pushes: record.pushes,
                    accepted_at_us: record.accepted_unix_us,
                    state: record.state,
                });
            }
        }
        (summaries, next)
    }
}
