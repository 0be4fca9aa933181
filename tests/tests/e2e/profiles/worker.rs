//! An application with moods, and what it has acknowledged.

use std::collections::HashMap;
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

/// How long an application waits for more before it does what it has put off.
const IDLE: Duration = Duration::from_millis(50);

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
    /// It acknowledges most messages at once, some later, and asks for some again.
    Works,
    /// It takes some and is gone; then another one comes and works.
    Dies,
    /// It answers nothing until its leases have run out, then works. Its acks come late, or never.
    Hangs,
    /// It acknowledges everything.
    Diligent,
}

/// An application that comes back whenever its stream ends. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Worker {
    mood: Arc<Mutex<Mood>>,
    task: AbortHandle,
}

impl Worker {
    /// Starts one at a sidecar's address, which stays the same when the sidecar is started anew.
    pub(super) fn start(runtime: &Runtime, address: String, name: &str, journal: Arc<Journal>, seed: u64) -> Self {
        let mood = Arc::new(Mutex::new(Mood::Works));
        let mut life =
            Life { name: name.to_owned(), mood: Arc::clone(&mood), journal, dice: StdRng::seed_from_u64(seed) };
        let task = runtime.spawn(async move {
            for number in 0.. {
                // That a stream fails is part of it, and so is a sidecar that is not there.
                let _ = life.live(&address, number).await;
                tokio::time::sleep(PAUSE).await;
            }
        });
        Self { mood, task: task.abort_handle() }
    }

    /// Changes its mood.
    pub(super) fn be(&self, mood: Mood) {
        *lock(&self.mood) = mood;
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
    journal: Arc<Journal>,
    dice: StdRng,
}

impl Life {
    /// From its attachment to the end of its stream.
    async fn live(&mut self, address: &str, number: u32) -> Result<()> {
        let mut application = Application::attach(address, subscription(&format!("{}-{number}", self.name))).await?;
        let mut in_hand: Vec<Delivery> = Vec::new();
        let mut hung_since = None;
        loop {
            let next = match application.delivery(IDLE).await {
                Ok(delivery) => Some(delivery),
                Err(error) if error.root_cause().is::<Elapsed>() => None,
                Err(error) => return Err(error),
            };
            let idle = next.is_none();
            let mood = *lock(&self.mood);
            match mood {
                Mood::Works => {
                    let put_off = match next {
                        Some(delivery) if self.dice.random_bool(0.1) => {
                            let delay = Duration::from_millis(self.dice.random_range(0..300));
                            application.retry(delivery.delivery_id, Some(delay)).await?;
                            false
                        }
                        Some(delivery) => {
                            in_hand.push(delivery);
                            self.dice.random_bool(0.4)
                        }
                        None => false,
                    };
                    if !put_off || idle {
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
                Mood::Diligent => {
                    in_hand.extend(next);
                    self.ack(&mut application, &mut in_hand).await?;
                }
            }
        }
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
