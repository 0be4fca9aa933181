//! An application of the sidecar: a gRPC client of `sluice.v1.Consumer` that remembers what it was sent, so that a test can
//! ask for the next delivery, or for the result of a verdict, in any order.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use sluice_proto::v1::consume_request::Request;
use sluice_proto::v1::consume_response::Response;
use sluice_proto::v1::consumer_client::ConsumerClient;
use sluice_proto::v1::link_state::State;
use sluice_proto::v1::{
    ConsumeRequest, ConsumeResponse, Delivery, LinkState, Notice, Retry, Subscribe, VerdictResults, Verdicts, notice,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};

/// What the sidecar said of a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// `VerdictResults.settled`
    Settled,
    /// `VerdictResults.retry_scheduled`
    RetryScheduled,
    /// `VerdictResults.handed_back`
    HandedBack,
    /// `VerdictResults.expired`
    Expired,
    /// `VerdictResults.link_lost`
    LinkLost,
    /// `VerdictResults.unknown`
    Unknown,
}

/// A stream to the sidecar. Every wait on it has a bound; an error says what had come instead.
#[derive(Debug)]
pub struct Application {
    requests: mpsc::Sender<ConsumeRequest>,
    responses: Streaming<ConsumeResponse>,
    deliveries: VecDeque<Delivery>,
    results: HashMap<u64, Outcome>,
    link: Option<LinkState>,
    draining: bool,
}

/// A subscription under this name, with the sidecar's own bounds.
pub fn subscription(client_id: &str) -> Subscribe {
    Subscribe { client_id: client_id.to_owned(), ..Subscribe::default() }
}

impl Application {
    /// Opens a stream to `address` (`unix:///path` or `http://127.0.0.1:port`).
    pub async fn attach(address: &str, subscribe: Subscribe) -> Result<Self> {
        let channel = Endpoint::from_shared(address.to_owned())?
            .connect_timeout(Duration::from_secs(10))
            .connect()
            .await
            .with_context(|| format!("no sidecar at {address}"))?;
        // A delivery of 256 KiB, and a batch of many, fit with room to spare.
        let mut client = ConsumerClient::new(channel).max_decoding_message_size(8 << 20);
        let (requests, outgoing) = mpsc::channel(64);
        requests.send(ConsumeRequest { request: Some(Request::Subscribe(subscribe)) }).await?;
        let responses = client.consume(ReceiverStream::new(outgoing)).await?.into_inner();
        Ok(Self {
            requests,
            responses,
            deliveries: VecDeque::new(),
            results: HashMap::new(),
            link: None,
            draining: false,
        })
    }

    /// The next delivery.
    pub async fn delivery(&mut self, bound: Duration) -> Result<Delivery> {
        let end = Instant::now() + bound;
        loop {
            if let Some(delivery) = self.deliveries.pop_front() {
                return Ok(delivery);
            }
            self.read(end).await.with_context(|| format!("waiting {bound:?} for a delivery"))?;
        }
    }

    /// The next `count` deliveries, within `bound` for all of them.
    pub async fn deliveries(&mut self, count: usize, bound: Duration) -> Result<Vec<Delivery>> {
        let end = Instant::now() + bound;
        while self.deliveries.len() < count {
            let have = self.deliveries.len();
            self.read(end).await.with_context(|| format!("waiting {bound:?} for {count} deliveries, have {have}"))?;
        }
        Ok(self.deliveries.drain(..count).collect())
    }

    /// What the sidecar said of the verdict on a delivery, taken out.
    pub async fn outcome(&mut self, delivery_id: u64, bound: Duration) -> Result<Outcome> {
        let end = Instant::now() + bound;
        loop {
            if let Some(outcome) = self.results.remove(&delivery_id) {
                return Ok(outcome);
            }
            let context = || format!("waiting {bound:?} for the result of {delivery_id}");
            self.read(end).await.with_context(context)?;
        }
    }

    /// Waits until the link to the platform is in `wanted`, and returns the reason given with it.
    pub async fn link_state(&mut self, wanted: State, bound: Duration) -> Result<String> {
        let end = Instant::now() + bound;
        loop {
            if let Some(link) = self.link.as_ref().filter(|link| link.state() == wanted) {
                return Ok(link.reason.clone());
            }
            let seen = self.link.clone();
            self.read(end).await.with_context(|| format!("waiting {bound:?} for {wanted:?}, saw {seen:?}"))?;
        }
    }

    /// Waits until the sidecar gives a reason why the link is not up, and returns it with the state.
    pub async fn link_trouble(&mut self, bound: Duration) -> Result<(State, String)> {
        let end = Instant::now() + bound;
        loop {
            if let Some(link) = self.link.as_ref().filter(|link| !link.reason.is_empty()) {
                return Ok((link.state(), link.reason.clone()));
            }
            let seen = self.link.clone();
            self.read(end).await.with_context(|| format!("waiting {bound:?} for link trouble, saw {seen:?}"))?;
        }
    }

    /// Waits until the sidecar says that it is about to stop.
    pub async fn draining(&mut self, bound: Duration) -> Result<()> {
        let end = Instant::now() + bound;
        while !self.draining {
            self.read(end).await.with_context(|| format!("waiting {bound:?} for the notice of draining"))?;
        }
        Ok(())
    }

    /// Acknowledges deliveries, without waiting for the results.
    pub async fn ack(&mut self, delivery_ids: impl IntoIterator<Item = u64>) -> Result<()> {
        let ack_delivery_ids = delivery_ids.into_iter().collect();
        self.send(Request::Verdicts(Verdicts { ack_delivery_ids, retry: Vec::new() })).await
    }

    /// Asks for a delivery to be given again after `delay`, without waiting for the result.
    pub async fn retry(&mut self, delivery_id: u64, delay: Option<Duration>) -> Result<()> {
        let delay_ms = delay.map(|delay| u32::try_from(delay.as_millis())).transpose()?;
        let retry = vec![Retry { delivery_id, delay_ms }];
        self.send(Request::Verdicts(Verdicts { ack_delivery_ids: Vec::new(), retry })).await
    }

    /// Sends any request, also one that the sidecar must refuse.
    pub async fn send(&mut self, request: Request) -> Result<()> {
        self.requests.send(ConsumeRequest { request: Some(request) }).await.map_err(|_| anyhow!("the stream has ended"))
    }

    /// Waits for the sidecar to end the stream, and returns the status it ends with.
    pub async fn ended(&mut self, bound: Duration) -> Result<Status> {
        let end = Instant::now() + bound;
        loop {
            match timeout_at(end, self.responses.message()).await {
                Err(_) => bail!("the stream still stands after {bound:?}"),
                Ok(Err(status)) => return Ok(status),
                Ok(Ok(None)) => return Ok(Status::ok("")),
                Ok(Ok(Some(response))) => self.take(response),
            }
        }
    }

    /// Reads one response.
    async fn read(&mut self, end: Instant) -> Result<()> {
        let response = timeout_at(end, self.responses.message()).await.context("nothing came in time")?;
        let response = response.context("the stream failed")?.context("the sidecar ended the stream")?;
        self.take(response);
        Ok(())
    }

    fn take(&mut self, response: ConsumeResponse) {
        match response.response {
            Some(Response::Deliveries(batch)) => self.deliveries.extend(batch.deliveries),
            Some(Response::Results(results)) => self.take_results(results),
            Some(Response::Notice(Notice { notice: Some(notice::Notice::LinkState(state)) })) => {
                self.link = Some(state);
            }
            Some(Response::Notice(Notice { notice: Some(notice::Notice::Draining(_)) })) => self.draining = true,
            Some(Response::Notice(_)) | None => {}
        }
    }

    fn take_results(&mut self, results: VerdictResults) {
        let by_outcome = [
            (Outcome::Settled, results.settled),
            (Outcome::RetryScheduled, results.retry_scheduled),
            (Outcome::HandedBack, results.handed_back),
            (Outcome::Expired, results.expired),
            (Outcome::LinkLost, results.link_lost),
            (Outcome::Unknown, results.unknown),
        ];
        for (outcome, ids) in by_outcome {
            self.results.extend(ids.into_iter().map(|id| (id, outcome)));
        }
    }
}
