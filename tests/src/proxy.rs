//! A proxy between the sidecar and a peer that can put bytes of its own into what the peer sends.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::broadcast;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::certificates::{self, Certificates};

/// The proxy, on a thread of its own until dropped. It ends TLS on both sides.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    certificates: Certificates,
    injected: broadcast::Sender<Vec<u8>>,
    runtime: Option<Runtime>,
}

impl Proxy {
    /// Listens on loopback, for the peer on port `peer` whose authority this is.
    pub fn start(peer: u16, authority: &Path) -> Result<Self> {
        let certificates = Certificates::generate()?;
        let acceptor = TlsAcceptor::from(certificates.server_config()?);
        let connector = TlsConnector::from(certificates::client_config(authority)?);
        let (injected, _) = broadcast::channel(4);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for the proxy")?;
        let port = listener.local_addr()?.port();
        listener.set_nonblocking(true)?;
        let listener = {
            let _in_runtime = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let to_inject = injected.clone();
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, connector) = (acceptor.clone(), connector.clone());
                let injected = to_inject.subscribe();
                // When either side ends the connection, so does the other: an error here is no news.
                tokio::spawn(async move { drop(forward(client, peer, acceptor, connector, injected).await) });
            }
        });
        Ok(Self { port, certificates, injected, runtime: Some(runtime) })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate to trust.
    pub fn authority(&self) -> PathBuf {
        self.certificates.authority()
    }

    /// Sends `bytes` to every connected client, as if they came from the peer.
    pub fn inject(&self, bytes: &[u8]) -> Result<()> {
        self.injected.send(bytes.to_vec()).context("no client is connected")?;
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn forward(
    client: TcpStream,
    peer: u16,
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    mut injected: broadcast::Receiver<Vec<u8>>,
) -> Result<()> {
    let mut client = acceptor.accept(client).await?;
    let peer = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, peer))).await?;
    let mut peer = connector.connect(ServerName::try_from("localhost")?, peer).await?;
    let (mut from_client, mut from_peer) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut from_client) => match read? {
                0 => return Ok(()),
                read => {
                    peer.write_all(&from_client[..read]).await?;
                    peer.flush().await?;
                }
            },
            read = peer.read(&mut from_peer) => match read? {
                0 => return Ok(()),
                read => {
                    client.write_all(&from_peer[..read]).await?;
                    client.flush().await?;
                }
            },
            bytes = injected.recv() => {
                client.write_all(&bytes?).await?;
                client.flush().await?;
            }
        }
    }
}
