//! The task that speaks with the broker. It hears what the broker says and what the consumer does, asks the pure parts what
//! follows, and says so to both.
//!
//! It never stops the consumer: whatever becomes of the broker, links that stand go on.

mod heard;
mod permits;
mod reach;

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sluice_cloud::sign::SaslCredentials;
use sluice_proto::control::v1::{self, sidecar_message};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep_until, timeout};
use tracing::warn;

use self::reach::SILENCE;
use super::alone::{Alone, Next};
use super::asks::{Ask, BrokerPermits};
use super::dial::{Dial, Replica};
use super::line::{Line, LineError};
use super::report;
use super::requests::Requests;
use super::seat::{Order, Seat, Standing};
use super::status::{ControlPhase, ControlStatus};
use super::terms::{Endpoint, Terms};
use super::time::{Clock, Time};
use crate::backoff::Backoff;
use crate::consumer::Snapshot;
use crate::ledger::Policy;
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::orders::{Orders, Seating};
use crate::readiness::Readiness;

/// What has changed is reported at once, but not more often than that.
const REPORT_APART: Duration = Duration::from_millis(50);

/// The platform is given so much more than the idle time-out before a link whose end it has not confirmed is taken for
/// dead: its clock starts later than ours, and it may look only now and then. The broker waits as long for pods that died.
const MARGIN: Duration = Duration::from_secs(15);

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
    let (orders, ordered) =
        watch::channel(Arc::new(Orders { number: 1, seat, connector: None, policy, credentials_version: 0 }));
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
    /// The last grant that was used: what was asked for and signed under another one counts no more.
    used: u64,
    /// The last pair signed for each of its slots; in memory only.
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
    /// The file tells of attempts that were made alone.
    remembers: bool,
    connector: Option<Arc<C>>,
    standing_by: String,
    bad_policy: String,
    /// Why there is no stream.
    reason: String,
    /// What was last logged of that.
    last_error: Option<LineError>,
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
            clock,
            dial: Arc::new(dial),
            desk,
            consumer,
            status,
            readiness,
            seat: Seat::new(),
            requests: Requests::new(),
            asking: Vec::new(),
            used: 0,
            pairs: HashMap::new(),
            line: Line::Away(Time(0)),
            candidates: VecDeque::new(),
            backoff: Backoff::default(),
            open_since: Time(0),
            heard: Time(0),
            terms: None,
            longest_idle: Duration::ZERO,
            remembers: !settings.remembered.is_empty(),
            connector: None,
            standing_by: AWAY.to_owned(),
            bad_policy: String::new(),
            reason: String::new(),
            last_error: None,
            replica: String::new(),
            reported: None,
            reported_at: Time(0),
            figures_due: Time::NEVER,
            tally: report::Tally::default(),
            settings,
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
        self.forget_attempts(at);
        self.report(at);
        self.publish_status(at);
    }

    /// Once no attempt of its own is of interest any more, a successor need not know of any.
    fn forget_attempts(&mut self, at: Time) {
        if self.remembers && !self.alone.attempted(at) {
            self.remembers = false;
            if let Err(error) = self.settings.memory.save(&[]) {
                warn!(%error, "a successor will take connect attempts for recent that are not");
            }
        }
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
        since.map_or(Duration::ZERO, |since| (self.longest_idle + MARGIN).saturating_sub(since))
    }

    fn publish_orders(&mut self) {
        let seat = match self.seat.order() {
            Order::Stay => Seating::StandBy { reason: self.standing_by.clone() },
            Order::Use(grant) => {
                if self.used != grant.epoch {
                    // Nobody has asked under this one yet.
                    self.used = grant.epoch;
                    self.requests.clear();
                    self.pairs.clear();
                }
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
        let credentials_version = self.terms.as_ref().map_or(0, |terms| terms.credentials_version);
        let same_connector = match (&self.connector, &before.connector) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before),
            (None, None) => true,
            _ => false,
        };
        let same_credentials = credentials_version == before.credentials_version;
        if seat != before.seat || policy != before.policy || !same_connector || !same_credentials {
            let (number, connector) = (before.number + 1, self.connector.clone());
            let orders = Orders { number, seat, connector, policy, credentials_version };
            self.desk.orders.send_replace(Arc::new(orders));
        }
    }

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
