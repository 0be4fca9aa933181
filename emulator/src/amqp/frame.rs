//! Cuts frames out of a byte stream (AMQP 1.0, 2.3): length, data offset, type, channel. What is not a frame is an error
//! here and never reaches a decoder.

use bytes::{Buf, Bytes, BytesMut};

/// The smallest frame there is: its header alone, an empty frame.
const HEADER: usize = 8;

/// The frame type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Amqp = 0,
    Sasl = 1,
}

/// A frame: its channel (without meaning for SASL) and what comes after its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) channel: u16,
    pub(crate) body: Bytes,
}

/// Why the bytes are not a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadFrame {
    #[error("a frame of {0} bytes, which is less than its header")]
    TooShort(usize),
    #[error("a frame of {size} bytes, but the limit is {limit}")]
    TooLong { size: usize, limit: usize },
    #[error("a data offset of {doff} words in a frame of {size} bytes")]
    DataOffset { doff: u8, size: usize },
    #[error("a frame of type {0} where another was due")]
    Kind(u8),
}

/// Takes the next frame off `input`, or `None` if it is not there as a whole.
pub(crate) fn next(input: &mut BytesMut, kind: Kind, limit: usize) -> Result<Option<Frame>, BadFrame> {
    let Some((size, rest)) = input.split_first_chunk::<4>() else { return Ok(None) };
    let size = usize::try_from(u32::from_be_bytes(*size)).unwrap_or(usize::MAX);
    if size < HEADER {
        return Err(BadFrame::TooShort(size));
    }
    if size > limit {
        return Err(BadFrame::TooLong { size, limit });
    }
    let Some(&[doff, frame_kind, channel_high, channel_low]) = rest.first_chunk::<4>() else { return Ok(None) };
    let offset = usize::from(doff) * 4;
    if offset < HEADER || offset > size {
        return Err(BadFrame::DataOffset { doff, size });
    }
    if frame_kind != kind as u8 {
        return Err(BadFrame::Kind(frame_kind));
    }
    if input.len() < size {
        input.reserve(size - input.len());
        return Ok(None);
    }
    let mut body = input.split_to(size).freeze();
    body.advance(offset);
    Ok(Some(Frame { channel: u16::from_be_bytes([channel_high, channel_low]), body }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(bytes: &[u8]) -> Result<Option<Frame>, BadFrame> {
        next(&mut BytesMut::from(bytes), Kind::Amqp, 512)
    }

    #[test]
    fn a_frame_comes_out_whole_or_not_at_all() {
        let bytes = [0, 0, 0, 14, 3, 0, 1, 2, 9, 9, 9, 9, 7, 8, 0];
        for length in 0..14 {
            assert_eq!(first(&bytes[..length]), Ok(None), "{length}");
        }
        let mut input = BytesMut::from(&bytes[..]);
        let frame = next(&mut input, Kind::Amqp, 512).unwrap().unwrap();
        assert_eq!((frame.channel, &frame.body[..]), (0x0102, &[7, 8][..]), "the extended header is passed over");
        assert_eq!(&input[..], [0]);
    }

    #[test]
    fn impossible_headers_are_refused_before_the_rest_arrives() {
        assert_eq!(first(&[0, 0, 0, 6]), Err(BadFrame::TooShort(6)));
        assert_eq!(first(&[0, 0, 2, 1]), Err(BadFrame::TooLong { size: 513, limit: 512 }));
        assert_eq!(first(&[0, 0, 0, 8, 1, 0, 0, 0]), Err(BadFrame::DataOffset { doff: 1, size: 8 }));
        assert_eq!(first(&[0, 0, 0, 8, 3, 0, 0, 0]), Err(BadFrame::DataOffset { doff: 3, size: 8 }));
        assert_eq!(first(&[0, 0, 0, 8, 2, 1, 0, 0]), Err(BadFrame::Kind(1)));
    }
}
