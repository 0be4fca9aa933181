//! Checks of shape that come before a general decoder sees a peer's bytes: every size inside its frame, nesting bounded,
//! no arrays that expand to far more than they take on the wire.
//!
//! `serde_amqp` recurses on nested values, trusts an array's count and underflows on a map of odd length, so nothing reaches
//! it that has not passed here. Two kinds of array it misreads: of an array of compounds it reads the first element right,
//! so such arrays are refused; the constructor of an empty array it takes for the next value, so that is left out.

use std::borrow::Cow;
use std::ops::Range;

use super::reader::Malformed;

/// Deep enough for every performative with properties of its own; far from any stack's end.
const MAX_DEPTH: usize = 24;

/// An array of a zero-width type says nothing but its length; more than this many elements in one value, all its arrays
/// together, is an attack.
const MAX_ZERO_WIDTH: u32 = 1024;

/// Checks that `bytes` hold exactly one value, whole and of bounded depth, and returns it as the decoder understands it.
pub fn check(bytes: &[u8]) -> Result<Cow<'_, [u8]>, Malformed> {
    let mut walk = Walk { bytes, at: 0, open: Vec::with_capacity(8), zero_width: 0, rewrite: None };
    walk.value()?;
    if walk.at != bytes.len() {
        return Err(Malformed::CompoundSize);
    }
    Ok(walk.rewrite.map_or(Cow::Borrowed(bytes), |rewrite| Cow::Owned(rewrite.finish())))
}

/// Where a value states its size, and where what that size covers ends.
struct Extent {
    size: Range<usize>,
    end: usize,
}

/// A compound or described value that has been entered: its extent (a described value states none) and how many values it
/// still holds.
struct Open {
    extent: Option<Extent>,
    left: u32,
}

/// The same value with some bytes left out. Until it is finished, everything is where it was.
struct Rewrite {
    bytes: Vec<u8>,
    left_out: Vec<Range<usize>>,
}

impl Rewrite {
    /// The size stated there covers so many bytes less.
    fn shrink(&mut self, size: &Range<usize>, by: usize) {
        let digits = &mut self.bytes[size.clone()];
        let stated = digits.iter().fold(0, |number, &digit| number << 8 | usize::from(digit));
        let smaller = (stated - by).to_be_bytes();
        digits.copy_from_slice(&smaller[smaller.len() - digits.len()..]);
    }

    fn finish(self) -> Vec<u8> {
        let mut kept = Vec::with_capacity(self.bytes.len());
        let mut at = 0;
        for range in self.left_out {
            kept.extend_from_slice(&self.bytes[at..range.start]);
            at = range.end;
        }
        kept.extend_from_slice(&self.bytes[at..]);
        kept
    }
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    open: Vec<Open>,
    /// How many elements of no width there were.
    zero_width: u32,
    rewrite: Option<Rewrite>,
}

impl Walk<'_> {
    /// Walks over one value and all that it holds.
    fn value(&mut self) -> Result<(), Malformed> {
        let code = self.byte()?;
        self.enter(code)?;
        while let Some(top) = self.open.last_mut() {
            if top.left == 0 {
                if top.extent.as_ref().is_some_and(|extent| extent.end != self.at) {
                    return Err(Malformed::CompoundSize);
                }
                self.open.pop();
                continue;
            }
            top.left -= 1;
            let code = self.byte()?;
            self.enter(code)?;
        }
        Ok(())
    }

    /// Consumes a value of constructor `code`, or opens it if it holds others.
    fn enter(&mut self, code: u8) -> Result<(), Malformed> {
        match code {
            0x00 => self.push(Open { extent: None, left: 2 }),
            0xc0 | 0xc1 | 0xd0 | 0xd1 => {
                let wide = code >= 0xd0;
                let extent = self.sized(wide)?;
                let left = self.number(wide)?;
                let holds_pairs = matches!(code, 0xc1 | 0xd1);
                if left as usize > extent.end.saturating_sub(self.at) || (holds_pairs && left % 2 == 1) {
                    return Err(Malformed::CompoundSize);
                }
                self.push(Open { extent: Some(extent), left })
            }
            0xe0 | 0xf0 => self.array(code == 0xf0),
            _ => self.plain(code),
        }
    }

    fn push(&mut self, open: Open) -> Result<(), Malformed> {
        if self.open.len() == MAX_DEPTH {
            return Err(Malformed::TooDeep);
        }
        self.open.push(open);
        Ok(())
    }

    /// Arrays in performatives hold symbols (capabilities, locales, mechanisms) and nothing that nests.
    fn array(&mut self, wide: bool) -> Result<(), Malformed> {
        let extent = self.sized(wide)?;
        let count = self.number(wide)?;
        if count == 0 {
            return self.nothing_of(&extent);
        }
        let element = self.byte()?;
        match element {
            0x00 | 0xc0..=0xff => return Err(Malformed::ArrayOfCompounds),
            0x40..=0x45 => {
                self.zero_width = self.zero_width.saturating_add(count);
                if self.zero_width > MAX_ZERO_WIDTH {
                    return Err(Malformed::ArrayBomb);
                }
            }
            _ if count as usize > extent.end.saturating_sub(self.at) => return Err(Malformed::ArrayBomb),
            _ => {
                for _ in 0..count {
                    self.plain(element)?;
                }
            }
        }
        if self.at == extent.end { Ok(()) } else { Err(Malformed::CompoundSize) }
    }

    /// An empty array may say what it has none of, or not. If it does, that is left out.
    fn nothing_of(&mut self, extent: &Extent) -> Result<(), Malformed> {
        let start = self.at;
        if start < extent.end {
            self.constructor()?;
        }
        if self.at != extent.end {
            return Err(Malformed::CompoundSize);
        }
        let constructor = start..self.at;
        if constructor.is_empty() {
            return Ok(());
        }
        let around = self.open.iter().filter_map(|open| open.extent.as_ref());
        let rewrite = self.rewrite.get_or_insert_with(|| Rewrite { bytes: self.bytes.to_vec(), left_out: Vec::new() });
        for extent in around.chain([extent]) {
            rewrite.shrink(&extent.size, constructor.len());
        }
        rewrite.left_out.push(constructor);
        Ok(())
    }

    /// The constructor of an array's elements, which may be described.
    fn constructor(&mut self) -> Result<(), Malformed> {
        let mut code = self.byte()?;
        if code == 0x00 {
            let descriptor = self.byte()?;
            self.plain(descriptor)?;
            code = self.byte()?;
        }
        if code < 0x40 { Err(Malformed::UnknownType(code)) } else { Ok(()) }
    }

    /// A value that holds no others.
    fn plain(&mut self, code: u8) -> Result<(), Malformed> {
        let width = match code {
            0x40..=0x45 => 0,
            0x50..=0x56 => 1,
            0x60 | 0x61 => 2,
            0x70..=0x74 => 4,
            0x80..=0x84 => 8,
            0x94 | 0x98 => 16,
            0xa0 | 0xa1 | 0xa3 => self.number(false)? as usize,
            0xb0 | 0xb1 | 0xb3 => self.number(true)? as usize,
            _ => return Err(Malformed::UnknownType(code)),
        };
        self.advance(width)
    }

    /// Reads a size and returns where it stands and where what it covers ends.
    fn sized(&mut self, wide: bool) -> Result<Extent, Malformed> {
        let start = self.at;
        let length = self.number(wide)? as usize;
        let end = self.at.checked_add(length).ok_or(Malformed::Truncated)?;
        let around = self.open.iter().rev().find_map(|open| open.extent.as_ref());
        let limit = around.map_or(self.bytes.len(), |extent| extent.end);
        if end <= limit { Ok(Extent { size: start..self.at, end }) } else { Err(Malformed::Truncated) }
    }

    fn number(&mut self, wide: bool) -> Result<u32, Malformed> {
        if !wide {
            return Ok(u32::from(self.byte()?));
        }
        let four = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<4>()).ok_or(Malformed::Truncated)?;
        self.at += 4;
        Ok(u32::from_be_bytes(*four))
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        let byte = *self.bytes.get(self.at).ok_or(Malformed::Truncated)?;
        self.at += 1;
        Ok(byte)
    }

    fn advance(&mut self, width: usize) -> Result<(), Malformed> {
        let to = self.at.checked_add(width).ok_or(Malformed::Truncated)?;
        if to > self.bytes.len() {
            return Err(Malformed::Truncated);
        }
        self.at = to;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A list in a list in a list, `depth` deep.
    fn nested(depth: usize) -> Vec<u8> {
        let mut bytes = vec![0x45];
        for _ in 0..depth {
            let mut outer = vec![0xd0];
            outer.extend_from_slice(&u32::try_from(bytes.len() + 4).unwrap().to_be_bytes());
            outer.extend_from_slice(&1_u32.to_be_bytes());
            outer.extend_from_slice(&bytes);
            bytes = outer;
        }
        bytes
    }

    #[test]
    fn nesting_is_bounded() {
        assert_eq!(check(&nested(MAX_DEPTH)).map(drop), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(Malformed::TooDeep));
        assert_eq!(check(&nested(7_000)), Err(Malformed::TooDeep));
        assert_eq!(check(&[0x00; 10_000]), Err(Malformed::TooDeep));
    }

    #[test]
    fn an_array_that_expands_is_refused() {
        assert_eq!(check(&[0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40]), Err(Malformed::ArrayBomb));
        // Each of them may be, all of them together may not.
        let list =
            |count: u8| [&[0xc0, 1 + 4 * count, count][..], &[0xe0, 2, 0xff, 0x40].repeat(count.into())].concat();
        assert!(check(&list(4)).is_ok());
        assert_eq!(check(&list(5)), Err(Malformed::ArrayBomb));
        for sound in [&[0xe0, 2, 3, 0x40][..], &[0xe0, 6, 2, 0xa3, 1, b'a', 1, b'b']] {
            assert_eq!(check(sound), Ok(Cow::Borrowed(sound)));
        }
    }

    #[test]
    fn what_an_empty_array_has_none_of_is_left_out() {
        let inside = [&[0xc0, 14, 3][..], &[0xe0, 2, 0, 0xa3], &[0x52, 7], &[0xe0, 5, 0, 0x00, 0x53, 9, 0xc0]].concat();
        let around = [&[0xd0, 0, 0, 0, 30, 0, 0, 0, 2][..], &inside, &[0xf0, 0, 0, 0, 5, 0, 0, 0, 0, 0xa3]].concat();
        let inside = [&[0xc0, 9, 3][..], &[0xe0, 1, 0], &[0x52, 7], &[0xe0, 1, 0]].concat();
        let expected = [&[0xd0, 0, 0, 0, 24, 0, 0, 0, 2][..], &inside, &[0xf0, 0, 0, 0, 4, 0, 0, 0, 0]].concat();
        assert_eq!(check(&around), Ok(Cow::Owned(expected.clone())));
        assert_eq!(check(&expected), Ok(Cow::Borrowed(&expected[..])));
        let much = [&[0xd0, 0, 1, 0, 4, 0, 0, 0x40, 0][..], &[0xe0, 2, 0, 0xa3].repeat(0x4000)].concat();
        let less = [&[0xd0, 0, 0, 0xc0, 4, 0, 0, 0x40, 0][..], &[0xe0, 1, 0].repeat(0x4000)].concat();
        assert_eq!(check(&much), Ok(Cow::Owned(less)));
    }

    #[test]
    fn an_empty_array_holds_one_constructor_at_most() {
        assert_eq!(check(&[0xe0, 3, 0, 0xa3, 0xa3]), Err(Malformed::CompoundSize));
        assert_eq!(check(&[0xe0, 2, 0, 0x01]), Err(Malformed::UnknownType(0x01)));
        assert_eq!(check(&[0xe0, 3, 0, 0x00, 0x53]), Err(Malformed::Truncated));
        assert_eq!(check(&[0xc0, 4, 2, 0xe0, 1, 0]), Err(Malformed::Truncated));
        assert_eq!(check(&[0xc0, 5, 1, 0xe0, 2, 0, 0xa3, 0x40]), Err(Malformed::CompoundSize));
    }

    #[test]
    fn sizes_must_agree() {
        assert_eq!(check(&[0xc0, 3, 1, 0x40, 0x40]), Err(Malformed::CompoundSize));
        assert_eq!(check(&[0xc0, 2, 1, 0x40, 0x40]), Err(Malformed::CompoundSize));
        assert_eq!(check(&[0xc0, 9, 1, 0x40]), Err(Malformed::Truncated));
        assert_eq!(check(&[]), Err(Malformed::Truncated));
        assert_eq!(check(&[0xc1, 2, 1, 0x40]), Err(Malformed::CompoundSize), "a key without its value");
    }
}
