//! The protocol of one connection after SASL, as a state machine: frames and time in, frames and calls to the platform
//! out. What a client may do is what the platform allows (PLATFORM.md 1.1): sessions, one receiver link over all of them,
//! no sender link. Which AMQP condition the platform closes with is documented nowhere; those here are the emulator's.

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use fe2o3_amqp_types::definitions::{
    AmqpError, ConnectionError, Error, ErrorCondition, Fields, Handle, LinkError, ReceiverSettleMode, Role,
    SenderSettleMode, SessionError,
};
use fe2o3_amqp_types::messaging::DeliveryState;
use fe2o3_amqp_types::performatives::{Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Performative};
use serde::Serialize;
use serde_amqp::primitives::Symbol;
use serde_amqp::{Value, from_slice};
use tracing::{debug, info};

use super::encode;
use super::frame::{BadFrame, Frame, Kind};
use super::preflight;
use super::session::{HandleUse, INCOMING_WINDOW, Link, OUTGOING_WINDOW, Session};
use crate::clock::Micros;
use crate::config::MIN_MAX_FRAME_SIZE;
use crate::platform::{Code, Credit, Door, Outcome, Outgoing, Refusal};
use crate::profile::{OpenIdleTimeOut, OpenProperties};
use crate::terms::Terms;

/// How many handles a session has, less one. One link is allowed; the rest is for saying no.
const HANDLE_MAX: u32 = 255;
/// No more deliveries are written while this many bytes wait for the socket.
const HIGH_WATER: usize = 256 * 1024;
/// How many deliveries are fetched from the platform at a time.
const FETCH: usize = 256;
/// The size of a large property in the Open, in bytes.
const LARGE: usize = 4_096;
/// How long the client may take to answer a close.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

/// A connection's place at the platform: what the protocol asks of it.
pub(crate) trait Seat {
    /// Comes to a door. It takes a client slot of the group at one of them.
    fn pass(&mut self, door: Door) -> Result<(), Refusal>;
    /// The receiver link is there.
    fn attach(&mut self);
    /// The receiver link is gone.
    fn detach(&mut self);
    /// The client says how much it takes.
    fn grant(&mut self, credit: Credit);
    /// The client answers for a range of deliveries.
    fn settle(&mut self, first: u32, last: u32, outcome: Outcome);
    /// Fetches what is to be written next, at most `limit` things.
    fn fetch(&mut self, limit: usize, into: &mut VecDeque<Outgoing>);
    /// Takes what the platform has decided to do to this connection.
    fn orders(&mut self) -> Vec<Order>;
    /// The platform's own log hears of this.
    fn note(&mut self, code: Code, words: &str);
    /// The connection is over.
    fn leave(&mut self);
}

/// Something the platform does to a connection on its own account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Close it in good order (9602 in the platform's log), with an error or without.
    Close(Option<Failure>),
    /// Detach its link, for good or not, with an error or without.
    Detach { failure: Option<Failure>, closed: bool },
    /// Drop the TCP connection without a word.
    Drop,
    // STAND-IN for package B: the four below.
    /// End the link's session, with an error or without.
    End(Option<Failure>),
    /// As if the security token had expired.
    Expire,
    /// Hold the connection back for a time.
    Hinder { what: Hindrance, lasts: Duration },
    /// Spoil the next frame.
    Corrupt(Corruption),
}

// STAND-IN for package B, up to the next line of dashes.
/// What holds a connection back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hindrance {
    NoReading,
    NoWriting,
    Delay(Duration),
}

/// What is spoilt of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Corruption {
    Size,
    DataOffset,
    FormatCode,
    Truncate,
}
// ---------------------------------------------------------

/// A condition and a description, as a close or detach carries them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    condition: ErrorCondition,
    description: String,
}

impl Failure {
    pub(crate) fn new(condition: impl Into<ErrorCondition>, description: impl Into<String>) -> Self {
        Self { condition: condition.into(), description: description.into() }
    }

    /// With a condition by its name, whatever it is.
    pub(crate) fn named(condition: &str, description: impl Into<String>) -> Self {
        Self::new(ErrorCondition::Custom(Symbol::from(condition)), description)
    }

    fn error(self) -> Error {
        Error::new(self.condition, Some(self.description), None)
    }
}

impl From<serde_amqp::Error> for Failure {
    fn from(error: serde_amqp::Error) -> Self {
        Self::new(AmqpError::InternalError, format!("a frame of the server's own can't be encoded: {error}"))
    }
}

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
    heard_at: Micros,
    beat_at: Micros,
    /// When there must be a link at the latest. `None` while there is one.
    link_due: Option<Micros>,
    /// When the security token expires that the client has authenticated with, if that ends the connection.
    expires: Micros,
    out: BytesMut,
}

impl<S: Seat> Connection<S> {
    /// A connection that has just been authenticated.
    pub(crate) fn new(seat: S, terms: Arc<Terms>, now: Micros) -> Self {
        let link_due = Some(now.after(terms.limits.link_deadline));
        Self {
            seat,
            terms,
            phase: Phase::Opening,
            sessions: HashMap::new(),
            link: None,
            max_frame: MIN_MAX_FRAME_SIZE as usize,
            idle: None,
            heard_at: now,
            beat_at: Micros::NEVER,
            link_due,
            expires: Micros::NEVER,
            out: BytesMut::new(),
        }
    }

    /// Ends the connection at this time, since the security token that it was made with expires then.
    pub(crate) fn end_at(&mut self, at: Micros) {
        self.expires = at;
    }

    /// What is to be written to the socket. The caller takes from its front.
    pub(crate) fn out(&mut self) -> &mut BytesMut {
        &mut self.out
    }

    /// The largest frame the client may send.
    pub(crate) fn frame_limit(&self) -> usize {
        self.terms.wire.max_frame_size as usize
    }

    /// Whether the socket can be closed once `out` is written.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over | Phase::Dropped)
    }

    /// Whether the socket is to be closed at once, without a word.
    pub(crate) fn is_dropped(&self) -> bool {
        self.phase == Phase::Dropped
    }

    /// When [`Connection::on_time`] is due.
    pub(crate) fn deadline(&self) -> Micros {
        match self.phase {
            Phase::Opening | Phase::Open => {
                let silent_at = self.idle.map_or(Micros::NEVER, |idle| self.heard_at.after(idle));
                silent_at.min(self.beat_at).min(self.link_due.unwrap_or(Micros::NEVER)).min(self.expires)
            }
            Phase::Closing(until) => until,
            Phase::Over | Phase::Dropped => Micros::NEVER,
        }
    }

    /// A frame came.
    pub(crate) fn on_frame(&mut self, frame: &Frame, now: Micros) {
        self.heard_at = now;
        if frame.body.is_empty() || self.is_over() {
            return;
        }
        if let Err(failure) = decode(frame).and_then(|performative| self.handle(frame.channel, performative, now)) {
            self.fail(failure, now);
        }
    }

    /// What came is not a frame.
    pub(crate) fn on_bad_frame(&mut self, error: BadFrame, now: Micros) {
        self.fail(Failure::new(ConnectionError::FramingError, error.to_string()), now);
    }

    /// Time has passed.
    pub(crate) fn on_time(&mut self, now: Micros) {
        match self.phase {
            Phase::Closing(until) if until <= now => self.phase = Phase::Over,
            Phase::Closing(_) | Phase::Over | Phase::Dropped => {}
            Phase::Opening | Phase::Open => {
                if self.expires <= now {
                    let words = "the security token has expired";
                    return self.fail(Failure::new(AmqpError::UnauthorizedAccess, words), now);
                }
                if let Some(idle) = self.idle {
                    if self.heard_at.after(idle) <= now {
                        let words = format!("no frame within the idle-time-out of {} ms", idle.as_millis());
                        return self.fail(Failure::new(AmqpError::ResourceLimitExceeded, words), now);
                    }
                    if self.beat_at <= now {
                        encode::put_empty(&mut self.out);
                        self.beat_at = now.after(idle / 3);
                    }
                }
                if self.link_due.is_some_and(|due| due <= now) {
                    let words = format!("no receiver link within {} ms", self.terms.limits.link_deadline.as_millis());
                    self.fail(Failure::new(ConnectionError::ConnectionForced, words), now);
                }
            }
        }
    }

    /// Carries out what the platform has decided to do to this connection.
    pub(crate) fn obey(&mut self, now: Micros) {
        for order in self.seat.orders() {
            self.on_order(order, now);
        }
    }

    fn on_order(&mut self, order: Order, now: Micros) {
        match order {
            Order::Close(failure) => self.close(failure, now),
            Order::Drop => {
                self.finish();
                self.phase = Phase::Dropped;
            }
            Order::Detach { failure, closed } => {
                if let Err(failure) = self.detach_link(failure, closed, now) {
                    self.fail(failure, now);
                }
            }
            // STAND-IN for package B.
            Order::End(_) | Order::Expire | Order::Hinder { .. } | Order::Corrupt(_) => {}
        }
    }

    /// Detaches the link, if there is one.
    fn detach_link(&mut self, failure: Option<Failure>, closed: bool, now: Micros) -> Result<(), Failure> {
        let Some(link) = self.drop_link(now) else { return Ok(()) };
        if let Some(session) = self.sessions.get_mut(&link.channel) {
            session.handles.insert(link.handle, HandleUse::Detached);
        }
        let error = failure.map(Failure::error);
        self.put(link.channel, &Detach { handle: Handle(link.handle), closed, error })
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
            if !link.write_next(session, self.max_frame, &mut self.out)? {
                break;
            }
        }
        Ok(())
    }

    fn put(&mut self, channel: u16, body: &impl Serialize) -> Result<(), Failure> {
        Ok(encode::put(&mut self.out, Kind::Amqp, channel, body)?)
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
        let opened = if self.phase == Phase::Opening { self.put(0, &self.own_open(None)) } else { Ok(()) };
        let closed = opened.and_then(|()| self.put(0, &Close { error: failure.map(Failure::error) }));
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
        self.link_due = Some(now.after(self.terms.limits.link_deadline));
        Some(link)
    }

    fn handle(&mut self, channel: u16, performative: Performative, now: Micros) -> Result<(), Failure> {
        match (self.phase, performative) {
            (Phase::Opening, Performative::Open(open)) => self.on_open(&open, now),
            (Phase::Opening, _) => Err(Failure::new(AmqpError::IllegalState, "the first frame must be an open")),
            (Phase::Open, Performative::Close(_)) => {
                self.put(0, &Close { error: None })?;
                self.finish();
                Ok(())
            }
            (Phase::Closing(_), Performative::Close(_)) => {
                self.phase = Phase::Over;
                Ok(())
            }
            (Phase::Closing(_) | Phase::Over | Phase::Dropped, _) => Ok(()),
            (Phase::Open, Performative::Open(_)) => Err(Failure::new(AmqpError::IllegalState, "a second open")),
            (Phase::Open, Performative::Begin(begin)) => self.on_begin(channel, &begin),
            (Phase::Open, Performative::Attach(attach)) => self.on_attach(channel, attach),
            (Phase::Open, Performative::Flow(flow)) => self.on_flow(channel, &flow),
            (Phase::Open, Performative::Disposition(disposition)) => self.on_disposition(channel, disposition),
            (Phase::Open, Performative::Detach(detach)) => self.on_detach(channel, &detach, now),
            (Phase::Open, Performative::End(_)) => self.on_end(channel, now),
            (Phase::Open, Performative::Transfer(_)) => {
                Err(Failure::new(AmqpError::NotAllowed, "a transfer, but this service has no sender links"))
            }
        }
    }

    fn own_open(&self, idle: Option<Duration>) -> Open {
        let mut properties = Fields::new();
        properties.insert(Symbol::from("product"), Value::String("sluice-emulator".to_owned()));
        if self.terms.profile.open_properties == OpenProperties::Large {
            properties.insert(Symbol::from("padding"), Value::String("x".repeat(LARGE)));
        }
        // What is enforced is the client's own value.
        let stated = match self.terms.profile.open_idle_time_out {
            OpenIdleTimeOut::Half => idle.map(|idle| idle / 2),
            OpenIdleTimeOut::Equal => idle,
            OpenIdleTimeOut::Absent => None,
        };
        Open {
            container_id: "sluice-emulator".to_owned(),
            hostname: None,
            max_frame_size: self.terms.wire.max_frame_size.into(),
            channel_max: (self.terms.wire.sessions - 1).into(),
            idle_time_out: stated.and_then(|stated| u32::try_from(stated.as_millis()).ok()),
            outgoing_locales: None,
            incoming_locales: None,
            offered_capabilities: None,
            desired_capabilities: None,
            properties: Some(properties),
        }
    }

    fn on_open(&mut self, open: &Open, now: Micros) -> Result<(), Failure> {
        let idle = open.idle_time_out.map(|millis| Duration::from_millis(millis.into()));
        self.put(0, &self.own_open(idle))?;
        self.phase = Phase::Open;
        let (min, max) = (self.terms.limits.idle_time_out_min, self.terms.limits.idle_time_out_max);
        let idle = idle.filter(|idle| (min..=max).contains(idle)).ok_or_else(|| {
            let found = open.idle_time_out.map_or_else(|| "none".to_owned(), |millis| format!("{millis} ms"));
            let (min, max) = (min.as_millis(), max.as_millis());
            let words = format!("heartbeat not acceptable: idle-time-out is {found}, must be {min} to {max} ms (9601)");
            Failure::new(AmqpError::InvalidField, words)
        })?;
        if open.max_frame_size.0 < MIN_MAX_FRAME_SIZE {
            let words = format!("max-frame-size is {}, must be {MIN_MAX_FRAME_SIZE} or more", open.max_frame_size.0);
            return Err(Failure::new(AmqpError::InvalidField, words));
        }
        let refused = self.seat.pass(Door::Open);
        refused.map_err(|refusal| Failure::new(AmqpError::ResourceLimitExceeded, refusal.to_string()))?;
        self.max_frame = open.max_frame_size.0.min(self.terms.wire.max_frame_size) as usize;
        self.idle = Some(idle);
        self.beat_at = now.after(idle / 3);
        self.link_due = Some(now.after(self.terms.limits.link_deadline));
        debug!(container = open.container_id, idle_ms = idle.as_millis(), "connection open");
        Ok(())
    }

    fn on_begin(&mut self, channel: u16, begin: &Begin) -> Result<(), Failure> {
        if channel >= self.terms.wire.sessions {
            let words = format!("channel {channel}, but channel-max is {}", self.terms.wire.sessions - 1);
            return Err(Failure::new(ConnectionError::FramingError, words));
        }
        if self.sessions.contains_key(&channel) {
            return Err(Failure::new(AmqpError::IllegalState, format!("a second begin on channel {channel}")));
        }
        let session = Session::new(begin.next_outgoing_id, begin.incoming_window);
        let reply = Begin {
            remote_channel: Some(channel),
            next_outgoing_id: session.next_outgoing_id(),
            incoming_window: INCOMING_WINDOW,
            outgoing_window: OUTGOING_WINDOW,
            handle_max: Handle(HANDLE_MAX),
            offered_capabilities: None,
            desired_capabilities: None,
            properties: None,
        };
        self.sessions.insert(channel, session);
        self.put(channel, &reply)
    }

    fn session(&mut self, channel: u16) -> Result<&mut Session, Failure> {
        self.sessions
            .get_mut(&channel)
            .ok_or_else(|| Failure::new(ConnectionError::FramingError, format!("no session on channel {channel}")))
    }

    fn on_attach(&mut self, channel: u16, attach: Attach) -> Result<(), Failure> {
        let handle = attach.handle.0;
        let taken = self.link.is_some();
        let session = self.session(channel)?;
        if handle > HANDLE_MAX {
            let words = format!("handle {handle}, but handle-max is {HANDLE_MAX}");
            return Err(Failure::new(ConnectionError::FramingError, words));
        }
        if session.handles.contains_key(&handle) {
            return Err(Failure::new(SessionError::HandleInUse, format!("handle {handle} is in use")));
        }
        let refused = match attach.role {
            Role::Sender => Some("a sender link, but this service sends only"),
            Role::Receiver if taken => Some("a connection can have one receiver link, and this one has it"),
            Role::Receiver => None,
        };
        session.handles.insert(handle, if refused.is_some() { HandleUse::Detached } else { HandleUse::Link });
        let link = Link::new(channel, handle, attach.max_message_size, session);
        self.put(channel, &attach_reply(attach, refused.is_some()))?;
        if let Some(words) = refused {
            return self.put(channel, &refusal(handle, Failure::new(AmqpError::NotAllowed, words)));
        }
        self.link = Some(link);
        self.link_due = None;
        self.seat.attach();
        Ok(())
    }

    fn on_flow(&mut self, channel: u16, flow: &Flow) -> Result<(), Failure> {
        let session = self.session(channel)?;
        session.update_window(flow);
        let Some(Handle(handle)) = flow.handle else {
            if flow.echo {
                let reply = session.flow(None, false);
                self.put(channel, &reply)?;
            }
            return Ok(());
        };
        match session.handles.get(&handle) {
            None => Err(Failure::new(SessionError::UnattachedHandle, format!("no link has the handle {handle}"))),
            Some(HandleUse::Detached) => Ok(()),
            Some(HandleUse::Link) => self.on_link_flow(channel, flow),
        }
    }

    fn on_link_flow(&mut self, channel: u16, flow: &Flow) -> Result<(), Failure> {
        let Some(link) = &mut self.link else { return Ok(()) };
        if let Some(link_credit) = flow.link_credit {
            link.granted(flow);
            self.seat.grant(Credit { delivery_count: flow.delivery_count, link_credit, drain: flow.drain });
        }
        if flow.echo && !flow.drain {
            let reply = self.sessions.get(&channel).map(|session| session.flow(self.link.as_ref(), false));
            return reply.map_or(Ok(()), |reply| self.put(channel, &reply));
        }
        Ok(())
    }

    fn on_disposition(&mut self, channel: u16, disposition: Disposition) -> Result<(), Failure> {
        self.session(channel)?;
        let Some(link) = self.link.as_ref().filter(|link| link.channel == channel) else { return Ok(()) };
        if disposition.role == Role::Sender {
            return Ok(());
        }
        let (first, last) = (disposition.first, disposition.last.unwrap_or(disposition.first));
        if last.wrapping_sub(first).cast_signed() < 0 {
            return Err(Failure::new(AmqpError::InvalidField, format!("a disposition from {first} to {last}")));
        }
        let outcome = match &disposition.state {
            Some(DeliveryState::Accepted(_)) => Outcome::Accepted,
            Some(DeliveryState::Released(_)) => Outcome::Released,
            Some(DeliveryState::Rejected(_)) => Outcome::Rejected,
            Some(DeliveryState::Modified(_)) => Outcome::Modified,
            Some(DeliveryState::Received(_)) | None if disposition.settled => Outcome::Unspecified,
            Some(DeliveryState::Received(_)) | None => return Ok(()),
        };
        self.seat.settle(link.number(first), link.number(last), outcome);
        if disposition.settled {
            return Ok(());
        }
        // The client waits for the other side to settle.
        self.put(channel, &Disposition { role: Role::Sender, settled: true, ..disposition })
    }

    fn on_detach(&mut self, channel: u16, detach: &Detach, now: Micros) -> Result<(), Failure> {
        let handle = detach.handle.0;
        match self.session(channel)?.handles.remove(&handle) {
            None => Err(Failure::new(SessionError::UnattachedHandle, format!("no link has the handle {handle}"))),
            Some(HandleUse::Detached) => Ok(()),
            Some(HandleUse::Link) => {
                self.drop_link(now);
                self.put(channel, &Detach { handle: Handle(handle), closed: detach.closed, error: None })
            }
        }
    }

    fn on_end(&mut self, channel: u16, now: Micros) -> Result<(), Failure> {
        self.session(channel)?;
        if self.link.as_ref().is_some_and(|link| link.channel == channel) {
            self.drop_link(now);
        }
        self.sessions.remove(&channel);
        self.put(channel, &End { error: None })
    }
}

fn decode(frame: &Frame) -> Result<Performative, Failure> {
    preflight::check(&frame.body).map_err(|error| Failure::new(AmqpError::DecodeError, error.to_string()))?;
    from_slice(&frame.body).map_err(|error| Failure::new(AmqpError::DecodeError, error.to_string()))
}

/// The answer to an attach. A refused one has no terminus on the emulator's side, which tells the client that a detach
/// follows (AMQP 1.0, 2.6.3). The source's address has no meaning (PLATFORM.md 1.5), so it comes back as it was.
fn attach_reply(attach: Attach, refused: bool) -> Attach {
    let client_sends = attach.role == Role::Sender;
    Attach {
        role: if client_sends { Role::Receiver } else { Role::Sender },
        snd_settle_mode: SenderSettleMode::Unsettled,
        rcv_settle_mode: ReceiverSettleMode::First,
        source: if refused && !client_sends { None } else { Some(attach.source.unwrap_or_default()) },
        target: if refused && client_sends { None } else { attach.target },
        unsettled: None,
        incomplete_unsettled: false,
        initial_delivery_count: if client_sends { None } else { Some(0) },
        max_message_size: None,
        offered_capabilities: None,
        desired_capabilities: None,
        properties: None,
        ..attach
    }
}

fn refusal(handle: u32, failure: Failure) -> Detach {
    Detach { handle: Handle(handle), closed: true, error: Some(failure.error()) }
}
