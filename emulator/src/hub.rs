//! The platform, shared: the one lock around its state machine, the clock, and the wake-ups. Every call that changes it goes
//! through [`Hub::with_state`], which afterwards wakes the connections that got something to write and the timer if the next
//! deadline has moved closer.

mod seat;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until};

pub(crate) use self::seat::GroupSeat;
use crate::amqp::{Failure, Order};
use crate::clock::{Clock, Micros, Now};
use crate::faults::{Fault, Target};
use crate::instances::{InstanceError, Instances};
use crate::message::Draft;
use crate::openapi::World;
use crate::platform::{
    Audit, ClientKey, CloudLine, Code, ConnectionLine, Counts, Eviction, FateLine, FateSummary, Figures, GroupLimits,
    LogQuery, Platform, Refusal, Seq, UnknownGroup,
};

/// What is said of a platform that is full.
pub(crate) const FULL: &str = "messages that nobody has settled take as much memory as limits.heldBytes says";

#[derive(Debug)]
struct Mailbox {
    wake: Arc<Notify>,
    orders: Vec<Order>,
    /// The access key that the connection was made with.
    key_id: String,
}

#[derive(Debug)]
struct State {
    platform: Platform,
    instances: Instances,
    /// What the OpenAPI shows of the groups, by their addresses: the figures of a while ago.
    shown: HashMap<String, Figures>,
    /// What the groups' counts were when those figures were made.
    counted: HashMap<String, Counts>,
    mailboxes: HashMap<ClientKey, Mailbox>,
    /// When the timer will tick by itself.
    armed: Micros,
}

/// How late the timer may be before that is no accident of scheduling, and how long the connections then have to read.
const STALL: Duration = Duration::from_millis(200);
const CATCHING_UP: Duration = Duration::from_millis(50);
/// How many orders wait for one connection, at most.
const MOST_ORDERS: usize = 1_000;

impl State {
    /// The open connections that are meant.
    fn find(&self, target: &Target) -> Result<Vec<ClientKey>, UnknownGroup> {
        let mut clients = self.platform.clients(target.group.as_deref(), target.client.as_deref())?;
        clients.retain(|client| target.connection.is_none_or(|number| client.number() == number));
        Ok(clients)
    }

    /// Makes the figures that are shown anew, but those of groups in which nothing has happened since: what is counted is
    /// the same, and nothing was consumed that could grow old.
    fn renew_figures(&mut self, now: Micros) {
        let Self { platform, shown, counted, .. } = self;
        shown.retain(|group, _| platform.has_group(group));
        counted.retain(|group, _| platform.has_group(group));
        for (group, counts) in platform.all_counts() {
            let still = counted.get(group) == Some(&counts);
            if still && shown.get(group).is_some_and(|figures| figures.speed.total() == 0) {
                continue;
            }
            if let Ok(figures) = platform.figures(group, now) {
                shown.insert(group.to_owned(), figures);
                counted.insert(group.to_owned(), counts);
            }
        }
    }
}

impl From<Eviction> for Failure {
    fn from(reason: Eviction) -> Self {
        let (condition, description) = match reason {
            Eviction::GroupDeleted => ("amqp:resource-deleted", "the consumer group was deleted"),
            Eviction::Surplus => {
                ("amqp:resource-limit-exceeded", "connections in the group exceed the limit, and this is the oldest")
            }
            Eviction::SameClientId => ("amqp:connection:forced", "the client ID has connected again"),
        };
        let failure = Self::named(condition, description);
        if reason == Eviction::Surplus { failure.coded(Code::Surplus) } else { failure }
    }
}

/// The shared platform. See the module.
#[derive(Debug)]
pub struct Hub {
    clock: Clock,
    state: Mutex<State>,
    timer: Notify,
}

impl Hub {
    /// Every group of `instances` is one of the platform's, by its address.
    pub(crate) fn new(clock: Clock, mut platform: Platform, instances: Instances) -> Self {
        for address in instances.addresses() {
            platform.add_group(&address, clock.now().mono);
        }
        let (shown, counted, mailboxes) = (HashMap::new(), HashMap::new(), HashMap::new());
        let state = State { platform, instances, shown, counted, mailboxes, armed: Micros::NEVER };
        Self { clock, state: Mutex::new(state), timer: Notify::new() }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, act: impl FnOnce(&mut Platform, Now) -> R) -> R {
        self.with_state(|state, now| act(&mut state.platform, now))
    }

    fn with_state<R>(&self, act: impl FnOnce(&mut State, Now) -> R) -> R {
        let mut state = self.lock();
        let result = act(&mut state, self.clock.now());
        self.wake(&mut state);
        result
    }

    fn wake(&self, state: &mut State) {
        for (client, reason) in state.platform.take_evicted() {
            if let Some(mailbox) = state.mailboxes.get_mut(&client) {
                mailbox.orders.push(Order::Close(Some(reason.into())));
                mailbox.wake.notify_one();
            }
        }
        for client in state.platform.take_woken() {
            if let Some(mailbox) = state.mailboxes.get(&client) {
                mailbox.wake.notify_one();
            }
        }
        if state.platform.alarm() < state.armed {
            state.armed = state.platform.alarm();
            self.timer.notify_one();
        }
    }

    /// Ticks the platform whenever it is due, for ever.
    pub(crate) async fn run_timer(&self) {
        loop {
            let due = self.tick();
            tokio::select! {
                () = sleep_until(self.clock.instant(due)) => {}
                () = self.timer.notified() => {}
            }
            // This process was stopped, or had no turn: what came meanwhile came in time, and is heard first.
            if self.clock.now().mono > due.after(STALL) {
                sleep(CATCHING_UP).await;
            }
        }
    }

    /// Does what is due, and returns when the next is.
    pub(crate) fn tick(&self) -> Micros {
        let mut state = self.lock();
        state.platform.tick(self.clock.now());
        // Before the wake-ups: the timer need not wake itself.
        state.armed = state.platform.alarm();
        self.wake(&mut state);
        state.armed
    }

    /// Whether messages that are not settled take as much memory as they may: nobody should publish more.
    pub fn is_full(&self) -> bool {
        self.lock().platform.is_full()
    }

    /// Publishes messages to `group`, and returns their IDs.
    pub fn publish(&self, group: &str, drafts: &[Draft]) -> Result<Vec<String>, UnknownGroup> {
        self.with(|platform, now| platform.publish(group, drafts, now))
    }

    /// Publishes messages as devices do: each goes to the groups that its product's subscription names for its kind, or to
    /// the default group if the product has no subscription. The ID of a message that nobody has subscribed to is `None`.
    pub fn publish_by_topic(&self, drafts: &[Draft]) -> Vec<Option<String>> {
        self.with_state(|State { platform, instances, .. }, now| {
            if let Some(ids) = instances.only_route().and_then(|group| platform.publish(group, drafts, now).ok()) {
                return ids.into_iter().map(Some).collect();
            }
            drafts.iter().map(|draft| platform.publish_to(&instances.route(&draft.topic), draft, now)).collect()
        })
    }

    /// What an action of the OpenAPI does to the platform.
    pub(crate) fn with_world<R>(&self, act: impl FnOnce(&mut World<'_>) -> R) -> R {
        self.with_world_at(self.clock.now(), act)
    }

    /// The same at this time.
    pub(crate) fn with_world_at<R>(&self, now: Now, act: impl FnOnce(&mut World<'_>) -> R) -> R {
        self.with_state(|State { platform, instances, shown, .. }, _| {
            act(&mut World { platform, instances, shown, now })
        })
    }

    /// Renews the figures that the OpenAPI shows, so often, for ever.
    pub(crate) async fn run_figures(&self, every: Duration) {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            let mut state = self.lock();
            state.renew_figures(self.clock.now().mono);
        }
    }

    /// The address of a group, and the account that it belongs to.
    pub(crate) fn find_group(&self, instance: Option<&str>, group: &str) -> Result<(String, String), InstanceError> {
        let instances = &self.lock().instances;
        let key = instances.find(instance)?;
        instances.group(key, group)?;
        Ok((instances.address(key, group), instances.account(key).to_owned()))
    }

    /// The addresses of all groups, in their order.
    pub(crate) fn groups(&self) -> Vec<String> {
        let mut groups = self.lock().instances.addresses();
        groups.sort();
        groups
    }

    /// A group's own limits.
    pub fn group_limits(&self, group: &str) -> Result<GroupLimits, UnknownGroup> {
        self.lock().platform.group_limits(group)
    }

    /// Gives a group limits of its own.
    pub fn set_group_limits(&self, group: &str, limits: GroupLimits) -> Result<(), UnknownGroup> {
        self.with(|platform, _| platform.set_group_limits(group, limits))
    }

    /// A group's counts.
    pub fn counts(&self, group: &str) -> Result<Counts, UnknownGroup> {
        self.lock().platform.counts(group)
    }

    /// What happened to the message with this ID, oldest line first; `None` when the log does not know it.
    pub fn fate(&self, id: &str) -> Option<Vec<FateLine>> {
        self.lock().platform.fate(id)
    }

    /// The next at most `limit` messages of `group` after `after`, and the place to go on after.
    pub fn fates(&self, group: &str, after: Seq, limit: usize) -> Result<(Vec<FateSummary>, Seq), UnknownGroup> {
        self.lock().platform.fates(group, after, limit)
    }

    /// Does `fault` to the open connections of `group` (of all groups when `None`), or those of them with this client
    /// ID. Returns how many there were.
    pub fn inject(&self, group: Option<&str>, client_id: Option<&str>, fault: &Fault) -> Result<usize, UnknownGroup> {
        let (group, client) = (group.map(str::to_owned), client_id.map(str::to_owned));
        self.order(&Target { group, client, connection: None }, &fault.into(), |_| true)
    }

    /// Has an order carried out by those of these connections whose access key is meant. Returns how many there were.
    pub(crate) fn order(
        &self,
        target: &Target,
        order: &Order,
        is_meant: impl Fn(&str) -> bool,
    ) -> Result<usize, UnknownGroup> {
        let mut state = self.lock();
        let mut count = 0;
        for client in state.find(target)? {
            if let Some(mailbox) = state.mailboxes.get_mut(&client).filter(|mailbox| is_meant(&mailbox.key_id)) {
                // Of those that a connection does not get round to, the last ones count.
                if mailbox.orders.len() >= MOST_ORDERS {
                    mailbox.orders.remove(0);
                }
                mailbox.orders.push(order.clone());
                mailbox.wake.notify_one();
                count += 1;
            }
        }
        Ok(count)
    }

    /// The access keys that these connections were made with, each once.
    pub(crate) fn keys(&self, target: &Target) -> Result<Vec<String>, UnknownGroup> {
        let state = self.lock();
        let clients = state.find(target)?;
        let keys = clients.iter().filter_map(|client| state.mailboxes.get(client)).map(|mailbox| &mailbox.key_id);
        Ok(keys.collect::<BTreeSet<_>>().into_iter().cloned().collect())
    }

    /// Pushes a message once more, under the same ID, which is returned; `None` when the log does not know it.
    pub(crate) fn repeat(&self, id: &str) -> Option<String> {
        self.with(|platform, now| platform.repeat(id, now))
    }

    /// Refuses the next so many attempts to connect to `group`, to any group when `None`.
    pub(crate) fn refuse_next(&self, group: Option<&str>, attempts: u32) -> Result<(), UnknownGroup> {
        self.with(|platform, _| platform.refuse_next(group, attempts))
    }

    /// The open connections of `group`, of all groups when `None`.
    pub(crate) fn connections(&self, group: Option<&str>) -> Result<Vec<ConnectionLine>, UnknownGroup> {
        self.lock().platform.connections(group)
    }

    /// Whether the platform finds itself in order.
    pub(crate) fn audit(&self) -> Audit {
        self.lock().platform.audit()
    }

    /// What the platform has written into its own log.
    pub(crate) fn cloud_log(&self, wanted: &LogQuery) -> Vec<CloudLine> {
        self.lock().platform.cloud_log(wanted)
    }

    /// How many connections are open, over all groups.
    pub(crate) fn clients(&self) -> usize {
        self.lock().mailboxes.len()
    }

    /// Someone tries to connect to `group`. The error says why that is too much.
    pub(crate) fn attempt(&self, group: &str) -> Result<(), Refusal> {
        self.with(|platform, now| platform.attempt(group, now))
    }
}

#[cfg(test)]
mod tests;
