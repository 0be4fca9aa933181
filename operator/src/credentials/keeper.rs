//! Fetches keys and keeps them fresh: one task for each place that keys come from, as long as somebody holds a handle on
//! it. When to fetch is [`sluice_cloud::provider`]'s to say, and [`tending`]'s for Secrets.

mod tending;
#[cfg(test)]
mod tests;
mod words;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use sluice_cloud::client::{Answered, CallError};
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::provider::{Life, State};
use sluice_cloud::sts::Session;
use sluice_crds::status::Reason;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::AbortHandle;

use self::tending::{Asked, tend};
use super::{Clients, Source};
use crate::fault::{self, bounded};
use crate::metrics::Metrics;
use crate::time::{Clock, Time};

/// So many places are asked at once: of Kubernetes, and as many of STS. One that does not answer keeps nobody from the other.
const AT_ONCE: usize = 8;

/// Why there is no key, or no good one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The reason, for a condition.
    pub reason: Reason,
    /// What happened and what to do; the words of Kubernetes or STS, never a value.
    pub words: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

/// A key to sign with, now.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The key.
    pub key: AccessKey,
    /// For how long it still serves; `None`: without end.
    pub usable: Option<Duration>,
    /// Counts the changes of the key: what was learnt of an earlier one says nothing of this one.
    pub version: u64,
}

/// How a place is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It has not been asked yet.
    Pending,
    /// There is a key; and what keeps it from being renewed, if something does.
    Ready {
        /// Counts the changes of the key.
        version: u64,
        /// What went wrong lately.
        trouble: Option<Fault>,
    },
    /// There is none.
    Failed(Fault),
}

/// Keeps the keys. Clones share them.
#[derive(Clone)]
pub struct Keeper(Arc<Shared>);

struct Shared {
    kube: kube::Client,
    clients: Clients,
    clock: Clock,
    metrics: Metrics,
    entries: Mutex<HashMap<Source, Weak<Entry>>>,
    kubernetes: Semaphore,
    sts: Semaphore,
    changes: mpsc::UnboundedSender<Source>,
}

/// A place that keys come from. It is tended as long as there is a handle.
#[derive(Clone)]
pub struct Handle(Arc<Entry>);

struct Entry {
    source: Source,
    clock: Clock,
    inside: Mutex<Inside>,
    /// Counts every change of key or fault.
    changed: watch::Sender<u64>,
    wake: Arc<Notify>,
    task: Mutex<Option<AbortHandle>>,
}

struct Inside {
    life: Life,
    fault: Option<Fault>,
    /// UID and resource version of the Secret as last read.
    read: Option<(String, String)>,
    version: u64,
    /// When it was last asked, and how often in a row Kubernetes failed to answer.
    asked: Time,
    failures: u32,
}

impl Shared {
    /// Makes a request to the API server when it is its turn; counts it if it fails.
    async fn ask_kubernetes<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, fault::Fault> {
        // It is never closed.
        let _one_of_few = self.kubernetes.acquire().await.ok();
        bounded(request).await.inspect_err(|error| self.metrics.api_error(error.class))
    }

    /// Makes a call of STS, which has bounds of its own, when it is its turn.
    async fn ask_sts(&self, call: impl Future<Output = Result<Answered<Session>, CallError>>) -> Asked {
        let _one_of_few = self.sts.acquire().await.ok();
        Asked { begun: now(self.clock), answer: call.await }
    }
}

impl Keeper {
    /// A keeper, and the places whose key or fault has changed.
    pub fn new(
        kube: kube::Client,
        clients: Clients,
        clock: Clock,
        metrics: Metrics,
    ) -> (Self, mpsc::UnboundedReceiver<Source>) {
        let (changes, receiver) = mpsc::unbounded_channel();
        let entries = Mutex::default();
        let (kubernetes, sts) = (Semaphore::new(AT_ONCE), Semaphore::new(AT_ONCE));
        (Self(Arc::new(Shared { kube, clients, clock, metrics, entries, kubernetes, sts, changes })), receiver)
    }

    /// The clients that OpenAPI and STS are called with.
    pub fn clients(&self) -> &Clients {
        &self.0.clients
    }

    /// A handle on a place; the same for all who ask for the same. Must be called within a runtime.
    pub fn hold(&self, source: &Source) -> Handle {
        let mut entries = lock(&self.0.entries);
        if let Some(entry) = entries.get(source).and_then(Weak::upgrade) {
            return Handle(entry);
        }
        entries.retain(|_, entry| entry.strong_count() > 0);
        let entry = Arc::new(Entry::new(source.clone(), self.0.clock));
        entries.insert(source.clone(), Arc::downgrade(&entry));
        self.0.metrics.credential_sources(entries.len());
        drop(entries);
        let base = match source {
            Source::AssumeRole { secret, .. } => Some(self.hold(&Source::Secret(secret.clone()))),
            Source::Secret(_) | Source::WorkloadIdentity { .. } => None,
        };
        let task = tokio::spawn(tend(self.0.clone(), Arc::downgrade(&entry), entry.wake.clone(), base));
        *lock(&entry.task) = Some(task.abort_handle());
        Handle(entry)
    }
}

impl Handle {
    /// The place.
    pub fn source(&self) -> &Source {
        &self.0.source
    }

    /// The key to sign with now, or why there is none.
    pub fn current(&self) -> Result<Credential, Fault> {
        let at = now(self.0.clock);
        let inside = lock(&self.0.inside);
        match inside.life.key(at) {
            Some(key) => Ok(Credential {
                key: key.clone(),
                usable: inside.life.until().map(|until| until.saturating_sub(at)),
                version: inside.version,
            }),
            None => Err(inside.lack(at)),
        }
    }

    /// How it is doing.
    pub fn standing(&self) -> Standing {
        let at = now(self.0.clock);
        let inside = lock(&self.0.inside);
        match inside.life.state(at) {
            State::Empty if inside.fault.is_none() => Standing::Pending,
            State::Empty | State::Expired => Standing::Failed(inside.lack(at)),
            State::Fresh | State::Refreshing | State::Stale => {
                Standing::Ready { version: inside.version, trouble: inside.fault.clone() }
            }
        }
    }

    /// The platform has refused this key: if it is still the present one, the place is asked again soon.
    pub fn refused(&self, key: &AccessKey) {
        let mut inside = lock(&self.0.inside);
        let at = now(self.0.clock);
        if inside.life.key(at).is_some_and(|present| present.id() == key.id()) {
            inside.life.refused(key, at);
            self.0.wake.notify_one();
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.0.source)
    }
}

#[cfg(test)]
impl Handle {
    /// A handle on a place that is never asked.
    pub(crate) fn idle(source: Source) -> Self {
        let clock = Clock::start();
        Self(Arc::new(Entry::new(source, clock)))
    }
}

/// Handles are equal if they are on the same place.
impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.source == other.0.source
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

impl Inside {
    fn lack(&self, at: Duration) -> Fault {
        let expired = self.life.state(at) == State::Expired;
        let trouble = self.fault.as_ref().map_or("they have not been fetched yet", |fault| &fault.words);
        match &self.fault {
            Some(fault) if !expired => fault.clone(),
            _ if expired => Fault { reason: Reason::Expired, words: format!("the keys have expired: {trouble}") },
            _ => Fault { reason: Reason::Unverified, words: trouble.to_owned() },
        }
    }
}

fn now(clock: Clock) -> Duration {
    clock.now().since(Time::default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
