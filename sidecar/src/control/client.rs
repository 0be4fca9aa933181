//! The task that speaks with the broker. It hears what the broker says and what the consumer does, asks the pure parts what
//! follows, and says so to both.
//!
//! It never stops the consumer: whatever becomes of the broker, links that stand go on.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom as _;
use sluice_cloud::sign::SaslCredentials;
use sluice_proto::control::PROTOCOLS;
use sluice_proto::control::v1::{self, broker_message, sidecar_message};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};
use tracing::{debug, error, info, warn};

use super::alone::{Alone, Next};
use super::asks::{Ask, BrokerPermits};
use super::dial::{self, Dial, Replica};
use super::line::{Line, LineError, LineEvent};
use super::report;
use super::requests::{LAPSE, Requests};
use super::seat::{Grant, Order, Seat, Standing};
use super::status::{ControlPhase, ControlStatus};
use super::terms::{Endpoint, Terms};
use super::time::{Clock, Time};
use crate::amqp::fault::Renew;
use crate::backoff::Backoff;
use crate::consumer::Snapshot;
use crate::ledger::Policy;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::orders::{Orders, Seating};
use crate::permit::Permit;
use crate::readiness::Readiness;

/// A broker pings every 5 s when it has nothing else to say. One that is not heard for so long is given up.
const SILENCE: Duration = Duration::from_secs(20);

/// What has changed is reported at once, but not more often than that.
const REPORT_APART: Duration = Duration::from_millis(50);

/// More slots than a pod is ever given.
const MOST_SLOTS: usize = 64;

/// How long the last words may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Makes what opens links from what the broker says of the platform, or says what is wrong with that.
pub type MakeConnector<C> = Box<dyn Fn(&Endpoint) -> Result<C, String> + Send>;

/// What the task is given.
pub struct Settings<C> {
    /// The `ConsumerGroup` in the pod's namespace.
    pub group: String,
    /// The file with the pod's token.
    pub token: PathBuf,
    /// What survives the process.
    pub memory: Memory,
    /// The slots of the attempts that its predecessors made on their own.
    pub remembered: Vec<u32>,
    /// How links are opened.
    pub connector: MakeConnector<C>,
    /// The process's metrics.
    pub metrics: Metrics,
}

/// This task's ends of its ways to the consumer.
pub struct Desk<C> {
    orders: watch::Sender<Arc<Orders<C>>>,
    asks: mpsc::UnboundedReceiver<Ask>,
}

/// What others may look at.
pub struct Told {
    /// For `/status`.
    pub status: watch::Receiver<ControlStatus>,
    /// For `/readyz`.
    pub readiness: watch::Receiver<Readiness>,
}

/// The ways between this task and the consumer: this task's ends, and the consumer's orders and permits. `policy` holds
/// until the broker says another.
pub fn prepare<C>(policy: Policy) -> (Desk<C>, watch::Receiver<Arc<Orders<C>>>, BrokerPermits) {
    let seat = Seating::StandBy { reason: AWAY.to_owned() };
    let (orders, ordered) = watch::channel(Arc::new(Orders { number: 1, seat, connector: None, policy }));
    let (permits, asks) = BrokerPermits::new();
    (Desk { orders, asks }, ordered, permits)
}

/// Why there is no slot as long as no broker has said anything.
const AWAY: &str = "no client slot yet: the operator's broker has not been heard";

/// A link that waits for a permit.
struct Asking {
    ask: Ask,
    /// It was sent to the broker, which has not answered.
    sent: bool,
    /// When to ask the broker, if not yet.
    not_before: Time,
}

/// See the module's description.
pub struct Control<D, C> {
    settings: Settings<C>,
    clock: Clock,
    dial: Arc<D>,
    desk: Desk<C>,
    consumer: watch::Receiver<Snapshot>,
    status: watch::Sender<ControlStatus>,
    readiness: watch::Sender<Readiness>,
    seat: Seat,
    alone: Alone,
    requests: Requests,
    asking: Vec<Asking>,
    /// The last pair signed for each slot; in memory only.
    pairs: HashMap<u32, SaslCredentials>,
    line: Line,
    /// Replicas not tried yet in this round.
    candidates: VecDeque<Replica>,
    backoff: Backoff,
    open_since: Time,
    heard: Time,
    terms: Option<Terms>,
    /// The longest idle time-out that any link may have been opened with.
    longest_idle: Duration,
    connector: Option<Arc<C>>,
    standing_by: String,
    bad_policy: String,
    /// Why there is no stream, as it was last logged.
    reason: String,
    replica: String,
    reported: Option<v1::Report>,
    reported_at: Time,
    figures_due: Time,
    tally: report::Tally,
}

impl<D: Dial, C: Send + Sync + 'static> Control<D, C> {
    /// A task that has not begun. `consumer` is what the consumer shows of itself.
    pub fn new(settings: Settings<C>, dial: D, desk: Desk<C>, consumer: watch::Receiver<Snapshot>) -> (Self, Told) {
        let clock = Clock::start();
        let (status, status_told) = watch::channel(ControlStatus::default());
        let (readiness, readiness_told) = watch::channel(Readiness::default());
        let control = Self {
            alone: Alone::new(clock.now(), &settings.remembered),
            settings,
            clock,
            dial: Arc::new(dial),
            desk,
            consumer,
            status,
            readiness,
            seat: Seat::new(),
            requests: Requests::new(),
            asking: Vec::new(),
            pairs: HashMap::new(),
            line: Line::Away(Time(0)),
            candidates: VecDeque::new(),
            backoff: Backoff::default(),
            open_since: Time(0),
            heard: Time(0),
            terms: None,
            longest_idle: Duration::ZERO,
            connector: None,
            standing_by: AWAY.to_owned(),
            bad_policy: String::new(),
            reason: String::new(),
            replica: String::new(),
            reported: None,
            reported_at: Time(0),
            figures_due: Time::NEVER,
            tally: report::Tally::default(),
        };
        (control, Told { status: status_told, readiness: readiness_told })
    }

    /// Works until the consumer has ended; then tells the broker so.
    pub async fn run(mut self) {
        let mut asks = true;
        loop {
            self.turn();
            let wake = self.clock.instant(self.wake_at());
            tokio::select! {
                event = self.line.next() => self.on_line(event),
                ask = self.desk.asks.recv(), if asks => match ask {
                    Some(ask) => self.asking.push(Asking { ask, sent: false, not_before: Time(0) }),
                    None => asks = false,
                },
                changed = self.consumer.changed() => if changed.is_err() {
                    break;
                },
                () = sleep_until(wake.into()) => {}
            }
        }
        self.farewell().await;
    }

    /// What follows from what happened.
    fn turn(&mut self) {
        let at = self.clock.now();
        self.look_at_consumer(at);
        self.seat.tick(at);
        self.publish_orders();
        // A seat that was never taken is left by word alone.
        self.look_at_consumer(at);
        self.publish_orders();
        self.keep_line(at);
        self.serve_asks(at);
        self.report(at);
        self.publish_status(at);
    }

    fn wake_at(&self) -> Time {
        let at = self.clock.now();
        let asks = self.asking.iter().filter(|asking| self.is_seated(asking)).flat_map(|asking| {
            let by_broker = (self.line.open().is_some() && !asking.sent).then_some(asking.not_before);
            let own = match self.alone.next_at(at, asking.ask.place.slot) {
                Next::At(next) if !self.line.is_greeted() => Some(next),
                _ => None,
            };
            by_broker.into_iter().chain(own)
        });
        let line = match &self.line {
            Line::Away(until) => Some(*until),
            Line::Open(_) => Some((self.heard + SILENCE).min(self.figures_due)),
            _ => None,
        };
        let alone = (!self.alone.is_alone(at)).then(|| self.alone.alone_at());
        let others = [line, alone, self.seat.wake_at(), self.requests.wake_at()];
        let next = asks.chain(others.into_iter().flatten()).min().unwrap_or(Time::NEVER);
        // Never at once again: what is due has been done.
        next.max(at + Duration::from_millis(1))
    }

    /// What the consumer shows: whether an application is there, whether it drains, whether it has left its seat.
    fn look_at_consumer(&mut self, at: Time) {
        let snapshot = self.consumer.borrow_and_update();
        let (streams, draining) = (snapshot.streams, snapshot.draining);
        let left = snapshot.followed == self.desk.orders.borrow().number && !snapshot.seated;
        let unconfirmed = snapshot.unconfirmed;
        drop(snapshot);
        self.seat.application(at, streams > 0);
        if draining {
            self.seat.drain();
        }
        if let Order::Leave { epoch, .. } = self.seat.order()
            && left
            && self.desk.orders.borrow().seat.epoch() == Some(epoch)
            && matches!(self.desk.orders.borrow().seat, Seating::Leave { .. })
        {
            self.seat.vacated(at, epoch, self.lingers(at, unconfirmed));
        }
    }

    /// How long the platform may still take a link for alive whose end it did not confirm then.
    fn lingers(&self, at: Time, unconfirmed: Option<Instant>) -> Duration {
        let since = unconfirmed.map(|then| at.since(self.clock.at(then)));
        since.map_or(Duration::ZERO, |since| self.longest_idle.saturating_sub(since))
    }

    fn publish_orders(&mut self) {
        let seat = match self.seat.order() {
            Order::Stay => Seating::StandBy { reason: self.standing_by.clone() },
            Order::Use(grant) => {
                self.alone.granted(&grant);
                Seating::Use { epoch: grant.epoch, slots: grant.slots }
            }
            Order::Leave { epoch, until } => {
                let until = self.clock.instant(until);
                let reason = "the client slot is given back".to_owned();
                // The same moment, read twice from far away, is not the same.
                match &self.desk.orders.borrow().seat {
                    same @ Seating::Leave { epoch: before, until: then, .. } if *before == epoch && *then <= until => {
                        same.clone()
                    }
                    _ => Seating::Leave { epoch, until, reason },
                }
            }
        };
        let policy = self.terms.as_ref().map(|terms| &terms.delivery);
        let before = Arc::clone(&self.desk.orders.borrow());
        let policy = policy.unwrap_or(&before.policy).clone();
        let same_connector = match (&self.connector, &before.connector) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before),
            (None, None) => true,
            _ => false,
        };
        if seat != before.seat || policy != before.policy || !same_connector {
            let (number, connector) = (before.number + 1, self.connector.clone());
            self.desk.orders.send_replace(Arc::new(Orders { number, seat, connector, policy }));
        }
    }

    // ---- the line ----

    /// Begins a round that is due, and gives up a broker that is silent.
    fn keep_line(&mut self, at: Time) {
        match &self.line {
            Line::Away(until) if *until <= at => {
                let dial = Arc::clone(&self.dial);
                self.line = Line::Resolving(Box::pin(async move { dial.resolve().await }));
            }
            Line::Open(open) if self.heard + SILENCE <= at => {
                let error = LineError::Silent { replica: open.replica.clone(), silence: SILENCE };
                self.line_lost(at, &error);
            }
            _ => {}
        }
    }

    fn on_line(&mut self, event: LineEvent) {
        let at = self.clock.now();
        match event {
            LineEvent::Resolved(Ok(mut replicas)) => {
                // So that not all sidecars try the same one first.
                replicas.shuffle(&mut rand::rng());
                self.candidates = replicas.into();
                self.dial_next(at, None);
            }
            LineEvent::Resolved(Err(error)) => self.line_lost(at, &error.into()),
            LineEvent::Dialed(replica, Ok(channel)) => {
                let hello = self.hello(at);
                self.replica = replica.to_string();
                self.reported = hello.report.clone();
                match Line::hello(replica, channel, &self.settings.token, hello) {
                    Ok(line) => self.line = line,
                    Err(error) => self.line_lost(at, &error),
                }
            }
            LineEvent::Dialed(_, Err(error)) => self.dial_next(at, Some(error.into())),
            LineEvent::Welcomed(Ok(())) => self.welcomed(at),
            LineEvent::Welcomed(Err(error)) => self.dial_next(at, Some(error)),
            LineEvent::Heard(heard) => {
                self.heard = at;
                self.alone.heard(at);
                self.on_message(at, heard);
            }
            LineEvent::Ended(error) => self.line_lost(at, &error),
        }
    }

    /// Tries the next replica of this round. After the last one the round has failed, for the reason of the first.
    fn dial_next(&mut self, at: Time, failed: Option<LineError>) {
        if let Some(error) = &failed {
            debug!(%error, "no stream to this replica");
            self.said(error);
        }
        match (self.candidates.pop_front(), failed) {
            (Some(replica), _) => {
                let (dial, to) = (Arc::clone(&self.dial), replica.clone());
                self.line = Line::Dialing(replica, Box::pin(async move { dial::open(&*dial, &to).await }));
            }
            (None, Some(error)) => self.line_lost(at, &error),
            (None, None) => self.line = Line::Away(at + self.wait()),
        }
    }

    /// There is no stream. What was asked for on it is asked for again on the next.
    fn line_lost(&mut self, at: Time, error: &LineError) {
        if let Line::Open(_) = self.line {
            self.backoff.stood(at.since(self.open_since));
            self.settings.metrics.broker_up(false);
        }
        self.said(error);
        for slot in self.requests.clear() {
            self.ask_again(slot, at);
        }
        self.candidates.clear();
        self.reported = None;
        self.figures_due = Time::NEVER;
        self.line = Line::Away(at + self.wait());
    }

    fn wait(&mut self) -> Duration {
        self.backoff.after_failure(Renew::Connection, rand::random())
    }

    /// Says aloud why there is no stream, once for every reason.
    fn said(&mut self, error: &LineError) {
        let reason = error.to_string();
        if reason != self.reason {
            let held = self.seat.held().map_or(0, |grant| grant.epoch);
            match error {
                LineError::Dial(_) | LineError::Ended { code: tonic::Code::Unavailable, .. } => {
                    warn!(%reason, held, "no stream to the broker");
                }
                _ => error!(%reason, held, "no stream to the broker"),
            }
            self.reason = reason;
        }
    }

    fn hello(&mut self, at: Time) -> v1::Hello {
        let stream = self.seat.open_stream();
        self.seat.tick(at);
        v1::Hello {
            protocol_min: *PROTOCOLS.start(),
            protocol_max: *PROTOCOLS.end(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            consumer_group: self.settings.group.clone(),
            process: self.settings.memory.process(),
            stream,
            report: Some(report::standing(self.seat.standing(at), &self.consumer.borrow())),
            attempted_alone: self.alone.attempted(at),
        }
    }

    fn welcomed(&mut self, at: Time) {
        let Line::Open(open) = &self.line else { return };
        info!(broker = %open.replica, operator = open.welcome.version, stream = open.number, "welcomed by the broker");
        self.figures_due = at + open.report_every();
        self.open_since = at;
        self.heard = at;
        self.alone.heard(at);
        self.reason.clear();
        self.candidates.clear();
        self.reported_at = at;
        self.tally = report::Tally::begin(at, &self.settings.metrics, &self.consumer.borrow());
        self.settings.metrics.broker_up(true);
    }

    // ---- what the broker says ----

    fn on_message(&mut self, at: Time, message: Option<broker_message::Message>) {
        let Some(stream) = self.line.open().map(|open| open.number) else { return };
        match message {
            Some(broker_message::Message::Policy(policy)) => self.on_policy(policy),
            Some(broker_message::Message::SlotGranted(granted)) => {
                let v1::SlotGranted { epoch, mut slots, attempts_alone } = granted;
                slots.sort_unstable();
                slots.dedup();
                if epoch == 0 || slots.is_empty() || slots.len() > MOST_SLOTS {
                    error!(epoch, slots = slots.len(), "the broker grants what can't be; check the operator's version");
                    return;
                }
                self.standing_by.clear();
                self.seat.granted(at, stream, Grant { epoch, slots, attempts_alone });
            }
            Some(broker_message::Message::StandBy(v1::StandBy { reason })) => {
                if reason != self.standing_by {
                    info!(%reason, "standing by");
                }
                self.standing_by = reason;
            }
            Some(broker_message::Message::Yield(v1::Yield { epoch, drain_ms })) => {
                info!(epoch, drain_ms, "told to yield");
                self.seat.yield_up(at, stream, epoch, Duration::from_millis(drain_ms.into()));
            }
            Some(broker_message::Message::Permit(permit)) => self.on_permit(at, permit),
            Some(broker_message::Message::PermitRefused(refused)) => {
                let v1::PermitRefused { id, reason, retry_after_ms } = refused;
                if let Some((slot, _)) = self.requests.answered(at, id) {
                    debug!(slot, %reason, retry_after_ms, "permit refused");
                    // Those that are refused together don't come back together.
                    let wait = Duration::from_millis(retry_after_ms.into()).mul_f64(1.0 + 0.25 * rand::random::<f64>());
                    self.ask_again(slot, at + wait);
                }
            }
            Some(broker_message::Message::Ping(v1::Ping { number })) => {
                self.say(at, sidecar_message::Message::Pong(v1::Pong { number }));
            }
            // It was welcomed already.
            Some(broker_message::Message::Welcome(_)) => {}
            None => debug!("the broker said something that this version does not know"),
        }
    }

    fn on_policy(&mut self, policy: v1::Policy) {
        let terms = Terms::try_new(policy).map_err(|error| error.to_string());
        let known = self.terms.as_ref();
        let taken = terms.and_then(|terms| {
            let same = known.is_some_and(|known| known.endpoint == terms.endpoint) && self.connector.is_some();
            let connector = if same { None } else { Some(Arc::new((self.settings.connector)(&terms.endpoint)?)) };
            Ok((terms, connector))
        });
        match taken {
            Ok((terms, connector)) => {
                if let Some(connector) = connector {
                    info!(host = terms.endpoint.host, port = terms.endpoint.port, "links go here from now on");
                    self.connector = Some(connector);
                }
                self.longest_idle = self.longest_idle.max(terms.endpoint.idle_timeout);
                self.readiness.send_replace(terms.readiness);
                self.bad_policy.clear();
                self.terms = Some(terms);
            }
            Err(reason) => {
                error!(%reason, "the policy before stays in force");
                self.bad_policy = reason;
            }
        }
    }

    fn on_permit(&mut self, at: Time, permit: v1::Permit) {
        let v1::Permit { id, user_name, password, usable_ms } = permit;
        let Some((slot, until)) = self.requests.answered(at, id) else {
            self.settings.metrics.permit_lapsed();
            debug!(id, "a permit came too late and is thrown away");
            return;
        };
        let usable = (usable_ms > 0).then(|| Duration::from_millis(usable_ms));
        let sent = Time(until.0.saturating_sub(u64::try_from(LAPSE.as_millis()).unwrap_or(0)));
        self.alone.signed(slot, sent, usable);
        self.settings.metrics.permit_used(false);
        self.pairs
            .insert(slot, SaslCredentials { user_name: user_name.clone().into(), password: password.clone().into() });
        let credentials = SaslCredentials { user_name: user_name.into(), password: password.into() };
        self.give(slot, credentials, until);
    }

    // ---- permits ----

    /// Whether the ask is for a slot that is held and in use.
    fn is_seated(&self, asking: &Asking) -> bool {
        let place = asking.ask.place;
        matches!(self.seat.order(), Order::Use(grant) if grant.epoch == place.epoch && grant.slots.contains(&place.slot))
    }

    fn serve_asks(&mut self, at: Time) {
        self.asking.retain(|asking| !asking.ask.reply.is_closed());
        for slot in self.requests.lapsed(at) {
            self.settings.metrics.permit_lapsed();
            self.ask_again(slot, at + LAPSE.mul_f64(rand::random()));
        }
        let slots: Vec<u32> =
            self.asking.iter().filter(|asking| self.is_seated(asking)).map(|asking| asking.ask.place.slot).collect();
        for slot in slots {
            if self.alone.next_at(at, slot) == Next::At(at) && !self.line.is_greeted() {
                self.attempt_alone(at, slot);
            } else {
                self.request(at, slot);
            }
        }
    }

    /// Asks the broker for a permit, if that has not been done, and is not to wait.
    fn request(&mut self, at: Time, slot: u32) {
        let due = |asking: &&mut Asking| asking.ask.place.slot == slot && !asking.sent && asking.not_before <= at;
        let Some(asking) = self.asking.iter_mut().find(due) else { return };
        if self.line.open().is_some() {
            asking.sent = true;
            let epoch = asking.ask.place.epoch;
            let id = self.requests.ask(at, slot);
            self.say(at, sidecar_message::Message::PermitRequest(v1::PermitRequest { id, epoch, slot }));
        }
    }

    /// Makes an attempt of its own. A successor of this process must know of it before it is made.
    fn attempt_alone(&mut self, at: Time, slot: u32) {
        if !self.alone.attempt(at, slot) {
            return;
        }
        if let Err(error) = self.settings.memory.save(&self.alone.remembered()) {
            error!(%error, "no attempt is made that could not be remembered");
            return;
        }
        if let Some(pair) = self.pairs.get(&slot) {
            warn!(slot, "connecting without a permit, as no broker is heard");
            let credentials = SaslCredentials { user_name: pair.user_name.clone(), password: pair.password.clone() };
            self.settings.metrics.permit_used(true);
            self.give(slot, credentials, at + LAPSE);
        }
    }

    fn give(&mut self, slot: u32, credentials: SaslCredentials, until: Time) {
        let wanted = |asking: &Asking| asking.ask.place.slot == slot && self.is_seated(asking);
        if let Some(place) = self.asking.iter().position(wanted) {
            let asking = self.asking.swap_remove(place);
            // A link that is not wanted any more needs no permit.
            let _ = asking.ask.reply.send(Permit { credentials, until: self.clock.instant(until) });
        }
    }

    fn ask_again(&mut self, slot: u32, not_before: Time) {
        for asking in self.asking.iter_mut().filter(|asking| asking.ask.place.slot == slot) {
            asking.sent = false;
            asking.not_before = not_before;
        }
    }

    // ---- what the broker is told ----

    fn say(&mut self, at: Time, what: sidecar_message::Message) {
        let said = self.line.open().map_or(Ok(()), |open| open.say(what));
        if let Err(error) = said {
            self.line_lost(at, &error);
        }
    }

    /// Reports what has changed, and figures when they are due.
    fn report(&mut self, at: Time) {
        let Some(open) = self.line.open() else { return };
        let figures_due = self.figures_due <= at;
        let every = open.report_every();
        let now = report::standing(self.seat.standing(at), &self.consumer.borrow());
        if self.reported.as_ref() == Some(&now) && !figures_due {
            return;
        }
        if at < self.reported_at + REPORT_APART && !figures_due {
            self.figures_due = self.figures_due.min(self.reported_at + REPORT_APART);
            return;
        }
        let mut report = now.clone();
        report.figures = Some(self.tally.take(at, &self.settings.metrics, &self.consumer.borrow()));
        self.reported = Some(now);
        self.reported_at = at;
        self.figures_due = at + every;
        self.say(at, sidecar_message::Message::Report(report));
    }

    fn publish_status(&mut self, at: Time) {
        let Standing { held_epoch, yielded, .. } = self.seat.standing(at);
        let open = self.line.open();
        let shown = ControlStatus {
            phase: match &self.line {
                Line::Away(_) => ControlPhase::Away,
                Line::Open(_) => ControlPhase::Connected,
                _ => ControlPhase::Connecting,
            },
            broker: self.replica.clone(),
            operator_version: open.map_or_else(String::new, |open| open.welcome.version.clone()),
            reason: self.reason.clone(),
            alone: self.alone.is_alone(at),
            epoch: held_epoch,
            slots: self.seat.held().map_or_else(Vec::new, |grant| grant.slots.clone()),
            standing_by: if held_epoch == 0 { self.standing_by.clone() } else { String::new() },
            yielded,
            permits_awaited: self.asking.len(),
            bad_policy: self.bad_policy.clone(),
        };
        self.settings.metrics.slots_held(shown.slots.len());
        self.status.send_if_modified(|status| {
            let changed = *status != shown;
            *status = shown;
            changed
        });
    }

    /// The consumer has ended, and no link is left: the broker is told, if it is there.
    async fn farewell(mut self) {
        let at = self.clock.now();
        let lingers = self.lingers(at, self.consumer.borrow().unconfirmed);
        self.seat.drain();
        if let Some(epoch) = self.seat.held().map(|grant| grant.epoch) {
            self.seat.vacated(at, epoch, lingers);
        }
        let last = report::standing(self.seat.standing(at), &self.consumer.borrow());
        self.say(at, sidecar_message::Message::Report(last));
        if let Line::Open(open) = self.line {
            // Whether it was heard: the end of the container tells the broker as well.
            let _ = timeout(FAREWELL, open.end()).await;
        }
    }
}
