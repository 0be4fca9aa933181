//! The whole edge, TLS and all, over sockets in memory: so the clock can be made up, and a test of times takes none.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use fe2o3_amqp_types::definitions::Role;
use fe2o3_amqp_types::messaging::{Accepted, DeliveryState};
use fe2o3_amqp_types::performatives::{Flow, Performative};
use fe2o3_amqp_types::sasl::{SaslCode, SaslInit, SaslOutcome};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{RootCertStore, SupportedProtocolVersion};
use serde::Serialize;
use serde_amqp::from_slice;
use serde_amqp::primitives::{Binary, Symbol};
use sluice_cloud::secret::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::client::{attach, begin, disposition, flow, identity, open};
use super::{GROUP, draft};
use crate::accounts::Accounts;
use crate::amqp::frame::{self, Frame, Kind};
use crate::amqp::sasl::{AMQP_HEADER, SASL_HEADER};
use crate::amqp::{Hindrance, Order, Server, converse, encode};
use crate::clock::Clock;
use crate::faults::Target;
use crate::hub::Hub;
use crate::platform::Platform;
use crate::rules::Rules;
use crate::terms::Terms;
use crate::tls::Authority;
use crate::{Config, Limits};

/// Longer than the emulator may take for anything here; on a clock that is made up.
const PATIENCE: Duration = Duration::from_hours(1);
/// What fits into a socket that nobody reads from.
const SOCKET: usize = 64 * 1024;

/// Runs what takes time on the clock, but none in truth.
pub(super) fn at_made_up_times<F: Future>(test: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
}

/// The default group's hub under these terms, with no sockets around it.
pub(super) fn hub(terms: &Arc<Terms>) -> Arc<Hub> {
    let (clock, config) = (Clock::start(), Config::on_free_ports());
    let platform = Platform::new(Arc::clone(terms), [], 1, 1);
    Arc::new(Hub::new(clock, platform, crate::instances(&config, Rules::default(), 0)))
}

/// An emulator's AMQP side.
pub(super) struct Stage {
    server: Arc<Server>,
    ca_pem: String,
}

impl Stage {
    pub(super) fn new(terms: Terms) -> Self {
        let (terms, config) = (Arc::new(terms), Config::on_free_ports());
        let authority = Authority::open(None).unwrap();
        let tls = authority.acceptor(terms.profile.tls_versions, &[]).unwrap();
        let accounts = Accounts::new(&config.account_id, &config.access_keys, &[], Vec::new(), Vec::new());
        let server = Server { tls, accounts: Arc::new(Mutex::new(accounts)), hub: hub(&terms), terms };
        Self { server: Arc::new(server), ca_pem: authority.pem().to_owned() }
    }

    pub(super) fn hub(&self) -> &Arc<Hub> {
        &self.server.hub
    }

    /// Connects with TLS of one of these versions.
    pub(super) async fn dial(&self, versions: &[&'static SupportedProtocolVersion]) -> Result<Guest, String> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca_pem.as_bytes()).unwrap()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let (near, far) = duplex(SOCKET);
        let server = Arc::clone(&self.server);
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let serving = tokio::spawn(async move { converse(far, peer, &server).await });
        let name = ServerName::try_from("localhost").unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, near).await;
        let stream = connected.map_err(|error| format!("no TLS: {error}"))?;
        Ok(Guest { stream, input: BytesMut::new(), serving, since: Instant::now() })
    }

    pub(super) async fn guest(&self) -> Result<Guest, String> {
        self.dial(rustls::DEFAULT_VERSIONS).await
    }

    /// Authenticated and through both headers.
    async fn authenticated(&self) -> Result<Guest, String> {
        let mut guest = self.guest().await?;
        let credentials = identity("c").sign(&SecretString::from("testsecret")).unwrap();
        let outcome = guest.plain(credentials.user_name.expose(), credentials.password.expose()).await?;
        if outcome != Some(SaslCode::Ok) {
            return Err(format!("the outcome is {outcome:?}"));
        }
        guest.write(&AMQP_HEADER).await?;
        guest.header().await?;
        Ok(guest)
    }

    /// The same with an open, a session, and a link with credit that the emulator knows of.
    async fn attached(&self) -> Result<Guest, String> {
        let mut guest = self.authenticated().await?;
        guest.say(&open(60_000)).await?;
        guest.say(&begin(1_000_000)).await?;
        guest.say(&attach(0, Role::Receiver)).await?;
        guest.say(&Flow { echo: true, ..flow(0, 100_000) }).await?;
        for _ in 0..4 {
            guest.performative().await?;
        }
        Ok(guest)
    }
}

/// A client that says what it is told and is never surprised: whatever goes wrong is an `Err`.
pub(super) struct Guest {
    stream: TlsStream<DuplexStream>,
    input: BytesMut,
    serving: JoinHandle<()>,
    since: Instant,
}

impl Guest {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        let written = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        written.await.map_err(|error| error.to_string())
    }

    /// Reads more. `false` at the end of the connection.
    async fn fill(&mut self) -> Result<bool, String> {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
        read.map(|read| read.is_ok_and(|count| count > 0)).map_err(|_| "the emulator says nothing".to_owned())
    }

    async fn header(&mut self) -> Result<[u8; 8], String> {
        while self.input.len() < 8 {
            if !self.fill().await? {
                return Err("the connection ended before a header".to_owned());
            }
        }
        self.input.split_to(8).first_chunk().copied().ok_or_else(|| "no header".to_owned())
    }

    /// The next frame. `None` at the end of the connection.
    async fn frame(&mut self, kind: Kind) -> Result<Option<Frame>, String> {
        loop {
            let frame = frame::next(&mut self.input, kind, 1 << 20).map_err(|error| error.to_string())?;
            if frame.is_some() || !self.fill().await? {
                return Ok(frame);
            }
        }
    }

    /// The outcome of SASL PLAIN; `None` when the connection ends without one.
    pub(super) async fn plain(&mut self, user_name: &str, password: &str) -> Result<Option<SaslCode>, String> {
        self.write(&SASL_HEADER).await?;
        self.header().await?;
        self.frame(Kind::Sasl).await?;
        let response = Binary::from(format!("\0{user_name}\0{password}").into_bytes());
        let init = SaslInit { mechanism: Symbol::from("PLAIN"), initial_response: Some(response), hostname: None };
        let mut out = BytesMut::new();
        encode::put(&mut out, Kind::Sasl, 0, &init).map_err(|error| error.to_string())?;
        self.write(&out).await?;
        let Some(frame) = self.frame(Kind::Sasl).await? else { return Ok(None) };
        let outcome: SaslOutcome = from_slice(&frame.body).map_err(|error| error.to_string())?;
        Ok(Some(outcome.code))
    }

    async fn say(&mut self, body: &impl Serialize) -> Result<(), String> {
        let mut out = BytesMut::new();
        encode::put(&mut out, Kind::Amqp, 0, body).map_err(|error| error.to_string())?;
        self.write(&out).await
    }

    /// The next performative; `None` at the end of the connection.
    async fn performative(&mut self) -> Result<Option<Performative>, String> {
        loop {
            let Some(frame) = self.frame(Kind::Amqp).await? else { return Ok(None) };
            if !frame.body.is_empty() {
                return from_slice(&frame.body).map(Some).map_err(|error| error.to_string());
            }
        }
    }

    /// How long after its beginning the connection ends, whatever is said until then.
    pub(super) async fn ended_after(&mut self) -> Result<Duration, String> {
        while self.fill().await? {}
        Ok(self.since.elapsed())
    }
}

/// Writes `bytes` one by one and over again, with a pause before each, until the connection ends. Says how long that took.
async fn drips(guest: &mut Guest, bytes: &[u8], pause: Duration) -> Duration {
    for byte in bytes.iter().cycle() {
        sleep(pause).await;
        if guest.serving.is_finished() || guest.write(&[*byte]).await.is_err() {
            break;
        }
    }
    guest.since.elapsed()
}

fn is_about(found: Duration, expected: Duration) -> bool {
    (expected..expected + Duration::from_secs(4)).contains(&found)
}

#[test]
fn who_drips_bytes_is_cut_off_at_every_stage() {
    let limits = Limits::default();
    let mut open_frame = BytesMut::new();
    encode::put(&mut open_frame, Kind::Amqp, 0, &open(60_000)).unwrap();
    let second = Duration::from_secs(1);
    at_made_up_times(async {
        let stage = Stage::new(Terms::default());
        let mut guest = stage.guest().await.unwrap();
        let took = drips(&mut guest, &SASL_HEADER, second * 2).await;
        assert!(is_about(took, limits.auth_deadline), "before SASL: {took:?}");
        let mut guest = stage.guest().await.unwrap();
        guest.write(&SASL_HEADER).await.unwrap();
        let took = drips(&mut guest, &[0, 0, 1, 0, 2, 1, 0, 0, 0, 0x53, 0x41], second).await;
        assert!(is_about(took, limits.auth_deadline), "within SASL: {took:?}");
        let mut guest = stage.authenticated().await.unwrap();
        let took = drips(&mut guest, &open_frame, second).await;
        assert!(is_about(took, limits.link_deadline), "before the open: {took:?}");
        let mut guest = stage.attached().await.unwrap();
        // A frame of 60,000 bytes is not whole in time, and what is not whole is no sign of life.
        let took = drips(&mut guest, &[0, 0, 0xea, 0x60, 2, 0, 0, 0], second).await;
        assert!(is_about(took, Duration::from_mins(1)), "with a link: {took:?}");
    });
}

#[test]
fn who_never_reads_is_not_read_from_and_costs_no_more_than_its_bound() {
    at_made_up_times(async {
        let stage = Stage::new(Terms::default());
        let mut guest = stage.attached().await.unwrap();
        let mut echo = BytesMut::new();
        encode::put(&mut echo, Kind::Amqp, 0, &Flow { echo: true, ..flow(0, 10) }).unwrap();
        let echo = echo.repeat(200);
        let flood = async {
            let mut count = 0_u64;
            while guest.stream.write_all(&echo).await.is_ok() && guest.stream.flush().await.is_ok() {
                count += echo.len() as u64;
            }
            count
        };
        // Every write waits for the emulator to read: what is taken is bounded, and its silence ends the connection.
        let taken = timeout(Duration::from_mins(5), flood).await.expect("it is cut off");
        assert!(taken < 4 * 1024 * 1024, "{taken} bytes were taken");
        assert!(taken > 256 * 1024, "{taken} bytes were taken");
        timeout(Duration::from_secs(10), guest.serving).await.expect("it has ended").unwrap();
    });
}

#[test]
fn hindrances_hold_on_a_real_connection() {
    at_made_up_times(async {
        let stage = Stage::new(Terms::default());
        let mut guest = stage.attached().await.unwrap();
        let second = Duration::from_secs(1);
        for (what, least) in [
            (Hindrance::NoWriting, second * 10),
            (Hindrance::NoReading, second * 10),
            (Hindrance::Delay(second * 2), second * 2),
        ] {
            let order = Order::Hinder { what, lasts: second * 10 };
            assert_eq!(stage.hub().order(&Target::default(), &order, |_| true), Ok(1));
            // The emulator learns of it before it reads what comes next.
            sleep(Duration::from_millis(1)).await;
            let asked = Instant::now();
            guest.say(&Flow { echo: true, ..flow(0, 100_000) }).await.unwrap();
            let heard = guest.performative().await.unwrap();
            assert!(matches!(heard, Some(Performative::Flow(_))), "{heard:?}");
            let took = asked.elapsed();
            assert!((least..least + second).contains(&(took + Duration::from_millis(2))), "{what:?}: {took:?}");
            sleep(second * 15).await;
            guest.write(&[0, 0, 0, 8, 2, 0, 0, 0]).await.unwrap();
        }
        stage.hub().publish(GROUP, &[draft(b"x")]).unwrap();
        assert!(matches!(guest.performative().await.unwrap(), Some(Performative::Transfer(_))));
    });
}

#[test]
fn what_came_in_time_is_heard_however_late_the_emulator_looks() {
    at_made_up_times(async {
        let stage = Stage::new(Terms::default());
        let hub = Arc::clone(stage.hub());
        tokio::spawn(async move { hub.run_timer().await });
        for n in 0..20 {
            let mut guest = stage.attached().await.unwrap();
            stage.hub().publish(GROUP, &[draft(b"x")]).unwrap();
            assert!(matches!(guest.performative().await.unwrap(), Some(Performative::Transfer(_))));
            guest.say(&disposition(0, 0, Some(DeliveryState::Accepted(Accepted {})))).await.unwrap();
            // The answer is in the socket, and then nothing runs for longer than the client may be silent.
            tokio::time::advance(Duration::from_secs(61)).await;
            sleep(Duration::from_secs(1)).await;
            let counts = stage.hub().counts(GROUP).unwrap();
            assert_eq!((counts.accepted, counts.expired), (n + 1, 0), "{counts:?}");
            guest.say(&Flow { echo: true, ..flow(1, 1) }).await.unwrap();
            let said = guest.performative().await.unwrap();
            assert!(matches!(said, Some(Performative::Flow(_))), "{said:?}");
            drop(guest);
            sleep(Duration::from_secs(1)).await;
        }
    });
}
