//! Fetches keys and keeps them fresh: one task for each place that keys come from, as long as somebody holds a handle on
//! it. When to fetch is [`sluice_cloud::provider`]'s to say, and [`reread`]'s for Secrets.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
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
use crate::fault::{self, Class, bounded};
use crate::metrics::Metrics;
use crate::time::{Clock, Time};

/// The audience that STS knows a Kubernetes token by (`PLATFORM.md 4.3`).
const AUDIENCE: &str = "sts.aliyuncs.com";
/// A token is used at once; this is the shortest life that Kubernetes gives one.
const TOKEN_SECONDS: i64 = 600;
/// So many places are asked at once: of Kubernetes, and as many of STS. One that does not answer keeps nobody from the other.
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

/// What STS said, and when it was asked.
struct Asked {
    begun: Duration,
    answer: Result<Answered<Session>, CallError>,
}

/// Why STS was not asked at all.
#[derive(Debug)]
struct Unasked {
    /// How soon it is worth another try.
    class: ErrorClass,
    fault: Fault,
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
                            let asked = shared.ask_sts(client.ask(&role.sts, &credential.key, &action)).await;
                            if asked.answer.as_ref().is_err_and(|error| error.class() == ErrorClass::Credentials) {
                                base.refused(&credential.key);
                            }
                            Ok(asked)
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
                    Ok(shared.ask_sts(client.ask_unsigned(&role.sts, &action)).await)
                })
                .await
            }
        }
    }

    async fn read_secret(&self, shared: &Shared, name: &Named) -> Duration {
        let asked = shared.clock.now();
        lock(&self.inside).asked = asked;
        let secrets = Api::<Secret>::namespaced(shared.kube.clone(), &name.namespace);
        let found = shared.ask_kubernetes(secrets.get(&name.name)).await;
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
                lock(&self.inside).read = None;
                match error.class {
                    Class::NotFound => (Some(not_found(name)), None),
                    class => return self.kubernetes_failed(shared, class, unreadable(name, &error)),
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
        F: AsyncFnOnce(SessionDuration) -> Result<Asked, Unasked>,
    {
        let due = lock(&self.inside).life.due();
        let present = now(shared.clock);
        if let Some(due) = due.filter(|due| *due > present) {
            return due.saturating_sub(present);
        }
        let attempt = lock(&self.inside).life.begin();
        lock(&self.inside).asked = shared.clock.now();
        let duration = SessionDuration::try_new(Duration::from_secs(role.seconds)).unwrap_or_default();
        let answer = fetch(duration).await;
        let at = now(shared.clock);
        let good = matches!(answer, Ok(Asked { answer: Ok(_), .. }));
        shared.metrics.credentials_refreshed(self.source.label(), good);
        let fault = {
            let mut inside = lock(&self.inside);
            match answer {
                Ok(Asked { begun, answer: Ok(Answered { answer: session, date }) }) => {
                    let lifetime = session.lifetime(duration, date);
                    inside.life.succeeded(attempt, Lease::temporary(session.key, begun, lifetime));
                    None
                }
                Ok(Asked { answer: Err(error), .. }) => {
                    let reason =
                        if error.class().is_transient() { Reason::PlatformUnreachable } else { Reason::RoleRefused };
                    let words = format!("STS gives no keys for role {}: {error}", role.arn);
                    inside.life.failed(attempt, error.class(), words.clone(), at);
                    Some(Fault { reason, words })
                }
                Err(Unasked { class, fault }) => {
                    inside.life.failed(attempt, class, fault.words.clone(), at);
                    Some(fault)
                }
            }
        };
        self.note(shared, fault, good);
        let due = lock(&self.inside).life.due();
        due.map_or(PAUSE, |due| due.saturating_sub(now(shared.clock)))
    }

    /// Kubernetes did not say; a key that there is serves on.
    fn kubernetes_failed(&self, shared: &Shared, class: Class, fault: Fault) -> Duration {
        let (failures, known) = {
            let mut inside = lock(&self.inside);
            inside.failures = inside.failures.saturating_add(1);
            (inside.failures, inside.fault.is_some() || inside.life.key(now(shared.clock)).is_some())
        };
        // What is known still counts when one answer is missing; not when nobody answers for long, or never did.
        if !known || (failures >= TOLERATED && class != Class::Unavailable) || failures >= 4 * TOLERATED {
            self.note(shared, Some(fault), false);
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

fn unreadable(name: &Named, error: &fault::Fault) -> Fault {
    if denied(error) {
        let words = format!(
            "the operator may not read Secret {name}: add the namespace to the chart's credentials.namespaces, or give \
             the operator's ServiceAccount the right to get Secrets there: {error}"
        );
        return Fault { reason: Reason::PermissionDenied, words };
    }
    Fault { reason: Reason::Unverified, words: format!("Secret {name} can't be read: {error}") }
}

/// Whether Kubernetes knows the operator and forbids it this: that does not pass by itself.
fn denied(error: &fault::Fault) -> bool {
    error.status == Some(403)
}

fn client(shared: &Shared, role: &Role) -> Result<sluice_cloud::client::Client, Unasked> {
    let found = shared.clients.get(role.ca.as_ref());
    found.map_err(|error| {
        let fault = Fault { reason: Reason::CaBundleInvalid, words: error.to_string() };
        Unasked { class: ErrorClass::Invalid, fault }
    })
}

/// A token of the ServiceAccount for STS, or why there is none.
async fn token(shared: &Shared, account: &Named) -> Result<SecretString, Unasked> {
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![AUDIENCE.to_owned()],
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        },
        ..TokenRequest::default()
    };
    let accounts = Api::<ServiceAccount>::namespaced(shared.kube.clone(), &account.namespace);
    let parameters = PostParams::default();
    let answer = shared.ask_kubernetes(accounts.create_token_request(&account.name, &parameters, &request)).await;
    let answer = answer.map_err(|error| no_token(account, &error))?;
    let token = answer.status.map(|status| status.token).filter(|token| !token.is_empty());
    token.map(SecretString::new).ok_or_else(|| {
        let words = format!("Kubernetes' answer has no token for ServiceAccount {account}");
        Unasked { class: ErrorClass::Invalid, fault: Fault { reason: Reason::Unverified, words } }
    })
}

/// Why Kubernetes gives no token, and how soon it is worth asking again.
fn no_token(account: &Named, error: &fault::Fault) -> Unasked {
    let (reason, words) = match error.class {
        Class::NotFound => (
            Reason::ServiceAccountNotFound,
            format!("ServiceAccount {account} does not exist: create it, or name another"),
        ),
        _ if denied(error) => (
            Reason::PermissionDenied,
            format!(
                "the operator may not ask for tokens of ServiceAccount {account}: install the chart with \
                 workloadIdentity.enabled=true and the namespace among credentials.namespaces, if there are any, or give \
                 the operator's ServiceAccount the right to create serviceaccounts/token there: {error}"
            ),
        ),
        _ => (Reason::Unverified, format!("Kubernetes gives no token for ServiceAccount {account}: {error}")),
    };
    let class = match error.class {
        Class::NotFound => ErrorClass::NotFound,
        Class::Forbidden => ErrorClass::PermissionDenied,
        Class::Unavailable | Class::Conflict => ErrorClass::Unavailable,
        Class::User | Class::Internal => ErrorClass::Invalid,
    };
    Unasked { class, fault: Fault { reason, words } }
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

    fn refusal(code: u16) -> fault::Fault {
        let status = kube::core::Status { code, message: "the server's words".into(), ..kube::core::Status::default() };
        fault::Fault::from(kube::Error::Api(status.boxed()))
    }

    #[test]
    fn what_is_forbidden_is_said_to_be_and_what_is_not_known_is_not() {
        let name = Named { namespace: "plant-a".into(), name: "keys".into() };
        for (code, reason, class) in [
            (403, Reason::PermissionDenied, ErrorClass::PermissionDenied),
            (401, Reason::Unverified, ErrorClass::PermissionDenied),
            (500, Reason::Unverified, ErrorClass::Unavailable),
            (429, Reason::Unverified, ErrorClass::Unavailable),
            (422, Reason::Unverified, ErrorClass::Invalid),
        ] {
            let secret = unreadable(&name, &refusal(code));
            let token = no_token(&name, &refusal(code));
            assert_eq!((secret.reason, token.fault.reason, token.class), (reason, reason, class), "{code}");
            for words in [secret.words, token.fault.words] {
                assert!(words.contains("plant-a/keys") && words.contains("the server's words"), "{words}");
            }
        }
        let missing = no_token(&name, &refusal(404));
        assert_eq!((missing.class, missing.fault.reason), (ErrorClass::NotFound, Reason::ServiceAccountNotFound));
    }

    /// A keeper at an API server that takes every request and answers none, and how many it has taken.
    async fn silent() -> (Keeper, Clock, watch::Receiver<usize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let config = kube::Config::new(format!("http://{}", listener.local_addr().unwrap()).parse().unwrap());
        let (count, counted) = watch::channel(0);
        tokio::spawn(async move {
            let mut held = Vec::new();
            loop {
                held.push(listener.accept().await.unwrap());
                count.send_modify(|count| *count += 1);
            }
        });
        let clock = Clock::start();
        let clients = Clients::new(Arc::new(sluice_cloud::endpoint::EndpointPolicy::default()));
        let client = kube::Client::try_from(config).unwrap();
        (Keeper::new(client, clients, clock, Metrics::default()).0, clock, counted)
    }

    #[tokio::test]
    async fn an_api_server_that_says_nothing_keeps_nobody_from_sts() {
        let (keeper, _, mut taken) = silent().await;
        let name = |number| Named { namespace: "plant-a".into(), name: format!("keys-{number}") };
        let _handles: Vec<_> = (0..2 * AT_ONCE).map(|number| keeper.hold(&Source::Secret(name(number)))).collect();
        taken.wait_for(|taken| *taken == AT_ONCE).await.unwrap();
        assert_eq!((keeper.0.kubernetes.available_permits(), keeper.0.sts.available_permits()), (0, AT_ONCE));
        let refused = || CallError::Endpoint(sluice_cloud::endpoint::EndpointPolicy::with(["x"]).unwrap_err());
        assert!(keeper.0.ask_sts(async { Err(refused()) }).await.answer.is_err());
    }
}
