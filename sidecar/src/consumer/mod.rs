//! The consumer: the one task that owns ledger, link and streams, and turns what happens at either end into what is said
//! at the other.
//!
//! Every turn is the same: something has happened (deliveries, verdicts, time); the ledger decides; deliveries go to
//! streams, settlements and credit go to the link. Results are told to applications once the settlements are written.

mod attempt;
mod status;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_proto::v1::{self, Verdicts, consume_response};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};
use tonic::Status;
use tracing::{debug, error, info, warn};

pub use self::attempt::AttemptError;
pub use self::status::{LinkPhase, Snapshot};

use self::attempt::{Link, LinkEvent};
use crate::amqp::engine::Incoming;
use crate::amqp::fault::{Fault, Renew};
use crate::amqp::hot;
use crate::amqp::message::Message;
use crate::backoff::Backoff;
use crate::clock;
use crate::credit::{self, RateWindow, SizeEstimate};
use crate::ledger::{
    LeaseId, Ledger, LinkEpoch, Offered, Outcome, Policy, Settlement, StreamId, Transfer, Verdict, VerdictResult,
};
use crate::metrics::Metrics;
use crate::permit::Permits;
use crate::repeat::RepeatHasher;
use crate::settle::{self, Range};
use crate::source::{Connect, Mark, Source};
use crate::stream::table::{Attachment, InUse, Limits, Stream, Streams};
use crate::stream::wire::{Batch, Response, WallClock};

/// Deliveries in a batch at most: it is worth 16 times to a slow client, and more would only make the first wait.
const BATCH: usize = 64;

/// A link that nobody reads is given up after this: it would hold one of the group's 64 client slots for nothing.
const IDLE: Duration = Duration::from_secs(60);

/// At least so often is looked at what the clock alone changes.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What the application's side asks of the consumer.
#[derive(Debug)]
pub enum Command {
    /// A stream wants in.
    Attach {
        /// Its name.
        client_id: String,
        /// What it takes at a time.
        limits: Limits,
        /// It still has the deliveries of its last stream.
        resume: bool,
        /// Its way out.
        out: mpsc::Sender<Result<Response, Status>>,
        /// Where it hears who it is, or why not.
        reply: oneshot::Sender<Result<Attachment, Status>>,
    },
    /// A stream has decided.
    Verdicts(Attachment, Verdicts),
    /// A stream sends nothing more: it ends once its results are told.
    Finished(Attachment),
    /// A stream is gone.
    Detach(Attachment),
}

/// How the application's side reaches the consumer.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Commands to it.
    pub commands: mpsc::Sender<Command>,
    /// Wakes it when a stream has room again.
    pub room: Arc<Notify>,
    /// The largest window a stream may ask for, in messages and bytes.
    pub bounds: (u32, u64),
}

/// What is told to a stream once a settlement has been written.
#[derive(Debug, Clone, Copy)]
struct Unwritten {
    mark: Mark,
    stream: StreamId,
    lease: LeaseId,
    handed_back: bool,
}

/// See the module's description.
pub struct Consumer<C: Connect, P: Permits> {
    connector: Arc<C>,
    link: Link<P, C::Source>,
    backoff: Backoff,
    epoch: u64,
    ledger: Ledger<Message>,
    hasher: RepeatHasher,
    sizes: SizeEstimate,
    rate: RateWindow,
    streams: Streams<mpsc::Sender<Result<Response, Status>>>,
    /// Streams that end once their results are told.
    finished: Vec<Attachment>,
    /// Verdicts decided whose settlement is not written yet, in the order of their marks.
    unwritten: VecDeque<Unwritten>,
    /// Verdicts decided in this turn, whose mark is not known yet.
    deciding: Vec<Unwritten>,
    settlements: Vec<Settlement>,
    ranges: Vec<Range>,
    /// Leases that ran out in this turn.
    ended: Vec<(StreamId, LeaseId)>,
    commands: mpsc::Receiver<Command>,
    room: Arc<Notify>,
    metrics: Metrics,
    status: watch::Sender<Snapshot>,
    /// Since when nobody has been there to read.
    unread_since: Instant,
    acked: u32,
    draining: Option<Instant>,
}

impl<C: Connect, P: Permits> Consumer<C, P> {
    /// A consumer that has not begun, and the way to it. `first` numbers the first delivery to an application.
    pub fn new(
        connector: C,
        permits: P,
        policy: Policy,
        first: LeaseId,
        metrics: Metrics,
    ) -> (Self, Handle, watch::Receiver<Snapshot>) {
        let (commands, inbox) = mpsc::channel(64);
        let room = Arc::new(Notify::new());
        let (status, observer) = watch::channel(Snapshot::default());
        let handle =
            Handle { commands, room: Arc::clone(&room), bounds: (policy.max_in_flight, policy.max_in_flight_bytes) };
        let consumer = Self {
            connector: Arc::new(connector),
            link: Link::Idle(permits),
            backoff: Backoff::default(),
            epoch: 0,
            hasher: RepeatHasher::new(),
            sizes: SizeEstimate::new(),
            rate: RateWindow::new(policy.max_in_flight, policy.lease),
            ledger: Ledger::new(policy, first),
            streams: Streams::default(),
            finished: Vec::new(),
            unwritten: VecDeque::new(),
            deciding: Vec::new(),
            settlements: Vec::new(),
            ranges: Vec::new(),
            ended: Vec::new(),
            commands: inbox,
            room,
            metrics,
            status,
            unread_since: clock::now(),
            acked: 0,
            draining: None,
        };
        (consumer, handle, observer)
    }

    /// Consumes until `shutdown` says until when it may go on; then drains until then at most, hands the rest back and
    /// closes the link. Returns whether everything in hand was answered.
    pub async fn run(mut self, mut shutdown: watch::Receiver<Option<Instant>>) -> bool {
        let mut deliveries = Vec::new();
        let mut commands = Vec::new();
        let room = Arc::clone(&self.room);
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                event = self.link.next(&mut deliveries) => self.on_link(event),
                _ = self.commands.recv_many(&mut commands, 256) => {}
                () = room.notified() => {}
                () = sleep_until(deadline.into()) => {}
                changed = shutdown.changed(), if self.draining.is_none() => {
                    let until = *shutdown.borrow_and_update();
                    self.drain(if changed.is_ok() { until } else { None });
                }
            }
            let now = clock::now();
            self.take_in(now, &mut deliveries);
            for command in commands.drain(..) {
                self.on_command(now, command);
            }
            self.turn(now);
            if self.is_drained(now) {
                return self.finish(now).await;
            }
        }
    }

    // ---- What happened ---------------------------------------------------------------------------------------------

    fn on_link(&mut self, event: LinkEvent<C::Source>) {
        let now = clock::now();
        match event {
            LinkEvent::Due => self.connect(now),
            LinkEvent::Attempted(Ok(source)) => {
                let epoch = LinkEpoch(self.epoch);
                self.ledger.link_up(epoch);
                self.backoff.reset();
                self.metrics.link_up(true);
                if let Link::Idle(permits) = std::mem::replace(&mut self.link, Link::Moving) {
                    self.link = Link::Up(permits, epoch, source);
                }
                info!(epoch = self.epoch, "link attached");
                self.announce(LinkPhase::Up, String::new());
            }
            LinkEvent::Attempted(Err(failure)) => self.wait(now, failure.renew(), &failure),
            LinkEvent::Received(Ok(mark)) => self.written(mark),
            LinkEvent::Received(Err(fault)) => self.lost(now, &fault),
        }
    }

    fn connect(&mut self, now: Instant) {
        let permits = match std::mem::replace(&mut self.link, Link::Moving) {
            Link::Idle(permits) | Link::Waiting(permits, _) => permits,
            other => {
                self.link = other;
                return;
            }
        };
        let unread = self.streams.is_empty() && now >= self.unread_since + IDLE;
        if unread || self.draining.is_some() {
            self.link = Link::Idle(permits);
            return;
        }
        self.epoch += 1;
        self.metrics.connect_attempt();
        self.link = Link::connect(&self.connector, permits, LinkEpoch(self.epoch));
        self.announce(LinkPhase::Connecting, String::new());
    }

    /// An attempt failed or a link was lost: the next attempt waits.
    fn wait(&mut self, now: Instant, renew: Renew, reason: &dyn std::fmt::Display) {
        let wait = self.backoff.after_failure(renew, rand::random());
        if renew == Renew::Credentials {
            error!(%renew, retry_in_ms = wait.as_millis(), %reason, "link refused");
        } else {
            warn!(%renew, retry_in_ms = wait.as_millis(), %reason, "link down");
        }
        self.metrics.link_failure(renew);
        self.link = match std::mem::replace(&mut self.link, Link::Moving) {
            Link::Idle(permits) | Link::Waiting(permits, _) | Link::Up(permits, ..) => {
                Link::Waiting(permits, now + wait)
            }
            other => other,
        };
        self.announce(LinkPhase::Down, reason.to_string());
    }

    fn lost(&mut self, now: Instant, fault: &Fault) {
        let Link::Up(permits, epoch, source) = std::mem::replace(&mut self.link, Link::Moving) else {
            return;
        };
        // The peer may still listen for our reason; nothing here waits for it.
        tokio::spawn(source.close());
        self.link = Link::Idle(permits);
        self.link_gone(now, epoch);
        self.wait(now, fault.renew(), fault);
    }

    /// What was on a link that is gone gets no outcome: whoever waits for a result hears that.
    fn link_gone(&mut self, now: Instant, epoch: LinkEpoch) {
        self.ledger.link_lost(now, epoch);
        self.metrics.link_up(false);
        for entry in std::mem::take(&mut self.unwritten) {
            if let Some(stream) = self.streams.of_client(entry.stream) {
                stream.results.link_lost.push(entry.lease.0);
            }
        }
    }

    /// Everything up to `mark` has been written.
    fn written(&mut self, mark: Mark) {
        while let Some(entry) = self.unwritten.pop_front_if(|entry| entry.mark <= mark) {
            if let Some(stream) = self.streams.of_client(entry.stream) {
                let told =
                    if entry.handed_back { &mut stream.results.handed_back } else { &mut stream.results.settled };
                told.push(entry.lease.0);
            }
        }
    }

    fn take_in(&mut self, now: Instant, deliveries: &mut Vec<Incoming>) {
        let Some((epoch, _)) = self.link.source() else {
            // They came on a link that is lost: the platform pushes them again.
            deliveries.clear();
            return;
        };
        for Incoming { delivery_id, message } in deliveries.drain(..) {
            let transfer = Transfer { epoch, delivery_id };
            match message {
                Ok(message) => {
                    let size = message.size();
                    let key = self.hasher.key(Some(message.id()), message.topic(), message.payload());
                    self.sizes.observe(size);
                    self.metrics.received(size);
                    match self.ledger.offer(now, transfer, key, size, message) {
                        Offered::Queued => {}
                        Offered::Joined | Offered::Repeat => self.metrics.repeat(),
                        Offered::Overflow => self.metrics.overflow(),
                        Offered::StaleLink => debug!(delivery_id, "a delivery of a link that is gone"),
                    }
                }
                Err(reason) => {
                    warn!(delivery_id, %reason, "a message that can't be given to an application is handed back");
                    self.metrics.unreadable();
                    self.ledger.decline(transfer);
                }
            }
        }
    }

    fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Attach { client_id, limits, resume, out, reply } => {
                let answer = self.attach(now, &client_id, limits, resume, out);
                // A stream that is gone before it hears who it is sends no Detach: it goes here.
                if let Err(Ok(attachment)) = reply.send(answer) {
                    self.detach(now, attachment);
                }
            }
            Command::Verdicts(attachment, verdicts) => self.on_verdicts(now, attachment, &verdicts),
            Command::Finished(attachment) => self.finished.push(attachment),
            Command::Detach(attachment) => self.detach(now, attachment),
        }
    }

    fn attach(
        &mut self,
        now: Instant,
        client_id: &str,
        limits: Limits,
        resume: bool,
        out: mpsc::Sender<Result<Response, Status>>,
    ) -> Result<Attachment, Status> {
        if self.draining.is_some() {
            return Err(Status::unavailable("the sidecar is draining; connect again, with backoff"));
        }
        let attachment = self.streams.attach(now, client_id, limits, out).map_err(|InUse| {
            Status::already_exists(format!("client_id {client_id:?} has a live stream; give each stream its own"))
        })?;
        if let Some(stream) = self.streams.get_mut(attachment) {
            let resumed = self.ledger.stream_back(now, stream.id, resume);
            info!(client_id, resumed = resumed.messages, "stream attached");
        }
        let notice = self.status.borrow().notice();
        self.tell(attachment, notice);
        if let Link::Idle(_) = self.link {
            self.unread_since = now;
            self.connect(now);
        }
        self.metrics.streams(self.streams.len());
        Ok(attachment)
    }

    fn detach(&mut self, now: Instant, attachment: Attachment) {
        if let Some(stream) = self.streams.detach(now, attachment) {
            self.ledger.stream_gone(now, stream.id);
            self.unread_since = now;
            self.finished.retain(|other| *other != attachment);
            self.metrics.streams(self.streams.len());
            let unanswered = self.ledger.in_flight(stream.id).messages;
            info!(client_id = stream.client_id, unanswered, "stream gone");
        }
    }

    fn on_verdicts(&mut self, now: Instant, attachment: Attachment, verdicts: &Verdicts) {
        let Self { streams, ledger, deciding, metrics, acked, .. } = self;
        let Some(stream) = streams.get_mut(attachment) else {
            return;
        };
        let acks = verdicts.ack_delivery_ids.iter().map(|id| (*id, Verdict::Ack));
        let retries = verdicts.retry.iter().map(|retry| {
            let delay = retry.delay_ms.map(|ms| Duration::from_millis(u64::from(ms)));
            (retry.delivery_id, Verdict::Retry { delay })
        });
        for (id, verdict) in acks.chain(retries) {
            let lease = LeaseId(id);
            let result = ledger.verdict(now, stream.id, lease, verdict);
            let results = &mut stream.results;
            let waits = |handed_back| Unwritten { mark: Mark(0), stream: stream.id, lease, handed_back };
            match result {
                VerdictResult::Accepting => deciding.push(waits(false)),
                VerdictResult::HandingBack => deciding.push(waits(true)),
                VerdictResult::RetryScheduled => results.retry_scheduled.push(id),
                VerdictResult::Expired => results.expired.push(id),
                VerdictResult::LinkLost => results.link_lost.push(id),
                VerdictResult::Unknown => results.unknown.push(id),
            }
            metrics.verdict(verdict, result);
            if result != VerdictResult::Unknown {
                stream.heard = now;
                *acked += 1;
            }
        }
    }

    // ---- What follows ----------------------------------------------------------------------------------------------

    fn turn(&mut self, now: Instant) {
        self.ledger.tick(now, &mut self.ended);
        self.on_ended(now);
        self.deliver(now);
        self.settle(now);
        self.tell_results(now);
        self.grant(now);
        self.publish(now);
    }

    /// Leases that ran out. A stream that has let them run out without a word for a whole lease is hung, not slow: it is
    /// ended, lest the whole flow be pumped into the platform's backlog.
    fn on_ended(&mut self, now: Instant) {
        let lease = self.ledger.policy().lease;
        let mut hung = Vec::new();
        for (id, lease_id) in self.ended.drain(..) {
            self.metrics.expired();
            if let Some(stream) = self.streams.of_client(id) {
                stream.results.expired.push(lease_id.0);
                if now >= stream.heard + lease && !hung.contains(&id) {
                    hung.push(id);
                }
            }
        }
        for stream in hung {
            self.end_stream(now, stream, || {
                Status::deadline_exceeded(format!("no verdict came for {lease:?} while leases ran out"))
            });
        }
    }

    /// Ends a stream with a status.
    fn end_stream(&mut self, now: Instant, id: StreamId, status: impl FnOnce() -> Status) {
        let found = self.streams.iter_mut().find(|(_, stream)| stream.id == id).map(|(attachment, _)| attachment);
        if let Some(attachment) = found
            && let Some(stream) = self.streams.get_mut(attachment)
        {
            let status = status();
            warn!(client_id = stream.client_id, code = ?status.code(), reason = status.message(), "stream ended");
            // A full channel ends all the same: its sender is dropped with the stream.
            let _ = stream.out.try_send(Err(status));
            self.detach(now, attachment);
        }
    }

    fn deliver(&mut self, now: Instant) {
        if self.ledger.held().queued == 0 {
            return;
        }
        let clock = WallClock::now(now);
        let mut progress = true;
        while progress {
            progress = false;
            for (_, stream) in self.streams.iter_mut() {
                let batch = fill(&mut self.ledger, now, stream, &clock);
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

    /// Gives the link what was decided.
    fn settle(&mut self, now: Instant) {
        self.ledger.drain_settlements(&mut self.settlements);
        if self.settlements.is_empty() && self.deciding.is_empty() {
            return;
        }
        settle::into_ranges(&mut self.settlements, &mut self.ranges);
        let mut mark = Mark(0);
        let mut refused = None;
        if let Some((_, source)) = self.link.source() {
            for range in self.ranges.drain(..) {
                let outcome = match range.outcome {
                    Outcome::Accepted => hot::Outcome::Accepted,
                    Outcome::Released => hot::Outcome::Released,
                    Outcome::LeftToExpire => continue,
                };
                self.metrics.settled(range.outcome, range.count());
                match source.settle(range.epoch, range.first..=range.last, outcome) {
                    Ok(at) => mark = mark.max(at),
                    Err(fault) => refused = Some(fault),
                }
            }
        }
        self.ranges.clear();
        self.unwritten.extend(self.deciding.drain(..).map(|entry| Unwritten { mark, ..entry }));
        if let Some(fault) = refused {
            error!(%fault, "a settlement was refused by the link");
            self.lost(now, &fault);
        }
        if mark == Mark(0) {
            // Nothing is to be written for them: left to expire.
            self.written(mark);
        }
    }

    /// Tells streams what became of their verdicts, as far as they have room.
    fn tell_results(&mut self, now: Instant) {
        let mut over = Vec::new();
        let pending = |id: StreamId, unwritten: &VecDeque<Unwritten>| unwritten.iter().any(|entry| entry.stream == id);
        for (attachment, stream) in self.streams.iter_mut() {
            if stream.has_results() && stream.out.capacity() > 0 {
                let results = std::mem::take(&mut stream.results);
                let _ = stream.out.try_send(Ok(other(consume_response::Response::Results(results))));
            }
            if stream.is_clogged() {
                over.push((attachment, stream.id));
            } else if self.finished.contains(&attachment)
                && !stream.has_results()
                && !pending(stream.id, &self.unwritten)
            {
                over.push((attachment, StreamId(0)));
            }
        }
        for (attachment, id) in over {
            if id == StreamId(0) {
                self.detach(now, attachment);
            } else {
                self.end_stream(now, id, || Status::resource_exhausted("results are left unread: read the stream"));
            }
        }
    }

    /// Gives the link credit for what there is room for, and gives it up if nobody is there to read.
    fn grant(&mut self, now: Instant) {
        let held = self.ledger.held();
        self.rate.observe(now, std::mem::take(&mut self.acked), &held);
        if self.streams.is_empty() && self.draining.is_none() && now >= self.unread_since + IDLE && held.messages == 0 {
            self.give_up_link(now);
        }
        if self.streams.is_empty() || self.draining.is_some() {
            return;
        }
        let policy = self.ledger.policy();
        let bytes = policy.max_in_flight_bytes;
        let most = self.rate.get().min(policy.max_in_flight);
        let used = u32::try_from(held.messages.max(held.transfers)).unwrap_or(u32::MAX);
        let room = |free_messages, free_bytes, none| credit::window(free_messages, free_bytes, self.sizes.get(), none);
        let full_window = room(most, bytes, true);
        let window = room(most.saturating_sub(used), bytes.saturating_sub(held.bytes), held.messages == 0);
        if let Some((_, source)) = self.link.source()
            && let Some(credit) = credit::grant(window, source.outstanding_credit(), full_window)
        {
            source.grant(credit);
        }
    }

    /// Nobody reads, and nothing is in hand: the client slot is better with somebody else.
    fn give_up_link(&mut self, now: Instant) {
        match std::mem::replace(&mut self.link, Link::Moving) {
            Link::Up(permits, epoch, source) => {
                self.link = Link::Idle(permits);
                tokio::spawn(source.close());
                self.link_gone(now, epoch);
                info!("link given up: no stream has been attached for a minute");
                self.announce(LinkPhase::Idle, "no application is attached".into());
            }
            Link::Waiting(permits, _) => self.link = Link::Idle(permits),
            other => self.link = other,
        }
    }

    // ---- What others see -------------------------------------------------------------------------------------------

    fn announce(&mut self, phase: LinkPhase, reason: String) {
        let epoch = self.epoch;
        self.status.send_modify(|snapshot| snapshot.link_is(phase, epoch, reason));
        let notice = self.status.borrow().notice();
        let all: Vec<Attachment> = self.streams.iter_mut().map(|(attachment, _)| attachment).collect();
        for attachment in all {
            self.tell(attachment, notice.clone());
        }
    }

    /// Sends a notice, if there is room: notices are hints, and the next one says how things are then.
    fn tell(&mut self, attachment: Attachment, notice: v1::Notice) {
        if let Some(stream) = self.streams.get_mut(attachment) {
            let _ = stream.out.try_send(Ok(other(consume_response::Response::Notice(notice))));
        }
    }

    fn publish(&mut self, now: Instant) {
        let held = self.ledger.held();
        let credit = self.link.source().map_or(0, |(_, source)| source.outstanding_credit());
        self.metrics.held(&held, credit);
        let streams = self.streams.len();
        let draining = self.draining.is_some();
        self.status.send_if_modified(|snapshot| snapshot.update(now, held, credit, streams, draining));
    }

    fn next_deadline(&self) -> Instant {
        let now = clock::now();
        let ledger = self.ledger.next_deadline().unwrap_or(now + HEARTBEAT);
        ledger.min(now + HEARTBEAT).min(self.draining.unwrap_or(now + HEARTBEAT))
    }

    // ---- The end ---------------------------------------------------------------------------------------------------

    /// No more credit; what is in hand may still be answered until `until`.
    fn drain(&mut self, until: Option<Instant>) {
        let now = clock::now();
        let until = until.unwrap_or(now);
        self.draining = Some(until);
        let deadline_ms = u32::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(u32::MAX);
        info!(deadline_ms, held = self.ledger.held().messages, "draining");
        let notice = v1::Notice { notice: Some(v1::notice::Notice::Draining(v1::Draining { deadline_ms })) };
        let all: Vec<Attachment> = self.streams.iter_mut().map(|(attachment, _)| attachment).collect();
        for attachment in all {
            self.tell(attachment, notice.clone());
        }
    }

    /// Nothing is in hand any more, or nobody is left to answer for it, or time is up.
    fn is_drained(&self, now: Instant) -> bool {
        let Some(until) = self.draining else {
            return false;
        };
        let answered = self.ledger.is_empty() && self.unwritten.is_empty();
        now >= until || answered || self.streams.is_empty()
    }

    async fn finish(mut self, now: Instant) -> bool {
        let held = self.ledger.held();
        self.ledger.hand_back_all(now);
        self.settle(now);
        if let Link::Up(_, _, source) = self.link {
            // Detach, End and Close are written behind the last settlements, so the peer's Close tells that it has them.
            if timeout(Duration::from_secs(4), source.close()).await.is_err() {
                warn!("the platform did not confirm the end of the link");
            }
        }
        for (_, stream) in self.streams.iter_mut() {
            let _ = stream.out.try_send(Err(Status::unavailable("the sidecar has drained and is shutting down")));
        }
        info!(handed_back = held.messages, "drained");
        held.messages == 0
    }
}

/// Fills a batch with what the ledger has and the stream can take.
fn fill(
    ledger: &mut Ledger<Message>,
    now: Instant,
    stream: &mut Stream<mpsc::Sender<Result<Response, Status>>>,
    clock: &WallClock,
) -> Batch {
    let mut batch = Batch::default();
    // One place in the channel is kept for results and for the last word.
    if stream.out.capacity() < 2 {
        return batch;
    }
    while batch.len() < BATCH {
        let has = ledger.in_flight(stream.id);
        let Some(room) = stream.room(has) else { break };
        let Some(lease) = ledger.lease(now, stream.id, room.min(batch.room())) else { break };
        if has.messages == 0 {
            stream.heard = now;
        }
        batch.push(&lease, clock);
    }
    batch
}

fn other(response: consume_response::Response) -> Response {
    Response::Other(v1::ConsumeResponse { response: Some(response) })
}
