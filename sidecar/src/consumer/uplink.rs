//! The consumer towards the platform: when to connect, what a lost link means, when to give one up.

use std::collections::VecDeque;
use std::time::Instant;

use tracing::{error, info, warn};

use super::attempt::{Link, LinkEvent};
use super::status::LinkPhase;
use super::{Consumer, IDLE, Unwritten};
use crate::amqp::engine::Incoming;
use crate::amqp::fault::{Fault, Renew};
use crate::backoff::{self, Backoff};
use crate::clock;
use crate::ledger::LinkEpoch;
use crate::permit::{Permits, Place};
use crate::source::{Connect, Mark, Source};
use crate::stream::table::Attachment;

/// One client slot, and the link for it.
pub(super) struct Uplink<S> {
    pub(super) place: Place,
    pub(super) link: Link<S>,
    backoff: Backoff,
    /// The number of its last attempt.
    pub(super) epoch: LinkEpoch,
    /// When the present link, or the last one, began to stand.
    up_since: Instant,
    pub(super) phase: LinkPhase,
    pub(super) reason: String,
    /// Verdicts whose settlement is not written yet, in the order of their marks.
    pub(super) unwritten: VecDeque<Unwritten>,
    /// How far writing must come for what was settled in this turn.
    pub(super) mark: Mark,
    /// What has come and is not taken in yet.
    pub(super) deliveries: Vec<Incoming>,
}

impl<S: Source + 'static> Uplink<S> {
    pub(super) fn new(place: Place, now: Instant) -> Self {
        Self {
            place,
            link: Link::Idle,
            backoff: Backoff::default(),
            epoch: LinkEpoch(0),
            up_since: now,
            phase: LinkPhase::Idle,
            reason: String::new(),
            unwritten: VecDeque::new(),
            mark: Mark(0),
            deliveries: Vec::new(),
        }
    }
}

impl<C: Connect, P: Permits> Consumer<C, P> {
    pub(super) fn on_link(&mut self, place: usize, event: LinkEvent<C::Source>) {
        let now = clock::now();
        let uplink = &mut self.uplinks[place];
        match event {
            LinkEvent::Due => self.connect(now, place),
            LinkEvent::Attempted(Ok(source)) => {
                let epoch = uplink.epoch;
                uplink.up_since = now;
                uplink.link = Link::Up(epoch, source);
                self.ledger.link_up(epoch);
                info!(epoch = epoch.0, slot = uplink.place.slot, "link attached");
                self.announce(place, LinkPhase::Up, String::new());
            }
            LinkEvent::Attempted(Err(failure)) => {
                if !failure.is_known() {
                    self.unconfirmed = Some(now);
                }
                let wait = self.failed(now, place, failure.renew(), &failure);
                self.uplinks[place].link = Link::Waiting(wait);
            }
            LinkEvent::Received(Ok(mark)) => self.written(place, mark),
            LinkEvent::Received(Err(fault)) => self.lost(now, place, &fault),
            LinkEvent::Closed(known) => self.closed(now, place, known),
        }
    }

    /// Begins an attempt, unless one is under way or none is wanted.
    pub(super) fn connect(&mut self, now: Instant, place: usize) {
        let unread = self.streams.is_empty() && now >= self.unread_since + IDLE;
        let uplink = &mut self.uplinks[place];
        if !matches!(uplink.link, Link::Idle | Link::Waiting(_)) {
            return;
        }
        let Some(connector) = self.connector.clone().filter(|_| !unread && self.leaving.is_none()) else {
            uplink.link = Link::Idle;
            self.announce(place, LinkPhase::Idle, String::new());
            return;
        };
        self.epoch += 1;
        uplink.epoch = LinkEpoch(self.epoch);
        self.metrics.connect_attempt();
        uplink.link = Link::connect(connector, self.permits.clone(), uplink.place, uplink.epoch);
        // Why the last attempt failed stays known until one succeeds.
        let reason = std::mem::take(&mut uplink.reason);
        self.announce(place, LinkPhase::Connecting, reason);
    }

    /// An attempt failed or a link was lost. Returns when the next attempt may come.
    fn failed(&mut self, now: Instant, place: usize, renew: Renew, reason: &dyn std::fmt::Display) -> Instant {
        let uplink = &mut self.uplinks[place];
        let slot = uplink.place.slot;
        let wait = uplink.backoff.after_failure(renew, rand::random());
        if renew == Renew::Credentials {
            error!(%renew, slot, retry_in_ms = wait.as_millis(), %reason, "link refused");
        } else {
            warn!(%renew, slot, retry_in_ms = wait.as_millis(), %reason, "link down");
        }
        self.metrics.link_failure(renew);
        let phase = if renew == Renew::Credentials { LinkPhase::Down } else { LinkPhase::Connecting };
        self.announce(place, phase, reason.to_string());
        now + wait
    }

    /// What refused credentials were made of has changed: nobody has to wait for the next probe.
    pub(super) fn try_refused_again(&mut self, now: Instant) {
        for uplink in self.uplinks.iter_mut().filter(|uplink| uplink.phase == LinkPhase::Down) {
            if let Link::Waiting(next) | Link::Closing(_, Some(next)) = &mut uplink.link {
                *next = (now + backoff::soon(rand::random())).min(*next);
            }
        }
    }

    /// A link is lost. The next one is not opened before this one is closed: the platform would count both.
    ///
    /// It does wait no longer than that takes, which is 3 s at most, even if the platform does not confirm the end. So for
    /// up to the idle time-out the platform may know two connections of this slot, of one client ID. That is on purpose: to
    /// wait would stop consumption for a minute after every cut, and whoever counts slots counts this one until the old
    /// connection is dead as well (`unconfirmed`). What it assumes of the platform: that a client ID which comes anew takes
    /// the place of its old connection, or that both are counted for no longer than the idle time-out.
    pub(super) fn lost(&mut self, now: Instant, place: usize, fault: &Fault) {
        let uplink = &mut self.uplinks[place];
        match std::mem::replace(&mut uplink.link, Link::Idle) {
            Link::Up(epoch, source) => {
                uplink.backoff.stood(now.saturating_duration_since(uplink.up_since));
                self.link_gone(now, place, epoch);
                // Its credentials were good, and may have been renewed since: only an attempt says that they are refused.
                let renew = match fault.renew() {
                    Renew::Credentials => Renew::Connection,
                    other => other,
                };
                let next = self.failed(now, place, renew, fault);
                self.uplinks[place].link = Link::close(source, Some(next));
            }
            other => uplink.link = other,
        }
    }

    /// What was on a link that is gone gets no outcome: whoever waits for a result hears that.
    fn link_gone(&mut self, now: Instant, place: usize, epoch: LinkEpoch) {
        self.ledger.link_lost(now, epoch);
        for entry in std::mem::take(&mut self.uplinks[place].unwritten) {
            if let Some(stream) = self.streams.of_client(entry.stream) {
                stream.results.link_lost.push(entry.lease.0);
            }
        }
    }

    /// Nobody reads: the client slots are better with somebody else. What has come on credit given before goes back.
    pub(super) fn give_up_links(&mut self, now: Instant) {
        if self.uplinks.iter().any(|uplink| matches!(uplink.link, Link::Up(..) | Link::Waiting(_))) {
            info!("links given up: no stream has been attached for a minute");
            self.close_links(now);
        }
    }

    /// Hands everything back and closes every link. An attempt under way is dropped, unless it is under way for somebody.
    pub(super) fn close_links(&mut self, now: Instant) {
        self.handed_back = self.ledger.held().messages;
        self.ledger.hand_back_all(now);
        self.settle(now);
        let leaving = self.leaving.is_some();
        for place in 0..self.uplinks.len() {
            let uplink = &mut self.uplinks[place];
            match std::mem::replace(&mut uplink.link, Link::Idle) {
                Link::Up(epoch, source) => {
                    uplink.link = Link::close(source, None);
                    // What was settled is still to be written, before the end is.
                    self.ledger.link_lost(now, epoch);
                }
                Link::Closing(closing, _) => uplink.link = Link::Closing(closing, None),
                attempt @ Link::Connecting(_) if !leaving => {
                    uplink.link = attempt;
                    continue;
                }
                Link::Connecting(attempt) => {
                    if attempt.is_made() {
                        self.unconfirmed = Some(now);
                    }
                }
                Link::Idle | Link::Waiting(_) => {}
            }
            self.announce(place, LinkPhase::Idle, String::new());
        }
    }

    /// A link is closed. Its end is written behind the last settlements, so a platform that confirms it has them.
    fn closed(&mut self, now: Instant, place: usize, known: bool) {
        let uplink = &self.uplinks[place];
        let (slot, epoch) = (uplink.place.slot, uplink.epoch);
        if known {
            self.written(place, Mark(u64::MAX));
        } else {
            warn!(slot, "the platform did not confirm the end of the link");
            self.unconfirmed = Some(now);
            self.link_gone(now, place, epoch);
        }
        // Somebody may have come meanwhile.
        self.connect_idle(now);
    }

    /// A link's state has changed: everybody is told.
    pub(super) fn announce(&mut self, place: usize, phase: LinkPhase, reason: String) {
        let uplink = &mut self.uplinks[place];
        uplink.phase = phase;
        uplink.reason = reason;
        self.announce_links();
    }

    /// The state of the links together has changed: everybody is told.
    pub(super) fn announce_links(&mut self) {
        let up = self.uplinks.iter().filter(|uplink| uplink.phase == LinkPhase::Up).count();
        self.metrics.links_up(up);
        let (uplinks, standing_by, epoch) = (&self.uplinks, &self.standing_by, self.epoch);
        self.status.send_modify(|snapshot| {
            let links = uplinks.iter().map(|uplink| (uplink.place.slot, uplink.phase, uplink.reason.as_str()));
            snapshot.links_are(links, standing_by, epoch);
        });
        let notice = self.status.borrow().notice();
        let all: Vec<Attachment> = self.streams.iter_mut().map(|(attachment, _)| attachment).collect();
        for attachment in all {
            self.tell(attachment, notice.clone());
        }
    }
}
