//! Frames (AMQP 1.0 part 2.3): the eight bytes before every performative, and the limits on what they may say.

/// The bytes by which either side asks for AMQP 1.0 (part 2.2).
pub const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
/// The bytes by which either side asks for SASL (part 5.3.1).
pub const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";
/// A frame without a body: it says only that its sender is alive.
pub const HEARTBEAT: [u8; 8] = [0, 0, 0, 8, 2, 0, 0, 0];

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An AMQP performative.
    Amqp,
    /// A SASL performative.
    Sasl,
}

/// One whole frame at the start of the bytes read so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: Kind,
    /// Its channel; meaningless for SASL.
    pub channel: u16,
    /// Performative and payload; empty for a heartbeat.
    pub body: &'a [u8],
    /// How many bytes it takes, header and extended header included.
    pub size: usize,
}

/// A frame header that can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Shorter than its own header.
    #[error("a frame states a size of {0} bytes, less than its own header")]
    TooSmall(u32),
    /// Longer than what we said we take.
    #[error("a frame of {size} bytes exceeds the agreed {limit}")]
    TooLarge {
        /// What it states.
        size: u32,
        /// What we announced.
        limit: u32,
    },
    /// The data offset points outside the frame or into its header.
    #[error("a frame's data offset of {0} words does not fit its size")]
    DataOffset(u8),
    /// A frame type that AMQP 1.0 does not define.
    #[error("frame type {0:#04x} is neither AMQP nor SASL")]
    Type(u8),
}

/// Reads the frame at the start of `bytes`. Nothing: more bytes are needed. A header that can't be is refused as soon as it
/// is there, before its frame is.
#[inline]
pub fn read(bytes: &[u8], limit: u32) -> Result<Option<Frame<'_>>, BadFrame> {
    let Some(&[s0, s1, s2, s3, offset, kind, c0, c1]) = bytes.first_chunk::<8>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([s0, s1, s2, s3]);
    if size < 8 {
        return Err(BadFrame::TooSmall(size));
    }
    if size > limit {
        return Err(BadFrame::TooLarge { size, limit });
    }
    let body_at = usize::from(offset) * 4;
    if offset < 2 || body_at > size as usize {
        return Err(BadFrame::DataOffset(offset));
    }
    let kind = match kind {
        0 => Kind::Amqp,
        1 => Kind::Sasl,
        other => return Err(BadFrame::Type(other)),
    };
    Ok(bytes.get(body_at..size as usize).map(|body| Frame {
        kind,
        channel: u16::from_be_bytes([c0, c1]),
        body,
        size: size as usize,
    }))
}

/// Appends an AMQP frame whose body `body` writes.
pub fn write(out: &mut Vec<u8>, channel: u16, body: impl FnOnce(&mut Vec<u8>)) {
    write_as(out, 0, channel, body);
}

/// Appends a SASL frame whose body `body` writes.
pub fn write_sasl(out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    write_as(out, 1, 0, body);
}

fn write_as(out: &mut Vec<u8>, kind: u8, channel: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    let [c0, c1] = channel.to_be_bytes();
    out.extend_from_slice(&[0, 0, 0, 0, 2, kind, c0, c1]);
    body(out);
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_waits_for_its_last_byte() {
        let mut out = Vec::new();
        write(&mut out, 7, |out| out.extend_from_slice(b"body"));
        for cut in 0..out.len() {
            assert_eq!(read(&out[..cut], 512), Ok(None));
        }
        assert_eq!(read(&out, 512), Ok(Some(Frame { kind: Kind::Amqp, channel: 7, body: b"body", size: 12 })));
    }

    #[test]
    fn headers_that_cannot_be_are_refused_at_once() {
        assert_eq!(read(&[0, 0, 0, 6, 2, 0, 0, 0], 512), Err(BadFrame::TooSmall(6)));
        assert_eq!(read(&[0, 0, 2, 1, 2, 0, 0, 0], 512), Err(BadFrame::TooLarge { size: 513, limit: 512 }));
        assert_eq!(read(&[0, 0, 0, 8, 1, 0, 0, 0], 512), Err(BadFrame::DataOffset(1)));
        assert_eq!(read(&[0, 0, 0, 8, 3, 0, 0, 0], 512), Err(BadFrame::DataOffset(3)));
        assert_eq!(read(&[0, 0, 0, 8, 2, 9, 0, 0], 512), Err(BadFrame::Type(9)));
        assert_eq!(read(b"HTTP/1.1", u32::MAX), Err(BadFrame::Type(b'1')));
    }

    #[test]
    fn an_extended_header_is_read_over() {
        let bytes = [0, 0, 0, 13, 3, 0, 0, 0, 1, 2, 3, 4, 9];
        assert_eq!(read(&bytes, 512).unwrap().unwrap().body, &[9]);
    }
}
