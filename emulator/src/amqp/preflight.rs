//! Looks over an encoded AMQP value before a decoder that trusts it: every length lies inside the frame, nothing is
//! nested deeper than a real peer nests, and no array claims elements that take no space by the million.

/// How deep values may be nested. Real performatives stay under ten: a list, its source, a filter map, a described filter.
const MAX_DEPTH: u8 = 32;

/// How many elements an array may have whose elements take no bytes.
const MAX_EMPTY_ELEMENTS: usize = 1_024;

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a value ends outside its frame or its container")]
    Truncated,
    #[error("0x{0:02x} is not a format code")]
    FormatCode(u8),
    #[error("values are nested deeper than {MAX_DEPTH}")]
    Depth,
    #[error("a container holds more or less than it says")]
    Size,
}

/// Checks that `input` begins with one well-formed value; what follows it (a transfer's payload) is not looked at.
pub(crate) fn check(input: &[u8]) -> Result<(), Malformed> {
    value(input, MAX_DEPTH).map(|_| ())
}

/// Passes over one value and returns what follows it.
fn value(input: &[u8], depth: u8) -> Result<&[u8], Malformed> {
    let (code, rest) = constructor(input, depth)?;
    body(code, rest, depth)
}

/// Reads a constructor, descriptors included, and returns the format code at its end.
fn constructor(input: &[u8], depth: u8) -> Result<(u8, &[u8]), Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed::Depth)?;
    match input.split_first() {
        None => Err(Malformed::Truncated),
        Some((0x00, rest)) => constructor(value(rest, depth)?, depth),
        Some((&code, rest)) => Ok((code, rest)),
    }
}

/// Passes over the data of a value with this format code: the high nibble says how long it is (AMQP 1.0, 1.2.1).
fn body(code: u8, input: &[u8], depth: u8) -> Result<&[u8], Malformed> {
    let skip = |length: usize| input.get(length..).ok_or(Malformed::Truncated);
    match code >> 4 {
        0x4 => Ok(input),
        0x5 => skip(1),
        0x6 => skip(2),
        0x7 => skip(4),
        0x8 => skip(8),
        0x9 => skip(16),
        0xa => sized(input, 1).map(|(_, rest)| rest),
        0xb => sized(input, 4).map(|(_, rest)| rest),
        0xc => container(input, 1, depth),
        0xd => container(input, 4, depth),
        0xe => array(input, 1, depth),
        0xf => array(input, 4, depth),
        _ => Err(Malformed::FormatCode(code)),
    }
}

/// Reads a length of `width` bytes and that many bytes; returns them and what follows.
fn sized(input: &[u8], width: usize) -> Result<(&[u8], &[u8]), Malformed> {
    let (length, rest) = number(input, width)?;
    rest.split_at_checked(length).ok_or(Malformed::Truncated)
}

fn number(input: &[u8], width: usize) -> Result<(usize, &[u8]), Malformed> {
    let (digits, rest) = input.split_at_checked(width).ok_or(Malformed::Truncated)?;
    Ok((digits.iter().fold(0, |number, &digit| number << 8 | usize::from(digit)), rest))
}

/// A list or a map: size, count, and so many values that fill it exactly.
fn container(input: &[u8], width: usize, depth: u8) -> Result<&[u8], Malformed> {
    let (content, rest) = sized(input, width)?;
    let (count, mut items) = number(content, width)?;
    for _ in 0..count {
        items = value(items, depth.checked_sub(1).ok_or(Malformed::Depth)?)?;
    }
    if items.is_empty() { Ok(rest) } else { Err(Malformed::Size) }
}

/// An array: size, count, one constructor, and so many bodies that fill it exactly. Some encoders leave the constructor of
/// an empty one out.
fn array(input: &[u8], width: usize, depth: u8) -> Result<&[u8], Malformed> {
    let (content, rest) = sized(input, width)?;
    let (count, content) = number(content, width)?;
    if count == 0 && content.is_empty() {
        return Ok(rest);
    }
    let depth = depth.checked_sub(1).ok_or(Malformed::Depth)?;
    let (code, mut items) = constructor(content, depth)?;
    if code >> 4 == 0x4 && count > MAX_EMPTY_ELEMENTS {
        return Err(Malformed::Size);
    }
    for _ in 0..count {
        items = body(code, items, depth)?;
    }
    if items.is_empty() { Ok(rest) } else { Err(Malformed::Size) }
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::definitions::{Error, ErrorCondition, Fields};
    use fe2o3_amqp_types::performatives::{Close, Open};
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
        assert_eq!(check(&to_vec(&open).unwrap()), Ok(()));
        let error = Error::new(ErrorCondition::Custom(Symbol::from("x:y")), Some("why".to_owned()), None);
        assert_eq!(check(&to_vec(&Close { error: Some(error) }).unwrap()), Ok(()));
    }

    #[test]
    fn deep_nesting_is_refused_without_recursion_running_away() {
        let described = [0x00].repeat(60_000);
        assert_eq!(check(&described), Err(Malformed::Depth));
        let mut nested = vec![0x45];
        for _ in 0..40 {
            let mut list = vec![0xd0];
            list.extend_from_slice(&u32::try_from(nested.len() + 4).unwrap().to_be_bytes());
            list.extend_from_slice(&1_u32.to_be_bytes());
            list.append(&mut nested);
            nested = list;
        }
        assert_eq!(check(&nested), Err(Malformed::Depth));
    }

    #[test]
    fn claims_of_size_and_count_are_held_against_what_is_there() {
        assert_eq!(check(&[]), Err(Malformed::Truncated));
        assert_eq!(check(&[0xb0, 0xff, 0xff, 0xff, 0xff, 1]), Err(Malformed::Truncated));
        assert_eq!(check(&[0xc0, 2, 9, 0x40]), Err(Malformed::Truncated));
        assert_eq!(check(&[0xc0, 3, 1, 0x40, 0x40]), Err(Malformed::Size));
        assert_eq!(check(&[0xf0, 0, 0, 0, 5, 0x7f, 0xff, 0xff, 0xff, 0x40]), Err(Malformed::Size));
        assert_eq!(check(&[0x17]), Err(Malformed::FormatCode(0x17)));
    }

    proptest! {
        #[test]
        fn what_passes_does_not_harm_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if check(&bytes).is_ok() {
                let _ = from_slice::<Value>(&bytes);
                let _ = from_slice::<fe2o3_amqp_types::performatives::Performative>(&bytes);
            }
        }
    }
}
