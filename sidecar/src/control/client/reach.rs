//! Getting to a broker and away from it: rounds over all replicas, with waits between them, and what is said aloud of it.

use std::sync::Arc;
use std::time::Duration;

use rand::seq::SliceRandom as _;
use sluice_proto::control::PROTOCOLS;
use sluice_proto::control::v1;
use tonic::Code;
use tracing::{debug, error, info, warn};

use super::Control;
use crate::amqp::fault::Renew;
use crate::control::dial::{self, Dial};
use crate::control::line::{Line, LineError, LineEvent};
use crate::control::report;
use crate::control::time::Time;

/// A broker pings every 5 s. One that is not heard for so long is given up.
pub(super) const SILENCE: Duration = Duration::from_secs(20);

impl<D: Dial, C: Send + Sync + 'static> Control<D, C> {
    /// Begins a round that is due, and gives up a broker that is silent.
    pub(super) fn keep_line(&mut self, at: Time) {
        match &self.line {
            Line::Away(until) if *until <= at => {
                let dial = Arc::clone(&self.dial);
                self.line = Line::Resolving(Box::pin(async move { dial.resolve().await }));
            }
            Line::Open(open) if self.heard + SILENCE <= at => {
                let error = LineError::Silent { replica: open.replica.clone(), silence: SILENCE };
                self.line_lost(at, &error);
            }
            _ => {}
        }
    }

    pub(super) fn on_line(&mut self, event: LineEvent) {
        let at = self.clock.now();
        match event {
            LineEvent::Resolved(Ok(mut replicas)) => {
                // So that not all sidecars try the same one first.
                replicas.shuffle(&mut rand::rng());
                self.candidates = replicas.into();
                self.dial_next(at, None);
            }
            LineEvent::Resolved(Err(error)) => self.line_lost(at, &error.into()),
            LineEvent::Dialed(replica, Ok(channel)) => {
                let hello = self.hello(at);
                self.replica = replica.to_string();
                self.reported.clone_from(&hello.report);
                match Line::hello(replica, channel, &self.settings.token, hello) {
                    Ok(line) => self.line = line,
                    Err(error) => self.line_lost(at, &error),
                }
            }
            LineEvent::Dialed(_, Err(error)) => self.dial_next(at, Some(error.into())),
            LineEvent::Welcomed(Ok(())) => self.welcomed(at),
            LineEvent::Welcomed(Err(error)) => self.dial_next(at, Some(error)),
            LineEvent::Heard(heard) => {
                self.heard = at;
                self.alone.heard(at);
                self.on_message(at, heard);
            }
            LineEvent::Ended(error) => self.line_lost(at, &error),
        }
    }

    /// Tries the next replica of this round. After the last one the round has failed, for the reason of the first.
    pub(super) fn dial_next(&mut self, at: Time, failed: Option<LineError>) {
        match &failed {
            // All replicas but one are like that at any time.
            Some(LineError::Ended { code: Code::Unavailable, .. }) if !self.candidates.is_empty() => {}
            Some(error) => self.said(error),
            None => {}
        }
        match (self.candidates.pop_front(), failed) {
            (Some(replica), _) => {
                let (dial, to) = (Arc::clone(&self.dial), replica.clone());
                self.line = Line::Dialing(replica, Box::pin(async move { dial::open(&*dial, &to).await }));
            }
            (None, Some(error)) => self.line_lost(at, &error),
            (None, None) => self.line = Line::Away(at + self.wait()),
        }
    }

    /// There is no stream. What was asked for on it is asked for again on the next.
    pub(super) fn line_lost(&mut self, at: Time, error: &LineError) {
        if let Line::Open(_) = self.line {
            self.backoff.stood(at.since(self.open_since));
            self.settings.metrics.broker_up(false);
        }
        self.said(error);
        for slot in self.requests.clear() {
            self.ask_again(slot, at);
        }
        self.candidates.clear();
        self.reported = None;
        self.figures_due = Time::NEVER;
        self.line = Line::Away(at + self.wait());
    }

    pub(super) fn wait(&mut self) -> Duration {
        self.backoff.after_failure(Renew::Connection, rand::random())
    }

    /// Says aloud why there is no stream, once for every kind of reason.
    pub(super) fn said(&mut self, error: &LineError) {
        self.reason = error.to_string();
        let reason = &self.reason;
        if self.last_error.as_ref().is_some_and(|last| last.is_like(error)) {
            debug!(%reason, "still no stream to the broker");
            return;
        }
        let held = self.seat.held().map_or(0, |grant| grant.epoch);
        match error {
            LineError::Dial(_) | LineError::Ended { code: Code::Unavailable, .. } => {
                warn!(%reason, held, "no stream to the broker");
            }
            _ => error!(%reason, held, "no stream to the broker"),
        }
        self.last_error = Some(error.clone());
    }

    pub(super) fn hello(&mut self, at: Time) -> v1::Hello {
        let stream = self.seat.open_stream();
        self.seat.tick(at);
        v1::Hello {
            protocol_min: *PROTOCOLS.start(),
            protocol_max: *PROTOCOLS.end(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            consumer_group: self.settings.group.clone(),
            process: self.settings.memory.process(),
            stream,
            report: Some(report::standing(self.seat.standing(at), &self.consumer.borrow())),
            attempted_alone: self.alone.attempted(at),
        }
    }

    pub(super) fn welcomed(&mut self, at: Time) {
        let Line::Open(open) = &self.line else { return };
        info!(broker = %open.replica, operator = open.welcome.version, stream = open.number, "welcomed by the broker");
        self.figures_due = at + open.report_every();
        self.open_since = at;
        self.heard = at;
        self.alone.heard(at);
        self.reason.clear();
        self.last_error = None;
        self.candidates.clear();
        self.reported_at = at;
        self.tally = report::Tally::begin(at, &self.settings.metrics, &self.consumer.borrow());
        self.settings.metrics.broker_up(true);
    }
}
