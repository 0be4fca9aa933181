//! The consumer towards the platform: when to connect, what a lost link means, when to give one up.

use std::time::Instant;

use tracing::{error, info, warn};

use super::attempt::{Link, LinkEvent};
use super::status::LinkPhase;
use super::{Consumer, IDLE};
use crate::amqp::fault::{Fault, Renew};
use crate::clock;
use crate::ledger::LinkEpoch;
use crate::permit::Permits;
use crate::source::{Connect, Source};
use crate::stream::table::Attachment;

impl<C: Connect, P: Permits> Consumer<C, P> {
    pub(super) fn on_link(&mut self, event: LinkEvent<C::Source>) {
        let now = clock::now();
        match event {
            LinkEvent::Due => self.connect(now),
            LinkEvent::Attempted(Ok(source)) => {
                let epoch = LinkEpoch(self.epoch);
                self.ledger.link_up(epoch);
                self.up_since = now;
                self.metrics.link_up(true);
                if let Link::Idle(permits) = std::mem::replace(&mut self.link, Link::Moving) {
                    self.link = Link::Up(permits, epoch, source);
                }
                info!(epoch = self.epoch, "link attached");
                self.announce(LinkPhase::Up, String::new());
            }
            LinkEvent::Attempted(Err(failure)) => self.wait(now, failure.renew(), &failure),
            LinkEvent::Received(Ok(mark)) => self.written(mark),
            LinkEvent::Received(Err(fault)) => self.lost(now, &fault),
        }
    }

    pub(super) fn connect(&mut self, now: Instant) {
        let permits = match std::mem::replace(&mut self.link, Link::Moving) {
            Link::Idle(permits) | Link::Waiting(permits, _) => permits,
            other => {
                self.link = other;
                return;
            }
        };
        let unread = self.streams.is_empty() && now >= self.unread_since + IDLE;
        if unread || self.draining.is_some() {
            self.link = Link::Idle(permits);
            self.announce(LinkPhase::Idle, String::new());
            return;
        }
        self.epoch += 1;
        self.metrics.connect_attempt();
        self.link = Link::connect(&self.connector, permits, LinkEpoch(self.epoch));
        // Why the last attempt failed stays known until one succeeds.
        let reason = self.status.borrow().reason.clone();
        self.announce(LinkPhase::Connecting, reason);
    }

    /// An attempt failed or a link was lost: the next attempt waits.
    pub(super) fn wait(&mut self, now: Instant, renew: Renew, reason: &dyn std::fmt::Display) {
        let wait = self.backoff.after_failure(renew, rand::random());
        if renew == Renew::Credentials {
            error!(%renew, retry_in_ms = wait.as_millis(), %reason, "link refused");
        } else {
            warn!(%renew, retry_in_ms = wait.as_millis(), %reason, "link down");
        }
        self.metrics.link_failure(renew);
        self.link = match std::mem::replace(&mut self.link, Link::Moving) {
            Link::Idle(permits) | Link::Waiting(permits, _) | Link::Up(permits, ..) => {
                Link::Waiting(permits, now + wait)
            }
            other => other,
        };
        let phase = if renew == Renew::Credentials { LinkPhase::Down } else { LinkPhase::Connecting };
        self.announce(phase, reason.to_string());
    }

    pub(super) fn lost(&mut self, now: Instant, fault: &Fault) {
        let Link::Up(permits, epoch, source) = std::mem::replace(&mut self.link, Link::Moving) else {
            return;
        };
        // The peer may still listen for our reason; nothing here waits for it.
        tokio::spawn(source.close());
        self.link = Link::Idle(permits);
        self.link_gone(now, epoch);
        self.backoff.stood(now.saturating_duration_since(self.up_since));
        self.wait(now, fault.renew(), fault);
    }

    /// What was on a link that is gone gets no outcome: whoever waits for a result hears that.
    pub(super) fn link_gone(&mut self, now: Instant, epoch: LinkEpoch) {
        self.ledger.link_lost(now, epoch);
        self.metrics.link_up(false);
        for entry in std::mem::take(&mut self.unwritten) {
            if let Some(stream) = self.streams.of_client(entry.stream) {
                stream.results.link_lost.push(entry.lease.0);
            }
        }
    }

    /// Nobody reads: the client slot is better with somebody else. What has come on credit given before goes back.
    pub(super) fn give_up_link(&mut self, now: Instant) {
        if let Link::Up(..) = self.link {
            self.ledger.hand_back_all(now);
            self.settle(now);
        }
        match std::mem::replace(&mut self.link, Link::Moving) {
            Link::Up(permits, epoch, source) => {
                self.link = Link::Idle(permits);
                tokio::spawn(source.close());
                self.link_gone(now, epoch);
                info!("link given up: no stream has been attached for a minute");
                self.announce(LinkPhase::Idle, String::new());
            }
            Link::Waiting(permits, _) => {
                self.link = Link::Idle(permits);
                self.announce(LinkPhase::Idle, String::new());
            }
            other => self.link = other,
        }
    }

    pub(super) fn announce(&mut self, phase: LinkPhase, reason: String) {
        let epoch = self.epoch;
        self.status.send_modify(|snapshot| snapshot.link_is(phase, epoch, reason));
        let notice = self.status.borrow().notice();
        let all: Vec<Attachment> = self.streams.iter_mut().map(|(attachment, _)| attachment).collect();
        for attachment in all {
            self.tell(attachment, notice.clone());
        }
    }
}
