//! The streams that applications have attached, and how much each may have in flight. Pure: no I/O, time is an argument.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sluice_proto::v1::VerdictResults;

use crate::ledger::{InFlight, StreamId};

/// How long a client ID is remembered after its stream has gone: longer than any lease that it may come back for.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Results that a stream may leave unread before it is given up. More than any window (`delivery.maxInFlight`), and less
/// than gRPC clients take in one message.
const UNREAD_RESULTS: usize = 1 << 17;

/// How much an application takes at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Deliveries without a verdict.
    pub messages: u32,
    /// Their bytes; one delivery is given whatever its size.
    pub bytes: u64,
    /// The largest delivery, in bytes.
    pub largest: u32,
}

impl Limits {
    /// What is asked for, inside the sidecar's own bounds in messages and bytes; nothing means as much as that.
    #[must_use]
    pub fn within(self, (messages, bytes): (u32, u64)) -> Self {
        fn bounded<T: Ord + Default>(asked: T, bound: T) -> T {
            if asked == T::default() { bound } else { asked.min(bound) }
        }
        Self { messages: bounded(self.messages, messages), bytes: bounded(self.bytes, bytes), ..self }
    }
}

/// A name for one attachment of a client: a client that comes back has another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Attachment(pub u64);

/// A stream, as the consumer sees it. `T` is its way out.
#[derive(Debug)]
pub struct Stream<T> {
    /// The client in the ledger's words.
    pub id: StreamId,
    /// The client in its own words.
    pub client_id: String,
    /// What it asked for; 0 for as much as there is.
    pub asked: Limits,
    /// What it is given, inside the bounds of the present policy.
    pub limits: Limits,
    /// Results to be sent when there is room.
    pub results: VerdictResults,
    /// When a lease first ran out since its last verdict.
    pub silent_since: Option<Instant>,
    /// It sends no more verdicts: it is given nothing more, and ends once its results are told.
    pub finished: bool,
    /// Its way out.
    pub out: T,
}

impl<T> Stream<T> {
    /// The largest delivery it can take beside what it has; nothing if it is full.
    pub fn room(&self, has: InFlight) -> Option<u32> {
        if has.messages == 0 {
            return Some(self.limits.largest);
        }
        let bytes = self.limits.bytes.checked_sub(has.bytes).filter(|bytes| *bytes > 0)?;
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        (has.messages < self.limits.messages as usize).then(|| bytes.min(self.limits.largest))
    }

    /// Whether it leaves too much unread.
    pub fn is_clogged(&self) -> bool {
        let VerdictResults { settled, retry_scheduled, handed_back, expired, link_lost, unknown } = &self.results;
        [settled, retry_scheduled, handed_back, expired, link_lost, unknown].iter().map(|ids| ids.len()).sum::<usize>()
            > UNREAD_RESULTS
    }

    /// Whether there are results to send.
    pub fn has_results(&self) -> bool {
        self.results != VerdictResults::default()
    }
}

/// A client ID in the ledger's words, and when its stream went.
#[derive(Debug)]
struct Client {
    id: StreamId,
    gone: Option<Instant>,
}

/// All streams, in the order in which they attached.
#[derive(Debug)]
pub struct Streams<T> {
    live: Vec<(Attachment, Stream<T>)>,
    clients: HashMap<String, Client>,
    next: u64,
}

impl<T> Default for Streams<T> {
    fn default() -> Self {
        Self { live: Vec::new(), clients: HashMap::new(), next: 0 }
    }
}

/// The client has a live stream already.
#[derive(Debug, PartialEq, Eq)]
pub struct InUse;

impl<T> Streams<T> {
    /// Takes a stream in. `bounds`, in messages and bytes, are the sidecar's own for every stream.
    pub fn attach(
        &mut self,
        now: Instant,
        client_id: &str,
        asked: Limits,
        bounds: (u32, u64),
        out: T,
    ) -> Result<Attachment, InUse> {
        self.next += 1;
        let attachment = Attachment(self.next);
        self.clients.retain(|_, client| client.gone.is_none_or(|gone| now < gone + REMEMBERED));
        let id = match self.clients.get_mut(client_id) {
            Some(Client { gone: None, .. }) => return Err(InUse),
            Some(client) => {
                client.gone = None;
                client.id
            }
            None => {
                let id = StreamId(self.next);
                self.clients.insert(client_id.to_owned(), Client { id, gone: None });
                id
            }
        };
        let stream = Stream {
            id,
            client_id: client_id.to_owned(),
            asked,
            limits: asked.within(bounds),
            results: VerdictResults::default(),
            silent_since: None,
            finished: false,
            out,
        };
        self.live.push((attachment, stream));
        Ok(attachment)
    }

    /// Lets a stream go; its client may come back.
    pub fn detach(&mut self, now: Instant, attachment: Attachment) -> Option<Stream<T>> {
        let place = self.live.iter().position(|(other, _)| *other == attachment)?;
        let (_, stream) = self.live.remove(place);
        if let Some(client) = self.clients.get_mut(&stream.client_id) {
            client.gone = Some(now);
        }
        Some(stream)
    }

    /// A live stream.
    pub fn get_mut(&mut self, attachment: Attachment) -> Option<&mut Stream<T>> {
        self.live.iter_mut().find(|(other, _)| *other == attachment).map(|(_, stream)| stream)
    }

    /// The live stream of a client.
    pub fn of_client(&mut self, id: StreamId) -> Option<&mut Stream<T>> {
        self.live.iter_mut().find(|(_, stream)| stream.id == id).map(|(_, stream)| stream)
    }

    /// All live streams.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Attachment, &mut Stream<T>)> {
        self.live.iter_mut().map(|(attachment, stream)| (*attachment, stream))
    }

    /// How many are live.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether none is live.
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The first becomes the last, so that each is first in turn.
    pub fn rotate(&mut self) {
        if !self.live.is_empty() {
            self.live.rotate_left(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { messages: 2, bytes: 100, largest: 80 };

    fn room(limits: Limits, messages: usize, bytes: u64) -> Option<u32> {
        let mut streams = Streams::default();
        let attachment = streams.attach(Instant::now(), "a", limits, (u32::MAX, u64::MAX), ()).unwrap();
        streams.get_mut(attachment).unwrap().room(InFlight { messages, bytes })
    }

    #[test]
    fn a_stream_is_given_no_more_than_it_asked_for() {
        assert_eq!(room(LIMITS, 0, 0), Some(80));
        assert_eq!(room(LIMITS, 1, 10), Some(80));
        assert_eq!(room(LIMITS, 1, 70), Some(30));
        assert_eq!(room(LIMITS, 1, 100), None);
        assert_eq!(room(LIMITS, 2, 10), None);
    }

    #[test]
    fn one_delivery_is_given_whatever_the_byte_limit() {
        let limits = Limits { bytes: 1, ..LIMITS };
        assert_eq!(room(limits, 0, 0), Some(80));
        assert_eq!(room(limits, 1, 80), None);
    }

    #[test]
    fn a_client_has_one_stream_at_a_time_and_keeps_its_name_when_it_comes_back() {
        let now = Instant::now();
        let mut streams = Streams::default();
        let first = streams.attach(now, "a", LIMITS, (u32::MAX, u64::MAX), ()).unwrap();
        assert_eq!(streams.attach(now, "a", LIMITS, (u32::MAX, u64::MAX), ()), Err(InUse));
        let id = streams.detach(now, first).unwrap().id;
        let second = streams.attach(now + Duration::from_secs(5), "a", LIMITS, (u32::MAX, u64::MAX), ()).unwrap();
        assert_eq!(streams.get_mut(second).unwrap().id, id);
        assert_ne!(first, second);
        streams.detach(now, second);
        let third = streams.attach(now + REMEMBERED, "a", LIMITS, (u32::MAX, u64::MAX), ()).unwrap();
        assert_ne!(streams.get_mut(third).unwrap().id, id);
    }
}
