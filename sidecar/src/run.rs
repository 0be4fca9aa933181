//! From a document and a few addresses to a running sidecar.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use sluice_cloud::sign::ClientId;
use sluice_crds::{CaBundle, ConsumerGroup, Settlement};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};
use tracing::info;

use crate::admin::{self, Admin};
use crate::amqp::params::Params;
use crate::clock;
use crate::consumer::{Consumer, Handle};
use crate::credentials::{self, Credentials};
use crate::ledger::{HandBack, LeaseId, Policy};
use crate::link::AmqpConnector;
use crate::metrics::Metrics;
use crate::permit::{Pace, SelfSigned};
use crate::repeat::RepeatPolicy;
use crate::stream::service::ConsumerService;
use crate::tls::{self, Roots};

/// The largest frame that the platform may send, in bytes.
const MAX_FRAME: u32 = 64 * 1024;

/// The largest message that the platform may send, in bytes. Devices can publish 256 KB; what the platform adds is
/// undocumented (`PLATFORM.md 1.8`).
const MAX_MESSAGE: u64 = 1 << 20;

/// How long each step may take until the link stands: what the platform itself allows (`PLATFORM.md 1.1`).
const STEP: Duration = Duration::from_secs(15);

/// Where applications connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket.
    Unix(PathBuf),
    /// TCP on loopback.
    Tcp(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = "expected unix:///PATH or tcp://127.0.0.1:PORT";
        if let Some(path) = text.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(format!("{help}: the path is not absolute"))
            };
        }
        let address = text.strip_prefix("tcp://").ok_or(help)?;
        let address: SocketAddr = address.parse().map_err(|error| format!("{help}: {error}"))?;
        if address.ip().is_loopback() {
            Ok(Self::Tcp(address))
        } else {
            Err(format!("{help}: {address} is not loopback, and messages are served without TLS or authentication"))
        }
    }
}

/// What a sidecar is started with.
#[derive(Debug)]
pub struct Options {
    /// The document.
    pub group: ConsumerGroup,
    /// Where the keys come from.
    pub credentials: Credentials,
    /// Where applications connect.
    pub listen: Listen,
    /// Where the admin address listens.
    pub admin: SocketAddr,
    /// How long what is in hand may still be answered after a signal to stop.
    pub drain: Duration,
}

/// What is printed when the sidecar is ready to be connected to.
#[derive(Debug, Serialize)]
struct Ready {
    grpc: String,
    admin: SocketAddr,
}

/// Runs until `stop` resolves, then drains. A second resolution of `stop` is the caller's to act on.
pub async fn run(options: Options, stop: impl Future<Output = ()>) -> Result<()> {
    let Options { group, credentials, listen, admin, drain } = options;
    // Missing keys are said at once, not at the first connect attempt.
    credentials.current()?;
    let metrics = Metrics::default();
    let (consumer, handle, status) = Consumer::new(
        connector(&group)?,
        permits(&group, credentials)?,
        policy(&group),
        first_lease(),
        metrics.clone(),
    );

    let admin_listener = TcpListener::bind(admin).await.with_context(|| format!("--admin {admin} can't be bound"))?;
    let admin = admin_listener.local_addr()?;
    let router = admin::router(Admin { status, registry: metrics.registry() });
    let admin_task = tokio::spawn(async move { axum::serve(admin_listener, router).await });

    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ConsumerService>().await;
    let router = services(handle)?.add_service(health_service);
    let (grpc, server) = serve(listen, router).await?;
    let mut server = tokio::spawn(server);
    info!(grpc, %admin, group = group.spec.group_id, "listening");
    println!("{}", serde_json::to_string(&Ready { grpc, admin })?);

    let (shutdown, stopped) = watch::channel(None);
    let mut consumer = tokio::spawn(consumer.run(stopped));
    tokio::select! {
        () = stop => {}
        ended = &mut server => ended?.context("the gRPC server failed")?,
        ended = &mut consumer => bail!("the consumer ended by itself: {ended:?}"),
    }
    health.set_not_serving::<ConsumerService>().await;
    shutdown.send_replace(Some(clock::now() + drain));
    consumer.await.context("the consumer failed")?;
    // Streams have had their last word; what is left are connections without one.
    server.abort();
    admin_task.abort();
    Ok(())
}

/// Binds the application's address and returns it with the server on it.
async fn serve(
    listen: Listen,
    router: Router,
) -> Result<(String, impl Future<Output = Result<(), tonic::transport::Error>>)> {
    Ok(match listen {
        Listen::Unix(path) => {
            let listener = bind_unix(&path)?;
            let address = format!("unix://{}", path.display());
            let incoming = UnixListenerStream::new(listener);
            (address, futures_util::future::Either::Left(router.serve_with_incoming(incoming)))
        }
        Listen::Tcp(address) => {
            let listener =
                TcpListener::bind(address).await.with_context(|| format!("--listen tcp://{address} can't be bound"))?;
            let address = format!("tcp://{}", listener.local_addr()?);
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            (address, futures_util::future::Either::Right(router.serve_with_incoming(incoming)))
        }
    })
}

/// A socket that was left behind by a process that is gone is taken over; one that is served is not.
fn bind_unix(path: &Path) -> Result<UnixListener> {
    use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            bail!("--listen unix://{}: another process serves this socket", path.display());
        }
        std::fs::remove_file(path).with_context(|| format!("the old socket {} can't be removed", path.display()))?;
    }
    let listener = UnixListener::bind(path).with_context(|| {
        format!("--listen unix://{} can't be bound; its folder must exist and be writable", path.display())
    })?;
    // The application runs as another user; who may reach the socket is decided by the directory around it.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))
        .with_context(|| format!("the mode of {} can't be set", path.display()))?;
    Ok(listener)
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
        .add_service(ConsumerService::new(handle))
        .add_service(reflection))
}

fn connector(group: &ConsumerGroup) -> Result<AmqpConnector> {
    let instance = &group.spec.instance;
    let roots = match &instance.ca_bundle {
        None => Roots::System,
        Some(CaBundle::File(path)) => Roots::File(path),
        Some(CaBundle::Pem(pem)) => Roots::Pem(pem),
    };
    let name = &group.metadata.name;
    Ok(AmqpConnector {
        host: instance.amqp_host.clone(),
        port: instance.amqp_port,
        tls: tls::client_config(roots)?,
        params: Params {
            container_id: format!("sluice-{name}"),
            host: instance.amqp_host.clone(),
            link_name: format!("sluice-{name}"),
            source_address: instance.source_address.clone(),
            idle_timeout: group.spec.connection.idle_timeout.get(),
            max_frame_size: MAX_FRAME,
            max_message_size: MAX_MESSAGE,
            step_timeout: STEP,
            settle_singly: group.spec.connection.settlement == Settlement::Single,
        },
    })
}

fn permits(group: &ConsumerGroup, credentials: Credentials) -> Result<SelfSigned> {
    Ok(SelfSigned {
        credentials,
        client_id: client_id(&group.metadata.name)?,
        iot_instance_id: group.spec.instance.id.clone(),
        consumer_group_id: group.spec.group_id.clone(),
        sign_method: credentials::sign_method(group.spec.credentials.sign_method),
        pace: Pace::new(group.spec.limits.connect_attempts_per_minute),
    })
}

/// Names this process among the group's clients: two of the same document must not share a name (`PLATFORM.md 1.4`).
fn client_id(name: &str) -> Result<ClientId> {
    let name: String = name.chars().take(48).collect();
    Ok(ClientId::try_new(format!("{name}-{:08x}", rand::random::<u32>()))?)
}

/// Deliveries of a later process have higher numbers than any of an earlier one, as long as there are fewer than one a
/// microsecond: a late verdict of an application must not hit a delivery of another process.
fn first_lease() -> LeaseId {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    LeaseId(u64::try_from(since.as_micros()).unwrap_or(1).max(1))
}

fn policy(group: &ConsumerGroup) -> Policy {
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
    fn only_a_socket_or_loopback_is_served() {
        assert_eq!("unix:///run/s.sock".parse(), Ok(Listen::Unix("/run/s.sock".into())));
        assert_eq!("tcp://127.0.0.1:0".parse(), Ok(Listen::Tcp(([127, 0, 0, 1], 0).into())));
        for bad in
            ["", "unix://relative", "tcp://0.0.0.0:1", "tcp://10.0.0.1:1", "tcp://localhost", "http://127.0.0.1:1"]
        {
            assert!(bad.parse::<Listen>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_abandoned_socket_is_taken_over_and_a_served_one_is_not() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _context = runtime.enter();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let served = bind_unix(&path).unwrap();
        let error = bind_unix(&path).unwrap_err().to_string();
        assert!(error.contains("another process serves"), "{error}");
        drop(served);
    }

    #[test]
    fn a_client_id_fits_the_platform_however_long_the_name_is() {
        assert!(client_id(&"n".repeat(253)).unwrap().as_str().len() <= 64);
        assert_ne!(client_id("a").unwrap(), client_id("a").unwrap());
    }
}
