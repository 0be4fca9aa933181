//! Alibaba Cloud `IoT` Platform's server-side subscription on loopback: a strict stand-in for the demo, for development
//! clusters and for tests. It keeps the platform's rules and limits (PLATFORM.md 1); every limit is a parameter.
//!
//! [`platform`] is the platform itself, a state machine that knows neither sockets nor clocks. Around it are thin edges:
//! AMQP over TLS for clients, the OpenAPI and STS over HTTPS for operators, an admin API over HTTP for whoever publishes and
//! looks on. [`Emulator::start`] runs all of it inside the calling process; the binary does the same and nothing else.

mod accounts;
mod admin;
mod amqp;
mod clock;
mod config;
mod devices;
mod duration;
mod faults;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
mod generator;
mod http;
mod hub;
mod instances;
mod limits;
mod message;
mod openapi;
mod pattern;
pub mod platform;
mod profile;
mod rules;
mod sockets;
mod terms;
#[cfg(test)]
mod tests;
mod tls;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};
use tracing::info;

pub use self::clock::{Clock, Micros, Now};
pub use self::config::{
    AccessKeyEntry, Config, ConfigError, InstanceEntry, OpenApi, ProviderEntry, RoleEntry, ServiceAccountEntry, Sts,
    ThrottleScope, TokenEntry, TrustEntry, Unsubscribed, Wire,
};
pub use self::faults::{Fault, FramePart, Reason};
#[cfg(any(test, feature = "fuzzing"))]
pub use self::fuzzing::{fuzz_calls, fuzz_entry, fuzz_frames};
pub use self::hub::Hub;
pub use self::limits::Limits;
pub use self::message::{BodySection, Draft, DraftId};
pub use self::pattern::Pattern;
pub use self::profile::{
    BacklogOrder, ChosenClient, ClientsCounted, ClosingWords, DispositionRanges, FIELDS, Field, GenerateTime,
    LateAnswer, MessageId, OpenIdleTimeOut, OpenProperties, Overflow, Profile, PushRate, Redelivery, SameClientId,
    SaslFrame, StsKey, SurplusAttempt, SurplusClient, Timestamp, TlsVersions, TokenExpiry, UnknownValue, Variation,
};
pub use self::tls::TlsError;

use self::accounts::Accounts;
use self::admin::Admin;
use self::amqp::Server;
use self::devices::SharedRegistry;
use self::faults::Injector;
use self::generator::Generator;
use self::instances::{Instances, Quotas, Setup};
use self::openapi::Service;
use self::platform::Platform;
use self::rules::Rules;
use self::terms::Terms;
use self::tls::Authority;

/// Why the emulator did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An address can't be listened on.
    #[error("can't listen on {address} for {what}: {source}")]
    Listen {
        /// `AMQP`, `HTTP` or the `OpenAPI`.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
}

/// A running emulator. Dropping it ends it abruptly; [`Emulator::shutdown`] ends it in good order.
#[derive(Debug)]
pub struct Emulator {
    amqp_addr: SocketAddr,
    http_addr: SocketAddr,
    api_addr: SocketAddr,
    ca_pem: String,
    hub: Arc<Hub>,
    stop: watch::Sender<bool>,
    generator: Arc<Generator>,
    timer: JoinHandle<()>,
    figures: Option<JoinHandle<()>>,
    faults: JoinHandle<()>,
    amqp: JoinHandle<()>,
    api: JoinHandle<()>,
    http: JoinHandle<()>,
}

impl Emulator {
    /// Starts an emulator within the calling tokio runtime. When this returns, clients can connect.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_keeping(config, Rules::default()).await
    }

    /// The same with these rules.
    pub(crate) async fn start_keeping(config: Config, rules: Rules) -> Result<Self, StartError> {
        config.validate()?;
        let authority = Authority::open(config.dir.as_deref())?;
        let tls = authority.acceptor(config.profile.tls_versions, &config.names)?;
        let api_tls = authority.acceptor(TlsVersions::Both, &config.names)?;
        let (amqp_listener, amqp_addr) = listen("AMQP", config.amqp).await?;
        let (http_listener, http_addr) = listen("HTTP", config.http).await?;
        let (api_listener, api_addr) = listen("the OpenAPI", config.api).await?;
        info!(%amqp_addr, %http_addr, %api_addr, groups = ?config.groups, "emulator starts");

        let clock = Clock::start();
        // IDs are numbers of 19 digits; those of a later start are higher.
        let id_base = clock.now().unix_us.saturating_mul(1_000);
        let instances = instances(&config, rules, clock.now().unix_us / 1_000);
        let Config { limits, profile, wire, .. } = config;
        let terms = Arc::new(Terms { limits, profile, wire, rules });
        let platform = Platform::new(Arc::clone(&terms), [], id_base, config.seed);
        let hub = Arc::new(Hub::new(clock, platform, instances));
        let accounts =
            Accounts::new(&config.account_id, &config.access_keys, &config.tokens, config.roles, config.oidc_providers);
        let accounts = Arc::new(Mutex::new(accounts.under(Arc::clone(&terms))));

        let (stop, stopped) = watch::channel(false);
        let timer = tokio::spawn({
            let hub = Arc::clone(&hub);
            async move { hub.run_timer().await }
        });
        let figures_every = config.open_api.figures_every;
        let figures = (!figures_every.is_zero()).then(|| {
            let hub = Arc::clone(&hub);
            tokio::spawn(async move { hub.run_figures(figures_every).await })
        });
        let max_payload_bytes = terms.limits.max_payload_bytes;
        let server = Server { tls, accounts: Arc::clone(&accounts), hub: Arc::clone(&hub), terms: Arc::clone(&terms) };
        let amqp = tokio::spawn(amqp::accept(amqp_listener, Arc::new(server), until(stopped.clone())));
        let devices = SharedRegistry::default();
        let service = Service::new(Arc::clone(&hub), Arc::clone(&accounts), terms, config.open_api, config.sts);
        let service = Arc::new(service.reaching(Arc::clone(&devices)));
        let injector = Injector::new(Arc::clone(&hub), Arc::clone(&accounts), Arc::clone(&service));
        let injector = Arc::new(injector);
        let faults = tokio::spawn({
            let injector = Arc::clone(&injector);
            async move { injector.run().await }
        });
        let api = tokio::spawn(openapi::accept(api_listener, api_tls, Arc::clone(&service), until(stopped.clone())));
        let generator = Arc::new(Generator::new(Arc::clone(&hub), devices));
        let (product_key, seed) = (config.product_key, config.seed);
        let admin = Admin {
            hub: Arc::clone(&hub),
            accounts,
            service,
            injector,
            generator: Arc::clone(&generator),
            product_key,
            max_payload_bytes,
            seed,
        };
        let http = tokio::spawn(admin::serve(http_listener, Arc::new(admin), until(stopped)));

        let ca_pem = authority.pem().to_owned();
        Ok(Self {
            amqp_addr,
            http_addr,
            api_addr,
            ca_pem,
            hub,
            stop,
            generator,
            timer,
            figures,
            faults,
            amqp,
            api,
            http,
        })
    }

    /// Where AMQP over TLS is served.
    #[must_use]
    pub fn amqp_addr(&self) -> SocketAddr {
        self.amqp_addr
    }

    /// Where the admin API is served.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Where the OpenAPI and STS are served, over TLS and without.
    #[must_use]
    pub fn api_addr(&self) -> SocketAddr {
        self.api_addr
    }

    /// The CA certificate that clients must trust, as PEM. The server's certificate is for `localhost`, `127.0.0.1`, `::1`
    /// and [`Config::names`].
    #[must_use]
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The platform: what the admin API does, without HTTP.
    #[must_use]
    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    /// Closes every connection in good order (`amqp:connection:forced`) and ends. Takes a few seconds at most, should
    /// clients not answer.
    pub async fn shutdown(mut self) -> Result<(), JoinError> {
        self.stop.send_replace(true);
        let amqp = (&mut self.amqp).await;
        // Whatever HTTP request still hangs is cut off with `self`.
        info!("emulator ended");
        amqp
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // A request that still hangs holds it, too.
        self.generator.end();
        self.timer.abort();
        if let Some(figures) = &self.figures {
            figures.abort();
        }
        self.faults.abort();
        self.amqp.abort();
        self.api.abort();
        self.http.abort();
    }
}

/// The instances that a configuration names.
fn instances(config: &Config, rules: Rules, now_unix_ms: u64) -> Instances {
    let first = Setup {
        id: config.instance_id.clone(),
        account: config.account_id.clone(),
        groups: config.groups.clone(),
        products: config.products.clone(),
    };
    let others = config.instances.iter().map(|instance| Setup {
        id: instance.id.clone(),
        account: instance.account.clone().unwrap_or_else(|| config.account_id.clone()),
        groups: instance.groups.clone(),
        products: instance.products.clone(),
    });
    let quotas = Quotas {
        groups_per_product: config.open_api.groups_per_product,
        products_per_group: config.open_api.products_per_group,
        groups_per_account: config.open_api.groups_per_account,
        rules,
    };
    Instances::new(std::iter::once(first).chain(others).collect(), quotas, config.seed, now_unix_ms)
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let failed = |source| StartError::Listen { what, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the emulator is gone, which is a reason to stop as well.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
