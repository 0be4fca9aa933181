//! Writes frames. What comes once goes through `serde_amqp`; transfers, of which there are many, are written by hand.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_amqp::ser::Serializer;

use super::frame::Kind;

/// The bytes of a transfer frame that are not payload, at most: header, descriptor, list, and the fields at their widest.
const TRANSFER_OVERHEAD: usize = 8 + 3 + 3 + 5 + 5 + 6 + 1 + 1 + 1;

/// Writes a performative. One that can't be encoded (none of ours can't) leaves nothing behind and is an error.
pub(crate) fn put(
    out: &mut BytesMut,
    kind: Kind,
    channel: u16,
    body: &impl Serialize,
) -> Result<(), serde_amqp::Error> {
    let start = out.len();
    put_header(out, kind, channel);
    match body.serialize(&mut Serializer::new((&mut *out).writer())) {
        Ok(()) => {
            close_frame(out, start);
            Ok(())
        }
        Err(error) => {
            out.truncate(start);
            Err(error)
        }
    }
}

/// Writes an empty frame: a sign of life.
pub(crate) fn put_empty(out: &mut BytesMut) {
    let start = out.len();
    put_header(out, Kind::Amqp, 0);
    close_frame(out, start);
}

/// One delivery on its way out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Transfer<'a> {
    pub(crate) channel: u16,
    pub(crate) handle: u32,
    pub(crate) delivery_id: u32,
    pub(crate) body: &'a Bytes,
}

/// Writes one frame of a delivery, from byte `sent` of its body on, and returns how far the body has been sent then. It
/// is the last frame if that is the whole of it.
pub(crate) fn put_transfer(out: &mut BytesMut, transfer: &Transfer<'_>, sent: usize, max_frame: usize) -> usize {
    let rest = &transfer.body[sent..];
    let part = &rest[..rest.len().min(max_frame - TRANSFER_OVERHEAD)];
    let start = out.len();
    out.reserve(TRANSFER_OVERHEAD + part.len());
    put_header(out, Kind::Amqp, transfer.channel);
    out.put_slice(&[0x00, 0x53, 0x14, 0xc0, 0, 6]);
    let list = out.len();
    put_uint(out, transfer.handle);
    if sent == 0 {
        put_uint(out, transfer.delivery_id);
        out.put_slice(&[0xa0, 4]); // delivery-tag
        out.put_u32(transfer.delivery_id);
        out.put_slice(&[0x43, 0x42]); // message-format 0, not settled
    } else {
        out.put_slice(&[0x40; 4]);
    }
    let more = part.len() < rest.len();
    out.put_u8(if more { 0x41 } else { 0x42 });
    // The list's size counts its count byte as well; it is 24 at most.
    out[list - 2] = u8::try_from(out.len() - list + 1).unwrap_or(u8::MAX);
    out.put_slice(part);
    close_frame(out, start);
    sent + part.len()
}

fn put_uint(out: &mut BytesMut, value: u32) {
    match u8::try_from(value) {
        Ok(0) => out.put_u8(0x43),
        Ok(small) => out.put_slice(&[0x52, small]),
        Err(_) => {
            out.put_u8(0x70);
            out.put_u32(value);
        }
    }
}

fn put_header(out: &mut BytesMut, kind: Kind, channel: u16) {
    out.put_u32(0);
    out.put_slice(&[2, kind as u8]);
    out.put_u16(channel);
}

fn close_frame(out: &mut BytesMut, start: usize) {
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::performatives::Transfer as Decoded;
    use serde::Deserialize as _;
    use serde_amqp::de::Deserializer;
    use serde_amqp::read::SliceReader;

    use super::*;
    use crate::amqp::frame;

    /// Reads transfer frames with the other codec: the performative and the payload of each.
    fn decode(mut bytes: BytesMut, max_frame: usize) -> Vec<(Decoded, Bytes)> {
        let mut transfers = Vec::new();
        while let Some(frame) = frame::next(&mut bytes, Kind::Amqp, max_frame).unwrap() {
            let mut deserializer = Deserializer::new(SliceReader::new(&frame.body));
            let decoded = Decoded::deserialize(&mut deserializer).unwrap();
            // Descriptor, list code and size: the list says how long it is, and the payload follows it.
            let performative = 3 + 2 + usize::from(frame.body[4]);
            transfers.push((decoded, frame.body.slice(performative..)));
        }
        assert!(bytes.is_empty());
        transfers
    }

    #[test]
    fn another_codec_reads_a_transfer_of_one_frame() {
        for delivery_id in [0, 1, 255, 256, u32::MAX] {
            let mut out = BytesMut::new();
            let body = Bytes::from_static(b"sections");
            let transfer = Transfer { channel: 3, handle: 0, delivery_id, body: &body };
            assert_eq!(put_transfer(&mut out, &transfer, 0, 512), body.len());
            let transfers = decode(out, 512);
            let (decoded, payload) = &transfers[0];
            assert_eq!(decoded.delivery_id, Some(delivery_id));
            assert_eq!(decoded.delivery_tag.as_ref().unwrap().as_slice(), delivery_id.to_be_bytes());
            assert_eq!((decoded.settled, decoded.more, decoded.message_format), (Some(false), false, Some(0)));
            assert_eq!(payload, &body);
        }
    }

    #[test]
    fn a_large_body_is_cut_into_frames_that_keep_the_limit() {
        let body = Bytes::from((0..5_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<u8>>());
        let transfer = Transfer { channel: 0, handle: 300, delivery_id: 70_000, body: &body };
        let (mut out, mut sent) = (BytesMut::new(), 0);
        while sent < body.len() {
            sent = put_transfer(&mut out, &transfer, sent, 512);
        }
        let transfers = decode(out, 512);
        assert!(transfers.len() > 39);
        let (last, others) = transfers.split_last().unwrap();
        assert!(!last.0.more && others.iter().all(|(transfer, _)| transfer.more));
        assert!(others.iter().skip(1).chain([last]).all(|(transfer, _)| transfer.delivery_id.is_none()));
        assert_eq!(transfers.iter().flat_map(|(_, payload)| payload.to_vec()).collect::<Vec<_>>(), body);
    }
}
