//! What follows from what happened: the same steps in every turn, in the same order.

use std::time::Instant;

use sluice_proto::v1::consume_response;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tonic::Status;
use tracing::{error, warn};

use super::{BATCH, Consumer, IDLE, Unwritten, other};
use crate::amqp::hot;
use crate::amqp::message::Message;
use crate::credit;
use crate::ledger::{Ledger, Outcome, StreamId};
use crate::permit::Permits;
use crate::settle;
use crate::source::{Connect, Mark, Source};
use crate::stream::table::Stream;
use crate::stream::wire::{Batch, Response, WallClock};

impl<C: Connect, P: Permits> Consumer<C, P> {
    pub(super) fn turn(&mut self, now: Instant) {
        self.ledger.tick(now, &mut self.ended);
        self.on_ended(now);
        self.deliver(now);
        self.settle(now);
        self.tell_results(now);
        self.grant(now);
        self.publish(now);
    }

    /// Leases that ran out. A stream that lets lease after lease run out and says nothing meanwhile is hung, not slow: it is
    /// ended, lest the whole flow be pumped into the platform's backlog.
    pub(super) fn on_ended(&mut self, now: Instant) {
        let lease = self.ledger.policy().lease;
        let mut hung = Vec::new();
        for (id, lease_id) in self.ended.drain(..) {
            self.metrics.expired();
            if let Some(stream) = self.streams.of_client(id) {
                stream.results.expired.push(lease_id.0);
                // Those that were given together run out together: it takes one given later.
                let silent_since = *stream.silent_since.get_or_insert(now);
                if now >= silent_since + lease / 2 && !hung.contains(&id) {
                    hung.push(id);
                }
            }
        }
        // One that does not even read is given nothing more, so nothing more of it runs out.
        let unread = self.streams.iter_mut().filter(|(_, stream)| {
            stream.silent_since.is_some_and(|since| now >= since + lease / 2) && stream.out.capacity() < RESERVED
        });
        hung.extend(unread.map(|(_, stream)| stream.id));
        hung.dedup();
        for stream in hung {
            self.end_stream(now, stream, || Status::deadline_exceeded("lease after lease ran out without a verdict"));
        }
    }

    /// Ends a stream with a status.
    pub(super) fn end_stream(&mut self, now: Instant, id: StreamId, status: impl FnOnce() -> Status) {
        let found = self.streams.iter_mut().find(|(_, stream)| stream.id == id).map(|(attachment, _)| attachment);
        if let Some(attachment) = found
            && let Some(stream) = self.streams.get_mut(attachment)
        {
            let status = status();
            warn!(client_id = stream.client_id, code = ?status.code(), reason = status.message(), "stream ended");
            if let Err(TrySendError::Full(last)) = stream.out.try_send(Err(status)) {
                // It ends when the client reads what is before it, or goes away.
                let out = stream.out.clone();
                tokio::spawn(async move { out.send(last).await });
            }
            self.detach(now, attachment);
        }
    }

    pub(super) fn deliver(&mut self, now: Instant) {
        let too_late = |until| now + self.ledger.policy().useful_lease() > until;
        if self.ledger.held().queued == 0 || self.leaving.is_some_and(too_late) {
            return;
        }
        let clock = WallClock::now(now);
        // Memory for a batch of messages as they are of late, unless they are large.
        let capacity = BATCH * (self.sizes.get() as usize).min(2048);
        let mut progress = true;
        while progress {
            progress = false;
            for (_, stream) in self.streams.iter_mut().filter(|(_, stream)| !stream.finished) {
                let batch = fill(&mut self.ledger, now, stream, &clock, capacity);
                if !batch.is_empty() {
                    self.metrics.delivered(batch.len());
                    // Room was there when the batch was begun, and only this task fills it.
                    let _ = stream.out.try_send(Ok(Response::Deliveries(batch)));
                    progress = true;
                }
            }
        }
        self.streams.rotate();
    }

    /// Gives the links what was decided.
    pub(super) fn settle(&mut self, now: Instant) {
        self.ledger.drain_settlements(&mut self.settlements);
        if self.settlements.is_empty() && self.deciding.is_empty() {
            return;
        }
        settle::into_ranges(&mut self.settlements, &mut self.ranges);
        let mut refused = None;
        for uplink in &mut self.uplinks {
            uplink.mark = Mark(0);
        }
        for range in self.ranges.drain(..) {
            let outcome = match range.outcome {
                Outcome::Accepted => hot::Outcome::Accepted,
                Outcome::Released => hot::Outcome::Released,
                Outcome::LeftToExpire => continue,
            };
            let place = self.uplinks.iter().position(|uplink| uplink.epoch == range.epoch);
            let Some(place) = place else { continue };
            let uplink = &mut self.uplinks[place];
            let Some((_, source)) = uplink.link.source() else { continue };
            match source.settle(range.epoch, range.first, range.last, outcome) {
                Ok(at) => {
                    uplink.mark = uplink.mark.max(at);
                    self.metrics.settled(range.outcome, range.count());
                }
                Err(fault) => refused = Some((place, fault)),
            }
        }
        for entry in self.deciding.drain(..) {
            if let Some(uplink) = self.uplinks.iter_mut().find(|uplink| uplink.epoch == entry.link) {
                uplink.unwritten.push_back(Unwritten { mark: uplink.mark, ..entry });
            } else if let Some(stream) = self.streams.of_client(entry.stream) {
                stream.results.link_lost.push(entry.lease.0);
            }
        }
        if let Some((place, fault)) = refused {
            error!(%fault, "a settlement was refused by the link");
            self.lost(now, place, &fault);
        }
        for place in 0..self.uplinks.len() {
            if self.uplinks[place].mark == Mark(0) {
                // Nothing is to be written for them: left to expire.
                self.written(place, Mark(0));
            }
        }
    }

    /// Tells streams what became of their verdicts, as far as they have room.
    pub(super) fn tell_results(&mut self, now: Instant) {
        let mut over = Vec::new();
        let uplinks = &self.uplinks;
        let pending = |id: StreamId| uplinks.iter().any(|link| link.unwritten.iter().any(|entry| entry.stream == id));
        for (attachment, stream) in self.streams.iter_mut() {
            if stream.has_results() && stream.out.capacity() > 0 {
                let results = std::mem::take(&mut stream.results);
                let _ = stream.out.try_send(Ok(other(consume_response::Response::Results(results))));
            }
            if stream.is_clogged() {
                over.push((attachment, Some(stream.id)));
            } else if stream.finished && !stream.has_results() && !pending(stream.id) {
                over.push((attachment, None));
            }
        }
        for (attachment, id) in over {
            match id {
                None => self.detach(now, attachment),
                Some(id) => {
                    self.end_stream(now, id, || Status::resource_exhausted("results are left unread: read the stream"));
                }
            }
        }
    }

    /// Gives the links credit for what there is room for, and gives them up if nobody is there to read.
    pub(super) fn grant(&mut self, now: Instant) {
        let credit = self.credit();
        self.ledger.outstanding(credit);
        let held = self.ledger.held();
        self.rate.observe(now, std::mem::take(&mut self.acked), &held);
        if self.streams.is_empty() && self.leaving.is_none() && now >= self.unread_since + IDLE {
            self.give_up_links(now);
        }
        if self.streams.is_empty() || self.leaving.is_some() {
            return;
        }
        let policy = self.ledger.policy();
        let bytes = policy.max_in_flight_bytes;
        let most = self.rate.get().min(policy.max_in_flight);
        let used = u32::try_from(held.messages.max(held.transfers)).unwrap_or(u32::MAX);
        let room = |free_messages, free_bytes, none| credit::window(free_messages, free_bytes, self.sizes.get(), none);
        let full_window = room(most, bytes, true);
        let window = room(most.saturating_sub(used), bytes.saturating_sub(held.bytes), held.messages == 0);
        // Each slot's link has its share of the window, and all together no more than there is room for.
        let slots = u32::try_from(self.uplinks.len()).unwrap_or(u32::MAX);
        let share = full_window.div_ceil(slots.max(1));
        let mut granted = credit;
        for uplink in &mut self.uplinks {
            let Some((_, source)) = uplink.link.source() else { continue };
            let outstanding = source.outstanding_credit();
            let others = granted.saturating_sub(outstanding);
            if let Some(credit) = credit::grant(window.saturating_sub(others).min(share), outstanding, share) {
                source.grant(credit);
                granted = others + credit;
            }
        }
    }

    /// How many deliveries the platform may still send, on all links together.
    pub(super) fn credit(&mut self) -> u32 {
        let sources = self.uplinks.iter_mut().filter_map(|uplink| uplink.link.source());
        sources.fold(0, |credit, (_, source)| u32::saturating_add(credit, source.outstanding_credit()))
    }

    pub(super) fn publish(&mut self, now: Instant) {
        let held = self.ledger.held();
        let credit = self.credit();
        self.metrics.held(&held, credit);
        let full = self.is_full(held.leased);
        self.metrics.saturated(self.saturation.observe(now, full));
        let streams = self.streams.len();
        let draining = self.draining.is_some();
        let saturation = self.saturation;
        self.status.send_if_modified(|snapshot| {
            snapshot.saturation = saturation;
            snapshot.update(now, held, credit, streams, draining)
        });
    }

    /// Whether no application can be given one more message: see [`crate::saturation`].
    fn is_full(&mut self, leased: usize) -> bool {
        let (window, ledger) = (self.rate.get() as usize, &self.ledger);
        let mut streams = self.streams.iter_mut().filter(|(_, stream)| !stream.finished).peekable();
        streams.peek().is_some()
            && (leased >= window || streams.all(|(_, stream)| stream.room(ledger.in_flight(stream.id)).is_none()))
    }
}

/// Places in a stream's channel that deliveries leave free: results and notices must get through, too.
const RESERVED: usize = 2;

/// Fills a batch with what the ledger has and the stream can take.
fn fill(
    ledger: &mut Ledger<Message>,
    now: Instant,
    stream: &mut Stream<mpsc::Sender<Result<Response, Status>>>,
    clock: &WallClock,
    capacity: usize,
) -> Batch {
    if stream.out.capacity() < RESERVED || ledger.held().queued == 0 {
        return Batch::default();
    }
    let mut batch = Batch::with_capacity(capacity.min(ledger.held().queued * capacity / BATCH));
    while batch.len() < BATCH {
        let has = ledger.in_flight(stream.id);
        let Some(room) = stream.room(has) else { break };
        let Some(lease) = ledger.lease(now, stream.id, room.min(batch.room())) else { break };
        batch.push(&lease, clock);
    }
    batch
}
