//! The gateway's sockets: HTTP with TLS and without on one port, told apart by the first byte.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use super::answer::Refusal;
use super::{Received, Reply, Service};
use crate::http::{self, Closed, SILENCE};
use crate::sockets;

/// What the first byte of a TLS connection is: a handshake record (RFC 8446, 5.1).
const HANDSHAKE: u8 = 0x16;

/// Takes connections until `stop` completes; those that are there then are cut off.
pub(crate) async fn accept(
    listener: TcpListener,
    tls: TlsAcceptor,
    service: Arc<Service>,
    stop: impl Future<Output = ()>,
) {
    sockets::accept(listener, "the OpenAPI", stop, |socket, peer| {
        let (tls, service) = (tls.clone(), Arc::clone(&service));
        async move {
            if let Err(error) = connection(socket, &tls, service).await {
                debug!(%peer, %error, "API connection ended");
            }
        }
    })
    .await;
}

fn too_slow() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "nothing came")
}

async fn connection(socket: TcpStream, tls: &TlsAcceptor, service: Arc<Service>) -> io::Result<()> {
    let mut first = [0];
    if timeout(SILENCE, socket.peek(&mut first)).await.map_err(|_| too_slow())?? == 0 {
        return Ok(());
    }
    let answer = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { answer(request, &service).await.map(response) }
    });
    let socket = http::read_by_its_peer(socket);
    if first[0] == HANDSHAKE {
        let stream = timeout(SILENCE, tls.accept(socket)).await.map_err(|_| too_slow())??;
        http::serve(stream, answer, Closed::IsGone).await
    } else {
        http::serve(socket, answer, Closed::IsGone).await
    }
}

/// The gateway was frozen for longer than a connection may be silent.
#[derive(Debug, thiserror::Error)]
#[error("the gateway is frozen")]
struct Frozen;

/// Waits for as long as the gateway is frozen towards this call, and a connection may be silent. No lock is held.
async fn thaw(service: &Service, received: &Received) -> Result<(), Frozen> {
    if service.frozen_until(received).is_none() {
        return Ok(());
    }
    service.count_frozen(received);
    let thawed = async {
        loop {
            let mut changed = pin!(service.faults.notified());
            changed.as_mut().enable();
            let Some(until) = service.frozen_until(received) else { return };
            tokio::select! {
                () = sleep_until(service.hub.clock().instant(until)) => {}
                () = changed => {}
            }
        }
    };
    timeout(SILENCE, thawed).await.map_err(|_| Frozen)
}

async fn answer(request: Request<Incoming>, service: &Service) -> Result<Reply, Frozen> {
    let (head, body) = request.into_parts();
    let headers = head
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned())));
    let mut received = Received {
        method: head.method.as_str().to_owned(),
        path: head.uri.path().to_owned(),
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: headers.collect(),
        body: Vec::new(),
    };
    let limit = service.rules.max_body_bytes;
    let reply = match timeout(SILENCE, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => {
            received.body = body.to_bytes().to_vec();
            thaw(service, &received).await?;
            let reply = service.handle(received);
            // Nothing is held meanwhile.
            sleep(reply.after).await;
            reply
        }
        Ok(Err(error)) => {
            let words = format!("The request body can't be taken: {error}; the limit is {limit} bytes.");
            Service::refuse(&Refusal::new(413, "RequestBodyTooLarge", words), received.host())
        }
        Err(_) => {
            let refusal = Refusal::new(408, "RequestTimeout", "The request body did not arrive in time.");
            Service::refuse(&refusal, received.host())
        }
    };
    Ok(reply)
}

fn response(reply: Reply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.text)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    response
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::tests::{service, status};
    use super::super::{ApiFault, Product};
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_hangs_until_the_gateway_thaws_or_its_connection_is_given_up() {
        let service = service();
        let (call, start) = (status().received(), tokio::time::Instant::now());
        assert!(thaw(&service, &call).await.is_ok());
        service.misbehave(ApiFault::Freeze, Some(Product::Sts), Duration::from_hours(1));
        assert!(thaw(&service, &call).await.is_ok());
        assert_eq!(start.elapsed(), Duration::ZERO);

        service.misbehave(ApiFault::Freeze, None, Duration::from_secs(10));
        assert!(thaw(&service, &call).await.is_ok());
        assert!(start.elapsed().abs_diff(Duration::from_secs(10)) <= Duration::from_millis(2), "{:?}", start.elapsed());

        service.misbehave(ApiFault::Freeze, None, Duration::from_hours(1));
        let start = tokio::time::Instant::now();
        assert!(thaw(&service, &call).await.is_err());
        assert_eq!(start.elapsed(), SILENCE);

        let lift = async {
            sleep(Duration::from_secs(5)).await;
            service.misbehave(ApiFault::Freeze, None, Duration::ZERO);
        };
        let (thawed, ()) = tokio::join!(thaw(&service, &call), lift);
        assert!(thawed.is_ok());
        assert_eq!(start.elapsed(), SILENCE + Duration::from_secs(5));
        let frozen: u64 = service.counted().0.iter().map(|line| line.tally.frozen).sum();
        assert_eq!(frozen, 3);
    }
}
