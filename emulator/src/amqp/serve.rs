//! The task around one connection: TLS, SASL, then the loop that carries bytes between the socket and the state machine.
//! It reads whenever there is something to read, also while it can't write, and writes everything that is ready in one go.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use fe2o3_amqp_types::sasl::SaslCode;
use sluice_cloud::sign::ConnectIdentity;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument as _, debug, info, info_span, warn};

use super::admission::{self, Denied};
use super::connection::{Connection, Seat};
use super::frame::{self, Kind};
use super::sasl::{self, Plain, SaslError};
use crate::accounts::Accounts;
use crate::clock::Micros;
use crate::faults::{Fault, Reason};
use crate::hub::{GroupSeat, Hub};
use crate::profile::TokenExpiry;
use crate::terms::Terms;

/// How much is read from the socket at a time, at least.
const READ: usize = 16 * 1024;
/// How long a connection that is over may take to send its last words.
const LINGER: Duration = Duration::from_secs(2);
/// How long all of them together may take when the emulator shuts down.
const SHUTDOWN: Duration = Duration::from_secs(3);
/// The pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every connection needs.
pub(crate) struct Server {
    pub(crate) tls: TlsAcceptor,
    pub(crate) accounts: Arc<Mutex<Accounts>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) terms: Arc<Terms>,
}

/// Takes connections until `stop` completes; then closes them in good order, as far as their clients let it.
pub(crate) async fn accept(listener: TcpListener, server: Arc<Server>, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => {
                    let span = info_span!("connection", %peer);
                    connections.spawn(serve(socket, peer, Arc::clone(&server)).instrument(span));
                }
                // Out of file descriptors, say: the connections that are there must go on.
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                if let Err(error) = ended {
                    warn!(%error, "a connection's task failed");
                }
            }
        }
    }
    drop(listener);
    let reason =
        Reason { condition: "amqp:connection:forced".to_owned(), description: "the server shuts down".to_owned() };
    let close = Fault::Close { reason: Some(reason) };
    if server.hub.inject(None, None, &close).is_ok() {
        // Those that have not opened yet are cut off with the set.
        let _ =
            timeout(SHUTDOWN, async { while server.hub.clients() > 0 && connections.join_next().await.is_some() {} })
                .await;
    }
}

async fn serve(socket: TcpStream, peer: SocketAddr, server: Arc<Server>) {
    if let Err(error) = socket.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    let entered = async {
        let mut stream = server.tls.accept(socket).await?;
        let mut input = BytesMut::with_capacity(READ);
        let admitted = enter(&mut stream, &mut input, peer, &server).await?;
        if admitted.is_some() {
            sasl::begin_amqp(&mut stream, &mut input).await?;
        }
        Ok::<_, SaslError>((stream, input, admitted))
    };
    let (stream, input, admitted) = match timeout(server.terms.limits.auth_deadline, entered).await {
        Ok(Ok((stream, input, Some(admitted)))) => (stream, input, admitted),
        Ok(Ok((_, _, None))) => return,
        Ok(Err(error)) => return info!(%error, "connection ended before it was authenticated"),
        Err(_) => {
            return info!(deadline = ?server.terms.limits.auth_deadline, "connection did not authenticate in time");
        }
    };
    match carry(stream, input, admitted, &server).await {
        Ok(()) => info!("connection over"),
        Err(error) => info!(%error, "connection lost"),
    }
}

/// The SASL layer, up to its outcome. `None` when the client was refused.
async fn enter<S>(
    stream: &mut S,
    input: &mut BytesMut,
    peer: SocketAddr,
    server: &Server,
) -> Result<Option<Admitted>, SaslError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let plain = match sasl::negotiate(stream, input).await {
        Ok(plain) => plain,
        Err(error @ (SaslError::Mechanism(_) | SaslError::Plain)) => {
            sasl::conclude(stream, SaslCode::Auth).await?;
            return Err(error);
        }
        Err(error) => return Err(error),
    };
    match authenticate(&plain, peer, server) {
        Ok(admitted) => {
            sasl::conclude(stream, SaslCode::Ok).await?;
            Ok(Some(admitted))
        }
        Err(reason) => {
            info!(%reason, "authentication refused");
            sasl::conclude(stream, SaslCode::Auth).await?;
            stream.shutdown().await?;
            Ok(None)
        }
    }
}

/// A client that has come in.
struct Admitted {
    seat: GroupSeat,
    /// When its security token expires.
    until: Micros,
}

fn authenticate(plain: &Plain, peer: SocketAddr, server: &Server) -> Result<Admitted, Denied> {
    let identity = ConnectIdentity::parse(plain.user_name())?;
    let (group, account) = server.hub.find_group(identity.iot_instance_id.as_deref(), &identity.consumer_group_id)?;
    // A refused attempt is an attempt as well. One too many is refused after the open, where there are words for it.
    let refused = server.hub.attempt(&group).err();
    let now = server.hub.clock().now();
    let now_ms = now.unix_us / 1_000;
    let caller = admission::admit(&server.accounts, &identity, plain.password(), &account, now_ms)?;
    let left = caller.expires_at_ms.map(|at| Duration::from_millis(at.saturating_sub(now_ms)));
    let until = left.map_or(Micros::NEVER, |left| now.mono.after(left));
    let client_id = identity.client_id.as_str().to_owned();
    info!(group, client = client_id, "authenticated");
    let seat = GroupSeat::new(Arc::clone(&server.hub), group, client_id, peer, refused).with_key(caller.key_id);
    Ok(Admitted { seat, until })
}

/// Carries bytes until the connection is over.
async fn carry<S>(stream: S, mut input: BytesMut, admitted: Admitted, server: &Server) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
{
    let clock = server.hub.clock();
    let Admitted { seat, until } = admitted;
    let wake = seat.wake();
    let mut connection = Connection::new(seat, Arc::clone(&server.terms), clock.now().mono);
    if server.terms.profile.token_expiry == TokenExpiry::Closes {
        connection.end_at(until);
    }
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut unflushed = false;
    loop {
        let now = clock.now().mono;
        loop {
            match frame::next(&mut input, Kind::Amqp, connection.frame_limit()) {
                Ok(Some(frame)) => connection.on_frame(&frame, now),
                Ok(None) => break,
                Err(error) => {
                    // Where the next frame begins is unknown from here on.
                    input.clear();
                    connection.on_bad_frame(error, now);
                    break;
                }
            }
        }
        connection.obey(now);
        connection.on_time(now);
        connection.pump(now);
        if connection.is_over() {
            return timeout(LINGER, end(writer, connection)).await.unwrap_or(Ok(()));
        }
        input.reserve(READ);
        let deadline = clock.instant(connection.deadline());
        let pending = unflushed || !connection.out().is_empty();
        tokio::select! {
            read = reader.read_buf(&mut input) => if read? == 0 {
                return Ok(());
            },
            written = send(&mut writer, connection.out()), if pending => unflushed = written?,
            () = wake.notified() => {}
            () = sleep_until(deadline) => {}
        }
    }
}

/// Writes some of `out`, or flushes when there is nothing to write. Says whether there is something to flush.
async fn send<W: AsyncWrite + Unpin>(writer: &mut W, out: &mut BytesMut) -> io::Result<bool> {
    if out.is_empty() {
        writer.flush().await?;
        return Ok(false);
    }
    match writer.write_buf(out).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        _ => Ok(true),
    }
}

/// Writes what is left and ends the TLS session, unless the connection is to be dropped without a word.
async fn end<W: AsyncWrite + Unpin, S: Seat>(mut writer: W, mut connection: Connection<S>) -> io::Result<()> {
    if connection.is_dropped() {
        return Ok(());
    }
    writer.write_all_buf(connection.out()).await?;
    writer.shutdown().await
}
