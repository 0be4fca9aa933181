//! The consumer towards applications: streams that come and go, and their verdicts.

use std::time::{Duration, Instant};

use sluice_proto::v1::{self, Verdicts, consume_response};
use tokio::sync::mpsc;
use tonic::Status;
use tracing::info;

use super::{Command, Consumer, Unwritten, other};
use crate::ledger::{LeaseId, LinkEpoch, Verdict, VerdictResult};
use crate::permit::Permits;
use crate::source::{Connect, Mark};
use crate::stream::table::{Attachment, InUse, Limits};
use crate::stream::wire::Response;

/// Streams at a time. They all are applications of one pod; far more than these are a mistake.
const STREAMS: usize = 256;

impl<C: Connect, P: Permits> Consumer<C, P> {
    pub(super) fn on_command(&mut self, now: Instant, command: Command) {
        match command {
            Command::Attach { client_id, limits, resume, out, reply } => {
                let answer = self.attach(now, &client_id, limits, resume, out);
                // A stream that is gone before it hears who it is sends no Detach: it goes here.
                if let Err(Ok(attachment)) = reply.send(answer) {
                    self.detach(now, attachment);
                }
            }
            Command::Verdicts(attachment, verdicts) => self.on_verdicts(now, attachment, &verdicts),
            Command::Finished(attachment) => {
                if let Some(stream) = self.streams.get_mut(attachment) {
                    stream.finished = true;
                }
            }
            Command::Detach(attachment) => self.detach(now, attachment),
            Command::Drain { within, reply } => {
                if let Some(handed_back) = self.drained {
                    // Whoever asked may be gone.
                    let _ = reply.send(handed_back);
                } else {
                    self.drain_waits.push(reply);
                    self.drain(Some(now + within));
                }
            }
        }
    }

    pub(super) fn attach(
        &mut self,
        now: Instant,
        client_id: &str,
        limits: Limits,
        resume: bool,
        out: mpsc::Sender<Result<Response, Status>>,
    ) -> Result<Attachment, Status> {
        if self.draining.is_some() {
            return Err(Status::unavailable("the sidecar is draining; connect again, with backoff"));
        }
        if self.streams.len() >= STREAMS {
            return Err(Status::resource_exhausted(format!("{STREAMS} streams are attached already")));
        }
        let policy = self.ledger.policy();
        let bounds = (policy.max_in_flight, policy.max_in_flight_bytes);
        let attachment = self.streams.attach(now, client_id, limits, bounds, out).map_err(|InUse| {
            Status::already_exists(format!("client_id {client_id:?} has a live stream; give each stream its own"))
        })?;
        if let Some(stream) = self.streams.get_mut(attachment) {
            let resumed = self.ledger.stream_back(now, stream.id, resume);
            info!(client_id, resumed = resumed.messages, "stream attached");
        }
        // An attempt that begins is told to all.
        if !self.connect_idle(now) {
            let notice = self.status.borrow().notice();
            self.tell(attachment, notice);
        }
        self.metrics.streams(self.streams.len());
        Ok(attachment)
    }

    pub(super) fn detach(&mut self, now: Instant, attachment: Attachment) {
        if let Some(stream) = self.streams.detach(now, attachment) {
            self.ledger.stream_gone(now, stream.id);
            self.unread_since = now;
            self.metrics.streams(self.streams.len());
            let unanswered = self.ledger.in_flight(stream.id).messages;
            info!(client_id = stream.client_id, unanswered, "stream gone");
        }
    }

    pub(super) fn on_verdicts(&mut self, now: Instant, attachment: Attachment, verdicts: &Verdicts) {
        let Self { streams, ledger, deciding, metrics, acked, .. } = self;
        let Some(stream) = streams.get_mut(attachment) else {
            return;
        };
        let acks = verdicts.ack_delivery_ids.iter().map(|id| (*id, Verdict::Ack));
        let retries = verdicts.retry.iter().map(|retry| {
            let delay = retry.delay_ms.map(|ms| Duration::from_millis(u64::from(ms)));
            (retry.delivery_id, Verdict::Retry { delay })
        });
        for (id, verdict) in acks.chain(retries) {
            let lease = LeaseId(id);
            let result = ledger.verdict(now, stream.id, lease, verdict);
            let results = &mut stream.results;
            let link = ledger.last_decided().unwrap_or(LinkEpoch(0));
            let waits = |handed_back| Unwritten { link, mark: Mark(0), stream: stream.id, lease, handed_back };
            match result {
                VerdictResult::Accepting => deciding.push(waits(false)),
                VerdictResult::HandingBack => deciding.push(waits(true)),
                VerdictResult::RetryScheduled => results.retry_scheduled.push(id),
                VerdictResult::Expired => results.expired.push(id),
                VerdictResult::LinkLost => results.link_lost.push(id),
                VerdictResult::Unknown => results.unknown.push(id),
            }
            metrics.verdict(verdict, result);
            if result != VerdictResult::Unknown {
                stream.silent_since = None;
                *acked += 1;
            }
        }
    }

    /// Sends a notice, if there is room: notices are hints, and the next one says how things are then.
    pub(super) fn tell(&mut self, attachment: Attachment, notice: v1::Notice) {
        if let Some(stream) = self.streams.get_mut(attachment) {
            let _ = stream.out.try_send(Ok(other(consume_response::Response::Notice(notice))));
        }
    }
}
