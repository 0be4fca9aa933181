//! A broker that says what a test says.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, ServerConfig};
use sluice_proto::control::v1::control_server::{Control, ControlServer};
use sluice_proto::control::v1::{
    BrokerMessage, Figures, Hello, PermitRequest, Ping, Policy, Report, SidecarMessage, Welcome, broker_message,
    sidecar_message,
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};

use super::report_of;
use crate::control::dial::{self, Dial, DialError, Replica};

const HOST: &str = "broker.sluice.svc";

/// How long anything may take in a test, in stopped time.
const BOUND: Duration = Duration::from_secs(600);

/// An authority, as PEM with the certificate and the key of a broker that it vouches for.
pub(super) struct Authority {
    pem: String,
    server: Arc<ServerConfig>,
}

/// A new authority.
pub(super) fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec![HOST.to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut server = builder.with_no_client_auth().with_single_cert(vec![leaf.der().clone()], key).unwrap();
    server.alpn_protocols = vec![b"h2".to_vec()];
    Authority { pem: issuer.pem(), server: Arc::new(server) }
}

/// The broker: streams come out of [`Broker::accept`], each with its `Hello`.
pub(super) struct Broker {
    streams: mpsc::UnboundedReceiver<Arrival>,
    connections: mpsc::UnboundedSender<DuplexStream>,
    trusted: Arc<Mutex<String>>,
    refusing: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

struct Arrival {
    authorization: String,
    inbound: Streaming<SidecarMessage>,
    out: mpsc::Sender<Result<BrokerMessage, Status>>,
}

struct Service {
    streams: mpsc::UnboundedSender<Arrival>,
    accepted: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Control for Service {
    type ConnectStream = ReceiverStream<Result<BrokerMessage, Status>>;

    async fn connect(
        &self,
        request: Request<Streaming<SidecarMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        self.accepted.fetch_add(1, Ordering::Relaxed);
        let authorization = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        let (out, outgoing) = mpsc::channel(64);
        let inbound = request.into_inner();
        let arrival = Arrival { authorization: authorization.unwrap_or_default(), inbound, out };
        self.streams.send(arrival).map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Response::new(ReceiverStream::new(outgoing)))
    }
}

impl Broker {
    pub(super) fn start() -> Self {
        let authority = authority();
        let (connections, mut incoming) = mpsc::unbounded_channel::<DuplexStream>();
        let (secured, ready) = mpsc::unbounded_channel::<io::Result<Connection>>();
        let acceptor = TlsAcceptor::from(authority.server);
        tokio::spawn(async move {
            while let Some(raw) = incoming.recv().await {
                let (acceptor, secured) = (acceptor.clone(), secured.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(raw).await {
                        let _ = secured.send(Ok(Connection(stream)));
                    }
                });
            }
        });
        let (arrivals, streams) = mpsc::unbounded_channel();
        let accepted = Arc::new(AtomicUsize::new(0));
        let service = ControlServer::new(Service { streams: arrivals, accepted: Arc::clone(&accepted) });
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(UnboundedReceiverStream::new(ready)));
        let trusted = Arc::new(Mutex::new(authority.pem));
        Self { streams, connections, trusted, refusing: Arc::default(), accepted }
    }

    /// The sidecar's way to it.
    pub(super) fn dial(&self) -> DuplexDial {
        DuplexDial {
            connections: self.connections.clone(),
            trusted: Arc::clone(&self.trusted),
            refusing: Arc::clone(&self.refusing),
        }
    }

    /// Has sidecars trust another authority.
    pub(super) fn trust(&self, authority: &Authority) {
        self.trusted.lock().unwrap().clone_from(&authority.pem);
    }

    /// Takes no connections, or takes them again.
    pub(super) fn refuse(&self, refuse: bool) {
        self.refusing.store(refuse, Ordering::Relaxed);
    }

    /// How many streams have been opened.
    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// The next stream and its `Hello`.
    pub(super) async fn accept(&mut self) -> (Conversation, Hello) {
        let arrival = timeout(BOUND, self.streams.recv()).await.expect("a stream is opened").unwrap();
        let Arrival { authorization, inbound, out } = arrival;
        let mut talk = Conversation { authorization, inbound, out, hushed: Arc::default() };
        match talk.hear().await {
            sidecar_message::Message::Hello(hello) => (talk, hello),
            other => panic!("the first message is {other:?}"),
        }
    }

    /// The next stream, welcomed and told the policy.
    pub(super) async fn welcome(&mut self, policy: Policy) -> Conversation {
        let (mut talk, _) = self.accept().await;
        talk.welcome().await;
        talk.say(broker_message::Message::Policy(policy)).await;
        talk
    }
}

/// A stream, from the broker's side.
pub(super) struct Conversation {
    pub(super) authorization: String,
    inbound: Streaming<SidecarMessage>,
    out: mpsc::Sender<Result<BrokerMessage, Status>>,
    hushed: Arc<AtomicBool>,
}

impl Conversation {
    /// Welcomes the sidecar, and pings from now on.
    pub(super) async fn welcome(&mut self) {
        let welcome = Welcome { protocol: 1, version: "9.9.9".to_owned(), report_interval_ms: 5_000 };
        self.say(broker_message::Message::Welcome(welcome)).await;
        let (out, hushed) = (self.out.clone(), Arc::clone(&self.hushed));
        tokio::spawn(async move {
            let mut number = 0;
            while !hushed.load(Ordering::Relaxed) && !out.is_closed() {
                number += 1;
                let ping = broker_message::Message::Ping(Ping { number });
                let _ = out.send(Ok(BrokerMessage { message: Some(ping) })).await;
                sleep(Duration::from_secs(5)).await;
            }
        });
    }

    /// Says nothing more by itself.
    pub(super) fn hush(&self) {
        self.hushed.store(true, Ordering::Relaxed);
    }

    pub(super) async fn say(&self, message: broker_message::Message) {
        // A sidecar that has ended hears nothing.
        let _ = self.out.send(Ok(BrokerMessage { message: Some(message) })).await;
    }

    /// Says something that nobody understands.
    pub(super) async fn say_nothing(&self) {
        self.out.send(Ok(BrokerMessage { message: None })).await.unwrap();
    }

    /// Ends the stream, unless it has ended.
    pub(super) fn end(&self, status: Status) {
        self.hush();
        let _ = self.out.try_send(Err(status));
    }

    async fn hear(&mut self) -> sidecar_message::Message {
        let message = timeout(BOUND, self.inbound.message()).await.expect("the sidecar says something");
        message.unwrap().expect("the stream goes on").message.unwrap()
    }

    /// The next report for which this is true.
    pub(super) async fn until(&mut self, what: impl Fn(&Report) -> bool) -> Report {
        loop {
            if let Some(report) = report_of(self.hear().await).filter(&what) {
                return report;
            }
        }
    }

    /// The next figures.
    pub(super) async fn figures(&mut self) -> Figures {
        self.until(|report| report.figures.is_some()).await.figures.unwrap()
    }

    /// The next request for a permit.
    pub(super) async fn permit_request(&mut self) -> PermitRequest {
        loop {
            if let sidecar_message::Message::PermitRequest(request) = self.hear().await {
                return request;
            }
        }
    }
}

/// The way to a broker in the same process.
pub(super) struct DuplexDial {
    connections: mpsc::UnboundedSender<DuplexStream>,
    trusted: Arc<Mutex<String>>,
    refusing: Arc<AtomicBool>,
}

impl Dial for DuplexDial {
    type Stream = DuplexStream;

    async fn resolve(&self) -> Result<Vec<Replica>, DialError> {
        let broker = dial::Broker { host: HOST.to_owned(), port: 8443 };
        let replica = |n| Replica { broker: broker.clone(), address: SocketAddr::from(([10, 0, 0, n], 8443)) };
        Ok((1..=3).map(replica).collect())
    }

    async fn connect(&self, _: &Replica) -> io::Result<DuplexStream> {
        if self.refusing.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let (near, far) = duplex(64 * 1024);
        self.connections.send(far).map_err(|_| io::ErrorKind::ConnectionRefused)?;
        Ok(near)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, DialError> {
        Ok(dial::client_config(self.trusted.lock().unwrap().as_bytes()).unwrap())
    }
}

/// A connection, as the server's library wants it.
struct Connection(TlsStream<DuplexStream>);

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
