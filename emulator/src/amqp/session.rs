//! A session's windows and the one link that may live on it: the arithmetic of AMQP 1.0, 2.5.6 and 2.6.7, and the order in
//! which deliveries leave.

use std::collections::{HashMap, VecDeque};

use bytes::BytesMut;
use fe2o3_amqp_types::definitions::Handle;
use fe2o3_amqp_types::performatives::Flow;

use super::encode::{self, Transfer};
use super::frame::Kind;
use crate::platform::Outgoing;

/// How many transfers the emulator says it takes. It takes none, but a window of 0 would worry a client.
pub(super) const INCOMING_WINDOW: u32 = 2_048;
/// How many it may send, as far as it is concerned.
pub(super) const OUTGOING_WINDOW: u32 = i32::MAX.cast_unsigned();

/// What a handle of the client stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HandleUse {
    /// The receiver link.
    Link,
    /// A link that the emulator has refused or detached; the client's detach is still to come.
    Detached,
}

/// One session. The emulator's channel has the same number as the client's.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) handles: HashMap<u32, HandleUse>,
    /// The transfer-id of the next frame that the client would send.
    next_incoming_id: u32,
    next_outgoing_id: u32,
    /// How many transfer frames the client still takes.
    window: u32,
    /// The delivery-id of the next delivery. Ids go on when the link is attached anew.
    next_delivery_id: u32,
    /// The emulator has ended it, and waits for the client to do so too.
    pub(super) ended: bool,
}

impl Session {
    pub(super) fn new(client_next_outgoing_id: u32, client_incoming_window: u32) -> Self {
        Self {
            handles: HashMap::new(),
            next_incoming_id: client_next_outgoing_id,
            next_outgoing_id: 0,
            window: client_incoming_window,
            next_delivery_id: 0,
            ended: false,
        }
    }

    pub(super) fn next_outgoing_id(&self) -> u32 {
        self.next_outgoing_id
    }

    /// Takes a flow frame's word for the window. Frames that were under way when it was written count against it.
    pub(super) fn update_window(&mut self, flow: &Flow) {
        let under_way = self.next_outgoing_id.wrapping_sub(flow.next_incoming_id.unwrap_or(0));
        self.window = flow.incoming_window.saturating_sub(under_way);
    }

    /// A flow frame that says how this session stands, for a link or for the session alone.
    pub(super) fn flow(&self, link: Option<&Link>, drain: bool) -> Flow {
        Flow {
            next_incoming_id: Some(self.next_incoming_id),
            incoming_window: INCOMING_WINDOW,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: OUTGOING_WINDOW,
            handle: link.map(|link| Handle(link.handle)),
            delivery_count: link.map(|link| link.delivery_count),
            link_credit: link.map(|link| link.credit),
            available: None,
            drain,
            echo: false,
            properties: None,
        }
    }
}

/// The receiver link, as the wire sees it: what has been written, which is behind what the platform has pushed.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) channel: u16,
    pub(super) handle: u32,
    /// The delivery-id of the link's delivery number 0.
    base: u32,
    /// The largest message that the client takes, in bytes.
    max_message_size: u64,
    delivery_count: u32,
    credit: u32,
    queue: VecDeque<Outgoing>,
    /// How much of the first in the queue has been written.
    sent: usize,
}

impl Link {
    /// A link without credit. A `max_message_size` of `None` or 0 is no limit (AMQP 1.0, 2.7.3).
    pub(super) fn new(channel: u16, handle: u32, max_message_size: Option<u64>, session: &Session) -> Self {
        Self {
            channel,
            handle,
            base: session.next_delivery_id,
            max_message_size: max_message_size.filter(|&size| size > 0).unwrap_or(u64::MAX),
            delivery_count: 0,
            credit: 0,
            queue: VecDeque::new(),
            sent: 0,
        }
    }

    /// Says what is wrong if the next message is larger than the client takes.
    pub(super) fn oversized(&self) -> Option<String> {
        let Some(Outgoing::Push { body, .. }) = self.queue.front() else { return None };
        let limit = self.max_message_size;
        (body.len() as u64 > limit)
            .then(|| format!("the next message has {} bytes, but the link's max-message-size is {limit}", body.len()))
    }

    /// The link's number of the delivery with this delivery-id.
    pub(super) fn number(&self, delivery_id: u32) -> u32 {
        delivery_id.wrapping_sub(self.base)
    }

    pub(super) fn granted(&mut self, flow: &Flow) {
        let under_way = self.delivery_count.wrapping_sub(flow.delivery_count.unwrap_or(0));
        self.credit = flow.link_credit.unwrap_or(0).saturating_sub(under_way);
    }

    /// Where the platform puts what is to be written next.
    pub(super) fn queue(&mut self) -> &mut VecDeque<Outgoing> {
        &mut self.queue
    }

    /// Writes the next frame. `false` when there is nothing, or the session's window is closed.
    pub(super) fn write_next(
        &mut self,
        session: &mut Session,
        max_frame: usize,
        out: &mut BytesMut,
    ) -> Result<bool, serde_amqp::Error> {
        match self.queue.front() {
            None => return Ok(false),
            Some(Outgoing::Push { .. }) if session.window == 0 => return Ok(false),
            Some(Outgoing::Push { number, body }) => {
                let delivery_id = self.base.wrapping_add(*number);
                let transfer = Transfer { channel: self.channel, handle: self.handle, delivery_id, body };
                self.sent = encode::put_transfer(out, &transfer, self.sent, max_frame);
                session.window -= 1;
                session.next_outgoing_id = session.next_outgoing_id.wrapping_add(1);
                session.next_delivery_id = delivery_id.wrapping_add(1);
                if self.sent < body.len() {
                    return Ok(true);
                }
                self.sent = 0;
                self.delivery_count = self.delivery_count.wrapping_add(1);
                self.credit = self.credit.saturating_sub(1);
            }
            Some(Outgoing::Drained { by }) => {
                self.delivery_count = self.delivery_count.wrapping_add(*by);
                self.credit = 0;
                encode::put(out, Kind::Amqp, self.channel, &session.flow(Some(self), true))?;
            }
        }
        self.queue.pop_front();
        Ok(true)
    }
}
