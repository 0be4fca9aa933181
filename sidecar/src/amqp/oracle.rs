//! fe2o3's codec as an oracle for ours: the same frame in, the same meaning out, or both refuse.
//!
//! Compiled for tests and for the fuzzer (`fuzz/`) alone; nothing of it is in the product. Both sides are given only what
//! [`shape::check`] has passed, since theirs recurses and trusts what it reads.
//!
//! What comes once on a connection is read by fe2o3's codec alone. There the values that it finds in what the check returns
//! are held against those that [`Reader`] finds in what came; it may refuse, and never misread.
//!
//! These differences are known, and nothing else is let pass:
//!
//! | what comes | ours | theirs | why |
//! |---|---|---|---|
//! | a performative with more fields than its type | refuses | leaves them in the payload | they can't be told from the message |
//! | a delivery-tag of more than 32 bytes | refuses | takes | part 2.8.7 |
//! | a transfer's state, a flow's properties | reads over any value | refuses types it doesn't know | nothing here reads them |
//! | header, annotations, footer; standard properties behind message-id | reads over any value | refuses types it doesn't know | as above |
//! | sections out of order or repeated | takes the last one; refuses a mixed body | takes the last one, stops after seven | nobody sends them |
//! | Data sections whose descriptors are written in two ways | one body | two bodies, the last one counts | nobody sends them |
//! | no application properties but a null | none | refuses | harmless |
//! | a property whose key is a symbol | takes | refuses | harmless |
//! | a property whose value is compound or described | leaves it out | refuses | the payload is worth more than it |
//! | two properties of one name | keeps both | keeps the last | part 1.6.23 forbids them |
//! | a message-id of a type that it can't have | takes its text, if it has one | refuses | `PLATFORM.md 1.6`: types are unclear |
//! | a body that is not bytes | refuses: no application could take it | takes | the platform sends Data |
//! | a map with two keys that are the same, once on a connection | keeps both | keeps the last | part 1.6.23 forbids them |

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use fe2o3_amqp_types::definitions::Role;
use fe2o3_amqp_types::messaging::message::__private::Deserializable;
use fe2o3_amqp_types::messaging::{ApplicationProperties, Body, Message as TheirMessage, MessageId};
use fe2o3_amqp_types::performatives::{self, Attach, Begin, Close, Detach, End, Open};
use fe2o3_amqp_types::primitives::SimpleValue;
use fe2o3_amqp_types::sasl::{SaslMechanisms, SaslOutcome};
use serde::de::DeserializeOwned;
use serde_amqp::Value;
use serde_amqp::de::Deserializer;
use serde_amqp::descriptor::Descriptor;
use serde_amqp::primitives::Binary;
use serde_amqp::read::IoReader;

use crate::amqp::hot::{Disposition, Flow, Transfer, code};
use crate::amqp::message::{self, Message, Unreadable};
use crate::amqp::reader::{Malformed, Reader, Scalar};
use crate::amqp::{cold, shape};

/// Bytes that mean one thing to us and another to fe2o3.
#[derive(Debug)]
pub struct Difference {
    /// What was read.
    pub of: &'static str,
    /// What it means to us.
    pub ours: String,
    /// What it means to fe2o3.
    pub theirs: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  ours:   {}\n  theirs: {}", self.of, self.ours, self.theirs)
    }
}

/// Reads the body of a frame both ways; a transfer's payload is compared as a message too.
pub fn compare(body: &[u8]) -> Result<(), Difference> {
    let mut fields = Reader::new(body);
    match fields.descriptor() {
        Ok(code::TRANSFER) => compare_transfer(body, fields),
        Ok(code::FLOW) => compare_flow(body, fields),
        Ok(code::DISPOSITION) => compare_disposition(body, fields),
        Ok(other) => {
            read_cold(other, body);
            compare_value(body)
        }
        Err(_) => Ok(()),
    }
}

/// What comes once on a connection has no reader of ours. But what passes the checks of shape must not bring theirs down.
fn read_cold(descriptor: u64, body: &[u8]) {
    fn read<T: DeserializeOwned>(body: &[u8]) {
        drop(cold::decode::<T>("any", body));
    }
    match descriptor {
        code::OPEN => read::<Open>(body),
        code::BEGIN => read::<Begin>(body),
        code::ATTACH => read::<Attach>(body),
        code::DETACH => read::<Detach>(body),
        code::END => read::<End>(body),
        code::CLOSE => read::<Close>(body),
        code::SASL_MECHANISMS => read::<SaslMechanisms>(body),
        code::SASL_OUTCOME => read::<SaslOutcome>(body),
        _ => {}
    }
}

// ---- Values ----------------------------------------------------------------------------------------------------------

/// A value without those that it holds; they follow it.
#[derive(Debug, PartialEq)]
enum Part {
    Scalar(String),
    Described,
    List(usize),
    /// Of so many entries.
    Map(usize),
    Array(usize),
}

/// A map has two keys that are the same.
const EQUAL_KEYS: Malformed = Malformed::Range("key");

/// Reads one value both ways, if the checks of shape pass it.
pub fn compare_value(body: &[u8]) -> Result<(), Difference> {
    let Ok(checked) = shape::check(body) else { return Ok(()) };
    let Ok(theirs) = serde_amqp::from_slice::<Value>(&checked) else { return Ok(()) };
    let (mut ours, mut parts) = (Vec::new(), Vec::new());
    let read = our_parts(&mut Reader::new(body), &mut ours);
    their_parts(&theirs, &mut parts);
    match read {
        Ok(()) if ours == parts => Ok(()),
        Err(EQUAL_KEYS) => Ok(()),
        _ => Err(Difference { of: "value", ours: format!("{read:?} {ours:?}"), theirs: format!("{parts:?}") }),
    }
}

fn our_parts(reader: &mut Reader<'_>, into: &mut Vec<Part>) -> Result<(), Malformed> {
    match reader.rest().first() {
        Some(0x00) => {
            let mut held = Reader::new(&reader.rest()[1..]);
            reader.skip()?;
            into.push(Part::Described);
            (0..2).try_for_each(|_| our_parts(&mut held, into))
        }
        Some(0x45 | 0xc0 | 0xd0) => {
            let (mut held, count) = reader.list()?;
            into.push(Part::List(count as usize));
            (0..count).try_for_each(|_| our_parts(&mut held, into))
        }
        Some(0xc1 | 0xd1) => {
            let (mut held, count) = reader.map()?.unwrap_or((Reader::new(&[]), 0));
            into.push(Part::Map(count as usize / 2));
            let mut keys = Vec::new();
            for _ in 0..count / 2 {
                let key = into.len();
                our_parts(&mut held, into)?;
                // To serde_amqp the two zeros of a float are one key.
                keys.push(format!("{:?}", &into[key..]).replace("-0.0", "0.0"));
                our_parts(&mut held, into)?;
            }
            let different: HashSet<_> = keys.iter().collect();
            if different.len() == keys.len() { Ok(()) } else { Err(EQUAL_KEYS) }
        }
        Some(0xe0 | 0xf0) => {
            let elements = elements(next(reader)?);
            into.push(Part::Array(elements.len()));
            elements.iter().try_for_each(|element| our_parts(&mut Reader::new(element), into))
        }
        _ => {
            into.push(Part::Scalar(format!("{:?}", reader.scalar()?)));
            Ok(())
        }
    }
}

/// The elements of an array that is well-formed and whose elements are plain, each with its constructor.
fn elements(array: &[u8]) -> Vec<Vec<u8>> {
    let header = if array[0] == 0xe0 { 2 } else { 8 };
    let count = array[1 + header / 2..=header].iter().fold(0, |count, &digit| count << 8 | usize::from(digit));
    let Some((&constructor, mut data)) = array[1 + header..].split_first() else { return Vec::new() };
    let mut elements = Vec::new();
    while elements.len() < count {
        let whole = [&[constructor], data].concat();
        let Ok(element) = next(&mut Reader::new(&whole)) else { break };
        data = &data[element.len() - 1..];
        elements.push(element.to_vec());
    }
    elements
}

fn their_parts(value: &Value, into: &mut Vec<Part>) {
    let scalar = match value {
        Value::Described(described) => {
            into.push(Part::Described);
            their_parts(&descriptor(&described.descriptor), into);
            return their_parts(&described.value, into);
        }
        Value::List(items) => {
            into.push(Part::List(items.len()));
            return items.iter().for_each(|item| their_parts(item, into));
        }
        Value::Map(entries) => {
            into.push(Part::Map(entries.len()));
            return entries.iter().for_each(|(key, value)| [key, value].iter().for_each(|it| their_parts(it, into)));
        }
        Value::Array(elements) => {
            into.push(Part::Array(elements.len()));
            return elements.iter().for_each(|element| their_parts(element, into));
        }
        Value::Null => Scalar::Null,
        Value::Bool(value) => Scalar::Bool(*value),
        Value::Ubyte(value) => Scalar::Unsigned(u64::from(*value)),
        Value::Ushort(value) => Scalar::Unsigned(u64::from(*value)),
        Value::Uint(value) => Scalar::Unsigned(u64::from(*value)),
        Value::Ulong(value) => Scalar::Unsigned(*value),
        Value::Byte(value) => Scalar::Signed(i64::from(*value)),
        Value::Short(value) => Scalar::Signed(i64::from(*value)),
        Value::Int(value) => Scalar::Signed(i64::from(*value)),
        Value::Long(value) => Scalar::Signed(*value),
        Value::Float(value) => Scalar::Float(value.0),
        Value::Double(value) => Scalar::Double(value.0),
        Value::Char(value) => Scalar::Char(*value),
        Value::Timestamp(value) => Scalar::Timestamp(value.milliseconds()),
        Value::Uuid(value) => Scalar::Uuid(value.clone().into_inner()),
        Value::Binary(bytes) => Scalar::Binary(bytes),
        Value::String(text) => Scalar::Text(text),
        Value::Symbol(text) => Scalar::Text(text.as_str()),
        Value::Decimal32(_) | Value::Decimal64(_) | Value::Decimal128(_) => Scalar::Other,
    };
    into.push(Part::Scalar(format!("{scalar:?}")));
}

fn descriptor(descriptor: &Descriptor) -> Value {
    match descriptor {
        Descriptor::Name(name) => Value::Symbol(name.clone()),
        Descriptor::Code(code) => Value::Ulong(*code),
    }
}

// ---- Performatives ---------------------------------------------------------------------------------------------------

fn compare_transfer(body: &[u8], mut fields: Reader<'_>) -> Result<(), Difference> {
    let ours = Transfer::read(&mut fields).map(|transfer| {
        let Transfer { handle, delivery_id, delivery_tag, message_format, settled, more, aborted } = transfer;
        let tag = delivery_tag.map(<[u8]>::to_vec);
        (handle, delivery_id.map(|id| id.0), tag, message_format, settled, more, aborted)
    });
    let payload = fields.rest();
    if ours.is_ok() {
        compare_message(payload)?;
    }
    let Some(checked) = Checked::first_of(body) else { return Ok(()) };
    let theirs = checked.read::<performatives::Transfer>(7).map(|(transfer, rest)| {
        let fields = (
            transfer.handle.0,
            transfer.delivery_id,
            transfer.delivery_tag.map(Binary::into_vec),
            transfer.message_format,
            transfer.settled.unwrap_or(false),
            transfer.more,
            transfer.aborted,
        );
        (fields, rest)
    });
    verdict("transfer", &ours.map(|fields| (fields, payload.to_vec())), &theirs)
}

fn compare_flow(body: &[u8], mut fields: Reader<'_>) -> Result<(), Difference> {
    let ours = Flow::read(&mut fields).map(|flow| {
        let counts = (flow.next_incoming_id.map(|id| id.0), flow.delivery_count.map(|count| count.0));
        let windows = (flow.incoming_window, flow.next_outgoing_id.0, flow.outgoing_window);
        (counts, windows, (flow.handle, flow.link_credit, flow.available, flow.drain, flow.echo))
    });
    let Some(checked) = Checked::first_of(body) else { return Ok(()) };
    let theirs = checked.read::<performatives::Flow>(10).map(|(flow, _)| {
        let counts = (flow.next_incoming_id, flow.delivery_count);
        let windows = (flow.incoming_window, flow.next_outgoing_id, flow.outgoing_window);
        (counts, windows, (flow.handle.map(|handle| handle.0), flow.link_credit, flow.available, flow.drain, flow.echo))
    });
    verdict("flow", &ours, &theirs)
}

fn compare_disposition(body: &[u8], mut fields: Reader<'_>) -> Result<(), Difference> {
    let ours = Disposition::read(&mut fields).map(|it| (it.from_receiver, it.first.0, it.last.0, it.settled));
    let Some(checked) = Checked::first_of(body) else { return Ok(()) };
    let theirs = checked.read::<performatives::Disposition>(4).map(|(it, _)| {
        let last = it.last.unwrap_or(it.first);
        (it.role == Role::Receiver, it.first, last, it.settled)
    });
    verdict("disposition", &ours, &theirs)
}

/// Both the same, or both refuse, or ours refuses for a reason that is listed.
fn verdict<T: PartialEq + fmt::Debug>(
    of: &'static str,
    ours: &Result<T, Malformed>,
    theirs: &Result<T, serde_amqp::Error>,
) -> Result<(), Difference> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) if ours == theirs => Ok(()),
        (Err(_), Err(_)) | (Err(Malformed::TooManyFields | Malformed::Range("delivery-tag")), Ok(_)) => Ok(()),
        _ => Err(Difference { of, ours: format!("{ours:?}"), theirs: format!("{theirs:?}") }),
    }
}

/// A described value that a general decoder may see, and what comes behind it.
struct Checked<'a> {
    value: Cow<'a, [u8]>,
    rest: &'a [u8],
}

impl<'a> Checked<'a> {
    fn first_of(bytes: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        reader.skip().ok()?;
        let (value, rest) = bytes.split_at(bytes.len() - reader.rest().len());
        Some(Self { value: shape::check(value).ok()?, rest })
    }

    /// Their reading of it, with null for the field that ours reads over, and what they leave behind it.
    fn read<T: DeserializeOwned>(&self, unread: u32) -> Result<(T, Vec<u8>), serde_amqp::Error> {
        let value = self.with_null_for(unread).unwrap_or_else(|_| self.value.to_vec());
        let bytes = [&value, self.rest].concat();
        let mut left = &bytes[..];
        let performative = T::deserialize(&mut Deserializer::new(IoReader::new(&mut left)))?;
        Ok((performative, left.to_vec()))
    }

    fn with_null_for(&self, unread: u32) -> Result<Vec<u8>, Malformed> {
        let mut reader = Reader::new(&self.value);
        reader.descriptor()?;
        let descriptor = consumed(&self.value, reader);
        let (mut fields, count) = reader.list()?;
        if count <= unread {
            return Ok(self.value.to_vec());
        }
        let mut kept = Vec::new();
        for n in 0..count {
            let field = next(&mut fields)?;
            kept.extend_from_slice(if n == unread { &[0x40] } else { field });
        }
        Ok([descriptor, &compound(0xd0, count, &kept)].concat())
    }
}

/// The bytes of the next value.
fn next<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], Malformed> {
    let before = reader.rest();
    reader.skip()?;
    Ok(consumed(before, *reader))
}

fn consumed<'a>(before: &'a [u8], after: Reader<'_>) -> &'a [u8] {
    &before[..before.len() - after.rest().len()]
}

/// A list32 or map32.
fn compound(constructor: u8, count: u32, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(body.len() + 4).unwrap_or(u32::MAX);
    [&[constructor], &size.to_be_bytes()[..], &count.to_be_bytes(), body].concat()
}

// ---- Messages --------------------------------------------------------------------------------------------------------

/// What an application sees of a message.
#[derive(Debug, PartialEq)]
struct Meaning {
    topic: String,
    id: String,
    generate_time_ms: Option<i64>,
    properties: Vec<(String, String)>,
    payload: Vec<u8>,
}

/// Reads the sections of a message both ways.
pub fn compare_message(sections: &[u8]) -> Result<(), Difference> {
    let ours = message::read(sections);
    let Some(comparable) = comparable(sections) else { return Ok(()) };
    let theirs = serde_amqp::from_slice::<Deserializable<TheirMessage<Body<Value>>>>(&comparable);
    let theirs = theirs.map(|message| meaning(message.0));
    let ours = ours.map(|message| meaning_of_ours(&message));
    match (&ours, &theirs) {
        (Ok(ours), Ok(Some(theirs))) if ours == theirs => Ok(()),
        (Err(_), Err(_))
        | (Err(Unreadable::NoData), Ok(None))
        | (Err(Unreadable::Malformed(Malformed::TooManyFields)), _) => Ok(()),
        _ => Err(Difference { of: "message", ours: format!("{ours:?}"), theirs: format!("{theirs:?}") }),
    }
}

/// The sections that ours reads, in a form that they can read; nothing where a known difference stands in the way.
fn comparable(mut sections: &[u8]) -> Option<Vec<u8>> {
    let mut kept = Vec::new();
    let (mut last, mut last_descriptor) = (0, Vec::new());
    while !sections.is_empty() {
        let Checked { value, rest } = Checked::first_of(sections)?;
        sections = rest;
        let mut reader = Reader::new(&value);
        let section = reader.descriptor().ok()?;
        let descriptor = consumed(&value, reader).to_vec();
        let goes_on = section == last && matches!(section, 0x75 | 0x76) && descriptor == last_descriptor;
        let second_body = (0x76..=0x77).contains(&section) && (0x75..section).contains(&last);
        if (section <= last && !goes_on) || second_body {
            return None;
        }
        match section {
            0x70..=0x72 | 0x78 => {}
            0x73 => kept.extend([&descriptor[..], &standard_properties(reader)?].concat()),
            0x74 if reader.rest() == [0x40] => {}
            0x74 => kept.extend([&descriptor[..], &application_properties(reader)?].concat()),
            _ => kept.extend_from_slice(&value),
        }
        (last, last_descriptor) = (section, descriptor);
    }
    Some(kept)
}

/// The list without the fields behind message-id.
fn standard_properties(mut reader: Reader<'_>) -> Option<Vec<u8>> {
    let whole = reader.rest();
    let Ok((mut fields, count)) = reader.list() else { return Some(whole.to_vec()) };
    if count == 0 {
        return Some(vec![0x45]);
    }
    let id = next(&mut fields).ok()?;
    let may_be_an_id = matches!(id[0], 0x40 | 0x44 | 0x53 | 0x80 | 0x98 | 0xa0 | 0xb0 | 0xa1 | 0xb1);
    may_be_an_id.then(|| compound(0xd0, 1, id))
}

/// The map with its keys as strings, and with null for the values that they would refuse.
fn application_properties(mut reader: Reader<'_>) -> Option<Vec<u8>> {
    let whole = reader.rest();
    let Ok(Some((mut entries, count))) = reader.map() else { return Some(whole.to_vec()) };
    let mut kept = Vec::new();
    let mut keys = HashSet::new();
    for _ in 0..count / 2 {
        let mut key = next(&mut entries).ok()?.to_vec();
        match key[0] {
            0xa3 => key[0] = 0xa1,
            0xb3 => key[0] = 0xb1,
            _ => {}
        }
        if !keys.insert(key[if key[0] == 0xb1 { 5.min(key.len()) } else { 2.min(key.len()) }..].to_vec()) {
            return None;
        }
        let value = next(&mut entries).ok()?;
        let textless = matches!(value[0], 0x00 | 0x45 | 0xc0..);
        kept.extend([&key[..], if textless { &[0x40] } else { value }].concat());
    }
    Some(compound(0xd1, count, &kept))
}

fn meaning_of_ours(message: &Message) -> Meaning {
    Meaning {
        topic: message.topic().to_owned(),
        id: message.id().to_owned(),
        generate_time_ms: message.generate_time_ms,
        properties: message.properties.clone(),
        payload: message.payload().to_vec(),
    }
}

/// What their message means to an application; nothing if its body is not bytes.
fn meaning(message: TheirMessage<Body<Value>>) -> Option<Meaning> {
    let payload = match message.body {
        Body::Data(batch) => batch.into_iter().flat_map(|data| data.0.into_vec()).collect(),
        Body::Value(value) => match value.0 {
            Value::Binary(bytes) => bytes.into_vec(),
            Value::String(text) => text.into_bytes(),
            Value::Symbol(symbol) => symbol.into_inner().into_bytes(),
            _ => return None,
        },
        Body::Sequence(_) | Body::Empty => return None,
    };
    let standard_id = message.properties.and_then(|properties| properties.message_id).map(|id| match id {
        MessageId::Ulong(n) => n.to_string(),
        MessageId::Uuid(uuid) => hyphenated(&uuid.into_inner()),
        MessageId::Binary(bytes) => String::from_utf8(bytes.into_vec()).unwrap_or_default(),
        MessageId::String(text) => text,
    });
    let mut meaning = Meaning {
        topic: String::new(),
        id: standard_id.unwrap_or_default(),
        generate_time_ms: None,
        properties: Vec::new(),
        payload,
    };
    let ApplicationProperties(entries) = message.application_properties.unwrap_or_default();
    for (key, value) in entries {
        match (key.as_str(), value) {
            ("topic", SimpleValue::String(topic)) => meaning.topic = topic,
            ("topic", SimpleValue::Symbol(topic)) => meaning.topic = topic.into_inner(),
            ("messageId", id) => meaning.id = text(id).unwrap_or(meaning.id),
            ("generateTime", time) => meaning.generate_time_ms = milliseconds(time),
            (_, value) => meaning.properties.extend(text(value).map(|value| (key.clone(), value))),
        }
    }
    Some(meaning)
}

fn milliseconds(time: SimpleValue) -> Option<i64> {
    match time {
        SimpleValue::Bool(_)
        | SimpleValue::Float(_)
        | SimpleValue::Double(_)
        | SimpleValue::Char(_)
        | SimpleValue::Uuid(_)
        | SimpleValue::Binary(_) => None,
        other => text(other)?.parse().ok(),
    }
}

fn text(value: SimpleValue) -> Option<String> {
    Some(match value {
        SimpleValue::Bool(value) => value.to_string(),
        SimpleValue::Ubyte(value) => value.to_string(),
        SimpleValue::Ushort(value) => value.to_string(),
        SimpleValue::Uint(value) => value.to_string(),
        SimpleValue::Ulong(value) => value.to_string(),
        SimpleValue::Byte(value) => value.to_string(),
        SimpleValue::Short(value) => value.to_string(),
        SimpleValue::Int(value) => value.to_string(),
        SimpleValue::Long(value) => value.to_string(),
        SimpleValue::Float(value) => value.0.to_string(),
        SimpleValue::Double(value) => value.0.to_string(),
        SimpleValue::Char(value) => value.to_string(),
        SimpleValue::Timestamp(value) => value.milliseconds().to_string(),
        SimpleValue::Uuid(value) => hyphenated(&value.into_inner()),
        SimpleValue::Binary(bytes) => String::from_utf8(bytes.into_vec()).ok()?,
        SimpleValue::String(text) => text,
        SimpleValue::Symbol(text) => text.into_inner(),
        SimpleValue::Null
        | SimpleValue::Described(_)
        | SimpleValue::Decimal32(_)
        | SimpleValue::Decimal64(_)
        | SimpleValue::Decimal128(_) => return None,
    })
}

fn hyphenated(uuid: &[u8; 16]) -> String {
    let mut text = String::new();
    for (n, byte) in uuid.iter().enumerate() {
        if matches!(n, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.extend([byte >> 4, byte & 0x0f].into_iter().filter_map(|digit| char::from_digit(digit.into(), 16)));
    }
    text
}

#[cfg(test)]
mod tests;
