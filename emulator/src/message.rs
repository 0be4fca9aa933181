//! A published message, and its AMQP sections (PLATFORM.md 1.6): application properties `topic`, `messageId` and
//! `generateTime`, and the payload in a Data section; a profile can add `message-id` among the standard properties. They are
//! written once, when it is published, by hand; every push of the message sends the same bytes.

use bytes::{BufMut, Bytes, BytesMut};

use crate::profile::{GenerateTime, MessageId, Profile};

/// Which message ID a publisher asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum DraftId {
    /// The platform's next: a 19-digit number.
    #[default]
    Assigned,
    /// This one. The same ID twice is a repeat, as far as a consumer can tell.
    Given(String),
    /// The platform's next, but the message carries no `messageId` property. A test aid.
    Hidden,
}

/// How the payload is carried. Anything but `Data` is a test aid: the platform sends Data sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BodySection {
    /// In this many Data sections; at least one is written.
    #[default]
    Data,
    /// In an `amqp-value` section, as binary.
    Value,
    /// Not at all: the message ends with its application properties.
    None,
}

/// What is published: everything of a message but what the platform adds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Draft {
    /// The topic, `/${productKey}/${deviceName}/…` as a rule.
    pub topic: String,
    /// The payload, any bytes.
    pub payload: Bytes,
    /// The message ID.
    pub id: DraftId,
    /// `generateTime` in Unix ms; the time of publication when `None`.
    pub generate_time_ms: Option<i64>,
    /// The section that carries the payload.
    pub body: BodySection,
    /// How many Data sections the payload is cut into; 0 counts as 1.
    pub data_sections: u16,
}

mod code {
    pub(super) const DESCRIBED: u8 = 0x00;
    pub(super) const SMALL_ULONG: u8 = 0x53;
    pub(super) const LONG: u8 = 0x81;
    pub(super) const BIN8: u8 = 0xa0;
    pub(super) const BIN32: u8 = 0xb0;
    pub(super) const STR8: u8 = 0xa1;
    pub(super) const STR32: u8 = 0xb1;
    pub(super) const MAP32: u8 = 0xd1;
    pub(super) const LIST32: u8 = 0xd0;
    pub(super) const PROPERTIES: u8 = 0x73;
    pub(super) const APPLICATION_PROPERTIES: u8 = 0x74;
    pub(super) const DATA: u8 = 0x75;
    pub(super) const VALUE: u8 = 0x77;
}

impl Draft {
    /// The sections of this message as it goes over the wire, under the message ID `id`.
    #[must_use]
    pub fn encode(&self, id: &str, published_ms: i64, profile: &Profile) -> Bytes {
        let mut out = BytesMut::with_capacity(self.payload.len() + self.topic.len() + 2 * id.len() + 112);
        if profile.message_id == MessageId::Present && self.shows_id() {
            put_message_id(&mut out, id);
        }
        self.put_properties(&mut out, id, published_ms, profile.generate_time);
        match self.body {
            BodySection::Data => {
                let size = self.payload.len().div_ceil(usize::from(self.data_sections.max(1))).max(1);
                let mut rest = &self.payload[..];
                for _ in 0..self.data_sections.max(1) {
                    let (section, tail) = rest.split_at(size.min(rest.len()));
                    rest = tail;
                    put_descriptor(&mut out, code::DATA);
                    put_variable(&mut out, code::BIN8, code::BIN32, section);
                }
            }
            BodySection::Value => {
                put_descriptor(&mut out, code::VALUE);
                put_variable(&mut out, code::BIN8, code::BIN32, &self.payload);
            }
            BodySection::None => {}
        }
        out.freeze()
    }

    fn shows_id(&self) -> bool {
        self.id != DraftId::Hidden
    }

    fn put_properties(&self, out: &mut BytesMut, id: &str, published_ms: i64, generate_time: GenerateTime) {
        put_descriptor(out, code::APPLICATION_PROPERTIES);
        out.put_u8(code::MAP32);
        let size_at = out.len();
        out.put_u32(0);
        out.put_u32(if self.shows_id() { 6 } else { 4 });
        put_string(out, "topic");
        put_string(out, &self.topic);
        if self.shows_id() {
            put_string(out, "messageId");
            put_string(out, id);
        }
        put_string(out, "generateTime");
        let generated_ms = self.generate_time_ms.unwrap_or(published_ms);
        match generate_time {
            GenerateTime::Long => {
                out.put_u8(code::LONG);
                out.put_i64(generated_ms);
            }
            GenerateTime::String => put_string(out, &generated_ms.to_string()),
        }
        let size = size_u32(out.len() - size_at - 4);
        out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
    }
}

/// The standard properties with the first of them alone, `message-id`.
fn put_message_id(out: &mut BytesMut, id: &str) {
    put_descriptor(out, code::PROPERTIES);
    out.put_u8(code::LIST32);
    let size_at = out.len();
    out.put_u32(0);
    out.put_u32(1);
    put_string(out, id);
    let size = size_u32(out.len() - size_at - 4);
    out[size_at..size_at + 4].copy_from_slice(&size.to_be_bytes());
}

fn put_descriptor(out: &mut BytesMut, descriptor: u8) {
    out.put_slice(&[code::DESCRIBED, code::SMALL_ULONG, descriptor]);
}

fn put_string(out: &mut BytesMut, value: &str) {
    put_variable(out, code::STR8, code::STR32, value.as_bytes());
}

fn put_variable(out: &mut BytesMut, short: u8, long: u8, value: &[u8]) {
    if let Ok(length) = u8::try_from(value.len()) {
        out.put_slice(&[short, length]);
    } else {
        out.put_u8(long);
        out.put_u32(size_u32(value.len()));
    }
    out.put_slice(value);
}

/// A length as AMQP writes it. The admin API's limit on the size of a message keeps it far below 4 GiB.
fn size_u32(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::messaging::{Body, Message, MessageId as StandardId, message::DecodeIntoMessage as _};
    use fe2o3_amqp_types::primitives::{SimpleValue, Value};
    use serde_amqp::read::SliceReader;

    use super::*;

    fn decode(sections: &[u8]) -> Message<Body<Value>> {
        Body::decode_message_from_reader(SliceReader::new(sections)).expect("a strict decoder reads it")
    }

    fn draft(payload: &[u8]) -> Draft {
        Draft { topic: "/pk/dn/user/get".into(), payload: Bytes::copy_from_slice(payload), ..Draft::default() }
    }

    #[test]
    fn another_codec_reads_the_three_properties_and_the_payload() {
        let message =
            decode(&draft(b"\x00\xffpayload").encode("1422300000000000001", 1_573_489_088_171, &Profile::default()));
        let properties = message.application_properties.expect("application properties");
        assert_eq!(properties.get("topic"), Some(&SimpleValue::String("/pk/dn/user/get".into())));
        assert_eq!(properties.get("messageId"), Some(&SimpleValue::String("1422300000000000001".into())));
        assert_eq!(properties.get("generateTime"), Some(&SimpleValue::Long(1_573_489_088_171)));
        let Body::Data(sections) = message.body else { panic!("a Data body") };
        assert_eq!(
            sections.iter().map(|section| section.0.to_vec()).collect::<Vec<_>>(),
            [b"\x00\xffpayload".to_vec()]
        );
    }

    #[test]
    fn a_profile_can_have_the_time_a_string_and_the_id_a_standard_property() {
        let profile =
            Profile { generate_time: GenerateTime::String, message_id: MessageId::Present, ..Profile::default() };
        for id in ["7".to_owned(), "7".repeat(300)] {
            let message = decode(&draft(b"x").encode(&id, 1_573_489_088_171, &profile));
            let properties = message.application_properties.expect("application properties");
            assert_eq!(properties.get("generateTime"), Some(&SimpleValue::String("1573489088171".into())));
            assert_eq!(properties.get("messageId"), Some(&SimpleValue::String(id.clone())));
            assert_eq!(message.properties.unwrap().message_id, Some(StandardId::String(id)));
        }
        let hidden = Draft { id: DraftId::Hidden, ..draft(b"h") };
        assert_eq!(decode(&hidden.encode("1", 0, &profile)).properties, None);
    }

    #[test]
    fn payloads_of_every_size_class_survive() {
        for size in [0, 1, 255, 256, 65_536, 262_144] {
            let payload = vec![7; size];
            let Body::Data(sections) = decode(&draft(&payload).encode("1", 0, &Profile::default())).body else {
                panic!("a Data body")
            };
            assert_eq!(sections.iter().flat_map(|section| section.0.to_vec()).collect::<Vec<_>>(), payload, "{size}");
        }
    }

    #[test]
    fn a_payload_can_be_cut_into_several_data_sections() {
        let cut = Draft { data_sections: 3, ..draft(b"abcdefgh") };
        let Body::Data(sections) = decode(&cut.encode("1", 0, &Profile::default())).body else { panic!("a Data body") };
        let parts: Vec<_> = sections.iter().map(|section| section.0.to_vec()).collect();
        assert_eq!(parts, [b"abc".to_vec(), b"def".to_vec(), b"gh".to_vec()]);
    }

    #[test]
    fn the_unusual_bodies_are_what_they_say() {
        let value = Draft { body: BodySection::Value, ..draft(b"v") };
        assert!(matches!(decode(&value.encode("1", 0, &Profile::default())).body, Body::Value(_)));
        let none = Draft { body: BodySection::None, ..draft(b"n") };
        assert!(matches!(decode(&none.encode("1", 0, &Profile::default())).body, Body::Empty));
        let hidden = Draft { id: DraftId::Hidden, ..draft(b"h") };
        let properties =
            decode(&hidden.encode("1", 0, &Profile::default())).application_properties.expect("application properties");
        assert_eq!(properties.get("messageId"), None);
    }
}
