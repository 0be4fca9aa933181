//! The sections of a message (AMQP 1.0 part 3.2), read in place and copied out once.
//!
//! A held message must not pin the read buffer it came in, so [`Message`] owns one allocation of exactly its size.

use std::borrow::Cow;

use super::reader::{Malformed, Reader, Scalar};

/// A message as the platform pushes it (`PLATFORM.md 1.6`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Topic, message ID and payload, one behind the other.
    store: Box<[u8]>,
    topic_len: u32,
    id_len: u32,
    /// When the platform generated the message, in Unix milliseconds. Not for ordering (`PLATFORM.md 1.6`).
    pub generate_time_ms: Option<i64>,
    /// Application properties other than topic, messageId and generateTime, as text.
    pub properties: Vec<(String, String)>,
}

impl Message {
    /// The topic; empty if the message names none.
    pub fn topic(&self) -> &str {
        text(self.topic_bytes())
    }

    /// The bytes of [`topic`](Self::topic).
    pub fn topic_bytes(&self) -> &[u8] {
        &self.store[..self.topic_len as usize]
    }

    /// The platform's message ID; empty if the message has none, and then no repeat of it can be recognised.
    pub fn id(&self) -> &str {
        text(self.id_bytes())
    }

    /// The bytes of [`id`](Self::id).
    pub fn id_bytes(&self) -> &[u8] {
        &self.store[self.topic_len as usize..][..self.id_len as usize]
    }

    /// What the device sent, or what the platform made of it (`PLATFORM.md 3`).
    pub fn payload(&self) -> &[u8] {
        &self.store[(self.topic_len + self.id_len) as usize..]
    }

    /// Bytes of memory that this message takes, to be counted against the window.
    pub fn size(&self) -> u32 {
        let properties: usize = self.properties.iter().map(|(key, value)| key.len() + value.len()).sum();
        u32::try_from(self.store.len() + properties).unwrap_or(u32::MAX)
    }
}

/// Topic and ID were checked to be UTF-8 when they were read.
fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}

/// Why a delivery can't be given to an application although its frames were in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Its sections are not AMQP.
    #[error("its sections are malformed: {0}")]
    Malformed(#[from] Malformed),
    /// It has no body that is bytes: neither a Data section nor an amqp-value of binary or string.
    #[error("it has no Data section")]
    NoData,
    /// It has bodies of two kinds.
    #[error("it has bodies of more than one kind")]
    MixedBody,
    /// It is larger than this receiver said it takes.
    #[error("it is larger than the {limit} bytes that this link takes")]
    TooLarge {
        /// The link's max-message-size.
        limit: u64,
    },
    /// Its format is not the AMQP message format.
    #[error("its message-format is {0}, not 0")]
    Format(u32),
}

/// The body of a message while its sections are read.
enum Body<'a> {
    None,
    One(&'a [u8]),
    Several(Vec<u8>),
    Value(&'a [u8]),
    /// A body that is not bytes.
    Other,
}

/// What the properties of a message may hold as its ID or generate time.
#[derive(Default)]
struct Properties<'a> {
    topic: &'a str,
    id: Option<Scalar<'a>>,
    generate_time_ms: Option<i64>,
    others: Vec<(String, String)>,
}

/// Reads a message from the payload of its transfer.
pub fn read(bytes: &[u8]) -> Result<Message, Unreadable> {
    let mut reader = Reader::new(bytes);
    let mut properties = Properties::default();
    let mut fallback_id = None;
    let mut body = Body::None;
    while !reader.is_empty() {
        match reader.descriptor()? {
            0x70..=0x72 | 0x78 => reader.skip()?,
            0x73 => fallback_id = standard_id(&mut reader)?,
            0x74 => read_properties(&mut reader, &mut properties)?,
            0x75 => {
                let data = reader.binary()?.ok_or(Unreadable::NoData)?;
                body = match body {
                    Body::None => Body::One(data),
                    Body::One(first) => Body::Several([first, data].concat()),
                    Body::Several(mut all) => {
                        all.extend_from_slice(data);
                        Body::Several(all)
                    }
                    Body::Value(_) | Body::Other => return Err(Unreadable::MixedBody),
                };
            }
            0x76 => {
                reader.skip()?;
                body = match body {
                    Body::None | Body::Other => Body::Other,
                    Body::One(_) | Body::Several(_) | Body::Value(_) => return Err(Unreadable::MixedBody),
                };
            }
            0x77 => {
                if !matches!(body, Body::None) {
                    return Err(Unreadable::MixedBody);
                }
                body = match reader.scalar()? {
                    Scalar::Binary(bytes) => Body::Value(bytes),
                    Scalar::Text(text) => Body::Value(text.as_bytes()),
                    _ => Body::Other,
                };
            }
            _ => return Err(Malformed::Descriptor.into()),
        }
    }
    let payload = match &body {
        Body::One(bytes) | Body::Value(bytes) => bytes,
        Body::Several(all) => all.as_slice(),
        Body::None | Body::Other => return Err(Unreadable::NoData),
    };
    Ok(assemble(properties, fallback_id, payload))
}

/// Copies what was read into one allocation.
fn assemble(properties: Properties<'_>, fallback_id: Option<Scalar<'_>>, payload: &[u8]) -> Message {
    let id = properties.id.and_then(to_text).or_else(|| fallback_id.and_then(to_text)).unwrap_or_default();
    let mut store = Vec::with_capacity(properties.topic.len() + id.len() + payload.len());
    store.extend_from_slice(properties.topic.as_bytes());
    store.extend_from_slice(id.as_bytes());
    store.extend_from_slice(payload);
    Message {
        // A transfer is bounded by max-message-size, far below 4 GiB.
        topic_len: u32::try_from(properties.topic.len()).unwrap_or(u32::MAX),
        id_len: u32::try_from(id.len()).unwrap_or(u32::MAX),
        store: store.into_boxed_slice(),
        generate_time_ms: properties.generate_time_ms,
        properties: properties.others,
    }
}

/// The message-id of the standard properties, which stands in for an absent messageId (`PLATFORM.md 1.6`: the vendor's
/// Node sample reads it).
fn standard_id<'a>(reader: &mut Reader<'a>) -> Result<Option<Scalar<'a>>, Malformed> {
    let (mut fields, count) = reader.list()?;
    if count > 13 {
        return Err(Malformed::TooManyFields);
    }
    if count == 0 {
        return Ok(None);
    }
    Ok(match fields.scalar()? {
        Scalar::Null => None,
        id => Some(id),
    })
}

fn read_properties<'a>(reader: &mut Reader<'a>, into: &mut Properties<'a>) -> Result<(), Malformed> {
    let Some((mut entries, count)) = reader.map()? else {
        return Ok(());
    };
    for _ in 0..count / 2 {
        let Scalar::Text(key) = entries.scalar()? else {
            return Err(Malformed::Type { expected: "a string as the key of a property", found: 0 });
        };
        let value = entries.scalar()?;
        match (key, value) {
            ("topic", Scalar::Text(topic)) => into.topic = topic,
            ("messageId", id) => into.id = Some(id),
            ("generateTime", time) => into.generate_time_ms = milliseconds(time),
            (key, value) => {
                if let Some(value) = to_text(value) {
                    into.others.push((key.to_owned(), value.into_owned()));
                }
            }
        }
    }
    if entries.is_empty() { Ok(()) } else { Err(Malformed::CompoundSize) }
}

/// A time that the platform may send as any kind of number, or as digits (`PLATFORM.md 1.6`).
fn milliseconds(value: Scalar<'_>) -> Option<i64> {
    match value {
        Scalar::Signed(ms) | Scalar::Timestamp(ms) => Some(ms),
        Scalar::Unsigned(ms) => i64::try_from(ms).ok(),
        Scalar::Text(digits) => digits.parse().ok(),
        _ => None,
    }
}

/// A property as text; nothing for null and for what has no text of its own.
fn to_text(value: Scalar<'_>) -> Option<Cow<'_, str>> {
    let text = match value {
        Scalar::Text(text) => return Some(text.into()),
        Scalar::Binary(bytes) => return std::str::from_utf8(bytes).ok().map(Cow::from),
        Scalar::Unsigned(n) => n.to_string(),
        Scalar::Signed(n) | Scalar::Timestamp(n) => n.to_string(),
        Scalar::Bool(b) => b.to_string(),
        Scalar::Float(x) => x.to_string(),
        Scalar::Double(x) => x.to_string(),
        Scalar::Char(c) => c.to_string(),
        Scalar::Uuid(bytes) => {
            let hex = format!("{:032x}", u128::from_be_bytes(bytes));
            [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
        }
        Scalar::Null | Scalar::Other => return None,
    };
    Some(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Vec<u8> {
        let mut out = vec![0xa1, u8::try_from(text.len()).unwrap()];
        out.extend_from_slice(text.as_bytes());
        out
    }

    fn properties(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let body: Vec<u8> = entries.iter().flat_map(|(key, value)| [string(key), value.clone()].concat()).collect();
        let mut out = vec![0x00, 0x53, 0x74, 0xc1, u8::try_from(body.len() + 1).unwrap()];
        out.push(u8::try_from(entries.len() * 2).unwrap());
        [out, body].concat()
    }

    fn data(bytes: &[u8]) -> Vec<u8> {
        [&[0x00, 0x53, 0x75, 0xa0, u8::try_from(bytes.len()).unwrap()], bytes].concat()
    }

    #[test]
    fn a_platform_message_is_read_whole() {
        let id = string("1234567890123456789");
        let bytes = [
            properties(&[
                ("topic", string("/pk/dn/user/up")),
                ("messageId", id),
                ("generateTime", [&[0x81][..], &1_700_000_000_123_i64.to_be_bytes()].concat()),
                ("tag", string("blue")),
            ]),
            data(b"{}"),
        ]
        .concat();
        let message = read(&bytes).unwrap();
        assert_eq!(message.topic(), "/pk/dn/user/up");
        assert_eq!(message.id(), "1234567890123456789");
        assert_eq!(message.payload(), b"{}");
        assert_eq!(message.generate_time_ms, Some(1_700_000_000_123));
        assert_eq!(message.properties, [("tag".to_owned(), "blue".to_owned())]);
    }

    #[test]
    fn numbers_and_strings_mean_the_same() {
        let bytes = [
            properties(&[
                ("messageId", [&[0x80][..], &1_234_567_890_123_456_789_u64.to_be_bytes()].concat()),
                ("generateTime", string("1700000000123")),
            ]),
            data(b""),
        ]
        .concat();
        let message = read(&bytes).unwrap();
        assert_eq!(message.id(), "1234567890123456789");
        assert_eq!(message.generate_time_ms, Some(1_700_000_000_123));
    }

    #[test]
    fn a_property_of_any_scalar_type_is_given_as_its_shortest_text() {
        let bytes = [
            properties(&[
                ("float", [&[0x72][..], &0.1_f32.to_be_bytes()].concat()),
                ("double", [&[0x82][..], &0.1_f64.to_be_bytes()].concat()),
                ("short", vec![0x61, 0xff, 0xfe]),
                ("boolean", vec![0x56, 0x01]),
                ("uuid", [&[0x98][..], &[0xab; 16]].concat()),
                ("null", vec![0x40]),
                ("list", vec![0x45]),
            ]),
            data(b""),
        ]
        .concat();
        let texts = [
            ("float", "0.1"),
            ("double", "0.1"),
            ("short", "-2"),
            ("boolean", "true"),
            ("uuid", "abababab-abab-abab-abab-abababababab"),
        ];
        assert_eq!(read(&bytes).unwrap().properties, texts.map(|(key, text)| (key.to_owned(), text.to_owned())));
        let not_a_boolean = [properties(&[("boolean", vec![0x56, 2])]), data(b"")].concat();
        assert_eq!(read(&not_a_boolean), Err(Unreadable::Malformed(Malformed::Range("boolean"))));
    }

    #[test]
    fn several_data_sections_are_one_payload() {
        let bytes = [data(b"ab"), data(b"cd"), data(b"ef")].concat();
        assert_eq!(read(&bytes).unwrap().payload(), b"abcdef");
    }

    #[test]
    fn the_standard_message_id_stands_in_for_an_absent_one() {
        let standard = [vec![0x00, 0x53, 0x73, 0xc0, 5, 1], string("m7")].concat();
        assert_eq!(read(&[standard.clone(), data(b"")].concat()).unwrap().id(), "m7");
        for without_text in [vec![0x40], vec![0x45], vec![0xa0, 1, 0xff]] {
            let absent = properties(&[("messageId", without_text)]);
            assert_eq!(read(&[standard.clone(), absent, data(b"")].concat()).unwrap().id(), "m7");
        }
        let both = [standard, properties(&[("messageId", string("m8"))]), data(b"")].concat();
        assert_eq!(read(&both).unwrap().id(), "m8");
    }

    #[test]
    fn a_value_of_bytes_is_a_payload_and_any_other_body_is_not() {
        assert_eq!(read(&[&[0x00, 0x53, 0x77], &string("hi")[..]].concat()).unwrap().payload(), b"hi");
        assert_eq!(read(&[0x00, 0x53, 0x77, 0x40]), Err(Unreadable::NoData));
        assert_eq!(read(&properties(&[])), Err(Unreadable::NoData));
        assert_eq!(read(&[0x00, 0x53, 0x75, 0x40]), Err(Unreadable::NoData));
        let text = vec![0x00, 0x53, 0x77, 0xa1, 0];
        let sequence = vec![0x00, 0x53, 0x76, 0x45];
        for mixed in [[data(b"x"), text.clone()], [sequence, text.clone()], [text.clone(), text]] {
            assert_eq!(read(&mixed.concat()), Err(Unreadable::MixedBody));
        }
    }

    #[test]
    fn standard_properties_of_more_fields_than_there_are_is_refused() {
        let of = |count: u8| {
            [&[0x00, 0x53, 0x73, 0xc0, count + 1, count], &vec![0x40; count.into()][..], &data(b"")].concat()
        };
        assert_eq!(read(&of(13)).map(|message| message.payload().to_vec()), Ok(Vec::new()));
        assert_eq!(read(&of(14)), Err(Unreadable::Malformed(Malformed::TooManyFields)));
    }

    #[test]
    fn rubbish_is_an_error_and_never_a_panic() {
        let whole = [properties(&[("topic", string("/a/b"))]), data(b"payload")].concat();
        for cut in 1..whole.len() {
            let _ = read(&whole[..cut]);
        }
        assert!(read(&[0xff; 64]).is_err());
        assert!(read(&[0x00; 64]).is_err());
    }
}
