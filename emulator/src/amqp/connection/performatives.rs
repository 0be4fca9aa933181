//! What a connection does about each performative.

use std::time::Duration;

use fe2o3_amqp_types::definitions::{
    AmqpError, ConnectionError, Fields, Handle, ReceiverSettleMode, Role, SenderSettleMode, SessionError,
};
use fe2o3_amqp_types::messaging::DeliveryState;
use fe2o3_amqp_types::performatives::{Attach, Begin, Close, Detach, Disposition, End, Flow, Open, Performative};
use serde_amqp::Value;
use serde_amqp::primitives::Symbol;
use tracing::debug;

use super::{Connection, Phase};
use crate::amqp::failure::Failure;
use crate::amqp::seat::Seat;
use crate::amqp::session::{HandleUse, INCOMING_WINDOW, Link, OUTGOING_WINDOW, Session};
use crate::clock::Micros;
use crate::config::MIN_MAX_FRAME_SIZE;
use crate::platform::{Code, Credit, Door, Outcome};
use crate::profile::{OpenIdleTimeOut, OpenProperties};
use crate::rules::Rule;

/// How many handles a session has, less one. One link is allowed; the rest is for saying no.
const HANDLE_MAX: u32 = 255;
/// The size of a large property in the Open, in bytes.
const LARGE: usize = 4_096;

impl<S: Seat> Connection<S> {
    pub(super) fn handle(&mut self, channel: u16, performative: Performative, now: Micros) -> Result<(), Failure> {
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
            // What was under way when the emulator ended the session is passed over until the client has ended it too.
            (Phase::Open, Performative::End(_)) if self.has_ended(channel) => {
                self.sessions.remove(&channel);
                Ok(())
            }
            (
                Phase::Open,
                Performative::Attach(_)
                | Performative::Flow(_)
                | Performative::Disposition(_)
                | Performative::Transfer(_)
                | Performative::Detach(_),
            ) if self.has_ended(channel) => Ok(()),
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

    fn has_ended(&self, channel: u16) -> bool {
        self.sessions.get(&channel).is_some_and(|session| session.ended)
    }

    /// Writes the emulator's Open in answer to a client with this idle-time-out.
    pub(super) fn put_open(&mut self, idle: Option<Duration>) -> Result<(), Failure> {
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
        let open = Open {
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
        };
        // As large as the profile would have it: some servers' are over the 512 bytes that are agreed on until then.
        self.put_within(usize::MAX, 0, &open)
    }

    fn on_open(&mut self, open: &Open, now: Micros) -> Result<(), Failure> {
        let idle = open.idle_time_out.map(|millis| Duration::from_millis(millis.into()));
        self.put_open(idle)?;
        self.phase = Phase::Open;
        let (min, max) = (self.terms.limits.idle_time_out_min, self.terms.limits.idle_time_out_max);
        if self.terms.keeps(Rule::IdleRange) && !idle.is_some_and(|idle| (min..=max).contains(&idle)) {
            let found = open.idle_time_out.map_or_else(|| "none".to_owned(), |millis| format!("{millis} ms"));
            let (min, max) = (min.as_millis(), max.as_millis());
            let words = format!("heartbeat not acceptable: idle-time-out is {found}, must be {min} to {max} ms (9601)");
            return Err(Failure::new(AmqpError::InvalidField, words).coded(Code::Heartbeat));
        }
        if open.max_frame_size.0 < MIN_MAX_FRAME_SIZE {
            let words = format!("max-frame-size is {}, must be {MIN_MAX_FRAME_SIZE} or more", open.max_frame_size.0);
            return Err(Failure::new(AmqpError::InvalidField, words));
        }
        self.seat.pass(Door::Open)?;
        self.max_frame = open.max_frame_size.0.min(self.terms.wire.max_frame_size) as usize;
        self.idle = idle.filter(|idle| !idle.is_zero());
        self.await_beat(now);
        self.await_link(now);
        let idle_ms = idle.unwrap_or_default().as_millis();
        debug!(container = open.container_id, idle_ms, "connection open");
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
        let taken = self.link.is_some() && self.terms.keeps(Rule::OneReceiver);
        let keeps_no_sender = self.terms.keeps(Rule::NoSender);
        let session = self.session(channel)?;
        if handle > HANDLE_MAX {
            let words = format!("handle {handle}, but handle-max is {HANDLE_MAX}");
            return Err(Failure::new(ConnectionError::FramingError, words));
        }
        if session.handles.contains_key(&handle) {
            return Err(Failure::new(SessionError::HandleInUse, format!("handle {handle} is in use")));
        }
        let refused = match attach.role {
            Role::Sender if keeps_no_sender => Some("a sender link, but this service sends only"),
            Role::Receiver if taken => Some("a connection can have one receiver link, and this one has it"),
            Role::Sender | Role::Receiver => None,
        };
        let refused = refused.map(|words| Failure::new(AmqpError::NotAllowed, words));
        let receives = attach.role == Role::Receiver;
        let link = Link::new(channel, handle, attach.max_message_size, session);
        let refused = match refused {
            None if receives => self.seat.pass(Door::Attach).err().map(Failure::from),
            refused => refused,
        };
        let usage = if refused.is_some() || !receives { HandleUse::Detached } else { HandleUse::Link };
        self.session(channel)?.handles.insert(handle, usage);
        self.put(channel, &attach_reply(attach, refused.is_some()))?;
        if refused.is_some() {
            let error = self.words(refused);
            return self.put(channel, &Detach { handle: Handle(handle), closed: true, error });
        }
        if !receives {
            return Ok(());
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
