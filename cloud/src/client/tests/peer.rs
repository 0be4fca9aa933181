//! A server that speaks TLS, reads requests, and answers what a test tells it to, byte for byte.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::endpoint::Endpoint;

/// What the peer does with a request.
#[derive(Clone)]
pub(super) enum Reply {
    /// Sends this, and waits for more requests.
    Text(String),
    /// Sends this, and closes.
    Last(String),
    /// Closes.
    Close,
    /// Says nothing.
    Silent,
    /// Does not even answer the TLS handshake.
    SilentInTls,
}

impl Reply {
    pub(super) fn json(status: u16, body: &str) -> Self {
        Self::Text(format!(
            "HTTP/1.1 {status} Status\r\nDate: Fri, 20 Nov 2026 12:00:00 GMT\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    pub(super) fn then_close(self) -> Self {
        match self {
            Self::Text(text) => Self::Last(text),
            other => other,
        }
    }
}

/// The peer, until it is dropped.
pub(super) struct Peer {
    pub(super) endpoint: Endpoint,
    /// The certificate that vouches for it, in PEM.
    pub(super) ca: String,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    requests: Mutex<Vec<String>>,
    connections: AtomicUsize,
}

impl Peer {
    /// Starts one that answers its nth request with `reply(n)`.
    pub(super) async fn start(reply: impl Fn(usize) -> Reply + Send + Sync + 'static) -> Self {
        let rcgen::CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let endpoint = Endpoint::parse(&listener.local_addr().unwrap().to_string(), 443).unwrap();
        let seen = Arc::new(Seen::default());
        let mut tasks = JoinSet::new();
        let (acceptor, reply, shared) = (TlsAcceptor::from(Arc::new(config)), Arc::new(reply), Arc::clone(&seen));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, reply, seen) = (acceptor.clone(), Arc::clone(&reply), Arc::clone(&shared));
                seen.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(async move { converse(stream, acceptor, &*reply, &seen).await });
            }
        });
        Self { endpoint, ca: cert.pem(), seen, _tasks: tasks }
    }

    /// The requests so far, head and body.
    pub(super) fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }

    pub(super) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

async fn converse(stream: TcpStream, acceptor: TlsAcceptor, reply: &(impl Fn(usize) -> Reply + Sync), seen: &Seen) {
    if matches!(reply(0), Reply::SilentInTls) {
        let _stream = stream;
        return std::future::pending().await;
    }
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut buffer = Vec::new();
    loop {
        let Some(request) = take_request(&mut buffer) else {
            let mut more = [0; 4096];
            match stream.read(&mut more).await {
                Ok(read) if read > 0 => buffer.extend_from_slice(&more[..read]),
                _ => return,
            }
            continue;
        };
        let number = {
            let mut requests = seen.requests.lock().unwrap();
            requests.push(request);
            requests.len() - 1
        };
        let (text, close) = match reply(number) {
            Reply::Text(text) => (text, false),
            Reply::Last(text) => (text, true),
            Reply::Close => (String::new(), true),
            Reply::Silent | Reply::SilentInTls => (String::new(), false),
        };
        if stream.write_all(text.as_bytes()).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if close {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// Takes a whole request out of the buffer, if there is one.
fn take_request(buffer: &mut Vec<u8>) -> Option<String> {
    let text = String::from_utf8(buffer.clone()).ok()?;
    let (head, _) = text.split_once("\r\n\r\n")?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let whole = head.len() + 4 + length.unwrap_or(0);
    let request = text.get(..whole)?.to_owned();
    buffer.drain(..whole);
    Some(request)
}
