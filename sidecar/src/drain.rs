//! Draining on request: what `sluice-sidecar drain` asks of the running sidecar, and how.
//!
//! It is a gRPC method beside `sluice.v1.Consumer`, on the same socket, which only the pod's own containers can reach; the
//! admin address, which others can reach, is read-only. Both ends are of one version of this program, so the messages are
//! written down here and nowhere else.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::consumer::{Command, Handle};
use crate::listen::Listen;

/// The method's path.
const PATH: &str = "/sluice.sidecar.v1.Lifecycle/Drain";

/// How long the socket may take to answer at all.
const CONNECT: Duration = Duration::from_secs(2);

/// How much longer than it may drain the sidecar may take to answer: links are closed, and streams are ended.
const MARGIN: Duration = Duration::from_secs(5);

/// Asks for it.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct DrainRequest {
    /// How long what is in hand may be answered, in milliseconds.
    #[prost(uint64, tag = "1")]
    timeout_ms: u64,
}

/// It is done.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct DrainResponse {
    /// Messages that were handed back unanswered.
    #[prost(uint64, tag = "1")]
    handed_back: u64,
}

/// The sidecar's end.
#[derive(Debug, Clone)]
pub struct DrainService {
    consumer: Handle,
}

impl DrainService {
    /// A service in front of a consumer.
    pub fn new(consumer: Handle) -> Self {
        Self { consumer }
    }
}

impl NamedService for DrainService {
    const NAME: &'static str = "sluice.sidecar.v1.Lifecycle";
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<http::Request<Body>> for DrainService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Drain { consumer: self.consumer.clone() };
        Box::pin(async move {
            Ok(match request.uri().path() {
                PATH => Grpc::new(ProstCodec::default()).unary(method, request).await,
                other => Status::unimplemented(format!("there is no method {other}")).into_http(),
            })
        })
    }
}

/// The method.
struct Drain {
    consumer: Handle,
}

impl UnaryService<DrainRequest> for Drain {
    type Response = DrainResponse;
    type Future = BoxFuture<Result<Response<DrainResponse>, Status>>;

    fn call(&mut self, request: Request<DrainRequest>) -> Self::Future {
        let commands = self.consumer.commands.clone();
        // A day is for ever; more might be beyond the clock.
        let within = Duration::from_millis(request.into_inner().timeout_ms).min(Duration::from_hours(24));
        Box::pin(async move {
            let gone = || Status::unavailable("the sidecar is shutting down");
            let (reply, answer) = oneshot::channel();
            commands.send(Command::Drain { within, reply }).await.map_err(|_| gone())?;
            let handed_back = answer.await.map_err(|_| gone())?;
            Ok(Response::new(DrainResponse { handed_back: handed_back as u64 }))
        })
    }
}

/// Why the sidecar did not drain.
#[derive(Debug, thiserror::Error)]
pub enum DrainError {
    /// There is none, or none that speaks.
    #[error("no sidecar answers at {address}: {reason}; --listen must be that of the running sidecar")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system says.
        reason: String,
    },
    /// It answers, but not that.
    #[error("the sidecar at {address} did not drain: {reason}")]
    Refused {
        /// Where.
        address: String,
        /// What it says.
        reason: String,
    },
}

/// Asks the sidecar that listens there to drain within `timeout`, and waits until it has. Returns how many messages were
/// handed back unanswered. Asking again changes nothing, but that a shorter time counts.
pub async fn request(listen: &Listen, timeout: Duration) -> Result<u64, DrainError> {
    let address = match listen {
        Listen::Unix(path) => format!("unix://{}", path.display()),
        Listen::Tcp(address) => format!("http://{address}"),
    };
    let unreachable =
        |error: &dyn std::error::Error| DrainError::Unreachable { address: address.clone(), reason: chain(error) };
    let endpoint = Endpoint::from_shared(address.clone()).map_err(|error| unreachable(&error))?;
    let endpoint = endpoint.connect_timeout(CONNECT).timeout(timeout.saturating_add(MARGIN));
    let channel = endpoint.connect().await.map_err(|error| unreachable(&error))?;
    let refused = |reason: String| DrainError::Refused { address: address.clone(), reason };
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| refused(chain(&error)))?;
    let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
    let codec = ProstCodec::<DrainRequest, DrainResponse>::default();
    let path = http::uri::PathAndQuery::from_static(PATH);
    let response = client.unary(Request::new(DrainRequest { timeout_ms }), path, codec).await;
    let response = response.map_err(|status| refused(format!("{:?}: {}", status.code(), status.message())))?;
    Ok(response.into_inner().handed_back)
}

/// An error with what is behind it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::net::UnixListener;
    use tokio::sync::{Notify, mpsc};
    use tokio_stream::wrappers::UnixListenerStream;
    use tonic::transport::Server;

    use super::*;

    #[tokio::test]
    async fn what_is_asked_for_on_the_socket_reaches_the_consumer_and_its_answer_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let (commands, mut inbox) = mpsc::channel(4);
        let consumer = Handle { commands, room: Arc::new(Notify::new()) };
        let incoming = UnixListenerStream::new(UnixListener::bind(&path).unwrap());
        let server = Server::builder().add_service(DrainService::new(consumer)).serve_with_incoming(incoming);
        let server = tokio::spawn(server);
        let listen = Listen::Unix(path);
        let (handed_back, ()) = tokio::join!(request(&listen, Duration::from_secs(3)), async {
            let Some(Command::Drain { within, reply }) = inbox.recv().await else { panic!("no drain") };
            assert_eq!(within, Duration::from_secs(3));
            reply.send(17).unwrap();
        });
        assert_eq!(handed_back.unwrap(), 17);
        // A sidecar that is about to be gone.
        drop(inbox);
        let error = request(&listen, Duration::from_secs(3)).await.unwrap_err().to_string();
        assert!(error.contains("shutting down"), "{error}");
        server.abort();
    }

    #[tokio::test]
    async fn a_socket_that_nobody_serves_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let listen = Listen::Unix(dir.path().join("none.sock"));
        let error = request(&listen, Duration::from_secs(1)).await.unwrap_err().to_string();
        assert!(error.contains("none.sock") && error.contains("--listen"), "{error}");
    }
}
