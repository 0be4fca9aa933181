//! Writes deliveries as protobuf, straight from the message's own memory.
//!
//! The generated types would copy topic, IDs and payload of every message into strings of their own first; this writes the
//! same bytes without them. The application's side reads them with the generated code, and so do the tests.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bytes::BufMut;
use prost::Message as _;
use prost::encoding::encoded_len_varint;
use sluice_cloud::topic;
use sluice_proto::v1::{ConsumeRequest, ConsumeResponse};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

use crate::amqp::message::Message;
use crate::ledger::Lease;

/// A batch is closed once its deliveries take this much: many gRPC clients refuse more than 4 MiB, and a batch that fits
/// in the flow-control window of a slow reader does not hold others up.
pub const BATCH_BYTES: usize = 1 << 20;

/// Bytes by which a delivery may exceed its message: numbers, tags and lengths, and product and device once more.
const OVERHEAD: usize = 4096;

/// One response on the stream.
#[derive(Debug)]
pub enum Response {
    /// Deliveries, written already.
    Deliveries(Batch),
    /// Anything else.
    Other(ConsumeResponse),
}

/// Deliveries as the bytes of a `DeliveryBatch`.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    len: usize,
}

/// Relates the monotonic clock of leases to the wall clock of the API.
#[derive(Debug, Clone, Copy)]
pub struct WallClock {
    instant: Instant,
    unix_ms: i64,
}

impl WallClock {
    /// Both clocks as they are.
    pub fn now(instant: Instant) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant, unix_ms: i64::try_from(since.as_millis()).unwrap_or(i64::MAX) }
    }

    /// The wall clock's time at `instant`, in Unix milliseconds.
    pub fn unix_ms(&self, instant: Instant) -> i64 {
        let ahead = instant.saturating_duration_since(self.instant).as_millis();
        self.unix_ms.saturating_add(i64::try_from(ahead).unwrap_or(i64::MAX))
    }
}

impl Batch {
    /// An empty batch with memory for so many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(bytes), len: 0 }
    }

    /// How many deliveries it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The largest message that still fits; any does as long as the batch is empty.
    pub fn room(&self) -> u32 {
        if self.is_empty() {
            return u32::MAX;
        }
        u32::try_from(BATCH_BYTES.saturating_sub(self.bytes.len() + OVERHEAD)).unwrap_or(u32::MAX)
    }

    /// Appends a delivery.
    pub fn push(&mut self, lease: &Lease<'_, Message>, clock: &WallClock) {
        let message = lease.message;
        let topic = topic::parse(message.topic());
        let fields = Fields {
            numbers: [
                (1, lease.id.0),
                (4, kind(topic.kind) as u64),
                (7, message.generate_time_ms.unwrap_or(0).cast_unsigned()),
                (10, u64::from(lease.attempt)),
                (11, u64::from(lease.possible_repeat)),
                (12, clock.unix_ms(lease.deadline).cast_unsigned()),
            ],
            bytes: [
                (2, message.id_bytes()),
                (3, message.topic_bytes()),
                (5, topic.product_key.unwrap_or_default().as_bytes()),
                (6, topic.device_name.unwrap_or_default().as_bytes()),
                (8, message.payload()),
            ],
            properties: &message.properties,
        };
        let out = &mut self.bytes;
        put_key(out, 1, LENGTH_DELIMITED);
        put_varint(out, fields.len() as u64);
        fields.write(out);
        self.len += 1;
    }
}

const VARINT: u8 = 0;
const LENGTH_DELIMITED: u8 = 2;

/// The fields of a `Delivery`, by number. Those of their default value are left out, as protobuf has it.
struct Fields<'a> {
    numbers: [(u8, u64); 6],
    bytes: [(u8, &'a [u8]); 5],
    properties: &'a [(String, String)],
}

impl Fields<'_> {
    fn len(&self) -> usize {
        let numbers: usize =
            self.numbers.iter().filter(|(_, value)| *value != 0).map(|(_, value)| 1 + encoded_len_varint(*value)).sum();
        let bytes: usize =
            self.bytes.iter().filter(|(_, bytes)| !bytes.is_empty()).map(|(_, bytes)| delimited(bytes.len())).sum();
        let properties: usize = self.properties.iter().map(|entry| delimited(entry_len(entry))).sum();
        numbers + bytes + properties
    }

    fn write(&self, out: &mut Vec<u8>) {
        for (number, value) in self.numbers.iter().filter(|(_, value)| *value != 0) {
            put_key(out, *number, VARINT);
            put_varint(out, *value);
        }
        for (number, bytes) in self.bytes.iter().filter(|(_, bytes)| !bytes.is_empty()) {
            put_bytes(out, *number, bytes);
        }
        for entry in self.properties {
            put_key(out, 9, LENGTH_DELIMITED);
            put_varint(out, entry_len(entry) as u64);
            put_bytes(out, 1, entry.0.as_bytes());
            put_bytes(out, 2, entry.1.as_bytes());
        }
    }
}

/// Key, length and bytes of a length-delimited field. All field numbers here are below 16: one byte of key.
fn delimited(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn entry_len((key, value): &(String, String)) -> usize {
    delimited(key.len()) + delimited(value.len())
}

fn put_key(out: &mut Vec<u8>, number: u8, wire_type: u8) {
    out.push(number << 3 | wire_type);
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn put_bytes(out: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    put_key(out, number, LENGTH_DELIMITED);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn kind(kind: topic::MessageKind) -> sluice_proto::v1::MessageKind {
    use sluice_proto::v1::MessageKind as Wire;
    use topic::MessageKind as Kind;
    match kind {
        Kind::Unspecified => Wire::Unspecified,
        Kind::Custom => Wire::Custom,
        Kind::Status => Wire::Status,
        Kind::PropertyPost => Wire::PropertyPost,
        Kind::EventPost => Wire::EventPost,
        Kind::BatchPost => Wire::BatchPost,
        Kind::DownlinkReply => Wire::DownlinkReply,
        Kind::Lifecycle => Wire::Lifecycle,
        Kind::Topology => Wire::Topology,
        Kind::SubDeviceFound => Wire::SubDeviceFound,
        Kind::Tags => Wire::Tags,
        Kind::PropertyHistory => Wire::PropertyHistory,
        Kind::EventHistory => Wire::EventHistory,
        Kind::OtaResult => Wire::OtaResult,
        Kind::OtaProgress => Wire::OtaProgress,
        Kind::OtaVersion => Wire::OtaVersion,
        Kind::OtaJobStatus => Wire::OtaJobStatus,
    }
}

/// The codec of the `Consume` method on the sidecar's side.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConsumeCodec;

impl Codec for ConsumeCodec {
    type Encode = Response;
    type Decode = ConsumeRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for ConsumeCodec {
    type Item = Response;
    type Error = Status;

    fn encode(&mut self, response: Response, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        match response {
            Response::Deliveries(batch) => {
                out.reserve(batch.bytes.len() + 16);
                out.put_u8(1 << 3 | LENGTH_DELIMITED);
                prost::encoding::encode_varint(batch.bytes.len() as u64, out);
                out.put_slice(&batch.bytes);
                Ok(())
            }
            Response::Other(response) => response.encode(out).map_err(|error| Status::internal(error.to_string())),
        }
    }

    fn buffer_settings(&self) -> BufferSettings {
        // A batch of 64 small messages fits at once.
        BufferSettings::new(32 * 1024, 64 * 1024)
    }
}

impl Decoder for ConsumeCodec {
    type Item = ConsumeRequest;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<ConsumeRequest>, Status> {
        ConsumeRequest::decode(buffer).map(Some).map_err(|error| {
            Status::invalid_argument(format!("the request is not a sluice.v1.ConsumeRequest: {error}"))
        })
    }
}

#[cfg(test)]
impl Batch {
    /// What an application reads.
    pub(crate) fn read(&self) -> Vec<sluice_proto::v1::Delivery> {
        sluice_proto::v1::DeliveryBatch::decode(self.bytes.as_slice()).unwrap().deliveries
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use sluice_proto::v1;

    use super::*;
    use crate::amqp::message;
    use crate::ledger::LeaseId;

    /// The message of these properties and payload, by way of its AMQP encoding.
    pub(crate) fn message(properties: &[(&str, &str)], payload: &[u8]) -> Message {
        fn put(out: &mut Vec<u8>, code: u8, bytes: &[u8]) {
            out.push(code);
            out.extend_from_slice(&u32::try_from(bytes.len()).unwrap().to_be_bytes());
            out.extend_from_slice(bytes);
        }
        let mut entries = u32::try_from(properties.len() * 2).unwrap().to_be_bytes().to_vec();
        for (key, value) in properties {
            put(&mut entries, 0xb1, key.as_bytes());
            put(&mut entries, 0xb1, value.as_bytes());
        }
        let mut out = vec![0x00, 0x53, 0x74];
        put(&mut out, 0xd1, &entries);
        out.extend_from_slice(&[0x00, 0x53, 0x75]);
        put(&mut out, 0xb0, payload);
        message::read(&out).unwrap()
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_the_generated_code_reads(
            id in 0_u64..,
            attempt in 0_u32..,
            possible_repeat: bool,
            generate_time in any::<i64>(),
            topic in "(/[a-zA-Z0-9]{0,9}){0,6}",
            message_id in "[0-9]{0,20}",
            payload in prop::collection::vec(any::<u8>(), 0..300),
            tag in prop::option::of(".{0,20}"),
        ) {
            let time = generate_time.to_string();
            let mut properties = vec![("topic", topic.as_str()), ("messageId", &message_id), ("generateTime", &time)];
            if let Some(tag) = &tag {
                properties.push(("tag", tag));
            }
            let message = message(&properties, &payload);
            let now = Instant::now();
            let clock = WallClock::now(now);
            let deadline = now + Duration::from_secs(25);
            let size = message.size();
            let lease = Lease { id: LeaseId(id), attempt, deadline, possible_repeat, size, message: &message };
            let mut batch = Batch::default();
            batch.push(&lease, &clock);
            batch.push(&lease, &clock);
            let deliveries = batch.read();
            prop_assert_eq!(deliveries.len(), 2);
            let parsed = topic::parse(&topic);
            let expected = v1::Delivery {
                delivery_id: id,
                message_id,
                topic: topic.clone(),
                kind: kind(parsed.kind).into(),
                product_key: parsed.product_key.unwrap_or_default().to_owned(),
                device_name: parsed.device_name.unwrap_or_default().to_owned(),
                generate_time_ms: generate_time,
                payload: payload.into(),
                properties: tag.into_iter().map(|tag| ("tag".to_owned(), tag)).collect(),
                attempt,
                possible_repeat,
                deadline_unix_ms: clock.unix_ms(deadline),
            };
            prop_assert_eq!(&deliveries[0], &expected);
            prop_assert_eq!(&deliveries[1], &expected);
        }
    }

    #[test]
    fn a_batch_has_room_for_any_one_message_and_then_for_what_fits() {
        let mut batch = Batch::default();
        assert_eq!(batch.room(), u32::MAX);
        let message = message(&[], &vec![0; BATCH_BYTES / 2]);
        let lease = Lease {
            id: LeaseId(1),
            attempt: 1,
            deadline: Instant::now(),
            possible_repeat: false,
            size: message.size(),
            message: &message,
        };
        batch.push(&lease, &WallClock::now(Instant::now()));
        assert!((batch.room() as usize) < BATCH_BYTES / 2);
    }
}
