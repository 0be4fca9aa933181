//! Checks of shape that come before a general decoder sees a peer's bytes: every size inside its frame, nesting bounded,
//! no array that expands to more than it takes on the wire.
//!
//! `serde_amqp` recurses on nested values, trusts an array's count and underflows on a map of odd length, so nothing reaches
//! it that has not passed here.

use super::reader::Malformed;

/// Deep enough for every performative with properties of its own; far from any stack's end.
const MAX_DEPTH: usize = 24;

/// An array of a zero-width type says nothing but its length; more than this many elements is an attack.
const MAX_ZERO_WIDTH: u32 = 1024;

/// Checks that `bytes` hold exactly one value, whole and of bounded depth.
pub fn check(bytes: &[u8]) -> Result<(), Malformed> {
    let mut walk = Walk { bytes, at: 0, open: Vec::with_capacity(8) };
    walk.value()?;
    if walk.at == bytes.len() { Ok(()) } else { Err(Malformed::CompoundSize) }
}

/// A compound or described value that has been entered: where it ends (a described value has no stated end) and how many
/// values it still holds.
struct Open {
    end: Option<usize>,
    left: u32,
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    open: Vec<Open>,
}

impl Walk<'_> {
    /// Walks over one value and all that it holds.
    fn value(&mut self) -> Result<(), Malformed> {
        let code = self.byte()?;
        self.enter(code)?;
        while let Some(top) = self.open.last_mut() {
            if top.left == 0 {
                let end = top.end;
                self.open.pop();
                if end.is_some_and(|end| end != self.at) {
                    return Err(Malformed::CompoundSize);
                }
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
            0x00 => self.push(Open { end: None, left: 2 }),
            0xc0 | 0xc1 | 0xd0 | 0xd1 => {
                let wide = code >= 0xd0;
                let end = self.sized(wide)?;
                let left = self.number(wide)?;
                let holds_pairs = matches!(code, 0xc1 | 0xd1);
                if left as usize > end.saturating_sub(self.at) || (holds_pairs && left % 2 == 1) {
                    return Err(Malformed::CompoundSize);
                }
                self.push(Open { end: Some(end), left })
            }
            0xe0 | 0xf0 => self.array_of(code == 0xf0),
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
    fn array_of(&mut self, wide: bool) -> Result<(), Malformed> {
        let end = self.sized(wide)?;
        let count = self.number(wide)?;
        let element = self.byte()?;
        match element {
            0x00 | 0xc0..=0xff => return Err(Malformed::TooDeep),
            0x40..=0x45 if count > MAX_ZERO_WIDTH => return Err(Malformed::ArrayBomb),
            0x40..=0x45 => {}
            _ if count as usize > end.saturating_sub(self.at) => return Err(Malformed::ArrayBomb),
            _ => {
                for _ in 0..count {
                    self.plain(element)?;
                }
            }
        }
        if self.at == end { Ok(()) } else { Err(Malformed::CompoundSize) }
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

    /// Reads a size and returns where what it covers ends.
    fn sized(&mut self, wide: bool) -> Result<usize, Malformed> {
        let size = self.number(wide)? as usize;
        let end = self.at.checked_add(size).ok_or(Malformed::Truncated)?;
        let limit = self.open.iter().rev().find_map(|open| open.end).unwrap_or(self.bytes.len());
        if end <= limit { Ok(end) } else { Err(Malformed::Truncated) }
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
        assert_eq!(check(&nested(MAX_DEPTH)), Ok(()));
        assert_eq!(check(&nested(MAX_DEPTH + 1)), Err(Malformed::TooDeep));
        assert_eq!(check(&nested(7_000)), Err(Malformed::TooDeep));
        assert_eq!(check(&[0x00; 10_000]), Err(Malformed::TooDeep));
    }

    #[test]
    fn an_array_that_expands_is_refused() {
        assert_eq!(check(&[0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40]), Err(Malformed::ArrayBomb));
        assert_eq!(check(&[0xe0, 2, 3, 0x40]), Ok(()));
        assert_eq!(check(&[0xe0, 2, 3, 0x45]), Ok(()));
        assert_eq!(check(&[0xe0, 6, 2, 0xa3, 1, b'a', 1, b'b']), Ok(()));
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
