//! How one place is tended: asked when that is due, and what its answer changes.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, PostParams};
use sluice_cloud::answer::ErrorClass;
use sluice_cloud::client::{Answered, CallError};
use sluice_cloud::provider::{Lease, Life};
use sluice_cloud::secret::SecretString;
use sluice_cloud::sts::{AssumeRole, AssumeRoleWithOidc, Session, SessionDuration};
use sluice_crds::status::Reason;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use super::words::{incomplete, no_token, not_found, unreadable};
use super::{Entry, Fault, Handle, Inside, Shared, lock, now};
use crate::credentials::source::Role;
use crate::credentials::{Named, Source, secret};
use crate::fault::Class;
use crate::time::{Clock, Time};

/// The audience that STS knows a Kubernetes token by (`PLATFORM.md 4.3`).
const AUDIENCE: &str = "sts.aliyuncs.com";
/// A token is used at once; this is the shortest life that Kubernetes gives one.
const TOKEN_SECONDS: i64 = 600;
/// So many answers may be missing in a row before that is worth a word.
const TOLERATED: u32 = 2;
/// A place is not asked again sooner, whoever says that its keys are refused.
const PAUSE: Duration = Duration::from_secs(5);

/// What STS said, and when it was asked.
pub(super) struct Asked {
    pub(super) begun: Duration,
    pub(super) answer: Result<Answered<Session>, CallError>,
}

/// Why STS was not asked at all.
#[derive(Debug)]
pub(super) struct Unasked {
    /// How soon it is worth another try.
    pub(super) class: ErrorClass,
    pub(super) fault: Fault,
}

/// How often each Secret is read again while `sources` are in use: every 30 s, and less often when there are so many that
/// this would be more than 20 reads a second.
pub(super) fn reread(sources: usize) -> Duration {
    let fair = Duration::from_millis(50).saturating_mul(u32::try_from(sources).unwrap_or(u32::MAX));
    fair.clamp(Duration::from_secs(30), Duration::from_secs(300))
}

/// Tends one place until nobody holds it any more.
pub(super) async fn tend(shared: Arc<Shared>, entry: Weak<Entry>, wake: Arc<Notify>, base: Option<Handle>) {
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
    pub(super) fn new(source: Source, clock: Clock) -> Self {
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

/// How often each Secret is read again, with as many places as there are now.
fn pace(shared: &Shared) -> Duration {
    reread(lock(&shared.entries).len())
}

/// Between 80 % and all of it, so that many places are not asked in step.
fn jittered(span: Duration) -> Duration {
    span.mul_f64(0.8 + rand::random::<f64>() / 5.0)
}
