//! Getting through to a broker: name, TCP, TLS and HTTP/2, each step bounded and with an error that says what to check.

use std::fmt;
use std::future::{Future, Ready, ready};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::codegen::Service;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

use crate::drain::chain;
use crate::tls;

/// How long each step may take.
const STEP: Duration = Duration::from_secs(5);

/// A connection on which nothing has come for so long is asked whether it lives, and given up if it does not say so for as
/// long again.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Where a broker's replicas are: a name that resolves to all of them, and their port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// The name, which their certificates must carry.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for Broker {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let help = "expected HOST:PORT";
        let (host, port) = text.rsplit_once(':').ok_or(help)?;
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let port: u16 =
            port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("{help}: no port {port:?}"))?;
        ServerName::try_from(host.to_owned()).map_err(|_| format!("{help}: {host:?} is no host name"))?;
        Ok(Self { host: host.to_owned(), port })
    }
}

impl fmt::Display for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// One replica, and what its certificate must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The name it was found by.
    pub broker: Broker,
    /// Its address.
    pub address: SocketAddr,
}

impl fmt::Display for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.broker.host == self.address.ip().to_string() {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{} ({})", self.broker, self.address)
        }
    }
}

/// Why a broker could not be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The authorities' file is of no use.
    #[error("--broker-ca {path} can't be used: {reason}; it must hold the Sluice CA's certificates in PEM")]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A name has no address.
    #[error("the broker {broker} could not be resolved: {reason}; check --broker and the cluster's DNS")]
    Resolve {
        /// What was looked up.
        broker: Broker,
        /// What the resolver said.
        reason: String,
    },
    /// No connection.
    #[error("no connection to the broker {replica}: {reason}")]
    Connect {
        /// Which one.
        replica: String,
        /// What the system says.
        reason: String,
    },
    /// It is not who it should be, or speaks something else.
    #[error("TLS with the broker {replica} failed: {reason}; check that --broker-ca is the Sluice CA")]
    Tls {
        /// Which one.
        replica: String,
        /// What is wrong.
        reason: String,
    },
}

/// Finds replicas and opens connections to them; tests bring their own.
pub trait Dial: Send + Sync + 'static {
    /// A connection, before TLS.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// All replicas that can be found, or why there is none.
    fn resolve(&self) -> impl Future<Output = Result<Vec<Replica>, DialError>> + Send;

    /// Opens a connection to one of them.
    fn connect(&self, replica: &Replica) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Whom to trust: read anew for every connection.
    fn tls(&self) -> Result<Arc<ClientConfig>, DialError>;
}

/// Opens a channel to a replica.
pub async fn open<D: Dial>(dial: &D, replica: &Replica) -> Result<Channel, DialError> {
    let name = replica.to_string();
    let no_connection = |reason: String| DialError::Connect { replica: name.clone(), reason };
    let late = || format!("no answer within {STEP:?}");
    let config = dial.tls()?;
    let tcp = timeout(STEP, dial.connect(replica)).await.map_err(|_| no_connection(late()))?;
    let tcp = tcp.map_err(|error| no_connection(error.to_string()))?;
    let no_tls = |reason: String| DialError::Tls { replica: name.clone(), reason };
    let host = ServerName::try_from(replica.broker.host.clone()).map_err(|error| no_tls(error.to_string()))?;
    let tls = timeout(STEP, TlsConnector::from(config).connect(host, tcp)).await.map_err(|_| no_tls(late()))?;
    let tls = tls.map_err(|error| no_tls(error.to_string()))?;
    let endpoint = Endpoint::from_shared(format!("http://{}", replica.broker))
        .and_then(|endpoint| endpoint.user_agent(concat!("sluice-sidecar/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| no_connection(chain(&error)))?
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true);
    let connected = timeout(STEP, endpoint.connect_with_connector(Given(Some(TokioIo::new(tls))))).await;
    connected.map_err(|_| no_connection(late()))?.map_err(|error| no_connection(chain(&error)))
}

/// A connection that stands already, for a library that wants to open it. It is given once.
struct Given<S>(Option<S>);

impl<S> Service<Uri> for Given<S> {
    type Response = S;
    type Error = io::Error;
    type Future = Ready<io::Result<S>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}

/// The real thing.
#[derive(Debug)]
pub struct TcpDial {
    brokers: Vec<Broker>,
    authority: PathBuf,
}

impl TcpDial {
    /// To these brokers, vouched for by the authorities in this file.
    pub fn new(brokers: Vec<Broker>, authority: PathBuf) -> Result<Self, DialError> {
        let dial = Self { brokers, authority };
        // A file that is missing is said at once.
        dial.tls()?;
        Ok(dial)
    }
}

impl Dial for TcpDial {
    type Stream = TcpStream;

    async fn resolve(&self) -> Result<Vec<Replica>, DialError> {
        let mut replicas = Vec::new();
        let mut failed = None;
        for broker in &self.brokers {
            let fail = |reason| Some(DialError::Resolve { broker: broker.clone(), reason });
            match timeout(STEP, tokio::net::lookup_host((broker.host.as_str(), broker.port))).await {
                Ok(Ok(found)) => {
                    let before = replicas.len();
                    replicas.extend(found.map(|address| Replica { broker: broker.clone(), address }));
                    if replicas.len() == before {
                        failed = fail("the name has no address".to_owned());
                    }
                }
                Ok(Err(error)) => failed = fail(error.to_string()),
                Err(_) => failed = fail(format!("no answer within {STEP:?}")),
            }
        }
        match failed {
            Some(error) if replicas.is_empty() => Err(error),
            _ => Ok(replicas),
        }
    }

    async fn connect(&self, replica: &Replica) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(replica.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, DialError> {
        let refuse = |reason: String| DialError::Authority { path: self.authority.clone(), reason };
        let pem = std::fs::read(&self.authority).map_err(|error| refuse(error.to_string()))?;
        client_config(&pem).map_err(refuse)
    }
}

/// TLS that trusts the authorities in a PEM text and speaks HTTP/2.
pub fn client_config(pem: &[u8]) -> Result<Arc<ClientConfig>, String> {
    let mut config = tls::trusting(tls::roots_of(pem)?).map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_host_and_port() {
        let broker = |host: &str, port| Ok(Broker { host: host.to_owned(), port });
        assert_eq!("sluice-broker.sluice.svc:8443".parse(), broker("sluice-broker.sluice.svc", 8443));
        assert_eq!("127.0.0.1:1".parse(), broker("127.0.0.1", 1));
        assert_eq!("[::1]:1".parse(), broker("::1", 1));
        for bad in ["", "host", "host:", "host:0", "host:70000", ":1", "a b:1"] {
            assert!(bad.parse::<Broker>().is_err(), "{bad}");
        }
    }

    #[test]
    fn an_authority_that_is_none_is_said_at_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = TcpDial::new(Vec::new(), file.path().to_owned()).unwrap_err().to_string();
        assert!(error.contains("--broker-ca") && error.contains("no certificate"), "{error}");
    }
}
