//! From a document, or a broker's address, and a few addresses of its own to a running sidecar.

use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use sluice_cloud::sign::ClientId;
use sluice_crds::{CaBundle, Document, Settlement};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;
use tonic::transport::server::Router;
use tracing::info;

use crate::admin::{self, Admin};
use crate::amqp::params::Params;
use crate::clock;
use crate::consumer::{Consumer, Handle, Snapshot};
use crate::control::client::{self, Control};
use crate::control::dial::{Broker, TcpDial};
use crate::control::status::ControlStatus;
use crate::control::terms::Endpoint;
use crate::credentials::{self, Credentials};
use crate::drain::DrainService;
use crate::ledger::{HandBack, LeaseId, Policy};
use crate::link::AmqpConnector;
use crate::listen::{self, Listen};
use crate::memory::Memory;
use crate::metrics::Metrics;
use crate::orders::Orders;
use crate::permit::{Pace, Permits, SelfSigned};
use crate::readiness::Readiness;
use crate::repeat::RepeatPolicy;
use crate::source::Connect;
use crate::stream::service::ConsumerService;
use crate::tls::{self, Roots};

/// The largest frame that the platform may send, in bytes.
const MAX_FRAME: u32 = 64 * 1024;

/// The largest message that the platform may send, in bytes. Devices can publish 256 KB; what the platform adds is
/// undocumented (`PLATFORM.md 1.8`).
const MAX_MESSAGE: u64 = 1 << 20;

/// How long each step may take until the link stands: what the platform itself allows (`PLATFORM.md 1.1`).
const STEP: Duration = Duration::from_secs(15);

/// What a sidecar is started with.
#[derive(Debug)]
pub struct Options {
    /// Who says what it consumes.
    pub mode: Mode,
    /// Where applications connect.
    pub listen: Listen,
    /// Where the admin address listens.
    pub admin: SocketAddr,
    /// How long what is in hand may still be answered after a signal to stop.
    pub drain: Duration,
    /// Where things are remembered over restarts. In a cluster the socket's folder if not given; else nowhere.
    pub state_dir: Option<PathBuf>,
}

/// Who says what the sidecar consumes.
#[derive(Debug)]
pub enum Mode {
    /// A document; there are no others that it would have to share client slots with.
    File {
        /// The document.
        group: Box<Document>,
        /// Where the keys come from.
        credentials: Credentials,
    },
    /// The operator's broker.
    Cluster {
        /// Where its replicas are.
        brokers: Vec<Broker>,
        /// PEM file of the authorities that vouch for them.
        authority: PathBuf,
        /// The file with the pod's token.
        token: PathBuf,
        /// The `ConsumerGroup` in the pod's namespace.
        group: String,
    },
}

/// What is printed when the sidecar is ready to be connected to.
#[derive(Debug, Serialize)]
struct Ready {
    grpc: String,
    admin: SocketAddr,
}

/// Runs until `stop` resolves, then drains. A second resolution of `stop` is the caller's to act on.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<()> {
    let Options { mode, listen, admin, drain, state_dir } = options;
    let metrics = Metrics::default();
    match mode {
        Mode::File { group, credentials } => {
            // Missing keys are said at once, not at the first connect attempt.
            credentials.current()?;
            let orders = Orders::fixed(connector(&group)?, policy(&group), group.spec.delivery.connections_per_pod);
            let permits = permits(&group, credentials, state_dir.as_deref())?;
            let (consumer, handle, status) = Consumer::new(permits, orders, first_lease(), metrics.clone());
            let readiness = watch::channel(group.spec.readiness.into()).1;
            info!(group = group.spec.group_id, "consuming by a document");
            let serving = Serving { listen, admin, drain, metrics, readiness, control: None };
            serve_all(serving, consumer, handle, status, None, stop).await
        }
        Mode::Cluster { brokers, authority, token, group } => {
            let state_dir = state_dir.or_else(|| listen.folder().map(Path::to_owned));
            let state_dir = state_dir.context("--state-dir must be given if --listen is no Unix socket")?;
            let (memory, remembered) = Memory::open(&state_dir)?;
            let dial = TcpDial::new(brokers, authority)?;
            let (desk, orders, permits) = client::prepare(Policy::default());
            let (consumer, handle, status) = Consumer::new(permits, orders, first_lease(), metrics.clone());
            info!(group, process = memory.process(), "consuming by the broker's word");
            let name = group.clone();
            let settings = client::Settings {
                group,
                token,
                memory,
                remembered,
                connector: Box::new(move |endpoint| connector_to(&name, endpoint)),
                metrics: metrics.clone(),
            };
            let (control, told) = Control::new(settings, dial, desk, status.clone());
            let readiness = told.readiness;
            let serving = Serving { listen, admin, drain, metrics, readiness, control: Some(told.status) };
            serve_all(serving, consumer, handle, status, Some(Box::pin(control.run())), stop).await
        }
    }
}

/// What is served, and where.
struct Serving {
    listen: Listen,
    admin: SocketAddr,
    drain: Duration,
    metrics: Metrics,
    readiness: watch::Receiver<Readiness>,
    control: Option<watch::Receiver<ControlStatus>>,
}

/// The task that speaks with the broker. It ends by itself once the consumer has.
type ControlTask = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn serve_all<C: Connect, P: Permits>(
    serving: Serving,
    consumer: Consumer<C, P>,
    handle: Handle,
    status: watch::Receiver<Snapshot>,
    control_task: Option<ControlTask>,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let Serving { listen, admin, drain, metrics, readiness, control } = serving;
    let admin_listener = TcpListener::bind(admin).await.with_context(|| format!("--admin {admin} can't be bound"))?;
    let admin = admin_listener.local_addr()?;
    let router = admin::router(Admin { status, readiness, control, registry: metrics.registry() });
    let admin_task = tokio::spawn(async move { axum::serve(admin_listener, router).await });

    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ConsumerService>().await;
    let router = services(handle)?.add_service(health_service);
    let (grpc, server) = listen::serve(listen, router).await?;
    let mut server = tokio::spawn(server);
    info!(grpc, %admin, "listening");
    println!("{}", serde_json::to_string(&Ready { grpc, admin })?);

    let (shutdown, stopped) = watch::channel(None);
    let mut consumer = tokio::spawn(consumer.run(stopped));
    let control_task = control_task.map(tokio::spawn);
    tokio::select! {
        () = stop => {}
        ended = &mut server => ended?.context("the gRPC server failed")?,
        ended = &mut consumer => bail!("the consumer ended by itself: {ended:?}"),
    }
    health.set_not_serving::<ConsumerService>().await;
    shutdown.send_replace(Some(clock::now() + drain));
    consumer.await.context("the consumer failed")?;
    if let Some(control) = control_task {
        // It gives the slot back.
        control.await.context("the broker's client failed")?;
    }
    // Streams have had their last word; what is left are connections without one.
    server.abort();
    admin_task.abort();
    Ok(())
}

fn services(handle: Handle) -> Result<Router> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(sluice_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .context("the reflection service can't be built")?;
    Ok(Server::builder()
        // Verdicts of a whole window fit without waiting for a window update.
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .add_service(ConsumerService::new(handle.clone()))
        .add_service(DrainService::new(handle))
        .add_service(reflection))
}

fn connector(group: &Document) -> Result<AmqpConnector> {
    let instance = &group.spec.instance;
    let roots = match &instance.ca_bundle {
        None => Roots::System,
        Some(CaBundle::File(path)) => Roots::File(path),
        Some(CaBundle::Pem(pem)) => Roots::Pem(pem),
        // Refused when the document is read.
        Some(CaBundle::ConfigMapKeyRef(key)) => bail!("a file can't take certificates from the ConfigMap {}", key.name),
    };
    let params = params(
        &group.metadata.name,
        &instance.amqp_host,
        &instance.source_address,
        group.spec.connection.idle_timeout.get(),
        group.spec.connection.settlement == Settlement::Single,
    );
    let (host, port) = (instance.amqp_host.clone(), instance.amqp_port);
    Ok(AmqpConnector { host, port, tls: tls::client_config(roots)?, params })
}

/// How links are opened to what the broker names; else, what is wrong with that.
fn connector_to(name: &str, endpoint: &Endpoint) -> Result<AmqpConnector, String> {
    let roots = endpoint.ca_pem.as_deref().map_or(Roots::System, Roots::Pem);
    let tls = tls::client_config(roots).map_err(|error| error.to_string())?;
    let params = params(name, &endpoint.host, &endpoint.source_address, endpoint.idle_timeout, endpoint.settle_singly);
    Ok(AmqpConnector { host: endpoint.host.clone(), port: endpoint.port, tls, params })
}

fn params(name: &str, host: &str, source_address: &str, idle_timeout: Duration, settle_singly: bool) -> Params {
    Params {
        container_id: format!("sluice-{name}"),
        host: host.to_owned(),
        link_name: format!("sluice-{name}"),
        source_address: source_address.to_owned(),
        idle_timeout,
        max_frame_size: MAX_FRAME,
        max_message_size: MAX_MESSAGE,
        step_timeout: STEP,
        settle_singly,
    }
}

fn permits(group: &Document, credentials: Credentials, state_dir: Option<&Path>) -> Result<SelfSigned> {
    let mut pace = Pace::new(group.spec.limits.connect_attempts_per_minute);
    let memory = match state_dir {
        None => None,
        Some(directory) => {
            let (memory, remembered) = Memory::open(directory)?;
            for _ in remembered {
                pace.record(clock::now());
            }
            Some(memory)
        }
    };
    Ok(SelfSigned {
        credentials,
        client_id: client_id(&group.metadata.name)?,
        iot_instance_id: group.spec.instance.id.clone(),
        consumer_group_id: group.spec.group_id.clone(),
        sign_method: credentials::sign_method(group.spec.credentials.sign_method),
        pace: Mutex::new(pace),
        memory,
    })
}

/// Names this process among the group's clients: two of the same document must not share a name (`PLATFORM.md 1.4`).
fn client_id(name: &str) -> Result<String> {
    let name: String = name.chars().take(48).collect();
    let name = format!("{name}-{:08x}", rand::random::<u32>());
    // Said now, and not at the first attempt.
    ClientId::try_new(name.clone())?;
    Ok(name)
}

/// Deliveries of a later process have higher numbers than any of an earlier one, as long as there are fewer than one a
/// microsecond: a late verdict of an application must not hit a delivery of another process.
fn first_lease() -> LeaseId {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    LeaseId(u64::try_from(since.as_micros()).unwrap_or(1).max(1))
}

fn policy(group: &Document) -> Policy {
    let delivery = &group.spec.delivery;
    Policy {
        lease: delivery.lease_duration.get(),
        max_in_flight: delivery.max_in_flight,
        max_in_flight_bytes: delivery.max_in_flight_bytes.bytes(),
        hand_back: match delivery.hand_back {
            sluice_crds::HandBack::Release => HandBack::Release,
            sluice_crds::HandBack::Expire => HandBack::Expire,
        },
        min_backoff: delivery.retry.min_backoff.get(),
        max_backoff: delivery.retry.max_backoff.get(),
        repeats: RepeatPolicy {
            window: delivery.deduplication.window.get(),
            max_entries: delivery.deduplication.max_entries,
        },
        ..Policy::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_fits_the_platform_however_long_the_name_is() {
        assert!(client_id(&"n".repeat(253)).unwrap().len() <= 64 - "-128".len());
        assert_ne!(client_id("a").unwrap(), client_id("a").unwrap());
    }
}
