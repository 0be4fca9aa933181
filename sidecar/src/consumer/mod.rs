//! The consumer: the one task that owns ledger, link and streams, and turns what happens at either end into what is said
//! at the other.
//!
//! Every turn is the same: something has happened (deliveries, verdicts, time); the ledger decides; deliveries go to
//! streams, settlements and credit go to the link. Results are told to applications once the settlements are written.

mod attempt;
mod audience;
mod status;
#[cfg(test)]
mod tests;
mod turn;
mod uplink;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_proto::v1::{self, Verdicts, consume_response};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};
use tonic::Status;
use tracing::{debug, info, warn};

pub use self::attempt::AttemptError;
pub use self::status::{LinkPhase, Snapshot};

use self::attempt::Link;
use crate::amqp::engine::Incoming;
use crate::amqp::message::Message;
use crate::backoff::Backoff;
use crate::clock;
use crate::credit::{RateWindow, SizeEstimate};
use crate::ledger::{LeaseId, Ledger, Offered, Policy, Settlement, StreamId, Transfer};
use crate::metrics::Metrics;
use crate::permit::Permits;
use crate::repeat::RepeatHasher;
use crate::settle::Range;
use crate::source::{Connect, Mark, Source};
use crate::stream::table::{Attachment, Limits, Streams};
use crate::stream::wire::Response;

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
    /// When the present link, or the last one, began to stand.
    up_since: Instant,
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
            up_since: clock::now(),
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
        let mut open = true;
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                event = self.link.next(&mut deliveries) => self.on_link(event),
                received = self.commands.recv_many(&mut commands, 256), if open => open = received > 0,
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
                    let key = self.hasher.key(message.id_bytes(), message.topic_bytes(), message.payload());
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

    fn next_deadline(&self) -> Instant {
        let now = clock::now();
        let ledger = self.ledger.next_deadline().unwrap_or(now + HEARTBEAT);
        ledger.min(now + HEARTBEAT).min(self.draining.unwrap_or(now + HEARTBEAT))
    }

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
    fn is_drained(&mut self, now: Instant) -> bool {
        let Some(until) = self.draining else {
            return false;
        };
        let told = !self.streams.iter_mut().any(|(_, stream)| stream.has_results());
        let answered = self.ledger.is_empty() && self.unwritten.is_empty() && told;
        now >= until || answered || self.streams.is_empty()
    }

    async fn finish(mut self, now: Instant) -> bool {
        let held = self.ledger.held();
        self.ledger.hand_back_all(now);
        self.settle(now);
        if let Link::Up(_, _, source) = std::mem::replace(&mut self.link, Link::Moving) {
            // Detach, End and Close are written behind the last settlements, so the peer's Close tells that it has them.
            if timeout(Duration::from_secs(4), source.close()).await.is_ok() {
                self.written(Mark(u64::MAX));
            } else {
                warn!("the platform did not confirm the end of the link");
            }
            self.tell_results(now);
        }
        let last_words = self.streams.iter_mut().map(|(_, stream)| stream.out.clone()).map(|out| async move {
            let _ = out.send(Err(Status::unavailable("the sidecar has drained and is shutting down"))).await;
            out.closed().await;
        });
        // A client that does not read is not waited for.
        let _ = timeout(Duration::from_secs(1), futures_util::future::join_all(last_words)).await;
        info!(handed_back = held.messages, "drained");
        held.messages == 0
    }
}

fn other(response: consume_response::Response) -> Response {
    Response::Other(v1::ConsumeResponse { response: Some(response) })
}
