//! Reads AMQP 1.0 values in place (part 1.6, "Type System"): bounds checked, without recursion, without allocation.
//!
//! Only encodings live here. What a field means belongs to [`super::hot`] and [`super::message`].

/// Bytes that are not what AMQP 1.0 says they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// The bytes end inside a value.
    #[error("the bytes end in the middle of a value")]
    Truncated,
    /// A value of another type than its place asks for.
    #[error("expected {expected}, found type code {found:#04x}")]
    Type {
        /// What the place asks for.
        expected: &'static str,
        /// The constructor byte that was there.
        found: u8,
    },
    /// A constructor byte that AMQP 1.0 does not define.
    #[error("type code {0:#04x} is not defined by AMQP 1.0")]
    UnknownType(u8),
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A compound whose parts do not fill exactly the size it states.
    #[error("the parts of a compound do not fit its size")]
    CompoundSize,
    /// A field that must be there is null or left out.
    #[error("the mandatory field {0} is missing")]
    Missing(&'static str),
    /// A composite with more fields than its type has.
    #[error("a performative has more fields than its type")]
    TooManyFields,
    /// Compounds nested deeper than any known performative needs.
    #[error("values are nested too deep")]
    TooDeep,
    /// An array of zero-width elements that would expand to far more than it takes on the wire.
    #[error("an array states more elements than its size can hold")]
    ArrayBomb,
    /// An array whose elements hold others. No known performative has one, and the general decoder misreads it.
    #[error("an array of lists, maps, arrays or described values, which are not read here")]
    ArrayOfCompounds,
    /// A described value whose descriptor is not known at its place.
    #[error("a described value is of no kind known here")]
    Descriptor,
    /// A value outside the range of its field.
    #[error("the field {0} is out of range")]
    Range(&'static str),
}

/// A value of a primitive type, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Scalar<'a> {
    /// The null value.
    Null,
    /// boolean
    Bool(bool),
    /// ubyte, ushort, uint or ulong
    Unsigned(u64),
    /// byte, short, int or long
    Signed(i64),
    /// timestamp: milliseconds since the Unix epoch
    Timestamp(i64),
    /// float
    Float(f32),
    /// double
    Double(f64),
    /// char
    Char(char),
    /// uuid
    Uuid([u8; 16]),
    /// binary
    Binary(&'a [u8]),
    /// string or symbol
    Text(&'a str),
    /// A decimal, a compound or a described value: read over, not interpreted.
    Other,
}

/// A cursor over the bytes of AMQP values.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been read.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    #[inline]
    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.rest.split_at_checked(n).ok_or(Malformed::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self.rest.split_first_chunk::<N>().ok_or(Malformed::Truncated)?;
        self.rest = tail;
        Ok(*head)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(u8::from_be_bytes(self.array()?))
    }

    #[inline]
    fn wide(&mut self) -> Result<u32, Malformed> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn length(&mut self, wide: bool) -> Result<usize, Malformed> {
        if wide {
            usize::try_from(self.wide()?).map_err(|_| Malformed::Truncated)
        } else {
            Ok(usize::from(self.byte()?))
        }
    }

    /// A uint, or nothing for null.
    #[inline]
    pub fn uint(&mut self) -> Result<Option<u32>, Malformed> {
        match self.byte()? {
            0x40 => Ok(None),
            0x43 => Ok(Some(0)),
            0x52 => Ok(Some(u32::from(self.byte()?))),
            0x70 => Ok(Some(self.wide()?)),
            found => Err(Malformed::Type { expected: "uint", found }),
        }
    }

    /// A ubyte, or nothing for null.
    pub fn ubyte(&mut self) -> Result<Option<u8>, Malformed> {
        match self.byte()? {
            0x40 => Ok(None),
            0x50 => Ok(Some(self.byte()?)),
            found => Err(Malformed::Type { expected: "ubyte", found }),
        }
    }

    /// A boolean, or nothing for null.
    #[inline]
    pub fn boolean(&mut self) -> Result<Option<bool>, Malformed> {
        match self.byte()? {
            0x40 => Ok(None),
            0x41 => Ok(Some(true)),
            0x42 => Ok(Some(false)),
            0x56 => match self.byte()? {
                0 => Ok(Some(false)),
                1 => Ok(Some(true)),
                _ => Err(Malformed::Range("boolean")),
            },
            found => Err(Malformed::Type { expected: "boolean", found }),
        }
    }

    /// A binary, or nothing for null.
    #[inline]
    pub fn binary(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.byte()? {
            0x40 => Ok(None),
            code @ (0xa0 | 0xb0) => {
                let n = self.length(code == 0xb0)?;
                Ok(Some(self.take(n)?))
            }
            found => Err(Malformed::Type { expected: "binary", found }),
        }
    }

    /// The header of a list: its fields, and how many they are.
    #[inline]
    pub fn list(&mut self) -> Result<(Reader<'a>, u32), Malformed> {
        match self.byte()? {
            0x45 => Ok((Reader::new(&[]), 0)),
            0xc0 => self.compound(false),
            0xd0 => self.compound(true),
            found => Err(Malformed::Type { expected: "list", found }),
        }
    }

    /// The header of a map: keys and values in turn, and how many they are together. Nothing for null.
    #[inline]
    pub fn map(&mut self) -> Result<Option<(Reader<'a>, u32)>, Malformed> {
        let (body, count) = match self.byte()? {
            0x40 => return Ok(None),
            0xc1 => self.compound(false)?,
            0xd1 => self.compound(true)?,
            found => return Err(Malformed::Type { expected: "map", found }),
        };
        if count % 2 == 0 { Ok(Some((body, count))) } else { Err(Malformed::CompoundSize) }
    }

    /// Size and count of a compound; every element takes at least a byte, so a count above the size is a lie.
    fn compound(&mut self, wide: bool) -> Result<(Reader<'a>, u32), Malformed> {
        let size = self.length(wide)?;
        let mut body = Reader::new(self.take(size)?);
        let count = if wide { body.wide()? } else { u32::from(body.byte()?) };
        if count as usize > body.rest.len() {
            return Err(Malformed::CompoundSize);
        }
        Ok((body, count))
    }

    /// The descriptor of a described value, as its numeric code. Symbolic descriptors of the types that AMQP 1.0 defines
    /// are known by name; a domain other than AMQP's own is refused.
    #[inline]
    pub fn descriptor(&mut self) -> Result<u64, Malformed> {
        match self.rest {
            [0x00, 0x53, code, tail @ ..] => {
                self.rest = tail;
                Ok(u64::from(*code))
            }
            _ => self.long_descriptor(),
        }
    }

    #[cold]
    fn long_descriptor(&mut self) -> Result<u64, Malformed> {
        match self.byte()? {
            0x00 => {}
            found => return Err(Malformed::Type { expected: "a described value", found }),
        }
        match self.byte()? {
            0x44 => Ok(0),
            0x80 => Ok(u64::from_be_bytes(self.array()?)),
            code @ (0xa3 | 0xb3) => {
                let n = self.length(code == 0xb3)?;
                symbolic(self.take(n)?).ok_or(Malformed::Descriptor)
            }
            found => Err(Malformed::Type { expected: "a descriptor", found }),
        }
    }

    /// Any value. Compounds and described values are read over.
    pub fn scalar(&mut self) -> Result<Scalar<'a>, Malformed> {
        let start = *self;
        Ok(match self.byte()? {
            0x40 => Scalar::Null,
            0x41 => Scalar::Bool(true),
            0x42 => Scalar::Bool(false),
            0x56 => match self.byte()? {
                0 => Scalar::Bool(false),
                1 => Scalar::Bool(true),
                _ => return Err(Malformed::Range("boolean")),
            },
            0x43 | 0x44 => Scalar::Unsigned(0),
            0x50 | 0x52 | 0x53 => Scalar::Unsigned(u64::from(self.byte()?)),
            0x60 => Scalar::Unsigned(u64::from(u16::from_be_bytes(self.array()?))),
            0x70 => Scalar::Unsigned(u64::from(self.wide()?)),
            0x80 => Scalar::Unsigned(u64::from_be_bytes(self.array()?)),
            0x51 | 0x54 | 0x55 => Scalar::Signed(i64::from(i8::from_be_bytes(self.array()?))),
            0x61 => Scalar::Signed(i64::from(i16::from_be_bytes(self.array()?))),
            0x71 => Scalar::Signed(i64::from(i32::from_be_bytes(self.array()?))),
            0x81 => Scalar::Signed(i64::from_be_bytes(self.array()?)),
            0x83 => Scalar::Timestamp(i64::from_be_bytes(self.array()?)),
            0x72 => Scalar::Float(f32::from_be_bytes(self.array()?)),
            0x82 => Scalar::Double(f64::from_be_bytes(self.array()?)),
            0x73 => Scalar::Char(char::from_u32(self.wide()?).ok_or(Malformed::Range("char"))?),
            0x98 => Scalar::Uuid(self.array()?),
            code @ (0xa0 | 0xb0) => {
                let n = self.length(code == 0xb0)?;
                Scalar::Binary(self.take(n)?)
            }
            code @ (0xa1 | 0xb1 | 0xa3 | 0xb3) => {
                let n = self.length(code & 0xf0 == 0xb0)?;
                Scalar::Text(std::str::from_utf8(self.take(n)?).map_err(|_| Malformed::Utf8)?)
            }
            _ => {
                *self = start;
                self.skip()?;
                Scalar::Other
            }
        })
    }

    /// Reads over one value of any type. A described value is a descriptor and a value, either of which may be described
    /// again, so this counts what is still to come instead of calling itself.
    pub fn skip(&mut self) -> Result<(), Malformed> {
        let mut pending = 1_usize;
        while pending > 0 {
            pending -= 1;
            let code = self.byte()?;
            let width = match code {
                0x00 => {
                    pending += 2;
                    continue;
                }
                0x40..=0x45 => 0,
                0x50..=0x56 => 1,
                0x60 | 0x61 => 2,
                0x70..=0x74 => 4,
                0x80..=0x84 => 8,
                0x94 | 0x98 => 16,
                0xa0 | 0xa1 | 0xa3 | 0xc0 | 0xc1 | 0xe0 => self.length(false)?,
                0xb0 | 0xb1 | 0xb3 | 0xd0 | 0xd1 | 0xf0 => self.length(true)?,
                _ => return Err(Malformed::UnknownType(code)),
            };
            self.take(width)?;
        }
        Ok(())
    }
}

/// The numeric code of a symbolic descriptor (AMQP 1.0 parts 2.7 and 3.2), for the types that are read by hand.
fn symbolic(name: &[u8]) -> Option<u64> {
    Some(match name {
        b"amqp:open:list" => 0x10,
        b"amqp:begin:list" => 0x11,
        b"amqp:attach:list" => 0x12,
        b"amqp:flow:list" => 0x13,
        b"amqp:transfer:list" => 0x14,
        b"amqp:disposition:list" => 0x15,
        b"amqp:detach:list" => 0x16,
        b"amqp:end:list" => 0x17,
        b"amqp:close:list" => 0x18,
        b"amqp:sasl-mechanisms:list" => 0x40,
        b"amqp:sasl-challenge:list" => 0x42,
        b"amqp:sasl-outcome:list" => 0x44,
        b"amqp:header:list" => 0x70,
        b"amqp:delivery-annotations:map" => 0x71,
        b"amqp:message-annotations:map" => 0x72,
        b"amqp:properties:list" => 0x73,
        b"amqp:application-properties:map" => 0x74,
        b"amqp:data:binary" => 0x75,
        b"amqp:amqp-sequence:list" => 0x76,
        b"amqp:amqp-value:*" => 0x77,
        b"amqp:footer:map" => 0x78,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_of_uint_is_read() {
        for (bytes, value) in [(&[0x43][..], 0), (&[0x52, 7][..], 7), (&[0x70, 0, 0, 1, 0][..], 256)] {
            assert_eq!(Reader::new(bytes).uint(), Ok(Some(value)));
        }
        assert_eq!(Reader::new(&[0x40]).uint(), Ok(None));
        assert_eq!(Reader::new(&[0x70, 0]).uint(), Err(Malformed::Truncated));
        assert_eq!(Reader::new(&[0xa1, 0]).uint(), Err(Malformed::Type { expected: "uint", found: 0xa1 }));
    }

    #[test]
    fn a_count_that_the_size_cannot_hold_is_refused() {
        assert_eq!(Reader::new(&[0xc0, 2, 200, 0x40]).list().map(|(_, n)| n), Err(Malformed::CompoundSize));
        assert_eq!(
            Reader::new(&[0xd0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]).list().map(|(_, n)| n),
            Err(Malformed::CompoundSize)
        );
        assert_eq!(Reader::new(&[0xd0, 0xff, 0xff, 0xff, 0xff]).list().map(|(_, n)| n), Err(Malformed::Truncated));
    }

    #[test]
    fn values_nested_without_end_are_skipped_without_recursion() {
        let deep = vec![0x00; 1 << 20];
        assert_eq!(Reader::new(&deep).skip(), Err(Malformed::Truncated));
    }

    #[test]
    fn a_symbolic_descriptor_means_the_same_as_its_number() {
        let mut bytes = vec![0x00, 0xa3, 18];
        bytes.extend_from_slice(b"amqp:transfer:list");
        assert_eq!(Reader::new(&bytes).descriptor(), Ok(0x14));
        assert_eq!(Reader::new(&[0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x14]).descriptor(), Ok(0x14));
        assert_eq!(Reader::new(&[0x00, 0xa3, 1, b'x']).descriptor(), Err(Malformed::Descriptor));
    }
}
