//! A client that sends whatever bytes a test wants, in TLS or without, and hears what comes back.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use fe2o3_amqp_types::sasl::SaslInit;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde::Serialize;
use serde_amqp::primitives::{Binary, Symbol};
use sluice_cloud::sign::SaslCredentials;
use sluice_sidecar::amqp::frame;

use crate::certificates;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How to make such clients for one platform.
#[derive(Debug, Clone)]
pub struct Dialer {
    port: u16,
    tls: Arc<ClientConfig>,
}

/// A TLS connection.
#[derive(Debug)]
pub struct RawClient(StreamOwned<ClientConnection, TcpStream>);

impl Dialer {
    /// For the port on 127.0.0.1, trusting the authority in a PEM file.
    pub fn new(port: u16, authority: &Path) -> Result<Self> {
        Ok(Self { port, tls: certificates::client_config(authority)? })
    }

    /// A connection without TLS.
    pub fn tcp(&self) -> Result<TcpStream> {
        let tcp = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).context("cannot connect")?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        Ok(tcp)
    }

    /// A connection with TLS, nothing sent in it.
    pub fn tls(&self) -> Result<RawClient> {
        let tls = ClientConnection::new(Arc::clone(&self.tls), ServerName::try_from("localhost")?)?;
        Ok(RawClient(StreamOwned::new(tls, self.tcp()?)))
    }

    /// A connection that has been let in by SASL PLAIN.
    pub fn authenticated(&self, credentials: &SaslCredentials) -> Result<RawClient> {
        let mut client = self.tls()?;
        let response = format!("\0{}\0{}", credentials.user_name.expose(), credentials.password.expose());
        let init = SaslInit {
            mechanism: Symbol::from("PLAIN"),
            initial_response: Some(Binary::from(response.into_bytes())),
            hostname: None,
        };
        let init = serde_amqp::to_vec(&init)?;
        let mut bytes = frame::SASL_HEADER.to_vec();
        frame::write_sasl(&mut bytes, |out| out.extend_from_slice(&init));
        client.send(&bytes)?;
        // Of the outcome (0x44) the code matters, whatever width it comes in: 0 lets in, and 1 to 4 do not.
        client.hear_until(&[0x00, 0x53, 0x44])?;
        client.send(&frame::AMQP_HEADER)?;
        client.hear_until(&frame::AMQP_HEADER).context("not let in")?;
        Ok(client)
    }
}

impl RawClient {
    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes)?;
        Ok(self.0.flush()?)
    }

    /// What comes up to and with these bytes; an error if the connection ends before.
    pub fn hear_until(&mut self, wanted: &[u8]) -> Result<Vec<u8>> {
        let mut heard = Vec::new();
        while !heard.windows(wanted.len()).any(|window| window == wanted) {
            if !self.hear(&mut heard)? {
                bail!("the connection ended before {:?}, after {:?}", wanted.escape_ascii(), heard.escape_ascii());
            }
        }
        Ok(heard)
    }

    /// Everything that comes until the peer ends the connection.
    pub fn hear_out(&mut self) -> Result<Vec<u8>> {
        let mut heard = Vec::new();
        while self.hear(&mut heard)? {}
        Ok(heard)
    }

    /// Some more, or `false` at the end of the connection, orderly or not.
    fn hear(&mut self, heard: &mut Vec<u8>) -> Result<bool> {
        let mut buffer = [0; 4096];
        match self.0.read(&mut buffer) {
            Ok(0) => Ok(false),
            Ok(read) => {
                heard.extend_from_slice(&buffer[..read]);
                Ok(true)
            }
            Err(error) if is_end(&error) => Ok(false),
            Err(error) => Err(error).context("the peer neither answers nor ends the connection"),
        }
    }
}

/// Waits until the peer ends a connection without TLS.
pub fn ended(mut tcp: &TcpStream) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        match tcp.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if is_end(&error) => return Ok(()),
            Err(error) => return Err(error).context("the peer does not end the connection"),
        }
    }
}

/// The body of a performative as a frame on channel 0.
pub fn frame_of(performative: &impl Serialize) -> Result<Vec<u8>> {
    Ok(framed(&serde_amqp::to_vec(performative)?))
}

/// A frame on channel 0 with this body.
pub fn framed(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(&mut out, 0, |out| out.extend_from_slice(body));
    out
}

fn is_end(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}
