//! Fetches keys and keeps them fresh: one task for each place that keys come from, as long as somebody holds a handle on
//! it. When to fetch is [`sluice_cloud::provider`]'s to say, and [`reread`]'s for Secrets.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use sluice_cloud::answer::ErrorClass;
use sluice_cloud::client::{Answered, CallError};
use sluice_cloud::credentials::AccessKey;
use sluice_cloud::provider::{Lease, Life, State};
use sluice_cloud::secret::SecretString;
use sluice_cloud::sts::{AssumeRole, AssumeRoleWithOidc, Session, SessionDuration};
use sluice_crds::status::Reason;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::AbortHandle;
use tracing::{info, warn};

use super::source::Role;
use super::{Clients, Named, Source, secret};
use crate::fault::{self, Class};
use crate::metrics::Metrics;
use crate::time::{Clock, Time};

/// The audience that STS knows a Kubernetes token by (`PLATFORM.md 4.3`).
const AUDIENCE: &str = "sts.aliyuncs.com";
/// A token is used at once; this is the shortest life that Kubernetes gives one.
const TOKEN_SECONDS: i64 = 600;
/// So many places are asked at once.
const AT_ONCE: usize = 8;
/// So many answers may be missing in a row before that is worth a word.
const TOLERATED: u32 = 2;
/// A place is not asked again sooner, whoever says that its keys are refused.
const PAUSE: Duration = Duration::from_secs(5);

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
    fetches: Semaphore,
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
        let fetches = Semaphore::new(AT_ONCE);
        (Self(Arc::new(Shared { kube, clients, clock, metrics, entries, fetches, changes })), receiver)
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

/// How often each Secret is read again while `sources` are in use: every 30 s, and less often when there are so many that
/// this would be more than 20 reads a second.
fn reread(sources: usize) -> Duration {
    let fair = Duration::from_millis(50).saturating_mul(u32::try_from(sources).unwrap_or(u32::MAX));
    fair.clamp(Duration::from_secs(30), Duration::from_secs(300))
}

/// Tends one place until nobody holds it any more.
async fn tend(shared: Arc<Shared>, entry: Weak<Entry>, wake: Arc<Notify>, base: Option<Handle>) {
    let mut base_changed = base.as_ref().map(|base| base.0.changed.subscribe());
    loop {
        let Some(present) = entry.upgrade() else { return };
        let wait = present.turn(&shared, base.as_ref()).await;
        let asked = lock(&present.inside).asked;
        drop(present);
        let anew = async {
            match &mut base_changed {
                Some(changed) => changed.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        let renewed = tokio::select! {
            () = tokio::time::sleep(wait) => false,
            () = wake.notified() => {
                tokio::time::sleep(PAUSE.saturating_sub(shared.clock.now().since(asked))).await;
                false
            }
            renewed = anew => renewed,
        };
        if let Some(present) = entry.upgrade().filter(|_| renewed) {
            lock(&present.inside).life.renew(now(shared.clock));
        }
    }
}

impl Entry {
    fn new(source: Source, clock: Clock) -> Self {
        let inside = Inside {
            life: Life::new(rand::random()),
            fault: None,
            read: None,
            version: 0,
            asked: Time::default(),
            failures: 0,
        };
        Self {
            source,
            clock,
            inside: Mutex::new(inside),
            changed: watch::Sender::new(0),
            wake: Arc::default(),
            task: Mutex::default(),
        }
    }

    /// Asks the place if that is due; how long to wait then.
    async fn turn(&self, shared: &Shared, base: Option<&Handle>) -> Duration {
        // Only a keeper that ends closes it, and then the task is aborted.
        let Ok(_one_of_few) = shared.fetches.acquire().await else { return PAUSE };
        match &self.source {
            Source::Secret(name) => self.read_secret(shared, name).await,
            Source::AssumeRole { role, external_id, .. } => {
                let Some(base) = base else { return reread(0) };
                match base.current() {
                    Ok(credential) => {
                        self.renew(shared, role, async |duration| {
                            let client = client(shared, role)?;
                            let action = AssumeRole {
                                role: role.arn.clone(),
                                session: role.session.clone(),
                                duration,
                                external_id: external_id.clone(),
                            };
                            let answer = client.ask(&role.sts, &credential.key, &action).await;
                            if answer.as_ref().is_err_and(|error| error.class() == ErrorClass::Credentials) {
                                base.refused(&credential.key);
                            }
                            Ok(answer)
                        })
                        .await
                    }
                    Err(fault) => {
                        self.note(shared, Some(fault), false);
                        reread(0)
                    }
                }
            }
            Source::WorkloadIdentity { account, role, provider_arn } => {
                self.renew(shared, role, async |duration| {
                    let client = client(shared, role)?;
                    let token = token(shared, account).await?;
                    let action = AssumeRoleWithOidc {
                        role: role.arn.clone(),
                        session: role.session.clone(),
                        duration,
                        provider_arn: provider_arn.clone(),
                        token,
                    };
                    Ok(client.ask_unsigned(&role.sts, &action).await)
                })
                .await
            }
        }
    }

    async fn read_secret(&self, shared: &Shared, name: &Named) -> Duration {
        let asked = shared.clock.now();
        lock(&self.inside).asked = asked;
        let found = Api::<Secret>::namespaced(shared.kube.clone(), &name.namespace).get(&name.name).await;
        shared.metrics.credentials_refreshed("secret", found.is_ok());
        let (fault, key) = match found {
            Ok(found) => {
                let read = (found.metadata.uid.clone(), found.metadata.resource_version.clone());
                let read = (read.0.unwrap_or_default(), read.1.unwrap_or_default());
                let mut inside = lock(&self.inside);
                if inside.read.replace(read.clone()) == Some(read) {
                    // Nothing new: what was wrong with it is still wrong.
                    inside.failures = 0;
                    return jittered(pace(shared));
                }
                drop(inside);
                match secret::read(&found) {
                    Ok(key) => (None, Some(key)),
                    Err(error) => (Some(incomplete(name, &error)), None),
                }
            }
            Err(error) => {
                let error = fault::Fault::from(error);
                shared.metrics.api_error(error.class);
                lock(&self.inside).read = None;
                match error.class {
                    Class::NotFound => (Some(not_found(name)), None),
                    class => {
                        return self.kubernetes_failed(shared, class, format!("Secret {name} can't be read: {error}"));
                    }
                }
            }
        };
        let mut inside = lock(&self.inside);
        inside.failures = 0;
        let at = now(shared.clock);
        let same = match (inside.life.key(at), &key) {
            (Some(old), Some(new)) => secret::same(old, new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if !same {
            inside.life = Life::new(rand::random());
            if let Some(key) = key {
                let attempt = inside.life.begin();
                inside.life.succeeded(attempt, Lease::permanent(key));
            }
        }
        drop(inside);
        self.note(shared, fault, !same);
        jittered(pace(shared))
    }

    /// Has STS give new keys if that is due.
    async fn renew<F>(&self, shared: &Shared, role: &Role, fetch: F) -> Duration
    where
        F: AsyncFnOnce(SessionDuration) -> Result<Result<Answered<Session>, CallError>, Fault>,
    {
        let due = lock(&self.inside).life.due();
        let begun = now(shared.clock);
        if let Some(due) = due.filter(|due| *due > begun) {
            return due.saturating_sub(begun);
        }
        let attempt = lock(&self.inside).life.begin();
        lock(&self.inside).asked = shared.clock.now();
        let duration = SessionDuration::try_new(Duration::from_secs(role.seconds)).unwrap_or_default();
        let answer = fetch(duration).await;
        let at = now(shared.clock);
        let good = matches!(answer, Ok(Ok(_)));
        shared.metrics.credentials_refreshed(self.source.label(), good);
        let fault = {
            let mut inside = lock(&self.inside);
            match answer {
                Ok(Ok(Answered { answer: session, date })) => {
                    let lifetime = session.lifetime(duration, date);
                    inside.life.succeeded(attempt, Lease::temporary(session.key, begun, lifetime));
                    None
                }
                Ok(Err(error)) => {
                    let reason =
                        if error.class().is_transient() { Reason::PlatformUnreachable } else { Reason::RoleRefused };
                    let words = format!("STS gives no keys for role {}: {error}", role.arn);
                    inside.life.failed(attempt, error.class(), words.clone(), at);
                    Some(Fault { reason, words })
                }
                Err(fault) => {
                    inside.life.failed(attempt, ErrorClass::Invalid, fault.words.clone(), at);
                    Some(fault)
                }
            }
        };
        self.note(shared, fault, good);
        let due = lock(&self.inside).life.due();
        due.map_or(PAUSE, |due| due.saturating_sub(now(shared.clock)))
    }

    /// Kubernetes did not say; a key that there is serves on.
    fn kubernetes_failed(&self, shared: &Shared, class: Class, words: String) -> Duration {
        let (failures, known) = {
            let mut inside = lock(&self.inside);
            inside.failures = inside.failures.saturating_add(1);
            (inside.failures, inside.fault.is_some() || inside.life.key(now(shared.clock)).is_some())
        };
        // What is known still counts when one answer is missing; not when nobody answers for long, or never did.
        if !known || (failures >= TOLERATED && class != Class::Unavailable) || failures >= 4 * TOLERATED {
            self.note(shared, Some(Fault { reason: Reason::Unverified, words }), false);
        }
        class.backoff(failures, rand::random()).min(pace(shared))
    }

    /// Takes note of how it went, and tells who listens if anything has changed.
    fn note(&self, shared: &Shared, fault: Option<Fault>, renewed: bool) {
        let changed = {
            let mut inside = lock(&self.inside);
            let changed = renewed || inside.fault != fault;
            inside.version += u64::from(renewed);
            inside.fault.clone_from(&fault);
            changed
        };
        if changed {
            if let Some(fault) = fault {
                warn!(source = %self.source, reason = %fault.reason, words = fault.words, "no new keys");
            } else {
                info!(source = %self.source, "keys are at hand");
            }
            self.changed.send_modify(|count| *count += 1);
            let _ = shared.changes.send(self.source.clone());
        }
    }
}

/// How often each Secret is read again, with as many places as there are now.
fn pace(shared: &Shared) -> Duration {
    reread(lock(&shared.entries).len())
}

fn not_found(name: &Named) -> Fault {
    let words = format!(
        "Secret {name} does not exist: create it with the keys `{}` and `{}`, or name another",
        secret::ID,
        secret::SECRET
    );
    Fault { reason: Reason::SecretNotFound, words }
}

fn incomplete(name: &Named, error: &secret::SecretError) -> Fault {
    Fault { reason: Reason::SecretIncomplete, words: format!("Secret {name} can't be used: {error}") }
}

fn client(shared: &Shared, role: &Role) -> Result<sluice_cloud::client::Client, Fault> {
    let found = shared.clients.get(role.ca.as_ref());
    found.map_err(|error| Fault { reason: Reason::CaBundleInvalid, words: error.to_string() })
}

/// A token of the ServiceAccount for STS, or why there is none.
async fn token(shared: &Shared, account: &Named) -> Result<SecretString, Fault> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![AUDIENCE.to_owned()],
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let accounts = Api::<ServiceAccount>::namespaced(shared.kube.clone(), &account.namespace);
    let answer = accounts.create_token_request(&account.name, &PostParams::default(), &request).await;
    let unverified = |words| Fault { reason: Reason::Unverified, words };
    let answer = answer.map_err(|error| {
        let error = fault::Fault::from(error);
        shared.metrics.api_error(error.class);
        match error.class {
            Class::NotFound => Fault {
                reason: Reason::ServiceAccountNotFound,
                words: format!("ServiceAccount {account} does not exist: create it, or name another"),
            },
            _ => unverified(format!("Kubernetes gives no token for ServiceAccount {account}: {error}")),
        }
    })?;
    let token = answer.status.map(|status| status.token).filter(|token| !token.is_empty());
    token
        .map(SecretString::new)
        .ok_or_else(|| unverified(format!("Kubernetes' answer has no token for ServiceAccount {account}")))
}

/// Between 80 % and all of it, so that many places are not asked in step.
fn jittered(span: Duration) -> Duration {
    span.mul_f64(0.8 + rand::random::<f64>() / 5.0)
}

fn now(clock: Clock) -> Duration {
    clock.now().since(Time::default())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_read_every_half_minute_and_never_more_than_twenty_a_second() {
        assert_eq!(reread(1), Duration::from_secs(30));
        assert_eq!(reread(600), Duration::from_secs(30));
        assert_eq!(reread(2_000), Duration::from_secs(100));
        assert_eq!(reread(1_000_000), Duration::from_secs(300));
    }
}
