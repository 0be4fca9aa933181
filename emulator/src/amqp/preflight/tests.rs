//! What passes the check, what does not, and that what passes does the decoder no harm.

use fe2o3_amqp_types::definitions::{Error, ErrorCondition, Fields};
use fe2o3_amqp_types::performatives::{Close, Open, Performative};
use fe2o3_amqp_types::sasl::SaslInit;
use proptest::prelude::*;
use serde_amqp::primitives::{Array, Symbol};
use serde_amqp::{Value, from_slice, to_vec};

use super::*;

#[test]
fn what_a_real_encoder_writes_passes() {
    let mut properties = Fields::new();
    properties.insert(Symbol::from("product"), Value::String("x".repeat(3_000)));
    let open = Open {
        container_id: "c".into(),
        hostname: None,
        max_frame_size: 65_536.into(),
        channel_max: 7.into(),
        idle_time_out: Some(60_000),
        outgoing_locales: Some(Array::from(vec![Symbol::from("en-US"), Symbol::from("de")])),
        incoming_locales: None,
        offered_capabilities: Some(Array::from(Vec::<Symbol>::new())),
        desired_capabilities: None,
        properties: Some(properties),
    };
    assert_eq!(check(&to_vec(&open).unwrap(), MAX_DEPTH), Ok(()));
    let error = Error::new(ErrorCondition::Custom(Symbol::from("x:y")), Some("why".to_owned()), None);
    assert_eq!(check(&to_vec(&Close { error: Some(error) }).unwrap(), MAX_DEPTH), Ok(()));
}

#[test]
fn deep_nesting_is_refused_without_recursion_running_away() {
    let described = [0x00].repeat(60_000);
    assert_eq!(check(&described, MAX_DEPTH), Err(Malformed::Depth));
    let mut nested = vec![0x45];
    for _ in 0..40 {
        let mut list = vec![0xd0];
        list.extend_from_slice(&u32::try_from(nested.len() + 4).unwrap().to_be_bytes());
        list.extend_from_slice(&1_u32.to_be_bytes());
        list.append(&mut nested);
        nested = list;
    }
    assert_eq!(check(&nested, MAX_DEPTH), Err(Malformed::Depth));
}

#[test]
fn claims_of_size_and_count_are_held_against_what_is_there() {
    assert_eq!(check(&[], MAX_DEPTH), Err(Malformed::Truncated));
    assert_eq!(check(&[0xb0, 0xff, 0xff, 0xff, 0xff, 1], MAX_DEPTH), Err(Malformed::Truncated));
    assert_eq!(check(&[0xc0, 2, 9, 0x40], MAX_DEPTH), Err(Malformed::Truncated));
    assert_eq!(check(&[0xc0, 3, 1, 0x40, 0x40], MAX_DEPTH), Err(Malformed::Size));
    assert_eq!(check(&[0xf0, 0, 0, 0, 5, 0x7f, 0xff, 0xff, 0xff, 0x40], MAX_DEPTH), Err(Malformed::Size));
    assert_eq!(check(&[0xe0, 5, 1, 0xc1, 2, 1, 0x40], MAX_DEPTH), Err(Malformed::CompoundArray));
    assert_eq!(check(&[0xe0, 5, 1, 0x00, 0x53, 1, 0x40], MAX_DEPTH), Err(Malformed::CompoundArray));
    assert_eq!(check(&[0x17], MAX_DEPTH), Err(Malformed::FormatCode(0x17)));
}

#[test]
fn a_map_with_a_key_that_has_no_value_is_refused_wherever_it_is() {
    let odd = [0xc1, 2, 1, 0x40];
    assert_eq!(check(&odd, MAX_DEPTH), Err(Malformed::OddMap));
    assert_eq!(check(&[0xd1, 0, 0, 0, 5, 0, 0, 0, 1, 0x40], MAX_DEPTH), Err(Malformed::OddMap));
    assert_eq!(check(&[&[0xc0, 5, 1], &odd[..]].concat(), MAX_DEPTH), Err(Malformed::OddMap));
    assert_eq!(check(&[0xc1, 1, 0], MAX_DEPTH), Ok(()));
    assert_eq!(check(&[0xc1, 3, 2, 0x40, 0x40], MAX_DEPTH), Ok(()));
    assert_eq!(check(&[0xc0, 2, 1, 0x40], MAX_DEPTH), Ok(()), "a list may be odd");
}

#[test]
fn an_array_of_nothing_that_says_of_what_is_nothing_to_the_decoder_either() {
    for array in [&[0xe0, 2, 0, 0xa3][..], &[0xf0, 0, 0, 0, 5, 0, 0, 0, 0, 0xa3], &[0xe0, 1, 0]] {
        // A begin, with these capabilities and then properties.
        let properties = [0xc1, 7, 2, 0xa3, 1, b'k', 0xa1, 1, b'v'];
        let fields = [&[0x40, 0x52, 1, 0x52, 2, 0x52, 3, 0x40][..], array, &[0x40], &properties[..]].concat();
        let size = u8::try_from(fields.len() + 1).unwrap();
        let body = [&[0x00, 0x53, 0x11, 0xc0, size, 8], &fields[..]].concat();
        let Performative::Begin(begin) = from_slice(&readable(&body, MAX_DEPTH).unwrap()).unwrap() else {
            panic!("a begin")
        };
        assert_eq!((begin.next_outgoing_id, begin.outgoing_window), (1, 3));
        assert_eq!(begin.properties.unwrap().get(&Symbol::from("k")), Some(&Value::String("v".into())), "{array:?}");
    }
    let sound = to_vec(&Value::List(vec![Value::Uint(7)])).unwrap();
    assert!(matches!(readable(&sound, MAX_DEPTH), Ok(std::borrow::Cow::Borrowed(_))));
    assert_eq!(readable(&[0xc0, 5, 2, 0xe0, 2, 0, 0xa3], MAX_DEPTH), Err(Malformed::Truncated));
}

/// A value that holds no others, encoded: its format code and its data.
fn plain() -> impl Strategy<Value = (u8, Vec<u8>)> {
    let fixed = |codes: &'static [u8], width: usize| {
        (proptest::sample::select(codes), proptest::collection::vec(any::<u8>(), width))
    };
    let text = proptest::collection::vec(prop_oneof![9 => b'a'..=b'z', 1 => any::<u8>()], 0..12);
    let variable = (proptest::sample::select(&[0xa0_u8, 0xa1, 0xa3, 0xb0, 0xb1, 0xb3][..]), text);
    prop_oneof![
        fixed(&[0x40, 0x41, 0x42, 0x43, 0x44, 0x45], 0),
        fixed(&[0x50, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56], 1),
        fixed(&[0x60, 0x61], 2),
        fixed(&[0x70, 0x71, 0x72, 0x73, 0x74], 4),
        fixed(&[0x80, 0x81, 0x82, 0x83, 0x84], 8),
        fixed(&[0x94, 0x98], 16),
        variable.prop_map(|(code, text)| (code, sized_data(code, &text))),
    ]
}

/// The data of something whose size comes before it, as wide as its format code says.
fn sized_data(code: u8, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(content.len()).unwrap().to_be_bytes();
    let size = if matches!(code >> 4, 0xa | 0xc | 0xe) { &size[3..] } else { &size[..] };
    [size, content].concat()
}

fn compound_data(code: u8, count: usize, items: &[u8]) -> Vec<u8> {
    let wide = u32::try_from(count).unwrap().to_be_bytes();
    let count = if matches!(code, 0xc0 | 0xc1 | 0xe0) { &wide[3..] } else { &wide[..] };
    sized_data(code, &[count, items].concat())
}

/// Any value, encoded. Most are right; some maps are odd, and some arrays' elements are not what the constructor says.
fn value_of_any_kind() -> impl Strategy<Value = (u8, Vec<u8>)> {
    plain().prop_recursive(5, 48, 6, |inner| {
        let items = proptest::collection::vec(inner.clone(), 0..6);
        let lists = proptest::sample::select(&[0xc0_u8, 0xd0, 0xc1, 0xd1, 0xc1, 0xd1][..]);
        let compound = (lists, items.clone()).prop_map(|(code, items)| {
            let bytes: Vec<u8> = items.iter().flat_map(whole).collect();
            let narrow = bytes.len() < 250;
            let code = if narrow { code } else { code | 0x10 };
            (code, compound_data(code, items.len(), &bytes))
        });
        let array = (inner.clone(), 0..4_usize, any::<bool>()).prop_map(|((code, data), count, described)| {
            let constructor = if described { vec![0x00, 0x53, 0x70, code] } else { vec![code] };
            let bytes = [constructor, data.repeat(count)].concat();
            (0xf0, compound_data(0xf0, count, &bytes))
        });
        let described =
            (inner.clone(), inner).prop_map(|(descriptor, value)| (0x00, [whole(&descriptor), whole(&value)].concat()));
        prop_oneof![3 => compound, 1 => array, 1 => described]
    })
}

fn whole((code, data): &(u8, Vec<u8>)) -> Vec<u8> {
    [&[*code], &data[..]].concat()
}

/// A performative or a frame of SASL with fields of any kind, and some bytes of it changed.
fn nearly_valid() -> impl Strategy<Value = Vec<u8>> {
    let descriptor = prop_oneof![0x10..=0x18_u8, 0x40..=0x44_u8, 0x1d..=0x29_u8];
    let fields = proptest::collection::vec(prop_oneof![2 => Just((0x40, Vec::new())), 3 => value_of_any_kind()], 0..15);
    let performative = (descriptor, fields).prop_map(|(descriptor, fields)| {
        let bytes: Vec<u8> = fields.iter().flat_map(whole).collect();
        [&[0x00, 0x53, descriptor, 0xd0], &compound_data(0xd0, fields.len(), &bytes)[..]].concat()
    });
    let bytes = prop_oneof![2 => performative, 1 => value_of_any_kind().prop_map(|it| whole(&it))];
    let changes = proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..3);
    (bytes, changes, proptest::option::weighted(0.1, any::<proptest::sample::Index>())).prop_map(
        |(mut bytes, changes, cut)| {
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            bytes.truncate(cut.map_or(bytes.len(), |cut| cut.index(bytes.len())));
            bytes
        },
    )
}

/// Decodes as everything that the emulator decodes as.
fn decode(bytes: &[u8]) {
    let _ = from_slice::<Value>(bytes);
    let _ = from_slice::<Performative>(bytes);
    let _ = from_slice::<SaslInit>(bytes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2_000)))]

    #[test]
    fn what_passes_does_the_decoder_no_harm(bytes in nearly_valid()) {
        if let Ok(bytes) = readable(&bytes, MAX_DEPTH) {
            decode(&bytes);
        }
    }

    #[test]
    fn nor_do_bytes_of_any_kind(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(bytes) = readable(&bytes, MAX_DEPTH) {
            decode(&bytes);
        }
    }
}

#[test]
fn most_of_what_is_nearly_valid_passes() {
    use proptest::strategy::ValueTree as _;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut generate = || nearly_valid().new_tree(&mut runner).unwrap().current();
    let passed = (0..500).filter(|_| readable(&generate(), MAX_DEPTH).is_ok()).count();
    assert!(passed > 100, "{passed} of 500");
}
