//! The protocol of one connection after SASL, as a state machine: frames and time in, frames and calls to the platform
//! out. What a client may do is what the platform allows (PLATFORM.md 1.1): sessions, one receiver link over all of them,
//! no sender link. Which AMQP condition the platform closes with is documented nowhere; those here are the emulator's.
//!
//! Here are its phases and its times; [`performatives`] is what it does about each frame, [`orders`] what the platform has
//! it do.

mod orders;
mod performatives;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use fe2o3_amqp_types::definitions::{AmqpError, ConnectionError, Error, LinkError};
use fe2o3_amqp_types::performatives::{Close, Performative};
use serde::Serialize;
use serde_amqp::from_slice;
use tracing::info;

use super::corruption::Corruption;
use super::encode;
use super::failure::{self, Failure};
use super::frame::{self, BadFrame, Frame, Kind};
use super::hindrance::Hindrances;
use super::preflight;
use super::seat::Seat;
use super::session::{Link, Session};
use crate::clock::Micros;
use crate::config::MIN_MAX_FRAME_SIZE;
use crate::platform::Code;
use crate::profile::TokenExpiry;
use crate::rules::Rule;
use crate::terms::Terms;

/// No more deliveries are written while this many bytes wait for the socket.
const HIGH_WATER: usize = 256 * 1024;
/// Nothing is read while this many bytes wait for the socket: who does not read what it causes is not heard either.
const OUT_BOUND: usize = 1024 * 1024;
/// How many deliveries are fetched from the platform at a time.
const FETCH: usize = 256;
/// What a Close takes besides its description, at most.
const BESIDE_WORDS: usize = 200;
/// How long the client may take to answer a close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nothing but an Open may come.
    Opening,
    Open,
    /// The emulator has sent its Close and waits for the client's until then.
    Closing(Micros),
    /// Both sides have closed, or no answer came.
    Over,
    /// Over, and the client is not to hear of it.
    Dropped,
}

/// The state machine. See the module.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    seat: S,
    terms: Arc<Terms>,
    phase: Phase,
    sessions: HashMap<u16, Session>,
    link: Option<Link>,
    /// The largest frame that may be written: the smaller one of both sides' limits.
    max_frame: usize,
    /// The client's idle-time-out, once it has said one.
    idle: Option<Duration>,
    /// When the client was last heard. While a fault keeps the emulator from reading, when that ends.
    heard_at: Micros,
    beat_at: Micros,
    /// When there must be a link at the latest. `None` while there is one.
    link_due: Option<Micros>,
    /// When the security token expires that the client has authenticated with, if that ends the connection.
    expires: Micros,
    hindrances: Hindrances,
    /// What is done to the next frame.
    corruption: Option<Corruption>,
    out: BytesMut,
}

impl<S: Seat> Connection<S> {
    /// A connection that has just been authenticated.
    pub(crate) fn new(seat: S, terms: Arc<Terms>, now: Micros) -> Self {
        let mut connection = Self {
            seat,
            terms,
            phase: Phase::Opening,
            sessions: HashMap::new(),
            link: None,
            max_frame: MIN_MAX_FRAME_SIZE as usize,
            idle: None,
            heard_at: now,
            beat_at: Micros::NEVER,
            link_due: None,
            expires: Micros::NEVER,
            hindrances: Hindrances::default(),
            corruption: None,
            out: BytesMut::new(),
        };
        connection.await_link(now);
        connection
    }

    /// The security token that the connection was made with expires at this time.
    pub(crate) fn token_ends(&mut self, at: Micros) {
        if self.terms.profile.token_expiry == TokenExpiry::Closes {
            self.expires = at;
        }
    }

    /// What waits for the socket.
    pub(crate) fn unsent(&self) -> &[u8] {
        &self.out
    }

    /// How much of it may be written now.
    pub(crate) fn may_leave(&mut self, now: Micros) -> usize {
        self.hindrances.may_leave(self.out.len(), now)
    }

    /// So much of it has been written.
    pub(crate) fn left(&mut self, count: usize) {
        self.out.advance(count);
        self.hindrances.left(count);
    }

    /// Whether to read from the socket.
    pub(crate) fn may_read(&self) -> bool {
        self.hindrances.may_read() && (self.out.len() < OUT_BOUND || !self.terms.keeps(Rule::OutBound))
    }

    /// The largest frame the client may send.
    fn frame_limit(&self) -> usize {
        if self.terms.keeps(Rule::MaxFrame) { self.terms.wire.max_frame_size as usize } else { usize::MAX }
    }

    /// Whether the socket can be closed once everything is written.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over | Phase::Dropped)
    }

    /// Whether the socket is to be closed at once, without a word.
    pub(crate) fn is_dropped(&self) -> bool {
        self.phase == Phase::Dropped || !self.hindrances.may_write()
    }

    /// When [`Connection::on_time`] is due.
    pub(crate) fn deadline(&self) -> Micros {
        let own = match self.phase {
            Phase::Opening | Phase::Open => {
                self.silent_at().min(self.beat_at).min(self.link_due.unwrap_or(Micros::NEVER)).min(self.expires)
            }
            Phase::Closing(until) => until,
            Phase::Over | Phase::Dropped => return Micros::NEVER,
        };
        own.min(self.hindrances.deadline())
    }

    /// When the client has been silent for too long.
    fn silent_at(&self) -> Micros {
        match self.idle {
            Some(idle) if self.terms.keeps(Rule::IdleKept) => self.heard_at.after(idle),
            _ => Micros::NEVER,
        }
    }

    /// Bytes came. Takes the frames that are whole off their front.
    pub(crate) fn on_bytes(&mut self, input: &mut BytesMut, now: Micros) {
        while self.may_read() {
            match frame::next(input, Kind::Amqp, self.frame_limit()) {
                Ok(Some(frame)) => self.on_frame(&frame, now),
                Ok(None) => break,
                Err(error) => {
                    // Where the next frame begins is unknown from here on.
                    input.clear();
                    self.on_bad_frame(error, now);
                    break;
                }
            }
        }
    }

    fn on_frame(&mut self, frame: &Frame, now: Micros) {
        self.heard_at = self.heard_at.max(now);
        if frame.body.is_empty() || self.is_over() {
            return;
        }
        if let Err(failure) = self.decode(frame).and_then(|it| self.handle(frame.channel, it, now)) {
            self.fail(failure, now);
        }
    }

    fn on_bad_frame(&mut self, error: BadFrame, now: Micros) {
        self.fail(Failure::new(ConnectionError::FramingError, error.to_string()), now);
    }

    fn decode(&self, frame: &Frame) -> Result<Performative, Failure> {
        let depth = if self.terms.keeps(Rule::FrameDepth) { preflight::MAX_DEPTH } else { u8::MAX };
        let undecodable = |words: String| Failure::new(AmqpError::DecodeError, words);
        let body = preflight::readable(&frame.body, depth).map_err(|error| undecodable(error.to_string()))?;
        from_slice(&body).map_err(|error| undecodable(error.to_string()))
    }

    /// Time has passed.
    pub(crate) fn on_time(&mut self, now: Micros) {
        self.hindrances.on_time(now);
        match self.phase {
            Phase::Closing(until) if until <= now => self.phase = Phase::Over,
            Phase::Closing(_) | Phase::Over | Phase::Dropped => {}
            Phase::Opening | Phase::Open => {
                if self.expires <= now {
                    self.fail(expired(), now);
                } else if self.silent_at() <= now {
                    let idle = self.idle.unwrap_or_default().as_millis();
                    let words = format!("no frame within the idle-time-out of {idle} ms");
                    self.fail(Failure::new(AmqpError::ResourceLimitExceeded, words), now);
                } else if self.link_due.is_some_and(|due| due <= now) {
                    let words = format!("no receiver link within {} ms", self.terms.limits.link_deadline.as_millis());
                    self.fail(Failure::new(ConnectionError::ConnectionForced, words), now);
                } else if self.beat_at <= now {
                    self.beat(now);
                }
            }
        }
    }

    fn beat(&mut self, now: Micros) {
        let start = self.out.len();
        encode::put_empty(&mut self.out);
        spoil(&mut self.corruption, &mut self.out, start);
        self.await_beat(now);
    }

    /// A sign of life is due after a third of what the client has said.
    fn await_beat(&mut self, now: Micros) {
        self.beat_at = self.idle.map_or(Micros::NEVER, |idle| now.after(idle / 3));
    }

    fn await_link(&mut self, now: Micros) {
        let due = now.after(self.terms.limits.link_deadline);
        self.link_due = self.terms.keeps(Rule::LinkDeadline).then_some(due);
    }

    /// Writes the deliveries that are ready, as far as the session's window and the socket allow.
    pub(crate) fn pump(&mut self, now: Micros) {
        if let Err(failure) = self.try_pump(now) {
            self.fail(failure, now);
        }
    }

    fn try_pump(&mut self, now: Micros) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return Ok(()) };
        let Some(session) = self.sessions.get_mut(&link.channel) else { return Ok(()) };
        while self.out.len() < HIGH_WATER {
            if link.queue().is_empty() {
                self.seat.fetch(FETCH, link.queue());
            }
            // What the platform does with a message that the client does not take is undocumented. It must not be sent
            // (AMQP 1.0, 2.7.3), and to pass over it in silence would hide it; so the link goes, and says why.
            if let Some(words) = link.oversized() {
                let failure = Failure::new(LinkError::MessageSizeExceeded, words);
                return self.detach_link(Some(failure), true, now);
            }
            let start = self.out.len();
            if !link.write_next(session, self.max_frame, &mut self.out)? {
                break;
            }
            spoil(&mut self.corruption, &mut self.out, start);
        }
        Ok(())
    }

    /// Writes a frame, if the client takes one of its size.
    fn put(&mut self, channel: u16, body: &impl Serialize) -> Result<(), Failure> {
        self.put_within(self.max_frame, channel, body)
    }

    fn put_within(&mut self, max_frame: usize, channel: u16, body: &impl Serialize) -> Result<(), Failure> {
        let start = self.out.len();
        encode::put(&mut self.out, Kind::Amqp, channel, body)?;
        let size = self.out.len() - start;
        if size > max_frame {
            self.out.truncate(start);
            let words = format!("an answer of {size} bytes is due, and the client takes {max_frame}");
            return Err(Failure::new(AmqpError::FrameSizeTooSmall, words));
        }
        spoil(&mut self.corruption, &mut self.out, start);
        Ok(())
    }

    /// What is said of `failure`, short enough for a frame.
    fn words(&self, failure: Option<Failure>) -> Option<Error> {
        let room = self.max_frame - BESIDE_WORDS;
        failure::words(failure.map(|it| it.within(room)), self.terms.profile.closing_words)
    }

    /// Closes the connection with an error, and waits a little for the client to close its side.
    fn fail(&mut self, failure: Failure, now: Micros) {
        self.close(Some(failure), now);
    }

    fn close(&mut self, failure: Option<Failure>, now: Micros) {
        if !matches!(self.phase, Phase::Opening | Phase::Open) {
            return;
        }
        info!(?failure, "connection closed by the platform");
        match failure.as_ref().map(|failure| (failure.code(), failure.description())) {
            // Whoever refused it has written that down.
            Some((Code::Surplus, _)) => {}
            Some((code, words)) => self.seat.note(code, words),
            None => self.seat.note(Code::Closed, "no reason given"),
        }
        let opened = if self.phase == Phase::Opening { self.put_open(None) } else { Ok(()) };
        let error = self.words(failure);
        let closed = opened.and_then(|()| self.put(0, &Close { error }));
        self.finish();
        if closed.is_ok() {
            self.phase = Phase::Closing(now.after(CLOSE_DEADLINE));
        }
    }

    fn finish(&mut self) {
        self.link = None;
        self.seat.leave();
        self.phase = Phase::Over;
    }

    fn drop_link(&mut self, now: Micros) -> Option<Link> {
        let link = self.link.take()?;
        self.seat.detach();
        self.await_link(now);
        Some(link)
    }
}

fn expired() -> Failure {
    Failure::new(AmqpError::UnauthorizedAccess, "the security token has expired")
}

/// Spoils the frame that begins at `start`, if one is to be spoilt.
fn spoil(corruption: &mut Option<Corruption>, out: &mut BytesMut, start: usize) {
    if corruption.is_some_and(|corruption| corruption.spoil(out, start)) {
        *corruption = None;
    }
}
