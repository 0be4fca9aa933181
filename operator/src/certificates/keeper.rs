//! The edge that keeps the authority in a Secret and this process's certificate in memory.
//!
//! Every replica does this, and none needs to lead: the first that creates the Secret wins, changes carry the version that
//! they are made from, and who comes late reads what is there. A Secret that vanishes is written again from memory: the
//! pods that trust it are still there.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use rustls::ServerConfig;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::watch;
use tracing::{error, info, warn};

use super::authority::{CertificateError, Leaf, Validity};
use super::plan::{Action, plan};
use super::stored::{Stored, StoredError};
use crate::fault::{Class, Fault, bounded};

/// The Secret that holds the authority, in the operator's own namespace.
pub const SECRET: &str = "sluice-ca";

/// Between two looks at the Secret. What happens there happens within years, but somebody may delete it.
const EVERY: Duration = Duration::from_secs(300);

/// Others that write at the same time each win once: more tries than there may be replicas and steps.
const TRIES: u32 = 16;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// The API server did not do it.
    #[error("can't {verb} the Secret {namespace}/{SECRET}: {cause}{}", advice(.cause))]
    Api {
        /// What was tried.
        verb: &'static str,
        /// The operator's own namespace.
        namespace: String,
        /// What the API server says.
        cause: Fault,
    },
    /// What is there can't be used, and is left as it is: pods may trust it.
    #[error(
        "the Secret {namespace}/{SECRET} can't be used: {cause}; restore it, or delete it to have a new authority made \
         (pods that are injected already then have to be restarted)"
    )]
    Unusable {
        /// The operator's own namespace.
        namespace: String,
        /// What is wrong with it.
        cause: StoredError,
    },
    /// Others were always first.
    #[error("the Secret {namespace}/{SECRET} changed {TRIES} times while it was to be written: who else writes it?")]
    Contended {
        /// The operator's own namespace.
        namespace: String,
    },
    /// No certificate could be made.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

fn advice(cause: &Fault) -> &'static str {
    match cause.class {
        Class::Forbidden => {
            "; the operator's Role in its own namespace must allow to create Secrets, and to get and update this one"
        }
        _ => "",
    }
}

/// What is served and trusted at the moment.
#[derive(Debug)]
pub struct Served {
    /// The certificate and key of this process.
    pub key: Arc<CertifiedKey>,
    /// How long that certificate counts.
    pub leaf: Validity,
    /// How long the authority that signed it counts.
    pub authority: Validity,
    /// All that is to be trusted, PEM.
    pub bundle: String,
}

/// What others need of the certificates: always what counts now. Clones show the same.
#[derive(Debug, Clone)]
pub struct Certificates(watch::Receiver<Arc<Served>>);

impl Certificates {
    /// What counts now.
    pub fn served(&self) -> Arc<Served> {
        self.0.borrow().clone()
    }

    /// Returns when something has changed since this clone last looked here; never, once the [`Keeper`] is gone.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// A TLS server's configuration which serves whatever certificate counts at the time of the handshake, and offers the
    /// protocols of `alpn`, the best one first.
    pub fn server_config(&self, alpn: &[&[u8]]) -> Result<Arc<ServerConfig>, CertificateError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(self.clone()));
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.borrow().key.clone())
    }
}

/// Keeps the certificates.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    names: Vec<String>,
    stored: Stored,
    leaf: Leaf,
    served: watch::Sender<Arc<Served>>,
}

impl Keeper {
    /// Reads the authority from the operator's own namespace, or makes it, and signs this process's certificate for
    /// `names` (DNS names and IP addresses; the first ones are those that people will see in messages).
    pub async fn open(client: Client, namespace: &str, names: Vec<String>) -> Result<Self, KeeperError> {
        let store = Store { secrets: Api::namespaced(client, namespace), namespace: namespace.to_owned() };
        let now = Timestamp::now();
        let stored = store.bring_up_to_date(None, now).await?;
        Ok(Self::with(store, names, stored, now)?)
    }

    fn with(store: Store, names: Vec<String>, stored: Stored, now: Timestamp) -> Result<Self, CertificateError> {
        let leaf = stored.signing.sign(&names, now)?;
        let served = watch::Sender::new(Arc::new(served(&stored, &leaf)));
        Ok(Self { store, names, stored, leaf, served })
    }

    /// What others need.
    pub fn certificates(&self) -> Certificates {
        Certificates(self.served.subscribe())
    }

    /// Renews what has to be, for as long as it runs. What fails is logged and tried again; until then, what was there goes
    /// on being served.
    pub async fn run(mut self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(EVERY.mul_f64(0.9 + 0.2 * rand::random::<f64>())).await;
            if let Err(error) = self.look(Timestamp::now()).await {
                error!(%error, until = %self.leaf.validity.not_after, "the certificates could not be looked after");
            }
        }
    }

    /// Does what is due at `now`: to the authority in its Secret, and to this process's certificate, even if the Secret
    /// can't be read.
    pub async fn look(&mut self, now: Timestamp) -> Result<(), KeeperError> {
        let kept = match self.store.bring_up_to_date(Some(&self.stored), now).await {
            Ok(stored) => {
                self.stored = stored;
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.renew(now, rand::random())?;
        kept
    }

    /// Signs anew if it is time, or if another authority signs now, and tells the others what has changed.
    fn renew(&mut self, now: Timestamp, dice: f64) -> Result<(), CertificateError> {
        let Validity { not_before, .. } = self.leaf.validity;
        // A certificate that begins in the future was signed before the clock was put right.
        let due = now < not_before || now >= self.leaf.validity.renew_at(dice);
        if due || self.leaf.issuer != *self.stored.signing.anchor() {
            self.leaf = self.stored.signing.sign(&self.names, now)?;
            info!(until = %self.leaf.validity.not_after, "this process's certificate is renewed");
        }
        let fresh = served(&self.stored, &self.leaf);
        self.served.send_if_modified(|served| {
            let changed = !Arc::ptr_eq(&served.key, &fresh.key) || served.bundle != fresh.bundle;
            if changed {
                *served = Arc::new(fresh);
            }
            changed
        });
        Ok(())
    }
}

fn served(stored: &Stored, leaf: &Leaf) -> Served {
    Served { key: leaf.key.clone(), leaf: leaf.validity, authority: leaf.issuer.validity(), bundle: stored.bundle() }
}

#[derive(Debug)]
struct Store {
    secrets: Api<Secret>,
    namespace: String,
}

impl Store {
    /// What is kept, after all that is due has been done. `memory` is what this process read before.
    async fn bring_up_to_date(&self, memory: Option<&Stored>, now: Timestamp) -> Result<Stored, KeeperError> {
        for _ in 0..TRIES {
            let found = bounded(self.secrets.get_opt(SECRET)).await.map_err(|cause| self.failed("get", cause))?;
            // A Secret without entries is room that somebody made for them.
            let stored = match &found {
                Some(secret) if secret.data.as_ref().is_some_and(|data| !data.is_empty()) => Some(
                    Stored::read(secret)
                        .map_err(|cause| KeeperError::Unusable { namespace: self.namespace.clone(), cause })?,
                ),
                _ => None,
            };
            let action = plan(now, stored.as_ref().map(Stored::kept).as_ref());
            let wanted = match (action, memory) {
                (Action::Create, Some(memory)) if stored.is_none() => Some(memory.clone()),
                _ => Stored::after(stored.as_ref(), action, now)?,
            };
            match (wanted, stored) {
                (Some(wanted), _) => {
                    if self.write(found, &wanted).await? {
                        info!(?action, until = %wanted.signing.anchor().validity().not_after, "the authority is kept");
                    }
                    // Read again what now stands there: it may be another replica's.
                }
                (None, Some(stored)) => {
                    if action == Action::DistrustClock {
                        warn!(begins = %stored.kept().signing.not_before, "the authority begins in the future: is this clock right?");
                    }
                    return Ok(stored);
                }
                (None, None) => {}
            }
        }
        Err(KeeperError::Contended { namespace: self.namespace.clone() })
    }

    /// Writes, unless another was faster; then it returns false.
    async fn write(&self, found: Option<Secret>, wanted: &Stored) -> Result<bool, KeeperError> {
        let parameters = PostParams::default();
        let (verb, result) = if let Some(mut secret) = found {
            secret.data = Some(wanted.entries());
            ("update", bounded(self.secrets.replace(SECRET, &parameters, &secret)).await)
        } else {
            let metadata = ObjectMeta {
                name: Some(SECRET.to_owned()),
                labels: Some([("app.kubernetes.io/managed-by".to_owned(), "sluice-operator".to_owned())].into()),
                ..ObjectMeta::default()
            };
            let secret = Secret { metadata, data: Some(wanted.entries()), ..Secret::default() };
            ("create", bounded(self.secrets.create(&parameters, &secret)).await)
        };
        match result {
            Ok(_) => Ok(true),
            Err(fault) if fault.class == Class::Conflict => Ok(false),
            // Deleted since it was read.
            Err(fault) if verb == "update" && fault.class == Class::NotFound => Ok(false),
            Err(cause) => Err(self.failed(verb, cause)),
        }
    }

    fn failed(&self, verb: &'static str, cause: Fault) -> KeeperError {
        KeeperError::Api { verb, namespace: self.namespace.clone(), cause }
    }
}

#[cfg(test)]
pub(crate) mod tests;
