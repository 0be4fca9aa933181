//! When the next call may be made. The OpenAPI allows an *account* 5 calls a second of each kind, and the user's own tools
//! share them (PLATFORM.md 4): so all calls of an account go through one of these, which lets them out at a steady rate,
//! slows down when the platform throttles, recovers slowly, and is fair to those who wait.
//!
//! A pure core: a time is what has passed since a moment of the caller's choice, on a clock that never goes back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// How often calls are made while nobody throttles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
    burst: u32,
}

/// A rate that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{interval:?} between calls and {burst} at once is no rate; it takes 1 ms to 60 s, and at least 1")]
pub struct RateError {
    interval: Duration,
    burst: u32,
}

impl Rate {
    /// One call per `interval` (1 ms to 60 s) in the long run, and up to `burst` (at least 1) at once after a pause.
    pub fn try_new(interval: Duration, burst: u32) -> Result<Self, RateError> {
        let good = (Duration::from_millis(1)..=Duration::from_secs(60)).contains(&interval) && burst > 0;
        if good { Ok(Self { interval, burst }) } else { Err(RateError { interval, burst }) }
    }
}

impl Default for Rate {
    /// Two calls a second, two at once.
    fn default() -> Self {
        Self { interval: Duration::from_millis(500), burst: 2 }
    }
}

/// Who goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Priority {
    /// Somebody waits for the answer: a new object's credentials are being checked, say.
    Interactive,
    /// What comes round again anyway: polls.
    Background,
}

/// A place in the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Who may go now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// This one, at once. It is out of the queue.
    Go(Ticket),
    /// Nobody before this time.
    At(Duration),
    /// Nobody waits.
    Idle,
}

/// What became of a call, as far as pacing goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The platform answered it.
    Answered,
    /// The platform throttled it.
    Throttled,
    /// Nothing is known: it never got there, or no answer came.
    Unknown,
}

/// The pace of one account's calls. `C` names the callers, who get their turns one after the other.
#[derive(Clone, Debug)]
pub struct Pace<C> {
    rate: Rate,
    /// What is between two calls now: the rate's, or more after throttling.
    interval: Duration,
    /// When the next call is due if they come at just this interval. It may be a burst ahead of the time.
    due: Duration,
    /// When the interval was last doubled.
    slowed: Option<Duration>,
    interactive: Lane<C>,
    background: Lane<C>,
    /// How many of the interactive lane went while somebody waited in the other.
    ahead: u32,
    tickets: u64,
}

/// The longest interval that throttling leads to.
const SLOWEST: Duration = Duration::from_secs(60);
/// Of so many calls one is left to the background, however many interactive ones wait.
const SHARE: u32 = 4;

impl<C: Ord + Clone> Pace<C> {
    /// Nobody waits, and a burst may be made at once.
    pub fn new(rate: Rate) -> Self {
        Self {
            rate,
            interval: rate.interval,
            due: Duration::ZERO,
            slowed: None,
            interactive: Lane::default(),
            background: Lane::default(),
            ahead: 0,
            tickets: 0,
        }
    }

    /// Queues a call. Callers of one priority take turns; the calls of one caller keep their order.
    pub fn queue(&mut self, caller: C, priority: Priority) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.lane(priority).push(caller, ticket);
        ticket
    }

    /// Takes a call out of the queue that nobody waits for any more. A call that went already is not called back.
    pub fn cancel(&mut self, ticket: Ticket) {
        self.interactive.remove(ticket);
        self.background.remove(ticket);
    }

    /// Who may go at the time `at`. Ask again until it is not [`Next::Go`].
    pub fn next(&mut self, at: Duration) -> Next {
        if self.waiting() == 0 {
            return Next::Idle;
        }
        let ready = self.ready_at();
        if at < ready {
            return Next::At(ready);
        }
        let patient = !self.background.is_empty();
        let lane = if self.interactive.is_empty() || (patient && self.ahead + 1 >= SHARE) {
            self.ahead = 0;
            &mut self.background
        } else {
            self.ahead = if patient { self.ahead + 1 } else { 0 };
            &mut self.interactive
        };
        let Some(ticket) = lane.pop() else { return Next::Idle };
        self.due = self.due.max(at) + self.interval;
        Next::Go(ticket)
    }

    /// Tells what became of a call that went.
    pub fn report(&mut self, outcome: Outcome, at: Duration) {
        match outcome {
            Outcome::Answered => self.interval = (self.interval * 15 / 16).max(self.rate.interval),
            Outcome::Throttled => {
                // The answers to calls that were under way together tell one thing, not several.
                if self.slowed.is_none_or(|slowed| at >= slowed + self.interval) {
                    self.interval = (self.interval * 2).min(SLOWEST.max(self.rate.interval));
                    self.slowed = Some(at);
                }
                self.due = self.due.max(at + self.interval);
            }
            Outcome::Unknown => {}
        }
    }

    /// What is between two calls now.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether calls are made less often than they might be, because of throttling.
    pub fn is_slowed(&self) -> bool {
        self.interval > self.rate.interval
    }

    /// How many calls wait.
    pub fn waiting(&self) -> usize {
        self.interactive.len + self.background.len
    }

    fn ready_at(&self) -> Duration {
        let burst = if self.is_slowed() { 1 } else { self.rate.burst };
        self.due.saturating_sub(self.interval * (burst - 1))
    }

    fn lane(&mut self, priority: Priority) -> &mut Lane<C> {
        match priority {
            Priority::Interactive => &mut self.interactive,
            Priority::Background => &mut self.background,
        }
    }
}

/// Those who wait with one priority.
#[derive(Clone, Debug)]
struct Lane<C> {
    /// Each caller that waits, once.
    turns: VecDeque<C>,
    calls: BTreeMap<C, VecDeque<Ticket>>,
    len: usize,
}

impl<C> Default for Lane<C> {
    fn default() -> Self {
        Self { turns: VecDeque::new(), calls: BTreeMap::new(), len: 0 }
    }
}

impl<C: Ord + Clone> Lane<C> {
    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, caller: C, ticket: Ticket) {
        self.len += 1;
        if let Some(calls) = self.calls.get_mut(&caller) {
            calls.push_back(ticket);
        } else {
            self.turns.push_back(caller.clone());
            self.calls.insert(caller, VecDeque::from([ticket]));
        }
    }

    fn pop(&mut self) -> Option<Ticket> {
        let caller = self.turns.pop_front()?;
        let calls = self.calls.get_mut(&caller)?;
        let ticket = calls.pop_front()?;
        self.len -= 1;
        if calls.is_empty() {
            self.calls.remove(&caller);
        } else {
            self.turns.push_back(caller);
        }
        Some(ticket)
    }

    fn remove(&mut self, ticket: Ticket) {
        let Some(caller) =
            self.calls.iter().find(|(_, calls)| calls.contains(&ticket)).map(|(caller, _)| caller.clone())
        else {
            return;
        };
        let Some(calls) = self.calls.get_mut(&caller) else { return };
        calls.retain(|other| *other != ticket);
        self.len -= 1;
        if calls.is_empty() {
            self.calls.remove(&caller);
            self.turns.retain(|other| *other != caller);
        }
    }
}

#[cfg(test)]
mod tests;
