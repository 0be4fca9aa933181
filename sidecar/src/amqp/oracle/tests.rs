//! A bounded run of the comparison over frames that are made to a plan and then damaged: the same ones every time. The
//! unbounded run is `fuzz/`.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::strategy::Union;
use proptest::test_runner::RngSeed;

use super::*;

type Bytes = BoxedStrategy<Vec<u8>>;

/// A constructor and as many random bytes as it says.
fn fixed(constructor: u8, width: usize) -> Bytes {
    vec(any::<u8>(), width).prop_map(move |bytes| [&[constructor], &bytes[..]].concat()).boxed()
}

/// A constructor, a length of one byte or of four, and the bytes.
fn variable(narrow: u8, content: Bytes) -> Bytes {
    (content, any::<bool>())
        .prop_map(move |(content, wide)| {
            let length = u32::try_from(content.len()).unwrap().to_be_bytes();
            if wide {
                [&[narrow | 0x10], &length[..], &content].concat()
            } else {
                [&[narrow, length[3]], &content[..]].concat()
            }
        })
        .boxed()
}

fn any_bytes() -> Bytes {
    vec(any::<u8>(), 0..40).boxed()
}

fn any_text() -> Bytes {
    "[a-z/é0-9]{0,12}".prop_map(String::into_bytes).boxed()
}

fn null() -> Bytes {
    Just(vec![0x40]).boxed()
}

fn uint() -> Bytes {
    prop_oneof![Just(vec![0x43]), fixed(0x52, 1), fixed(0x70, 4)].boxed()
}

fn boolean() -> Bytes {
    select(vec![vec![0x41], vec![0x42], vec![0x56, 0], vec![0x56, 1], vec![0x56, 2]]).boxed()
}

fn string() -> Bytes {
    variable(0xa1, any_text())
}

fn simple() -> Bytes {
    let fixed_width = [
        (0x41, 0),
        (0x42, 0),
        (0x43, 0),
        (0x44, 0),
        (0x50, 1),
        (0x51, 1),
        (0x52, 1),
        (0x53, 1),
        (0x54, 1),
        (0x55, 1),
        (0x56, 1),
        (0x60, 2),
        (0x61, 2),
        (0x70, 4),
        (0x71, 4),
        (0x72, 4),
        (0x73, 4),
        (0x74, 4),
        (0x80, 8),
        (0x81, 8),
        (0x82, 8),
        (0x83, 8),
        (0x84, 8),
        (0x94, 16),
        (0x98, 16),
    ];
    let fixed_width = Union::new(fixed_width.map(|(constructor, width)| fixed(constructor, width)));
    prop_oneof![
        1 => null(),
        4 => fixed_width,
        1 => variable(0xa0, any_bytes()),
        2 => string(),
        1 => variable(0xa3, any_text()),
        1 => variable(0xa1, any_bytes()),
    ]
    .boxed()
}

/// Any value: of a simple type, a compound, an array, or described.
fn value() -> Bytes {
    simple()
        .prop_recursive(3, 12, 4, |inner| {
            prop_oneof![
                (vec(inner.clone(), 0..4), any::<bool>()).prop_map(|(items, wide)| list(&items, wide)),
                (vec((inner.clone(), inner.clone()), 0..3), any::<bool>())
                    .prop_map(|(entries, wide)| map(&entries, wide)),
                (vec("[a-z]{0,5}", 0..4), any::<bool>()).prop_map(|(symbols, wide)| symbols_array(&symbols, wide)),
                (inner.clone(), 0..4_usize, any::<bool>()).prop_map(|(one, count, wide)| array(&one, count, wide)),
                (simple(), inner).prop_map(|(descriptor, value)| [&[0x00], &descriptor[..], &value].concat()),
            ]
        })
        .boxed()
}

fn sized(narrow: u8, wide: bool, count: usize, body: &[u8]) -> Vec<u8> {
    if wide {
        return compound(narrow | 0x10, u32::try_from(count).unwrap(), body);
    }
    let (size, count) = (u8::try_from(body.len() + 1).unwrap_or(0xff), u8::try_from(count).unwrap());
    [&[narrow, size, count], body].concat()
}

fn list(items: &[Vec<u8>], wide: bool) -> Vec<u8> {
    if items.is_empty() && !wide { vec![0x45] } else { sized(0xc0, wide, items.len(), &items.concat()) }
}

fn map(entries: &[(Vec<u8>, Vec<u8>)], wide: bool) -> Vec<u8> {
    let body: Vec<u8> = entries.iter().flat_map(|(key, value)| [&key[..], value].concat()).collect();
    sized(0xc1, wide, entries.len() * 2, &body)
}

fn symbols_array(symbols: &[String], wide: bool) -> Vec<u8> {
    let symbol = |symbol: &String| [&[u8::try_from(symbol.len()).unwrap()], symbol.as_bytes()].concat();
    let body: Vec<u8> = [0xa3].into_iter().chain(symbols.iter().flat_map(symbol)).collect();
    sized(0xe0, wide, symbols.len(), &body)
}

/// So many times the same value; of none, only its constructor.
fn array(one: &[u8], count: usize, wide: bool) -> Vec<u8> {
    let body = [&one[..1], &one[1..].repeat(count)].concat();
    sized(0xe0, wide || body.len() > 250, count, &body)
}

/// Mostly of the right type, sometimes null, seldom anything.
fn field(right: Bytes) -> Bytes {
    prop_oneof![12 => right, 4 => null(), 1 => value()].boxed()
}

fn described(code: u8, name: &'static str, content: Bytes) -> Bytes {
    let symbol = [&[0x00, 0xa3, u8::try_from(name.len()).unwrap()], name.as_bytes()].concat();
    let descriptor = prop_oneof![
        8 => Just(vec![0x00, 0x53, code]),
        1 => Just(vec![0x00, 0x80, 0, 0, 0, 0, 0, 0, 0, code]),
        1 => Just(symbol),
    ];
    (descriptor, content).prop_map(|(descriptor, content)| [descriptor, content].concat()).boxed()
}

/// A described list of the first few of `fields`, sometimes with one too many.
fn composite(code: u8, name: &'static str, fields: Vec<Bytes>) -> Bytes {
    let most = fields.len() + 1;
    let content = (fields, value(), 0..=most, any::<bool>())
        .prop_map(move |(fields, more, count, wide)| {
            let fields: Vec<_> = fields.into_iter().chain([more]).take(count).collect();
            let fits = fields.iter().map(Vec::len).sum::<usize>() < 255;
            list(&fields, wide || !fits)
        })
        .boxed();
    described(code, name, content)
}

fn transfer() -> Bytes {
    let fields = vec![
        uint(),
        uint(),
        variable(0xa0, any_bytes()),
        uint(),
        boolean(),
        boolean(),
        fixed(0x50, 1),
        value(),
        boolean(),
        boolean(),
        boolean(),
    ];
    let performative = composite(0x14, "amqp:transfer:list", fields.into_iter().map(field).collect());
    (performative, prop_oneof![message(), any_bytes()])
        .prop_map(|(performative, payload)| [performative, payload].concat())
        .boxed()
}

fn flow() -> Bytes {
    let fields = [uint(), uint(), uint(), uint(), uint(), uint(), uint(), uint(), boolean(), boolean(), value()];
    composite(0x13, "amqp:flow:list", fields.into_iter().map(field).collect())
}

fn disposition() -> Bytes {
    let fields = [boolean(), uint(), uint(), boolean(), value(), boolean()];
    composite(0x15, "amqp:disposition:list", fields.into_iter().map(field).collect())
}

fn section() -> Bytes {
    let key = prop_oneof![
        6 => select(vec!["topic", "messageId", "generateTime", "tag"]).prop_map(|key| key.as_bytes().to_vec()),
        1 => any_text(),
    ];
    let key = prop_oneof![12 => variable(0xa1, key.clone().boxed()), 2 => variable(0xa3, key.boxed()), 1 => value()];
    let entries = (vec((key, prop_oneof![8 => simple(), 2 => string(), 1 => value()]), 0..5), any::<bool>());
    let entries = entries.prop_map(|(entries, wide)| {
        let fits = entries.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() < 255;
        map(&entries, wide || !fits)
    });
    let anything = (select(vec![0x70_u8, 0x71, 0x72, 0x76, 0x78, 0x79]), value());
    prop_oneof![
        2 => composite(0x73, "amqp:properties:list", vec![field(string()), value(), value()]),
        4 => described(0x74, "amqp:application-properties:map", field(entries.boxed())),
        6 => described(0x75, "amqp:data:binary", field(variable(0xa0, any_bytes()))),
        2 => described(0x77, "amqp:amqp-value:*", value()),
        1 => anything.prop_map(|(code, value)| [&[0x00, 0x53, code], &value[..]].concat()),
    ]
    .boxed()
}

/// Sections, mostly in the order in which they belong.
fn message() -> Bytes {
    (vec(section(), 0..5), prop::bool::weighted(0.9))
        .prop_map(|(mut sections, ordered)| {
            if ordered {
                sections.sort_by_key(|section| Reader::new(section).descriptor().unwrap_or(0));
            }
            sections.concat()
        })
        .boxed()
}

/// What comes once on a connection: any fields, right or wrong.
fn once() -> Bytes {
    let code = select(vec![0x10_u8, 0x11, 0x12, 0x16, 0x17, 0x18, 0x40, 0x44]);
    let field = prop_oneof![3 => simple(), 2 => string(), 2 => uint(), 1 => null(), 3 => value()];
    (code, vec(field, 0..15))
        .prop_map(|(code, fields)| [&[0x00, 0x53, code], &list(&fields, true)[..]].concat())
        .boxed()
}

/// A few bytes changed, put in or left out.
fn damaged(bytes: Bytes) -> Bytes {
    let damage = vec((any::<Index>(), any::<u8>(), 0..3), 0..3);
    (bytes, damage)
        .prop_map(|(mut bytes, damage)| {
            for (at, byte, how) in damage {
                let at = at.index(bytes.len() + 1);
                match how {
                    0 => bytes.insert(at, byte),
                    1 if at < bytes.len() => bytes[at] = byte,
                    _ if at < bytes.len() => drop(bytes.remove(at)),
                    _ => {}
                }
            }
            bytes
        })
        .boxed()
}

fn agree(of: Bytes, compare: fn(&[u8]) -> Result<(), Difference>) {
    let config = ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(1),
        ..ProptestConfig::default()
    };
    proptest!(config, |(bytes in damaged(of))| {
        let result = compare(&bytes);
        prop_assert!(result.is_ok(), "{:02x?}\n{}", bytes, result.unwrap_err());
    });
}

#[test]
fn transfers_mean_the_same_to_both() {
    agree(transfer(), compare);
}

#[test]
fn flows_mean_the_same_to_both() {
    agree(flow(), compare);
}

#[test]
fn dispositions_mean_the_same_to_both() {
    agree(disposition(), compare);
}

#[test]
fn messages_mean_the_same_to_both() {
    agree(message(), compare_message);
}

#[test]
fn what_comes_once_brings_no_decoder_down_and_is_not_misread() {
    agree(once(), compare);
}

/// Every constructor whose values hold no others, with the data of one value.
fn plain() -> impl Iterator<Item = Vec<u8>> {
    let fixed = [
        (0x40..=0x45, &[][..]),
        (0x50..=0x56, &[1]),
        (0x60..=0x61, &[1; 2]),
        (0x70..=0x72, &[1; 4]),
        (0x73..=0x73, &[0, 0, 0, b'x']),
        (0x74..=0x74, &[1; 4]),
        (0x80..=0x84, &[1; 8]),
        (0x94..=0x94, &[1; 16]),
        (0x98..=0x98, &[1; 16]),
    ];
    let variable = [0xa0_u8, 0xa1, 0xa3].map(|narrow| vec![narrow, 1, b'x']);
    let wide = [0xb0_u8, 0xb1, 0xb3].map(|wide| vec![wide, 0, 0, 0, 1, b'x']);
    let fixed = fixed.into_iter().flat_map(|(constructors, data)| constructors.map(move |it| [&[it], data].concat()));
    fixed.chain(variable).chain(wide)
}

#[test]
fn an_array_is_read_right_or_refused_and_what_follows_it_is_read() {
    let frame = |array: Vec<u8>| list(&[array, vec![0x52, 7]], true);
    let read = |frame: &[u8]| serde_amqp::from_slice::<Value>(&shape::check(frame).unwrap());
    for one in plain() {
        for (count, wide) in [(0, false), (0, true), (1, false), (2, false), (3, true)] {
            let frame = frame(array(&one, count, wide));
            let Ok(Value::List(read)) = read(&frame) else { panic!("{frame:02x?} is not read") };
            assert_eq!(read[1], Value::Uint(7));
            compare_value(&frame).unwrap();
        }
    }
    for constructor in [&[0x00, 0x53, 0x70, 0x45][..], &[0xc0], &[0xc1], &[0xd0], &[0xd1], &[0xe0], &[0xf0]] {
        let nothing = frame(sized(0xe0, false, 0, constructor));
        assert_eq!(read(&nothing).unwrap(), Value::List(vec![Value::Array(Vec::new().into()), Value::Uint(7)]));
        let one = frame(sized(0xe0, false, 1, &[constructor, &[1, 0]].concat()));
        assert_eq!(shape::check(&one), Err(Malformed::ArrayOfCompounds));
    }
}

/// Found by the fuzzer: what stands behind the array was taken for a list of no bytes.
#[test]
fn an_empty_array_in_a_body_brings_no_decoder_down() {
    let empty = [0xf0, 0, 0, 0, 5, 0, 0, 0, 0, 0xc0];
    let sections = [&[0x00, 0x53, 0x77, 0xc0, 15, 2], &empty[..], &[0x00, 0x53, 0x72, 0x40]].concat();
    assert!(compare_message(&sections).is_ok());
}
