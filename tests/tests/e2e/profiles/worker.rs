//! An application with moods, and what it has acknowledged.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use sluice_proto::v1::Delivery;
use sluice_tests::application::{Application, subscription};
use sluice_tests::wait::{self, PAUSE};
use tokio::runtime::Runtime;
use tokio::task::AbortHandle;
use tokio::time::error::Elapsed;

use super::scene::LEASE;

/// Deliveries that an application has in hand when it dies.
const DIES_WITH: usize = 4;

/// How long an application waits for more before it looks whether there is something else to do.
const IDLE: Duration = Duration::from_millis(50);

/// Time enough for an ack to get to the platform.
const PAUSES: Duration = Duration::from_millis(200);

/// What applications have acknowledged, and when first, in Unix µs. It is written down before the ack is sent.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<HashMap<String, u64>>);

impl Journal {
    fn note<'a>(&self, message_ids: impl Iterator<Item = &'a String>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_us = u64::try_from(now.as_micros()).unwrap_or(u64::MAX);
        let mut acks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for id in message_ids {
            acks.entry(id.clone()).or_insert(now_us);
        }
    }

    /// When a message was first acknowledged.
    pub(super) fn first_ack_us(&self, message_id: &str) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(message_id).copied()
    }

    /// How many messages were acknowledged.
    pub(super) fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

/// How an application behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// It acknowledges most messages at once and some later, and asks for some again.
    Works,
    /// It takes some and is gone; then another one comes and works.
    Dies,
    /// It answers nothing until its leases have run out, then works. Its acks come late, or never.
    Hangs,
    /// It answers nothing for the time being.
    Holds,
    /// It acknowledges so many of those that it has held longest, pauses, and then works.
    AcksOldest(usize),
    /// It acknowledges everything.
    Diligent,
}

/// An application that comes back whenever its stream ends. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Worker {
    mood: Arc<Mutex<Mood>>,
    holding: Arc<AtomicUsize>,
    task: AbortHandle,
}

impl Worker {
    /// Starts one at a sidecar's address, which stays the same when the sidecar is started anew.
    pub(super) fn start(runtime: &Runtime, address: String, name: &str, journal: Arc<Journal>, seed: u64) -> Self {
        let mood = Arc::new(Mutex::new(Mood::Works));
        let holding = Arc::<AtomicUsize>::default();
        let (name, dice) = (name.to_owned(), StdRng::seed_from_u64(seed));
        let mut life = Life { name, mood: Arc::clone(&mood), holding: Arc::clone(&holding), journal, dice };
        let task = runtime.spawn(async move {
            for number in 0.. {
                // That a stream fails is part of it, and so is a sidecar that is not there.
                let _ = life.live(&address, number).await;
                life.holding.store(0, Ordering::Relaxed);
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { mood, holding, task: task.abort_handle() }
    }

    /// Changes its mood.
    pub(super) fn be(&self, mood: Mood) {
        *lock(&self.mood) = mood;
    }

    /// Waits until it has so many messages in hand, for at most `bound`.
    pub(super) fn holds(&self, count: usize, bound: Duration) -> bool {
        wait::until(bound, || (self.holding.load(Ordering::Relaxed) >= count).then_some(())).is_some()
    }

    /// Waits until what it was told to do is done, for at most `bound`: it may have no messages to do it with.
    pub(super) fn done(&self, bound: Duration) -> bool {
        wait::until(bound, || (*lock(&self.mood) == Mood::Works).then_some(())).is_some()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Life {
    name: String,
    mood: Arc<Mutex<Mood>>,
    holding: Arc<AtomicUsize>,
    journal: Arc<Journal>,
    dice: StdRng,
}

impl Life {
    /// From its attachment to the end of its stream.
    async fn live(&mut self, address: &str, number: u32) -> Result<()> {
        let mut application = Application::attach(address, subscription(&format!("{}-{number}", self.name))).await?;
        let mut in_hand: Vec<Delivery> = Vec::new();
        let mut hung_since = None;
        let mut busy_until = Instant::now();
        loop {
            self.holding.store(in_hand.len(), Ordering::Relaxed);
            let next = match application.delivery(IDLE).await {
                Ok(delivery) => Some(delivery),
                Err(error) if error.root_cause().is::<Elapsed>() => None,
                Err(error) => return Err(error),
            };
            let mood = *lock(&self.mood);
            match mood {
                Mood::Works => {
                    match next {
                        Some(delivery) if self.dice.random_bool(0.1) => {
                            let delay = Duration::from_millis(self.dice.random_range(0..300));
                            application.retry(delivery.delivery_id, Some(delay)).await?;
                        }
                        Some(delivery) => {
                            if in_hand.is_empty() {
                                busy_until = Instant::now() + self.takes();
                            }
                            in_hand.push(delivery);
                        }
                        None => {}
                    }
                    if Instant::now() >= busy_until {
                        self.ack(&mut application, &mut in_hand).await?;
                    }
                }
                Mood::Dies => {
                    in_hand.extend(next);
                    if in_hand.len() >= DIES_WITH {
                        self.works_again(mood);
                        return Ok(());
                    }
                }
                Mood::Hangs => {
                    in_hand.extend(next);
                    let since = in_hand.first().map(|_| *hung_since.get_or_insert_with(Instant::now));
                    if since.is_some_and(|since| since.elapsed() > LEASE * 5 / 4) {
                        hung_since = None;
                        if self.dice.random_bool(0.5) {
                            in_hand.clear();
                        }
                        self.ack(&mut application, &mut in_hand).await?;
                        self.works_again(mood);
                    }
                }
                Mood::Holds => in_hand.extend(next),
                Mood::AcksOldest(count) => {
                    in_hand.extend(next);
                    let mut oldest = in_hand.drain(..count.min(in_hand.len())).collect();
                    self.ack(&mut application, &mut oldest).await?;
                    tokio::time::sleep(PAUSES).await;
                    self.works_again(mood);
                }
                Mood::Diligent => {
                    in_hand.extend(next);
                    self.ack(&mut application, &mut in_hand).await?;
                }
            }
        }
    }

    /// How long it works on what it has: nothing as a rule, and now and then so long that the link may be another one then.
    fn takes(&mut self) -> Duration {
        let longest = if self.dice.random_bool(0.2) { LEASE * 3 / 4 } else { Duration::from_millis(1) };
        longest.mul_f64(self.dice.random())
    }

    fn works_again(&self, from: Mood) {
        let mut mood = lock(&self.mood);
        if *mood == from {
            *mood = Mood::Works;
        }
    }

    /// Acknowledges everything in hand.
    async fn ack(&self, application: &mut Application, in_hand: &mut Vec<Delivery>) -> Result<()> {
        if in_hand.is_empty() {
            return Ok(());
        }
        self.journal.note(in_hand.iter().map(|delivery| &delivery.message_id));
        application.ack(in_hand.drain(..).map(|delivery| delivery.delivery_id)).await
    }
}
