//! HTTP/1.1 as the emulator serves it: whoever says nothing, or does not read the answers, is left after a while.

use std::error::Error;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_io_timeout::TimeoutStream;

/// How long a connection may be silent before and between requests, how long one may take to arrive, and how long an
/// answer's next bytes may wait to be read.
pub(crate) const SILENCE: Duration = Duration::from_mins(1);
/// The largest head of a request.
const MAX_HEAD: usize = 64 * 1024;

/// A socket that breaks when its peer does not read what is written to it.
pub(crate) fn read_by_its_peer<S: AsyncRead + AsyncWrite>(socket: S) -> Pin<Box<TimeoutStream<S>>> {
    let mut socket = TimeoutStream::new(socket);
    socket.set_write_timeout(Some(SILENCE));
    Box::pin(socket)
}

/// What it means that a client has closed its side of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// It has said all that it has to say, and waits for the answer.
    WaitsForAnswer,
    /// It is gone: what it has asked for is not done any more, if it was not done yet.
    IsGone,
}

/// Serves what comes over one connection.
pub(crate) async fn serve<S, H>(stream: S, service: H, closed: Closed) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: HttpService<Incoming>,
    H::Error: Into<Box<dyn Error + Send + Sync>>,
    H::ResBody: 'static,
    <H::ResBody as Body>::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(SILENCE).max_header_size(MAX_HEAD);
    server.half_close(closed == Closed::WaitsForAnswer);
    server.serve_connection(TokioIo::new(stream), service).await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::Full;
    use hyper::body::Bytes;
    use hyper::service::service_fn;
    use hyper::{Request, Response};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

    async fn answer(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
        Ok(Response::new(Full::new(Bytes::from("x".repeat(10_000)))))
    }

    /// A client, and the server that ends with its connection.
    fn talk() -> (DuplexStream, impl Future<Output = io::Result<()>>) {
        let (client, server) = duplex(1_024);
        (client, serve(read_by_its_peer(server), service_fn(answer), Closed::WaitsForAnswer))
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_its_answer_is_left() {
        let (mut client, server) = talk();
        let start = Instant::now();
        client.write_all(REQUEST).await.unwrap();
        assert!(server.await.is_err());
        assert_eq!(start.elapsed().as_secs(), SILENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn so_is_one_that_begins_a_request_and_does_not_end_it() {
        let (mut client, server) = talk();
        let start = Instant::now();
        client.write_all(&REQUEST[..20]).await.unwrap();
        assert!(server.await.is_err());
        assert_eq!(start.elapsed().as_secs(), SILENCE.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_said_all_it_has_to_say_is_answered() {
        let (mut client, server) = talk();
        client.write_all(REQUEST).await.unwrap();
        client.shutdown().await.unwrap();
        let mut said = String::new();
        let (heard, ended) = tokio::join!(client.read_to_string(&mut said), server);
        assert!(heard.is_ok() && ended.is_ok(), "{ended:?}");
        assert!(said.starts_with("HTTP/1.1 200 OK") && said.ends_with("xxx"), "{said}");
    }
}
