//! `sluice.v1.Consumer` as a tonic service.
//!
//! It is written by hand because its responses are: see [`super::wire`]. One task a stream reads requests and passes them
//! on; responses come through a channel that the consumer fills.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use sluice_proto::v1::{ConsumeRequest, Subscribe, consume_request};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Status, Streaming};

use super::table::{Attachment, Limits};
use super::wire::{ConsumeCodec, Response};
use crate::consumer::{Command, Handle};

/// Batches that may wait on their way to one application.
const IN_CHANNEL: usize = 16;

/// The largest payload a client is taken to accept if it does not say: gRPC clients refuse 4 MiB unless told otherwise, and
/// 64 KiB are for what comes with a payload.
const LARGEST: u32 = (4 << 20) - (64 << 10);

/// The service.
#[derive(Debug, Clone)]
pub struct ConsumerService {
    consumer: Handle,
}

impl ConsumerService {
    /// A service in front of a consumer.
    pub fn new(consumer: Handle) -> Self {
        Self { consumer }
    }
}

impl NamedService for ConsumerService {
    const NAME: &'static str = "sluice.v1.Consumer";
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<http::Request<Body>> for ConsumerService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = Consume { consumer: self.consumer.clone() };
        Box::pin(async move {
            Ok(match request.uri().path() {
                "/sluice.v1.Consumer/Consume" => Grpc::new(ConsumeCodec).streaming(method, request).await,
                other => Status::unimplemented(format!("sluice.v1.Consumer has no method {other}")).into_http(),
            })
        })
    }
}

/// The method.
struct Consume {
    consumer: Handle,
}

impl StreamingService<ConsumeRequest> for Consume {
    type Response = Response;
    type ResponseStream = Outgoing;
    type Future = std::future::Ready<Result<tonic::Response<Outgoing>, Status>>;

    fn call(&mut self, request: Request<Streaming<ConsumeRequest>>) -> Self::Future {
        let (out, responses) = mpsc::channel(IN_CHANNEL);
        let room = Arc::clone(&self.consumer.room);
        tokio::spawn(serve(request.into_inner(), self.consumer.clone(), out));
        std::future::ready(Ok(tonic::Response::new(Outgoing { responses, room })))
    }
}

/// Responses on their way out; tells the consumer when there is room for more.
#[derive(Debug)]
pub struct Outgoing {
    responses: mpsc::Receiver<Result<Response, Status>>,
    room: Arc<Notify>,
}

impl Stream for Outgoing {
    type Item = Result<Response, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let next = self.responses.poll_recv(cx);
        if let Poll::Ready(Some(_)) = next {
            self.room.notify_one();
        }
        next
    }
}

/// Reads a stream to its end. An error is the stream's last word.
async fn serve(mut requests: Streaming<ConsumeRequest>, consumer: Handle, out: mpsc::Sender<Result<Response, Status>>) {
    let attachment = match attach(&mut requests, &consumer, &out).await {
        Ok(attachment) => attachment,
        Err(status) => {
            // Nobody listens any more if this fails.
            let _ = out.send(Err(status)).await;
            return;
        }
    };
    let end = tokio::select! {
        end = pass_on(&mut requests, &consumer, attachment) => end,
        // The application, or the consumer, has ended the stream.
        () = out.closed() => Err(None),
    };
    let last = match end {
        Ok(()) => Command::Finished(attachment),
        Err(status) => {
            if let Some(status) = status {
                let _ = out.send(Err(status)).await;
            }
            Command::Detach(attachment)
        }
    };
    drop(out);
    // The consumer is gone only when the process ends.
    let _ = consumer.commands.send(last).await;
}

/// Reads the first request and takes the stream in.
async fn attach(
    requests: &mut Streaming<ConsumeRequest>,
    consumer: &Handle,
    out: &mpsc::Sender<Result<Response, Status>>,
) -> Result<Attachment, Status> {
    let first = requests.message().await?;
    let Some(ConsumeRequest { request: Some(consume_request::Request::Subscribe(subscribe)) }) = first else {
        return Err(Status::invalid_argument("the first request on a stream must be a Subscribe"));
    };
    check_client_id(&subscribe.client_id)?;
    let (reply, answer) = oneshot::channel();
    let command = Command::Attach {
        limits: asked(&subscribe),
        client_id: subscribe.client_id,
        resume: subscribe.resume,
        out: out.clone(),
        reply,
    };
    let gone = || Status::unavailable("the sidecar is shutting down; connect again, with backoff");
    consumer.commands.send(command).await.map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

/// Passes verdicts on until the client has no more of them.
async fn pass_on(
    requests: &mut Streaming<ConsumeRequest>,
    consumer: &Handle,
    attachment: Attachment,
) -> Result<(), Option<Status>> {
    loop {
        let verdicts = match requests.message().await.map_err(Some)? {
            None => return Ok(()),
            Some(ConsumeRequest { request: Some(consume_request::Request::Verdicts(verdicts)) }) => verdicts,
            Some(ConsumeRequest { request: Some(consume_request::Request::Subscribe(_)) }) => {
                let message = "a second Subscribe: a stream is subscribed once; open another stream for other bounds";
                return Err(Some(Status::invalid_argument(message)));
            }
            Some(ConsumeRequest { request: None }) => {
                let message = "a request with neither Subscribe nor Verdicts";
                return Err(Some(Status::invalid_argument(message)));
            }
        };
        if consumer.commands.send(Command::Verdicts(attachment, verdicts)).await.is_err() {
            return Err(None);
        }
    }
}

fn check_client_id(client_id: &str) -> Result<(), Status> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=64).contains(&client_id.len()) && client_id.chars().all(allowed) {
        return Ok(());
    }
    Err(Status::invalid_argument(format!(
        "client_id {:?} must be 1 to 64 characters out of A-Z a-z 0-9 . _ -",
        client_id.chars().take(80).collect::<String>()
    )))
}

/// What the client asks for.
fn asked(subscribe: &Subscribe) -> Limits {
    Limits {
        messages: subscribe.max_in_flight_messages,
        bytes: subscribe.max_in_flight_bytes,
        largest: if subscribe.max_message_bytes == 0 { LARGEST } else { subscribe.max_message_bytes },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_id_is_a_short_plain_name() {
        for good in ["a", "worker-1", "A.b_c-9", &"x".repeat(64)] {
            assert!(check_client_id(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "ü", "a/b", &"x".repeat(65)] {
            assert!(check_client_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bounds_are_the_sidecars_unless_the_client_asks_for_less() {
        let ask = |messages, bytes| Subscribe {
            max_in_flight_messages: messages,
            max_in_flight_bytes: bytes,
            ..Subscribe::default()
        };
        let given = |subscribe: &Subscribe| asked(subscribe).within((1000, 1 << 20));
        assert_eq!(given(&ask(0, 0)), Limits { messages: 1000, bytes: 1 << 20, largest: LARGEST });
        assert_eq!(given(&ask(10, 100)).messages, 10);
        assert_eq!(given(&ask(5000, u64::MAX)), given(&ask(0, 0)));
    }
}
