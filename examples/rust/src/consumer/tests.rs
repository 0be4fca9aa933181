//! The consumer against a scripted sidecar on a Unix socket: the test sees every request and writes every response.

use sluice_proto::v1::{
    DeliveryBatch,
    consumer_server::{self, ConsumerServer},
};
use tempfile::TempDir;
use tokio::{net::UnixListener, sync::oneshot, task::JoinHandle};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request as Call, Response as Reply, transport::Server};

use super::*;

/// Long enough for a busy machine; nothing waits for it to pass.
const PATIENT: Duration = Duration::from_secs(20);

/// A stream as the sidecar sees it.
struct Stream {
    requests: Streaming<ConsumeRequest>,
    responses: mpsc::Sender<Result<ConsumeResponse, Status>>,
}

impl Stream {
    async fn request(&mut self) -> Option<Request> {
        let request = timeout(PATIENT, self.requests.message()).await.expect("a request in time");
        request.ok().flatten().and_then(|request| request.request)
    }

    async fn subscribe(&mut self) -> Subscribe {
        match self.request().await {
            Some(Request::Subscribe(subscribe)) => subscribe,
            other => panic!("expected a Subscribe, got {other:?}"),
        }
    }

    async fn verdicts(&mut self) -> Verdicts {
        match self.request().await {
            Some(Request::Verdicts(verdicts)) => verdicts,
            other => panic!("expected Verdicts, got {other:?}"),
        }
    }

    /// The delivery IDs acknowledged next, `count` of them, in however many requests.
    async fn acks(&mut self, count: usize) -> Vec<u64> {
        let mut acks = Vec::new();
        while acks.len() < count {
            acks.extend(self.verdicts().await.ack_delivery_ids);
        }
        acks.sort_unstable();
        acks
    }

    async fn respond(&self, response: Response) {
        let response = ConsumeResponse { response: Some(response) };
        self.responses.send(Ok(response)).await.expect("the client listens");
    }

    async fn deliver(&self, delivery_ids: impl IntoIterator<Item = u64>) {
        let delivery = |delivery_id| Delivery { delivery_id, attempt: 1, ..Delivery::default() };
        let deliveries = delivery_ids.into_iter().map(delivery).collect();
        self.respond(Response::Deliveries(DeliveryBatch { deliveries })).await;
    }

    async fn settle(&self, delivery_ids: &[u64]) {
        let settled = delivery_ids.to_vec();
        self.respond(Response::Results(VerdictResults { settled, ..VerdictResults::default() })).await;
    }
}

struct Service(mpsc::Sender<Stream>);

#[tonic::async_trait]
impl consumer_server::Consumer for Service {
    type ConsumeStream = ReceiverStream<Result<ConsumeResponse, Status>>;

    async fn consume(&self, call: Call<Streaming<ConsumeRequest>>) -> Result<Reply<Self::ConsumeStream>, Status> {
        let (responses, outgoing) = mpsc::channel(16);
        let stream = Stream { requests: call.into_inner(), responses };
        self.0.send(stream).await.map_err(|_| Status::unavailable("the test is over"))?;
        Ok(Reply::new(ReceiverStream::new(outgoing)))
    }
}

/// A consumer and the sidecar it talks to.
struct Scene {
    streams: mpsc::Receiver<Stream>,
    stop: Option<oneshot::Sender<()>>,
    consumer: JoinHandle<Result<Totals>>,
    _socket: TempDir,
}

impl Scene {
    fn with(handler: Handler) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sluice.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let (sender, streams) = mpsc::channel(1);
        tokio::spawn(
            Server::builder()
                .add_service(ConsumerServer::new(Service(sender)))
                .serve_with_incoming(UnixListenerStream::new(listener)),
        );
        let address = format!("unix://{}", path.display());
        let consumer = Consumer::new(&address, "test".to_owned(), 8, handler, None).unwrap();
        let (stop, stopped) = oneshot::channel();
        let consumer = tokio::spawn(consumer.run(async move {
            let _ = stopped.await;
        }));
        Self { streams, stop: Some(stop), consumer, _socket: directory }
    }

    async fn stream(&mut self) -> Stream {
        timeout(PATIENT, self.streams.recv()).await.expect("a stream in time").expect("a server")
    }

    fn stop(&mut self) {
        self.stop = None;
    }

    async fn totals(self) -> Result<Totals> {
        timeout(PATIENT, self.consumer).await.expect("an end in time").expect("no panic")
    }
}

fn quick() -> Handler {
    Handler { work: Duration::ZERO, fail_every: 0, print: false }
}

#[tokio::test]
async fn the_first_request_subscribes() {
    let mut scene = Scene::with(quick());
    let subscribe = scene.stream().await.subscribe().await;
    assert_eq!(subscribe.client_id, "test");
    assert_eq!(subscribe.max_in_flight_messages, 8);
    assert!(!subscribe.resume);
}

#[tokio::test]
async fn what_was_handled_together_is_acknowledged_in_one_request() {
    let mut scene = Scene::with(quick());
    let mut stream = scene.stream().await;
    stream.subscribe().await;
    stream.deliver([1, 2, 3]).await;
    let mut verdicts = stream.verdicts().await;
    verdicts.ack_delivery_ids.sort_unstable();
    assert_eq!(verdicts, Verdicts { ack_delivery_ids: vec![1, 2, 3], retry: Vec::new() });
}

#[tokio::test]
async fn a_message_that_failed_is_asked_for_again() {
    let mut scene = Scene::with(Handler { fail_every: 1, ..quick() });
    let mut stream = scene.stream().await;
    stream.subscribe().await;
    stream.deliver([7]).await;
    let verdicts = stream.verdicts().await;
    assert_eq!(
        verdicts,
        Verdicts { ack_delivery_ids: Vec::new(), retry: vec![Retry { delivery_id: 7, delay_ms: None }] }
    );
}

#[tokio::test]
async fn after_a_loss_it_resumes_and_repeats_the_verdicts_that_had_no_answer() {
    let mut scene = Scene::with(quick());
    let mut stream = scene.stream().await;
    stream.subscribe().await;
    stream.deliver([1, 2]).await;
    assert_eq!(stream.acks(2).await, [1, 2]);
    stream.settle(&[1]).await;
    drop(stream);

    let mut stream = scene.stream().await;
    assert!(stream.subscribe().await.resume);
    assert_eq!(stream.acks(1).await, [2]);
}

#[tokio::test]
async fn a_stop_waits_for_the_results_of_what_was_acknowledged() {
    let mut scene = Scene::with(quick());
    let mut stream = scene.stream().await;
    stream.subscribe().await;
    stream.deliver([1, 2]).await;
    let acks = stream.acks(2).await;
    scene.stop();

    assert_eq!(stream.request().await, None, "its side of the stream is closed");
    stream.settle(&acks).await;
    drop(stream);
    let totals = scene.totals().await.unwrap();
    assert_eq!((totals.delivered, totals.settled, totals.late), (2, 2, 0));
}

#[tokio::test]
async fn what_comes_after_a_stop_is_left_for_others() {
    let mut scene = Scene::with(quick());
    let mut stream = scene.stream().await;
    stream.subscribe().await;
    scene.stop();
    assert_eq!(stream.request().await, None);
    stream.deliver([1]).await;
    drop(stream);
    assert_eq!(scene.totals().await.unwrap().delivered, 0);
}

#[tokio::test]
async fn a_refusal_as_invalid_ends_the_consumer() {
    let mut scene = Scene::with(quick());
    let stream = scene.stream().await;
    stream.responses.send(Err(Status::invalid_argument("client_id is empty"))).await.unwrap();
    let error = scene.totals().await.unwrap_err();
    assert!(error.to_string().contains("client_id is empty"), "{error}");
}

#[test]
fn an_address_that_is_none_is_refused() {
    assert!(Consumer::new("not an address", "test".to_owned(), 1, quick(), None).is_err());
}
