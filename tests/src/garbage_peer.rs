//! A TLS server that speaks no AMQP: it answers the client's first bytes with whatever a test wants.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::certificates::Certificates;
use crate::wait;

/// The server. It serves until the test process ends; each connection gets the same answer.
#[derive(Debug)]
pub struct GarbagePeer {
    port: u16,
    certificates: Certificates,
    connections: Arc<AtomicUsize>,
}

impl GarbagePeer {
    /// Listens on loopback. A client that has sent something gets `answer`, in TLS; then the connection stays open until
    /// the client ends it.
    pub fn start(answer: Vec<u8>) -> Result<Self> {
        let certificates = Certificates::generate()?;
        let config = certificates.server_config()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for the peer")?;
        let port = listener.local_addr()?.port();
        let connections = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&connections);
        thread::spawn(move || {
            for connection in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::Relaxed);
                let (config, answer) = (Arc::clone(&config), answer.clone());
                // A client that does not like what it gets ends the connection: an error here is no news.
                thread::spawn(move || drop(serve(connection, config, &answer)));
            }
        });
        Ok(Self { port, certificates, connections })
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificate to trust.
    pub fn authority(&self) -> PathBuf {
        self.certificates.authority()
    }

    /// Whether so many connections have been made, waiting for at most `bound`.
    pub fn wait_for_connections(&self, wanted: usize, bound: Duration) -> bool {
        wait::until(bound, || (self.connections.load(Ordering::Relaxed) >= wanted).then_some(())).is_some()
    }
}

fn serve(tcp: TcpStream, config: Arc<ServerConfig>, answer: &[u8]) -> Result<()> {
    tcp.set_read_timeout(Some(Duration::from_mins(1)))?;
    let mut tls = StreamOwned::new(ServerConnection::new(config)?, tcp);
    let mut buffer = [0; 4096];
    if tls.read(&mut buffer)? > 0 {
        tls.write_all(answer)?;
        tls.flush()?;
    }
    while tls.read(&mut buffer)? > 0 {}
    Ok(())
}
