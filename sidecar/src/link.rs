//! The AMQP source: the engine of [`crate::amqp`] on a TLS stream.
//!
//! One task drives it by polling [`Source::receive`]. Reading never waits for writing: a peer that stops reading can't keep
//! us from hearing it.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use sluice_cloud::sign::SaslCredentials;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep_until, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::amqp::engine::{Engine, Incoming};
use crate::amqp::fault::{Fault, Renew, Wait, is_end_by_peer};
use crate::amqp::hot::Outcome;
use crate::amqp::params::Params;
use crate::clock;
use crate::ledger::LinkEpoch;
use crate::source::{Connect, ConnectError, Mark, Source};

/// Deliveries that one call of [`Source::receive`] returns at most, beyond those of the last read.
const BATCH: usize = 256;

/// Bytes read at a time beside the largest frame: one TLS record brings 16 KiB.
const READ_AHEAD: usize = 64 * 1024;

/// How to open links to one platform.
#[derive(Debug, Clone)]
pub struct AmqpConnector {
    /// Host name, for DNS and for the certificate.
    pub host: String,
    /// Port, 5671 on the platform (`PLATFORM.md 1.2`).
    pub port: u16,
    /// Whom to trust.
    pub tls: Arc<ClientConfig>,
    /// What the connection is to be.
    pub params: Params,
}

impl Connect for AmqpConnector {
    type Source = AmqpSource<TlsStream<TcpStream>>;
    type Target = Vec<SocketAddr>;

    async fn locate(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let limit = self.params.step_timeout;
        timeout(limit, self.resolve()).await.map_err(|_| self.late("the look-up of its name"))?
    }

    async fn connect_to(
        &self,
        found: Vec<SocketAddr>,
        epoch: LinkEpoch,
        credentials: SaslCredentials,
        until: Option<Instant>,
    ) -> Result<Self::Source, ConnectError> {
        let limit = self.params.step_timeout;
        let address = self.address();
        let mut step = "the TCP handshake";
        // The platform can count an attempt only once it has read whose it is: the user name names the group.
        let introduction = async {
            let tcp = self.tcp(&address, &found, until).await?;
            step = "the TLS handshake";
            let tls = timeout(limit, self.tls(tcp, &address)).await.map_err(|_| self.late(step))??;
            step = "the exchange of SASL mechanisms";
            let mut source = AmqpSource::new(tls, Engine::new(self.params.clone(), credentials, clock::now()), epoch);
            source.until = until;
            let introduced = source.introduced().await;
            Ok::<_, ConnectError>((source, introduced))
        };
        let introduced = match until {
            // What is dropped here says nothing more, not even goodbye.
            Some(until) => timeout_at(until.into(), introduction).await,
            None => Ok(introduction.await),
        };
        let (mut source, introduced) =
            introduced.map_err(|_| ConnectError::Lapsed { address: address.clone(), step })??;
        // There is nothing to take leave of yet, and what is still unsaid may not come late.
        introduced?;
        match source.attached().await {
            Ok(()) => Ok(source),
            Err(fault) => {
                source.say_goodbye().await;
                Err(fault.into())
            }
        }
    }
}

impl AmqpConnector {
    fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn late(&self, step: &'static str) -> ConnectError {
        ConnectError::Timeout { address: self.address(), step, seconds: self.params.step_timeout.as_secs() }
    }

    async fn resolve(&self) -> Result<Vec<SocketAddr>, ConnectError> {
        let failed = |reason: String| ConnectError::Resolve { host: self.host.clone(), reason };
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found: Vec<SocketAddr> = found.map_err(|error| failed(error.to_string()))?.collect();
        if found.is_empty() { Err(failed("the name has no address".into())) } else { Ok(found) }
    }

    /// Tries one address after the other. They share the time, so that a dead one does not hide those behind it.
    async fn tcp(
        &self,
        address: &str,
        candidates: &[SocketAddr],
        until: Option<Instant>,
    ) -> Result<TcpStream, ConnectError> {
        let step = self.params.step_timeout;
        let limit = until.map_or(step, |until| step.min(until.saturating_duration_since(clock::now())));
        let share = limit / u32::try_from(candidates.len()).unwrap_or(1).max(1);
        let mut reasons = Vec::new();
        for candidate in candidates {
            let attempt = TcpStream::connect(candidate);
            match timeout(share, attempt).await {
                Ok(Ok(stream)) => match stream.set_nodelay(true) {
                    Ok(()) => return Ok(stream),
                    Err(error) => reasons.push(format!("{candidate}: {error}")),
                },
                Ok(Err(error)) => reasons.push(format!("{candidate}: {error}")),
                Err(_) => reasons.push(format!("{candidate}: no answer within {share:?}")),
            }
        }
        Err(ConnectError::Tcp { address: address.to_owned(), reason: reasons.join(", ") })
    }

    async fn tls(&self, tcp: TcpStream, address: &str) -> Result<TlsStream<TcpStream>, ConnectError> {
        let failed = |reason: String| ConnectError::Tls { address: address.to_owned(), reason };
        let name = ServerName::try_from(self.host.clone()).map_err(|error| failed(error.to_string()))?;
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(name, tcp).await.map_err(|error| failed(error.to_string()))
    }
}

/// An engine on a stream of bytes.
#[derive(Debug)]
pub struct AmqpSource<S> {
    stream: S,
    engine: Engine,
    epoch: LinkEpoch,
    /// Read but not used yet: `buffer[used..filled]`.
    buffer: Box<[u8]>,
    used: usize,
    filled: usize,
    /// Bytes given to the stream, of them flushed, and of them reported, since the link began.
    written: u64,
    flushed: u64,
    reported: u64,
    /// How the stream ended.
    lost: Option<io::ErrorKind>,
    /// From then on nothing is said or heard; none once user name and password are written.
    until: Option<Instant>,
    timer: Pin<Box<Sleep>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> AmqpSource<S> {
    /// Puts an engine that has not spoken yet on a stream.
    pub fn new(stream: S, engine: Engine, epoch: LinkEpoch) -> Self {
        let timer = Box::pin(sleep_until(engine.next_deadline().into()));
        let buffer = vec![0; engine.max_frame_size() as usize + READ_AHEAD].into_boxed_slice();
        Self {
            stream,
            engine,
            epoch,
            buffer,
            used: 0,
            filled: 0,
            written: 0,
            flushed: 0,
            reported: 0,
            lost: None,
            until: None,
            timer,
        }
    }

    /// Waits until user name and password are written. Ends neither well nor ill once `until` has come: whoever sets that
    /// waits for it too.
    async fn introduced(&mut self) -> Result<(), Fault> {
        let unwritten = |source: &Self| !source.engine.output().is_empty() || source.flushed < source.written;
        while self.engine.waits_for() == Some(Wait::Sasl) || unwritten(self) {
            self.step().await?;
        }
        self.until = None;
        Ok(())
    }

    /// Waits until the link stands; the engine bounds every step.
    async fn attached(&mut self) -> Result<(), Fault> {
        while !self.engine.is_attached() {
            self.step().await?;
        }
        Ok(())
    }

    /// One round on the way to a link. A peer that cuts the connection says nothing, so the error says what it owed.
    async fn step(&mut self) -> Result<(), Fault> {
        let owed = self.engine.waits_for();
        self.turn(&mut Vec::new()).await.map_err(|fault| match (fault, owed) {
            (Fault::Lost { kind, reason }, Some(owed)) => {
                Fault::Lost { kind, reason: format!("{reason}, where the peer owed {owed}") }
            }
            (fault, _) => fault,
        })
    }

    /// One round of writing and reading.
    async fn turn(&mut self, deliveries: &mut Vec<Incoming>) -> Result<(), Fault> {
        poll_fn(|cx| self.poll_turn(cx, deliveries)).await
    }

    /// Writes what there is, then reads what there is. Ready when something has come or has gone.
    fn poll_turn(&mut self, cx: &mut Context<'_>, deliveries: &mut Vec<Incoming>) -> Poll<Result<(), Fault>> {
        let now = clock::now();
        // A process that stood still may find the peer's answer and the end of its time together.
        if self.until.is_some_and(|until| until <= now) {
            return Poll::Pending;
        }
        if let Poll::Ready(Err(error)) = self.poll_write(cx, now) {
            return Poll::Ready(Err(self.lost(&error)));
        }
        let mut progress = self.flushed > self.reported;
        let enough = deliveries.len() + BATCH;
        while deliveries.len() < enough {
            match self.poll_read(cx) {
                Poll::Pending => break,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(self.lost(&error))),
                Poll::Ready(Ok(())) => {
                    let fresh = &self.buffer[self.used..self.filled];
                    self.used += self.engine.input(now, fresh, deliveries)?;
                    progress = true;
                }
            }
        }
        // What came, or the time, may call for an answer. A peer is silent only if there was nothing to read.
        self.engine.tick(now)?;
        if let Poll::Ready(Err(error)) = self.poll_write(cx, now) {
            return Poll::Ready(Err(self.lost(&error)));
        }
        progress |= self.flushed > self.reported;
        if progress {
            self.reported = self.flushed;
            return Poll::Ready(Ok(()));
        }
        self.poll_timer(cx);
        Poll::Pending
    }

    fn lost(&mut self, error: &io::Error) -> Fault {
        self.lost = Some(error.kind());
        Fault::Lost { kind: error.kind(), reason: error.to_string() }
    }

    /// Has the task woken for the engine's next deadline.
    fn poll_timer(&mut self, cx: &mut Context<'_>) {
        let deadline = self.engine.next_deadline().into();
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        if self.timer.as_mut().poll(cx).is_ready() {
            cx.waker().wake_by_ref();
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, now: Instant) -> Poll<io::Result<()>> {
        while !self.engine.output().is_empty() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, self.engine.output()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.engine.wrote(now, n);
            self.written += n as u64;
        }
        if self.flushed < self.written {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.flushed = self.written;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.used > 0 {
            self.buffer.copy_within(self.used..self.filled, 0);
            self.filled -= self.used;
            self.used = 0;
        }
        let mut space = ReadBuf::new(&mut self.buffer[self.filled..]);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut space))?;
        match space.filled().len() {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            n => {
                self.filled += n;
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Source for AmqpSource<S> {
    async fn receive(&mut self, deliveries: &mut Vec<Incoming>) -> Result<Mark, Fault> {
        match self.turn(deliveries).await {
            Ok(()) => Ok(Mark(self.flushed)),
            // The first fault explains the others: a peer that says why it closes cuts the connection right after.
            Err(fault) => Err(self.engine.fault().cloned().unwrap_or(fault)),
        }
    }

    fn settle(&mut self, epoch: LinkEpoch, first: u32, last: u32, outcome: Outcome) -> Result<Mark, Fault> {
        if epoch != self.epoch {
            return Err(Fault::StaleEpoch { delivery_id: first, epoch: epoch.0, outcome });
        }
        self.engine.settle(first, last, outcome);
        Ok(Mark(self.written + self.engine.output().len() as u64))
    }

    fn grant(&mut self, credit: u32) {
        self.engine.grant(credit);
    }

    fn outstanding_credit(&self) -> u32 {
        self.engine.outstanding_credit()
    }

    async fn close(mut self) -> bool {
        self.engine.close(clock::now());
        let mut late = Vec::new();
        while !self.engine.is_closed() {
            if self.turn(&mut late).await.is_err() {
                break;
            }
        }
        let agreed = self.engine.is_closed() && self.engine.fault().is_none();
        let ended = matches!(self.engine.fault(), Some(Fault::Ended { level: Renew::Connection, .. }));
        self.say_goodbye().await;
        agreed || ended || self.ended_by_peer().await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> AmqpSource<S> {
    /// Waits for the peer's end of the stream; false if it is our side that has lost it.
    async fn ended_by_peer(&mut self) -> bool {
        while self.lost.is_none() {
            match self.stream.read(&mut self.buffer).await {
                Ok(0) => self.lost = Some(io::ErrorKind::UnexpectedEof),
                Ok(_) => {}
                Err(error) => self.lost = Some(error.kind()),
            }
        }
        self.lost.is_some_and(is_end_by_peer)
    }

    /// Writes the engine's last words and ends the stream, for as long as a goodbye is worth.
    async fn say_goodbye(&mut self) {
        let farewell = async {
            poll_fn(|cx| self.poll_write(cx, clock::now())).await?;
            poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await
        };
        // Whether it arrives changes nothing: the link is over either way.
        let _: Result<io::Result<()>, _> = timeout(Duration::from_secs(1), farewell).await;
    }
}

#[cfg(test)]
mod tests;
