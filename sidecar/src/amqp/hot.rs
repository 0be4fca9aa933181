//! The performatives that come with every message: transfer, flow and disposition, read and written by hand
//! (AMQP 1.0 part 2.7.4–2.7.6).
//!
//! What comes once on a connection is in [`super::cold`].

use super::frame;
use super::reader::{Malformed, Reader};
use super::serial::Serial;

/// Numeric descriptors of the performatives (AMQP 1.0 part 2.7).
pub mod code {
    #![allow(missing_docs, reason = "the names are those of the specification")]
    pub const OPEN: u64 = 0x10;
    pub const BEGIN: u64 = 0x11;
    pub const ATTACH: u64 = 0x12;
    pub const FLOW: u64 = 0x13;
    pub const TRANSFER: u64 = 0x14;
    pub const DISPOSITION: u64 = 0x15;
    pub const DETACH: u64 = 0x16;
    pub const END: u64 = 0x17;
    pub const CLOSE: u64 = 0x18;
    pub const SASL_MECHANISMS: u64 = 0x40;
    pub const SASL_CHALLENGE: u64 = 0x42;
    pub const SASL_OUTCOME: u64 = 0x44;
}

/// The descriptor of an application's outcome for a delivery. No other is ever sent (DESIGN "Ledger").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Taken: the platform forgets the message.
    Accepted = 0x24,
    /// Given back untouched: the platform pushes it again.
    Released = 0x26,
}

/// The fields of a transfer that a receiver needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transfer<'a> {
    /// The link, by the sender's handle.
    pub handle: u32,
    /// Present on the first frame of a delivery at least.
    pub delivery_id: Option<Serial>,
    /// Present on the first frame of a delivery at least.
    pub delivery_tag: Option<&'a [u8]>,
    /// 0 for the AMQP message format.
    pub message_format: Option<u32>,
    /// The sender regards the delivery as settled already.
    pub settled: bool,
    /// More frames of this delivery follow.
    pub more: bool,
    /// The delivery is given up by the sender; its frames are to be forgotten.
    pub aborted: bool,
}

impl<'a> Transfer<'a> {
    /// Reads a transfer behind its descriptor; returns it with the bytes behind it: the message, or a part of it.
    #[inline]
    pub fn read(body: &mut Reader<'a>) -> Result<Self, Malformed> {
        let (mut fields, count) = body.list()?;
        let mut transfer = Self {
            handle: 0,
            delivery_id: None,
            delivery_tag: None,
            message_format: None,
            settled: false,
            more: false,
            aborted: false,
        };
        if count > 11 {
            return Err(Malformed::TooManyFields);
        }
        let mut handle = None;
        for field in 0..count {
            match field {
                0 => handle = fields.uint()?,
                1 => transfer.delivery_id = fields.uint()?.map(Serial),
                2 => transfer.delivery_tag = fields.binary()?,
                3 => transfer.message_format = fields.uint()?,
                4 => transfer.settled = fields.boolean()?.unwrap_or(false),
                5 => transfer.more = fields.boolean()?.unwrap_or(false),
                6 => receiver_settle_mode(fields.ubyte()?)?,
                7 => fields.skip()?,
                9 => transfer.aborted = fields.boolean()?.unwrap_or(false),
                _ => drop(fields.boolean()?),
            }
        }
        if !fields.is_empty() {
            return Err(Malformed::CompoundSize);
        }
        if transfer.delivery_tag.is_some_and(|tag| tag.len() > 32) {
            return Err(Malformed::Range("delivery-tag"));
        }
        transfer.handle = handle.ok_or(Malformed::Missing("handle"))?;
        Ok(transfer)
    }
}

fn receiver_settle_mode(mode: Option<u8>) -> Result<(), Malformed> {
    if mode.is_none_or(|mode| mode <= 1) { Ok(()) } else { Err(Malformed::Range("rcv-settle-mode")) }
}

/// A flow, as read from the peer and as written to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flow {
    /// The next transfer-id its sender expects.
    pub next_incoming_id: Option<Serial>,
    /// How many transfers its sender can take.
    pub incoming_window: u32,
    /// The transfer-id of the next transfer it will send.
    pub next_outgoing_id: Serial,
    /// How many transfers it may send.
    pub outgoing_window: u32,
    /// The link it speaks of; none: the session alone.
    pub handle: Option<u32>,
    /// The link's delivery-count as its sender sees it.
    pub delivery_count: Option<Serial>,
    /// How many deliveries may follow.
    pub link_credit: Option<u32>,
    /// How many deliveries the link's sender could send at once.
    pub available: Option<u32>,
    /// Use the credit up or forfeit it.
    pub drain: bool,
    /// Answer with a flow.
    pub echo: bool,
}

impl Flow {
    /// Reads a flow behind its descriptor.
    pub fn read(body: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (mut fields, count) = body.list()?;
        if count > 11 {
            return Err(Malformed::TooManyFields);
        }
        let mut flow = Self::default();
        let (mut incoming_window, mut next_outgoing_id, mut outgoing_window) = (None, None, None);
        for field in 0..count {
            match field {
                0 => flow.next_incoming_id = fields.uint()?.map(Serial),
                1 => incoming_window = fields.uint()?,
                2 => next_outgoing_id = fields.uint()?.map(Serial),
                3 => outgoing_window = fields.uint()?,
                4 => flow.handle = fields.uint()?,
                5 => flow.delivery_count = fields.uint()?.map(Serial),
                6 => flow.link_credit = fields.uint()?,
                7 => flow.available = fields.uint()?,
                8 => flow.drain = fields.boolean()?.unwrap_or(false),
                9 => flow.echo = fields.boolean()?.unwrap_or(false),
                _ => fields.skip()?,
            }
        }
        if !fields.is_empty() {
            return Err(Malformed::CompoundSize);
        }
        flow.incoming_window = incoming_window.ok_or(Malformed::Missing("incoming-window"))?;
        flow.next_outgoing_id = next_outgoing_id.ok_or(Malformed::Missing("next-outgoing-id"))?;
        flow.outgoing_window = outgoing_window.ok_or(Malformed::Missing("outgoing-window"))?;
        Ok(flow)
    }

    /// Appends the frame of this flow to `out`.
    pub fn write(&self, channel: u16, out: &mut Vec<u8>) {
        frame::write(out, channel, |out| {
            out.extend_from_slice(&[0x00, 0x53, 0x13, 0xc0, 0, 10]);
            let size_at = out.len() - 2;
            let optional = |out: &mut Vec<u8>, value: Option<u32>| match value {
                Some(value) => put_uint(out, value),
                None => out.push(0x40),
            };
            optional(out, self.next_incoming_id.map(|id| id.0));
            put_uint(out, self.incoming_window);
            put_uint(out, self.next_outgoing_id.0);
            put_uint(out, self.outgoing_window);
            optional(out, self.handle);
            optional(out, self.delivery_count.map(|count| count.0));
            optional(out, self.link_credit);
            optional(out, self.available);
            put_boolean(out, self.drain);
            put_boolean(out, self.echo);
            close_list8(out, size_at);
        });
    }
}

/// A disposition, as read from the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disposition {
    /// True if it comes from a receiver.
    pub from_receiver: bool,
    /// The first delivery it speaks of.
    pub first: Serial,
    /// The last one; the first if left out.
    pub last: Serial,
    /// Its sender forgets these deliveries.
    pub settled: bool,
}

impl Disposition {
    /// Reads a disposition behind its descriptor.
    pub fn read(body: &mut Reader<'_>) -> Result<Self, Malformed> {
        let (mut fields, count) = body.list()?;
        if count > 6 {
            return Err(Malformed::TooManyFields);
        }
        let (mut role, mut first, mut last, mut settled) = (None, None, None, false);
        for field in 0..count {
            match field {
                0 => role = fields.boolean()?,
                1 => first = fields.uint()?.map(Serial),
                2 => last = fields.uint()?.map(Serial),
                3 => settled = fields.boolean()?.unwrap_or(false),
                4 => fields.skip()?,
                _ => drop(fields.boolean()?),
            }
        }
        if !fields.is_empty() {
            return Err(Malformed::CompoundSize);
        }
        let first = first.ok_or(Malformed::Missing("first"))?;
        Ok(Self { from_receiver: role.ok_or(Malformed::Missing("role"))?, first, last: last.unwrap_or(first), settled })
    }
}

/// Appends the frame by which this receiver settles deliveries `first` to `last` with `outcome`.
pub fn write_settlement(out: &mut Vec<u8>, channel: u16, first: Serial, last: Serial, outcome: Outcome) {
    frame::write(out, channel, |out| {
        out.extend_from_slice(&[0x00, 0x53, 0x15, 0xc0, 0, 5]);
        let size_at = out.len() - 2;
        put_boolean(out, true);
        put_uint(out, first.0);
        if first == last {
            out.push(0x40);
        } else {
            put_uint(out, last.0);
        }
        put_boolean(out, true);
        out.extend_from_slice(&[0x00, 0x53, outcome as u8, 0x45]);
        close_list8(out, size_at);
    });
}

fn put_uint(out: &mut Vec<u8>, value: u32) {
    match value {
        0 => out.push(0x43),
        1..=255 => out.extend_from_slice(&[0x52, value.to_be_bytes()[3]]),
        _ => {
            out.push(0x70);
            out.extend_from_slice(&value.to_be_bytes());
        }
    }
}

fn put_boolean(out: &mut Vec<u8>, value: bool) {
    out.push(if value { 0x41 } else { 0x42 });
}

/// Writes the size of a list8 whose size byte is at `size_at`. The lists written here hold at most ten uints.
fn close_list8(out: &mut [u8], size_at: usize) {
    let size = out.len() - size_at - 1;
    out[size_at] = u8::try_from(size).unwrap_or(u8::MAX);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(fields: &[&[u8]]) -> Result<bool, Malformed> {
        let body = fields.concat();
        let header = [0xc0, u8::try_from(body.len() + 1).unwrap(), u8::try_from(fields.len()).unwrap()];
        Transfer::read(&mut Reader::new(&[&header, &body[..]].concat())).map(|transfer| transfer.aborted)
    }

    #[test]
    fn a_delivery_tag_has_32_bytes_at_most() {
        let tag = |n: u8| [&[0xa0, n], &vec![7; n.into()][..]].concat();
        assert_eq!(transfer(&[&[0x43], &[0x43], &tag(32)]), Ok(false));
        assert_eq!(transfer(&[&[0x43], &[0x43], &tag(33)]), Err(Malformed::Range("delivery-tag")));
    }

    #[test]
    fn a_performative_with_a_field_too_many_is_refused() {
        let fields = [&[0x43][..], &[0x40], &[0x40], &[0x40], &[0x40], &[0x40], &[0x40], &[0x40], &[0x40], &[0x41]];
        assert_eq!(transfer(&fields), Ok(true));
        assert_eq!(transfer(&[&fields[..], &[&[0x40]]].concat()), Ok(true));
        assert_eq!(transfer(&[&fields[..], &[&[0x40], &[0x40]]].concat()), Err(Malformed::TooManyFields));
        let mandatory_missing = Flow::read(&mut Reader::new(&[0x45]));
        assert_eq!(mandatory_missing, Err(Malformed::Missing("incoming-window")));
        let seven = [0xc0, 8, 7, 0x41, 0x43, 0x40, 0x40, 0x40, 0x40, 0x40];
        assert_eq!(Disposition::read(&mut Reader::new(&seven)), Err(Malformed::TooManyFields));
    }

    #[test]
    fn a_flow_is_read_as_it_was_written() {
        for count in [0, 255, 256, u32::MAX] {
            let flow = Flow {
                next_incoming_id: Some(Serial(count)),
                incoming_window: count,
                next_outgoing_id: Serial(count),
                outgoing_window: count,
                handle: Some(count),
                delivery_count: Some(Serial(count)),
                link_credit: Some(count),
                available: Some(count),
                drain: true,
                echo: true,
            };
            let mut out = Vec::new();
            flow.write(0, &mut out);
            assert_eq!(Flow::read(&mut Reader::new(&out[11..])), Ok(flow));
        }
    }
}
