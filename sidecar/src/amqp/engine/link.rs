//! The receiving end of one link: its credit, the order of its deliveries, and the assembly of those that come in several
//! frames.
//!
//! Frames and time are the engine's; here are only the fields of transfer and flow. Credit is exact: the peer never holds
//! more than was granted, what was granted is never taken back, and a delivery beyond it is a fault.

use std::fmt;

use super::super::fault::Fault;
use super::super::hot::{Flow, Transfer};
use super::super::message::{self, Message, Unreadable};
use super::super::params::SESSION_WINDOW;
use super::super::reader::Reader;
use super::super::serial::Serial;

/// The most that can be granted: serial numbers further apart have no order.
const MAX_CREDIT: u32 = 0x7fff_ffff;

/// A delivery as it came down the link, not settled.
#[derive(Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its number in this session.
    pub delivery_id: u32,
    /// The message, or why it can't be given to an application. Either way the delivery must be settled.
    pub message: Result<Message, Unreadable>,
}

/// A delivery whose last frame has not come yet.
struct Partial {
    id: Serial,
    format: u32,
    bytes: Vec<u8>,
    /// It has outgrown max-message-size; its bytes are no longer kept.
    too_large: bool,
}

/// See the module's description.
#[derive(Debug)]
pub(super) struct Link {
    /// In bytes; see `Params`.
    max_message_size: u64,
    /// Under which handle we speak of it, and under which channel and handle the peer does.
    handle: u32,
    remote_channel: Option<u16>,
    remote_handle: Option<u32>,
    next_incoming: Serial,
    /// Deliveries begun on this link, from the peer's initial count on.
    delivery_count: Serial,
    /// Up to which count the peer may begin deliveries.
    credit_limit: Serial,
    draining: bool,
    last_delivery: Option<Serial>,
    partial: Option<Partial>,
}

impl Link {
    pub(super) fn new(handle: u32, max_message_size: u64) -> Self {
        Self {
            max_message_size,
            handle,
            remote_channel: None,
            remote_handle: None,
            next_incoming: Serial(0),
            delivery_count: Serial(0),
            credit_limit: Serial(0),
            draining: false,
            last_delivery: None,
            partial: None,
        }
    }

    /// The peer has begun the session: on which channel it speaks, and the transfer-id of its first transfer.
    pub(super) fn begun(&mut self, remote_channel: u16, next_outgoing_id: u32) {
        self.remote_channel = Some(remote_channel);
        self.next_incoming = Serial(next_outgoing_id);
    }

    /// The peer has attached the link: its handle, and where it starts to count deliveries.
    pub(super) fn attached(&mut self, remote_handle: u32, initial_delivery_count: u32) {
        self.remote_handle = Some(remote_handle);
        self.delivery_count = Serial(initial_delivery_count);
        self.credit_limit = self.delivery_count;
    }

    // ---- Credit --------------------------------------------------------------------------------------------------

    /// How many deliveries the peer may still begin.
    pub(super) fn outstanding(&self) -> u32 {
        self.credit_limit.since(self.delivery_count)
    }

    /// Raises the limit so that `credit` deliveries may still come to their end, and says whether there is something to
    /// tell the peer. A delivery under way is one of them: it has been counted when it began and is nobody's yet.
    pub(super) fn grant(&mut self, credit: u32) -> bool {
        let under_way = u32::from(self.partial.is_some());
        let limit = self.delivery_count.plus(credit.min(MAX_CREDIT).saturating_sub(under_way));
        let raised = limit.is_after(self.credit_limit);
        if raised {
            self.credit_limit = limit;
            self.draining = false;
        }
        raised
    }

    /// Whether there is credit to be used up or forfeited; the peer is to be told.
    pub(super) fn drain(&mut self) -> bool {
        self.draining = self.outstanding() > 0;
        self.draining
    }

    /// Whether the peer has been asked to drain and still has credit.
    pub(super) fn is_draining(&self) -> bool {
        self.draining && self.outstanding() > 0
    }

    /// Takes what a flow of the peer says, and says whether it asks for an answer.
    pub(super) fn flow(&mut self, flow: &Flow) -> Result<bool, Fault> {
        if flow.handle.is_some()
            && flow.handle == self.remote_handle
            && let Some(count) = flow.delivery_count
        {
            // A sender that drains skips ahead, up to what it was granted. One behind us has a delivery under way, which
            // we count by its first frame and it may count by its last.
            if count.is_after(self.credit_limit) {
                return Err(Fault::Protocol("a Flow whose delivery-count is past the credit limit"));
            }
            if count.is_after(self.delivery_count) {
                self.delivery_count = count;
            }
        }
        Ok(flow.echo)
    }

    /// This end as a flow tells it.
    pub(super) fn state(&self) -> Flow {
        Flow {
            next_incoming_id: Some(self.next_incoming),
            incoming_window: SESSION_WINDOW,
            next_outgoing_id: Serial(0),
            outgoing_window: SESSION_WINDOW,
            handle: Some(self.handle),
            delivery_count: Some(self.delivery_count),
            link_credit: Some(self.outstanding()),
            available: None,
            drain: self.is_draining(),
            echo: false,
        }
    }

    // ---- Deliveries ----------------------------------------------------------------------------------------------

    /// Takes a transfer frame behind its descriptor; the delivery that it completes is appended to `deliveries`.
    #[inline]
    pub(super) fn transfer(
        &mut self,
        channel: u16,
        mut body: Reader<'_>,
        deliveries: &mut Vec<Incoming>,
    ) -> Result<(), Fault> {
        let transfer = Transfer::read(&mut body).map_err(|error| Fault::malformed("Transfer", error))?;
        if Some(channel) != self.remote_channel || Some(transfer.handle) != self.remote_handle {
            return Err(Fault::Protocol("a Transfer on a channel or handle that is not ours"));
        }
        self.next_incoming = self.next_incoming.plus(1);
        if let Some(mut partial) = self.partial.take() {
            if transfer.delivery_id.is_some_and(|id| id != partial.id) {
                return Err(Fault::Protocol("a Transfer of another delivery before the last one was complete"));
            }
            not_presettled(partial.id, &transfer)?;
            partial.append(body.rest(), self.max_message_size);
            self.complete_or_keep(partial, &transfer, deliveries);
            return Ok(());
        }
        let id = self.first_of_delivery(&transfer)?;
        let format = transfer.message_format.unwrap_or(0);
        if transfer.more || transfer.aborted || body.rest().len() as u64 > self.max_message_size {
            let mut partial = Partial { id, format, bytes: Vec::new(), too_large: false };
            partial.append(body.rest(), self.max_message_size);
            self.complete_or_keep(partial, &transfer, deliveries);
        } else {
            deliveries.push(Incoming { delivery_id: id.0, message: read_message(format, body.rest()) });
        }
        Ok(())
    }

    /// Checks what the first frame of a delivery must say, and counts it against the credit.
    fn first_of_delivery(&mut self, transfer: &Transfer<'_>) -> Result<Serial, Fault> {
        let id =
            transfer.delivery_id.ok_or(Fault::Protocol("the first Transfer of a delivery without a delivery-id"))?;
        if self.last_delivery.is_some_and(|last| !id.is_after(last)) {
            return Err(Fault::Protocol("a delivery-id that does not follow the last one"));
        }
        if self.outstanding() == 0 {
            return Err(Fault::CreditExceeded(id.0));
        }
        not_presettled(id, transfer)?;
        self.last_delivery = Some(id);
        self.delivery_count = self.delivery_count.plus(1);
        Ok(id)
    }

    fn complete_or_keep(&mut self, partial: Partial, transfer: &Transfer<'_>, deliveries: &mut Vec<Incoming>) {
        if transfer.aborted {
            // Nothing is owed for it: an aborted delivery is settled by its sender (part 2.6.14).
        } else if transfer.more {
            self.partial = Some(partial);
        } else {
            let message = if partial.too_large {
                Err(Unreadable::TooLarge { limit: self.max_message_size })
            } else {
                read_message(partial.format, &partial.bytes)
            };
            deliveries.push(Incoming { delivery_id: partial.id.0, message });
        }
    }
}

/// Without its bytes: payloads are never shown.
impl fmt::Debug for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delivery {}, {} bytes so far", self.id, self.bytes.len())
    }
}

impl Partial {
    fn append(&mut self, bytes: &[u8], limit: u64) {
        if self.bytes.len() as u64 + bytes.len() as u64 > limit {
            self.too_large = true;
            self.bytes = Vec::new();
        }
        if !self.too_large {
            self.bytes.extend_from_slice(bytes);
        }
    }
}

/// An aborted delivery is settled by being aborted (part 2.7.5), so only others are refused.
fn not_presettled(id: Serial, transfer: &Transfer<'_>) -> Result<(), Fault> {
    if transfer.settled && !transfer.aborted { Err(Fault::PreSettled(id.0)) } else { Ok(()) }
}

fn read_message(format: u32, bytes: &[u8]) -> Result<Message, Unreadable> {
    if format == 0 { message::read(bytes) } else { Err(Unreadable::Format(format)) }
}
