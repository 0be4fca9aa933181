//! Carries faults out, at once or when they are due.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::sleep_until;
use tracing::{info, warn};

use super::schedule::Full;
use super::{Action, FaultId, Injection, Outage, Schedule, Scheduled, When};
use crate::accounts::Accounts;
use crate::amqp::Order;
use crate::clock::Micros;
use crate::hub::Hub;
use crate::openapi::{ApiFault, Service};
use crate::platform::UnknownGroup;

/// Why a fault can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unable {
    /// The group does not exist.
    #[error(transparent)]
    Group(#[from] UnknownGroup),
    /// The log does not know the message.
    #[error("no message {0:?} that could be repeated")]
    Message(String),
    /// There is no such temporary key.
    #[error("there is no temporary access key {0:?}")]
    Key(String),
    /// Too much is planned.
    #[error(transparent)]
    Full(#[from] Full),
}

/// What became of a fault that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Injected {
    /// How many connections or messages it has hit so far.
    pub(crate) affected: usize,
    /// Its name, if it is planned.
    pub(crate) id: Option<FaultId>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Injector {
    hub: Arc<Hub>,
    accounts: Arc<Mutex<Accounts>>,
    service: Arc<Service>,
    schedule: Mutex<Schedule>,
    /// Something is due earlier than before.
    changed: Notify,
}

impl Injector {
    pub(crate) fn new(hub: Arc<Hub>, accounts: Arc<Mutex<Accounts>>, service: Arc<Service>) -> Self {
        Self { hub, accounts, service, schedule: Mutex::default(), changed: Notify::new() }
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Micros {
        self.hub.clock().now().mono
    }

    /// Does it now, plans it, or both.
    pub(crate) fn inject(&self, injection: &Injection, when: When) -> Result<Injected, Unable> {
        if let Some(group) = &injection.target.group {
            self.hub.counts(group)?;
        }
        let now = when.after.is_zero();
        let later = if now {
            let left = when.times.map(|times| times.saturating_sub(1));
            let again = when.every.filter(|_| left != Some(0));
            again.map(|every| When { after: every, every: Some(every), times: left })
        } else {
            Some(when)
        };
        // Planned first: what can't be planned does not happen either, so that whoever asks again asks for the first time.
        let plan = |later| self.schedule().add(injection.clone(), later, u32::from(now), self.now());
        let id = later.map(plan).transpose()?;
        let struck = if now { self.strike(injection) } else { Ok(0) };
        if let (Err(_), Some(id)) = (&struck, id) {
            self.cancel(id);
        }
        self.changed.notify_one();
        Ok(Injected { affected: struck?, id })
    }

    /// What is planned.
    pub(crate) fn planned(&self) -> Vec<Scheduled> {
        self.schedule().list(self.now())
    }

    /// Takes a fault out of the plan. Says whether it was there.
    pub(crate) fn cancel(&self, id: FaultId) -> bool {
        self.schedule().cancel(id)
    }

    /// Takes everything out of the plan, and says how much that was.
    pub(crate) fn cancel_all(&self) -> usize {
        self.schedule().clear()
    }

    /// Does what is due, for ever.
    pub(crate) async fn run(&self) {
        loop {
            let (due, alarm) = {
                let mut schedule = self.schedule();
                (schedule.due(self.now()), schedule.alarm())
            };
            for (id, injection) in due {
                if let Err(error) = self.strike(&injection) {
                    warn!(id = id.0, %error, "a planned fault could not be");
                }
            }
            tokio::select! {
                () = sleep_until(self.hub.clock().instant(alarm)) => {}
                () = self.changed.notified() => {}
            }
        }
    }

    /// Does it now, and says how many connections or messages it hits.
    fn strike(&self, injection: &Injection) -> Result<usize, Unable> {
        let target = &injection.target;
        let affected = match &injection.action {
            Action::Connections(fault) => self.hub.order(target, &Order::from(fault), |_| true)?,
            Action::ExpireToken { key } => {
                let keys = match key {
                    Some(key) => vec![key.clone()],
                    None => self.hub.keys(target)?,
                };
                let expired = self.expire(keys);
                if let (Some(key), true) = (key, expired.is_empty()) {
                    return Err(Unable::Key(key.clone()));
                }
                self.hub.order(target, &Order::Expire, |key| expired.iter().any(|expired| expired == key))?
            }
            Action::Repeat { message } => {
                self.hub.repeat(message).map(|_| 1).ok_or_else(|| Unable::Message(message.clone()))?
            }
            Action::RefuseNext { attempts } => {
                self.hub.refuse_next(target.group.as_deref(), *attempts)?;
                0
            }
            Action::FreezeApi(outage) => self.break_api(ApiFault::Freeze, *outage),
            Action::ThrottleApi(outage) => self.break_api(ApiFault::Throttle, *outage),
            Action::UnavailableApi(outage) => self.break_api(ApiFault::Unavailable, *outage),
        };
        info!(?injection, affected, "fault injected");
        Ok(affected)
    }

    fn break_api(&self, fault: ApiFault, outage: Outage) -> usize {
        self.service.misbehave(fault, outage.product, outage.lasts);
        0
    }

    /// Lets those of these keys expire that are temporary, and returns them. What holds the accounts does not hold the
    /// platform.
    fn expire(&self, mut keys: Vec<String>) -> Vec<String> {
        let now_ms = self.hub.clock().now().unix_us / 1_000;
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        keys.retain(|key| accounts.expire(key, now_ms));
        keys
    }
}
