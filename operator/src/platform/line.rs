//! Making calls: one account's line, in which everybody waits for a turn, and what all calls of one registration share.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sluice_cloud::answer::{ErrorClass, SignedAction};
use sluice_cloud::client::{CallError, Client, Turn, Turns, outcome};
use sluice_cloud::pace::{Priority, Rate};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use super::target::{ApiKey, ApiKeys, Subject};
use super::{Timing, evidence};
use crate::credentials::Clients;
use crate::group::view::Nudge;
use crate::leader::Leadership;
use crate::metrics::Metrics;
use crate::slots::GroupRef;
use crate::time::{Clock, Time};

/// What everybody here shares.
pub(super) struct Office {
    pub(super) clients: Clients,
    pub(super) clock: Clock,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) nudge: Nudge,
    pub(super) metrics: Metrics,
    pub(super) timing: Timing,
    /// One for each product that is being changed: two ConsumerGroups that change the same subscription at once would undo
    /// each other's change.
    pub(super) changes: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Office {
    /// The present term, if this replica leads.
    pub(super) fn term(&self) -> Option<u64> {
        let leadership = self.leadership.borrow();
        leadership.leads(self.clock.now()).then_some(leadership.term)
    }

    /// What whoever changes this product must hold.
    pub(super) fn change_of(&self, product: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut changes = lock(&self.changes);
        changes.retain(|_, change| change.strong_count() > 0);
        let known = changes.get(product).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let change = Arc::default();
            changes.insert(product.to_owned(), Arc::downgrade(&change));
            change
        })
    }
}

/// One account.
pub(super) struct Account {
    /// Whose turn it is to call.
    pub(super) turns: Turns<GroupRef>,
    /// What was between the last two answers about the group that was answered last, in milliseconds: those next in line
    /// have waited about as long.
    latest: AtomicU64,
}

impl Account {
    pub(super) fn new(rate: Rate) -> Self {
        Self { turns: Turns::new(rate), latest: AtomicU64::new(0) }
    }

    pub(super) fn latest(&self) -> Duration {
        Duration::from_millis(self.latest.load(Ordering::Relaxed))
    }

    pub(super) fn measured(&self, interval: Duration) {
        self.latest.store(u64::try_from(interval.as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Lack {
    /// This replica leads no more.
    Over,
    /// There is no key to sign with.
    NoKey,
    /// The call has failed.
    Failed(CallError),
}

/// All that a call needs, but for what is asked.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) office: Arc<Office>,
    pub(super) term: u64,
    pub(super) account: Arc<Account>,
    pub(super) subject: Subject,
    pub(super) client: Client,
    pub(super) keys: Arc<dyn ApiKeys>,
    /// In whose name turns are taken.
    pub(super) caller: GroupRef,
    /// Told when keys may have changed.
    pub(super) wake: Arc<Notify>,
}

impl Line {
    pub(super) fn leads(&self) -> bool {
        self.office.term() == Some(self.term)
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self, priority: Priority) -> Turn<'_, GroupRef> {
        self.account.turns.wait(self.caller.clone(), priority).await
    }

    /// Uses a turn. Nothing is sent unless this replica leads at that moment. With the answer comes the number of the key
    /// that was used, if one was.
    pub(super) async fn ask<A: SignedAction>(
        &self,
        turn: Turn<'_, GroupRef>,
        action: &A,
    ) -> (Option<u64>, Result<A::Answer, Lack>) {
        if !self.leads() {
            return (None, Err(Lack::Over));
        }
        let Ok(ApiKey { key, version }) = self.keys.current() else {
            return (None, Err(Lack::NoKey));
        };
        let result = self.client.ask(&self.subject.endpoint, &key, action).await;
        turn.report(outcome(&result));
        self.office.metrics.platform_call(A::NAME, evidence::label(&result));
        if result.as_ref().is_err_and(|error| error.class() == ErrorClass::Credentials) {
            self.keys.refused(&key);
        }
        (Some(version), result.map(|answered| answered.answer).map_err(Lack::Failed))
    }

    /// Waits until `due`; or, if `unless` is the number of a key, until there is another one.
    pub(super) async fn rest(&self, due: Time, unless: Option<u64>) {
        loop {
            let now = self.office.clock.now();
            let changed = unless.is_some() && self.keys.current().is_ok_and(|key| Some(key.version) != unless);
            if now >= due || changed {
                return;
            }
            let left = due.since(now);
            let nap = if unless.is_some() { left.min(self.office.timing.keys) } else { left };
            tokio::select! {
                () = sleep(nap) => {}
                () = self.wake.notified(), if unless.is_some() => {}
            }
        }
    }

    /// Waits until there is a key to sign with.
    pub(super) async fn rest_until_keyed(&self) {
        while self.keys.current().is_err() && self.leads() {
            tokio::select! {
                () = sleep(self.office.timing.keys) => {}
                () = self.wake.notified() => {}
            }
        }
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
