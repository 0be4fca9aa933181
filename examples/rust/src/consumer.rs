//! The stream to the sidecar: subscribes, hands deliveries to the handler, sends verdicts in batches, and comes back
//! after a loss with everything it still holds. What a message means is the handler's business.

use std::{collections::HashMap, fmt, pin::Pin, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use sluice_proto::v1::{
    ConsumeRequest, ConsumeResponse, Delivery, Retry, Subscribe, VerdictResults, Verdicts, consume_request::Request,
    consume_response::Response, consumer_client::ConsumerClient, link_state::State, notice::Notice,
};
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Endpoint};

use crate::{
    handler::Handler,
    journal::{Journal, Outcome},
};

/// How long to wait for a connection and for the results of the last verdicts.
const PATIENCE: Duration = Duration::from_secs(5);
/// Waits between attempts to connect: the first and the longest. The sidecar is on the same machine, so they are short.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// What the handler made of a delivery.
#[derive(Clone, Debug)]
struct Verdict {
    delivery_id: u64,
    message_id: String,
    handled: bool,
}

/// How many deliveries there were, and what became of them.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    delivered: u64,
    settled: u64,
    retried: u64,
    /// Results that say the message comes again although it was acknowledged or failed.
    late: u64,
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { delivered, settled, retried, late } = self;
        write!(f, "delivered {delivered}, settled {settled}, to be tried again {retried}, verdicts too late {late}")
    }
}

/// A consumer of one sidecar.
pub(crate) struct Consumer {
    endpoint: Endpoint,
    client_id: String,
    concurrency: u32,
    handler: Arc<Handler>,
    journal: Option<Journal>,
    totals: Totals,
    /// Deliveries that the handler is working on. They outlive the stream on which they came.
    working: JoinSet<Verdict>,
    /// Verdicts to send.
    ready: Vec<Verdict>,
    /// Verdicts sent and not answered. Sent again if the stream is lost, since nobody knows whether they arrived.
    unanswered: HashMap<u64, Verdict>,
    stopping: bool,
    /// Whether the present stream has been heard from.
    attached: bool,
}

impl Consumer {
    /// A consumer of the sidecar at `address`, which handles at most `concurrency` messages at a time.
    pub(crate) fn new(
        address: &str,
        client_id: String,
        concurrency: u32,
        handler: Handler,
        journal: Option<Journal>,
    ) -> Result<Self> {
        let uri = match address.strip_prefix("tcp://") {
            Some(host_and_port) => format!("http://{host_and_port}"),
            None => address.to_owned(),
        };
        let endpoint = Endpoint::from_shared(uri).with_context(|| format!("the sidecar's address {address:?}"))?;
        Ok(Self {
            endpoint,
            client_id,
            concurrency,
            handler: Arc::new(handler),
            journal,
            totals: Totals::default(),
            working: JoinSet::new(),
            ready: Vec::new(),
            unanswered: HashMap::new(),
            stopping: false,
            attached: false,
        })
    }

    /// Consumes until `stop` completes, then finishes what is in hand.
    pub(crate) async fn run(mut self, stop: impl Future<Output = ()>) -> Result<Totals> {
        let mut stop = std::pin::pin!(stop);
        let mut resume = false;
        let mut delay = FIRST_DELAY;
        loop {
            self.attached = false;
            let Err(status) = self.session(stop.as_mut(), resume).await else {
                return Ok(self.totals);
            };
            if status.code() == Code::InvalidArgument {
                bail!("the sidecar refuses this consumer: {}", status.message());
            }
            if self.stopping && self.holds_nothing() {
                return Ok(self.totals);
            }
            if self.stopping {
                bail!("stopped without the sidecar ({}); what is not settled will come again", status.message());
            }
            if self.attached {
                resume = true;
                delay = FIRST_DELAY;
            }
            eprintln!("no stream ({}: {}), next attempt in {delay:?}", status.code(), status.message());
            tokio::select! {
                () = sleep(delay) => delay = (delay * 2).min(LONGEST_DELAY),
                () = stop.as_mut() => self.stopping = true,
            }
        }
    }

    /// One stream, from subscribing to its end: `Ok` once everything in hand is answered after a stop, else what ended
    /// it.
    async fn session(&mut self, mut stop: Pin<&mut impl Future<Output = ()>>, resume: bool) -> Result<(), Status> {
        let (requests, outgoing) = mpsc::channel(4);
        let subscribe = Subscribe {
            client_id: self.client_id.clone(),
            max_in_flight_messages: self.concurrency,
            resume,
            ..Subscribe::default()
        };
        requests
            .try_send(ConsumeRequest { request: Some(Request::Subscribe(subscribe)) })
            .map_err(|_| Status::internal("a new channel has no room"))?;
        let mut responses = timeout(PATIENCE, connect(&self.endpoint, outgoing))
            .await
            .map_err(|_| Status::unavailable("the sidecar does not answer"))??;
        self.ready.extend(self.unanswered.drain().map(|(_, verdict)| verdict));

        while !(self.stopping && self.working.is_empty() && self.ready.is_empty()) {
            tokio::select! {
                biased;
                () = stop.as_mut(), if !self.stopping => self.stopping = true,
                Some(done) = self.working.join_next() => self.collect(done),
                // A place is taken only when there is one, so that reading never waits for writing. If there will be
                // none any more, the response says why.
                Ok(place) = requests.reserve(), if !self.ready.is_empty() => place.send(self.verdicts()),
                response = responses.message() => match response? {
                    Some(response) => self.take(response),
                    None => return Err(Status::unavailable("the sidecar has ended the stream")),
                },
            }
        }

        // Closing our side says that no more verdicts will follow; the sidecar answers those it has, and ends.
        drop(requests);
        let results = async {
            while let Some(response) = responses.message().await? {
                self.take(response);
            }
            Ok(())
        };
        timeout(PATIENCE, results).await.map_err(|_| Status::deadline_exceeded("the last results do not come"))?
    }

    fn holds_nothing(&self) -> bool {
        self.working.is_empty() && self.ready.is_empty() && self.unanswered.is_empty()
    }

    /// Takes up a response of the sidecar.
    fn take(&mut self, response: ConsumeResponse) {
        self.attached = true;
        match response.response {
            // What comes after a stop is left alone: the sidecar gives it out again when the stream ends.
            Some(Response::Deliveries(batch)) if !self.stopping => {
                batch.deliveries.into_iter().for_each(|delivery| self.begin(delivery));
            }
            Some(Response::Results(results)) => self.conclude(&results),
            Some(Response::Notice(notice)) => match notice.notice {
                Some(Notice::LinkState(link)) => {
                    eprintln!("link {} {}", link.state().as_str_name(), link.reason);
                    if let (Some(journal), State::Up) = (&mut self.journal, link.state()) {
                        journal.link_up();
                    }
                }
                Some(Notice::Draining(draining)) => eprintln!("sidecar drains within {} ms", draining.deadline_ms),
                None => {}
            },
            Some(Response::Deliveries(_)) | None => {}
        }
        self.flush_journal();
    }

    fn begin(&mut self, delivery: Delivery) {
        self.totals.delivered += 1;
        if let Some(journal) = &mut self.journal {
            journal.delivered(&delivery);
        }
        let handler = Arc::clone(&self.handler);
        self.working.spawn(async move {
            let result = handler.handle(&delivery).await;
            if let Err(error) = &result {
                eprintln!("message {} failed, attempt {}: {error}", delivery.message_id, delivery.attempt);
            }
            Verdict { delivery_id: delivery.delivery_id, message_id: delivery.message_id, handled: result.is_ok() }
        });
    }

    /// Collects all deliveries that the handler has done with. One whose handler panicked gets no verdict: its lease
    /// runs out, and it comes again.
    fn collect(&mut self, first: Result<Verdict, JoinError>) {
        let mut next = Some(first);
        while let Some(done) = next {
            match done {
                Ok(verdict) => self.ready.push(verdict),
                Err(panic) => eprintln!("the handler gave up: {panic}"),
            }
            next = self.working.try_join_next();
        }
    }

    /// One request with all verdicts that are ready.
    fn verdicts(&mut self) -> ConsumeRequest {
        let mut verdicts = Verdicts::default();
        for verdict in self.ready.drain(..) {
            if verdict.handled {
                verdicts.ack_delivery_ids.push(verdict.delivery_id);
                if let Some(journal) = &mut self.journal {
                    journal.acked(&verdict.message_id);
                }
            } else {
                verdicts.retry.push(Retry { delivery_id: verdict.delivery_id, delay_ms: None });
            }
            self.unanswered.insert(verdict.delivery_id, verdict);
        }
        self.flush_journal();
        ConsumeRequest { request: Some(Request::Verdicts(verdicts)) }
    }

    /// Strikes off verdicts that have been answered.
    fn conclude(&mut self, results: &VerdictResults) {
        let outcomes = [
            (Outcome::Settled, &results.settled),
            (Outcome::RetryScheduled, &results.retry_scheduled),
            (Outcome::HandedBack, &results.handed_back),
            (Outcome::Expired, &results.expired),
            (Outcome::LinkLost, &results.link_lost),
            (Outcome::Unknown, &results.unknown),
        ];
        for (outcome, delivery_ids) in outcomes {
            let count = delivery_ids.len() as u64;
            match outcome {
                Outcome::Settled => self.totals.settled += count,
                Outcome::RetryScheduled | Outcome::HandedBack => self.totals.retried += count,
                Outcome::Expired | Outcome::LinkLost | Outcome::Unknown => self.totals.late += count,
            }
            for delivery_id in delivery_ids {
                let verdict = self.unanswered.remove(delivery_id);
                if let (Some(journal), Some(verdict)) = (&mut self.journal, verdict) {
                    journal.result(outcome, &verdict.message_id);
                }
            }
        }
    }

    fn flush_journal(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.flush();
        }
    }
}

async fn connect(
    endpoint: &Endpoint,
    outgoing: mpsc::Receiver<ConsumeRequest>,
) -> Result<Streaming<ConsumeResponse>, Status> {
    let channel = endpoint.connect().await.map_err(|error| Status::from_error(Box::new(error)))?;
    let mut client = ConsumerClient::new(channel);
    Ok(client.consume(ReceiverStream::new(outgoing)).await?.into_inner())
}

#[cfg(test)]
mod tests;
