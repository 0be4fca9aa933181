//! Frames that are spoilt on purpose.

use bytes::BytesMut;

/// What is wrong with a spoilt frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Corruption {
    /// It says it is smaller than its own header.
    Size,
    /// Its body begins within its header.
    DataOffset,
    /// A type in its performative is none of AMQP's.
    FormatCode,
    /// It ends within its performative.
    Truncate,
}

/// The bytes of a frame's header.
const HEADER: usize = 8;
/// A performative's descriptor: a described value, a small ulong, its value.
const DESCRIPTOR: usize = 3;
/// No type of AMQP 1.0 has this format code.
const NO_FORMAT_CODE: u8 = 0x3f;

impl Corruption {
    /// Spoils the frame that begins at `start` and is the last in `out`. An empty frame has no performative to spoil: says
    /// whether it was done.
    pub(super) fn spoil(self, out: &mut BytesMut, start: usize) -> bool {
        let after_descriptor = out.len().saturating_sub(start + HEADER + DESCRIPTOR);
        match self {
            Self::Size => out[start..start + 4].copy_from_slice(&4_u32.to_be_bytes()),
            Self::DataOffset => out[start + 4] = 1,
            Self::FormatCode if after_descriptor > 0 => out[start + HEADER + DESCRIPTOR] = NO_FORMAT_CODE,
            Self::Truncate if after_descriptor > 1 => {
                // The list's format code is the last that is there.
                out.truncate(start + HEADER + DESCRIPTOR + 1);
                let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
                out[start..start + 4].copy_from_slice(&size.to_be_bytes());
            }
            Self::FormatCode | Self::Truncate => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::performatives::{End, Performative};
    use serde_amqp::from_slice;

    use super::*;
    use crate::amqp::encode;
    use crate::amqp::frame::{self, BadFrame, Kind};
    use crate::amqp::preflight::{self, Malformed};

    fn spoilt(corruption: Corruption) -> Result<Option<frame::Frame>, BadFrame> {
        let mut out = BytesMut::new();
        encode::put(&mut out, Kind::Amqp, 1, &End { error: None }).unwrap();
        let start = out.len();
        encode::put(&mut out, Kind::Amqp, 2, &crate::tests::client::open(60_000)).unwrap();
        assert!(corruption.spoil(&mut out, start));
        let sound = frame::next(&mut out, Kind::Amqp, 4_096).unwrap().unwrap();
        assert!(matches!(from_slice(&sound.body), Ok(Performative::End(_))), "the one before it is as it was");
        frame::next(&mut out, Kind::Amqp, 4_096)
    }

    #[test]
    fn each_is_found_by_who_looks_for_it() {
        assert_eq!(spoilt(Corruption::Size), Err(BadFrame::TooShort(4)));
        assert!(matches!(spoilt(Corruption::DataOffset), Err(BadFrame::DataOffset { doff: 1, .. })));
        for (corruption, found) in [
            (Corruption::FormatCode, Malformed::FormatCode(NO_FORMAT_CODE)),
            (Corruption::Truncate, Malformed::Truncated),
        ] {
            let frame = spoilt(corruption).unwrap().unwrap();
            assert_eq!(preflight::check(&frame.body, preflight::MAX_DEPTH), Err(found));
            assert!(from_slice::<Performative>(&frame.body).is_err());
        }
    }

    #[test]
    fn an_empty_frame_has_no_performative_to_spoil() {
        for corruption in [Corruption::FormatCode, Corruption::Truncate] {
            let mut out = BytesMut::new();
            encode::put_empty(&mut out);
            assert!(!corruption.spoil(&mut out, 0));
            assert_eq!(&out[..], [0, 0, 0, 8, 2, 0, 0, 0]);
        }
    }
}
