//! Looks over an encoded AMQP value before a decoder that trusts it: every length lies inside the frame, nothing is
//! nested deeper than a real peer nests, and no array claims elements that take no space by the million. What the decoder
//! would misread and then be lost is refused or written in another way.

/// How deep values may be nested. Real performatives stay under ten: a list, its source, a filter map, a described filter.
pub(super) const MAX_DEPTH: u8 = 32;

/// How many elements an array may have whose elements take no bytes.
const MAX_EMPTY_ELEMENTS: usize = 1_024;

use std::borrow::Cow;

const DESCRIBED: u8 = 0x00;
const MAP8: u8 = 0xc1;
const MAP32: u8 = 0xd1;
const ARRAY32: u8 = 0xf0;

/// What is wrong with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("a value ends outside its frame or its container")]
    Truncated,
    #[error("0x{0:02x} is not a format code")]
    FormatCode(u8),
    #[error("values are nested too deep")]
    Depth,
    #[error("a container holds more or less than it says")]
    Size,
    #[error("a map with a key that has no value")]
    OddMap,
    #[error("an array of lists, maps, arrays or described values")]
    CompoundArray,
    /// Right, but not for the decoder. Never comes out of here.
    #[error("an array of nothing")]
    EmptyArray,
}

/// Checks that `input` begins with one well-formed value, nested no deeper than `depth`; what follows it (a transfer's
/// payload) is not looked at.
pub(crate) fn check(input: &[u8], depth: u8) -> Result<(), Malformed> {
    value(input, depth).map(|_| ())
}

/// The same, and returns the value as the decoder understands it.
pub(crate) fn readable(input: &[u8], depth: u8) -> Result<Cow<'_, [u8]>, Malformed> {
    match check(input, depth) {
        Ok(()) => Ok(Cow::Borrowed(input)),
        Err(Malformed::EmptyArray) => {
            let mut out = Vec::with_capacity(input.len() + 64);
            rewrite(input, depth, &mut out)?;
            check(&out, depth)?;
            Ok(Cow::Owned(out))
        }
        Err(malformed) => Err(malformed),
    }
}

/// Writes one value so that no empty array in it says what it has none of, and returns what follows it. Only sizes change.
fn rewrite<'a>(input: &'a [u8], depth: u8, out: &mut Vec<u8>) -> Result<&'a [u8], Malformed> {
    let depth = depth.checked_sub(1).ok_or(Malformed::Depth)?;
    let (&code, rest) = input.split_first().ok_or(Malformed::Truncated)?;
    let width = if code >> 4 & 1 == 0 { 1 } else { 4 };
    match code >> 4 {
        0x0 if code == DESCRIBED => {
            out.push(code);
            let rest = rewrite(rest, depth, out)?;
            rewrite(rest, depth, out)
        }
        0xc | 0xd => {
            let (content, rest) = sized(rest, width)?;
            let (count, mut items) = number(content, width)?;
            out.push(code | 0x10);
            let start = out.len();
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
            for _ in 0..count {
                items = rewrite(items, depth, out)?;
            }
            let size = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
            out[start..start + 4].copy_from_slice(&size.to_be_bytes());
            if items.is_empty() { Ok(rest) } else { Err(Malformed::Size) }
        }
        0xe | 0xf if number(sized(rest, width)?.0, width)?.0 == 0 => {
            out.extend_from_slice(&[ARRAY32, 0, 0, 0, 4, 0, 0, 0, 0]);
            Ok(sized(rest, width)?.1)
        }
        _ => {
            let after = body(code, rest, depth)?;
            out.extend_from_slice(&input[..input.len() - after.len()]);
            Ok(after)
        }
    }
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
        Some((&DESCRIBED, rest)) => constructor(value(rest, depth)?, depth),
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
        0xc => container(code, input, 1, depth),
        0xd => container(code, input, 4, depth),
        0xe => array(input, 1),
        0xf => array(input, 4),
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

/// A list or a map: size, count, and so many values that fill it exactly. A map's are keys and values by turns.
fn container(code: u8, input: &[u8], width: usize, depth: u8) -> Result<&[u8], Malformed> {
    let (content, rest) = sized(input, width)?;
    let (count, mut items) = number(content, width)?;
    if matches!(code, MAP8 | MAP32) && !count.is_multiple_of(2) {
        return Err(Malformed::OddMap);
    }
    for _ in 0..count {
        items = value(items, depth.checked_sub(1).ok_or(Malformed::Depth)?)?;
    }
    if items.is_empty() { Ok(rest) } else { Err(Malformed::Size) }
}

/// An array: size, count, one constructor, and so many bodies that fill it exactly. Some encoders leave the constructor of
/// an empty one out; the decoder takes it for the next value if it is there. Of an array of anything that is not plain it
/// reads the first element right.
fn array(input: &[u8], width: usize) -> Result<&[u8], Malformed> {
    let (content, rest) = sized(input, width)?;
    let (count, content) = number(content, width)?;
    if count == 0 {
        return if content.is_empty() { Ok(rest) } else { Err(Malformed::EmptyArray) };
    }
    let (&code, mut items) = content.split_first().ok_or(Malformed::Truncated)?;
    match code >> 4 {
        0x4 if count > MAX_EMPTY_ELEMENTS => return Err(Malformed::Size),
        0x0 | 0xc..=0xf => return Err(Malformed::CompoundArray),
        _ => {}
    }
    for _ in 0..count {
        items = body(code, items, 0)?;
    }
    if items.is_empty() { Ok(rest) } else { Err(Malformed::Size) }
}

#[cfg(test)]
mod tests;
