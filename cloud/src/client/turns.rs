//! Waiting for one's turn: [`Pace`] with a clock and with callers that sleep until they may go.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, sleep_until};

use crate::pace::{Next, Outcome, Pace, Priority, Rate, Ticket};

/// The turns of one account. Shared by all who make calls for it.
#[derive(Debug)]
pub struct Turns<C> {
    state: Mutex<State<C>>,
    /// Who holds it watches the clock for all others: so an account has one timer, however many wait.
    watch: Semaphore,
    origin: Instant,
}

#[derive(Debug)]
struct State<C> {
    pace: Pace<C>,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
}

impl<C: Ord + Clone> Turns<C> {
    /// Nobody waits.
    pub fn new(rate: Rate) -> Self {
        let state = State { pace: Pace::new(rate), waiting: HashMap::new() };
        Self { state: Mutex::new(state), watch: Semaphore::new(1), origin: Instant::now() }
    }

    /// Waits until `caller` may make a call. Who stops waiting (drops this future) leaves the queue.
    pub async fn wait(&self, caller: C, priority: Priority) -> Turn<'_, C> {
        let (sender, mut go) = oneshot::channel();
        let ticket = {
            let mut state = self.lock();
            let ticket = state.pace.queue(caller, priority);
            state.waiting.insert(ticket, sender);
            ticket
        };
        let _place = Place { turns: self, ticket };
        tokio::select! {
            biased;
            _ = &mut go => {}
            _watch = self.watch.acquire() => self.watch_for(&mut go).await,
        }
        Turn { turns: self }
    }

    /// Calls everybody whose turn it is, until it is one's own.
    async fn watch_for(&self, go: &mut oneshot::Receiver<()>) {
        loop {
            let next = self.call();
            if !matches!(go.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
                return;
            }
            match next {
                Some(at) => sleep_until(self.origin + at).await,
                // Nobody waits any more, so one's own turn has come.
                None => return,
            }
        }
    }

    /// Calls everybody whose turn it is now; when the next one's will be.
    fn call(&self) -> Option<Duration> {
        let mut state = self.lock();
        loop {
            match state.pace.next(self.origin.elapsed()) {
                Next::Go(ticket) => {
                    if let Some(waiting) = state.waiting.remove(&ticket) {
                        // Who is gone this very moment wastes a turn, and no more than that.
                        let _ = waiting.send(());
                    }
                }
                Next::At(at) => return Some(at),
                Next::Idle => return None,
            }
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.lock().pace.waiting()
    }

    /// What is between two calls now.
    pub fn interval(&self) -> Duration {
        self.lock().pace.interval()
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to make one call, now.
#[derive(Debug)]
#[must_use = "report what became of the call, so that the pace can follow"]
pub struct Turn<'a, C: Ord + Clone> {
    turns: &'a Turns<C>,
}

impl<C: Ord + Clone> Turn<'_, C> {
    /// Tells what became of the call. A turn that is dropped instead tells nothing.
    pub fn report(self, outcome: Outcome) {
        let at = self.turns.origin.elapsed();
        self.turns.lock().pace.report(outcome, at);
    }
}

/// A place in the queue, given up when it is dropped.
struct Place<'a, C: Ord + Clone> {
    turns: &'a Turns<C>,
    ticket: Ticket,
}

impl<C: Ord + Clone> Drop for Place<'_, C> {
    fn drop(&mut self) {
        let mut state = self.turns.lock();
        if state.waiting.remove(&self.ticket).is_some() {
            state.pace.cancel(self.ticket);
        }
    }
}
