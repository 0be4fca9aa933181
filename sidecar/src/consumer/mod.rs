//! The consumer: the one task that owns ledger, links and streams, and turns what happens at either end into what is said
//! at the other.
//!
//! Every turn is the same: something has happened (deliveries, verdicts, orders, time); the ledger decides; deliveries go to
//! streams, settlements and credit go to the links. Results are told to applications once the settlements are written.
//! Which links there may be is not decided here: see [`crate::orders`].

mod attempt;
mod audience;
mod seating;
mod status;
#[cfg(test)]
pub(crate) mod tests;
mod turn;
mod uplink;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_proto::v1::{self, Verdicts, consume_response};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::time::{sleep_until, timeout};
use tonic::Status;
use tracing::{debug, info, warn};

pub use self::attempt::AttemptError;
pub use self::status::{LinkPhase, Snapshot};

use self::attempt::next_event;
use self::uplink::Uplink;
use crate::amqp::engine::Incoming;
use crate::amqp::message::Message;
use crate::clock;
use crate::credit::{RateWindow, SizeEstimate};
use crate::ledger::{LeaseId, Ledger, LinkEpoch, Offered, Settlement, StreamId, Transfer};
use crate::metrics::Metrics;
use crate::orders::Orders;
use crate::permit::Permits;
use crate::repeat::RepeatHasher;
use crate::saturation::Saturation;
use crate::settle::Range;
use crate::source::{Connect, Mark};
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
        /// What it asks to be given at a time.
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
    /// The process is to end soon: no new link, no more credit; what is in hand may be answered for so long.
    Drain {
        /// From now on.
        within: Duration,
        /// Where it is said, once the links are closed, how many messages were handed back unanswered.
        reply: oneshot::Sender<usize>,
    },
}

/// How the application's side reaches the consumer.
#[derive(Debug, Clone)]
pub struct Handle {
    /// Commands to it.
    pub commands: mpsc::Sender<Command>,
    /// Wakes it when a stream has room again.
    pub room: Arc<Notify>,
}

/// What is told to a stream once a settlement has been written.
#[derive(Debug, Clone, Copy)]
struct Unwritten {
    /// The link that its settlement goes to.
    link: LinkEpoch,
    mark: Mark,
    stream: StreamId,
    lease: LeaseId,
    handed_back: bool,
}

/// See the module's description.
pub struct Consumer<C: Connect, P: Permits> {
    orders: watch::Receiver<Arc<Orders<C>>>,
    /// The number of the orders followed last.
    followed: u64,
    connector: Option<Arc<C>>,
    /// Of the orders followed last.
    credentials_version: u64,
    permits: Arc<P>,
    /// One for each client slot held.
    uplinks: Vec<Uplink<C::Source>>,
    /// The one that is asked first in the next turn.
    first: usize,
    /// The number of the last attempt.
    epoch: u64,
    /// The links are to be closed by then, and no new one is opened.
    leaving: Option<Instant>,
    /// When the platform last did not confirm the end of a connection: it may take it for alive.
    unconfirmed: Option<Instant>,
    /// Why there are no links, for applications.
    standing_by: String,
    ledger: Ledger<Message>,
    hasher: RepeatHasher,
    sizes: SizeEstimate,
    rate: RateWindow,
    streams: Streams<mpsc::Sender<Result<Response, Status>>>,
    saturation: Saturation,
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
    /// Until when what is in hand may be answered, the process being about to end.
    draining: Option<Instant>,
    /// Messages that were handed back when the links were last left.
    handed_back: usize,
    /// Who waits for the end of that.
    drain_waits: Vec<oneshot::Sender<usize>>,
    /// That has ended, with so many messages handed back.
    drained: Option<usize>,
}

impl<C: Connect, P: Permits> Consumer<C, P> {
    /// A consumer that has not begun, and the way to it. `first` numbers the first delivery to an application.
    pub fn new(
        permits: P,
        orders: watch::Receiver<Arc<Orders<C>>>,
        first: LeaseId,
        metrics: Metrics,
    ) -> (Self, Handle, watch::Receiver<Snapshot>) {
        let (commands, inbox) = mpsc::channel(64);
        let room = Arc::new(Notify::new());
        let (status, observer) = watch::channel(Snapshot::default());
        let handle = Handle { commands, room: Arc::clone(&room) };
        let policy = orders.borrow().policy.clone();
        let consumer = Self {
            orders,
            followed: 0,
            connector: None,
            credentials_version: 0,
            permits: Arc::new(permits),
            uplinks: Vec::new(),
            first: 0,
            epoch: 0,
            leaving: None,
            unconfirmed: None,
            standing_by: String::new(),
            hasher: RepeatHasher::new(),
            sizes: SizeEstimate::new(),
            rate: RateWindow::new(policy.max_in_flight, policy.lease),
            ledger: Ledger::new(policy, first),
            streams: Streams::default(),
            saturation: Saturation::default(),
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
            handed_back: 0,
            drain_waits: Vec::new(),
            drained: None,
        };
        (consumer, handle, observer)
    }

    /// Consumes until `shutdown` says until when it may go on; then drains until then at most, hands the rest back and
    /// closes the links. Returns whether everything in hand was answered.
    pub async fn run(mut self, mut shutdown: watch::Receiver<Option<Instant>>) -> bool {
        let mut commands = Vec::new();
        let room = Arc::clone(&self.room);
        let mut open = true;
        let mut ordered = true;
        let mut stop = false;
        self.obey(clock::now());
        loop {
            let deadline = self.next_deadline();
            let first = self.first;
            tokio::select! {
                (place, event) = next_event(&mut self.uplinks, first) => self.on_link(place, event),
                received = self.commands.recv_many(&mut commands, 256), if open => open = received > 0,
                () = room.notified() => {}
                () = sleep_until(deadline.into()) => {}
                changed = self.orders.changed(), if ordered => match changed {
                    Ok(()) => self.obey(clock::now()),
                    Err(_) => ordered = false,
                },
                changed = shutdown.changed(), if !stop => {
                    stop = true;
                    let until = *shutdown.borrow_and_update();
                    self.drain(if changed.is_ok() { until } else { None });
                }
            }
            let now = clock::now();
            self.first = self.first.wrapping_add(1);
            self.take_in(now);
            for command in commands.drain(..) {
                self.on_command(now, command);
            }
            self.turn(now);
            self.leave(now);
            if self.is_drained() {
                self.finish(now).await;
            }
            if let Some(handed_back) = self.drained.filter(|_| stop) {
                return handed_back == 0;
            }
        }
    }

    /// Everything up to `mark` has been written on this link.
    fn written(&mut self, place: usize, mark: Mark) {
        let unwritten = &mut self.uplinks[place].unwritten;
        while let Some(entry) = unwritten.pop_front_if(|entry| entry.mark <= mark) {
            if let Some(stream) = self.streams.of_client(entry.stream) {
                let told =
                    if entry.handed_back { &mut stream.results.handed_back } else { &mut stream.results.settled };
                told.push(entry.lease.0);
            }
        }
    }

    fn take_in(&mut self, now: Instant) {
        for place in 0..self.uplinks.len() {
            let uplink = &mut self.uplinks[place];
            if uplink.deliveries.is_empty() {
                continue;
            }
            let mut deliveries = std::mem::take(&mut uplink.deliveries);
            match uplink.link.source() {
                Some((epoch, _)) => self.take_in_from(now, epoch, &mut deliveries),
                // They came on a link that is lost: the platform pushes them again.
                None => deliveries.clear(),
            }
            self.uplinks[place].deliveries = deliveries;
        }
    }

    fn take_in_from(&mut self, now: Instant, epoch: LinkEpoch, deliveries: &mut Vec<Incoming>) {
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
        let leaving = self.leaving.filter(|until| now < *until).unwrap_or(now + HEARTBEAT);
        ledger.min(now + HEARTBEAT).min(leaving)
    }

    /// No more credit; what is in hand may still be answered until `until`. Of several such words the earliest counts.
    fn drain(&mut self, until: Option<Instant>) {
        let now = clock::now();
        let until = until.unwrap_or(now);
        let sooner = self.draining.is_none_or(|before| until < before);
        if self.drained.is_some() || !sooner {
            return;
        }
        self.draining = Some(until);
        self.handed_back = 0;
        self.leave_by(until);
        let deadline_ms = u32::try_from(until.saturating_duration_since(now).as_millis()).unwrap_or(u32::MAX);
        info!(deadline_ms, held = self.ledger.held().messages, "draining");
        let notice = v1::Notice { notice: Some(v1::notice::Notice::Draining(v1::Draining { deadline_ms })) };
        let all: Vec<Attachment> = self.streams.iter_mut().map(|(attachment, _)| attachment).collect();
        for attachment in all {
            self.tell(attachment, notice.clone());
        }
    }

    /// Nothing is in hand any more that can still be answered and told, or time is up.
    fn is_answered(&mut self, now: Instant) -> bool {
        let told = !self.streams.iter_mut().any(|(_, stream)| stream.has_results());
        let written = self.uplinks.iter().all(|uplink| uplink.unwritten.is_empty());
        let answered = self.ledger.is_empty() && written && told;
        answered || self.streams.is_empty() || self.leaving.is_some_and(|until| until <= now)
    }

    /// The process is about to end, and no link is left.
    fn is_drained(&self) -> bool {
        self.draining.is_some() && self.drained.is_none() && self.uplinks.is_empty()
    }

    /// Ends every stream in good order, and tells who waits for it.
    async fn finish(&mut self, now: Instant) {
        self.tell_results(now);
        let last_words = self.streams.iter_mut().map(|(_, stream)| stream.out.clone()).map(|out| async move {
            let _ = out.send(Err(Status::unavailable("the sidecar has drained and is shutting down"))).await;
            out.closed().await;
        });
        // A client that does not read is not waited for.
        let _ = timeout(Duration::from_secs(1), futures_util::future::join_all(last_words)).await;
        info!(handed_back = self.handed_back, "drained");
        self.drained = Some(self.handed_back);
        for wait in self.drain_waits.drain(..) {
            // Whoever asked may be gone.
            let _ = wait.send(self.handed_back);
        }
    }
}

fn other(response: consume_response::Response) -> Response {
    Response::Other(v1::ConsumeResponse { response: Some(response) })
}
