//! The task around one connection: TLS, SASL, then the loop that carries bytes between the socket and the state machine.
//! It reads whenever there is something to read, also while it can't write, and writes everything that is ready in one go;
//! the state machine may forbid either.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{Instrument as _, info, info_span};

use super::connection::Connection;
use super::entry::{self, Admitted};
use super::sasl::{self, SaslError};
use super::seat::Seat;
use crate::accounts::Accounts;
use crate::faults::{Fault, Reason};
use crate::hub::Hub;
use crate::rules::Rule;
use crate::sockets;
use crate::terms::Terms;

/// How much is read from the socket at a time, at least.
const READ: usize = 16 * 1024;
/// How long a connection that is over may take to send its last words.
const LINGER: Duration = Duration::from_secs(2);
/// How long all of them together may take when the emulator shuts down.
const SHUTDOWN: Duration = Duration::from_secs(3);

/// What every connection needs.
pub(crate) struct Server {
    pub(crate) tls: TlsAcceptor,
    pub(crate) accounts: Arc<Mutex<Accounts>>,
    pub(crate) hub: Arc<Hub>,
    pub(crate) terms: Arc<Terms>,
}

/// Takes connections until `stop` completes; then closes them in good order, as far as their clients let it.
pub(crate) async fn accept(listener: TcpListener, server: Arc<Server>, stop: impl Future<Output = ()>) {
    let mut connections = sockets::accept(listener, "AMQP", stop, |socket, peer| {
        serve(socket, peer, Arc::clone(&server)).instrument(info_span!("connection", %peer))
    })
    .await;
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
    converse(socket, peer, &server).await;
}

/// Serves one client from its first byte to its last. `socket` is TCP, or what stands in for it in a test.
pub(crate) async fn converse<IO>(socket: IO, peer: SocketAddr, server: &Server)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let entered = async {
        let mut stream = server.tls.accept(socket).await?;
        let mut input = BytesMut::with_capacity(READ);
        let admitted = entry::enter(&mut stream, &mut input, peer, server).await?;
        if admitted.is_some() {
            sasl::begin_amqp(&mut stream, &mut input).await?;
        }
        Ok::<_, SaslError>((stream, input, admitted))
    };
    let deadline = server.terms.limits.auth_deadline;
    let patience = if server.terms.keeps(Rule::AuthDeadline) { deadline } else { Duration::MAX };
    let (stream, input, admitted) = match timeout(patience, entered).await {
        Ok(Ok((stream, input, Some(admitted)))) => (stream, input, admitted),
        Ok(Ok((_, _, None))) => return,
        Ok(Err(error)) => return info!(%error, "connection ended before it was authenticated"),
        Err(_) => return info!(?deadline, "connection did not authenticate in time"),
    };
    match carry(stream, input, admitted, server).await {
        Ok(()) => info!("connection over"),
        Err(error) => info!(%error, "connection lost"),
    }
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
    connection.token_ends(until);
    let (mut reader, mut writer) = tokio::io::split(stream);
    let mut unflushed = false;
    loop {
        let now = clock.now().mono;
        // Something is due; but what has come until now is heard first, however late this is looked at.
        if connection.deadline() <= now && connection.may_read() {
            input.reserve(READ);
            tokio::select! {
                biased;
                read = reader.read_buf(&mut input) => if read? == 0 {
                    return Ok(());
                },
                () = std::future::ready(()) => {}
            }
        }
        connection.on_bytes(&mut input, now);
        connection.obey(now);
        connection.on_time(now);
        connection.pump(now);
        if connection.is_over() {
            return timeout(LINGER, end(writer, connection)).await.unwrap_or(Ok(()));
        }
        input.reserve(READ);
        let may_leave = connection.may_leave(now);
        let deadline = clock.instant(connection.deadline());
        tokio::select! {
            read = reader.read_buf(&mut input), if connection.may_read() => if read? == 0 {
                return Ok(());
            },
            written = send(&mut writer, &connection.unsent()[..may_leave]), if unflushed || may_leave > 0 => {
                let count = written?;
                unflushed = count > 0;
                connection.left(count);
            }
            () = wake.notified() => {}
            () = sleep_until(deadline) => {}
        }
    }
}

/// Writes some of `bytes` and says how many, or flushes when there are none.
async fn send<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<usize> {
    if bytes.is_empty() {
        writer.flush().await?;
        return Ok(0);
    }
    match writer.write(bytes).await? {
        0 => Err(io::ErrorKind::WriteZero.into()),
        count => Ok(count),
    }
}

/// Writes what is left and ends the TLS session, unless the connection is to be dropped without a word.
async fn end<W: AsyncWrite + Unpin, S: Seat>(mut writer: W, connection: Connection<S>) -> io::Result<()> {
    if connection.is_dropped() {
        return Ok(());
    }
    writer.write_all(connection.unsent()).await?;
    writer.shutdown().await
}
