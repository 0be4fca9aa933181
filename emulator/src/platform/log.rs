//! What became of every message: one record each, in the order of publication, with everything that happened to it.
//! Also the place that message bodies live in. Of the records of settled messages as many are kept as the log is allowed to
//! hold; the others are folded into the groups' counts.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use serde::Serialize;

use super::audit::Violations;
use super::backlog::Place;
use super::marks::{Event, Mark, Marks};
use super::names::{NameId, Names};
use super::recent::{Past, Recent};
use super::shelf::Shelf;
use crate::clock::Now;

/// How many messages of one ID are looked at: a publisher may give the same again and again.
const COPIES: usize = 100;

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
    /// Given up by the platform: too old, say, or the backlog was full. Final.
    Dropped,
}

impl State {
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Accepted | Self::Dropped)
    }

    /// Whether `event` can happen to a message that stands like this.
    fn allows(self, event: Event) -> bool {
        match event {
            Event::Pushed(_) => matches!(self, Self::Waiting | Self::Backlog),
            Event::Settled(_) | Event::Expired | Event::LinkLost => self == Self::Unsettled,
            Event::SettledLate(_) => self == Self::Backlog,
            Event::Waiting(_) => self == Self::Waiting,
            Event::Backlogged(_) => matches!(self, Self::Waiting | Self::Backlog),
            Event::Dropped(_) => !self.is_final(),
            Event::Late(_) => true,
        }
    }
}

/// One message, as the platform holds it.
#[derive(Debug)]
pub(crate) struct Record {
    pub(super) group: usize,
    pub(super) published: Now,
    pub(super) body: Bytes,
    /// Where it is in the backlog, or was.
    pub(super) place: Place,
    given_id: Option<Box<str>>,
    marks: Marks,
    accepted_unix_us: u64,
    pushes: u32,
    pub(super) state: State,
    repeated: bool,
}

impl Record {
    /// How often it has been pushed.
    pub(super) fn pushes(&self) -> u32 {
        self.pushes
    }
}

/// A message that comes in.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) group: usize,
    /// Its ID, unless the log is to number it.
    pub(super) given_id: Option<&'a str>,
    pub(super) body: Bytes,
    /// Whether it is a copy of one that there was.
    pub(super) repeated: bool,
}

/// One line of a message's fate, as the admin API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FateLine {
    /// When, in Unix µs.
    pub at: u64,
    /// What happened: `published`, `repeated`, `waiting`, `backlog`, `pushed`, `accepted`, `released`, `rejected`,
    /// `modified`, `expired`, `linkLost`, `dropped`; `late` is an answer that counted for nothing, and `leftOut` stands for
    /// lines that are not kept.
    pub event: &'static str,
    /// The client it happened with, by its client ID.
    pub client: Option<String>,
    /// More about it, if there is more: the queue it was pushed from, the reason it went to the backlog.
    pub detail: Option<Cow<'static, str>>,
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

/// What a message takes besides its body, in bytes: as measured with many that wait.
const BESIDE_BODY: u64 = 400;

impl Record {
    /// What it takes until it is settled.
    pub(super) fn held_bytes(&self) -> u64 {
        self.body.len() as u64 + BESIDE_BODY
    }
}

/// The log. See the module.
#[derive(Debug)]
pub(crate) struct Log {
    /// A message's ID, unless one was given, is this plus its `Seq`.
    id_base: u64,
    shelf: Shelf<Record>,
    given_ids: HashMap<Box<str>, VecDeque<Seq>>,
    recent: Recent,
    /// What the messages that are not settled take.
    held_bytes: u64,
    pub(super) names: Names,
    pub(super) violations: Violations,
}

impl Log {
    pub(crate) fn new(capacity: usize, id_base: u64) -> Self {
        Self {
            id_base,
            shelf: Shelf::new(capacity),
            given_ids: HashMap::new(),
            recent: Recent::default(),
            held_bytes: 0,
            names: Names::default(),
            violations: Violations::default(),
        }
    }

    /// What the messages that are not settled take, in bytes.
    pub(super) fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// The message ID of the next message, unless one is given.
    pub(super) fn next_id(&self) -> String {
        self.numbered(self.shelf.next())
    }

    fn numbered(&self, seq: Seq) -> String {
        self.id_base.wrapping_add(seq).to_string()
    }

    pub(super) fn add(&mut self, arrival: Arrival<'_>, now: Now) -> Seq {
        let given_id = arrival.given_id.map(Box::<str>::from);
        if let Some(id) = &given_id {
            self.given_ids.entry(id.clone()).or_default().push_back(self.shelf.next());
        }
        let record = Record {
            group: arrival.group,
            published: now,
            body: arrival.body,
            place: Place::default(),
            given_id,
            marks: Marks::default(),
            accepted_unix_us: 0,
            pushes: 0,
            state: State::Waiting,
            repeated: arrival.repeated,
        };
        self.held_bytes += record.held_bytes();
        self.shelf.add(record)
    }

    /// The record of `seq`, unless it was folded (then it was settled for good).
    pub(super) fn get(&self, seq: Seq) -> Option<&Record> {
        self.shelf.get(seq)
    }

    /// Where a message is in the backlog.
    pub(super) fn set_place(&mut self, seq: Seq, place: Place) {
        if let Some(record) = self.shelf.get_mut(seq) {
            record.place = place;
        }
    }

    /// The first record from `seq` on.
    pub(super) fn next_from(&self, seq: Seq) -> Option<(Seq, &Record)> {
        self.shelf.range(seq).next()
    }

    /// Every record that there is.
    pub(super) fn all(&self) -> impl Iterator<Item = (Seq, &Record)> {
        self.shelf.range(0)
    }

    /// Writes down that `event` happened to `seq`, and that this left it in `state`. What can't be is not written but
    /// reported: above all, a message that is done with stays so.
    pub(super) fn record(&mut self, seq: Seq, state: State, event: Event, client: NameId, now: Now) {
        let Some(record) = self.shelf.get_mut(seq).filter(|record| record.state.allows(event)) else {
            return self.contradict(seq, event);
        };
        record.state = state;
        record.marks.push(Mark::new(now.unix_us.saturating_sub(record.published.unix_us), event, client));
        if let Event::Pushed(_) = event {
            record.pushes += 1;
        }
        if state.is_final() {
            if state == State::Accepted {
                record.accepted_unix_us = now.unix_us;
            }
            self.held_bytes -= record.held_bytes();
            let body = std::mem::take(&mut record.body);
            self.recent.push(Past { seq, given_id: record.given_id.clone(), group: record.group, body });
            self.fold(seq);
        }
    }

    /// The same, where no client has a part in it.
    pub(super) fn record_alone(&mut self, seq: Seq, state: State, event: Event, now: Now) {
        self.record(seq, state, event, NameId::NOBODY, now);
    }

    fn contradict(&mut self, seq: Seq, event: Event) {
        let state = self.get(seq).map_or_else(|| "settled and folded".to_owned(), |it| format!("{:?}", it.state));
        let (event, _) = event.words();
        self.violations.add(format!("message {} is {state}, and this happened to it: {event}", self.id(seq)));
    }

    /// Writes down something that changes nothing, if the record is still there.
    pub(super) fn annotate(&mut self, seq: Seq, event: Event, client: NameId, now: Now) {
        if let Some(record) = self.shelf.get_mut(seq) {
            record.marks.push(Mark::new(now.unix_us.saturating_sub(record.published.unix_us), event, client));
        }
    }

    fn fold(&mut self, settled: Seq) {
        let Some((seq, record)) = self.shelf.settle(settled) else { return };
        if let Some(id) = record.given_id
            && let Some(seqs) = self.given_ids.get_mut(&id)
        {
            if let Ok(index) = seqs.binary_search(&seq) {
                seqs.remove(index);
            }
            if seqs.is_empty() {
                self.given_ids.remove(&id);
            }
        }
    }

    /// The ID of a message.
    pub(super) fn id(&self, seq: Seq) -> String {
        let given = self.get(seq).and_then(|record| record.given_id.as_deref());
        given.map_or_else(|| self.numbered(seq), str::to_owned)
    }

    /// The number that an ID stands for, if the log gave it.
    fn number_of(&self, id: &str) -> Option<Seq> {
        id.parse::<u64>().ok()?.checked_sub(self.id_base)
    }

    /// The messages with this ID, the last hundred of them.
    fn copies(&self, id: &str) -> impl Iterator<Item = (Seq, &Record)> {
        let given = self.given_ids.get(id).into_iter().flatten().copied();
        let given = given.rev().take(COPIES).collect::<Vec<_>>().into_iter().rev();
        let numbered = self.number_of(id).filter(|&seq| self.get(seq).is_some_and(|it| it.given_id.is_none()));
        numbered.into_iter().chain(given).filter_map(|seq| Some((seq, self.get(seq)?)))
    }

    /// The body of the message with this ID in each group that it was published to, as far as they are still there.
    pub(super) fn bodies(&self, id: &str) -> Vec<(usize, Bytes)> {
        let is_past = |past: &&Past| match &past.given_id {
            Some(given) => **given == *id,
            None => self.number_of(id) == Some(past.seq),
        };
        let past = self.recent.iter().filter(is_past).map(|past| (past.group, &past.body));
        let present = self.copies(id).map(|(_, record)| (record.group, &record.body));
        let mut bodies: Vec<(usize, Bytes)> = Vec::new();
        for (group, body) in past.chain(present) {
            if !body.is_empty() && bodies.iter().all(|(other, _)| *other != group) {
                bodies.push((group, body.clone()));
            }
        }
        bodies
    }

    /// The fate of the message with this ID, oldest line first; of all of them, if the ID was given more than once.
    pub(crate) fn fate(&self, id: &str) -> Option<Vec<FateLine>> {
        let mut lines: Vec<FateLine> = self.copies(id).flat_map(|(_, record)| self.lines(record)).collect();
        lines.sort_by_key(|line| line.at);
        (!lines.is_empty()).then_some(lines)
    }

    fn lines(&self, record: &Record) -> Vec<FateLine> {
        let published = record.published.unix_us;
        let line = |mark: Mark| {
            let (event, detail) = mark.event.words();
            let client = self.names.get(mark.client).map(str::to_owned);
            FateLine { at: published + mark.after_us(), event, client, detail: detail.map(Cow::Borrowed) }
        };
        let event = if record.repeated { "repeated" } else { "published" };
        let mut lines = vec![FateLine { at: published, event, client: None, detail: None }];
        let (early, left_out, late) = record.marks.all();
        lines.extend(early.map(line));
        if left_out > 0 {
            let at = lines.last().map_or(published, |line| line.at);
            let detail = Some(Cow::Owned(format!("{left_out} lines")));
            lines.push(FateLine { at, event: "leftOut", client: None, detail });
        }
        lines.extend(late.map(line));
        lines
    }

    /// The next at most `limit` messages of `group` after `after`, and the `Seq` to go on after.
    pub(crate) fn summaries(&self, group: usize, after: Seq, limit: usize) -> (Vec<FateSummary>, Seq) {
        let (mut next, mut summaries) = (after, Vec::new());
        for (seq, record) in self.shelf.range(after.saturating_add(1)) {
            if summaries.len() == limit {
                break;
            }
            next = seq;
            if record.group == group {
                summaries.push(FateSummary {
                    seq,
                    id: record.given_id.as_deref().map_or_else(|| self.numbered(seq), str::to_owned),
                    published_at_us: record.published.unix_us,
                    pushes: record.pushes,
                    accepted_at_us: (record.state == State::Accepted).then_some(record.accepted_unix_us),
                    state: record.state,
                });
            }
        }
        (summaries, next)
    }

    #[cfg(test)]
    pub(super) fn shelf(&self) -> &Shelf<Record> {
        &self.shelf
    }
}
